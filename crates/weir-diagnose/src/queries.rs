//! Query texts for charts, built from what the telemetry calls things.

use weir_model::Labels;

use crate::types::Chart;

/// A string literal of PromQL, LogQL and TraceQL.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

pub fn spans(service: &str, name: &str) -> Chart {
    let query = format!(
        "{{resource.service.name={} && name={}}} | quantile_over_time(duration, 0.99)",
        quoted(service),
        quoted(name)
    );
    Chart { language: "traceql".into(), query, unit: Some("s".into()) }
}

pub fn failed_spans(service: &str, name: &str) -> Chart {
    let query =
        format!("{{resource.service.name={} && name={} && status=error}} | rate()", quoted(service), quoted(name));
    Chart { language: "traceql".into(), query, unit: Some("/s".into()) }
}

/// A series as PromQL selects it; counters as rates.
pub fn series(labels: &Labels, counter: bool) -> Chart {
    let query = if counter { format!("rate({labels}[1m])") } else { labels.to_string() };
    Chart { language: "promql".into(), query, unit: None }
}

/// Lines of a stream that hold `words`.
pub fn lines(stream: &Labels, words: &str) -> Chart {
    let filter = if words.is_empty() { String::new() } else { format!(" |= {}", quoted(words)) };
    let query = format!("sum(count_over_time({stream}{filter} [1m]))");
    Chart { language: "logql".into(), query, unit: Some("lines/min".into()) }
}

/// Client calls of one service that another answered.
pub fn service_calls(from: &str, to: &str) -> Chart {
    let query = format!(
        "{{resource.service.name={} && kind=client}} > {{resource.service.name={}}} | rate()",
        quoted(from),
        quoted(to)
    );
    Chart { language: "traceql".into(), query, unit: Some("/s".into()) }
}

/// Percent-encoded for a query string or a path's part.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_kind_stay_one_literal() {
        assert_eq!(quoted("a\"b\\c"), r#""a\"b\\c""#);
        assert_eq!(encoded("a b/ä"), "a%20b%2F%C3%A4");
    }
}
