//! Headers that the standard SDK for Python reads and writes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::{Value, json};
use weir_propagate::{Message, extract, send};

type Headers = Vec<(String, Vec<u8>)>;

/// A service in Python: headers of what it consumes in, headers of what it produces and the baggage that came out.
fn scorer(messages: &[Headers]) -> (Headers, String) {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().to_path_buf();
    let python = target.join("py/bin/python");
    assert!(python.exists(), "{} is missing: run `make py`", python.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/propagate.py");
    let mut command = Command::new(python);
    let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let text = |headers: &Headers| -> Vec<Value> {
        headers.iter().map(|(name, value)| json!([name, String::from_utf8(value.clone()).unwrap()])).collect()
    };
    let input: Vec<Vec<Value>> = messages.iter().map(text).collect();
    child.stdin.take().unwrap().write_all(json!(input).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let (headers, baggage): (Vec<(String, String)>, String) = serde_json::from_slice(&output.stdout).unwrap();
    (headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect(), baggage)
}

#[test]
fn a_trace_and_its_baggage_go_through_a_service_in_python() {
    let tracer = SdkTracerProvider::builder().build().tracer("test");
    let parent = Context::new().with_baggage([KeyValue::new("match", "final,2nd-half+1")]);
    let mut goals = Headers::new();
    let sending = send(&tracer, &parent, &Message::kafka("goals"), &mut goals);
    let (scores, baggage) = scorer(&[goals, Headers::new()]);
    assert_eq!(baggage, "final,2nd-half+1");
    let got = extract(&scores);
    let (own, theirs) = (sending.span().span_context().clone(), got.span().span_context().clone());
    assert_eq!(theirs.trace_id(), own.trace_id());
    assert_ne!(theirs.span_id(), own.span_id());
    assert!(theirs.is_sampled() && theirs.is_remote());
    assert_eq!(got.baggage().get("match").map(ToString::to_string).as_deref(), Some("final,2nd-half+1"));
}
