//! W3C trace context in Kafka headers: how one event stays one trace from producer to delivery.
//! Source: W3C Trace Context level 1, `traceparent` and `tracestate`.

use std::str::FromStr;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use rdkafka::message::{Header, Headers, OwnedHeaders};

pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";

/// `00-<trace id>-<span id>-<flags>`; `None` for a context without valid ids.
pub fn format_traceparent(span: &SpanContext) -> Option<String> {
    span.is_valid().then(|| format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8()))
}

/// Parses a `traceparent`. Later versions may append fields after a dash; version `ff` is invalid, as are zero ids.
pub fn parse_traceparent(text: &str, state: TraceState) -> Option<SpanContext> {
    let bytes = text.as_bytes();
    let dashes_stand = bytes.len() >= 55 && bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
    if !dashes_stand || !text.is_ascii() {
        return None;
    }
    let version = lower_hex(&text[..2])?;
    let ends_well = bytes.len() == 55 || (version != "00" && bytes[55] == b'-');
    if version == "ff" || !ends_well {
        return None;
    }
    let trace_id = TraceId::from_hex(lower_hex(&text[3..35])?).ok()?;
    let span_id = SpanId::from_hex(lower_hex(&text[36..52])?).ok()?;
    let flags = u8::from_str_radix(lower_hex(&text[53..55])?, 16).ok()?;
    let context = SpanContext::new(trace_id, span_id, TraceFlags::new(flags & 1), true, state);
    context.is_valid().then_some(context)
}

fn lower_hex(text: &str) -> Option<&str> {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)).then_some(text)
}

/// Headers that carry the span of `context` to the next hop.
pub fn inject(context: &Context) -> OwnedHeaders {
    let span = context.span();
    let span = span.span_context();
    let Some(parent) = format_traceparent(span) else { return OwnedHeaders::new() };
    let headers =
        OwnedHeaders::new_with_capacity(2).insert(Header { key: TRACEPARENT, value: Some(parent.as_bytes()) });
    let state = span.trace_state().header();
    if state.is_empty() { headers } else { headers.insert(Header { key: TRACESTATE, value: Some(state.as_bytes()) }) }
}

/// The remote parent that a record's headers name; an empty context when they name none.
pub fn extract(headers: Option<&impl Headers>) -> Context {
    let Some(headers) = headers else { return Context::new() };
    let find = |name: &str| {
        headers.iter().find(|h| h.key == name).and_then(|h| h.value).and_then(|v| std::str::from_utf8(v).ok())
    };
    let state = find(TRACESTATE).and_then(|s| TraceState::from_str(s).ok()).unwrap_or_default();
    match find(TRACEPARENT).and_then(|text| parse_traceparent(text, state)) {
        Some(span) => Context::new().with_remote_span_context(span),
        None => Context::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn context(trace: u128, span: u64, flags: u8) -> SpanContext {
        let state = TraceState::default();
        SpanContext::new(TraceId::from(trace), SpanId::from(span), TraceFlags::new(flags), true, state)
    }

    #[track_caller]
    fn check(text: &str, want: Option<(u128, u64, u8)>) {
        let want = want.map(|(t, s, f)| context(t, s, f));
        assert_eq!(parse_traceparent(text, TraceState::default()), want, "{text}");
    }

    #[test]
    fn traceparents_parse_as_the_specification_says() {
        let (t, s) = (0x0af7651916cd43dd8448eb211c80319c, 0xb7ad6b7169203331);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some((t, s, 1)));
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some((t, s, 0)));
        check("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", Some((t, s, 1)));
        check("cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more", None);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", None);
        check("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None);
        check("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None);
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", None);
        check("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", None);
        check("", None);
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in ".{0,80}") {
            parse_traceparent(&text, TraceState::default());
        }

        #[test]
        fn a_header_survives_the_hop(trace in 1u128.., span in 1u64.., flags in 0u8..2) {
            let sent = context(trace, span, flags);
            let headers = inject(&Context::new().with_remote_span_context(sent.clone()));
            let got = extract(Some(&headers));
            let got = got.span();
            prop_assert_eq!(got.span_context(), &sent);
        }
    }
}
