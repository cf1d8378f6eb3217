//! weir and a real Prometheus, fed with the same remote write, must give the same answers.
//!
//! The oracle may be as old as 2.42, whose windows include their left edge. No sample and no
//! subquery step falls on an edge here, so that this shows nowhere.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::Client;
use serde_json::Value;

use crate::harness::Server;
use crate::remote_write::{STALE, Series, send};

/// A multiple of 30 s. Samples stand 7 s past multiples of 15 s from here, steps 3 s past.
const BASE: i64 = 1_700_000_010;

struct Oracle {
    child: Child,
    url: String,
}

impl Oracle {
    async fn start(dir: &Path, client: &Client) -> Self {
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, "global:\n  scrape_interval: 1h\n").unwrap();
        let mut child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--web.enable-remote-write-receiver"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("prometheus is installed");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let address = lines
            .find(|line| line.contains("Listening on"))
            .and_then(|line| Some(line.split("address=").nth(1)?.split_whitespace().next()?.to_owned()))
            .expect("prometheus names its address");
        // Its log must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let oracle = Self { child, url: format!("http://{address}") };
        for _ in 0..300 {
            let ready = client.get(format!("{}/-/ready", oracle.url)).send().await;
            if ready.is_ok_and(|r| r.status().is_success()) {
                return oracle;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("prometheus is not ready after 15 s");
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Half an hour of counters with resets, gauges, a histogram, gaps, stale markers and odd values.
fn load() -> Vec<Series> {
    let mut all = Vec::new();
    let at = |n: i64| (BASE + n * 15 + 7) * 1000;
    let mut add = |labels: &[(&'static str, &str)], value: &dyn Fn(i64) -> Option<f64>| {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let samples = (0..120).filter_map(|n| Some((at(n), value(n)?))).collect();
        all.push(Series { labels, samples });
    };
    for (idx, (job, instance)) in [("api", "0"), ("api", "1"), ("web", "0"), ("web", "10")].into_iter().enumerate() {
        let idx = idx as i64;
        let labels = |name| [("__name__", name), ("job", job), ("instance", instance)];
        add(&labels("http_requests_total"), &|n| Some(((n + 50) * (idx + 3) % (331 + 100 * idx)) as f64));
        add(&labels("temperature"), &|n| Some(20.0 + ((n * 7 + idx * 13) % 41) as f64 / 3.0));
        add(&labels("sometimes"), &|n| match n % 40 {
            20 => Some(STALE),
            21..=36 => None,
            m => Some((m + idx) as f64),
        });
        for (rank, le) in ["0.1", "0.5", "1", "2.5", "+Inf"].into_iter().enumerate() {
            let labels = [("__name__", "latency_bucket"), ("job", job), ("instance", instance), ("le", le)];
            add(&labels, &|n| Some(((n + 40) * (rank as i64 + 1) * (idx + 1)) as f64));
        }
        let info =
            [("__name__", "info"), ("job", job), ("instance", instance), ("version", ["a", "b"][idx as usize % 2])];
        add(&info, &|_| Some(1.0));
    }
    add(&[("__name__", "odd"), ("kind", "nan")], &|_| Some(f64::NAN));
    add(&[("__name__", "odd"), ("kind", "inf")], &|n| Some(if n % 3 == 0 { f64::INFINITY } else { -1.5 }));
    add(&[("__name__", "odd"), ("kind", "large")], &|n| Some(1e22 * n as f64));
    add(&[("__name__", "odd"), ("kind", "small")], &|n| Some(1e-9 * n as f64));
    all
}

const EXPRESSIONS: &[&str] = &[
    "1 + 2 * 3 ^ 2 % 7",
    "time()",
    "http_requests_total",
    "{__name__=~\"temp.*|odd\"}",
    "sometimes",
    "odd * 2",
    "-temperature",
    "rate(http_requests_total[5m])",
    "increase(http_requests_total[7m])",
    "irate(http_requests_total[2m])",
    "delta(temperature[5m])",
    "idelta(temperature[2m])",
    "deriv(temperature[5m])",
    "predict_linear(temperature[10m], 600)",
    "rate(http_requests_total[5m] offset 2m)",
    "rate(sometimes[4m])",
    "avg_over_time(temperature[5m])",
    "min_over_time(temperature[5m])",
    "max_over_time(odd[5m])",
    "sum_over_time(sometimes[5m])",
    "count_over_time(sometimes[5m])",
    "last_over_time(sometimes[5m])",
    "present_over_time(sometimes[2m])",
    "stddev_over_time(temperature[5m])",
    "stdvar_over_time(temperature[5m])",
    "quantile_over_time(0.9, temperature[5m])",
    "changes(temperature[5m])",
    "resets(http_requests_total[10m])",
    "absent(sometimes{job=\"api\",instance=~\"0\"})",
    "absent(nothing{job=\"api\",a!=\"b\"})",
    "absent_over_time(sometimes{job=\"api\"}[3m])",
    "sum(http_requests_total)",
    "sum by (job) (rate(http_requests_total[5m]))",
    "avg without (instance) (temperature)",
    "min(temperature)",
    "max by (instance) (temperature)",
    "count by (job) (sometimes)",
    "group(sometimes)",
    "stddev(temperature)",
    "stdvar by (job) (temperature)",
    "quantile(0.3, temperature)",
    "quantile by (job) (1.2, temperature)",
    "topk(2, temperature)",
    "bottomk by (job) (1, temperature)",
    "count_values(\"value\", sometimes)",
    "histogram_quantile(0.9, rate(latency_bucket[5m]))",
    "histogram_quantile(0.5, sum by (le, job) (rate(latency_bucket[5m])))",
    "temperature > 25",
    "temperature > bool 25",
    "30 < temperature",
    "http_requests_total / temperature",
    "sum by (job) (http_requests_total) / on (job) group_right () temperature",
    "temperature * on (job, instance) group_left (version) info",
    "temperature and sometimes",
    "temperature or sometimes",
    "temperature unless on (job, instance) sometimes",
    "sometimes or on () vector(0)",
    "scalar(temperature{job=\"api\",instance=\"0\"})",
    "vector(scalar(temperature))",
    "abs(delta(temperature[3m]))",
    "ceil(temperature)",
    "floor(temperature)",
    "round(temperature, 0.5)",
    "clamp(temperature, 22, 28)",
    "clamp_min(temperature, 25)",
    "clamp_max(odd, 25)",
    "exp(temperature / 10)",
    "ln(temperature)",
    "log2(temperature)",
    "log10(odd)",
    "sqrt(temperature)",
    "sgn(temperature - 25)",
    "sin(temperature)",
    "atan(temperature)",
    // Under abs, as 2.42 forgets to drop the name.
    "abs(temperature atan2 http_requests_total)",
    "deg(temperature)",
    "label_replace(temperature, \"short\", \"$1-x\", \"job\", \"(.).*\")",
    "label_join(temperature, \"both\", \"/\", \"job\", \"instance\")",
    "timestamp(temperature)",
    "timestamp(sometimes + 1)",
    "minute()",
    "hour(timestamp(temperature))",
    "day_of_week()",
    "day_of_year()",
    "days_in_month()",
    "max_over_time(rate(http_requests_total[2m])[5m:30s])",
    "sum_over_time(temperature[4m:1m] offset 1m)",
    "avg_over_time(sum by (job) (temperature)[5m:15s])",
    "temperature @ 1700000700",
    "rate(http_requests_total[5m] @ end())",
    "temperature - temperature @ start()",
    "temperature offset -3m",
    "sum(rate(latency_bucket{le=\"+Inf\"}[5m])) by (job) > 0.1",
];

/// What both refuse, and with the same words.
const REFUSED: &[&str] = &[
    "sum(",
    "rate(temperature)",
    "temperature{job=",
    "nonexistent(1)",
    "temperature + on (job) info",
    "temperature * on (job) group_left () sum by (job, instance) (info)",
    "{job=~\".*\"}",
    "1 == 1",
    "foo offset 1m offset 2m",
    "sum by (job (temperature)",
    "temperature[5m",
    "temperature[5m] + 1",
    "\"a\" + 1",
    "topk(temperature)",
    "a and 1",
];

async fn ask(client: &Client, url: &str, path: &str, params: &[(&str, &str)]) -> Value {
    let response = client.get(format!("{url}/api/v1/{path}")).query(params).send().await.unwrap();
    response.json().await.unwrap()
}

/// Series in any order, numbers within 1e-9 of each other: newer versions compensate sums, and the last
/// bit of a sine depends on the library.
fn same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|other| same(v, other)))
        }
        (Value::String(a), Value::String(b)) => {
            a == b || matches!((a.parse(), b.parse()), (Ok(a), Ok(b)) if close(a, b))
        }
        (a, b) => a == b,
    }
}

