//! Logs pushed as Loki's agents do and traces sent as OTLP: asked for over Loki's and Tempo's APIs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use reqwest::Client;
use serde_json::{Value, json};

use crate::harness::Server;

#[allow(clippy::disallowed_methods, reason = "a client has its own clock")]
pub fn now_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

async fn get(client: &Client, url: &str, params: &[(&str, &str)]) -> Value {
    let response = client.get(url).query(params).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    assert!(status.is_success(), "{url} {params:?}: {status}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{url}: {e}: {text}"))
}

async fn push_logs(client: &Client, url: &str, at: u64) {
    let line = |k: u64, text: &str| json!([(at + k).to_string(), text, {"trace_id": "ab"}]);
    let body = json!({"streams": [
        {"stream": {"app": "shop", "env": "prod"}, "values": [
            line(0, r#"{"msg":"order placed","ms":10}"#), line(1, r#"{"msg":"timed out","ms":900}"#)]},
        {"stream": {"app": "db"}, "values": [line(2, "took=1.5s level=warn")]},
    ]});
    let response = client.post(format!("{url}/loki/api/v1/push")).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 204);
}

#[tokio::test]
async fn pushed_lines_are_tailed_and_queried() {
    let server = Server::start(&[]);
    let client = Client::new();
    let tail =
        format!("{}/loki/api/v1/tail?query=%7Bapp%3D%22shop%22%7D%20%7C%20json", server.url.replace("http", "ws"));
    let (mut socket, _) = tokio_tungstenite::connect_async(tail).await.unwrap();
    let at = now_nanos();
    push_logs(&client, &server.url, at).await;

    let mut tailed = Vec::new();
    while tailed.len() < 2 {
        let message = tokio::time::timeout(Duration::from_secs(10), socket.next()).await.unwrap().unwrap().unwrap();
        if let tokio_tungstenite::tungstenite::Message::Text(text) = message {
            let frame: Value = serde_json::from_str(&text).unwrap();
            for stream in frame["streams"].as_array().unwrap() {
                tailed.extend(stream["values"].as_array().unwrap().iter().map(|v| v[1].as_str().unwrap().to_owned()));
            }
        }
    }
    tailed.sort();
    assert_eq!(tailed, [r#"{"msg":"order placed","ms":10}"#, r#"{"msg":"timed out","ms":900}"#]);

    let loki = |path: &str| format!("{}/loki/api/v1/{path}", server.url);
    // The line that is no JSON carries an error, and Loki lets such a line pass a comparison of numbers.
    let query =
        [("query", r#"{app=~".+"} | json | __error__="" | ms > 500 | trace_id="ab""#), ("direction", "forward")];
    let found = get(&client, &loki("query_range"), &query).await;
    let result = &found["data"]["result"];
    let lines: Vec<&Value> =
        result.as_array().unwrap().iter().flat_map(|s| s["values"].as_array().unwrap()).map(|v| &v[1]).collect();
    assert_eq!(lines, [r#"{"msg":"timed out","ms":900}"#]);
    assert_eq!(result[0]["stream"]["app"], "shop");

    let query = [("query", r#"sum by (app) (count_over_time({app=~".+"}[1m]))"#)];
    let counted = get(&client, &loki("query"), &query).await;
    let counts: Vec<String> = counted["data"]["result"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| format!("{}={}", s["metric"]["app"].as_str().unwrap(), s["value"][1].as_str().unwrap()))
        .collect();
    assert_eq!(counts, ["db=1", "shop=2"]);

    assert_eq!(get(&client, &loki("label/app/values"), &[]).await["data"], json!(["db", "shop"]));
    let stats = get(&client, &loki("index/stats"), &[("query", r#"{app="shop"}"#)]).await;
    assert_eq!(stats["entries"], 2);
    let bad = client.get(loki("query_range")).query(&[("query", "{app=")]).send().await.unwrap();
    assert_eq!(bad.status(), 400);
    assert!(bad.text().await.unwrap().starts_with("parse error at line 1, col 6: syntax error"));
}

#[tokio::test]
async fn traces_are_found_by_id_by_search_and_as_series() {
    let server = Server::start(&[]);
    let client = Client::new();
    let start = now_nanos() - 5_000_000_000;
    let trace = "5b8efff798038103d269b633813fc60c";
    let span = |id: &str, parent: &str, name: &str, k: u64, status: u64| {
        json!({"traceId": trace, "spanId": id, "parentSpanId": parent, "name": name, "kind": 2,
            "startTimeUnixNano": (start + k).to_string(), "endTimeUnixNano": (start + k + 250_000_000).to_string(),
            "attributes": [{"key": "http.status_code", "value": {"intValue": "500"}}], "status": {"code": status}})
    };
    let spans =
        [span("eee19b7ec3c1b173", "", "GET /", 0, 0), span("eee19b7ec3c1b174", "eee19b7ec3c1b173", "SELECT", 9, 2)];
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeSpans": [{"scope": {"name": "lib"}, "spans": spans}]}]});
    let response = client.post(format!("{}/v1/traces", server.url)).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200);

    let found = get(&client, &format!("{}/api/v2/traces/{trace}", server.url), &[]).await;
    let spans = &found["trace"]["resourceSpans"][0]["scopeSpans"][0]["spans"];
    assert_eq!(spans.as_array().unwrap().len(), 2);
    assert_eq!(spans[0]["traceId"], "W47/95gDgQPSabYzgT/GDA==");

    let q = r#"{ resource.service.name = "shop" } >> { status = error } | select(span.http.status_code)"#;
    let found = get(&client, &format!("{}/api/search", server.url), &[("q", q)]).await;
    assert_eq!(found["traces"][0]["traceID"], trace);
    assert_eq!(found["traces"][0]["rootTraceName"], "GET /");
    assert_eq!(found["traces"][0]["spanSets"][0]["spans"][0]["name"], "SELECT");

    let values = format!("{}/api/v2/search/tag/resource.service.name/values", server.url);
    let values = get(&client, &values, &[]).await;
    assert_eq!(values["tagValues"], json!([{"type": "string", "value": "shop"}]));

    let q = [("q", "{} | count_over_time() by (status)"), ("since", "10m")];
    let series = get(&client, &format!("{}/api/metrics/query", server.url), &q).await;
    let values: Vec<f64> = series["series"].as_array().unwrap().iter().map(|s| s["value"].as_f64().unwrap()).collect();
    assert_eq!(values, [1.0, 1.0]);
}
