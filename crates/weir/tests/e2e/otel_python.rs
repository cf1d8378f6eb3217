//! The OpenTelemetry Python SDK against the real program, over gRPC and HTTP, read back through the
//! APIs that people query.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::Server;

/// Python with the SDK, as `make py` puts it beside the build.
pub fn python() -> std::path::PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_weir")).parent().and_then(Path::parent).unwrap();
    let python = target.join("py/bin/python");
    assert!(python.exists(), "{} is missing: run `make py`", python.display());
    python
}

/// Sends a trace, metrics and logs; answers the trace id.
fn send(protocol: &str, endpoint: &str, service: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/otel.py");
    let output = Command::new(python()).arg(script).args([protocol, endpoint, service]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{protocol}: {out}{err}");
    out.trim().to_owned()
}

async fn get(url: &str, path: &str, params: &[(&str, &str)]) -> Value {
    let response = reqwest::Client::new().get(format!("{url}{path}")).query(params).send().await.unwrap();
    let (status, text) = (response.status(), response.text().await.unwrap());
    assert!(status.is_success(), "{path} {params:?}: {status} {text}");
    serde_json::from_str(&text).unwrap()
}

/// Values of an instant query, sorted.
async fn values(url: &str, query: &str) -> Vec<String> {
    let answer = get(url, "/api/v1/query", &[("query", query)]).await;
    let rows = answer["data"]["result"].as_array().unwrap();
    let mut out: Vec<String> = rows.iter().map(|row| row["value"][1].as_str().unwrap().to_owned()).collect();
    out.sort();
    out
}

async fn check(server: &Server, protocol: &str, endpoint: &str) {
    let (url, service) = (server.url.as_str(), format!("py-{protocol}"));
    let trace_id = send(protocol, endpoint, &service);

    let query = |text: &str| format!("{text}{{job=\"{service}\", instance=\"{service}-0\"}}");
    assert_eq!(values(url, &query("orders_total")).await, ["7"]);
    assert_eq!(values(url, &query("queue_depth")).await, ["3"]);
    assert_eq!(values(url, &query("checkout_duration_seconds_bucket")).await, ["0", "1", "1"]);
    let info = format!("target_info{{job=\"{service}\", service_version=\"1.2.3\"}}");
    assert_eq!(values(url, &info).await, ["1"]);

    let selector = format!("{{service_name=\"{service}\"}} | trace_id=`{trace_id}`");
    let logs = get(url, "/loki/api/v1/query_range", &[("query", &selector)]).await;
    let streams = logs["data"]["result"].as_array().unwrap();
    let mut lines: Vec<(String, String)> = streams
        .iter()
        .flat_map(|s| s["values"].as_array().unwrap().iter().map(move |v| (s, v)))
        .map(|(s, v)| {
            (s["stream"]["detected_level"].as_str().unwrap_or("").to_owned(), v[1].as_str().unwrap().to_owned())
        })
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [("error".to_owned(), "payment failed".to_owned()), ("info".to_owned(), "order accepted".to_owned())]
    );

    let trace = get(url, &format!("/api/traces/{trace_id}"), &[]).await.to_string();
    for part in ["checkout", "pay", "card refused", "payments", &service] {
        assert!(trace.contains(part), "{part}: {trace}");
    }

    let entity = get(url, &format!("/api/weir/v1/entities/service/{service}"), &[]).await;
    assert_eq!(entity["versions"][0]["version"], "1.2.3");
    assert_eq!(entity["instances"][0], format!("{service}-0"));
    assert_eq!(entity["selectors"]["metrics"], format!("{{job=\"{service}\"}}"));
    get(url, "/api/weir/v1/entities/database/payments", &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_signals_over_grpc_and_http() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start(&[]);
    check(&server, "grpc", &format!("http://{}", server.otlp_grpc)).await;
    check(&server, "http", &format!("http://{}", server.otlp_http)).await;
    let senders = get(&server.url, "/api/weir/v1/senders", &[]).await;
    let mut protocols: Vec<&str> =
        senders["senders"].as_array().unwrap().iter().map(|s| s["protocol"].as_str().unwrap()).collect();
    protocols.sort_unstable();
    assert_eq!(protocols, ["otlp_grpc", "otlp_http"], "{senders}");
}
