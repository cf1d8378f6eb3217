//! Weeks of samples rolled up by the real program: what is left of them answers as they did, after restarts too.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;

use crate::harness::{Server, client};
use crate::metrics_restart::now_ms;
use crate::remote_write::{Series, send};

const DAY: i64 = 86_400_000;
const STEP: i64 = 60_000;
/// Days that are sent.
const DAYS: i64 = 24;

/// Minutes since `from` at 10 s past; the counter starts anew every 1,000 of them.
fn value(name: &str, k: i64) -> f64 {
    match name {
        "jobs_total" => (k % 1000 * 3) as f64,
        "load" => (k * 7919 % 101) as f64,
        "latency_bucket_1" => (k % 1000) as f64,
        _ => (k % 1000 * 4) as f64,
    }
}

fn day(from: i64, day: i64) -> Vec<Series> {
    let of = |labels: Vec<(&'static str, String)>, name: &str| Series {
        labels,
        samples: (day * 1440..(day + 1) * 1440).map(|k| (from + k * STEP + 10_000, value(name, k))).collect(),
    };
    let name = |name: &str| ("__name__", name.to_owned());
    vec![
        of(vec![name("jobs_total")], "jobs_total"),
        of(vec![name("latency_bucket"), ("le", "+Inf".to_owned())], "latency_bucket_inf"),
        of(vec![name("latency_bucket"), ("le", "1".to_owned())], "latency_bucket_1"),
        of(vec![name("load")], "load"),
    ]
}

fn start(dir: &Path, retention: &str) -> Server {
    Server::start(&["--data-dir", dir.to_str().unwrap(), "--metrics.retention", retention])
}

async fn get(client: &Client, url: &str, query: &str, at: i64, more: &[(&str, &str)]) -> Value {
    let mut params = vec![("query", query.to_owned()), ("time", (at / 1000).to_string())];
    params.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    let answer = client.get(format!("{url}/api/v1/query")).query(&params).send().await.unwrap();
    answer.json().await.unwrap()
}

async fn number(client: &Client, url: &str, query: &str, at: i64) -> f64 {
    let answer = get(client, url, query, at, &[]).await;
    let value = answer["data"]["result"][0]["value"][1].as_str();
    value.unwrap_or_else(|| panic!("{query} at {at}: {answer}")).parse().unwrap()
}

fn manifest(dir: &Path) -> Value {
    let text = std::fs::read_to_string(dir.join("metrics/blocks/manifest")).unwrap();
    serde_json::from_str(text.split_once('\n').unwrap().1).unwrap()
}

