//! A target that answers in protobuf: native histograms from the scrape to PromQL, and their end when it goes silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::Value;

use crate::alerting::wait_for;
use crate::harness::{Server, client};

/// Field `number` with length-delimited bytes; all of this test's messages are below 128 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

fn double(number: u8, value: f64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

/// `latency{path="/"}`: `2 * n` observations, half in the bucket up to 1 and half in that up to 2, sum `3 * n`.
fn family(n: u8) -> Vec<u8> {
    let zigzag = n << 1;
    let histogram = [
        vec![1 << 3, 2 * n],
        double(2, f64::from(3 * n)),
        double(6, 1e-128),
        // Buckets 0 and 1 of schema 0, each with n: the second differs by nothing from the first.
        field(12, &[1 << 3, 0, 2 << 3, 2]),
        field(13, &[zigzag, 0]),
    ]
    .concat();
    let label = [field(1, b"path"), field(2, b"/")].concat();
    let metric = [field(1, &label), field(7, &histogram)].concat();
    let family = [field(1, b"latency"), field(2, b"Help."), vec![3 << 3, 4], field(4, &metric)].concat();
    [&[family.len() as u8][..], &family].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn native_histograms_are_scraped() {
    let client = client();
    let (n, is_down) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let answer = {
        let is_down = is_down.clone();
        move |headers: HeaderMap| {
            let n = n.fetch_add(1, Ordering::Relaxed).min(15) as u8 + 1;
            let is_down = is_down.load(Ordering::Relaxed);
            async move {
                let accept = headers[header::ACCEPT].to_str().unwrap();
                assert!(accept.starts_with("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;"));
                if is_down {
                    return StatusCode::INTERNAL_SERVER_ERROR.into_response();
                }
                let kind =
                    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
                ([(header::CONTENT_TYPE, kind)], family(n)).into_response()
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/metrics", get(answer))).await });
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 200ms, scrape_native_histograms: true}}\n\
         scrape_configs: [{{job_name: j, static_configs: [{{targets: ['{target}']}}]}}]\n"
    );
    std::fs::write(&config, text).unwrap();
    let server = Server::start(&["--prometheus-config", config.to_str().unwrap()]);
    let ask = async |query: &str| {
        let request = client.get(format!("{}/api/v1/query", server.url)).query(&[("query", query)]);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["data"]["result"][0]["value"][1].as_str().and_then(|v| v.parse::<f64>().ok())
    };
    wait_for("sixteen scrapes", async || ask("histogram_count(latency)").await == Some(32.0)).await;
    assert_eq!(ask("histogram_sum(latency{path=\"/\"})").await, Some(48.0));
    assert_eq!(ask("histogram_fraction(0, 1, latency)").await, Some(0.5));
    assert_eq!(ask("count(latency)").await, Some(1.0));
    assert_eq!(ask("latency_count").await, None, "no classic series beside the native one");
    assert_eq!(ask("histogram_count(increase(latency[1m])) > bool 0").await, Some(1.0));
    is_down.store(true, Ordering::Relaxed);
    wait_for("the end of the series", async || ask("count(latency)").await.is_none() && ask("up").await == Some(0.0))
        .await;
}
