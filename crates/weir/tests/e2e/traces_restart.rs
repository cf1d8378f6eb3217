//! Traces that were acknowledged are there after the program was killed.

use reqwest::Client;
use serde_json::{Value, json};

use crate::alerting::wait_for;
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

#[tokio::test]
async fn spans_become_metrics_that_promql_sees() {
    let server = Server::start(&["--traces.metrics-interval", "1s"]);
    let client = Client::new();
    let url = format!("{}/v1/traces", server.url);
    for n in 0..10 {
        let answer = client.post(&url).json(&body(n, now_nanos() - 1_000_000_000)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let query = r#"sum by (span_name, status_code) (traces_spanmetrics_calls_total{service="shop"})"#;
    let mut found = Value::Null;
    for _ in 0..200 {
        found = get(&client, format!("{}/api/v1/query", server.url), &[("query", query)]).await;
        if found["data"]["result"].as_array().is_some_and(|all| all.len() == 2 && all[0]["value"][1] == "10") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let all = found["data"]["result"].as_array().unwrap();
    assert_eq!(all.len(), 2, "{found}");
    for (name, status) in [("GET /", "STATUS_CODE_UNSET"), ("SELECT", "STATUS_CODE_ERROR")] {
        let is = |one: &&Value| one["metric"]["span_name"] == name && one["metric"]["status_code"] == status;
        assert_eq!(all.iter().find(is).map(|one| &one["value"][1]), Some(&json!("10")), "{name}: {found}");
    }
    let exemplars = format!("{}/api/v1/query_exemplars", server.url);
    let (end, start) = (now_nanos() / 1_000_000_000 + 60, now_nanos() / 1_000_000_000 - 600);
    let range =
        [("query", "traces_spanmetrics_latency_bucket"), ("start", &start.to_string()), ("end", &end.to_string())];
    let found = get(&client, exemplars, &range).await;
    assert!(found["data"][0]["exemplars"][0]["labels"]["traceID"].is_string(), "{found}");

    // The map draws a database that spans and the series counted from them both tell of once, as a database.
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let span = json!({"traceId": "0000000000000000000000000000abcd", "spanId": "000000000000abcd", "name": "SELECT orders",
        "kind": 3, "startTimeUnixNano": (now_nanos() - 2_000_000).to_string(), "endTimeUnixNano": now_nanos().to_string(),
        "attributes": [text("db.system.name", "postgresql"), text("db.namespace", "orders")]});
    let resource = json!({"attributes": [text("service.name", "shop")]});
    let told = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}]});
    assert_eq!(client.post(&url).json(&told).send().await.unwrap().status(), 200);
    let query = r#"traces_service_graph_request_total{client="shop", server="orders"}"#;
    wait_for("an edge in the service graph", async || {
        let found = get(&client, format!("{}/api/v1/query", server.url), &[("query", query)]).await;
        found["data"]["result"].as_array().is_some_and(|all| !all.is_empty())
    })
    .await;
    let map = get(&client, format!("{}/api/weir/v1/map", server.url), &[]).await;
    let nodes = map["nodes"].as_array().unwrap().iter().filter(|n| n["name"] == "orders");
    assert_eq!(nodes.map(|n| n["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["database"], "{map}");
}
