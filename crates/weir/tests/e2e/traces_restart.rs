//! Traces that were acknowledged are there after the program was killed.

use reqwest::Client;
use serde_json::{Value, json};

use crate::harness::{Server, serve_command};

fn now_nanos() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
}

/// A trace of two spans, the second failed.
fn body(n: u64, start: u64) -> Value {
    let span = |id: u64, parent: Option<u64>, name: &str, status: u64| {
        let parent = parent.map(|parent| format!("{parent:016x}")).unwrap_or_default();
        json!({"traceId": format!("{:032x}", n + 1), "spanId": format!("{id:016x}"), "parentSpanId": parent,
            "name": name, "kind": 2, "status": {"code": status},
            "startTimeUnixNano": (start + id).to_string(), "endTimeUnixNano": (start + 1_000_000).to_string(),
            "attributes": [{"key": "match.id", "value": {"stringValue": format!("match-{}", n % 10)}}]})
    };
    json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeSpans": [{"spans": [span(1, None, "GET /", 0), span(2, Some(1), "SELECT", 2)]}]}]})
}

async fn get(client: &Client, url: String, query: &[(&str, &str)]) -> Value {
    let answer = client.get(url).query(query).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

async fn count(client: &Client, server: &Server, q: &str) -> usize {
    let found = get(client, format!("{}/api/search", server.url), &[("q", q), ("limit", "1000")]).await;
    found["traces"].as_array().map_or(0, Vec::len)
}

#[tokio::test]
async fn acknowledged_traces_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().to_str().unwrap();
    let start = now_nanos() - 60_000_000_000;
    for round in 0..2_u64 {
        let server = Server::start(&["--data-dir", data_dir]);
        let client = Client::new();
        for n in round * 20..round * 20 + 20 {
            let url = format!("{}/v1/traces", server.url);
            let answer = client.post(url).json(&body(n, start + n * 1_000_000)).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
        server.kill();
    }

    let server = Server::start(&["--data-dir", data_dir]);
    let client = Client::new();
    for n in 0..40_u64 {
        let trace = get(&client, format!("{}/api/v2/traces/{:032x}", server.url, n + 1), &[]).await;
        let spans = &trace["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"];
        assert_eq!(spans.as_array().map(Vec::len), Some(2), "trace {n}: {trace}");
    }
    for (q, wanted) in [
        ("{ status = error }", 40),
        (r#"{ span.match.id = "match-7" }"#, 4),
        (r#"{ resource.service.name = "shop" && name = "GET /" } >> { status = error }"#, 40),
        (r#"{ span.match.id = "match" }"#, 0),
    ] {
        assert_eq!(count(&client, &server, q).await, wanted, "{q}");
    }

    let second = serve_command(&["--data-dir", data_dir]).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && said.contains("in use by another weir"), "{said}");
}

#[test]
fn storage_that_is_not_there_yet_is_refused() {
    let refused = serve_command(&["--storage", "s3://bucket/prefix"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("s3://bucket/prefix"), "{said}");
}
