//! JSON log lines on standard output, one object a line, as a log shipper collects them from a pod.

use std::io::Write;

use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value, json};

/// Severity as it stands in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Info => "INFO",
            Level::Warn => "WARN",
            Level::Error => "ERROR",
        }
    }
}

/// Where a record stands, for lines about one.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
}

/// The fields that every line of a process has.
#[derive(Clone, Debug)]
pub struct Logger {
    service: String,
    env: String,
    pod: String,
    version: String,
}

impl Logger {
    pub fn new(service: &str, env: &str, pod: &str, version: &str) -> Self {
        Self { service: service.into(), env: env.into(), pod: pod.into(), version: version.into() }
    }

    /// Writes one line. `context` gives the trace, `at` the record, `more` further fields.
    pub fn log(
        &self,
        level: Level,
        message: &str,
        context: Option<&Context>,
        at: Option<At<'_>>,
        more: &[(&str, Value)],
    ) {
        let now = jiff::Timestamp::now();
        let line = self.line(&format!("{now:.6}"), level, message, context, at, more);
        // A closed pipe means that the parent is gone; the process ends by its own watch of stdin.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn line(
        &self,
        timestamp: &str,
        level: Level,
        message: &str,
        context: Option<&Context>,
        at: Option<At<'_>>,
        more: &[(&str, Value)],
    ) -> String {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| {
            fields.insert(name.to_owned(), value);
        };
        put("timestamp", json!(timestamp));
        put("level", json!(level.as_str()));
        put("service", json!(self.service));
        put("env", json!(self.env));
        put("pod", json!(self.pod));
        put("version", json!(self.version));
        put("message", json!(message));
        if let Some(context) = context {
            let span = context.span();
            let span = span.span_context();
            if span.is_valid() {
                put("trace_id", json!(span.trace_id().to_string()));
                put("span_id", json!(span.span_id().to_string()));
            }
        }
        if let Some(at) = at {
            put("topic", json!(at.topic));
            put("partition", json!(at.partition));
            put("offset", json!(at.offset));
        }
        for (name, value) in more {
            put(name, value.clone());
        }
        Value::Object(fields).to_string()
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    #[test]
    fn a_line_holds_trace_and_place() {
        let span = SpanContext::new(
            TraceId::from(0xabcu128),
            SpanId::from(0xdefu64),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        let context = Context::new().with_remote_span_context(span);
        let at = At { topic: "t", partition: 3, offset: 9 };
        let logger = Logger::new("svc", "prod", "svc-0", "1.2.3");
        let line =
            logger.line("2026-01-02T03:04:05Z", Level::Warn, "slow", Some(&context), Some(at), &[("ms", json!(4))]);
        let got: Value = serde_json::from_str(&line).unwrap();
        for (field, want) in [
            ("level", json!("WARN")),
            ("service", json!("svc")),
            ("env", json!("prod")),
            ("trace_id", json!("00000000000000000000000000000abc")),
            ("span_id", json!("0000000000000def")),
            ("topic", json!("t")),
            ("partition", json!(3)),
            ("offset", json!(9)),
            ("ms", json!(4)),
        ] {
            assert_eq!(got[field], want, "{field} in {line}");
        }
    }
}
