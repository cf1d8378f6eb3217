//! One event through services in Rust and Python: the crate for Rust, the standard SDK for Python, and the trace in weir.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::trace::{SpanId, SpanKind, TraceContextExt as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use serde_json::{Value, json};
use weir_propagate::{Message, process, send};

use crate::alerting::wait_for;
use crate::harness::{Server, client};

#[derive(Clone, Debug, Default)]
struct Ended(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Ended {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

type Headers = Vec<(String, Vec<u8>)>;

fn nanos(at: std::time::SystemTime) -> String {
    at.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos().to_string()
}

/// Spans of a service as OTLP.
fn body(service: &str, spans: &[SpanData]) -> Value {
    let span = |span: &SpanData| {
        let parent =
            if span.parent_span_id == SpanId::INVALID { String::new() } else { span.parent_span_id.to_string() };
        let kind = if span.span_kind == SpanKind::Producer { 4 } else { 5 };
        let attributes: Vec<Value> = span
            .attributes
            .iter()
            .map(|kv| json!({"key": kv.key.as_str(), "value": {"stringValue": kv.value.to_string()}}))
            .collect();
        json!({"traceId": span.span_context.trace_id().to_string(), "spanId": span.span_context.span_id().to_string(),
            "parentSpanId": parent, "name": span.name, "kind": kind, "attributes": attributes,
            "startTimeUnixNano": nanos(span.start_time), "endTimeUnixNano": nanos(span.end_time)})
    };
    let name = json!([{"key": "service.name", "value": {"stringValue": service}}]);
    let spans: Vec<Value> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{"resource": {"attributes": name}, "scopeSpans": [{"spans": spans}]}]})
}

/// The service in Python: headers in, headers and baggage out.
fn scorer(server: &Server, messages: &[Headers]) -> (Headers, String) {
    let target = Path::new(env!("CARGO_BIN_EXE_weir")).parent().and_then(Path::parent).unwrap();
    let python = target.join("py/bin/python");
    assert!(python.exists(), "{} is missing: run `make py`", python.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/propagate.py");
    let mut child = Command::new(python)
        .arg(script)
        .arg(format!("http://{}", server.otlp_http))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_one_trace_through_rust_and_python() {
    let server = Server::start(&[]);
    let client = client();
    let ended = Ended::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(ended.clone()).build();
    let tracer = provider.tracer("test");
    let parent = Context::new().with_baggage([KeyValue::new("match", "final,2nd-half")]);
    let mut messages = vec![Headers::new(), Headers::new()];
    for headers in &mut messages {
        send(&tracer, &parent, &Message::kafka("goals").key("m-1"), headers).span().end();
    }
    // One whose producer is not instrumented.
    messages.push(Headers::new());
    let (scores, baggage) = scorer(&server, &messages);
    assert_eq!(baggage, "final,2nd-half");
    let message = Message::kafka("scores").partition(2).offset(9).group("board");
    let shown = process(&tracer, &scores, &message);
    assert_eq!(shown.baggage().get("match").map(ToString::to_string).as_deref(), Some("final,2nd-half"));
    shown.span().end();
    let ended = ended.0.lock().unwrap().clone();
    let [first, second, last] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!(last.span_context.trace_id(), first.span_context.trace_id());
    for (service, spans) in [("feed", &ended[..2]), ("board", &ended[2..])] {
        let url = format!("http://{}/v1/traces", server.otlp_http);
        assert_eq!(client.post(url).json(&body(service, spans)).send().await.unwrap().status(), 200);
    }
    let whole = r#"{ resource.service.name = "feed" && kind = producer } > { resource.service.name = "scorer" && kind = consumer }
        > { name = "send scores" } > { resource.service.name = "board" && span.messaging.kafka.offset = "9" }"#;
    wait_for("one trace from the first producer to the last consumer", async || {
        let url = format!("{}/api/search", server.url);
        let found: Value = client.get(url).query(&[("q", whole)]).send().await.unwrap().json().await.unwrap();
        found["traces"].as_array().is_some_and(|traces| traces.len() == 1)
    })
    .await;
    // What was processed together is linked to both producers.
    let url = format!("{}/api/search", server.url);
    let query = [("q", r#"{ name = "process all goals" }"#)];
    let found: Value = client.get(url).query(&query).send().await.unwrap().json().await.unwrap();
    let id = found["traces"][0]["traceID"].as_str().unwrap();
    let url = format!("{}/api/v2/traces/{id}", server.url);
    let trace = client.get(url).send().await.unwrap().text().await.unwrap();
    let trace: Value = serde_json::from_str(&trace).unwrap();
    let links = &trace["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["links"];
    assert_eq!(links.as_array().map(Vec::len), Some(2), "{trace}");
    let shown = links.to_string();
    for producer in [first, second] {
        use base64::Engine as _;
        let id = producer.span_context.span_id();
        let encoded = base64::engine::general_purpose::STANDARD.encode(id.to_bytes());
        assert!(shown.contains(&encoded) || shown.contains(&id.to_string()), "{id} in {shown}");
    }
}
