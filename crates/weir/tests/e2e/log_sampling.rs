//! `--logs.sampling-config`: few lines are stored, counts say how many came, also after a crash. The contract of lines.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::alerting::wait_for;
use crate::harness::{Server, client};
use crate::logs_traces::now_nanos;

/// 333 traces of nine.
const LINES: u64 = 2_997;

async fn get(url: String, params: &[(&str, &str)]) -> Value {
    let answer = client().get(url).query(params).send().await.unwrap();
    assert!(answer.status().is_success());
    answer.json().await.unwrap()
}

/// Of each level a third; info in traces of three lines.
async fn push(url: &str, start: u64) {
    let line = |n: u64| {
        let level = ["debug", "info", "error"][n as usize % 3];
        let metadata = json!({"trace_id": format!("{:032x}", 1 + n / 9)});
        let metadata = if level == "info" { metadata } else { json!({}) };
        json!([(start + n).to_string(), format!("level={level} n={n}"), metadata])
    };
    let values: Vec<Value> = (0..LINES).map(line).collect();
    let body = json!({"streams": [{"stream": {"service_name": "chatty"}, "values": values}]});
    let answer = client().post(format!("{url}/loki/api/v1/push")).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn counts(url: &str, query: &str) -> (Vec<(String, f64)>, Value) {
    let answer = get(format!("{url}/loki/api/v1/query"), &[("query", query)]).await;
    let row = |one: &Value| {
        let value = one["value"][1].as_str().unwrap().parse().unwrap();
        (one["metric"]["detected_level"].as_str().unwrap_or_default().to_owned(), value)
    };
    let mut rows: Vec<(String, f64)> = answer["data"]["result"].as_array().unwrap().iter().map(row).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    (rows, answer["warnings"].clone())
}

#[tokio::test]
async fn what_is_sampled_is_counted_whole_and_traces_stay_together() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sampling.yml");
    std::fs::write(&config, "rules:\n- {above_lines_per_second: 100, keep: {debug: 0.05}}\n").unwrap();
    let data = folder.path().join("data");
    let args = ["--data-dir", data.to_str().unwrap(), "--logs.sampling-config", config.to_str().unwrap()];
    let mut server = Server::start(&args);
    push(&server.url, now_nanos()).await;
    let metrics = client().get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("weir_ingest_sampled_out_lines_total"), "{metrics}");
    for crashed in [false, true] {
        if crashed {
            server.kill();
            server = Server::start(&args);
        }
        let url = &server.url;
        let all = [("query", "{service_name=\"chatty\"}"), ("limit", "5000")];
        let lines = get(format!("{url}/loki/api/v1/query_range"), &all).await;
        let streams = lines["data"]["result"].as_array().unwrap();
        let n: usize = streams.iter().map(|s| s["values"].as_array().unwrap().len()).sum();
        assert!((1_050..1_250).contains(&n), "{n} lines: 999 errors, 100 of info and 50 of debug on average");

        let (by_level, warnings) =
            counts(url, "sum by (detected_level) (count_over_time({service_name=\"chatty\"}[1h]))").await;
        let [(_, debug), (_, error), (_, info)] = by_level.as_slice() else { panic!("{by_level:?}") };
        // All but what came after the last line that stayed.
        assert!(*error == 999.0 && (850.0..=999.0).contains(debug) && (850.0..=999.0).contains(info), "{by_level:?}");
        assert!(warnings[0].as_str().unwrap().contains("sampled at ingest"), "{warnings}");
        let (errors, warnings) = counts(url, "sum(count_over_time({service_name=\"chatty\"} |= \"error\" [1h]))").await;
        assert_eq!((errors[0].1, warnings), (999.0, Value::Null));

        // Of a trace three lines or none.
        let mut by_trace: BTreeMap<&str, usize> = BTreeMap::new();
        for stream in streams {
            let Some(trace) = stream["stream"]["trace_id"].as_str() else { continue };
            *by_trace.entry(trace).or_default() += stream["values"].as_array().unwrap().len();
        }
        assert!((10..80).contains(&by_trace.len()) && by_trace.values().all(|n| *n == 3), "{by_trace:?}");
    }
}

fn check_logs(args: &[&str]) -> (bool, String) {
    let done =
        std::process::Command::new(env!("CARGO_BIN_EXE_weir")).args(["check", "logs"]).args(args).output().unwrap();
    (done.status.success(), String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap())
}

#[tokio::test]
async fn what_lines_carry_is_told_by_service_as_series_and_by_the_check() {
    let server = Server::start(&[]);
    let now = now_nanos();
    let good = r#"{"level":"info","msg":"a","env":"prod","trace_id":"2f3e0cee77ae5dc9c17ade3689eb2e54"}"#;
    let lines = [good, good, good, "plain text of an error"];
    let values: Vec<Value> = (0_u64..).zip(lines).map(|(n, line)| json!([(now + n).to_string(), line])).collect();
    let body = json!({"streams": [{"stream": {"service_name": "shop", "namespace": "web"}, "values": values}]});
    let answer = client().post(format!("{}/loki/api/v1/push", server.url)).json(&body).send().await.unwrap();
    assert!(answer.status().is_success());
    let told = get(format!("{}/api/weir/v1/log-contract", server.url), &[]).await;
    let carrying = json!({"json": 3, "trace_id": 3, "service": 4, "env": 3, "severity": 3});
    let want = json!([{"namespace": "web", "service": "shop", "lines": 4, "carrying": carrying}]);
    assert_eq!(told["services"], want, "{told}");

    let url = server.url.clone();
    let (kept, said) = tokio::task::spawn_blocking(move || check_logs(&[&url])).await.unwrap();
    assert!(!kept && said.contains("web/shop: trace_id 75.0 %, which is less than the 95.0 % asked for"), "{said}");
    let url = server.url.clone();
    let args = move || check_logs(&["--min", "0.75", "--require", "trace_id,severity", &url]);
    assert!(tokio::task::spawn_blocking(args).await.unwrap().0);

    let query = "weir_log_contract_carrying_lines_total{service=\"shop\", field=\"env\"}";
    wait_for("the contract as series", async || {
        let found = get(format!("{}/api/v1/query", server.url), &[("query", query)]).await;
        found["data"]["result"][0]["value"][1] == "3"
    })
    .await;
}

#[test]
fn the_check_reads_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.log");
    std::fs::write(&file, "level=info env=prod service=a\n\nlevel=info env=prod service=a").unwrap();
    let name = file.to_str().unwrap();
    let (kept, said) = check_logs(&["--require", "env,service,severity", name]);
    assert!(kept && said.contains(": 2 lines: json 0.0 %"), "{said}");
    assert!(!check_logs(&[name]).0);
    let (kept, said) = check_logs(&["--require", "colour", name]);
    assert!(!kept && said.contains("`colour` is not in the contract"), "{said}");
    let (kept, said) = check_logs(&["/no/such/file"]);
    assert!(!kept && said.contains("open /no/such/file"), "{said}");
}
