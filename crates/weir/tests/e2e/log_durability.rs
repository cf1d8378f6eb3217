//! Logs with `--data-dir`: what was answered with 204 outlives kill -9.

use std::path::Path;

use reqwest::Client;
use serde_json::{Value, json};

use crate::harness::{Server, serve_command};
use crate::logs_traces::now_nanos;

fn start(dir: &Path) -> Server {
    Server::start(&["--data-dir", dir.to_str().unwrap()])
}

async fn push(client: &Client, url: &str, at: u64, lines: &[String]) -> bool {
    let values: Vec<Value> = lines.iter().enumerate().map(|(k, l)| json!([(at + k as u64).to_string(), l])).collect();
    let body = json!({"streams": [{"stream": {"app": "shop"}, "values": values}]});
    let answer = client.post(format!("{url}/loki/api/v1/push")).json(&body).send().await;
    answer.is_ok_and(|a| a.status() == 204)
}

/// The same in protobuf, which the log keeps as it came.
async fn push_protobuf(client: &Client, url: &str, at: u64, lines: &[String]) -> bool {
    let mut stream = field(1, b"{app=\"shop\"}");
    for (k, line) in lines.iter().enumerate() {
        let at = at + k as u64;
        let time = [varint(0x08, at / 1_000_000_000), varint(0x10, at % 1_000_000_000)].concat();
        stream.extend(field(2, &[field(1, &time), field(2, line.as_bytes())].concat()));
    }
    let body = snap::raw::Encoder::new().compress_vec(&field(1, &stream)).unwrap();
    let request = client.post(format!("{url}/loki/api/v1/push")).header("content-type", "application/x-protobuf");
    request.body(body).send().await.is_ok_and(|answer| answer.status() == 204)
}

fn varint(tag: u8, mut value: u64) -> Vec<u8> {
    let mut out = vec![tag];
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2, bytes.len() as u64), bytes.to_vec()].concat()
}

async fn stored(client: &Client, url: &str, from: u64) -> Vec<String> {
    let (start, end) = ((from - 1_000_000_000).to_string(), (now_nanos() + 1_000_000_000).to_string());
    let params = [("query", "{app=\"shop\"}"), ("start", &start), ("end", &end), ("limit", "5000")];
    let answer = client.get(format!("{url}/loki/api/v1/query_range")).query(&params).send().await.unwrap();
    let body: Value = answer.json().await.unwrap();
    let streams = body["data"]["result"].as_array().unwrap();
    let values = streams.iter().flat_map(|s| s["values"].as_array().unwrap());
    values.map(|v| v[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn acknowledged_lines_survive_kill_9_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::new();
    let from = now_nanos();
    let mut acknowledged: Vec<String> = Vec::new();
    for life in 0..3 {
        let server = start(folder.path());
        let url = server.url.clone();
        let (sender, mut pushed) = tokio::sync::mpsc::unbounded_channel();
        let load = tokio::spawn({
            let client = client.clone();
            async move {
                for n in 0.. {
                    let lines: Vec<String> = (0..20).map(|k| format!("life {life} push {n} line {k}")).collect();
                    let is_stored = match n % 2 {
                        0 => push(&client, &url, now_nanos(), &lines).await,
                        _ => push_protobuf(&client, &url, now_nanos(), &lines).await,
                    };
                    if !is_stored {
                        return;
                    }
                    let _ = sender.send(lines);
                }
            }
        });
        // Some pushes are through and more are under way when the process is killed.
        for _ in 0..15 {
            acknowledged.extend(pushed.recv().await.unwrap());
        }
        drop(server);
        load.await.unwrap();
        while let Ok(lines) = pushed.try_recv() {
            acknowledged.extend(lines);
        }
    }
    let server = start(folder.path());
    let found = stored(&client, &server.url, from).await;
    let missing: Vec<&String> = acknowledged.iter().filter(|l| !found.contains(l)).collect();
    assert!(missing.is_empty(), "{} of {} lost: {:?}", missing.len(), acknowledged.len(), missing.first());
    let mut once = found.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), found.len(), "no line twice");
}

#[tokio::test]
async fn a_data_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let _server = start(folder.path());
    let second = serve_command(&["--data-dir", folder.path().to_str().unwrap()]).output().unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(text.contains("is in use by another weir"), "{text}");
}
