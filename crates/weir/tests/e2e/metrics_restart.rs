//! Metrics with `--data-dir`: what was acknowledged outlives kill -9.

use std::path::Path;

use reqwest::Client;
use serde_json::{Value, json};

use crate::harness::{Server, client};
use crate::remote_write::{Series, try_send};

fn start(dir: &Path) -> Server {
    Server::start(&["--data-dir", dir.to_str().unwrap()])
}

pub fn now_ms() -> i64 {
    i64::try_from(crate::logs_traces::now_nanos() / 1_000_000).unwrap()
}

/// Samples of `selector` over the last quarter of an hour: labels as text, then (milliseconds, value).
async fn samples(client: &Client, url: &str, selector: &str) -> Vec<(String, Vec<(i64, String)>)> {
    let params = [("query", format!("{selector}[15m]")), ("time", (now_ms() as f64 / 1e3 + 1.0).to_string())];
    let answer = client.get(format!("{url}/api/v1/query")).query(&params).send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    let row = |series: &Value| {
        let values = series["values"].as_array().unwrap().iter().map(|pair| {
            let at = (pair[0].as_f64().unwrap() * 1e3).round() as i64;
            (at, pair[1].as_str().unwrap().to_owned())
        });
        (series["metric"].to_string(), values.collect())
    };
    body["data"]["result"].as_array().unwrap_or_else(|| panic!("{body}")).iter().map(row).collect()
}

/// One sample of each of 50 series.
fn round(at: i64) -> Vec<Series> {
    let series = |k: usize| Series {
        labels: vec![("__name__", "work_total".to_owned()), ("worker", k.to_string())],
        samples: vec![(at, (at % 1_000_000) as f64 + k as f64)],
    };
    (0..50).map(series).collect()
}

#[tokio::test]
async fn acknowledged_samples_survive_kill_9_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let client = client();
    let mut acknowledged: Vec<i64> = Vec::new();
    for _ in 0..3 {
        let server = start(folder.path());
        let url = server.url.clone();
        let (sender, mut pushed) = tokio::sync::mpsc::unbounded_channel();
        let first = acknowledged.last().copied().unwrap_or(now_ms() - 600_000) + 10;
        let load = tokio::spawn({
            let client = client.clone();
            async move {
                for at in (first..).step_by(10) {
                    if !try_send(&client, &url, &round(at)).await {
                        return;
                    }
                    let _ = sender.send(at);
                }
            }
        });
        // Some requests are through and more are under way when the process is killed.
        for _ in 0..15 {
            acknowledged.extend(pushed.recv().await);
        }
        server.kill();
        load.await.unwrap();
        while let Ok(at) = pushed.try_recv() {
            acknowledged.push(at);
        }
    }
    let server = start(folder.path());
    let found = samples(&client, &server.url, "work_total").await;
    assert_eq!(found.len(), 50);
    for (labels, samples) in &found {
        let times: Vec<i64> = samples.iter().map(|s| s.0).collect();
        let missing: Vec<_> = acknowledged.iter().filter(|at| !times.contains(at)).collect();
        assert!(missing.is_empty(), "{labels}: {} of {} lost", missing.len(), acknowledged.len());
        assert!(times.is_sorted_by(|a, b| a < b), "{labels}: a sample twice");
    }
}

#[tokio::test]
async fn what_otlp_brought_is_there_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let client = client();
    let server = start(folder.path());
    let nanos = crate::logs_traces::now_nanos();
    let body = json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
        "scopeMetrics": [{"metrics": [{
            "name": "orders", "description": "Orders taken.",
            "gauge": {"dataPoints": [{"timeUnixNano": nanos.to_string(), "asDouble": 12.5}]},
        }]}],
    }]});
    let answer = client.post(format!("{}/v1/metrics", server.url)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    let before = samples(&client, &server.url, "orders").await;
    server.kill();
    let server = start(folder.path());
    let after = samples(&client, &server.url, "orders").await;
    assert_eq!(after, before);
    assert_eq!(after[0].1, [((nanos / 1_000_000) as i64, "12.5".to_owned())]);
    let answer = client.get(format!("{}/api/v1/metadata", server.url)).send().await.unwrap();
    let metadata: Value = answer.json().await.unwrap();
    assert_eq!(metadata["data"]["orders"][0]["help"], "Orders taken.");
}
