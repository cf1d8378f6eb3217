//! Metrics in blocks: cut by a flush, read with memory as one, there after kill -9; deletion and snapshots.

use std::path::Path;

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::harness::{Server, client};
use crate::metrics_restart::now_ms;
use crate::remote_write::{Series, send};

fn start(dir: &Path, more: &[&str]) -> Server {
    let mut args = vec!["--data-dir", dir.to_str().unwrap()];
    args.extend(more);
    Server::start(&args)
}

/// Samples each 15 s from `from` on, of 30 series.
fn stretch(from: i64, n: i64) -> Vec<Series> {
    let series = |k: i64| Series {
        labels: vec![("__name__", "bytes_total".to_owned()), ("path", (k % 3).to_string()), ("worker", k.to_string())],
        samples: (0..n).map(|s| (from + s * 15_000, ((from / 15_000 + s) * (k + 1)) as f64)).collect(),
    };
    (0..30).map(series).collect()
}

const QUERIES: [&str; 5] = [
    "sum by (path) (rate(bytes_total[5m]))",
    "count(bytes_total)",
    "max_over_time(bytes_total{worker=\"7\"}[1h])",
    "sum(count_over_time(bytes_total[6h]))",
    "topk(3, bytes_total)",
];

async fn get(client: &Client, url: &str, path: &str, params: &[(&str, String)]) -> Value {
    let answer = client.get(format!("{url}{path}")).query(params).send().await.unwrap();
    answer.json().await.unwrap()
}

async fn answers(client: &Client, url: &str, end_ms: i64) -> Vec<Value> {
    let mut all = Vec::new();
    let secs = |ms: i64| (ms as f64 / 1e3).to_string();
    for query in QUERIES {
        let params = [
            ("query", query.to_owned()),
            ("start", secs(end_ms - 6 * 3_600_000)),
            ("end", secs(end_ms)),
            ("step", "60".to_owned()),
        ];
        let answer = get(client, url, "/api/v1/query_range", &params).await;
        let mut series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {answer}")).clone();
        assert!(!series.is_empty(), "{query}: {answer}");
        series.sort_by_key(|one| one["metric"].to_string());
        all.push(series.into());
    }
    all.push(get(client, url, "/api/v1/label/worker/values", &[("match[]", "bytes_total".to_owned())]).await);
    all
}

async fn post(client: &Client, url: &str, path: &str) -> (StatusCode, String) {
    let answer = client.post(format!("{url}{path}")).send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

/// The same data, once in memory alone and once in blocks, memory and log, after kills.
#[tokio::test]
async fn blocks_and_memory_answer_like_memory_alone_and_survive_kill_9() {
    let client = client();
    let now = now_ms() / 15_000 * 15_000;
    let from = now - 6 * 3_600_000;
    // The third overlaps the second, the fourth lies before both.
    let parts = [(from + 3_600_000, 480), (from + 10_800_000, 480), (from + 14_400_000, 480), (from, 200)];
    let alone = Server::start(&[]);
    for (at, n) in parts {
        send(&client, &alone.url, &stretch(at, n)).await;
    }
    let want = answers(&client, &alone.url, now).await;
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path(), &[]);
    for (idx, (at, n)) in parts.into_iter().enumerate() {
        send(&client, &server.url, &stretch(at, n)).await;
        match idx {
            0 | 2 => {
                let (status, text) = post(&client, &server.url, "/api/weir/v1/flush").await;
                assert_eq!(status, 204, "{text}");
            }
            _ => {
                server.kill();
                server = start(folder.path(), &[]);
            }
        }
    }
    assert!(blocks(folder.path()).len() > 2, "several blocks");
    assert_eq!(answers(&client, &server.url, now).await, want);
    server.kill();
    let server = start(folder.path(), &[]);
    assert_eq!(answers(&client, &server.url, now).await, want);
}

fn blocks(data_dir: &Path) -> Vec<String> {
    let folder = std::fs::read_dir(data_dir.join("metrics/blocks/anonymous")).unwrap();
    folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|n| n.ends_with(".block")).collect()
}

#[tokio::test]
async fn the_admin_api_deletes_and_snapshots_when_it_is_enabled() {
    let client = client();
    let folder = tempfile::tempdir().unwrap();
    let now = now_ms() / 15_000 * 15_000;
    let server = start(folder.path(), &[]);
    send(&client, &server.url, &stretch(now - 600_000, 40)).await;
    let delete = "/api/v1/admin/tsdb/delete_series?match[]=bytes_total{path=\"1\"}";
    let (status, text) = post(&client, &server.url, delete).await;
    assert_eq!(status, 500);
    let refused: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&refused["errorType"], &refused["error"]), (&"unavailable".into(), &"admin APIs disabled".into()));
    server.kill();

    let server = start(folder.path(), &["--web.enable-admin-api"]);
    let (status, text) = post(&client, &server.url, "/api/v1/admin/tsdb/snapshot").await;
    assert_eq!(status, 200, "{text}");
    let name = serde_json::from_str::<Value>(&text).unwrap()["data"]["name"].as_str().unwrap().to_owned();
    assert!(folder.path().join("metrics/snapshots").join(&name).join("manifest").exists());
    assert_eq!(post(&client, &server.url, "/api/v1/admin/tsdb/delete_series").await.0, 400, "without a selector");
    assert_eq!(post(&client, &server.url, delete).await.0, 204);
    let count = [("query", "count by (path) (bytes_total)".to_owned()), ("time", (now / 1000).to_string())];
    let paths = |answer: Value| -> Vec<String> {
        let rows = answer["data"]["result"].as_array().unwrap().clone();
        rows.iter().map(|row| row["metric"]["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths(get(&client, &server.url, "/api/v1/query", &count).await), ["0", "2"]);
    assert_eq!(post(&client, &server.url, "/api/v1/admin/tsdb/clean_tombstones").await.0, 204);
    let stats = get(&client, &server.url, "/api/v1/status/tsdb", &[("limit", "1".to_owned())]).await;
    assert_eq!(stats["data"]["labelValueCountByLabelName"], serde_json::json!([{"name": "worker", "value": 30}]));
    server.kill();
    let server = start(folder.path(), &[]);
    assert_eq!(paths(get(&client, &server.url, "/api/v1/query", &count).await), ["0", "2"]);
}