fn close(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

fn sorted(mut answer: Value) -> Value {
    if let Some(Value::Array(series)) = answer.pointer_mut("/data/result")
        && series.iter().all(Value::is_object)
    {
        // Objects keep the order in which they were written.
        series.sort_by_cached_key(|s| {
            let metric = s["metric"].as_object().unwrap();
            metric.iter().map(|(k, v)| format!("{k}={v}")).collect::<std::collections::BTreeSet<_>>()
        });
    }
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_those_of_prometheus() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new();
    let dir = tempfile::tempdir().unwrap();
    let (weir, oracle) = (Server::start(&[]), Oracle::start(dir.path(), &client).await);
    let load = load();
    for url in [&weir.url, &oracle.url] {
        send(&client, url, &load).await;
    }
    let (at, start, end) = ((BASE + 1203).to_string(), (BASE + 603).to_string(), (BASE + 1803).to_string());
    let mut wrong = Vec::new();
    for expr in EXPRESSIONS.iter().chain(REFUSED) {
        let instant: &[(&str, &str)] = &[("query", expr), ("time", &at)];
        let range: &[(&str, &str)] = &[("query", expr), ("start", &start), ("end", &end), ("step", "60")];
        for (path, params) in [("query", instant), ("query_range", range)] {
            let ours = sorted(ask(&client, &weir.url, path, params).await);
            let theirs = sorted(ask(&client, &oracle.url, path, params).await);
            let agree = match REFUSED.contains(expr) {
                true => {
                    ours["status"] == "error" && ours["errorType"] == theirs["errorType"] && similar(&ours, &theirs)
                }
                false => theirs["status"] == "success" && same(&ours["data"], &theirs["data"]),
            };
            if !agree {
                wrong.push(format!("{path} {expr}\n  weir       {}\n  prometheus {}", cut(&ours), cut(&theirs)));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), EXPRESSIONS.len() * 2, wrong.join("\n"));
}

/// Position and text are equal. Of several offending series either may be named, and older versions
/// do not say of which parameter a range query complains.
fn similar(ours: &Value, theirs: &Value) -> bool {
    let text = |v: &Value| v["error"].as_str().unwrap_or_default().replace("invalid parameter \"query\": ", "");
    let (ours, theirs) = (text(ours), text(theirs));
    ours == theirs || (ours.contains("found duplicate series") && theirs.contains("found duplicate series"))
}

fn cut(answer: &Value) -> String {
    answer.to_string().chars().take(700).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn series_and_labels_are_those_of_prometheus() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new();
    let dir = tempfile::tempdir().unwrap();
    let (weir, oracle) = (Server::start(&[]), Oracle::start(dir.path(), &client).await);
    let load = load();
    for url in [&weir.url, &oracle.url] {
        send(&client, url, &load).await;
    }
    for (path, params) in [
        ("labels", vec![]),
        ("labels", vec![("match[]", "info")]),
        ("label/job/values", vec![]),
        ("label/__name__/values", vec![("match[]", "{job=\"api\"}")]),
        ("label/le/values", vec![("match[]", "latency_bucket{instance!=\"0\"}")]),
        ("series", vec![("match[]", "temperature"), ("match[]", "odd{kind=~\"n.*\"}")]),
        ("series", vec![]),
        ("series", vec![("match[]", "{a=\"\"}")]),
        ("label/job/values", vec![("start", "x")]),
    ] {
        let (ours, theirs) =
            (ask(&client, &weir.url, path, &params).await, ask(&client, &oracle.url, path, &params).await);
        assert_eq!(in_order(ours), in_order(theirs), "{path} {params:?}");
    }
}

/// Neither the order of series nor that of labels within one counts.
fn in_order(mut answer: Value) -> Value {
    if let Some(list) = answer["data"].as_array_mut() {
        list.iter_mut().filter_map(Value::as_object_mut).for_each(|o| o.sort_keys());
        list.sort_by_cached_key(Value::to_string);
    }
    answer
}