async fn wait_for(dir: &Path, what: &str, is_so: impl Fn(&Value) -> bool) {
    let until = Instant::now() + Duration::from_secs(120);
    while !is_so(&manifest(dir)) {
        assert!(Instant::now() < until, "{what}: {}", manifest(dir));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn count(manifest: &Value, what: &str, is_so: impl Fn(&Value) -> bool) -> usize {
    manifest[what].as_array().map_or(0, |all| all.iter().filter(|one| is_so(one)).count())
}

/// Against what was sent, at the end of an hour.
async fn check(client: &Client, url: &str, from: i64, at: i64) {
    let minutes = |hours: i64| {
        let last = (at - from - 10_000).div_euclid(STEP);
        last - 60 * hours + 1..=last
    };
    let gained = |name: &'static str, hours: i64| -> f64 {
        minutes(hours).map(|k| (value(name, k), value(name, k - 1))).map(|(v, b)| if v < b { v } else { v - b }).sum()
    };
    let close = |got: f64, want: f64, by: f64| assert!((got - want).abs() <= by, "at {at}: {got}, not {want}");
    close(number(client, url, "increase(jobs_total[6h])", at).await, gained("jobs_total", 6), 6.0);
    let want = minutes(6).map(|k| value("load", k)).fold(f64::MIN, f64::max);
    close(number(client, url, "max_over_time(load[6h])", at).await, want, 0.0);
    let want = minutes(6).map(|k| value("load", k)).fold(f64::MAX, f64::min);
    close(number(client, url, "min_over_time(load[6h])", at).await, want, 0.0);
    let want = minutes(6).map(|k| value("load", k)).sum::<f64>();
    close(number(client, url, "sum_over_time(load[6h])", at).await, want, 1e-6);
    close(number(client, url, "avg_over_time(load[6h])", at).await, want / 360.0, 1e-9);
    close(number(client, url, "count_over_time(load[6h])", at).await, 360.0, 0.0);
    // A quarter of the requests takes up to a second.
    let quantile = "histogram_quantile(0.125, rate(latency_bucket[6h]))";
    close(number(client, url, quantile, at).await, 0.5, 0.01);
}

#[tokio::test]
async fn weeks_are_rolled_up_and_answer_as_before() {
    let client = client();
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    // A whole week and the days before and after it.
    let from = (now_ms() / DAY - DAYS) * DAY;
    let server = start(dir, "40d");
    for n in 0..DAYS {
        send(&client, &server.url, &day(from, n)).await;
        let flushed = client.post(format!("{}/api/weir/v1/flush", server.url)).send().await.unwrap();
        assert_eq!(flushed.status(), 204);
    }
    // The last of the days is over for less than three hours at night.
    wait_for(dir, "days are rolled up", |m| count(m, "rolled", |s| s["level"] == "five") as i64 >= DAYS - 1).await;
    wait_for(dir, "weeks are rolled up", |m| count(m, "rolled", |s| s["level"] == "hour") >= 2).await;
    let early = [from + DAY / 2, from + 10 * DAY, from + 15 * DAY + DAY / 4];
    for at in early {
        check(&client, &server.url, from, at).await;
    }
    let answer = get(&client, &server.url, "max_over_time(load[6h])", from + DAY, &[]).await;
    assert_eq!(answer.get("infos"), None, "every sample is there: {answer}");
    let accepted = [("max_source_resolution", "5m")];
    let answer = get(&client, &server.url, "max_over_time(load[6h])", from + DAY, &accepted).await;
    assert!(answer["infos"][0].as_str().unwrap().contains("one sample for each 5m"), "{answer}");

    // Killed while it may be at work; raw samples go now.
    server.kill();
    let server = start(dir, "7d");
    wait_for(dir, "raw samples are dropped", |m| {
        let old = |b: &Value| b["resolution_ms"].is_null() && b["max_ms"].as_i64().unwrap() < from + (DAYS - 9) * DAY;
        count(m, "blocks", old) == 0 && m["gone"]["anonymous"]["raw_ms"].as_i64().is_some()
    })
    .await;
    for at in early {
        check(&client, &server.url, from, at).await;
    }
    let answer = get(&client, &server.url, "count_over_time(load[1m])", from + DAY, &[]).await;
    let infos = answer["infos"].to_string();
    assert!(infos.contains("one sample for each 5m") && infos.contains("[1m] is taken as [5m]"), "{answer}");
    assert_eq!(answer["data"]["result"][0]["value"][1], "1");
    let labels: Value = client.get(format!("{}/api/v1/labels", server.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(labels["data"], serde_json::json!(["__name__", "le"]));
    server.kill();

    // Five minutes go as well where a week's hours are there.
    let args = ["--data-dir", dir.to_str().unwrap(), "--metrics.retention", "1d", "--metrics.retention.5m", "8d"];
    let server = Server::start(&args);
    wait_for(dir, "five minutes are dropped", |m| m["gone"]["anonymous"]["five_ms"].as_i64().unwrap_or(0) > from).await;
    let week = manifest(dir)["gone"]["anonymous"]["five_ms"].as_i64().unwrap();
    check(&client, &server.url, from, week - DAY).await;
    let answer = get(&client, &server.url, "load", week - DAY - 1_200_000, &[]).await;
    assert!(answer["infos"].to_string().contains("one sample for each 1h"), "{answer}");
    assert_eq!(answer["data"]["result"].as_array().map(Vec::len), Some(1), "{answer}");
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    for (args, want) in [
        (["--metrics.retention.5m", "0"], "give --metrics.retention.1h 0 as well"),
        (["--metrics.retention.5m", "3d"], "--metrics.retention.5m is below 8d"),
    ] {
        let output = crate::harness::serve_command(&args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(want), "{text}");
    }
}
