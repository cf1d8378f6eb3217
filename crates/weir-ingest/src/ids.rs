//! Trace and span ids as senders write them, into 32 and 16 lower-case hexadecimal digits.

use weir_model::{SpanId, TraceId};

/// Names under which ids stand in metadata, JSON and logfmt; compared without case, dots, dashes and
/// underscores.
pub(crate) fn is_trace_key(name: &str) -> bool {
    is_key(name, &["traceid", "oteltraceid", "ddtraceid"])
}

pub(crate) fn is_span_key(name: &str) -> bool {
    is_key(name, &["spanid", "otelspanid", "ddspanid"])
}

fn is_key(name: &str, keys: &[&str]) -> bool {
    // The longest key has 11 letters; names with separators some more. All end with one letter.
    if name.len() > 16 || name.len() < 6 || !matches!(name.as_bytes().last(), Some(b'd' | b'D' | b'_' | b'.' | b'-')) {
        return false;
    }
    let letters = || name.bytes().filter(|b| !matches!(b, b'_' | b'.' | b'-')).map(|b| b.to_ascii_lowercase());
    keys.iter().any(|key| letters().eq(key.bytes()))
}

/// Hexadecimal of either case, with or without dashes, of 64 or 128 bits, or decimal.
///
/// A text of digits only is hexadecimal when it has exactly 16 or 32 of them, else decimal (as
/// Datadog's and old Zipkin libraries log).
pub(crate) fn trace_id(text: &str) -> Option<TraceId> {
    let id = if is_decimal(text) {
        TraceId(text.parse::<u128>().ok()?.to_be_bytes())
    } else {
        parse(text, 16, 32).and_then(TraceId::parse_hex)?
    };
    (!id.is_zero()).then_some(id)
}

pub(crate) fn span_id(text: &str) -> Option<SpanId> {
    let id = if is_decimal(text) {
        SpanId(text.parse::<u64>().ok()?.to_be_bytes())
    } else {
        parse(text, 16, 16).and_then(SpanId::parse_hex)?
    };
    (!id.is_zero()).then_some(id)
}

fn is_decimal(text: &str) -> bool {
    // Short numbers are more often counters than ids.
    (9..=39).contains(&text.len()) && !matches!(text.len(), 16 | 32) && text.bytes().all(|b| b.is_ascii_digit())
}

/// Words such as `dead` are hexadecimal too: an id has at least 16 digits.
fn parse(text: &str, min: usize, max: usize) -> Option<&str> {
    let n = text.bytes().filter(|b| *b != b'-').count();
    (min..=max).contains(&n).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_normalised() {
        let check = |text: &str, want: Option<&str>| {
            assert_eq!(trace_id(text).map(|id| id.to_string()).as_deref(), want, "{text}")
        };
        check("5B8EFFF798038103D269B633813FC60C", Some("5b8efff798038103d269b633813fc60c"));
        check("5b8efff7-9803-8103-d269-b633813fc60c", Some("5b8efff798038103d269b633813fc60c"));
        check("d269b633813fc60c", Some("0000000000000000d269b633813fc60c"));
        check("15163124803265218060", Some("0000000000000000d26e3dabbf89c60c"));
        check("0".repeat(32).as_str(), None);
        check("-", None);
        check("dead", None);
        check("12345", None);
        assert_eq!(span_id("eee19b7ec3c1b174").map(|id| id.to_string()).as_deref(), Some("eee19b7ec3c1b174"));
        assert_eq!(span_id("17213142567890123456").map(|id| id.0), Some(17_213_142_567_890_123_456u64.to_be_bytes()));
    }

    #[test]
    fn keys_are_found_in_every_spelling() {
        for name in ["trace_id", "traceID", "traceId", "trace.id", "TraceId", "otelTraceID", "dd.trace_id"] {
            assert!(is_trace_key(name), "{name}");
        }
        assert!(is_span_key("span_id") && is_span_key("spanId"));
        assert!(!is_trace_key("trace") && !is_trace_key("parent_span_id") && !is_span_key("parent_span_id"));
    }

    proptest! {
        #[test]
        fn decimal_and_hex_agree(id in 1_000_000_000u64..) {
            let decimal = trace_id(&id.to_string());
            if !matches!(id.to_string().len(), 16) {
                prop_assert_eq!(decimal, trace_id(&format!("{id:016x}")));
            }
        }
    }
}
