//! `--logs.retention-config`: lines go by namespace, and their bytes with them.

use serde_json::{Value, json};

use crate::alerting::wait_for;
use crate::harness::{Server, client};
use crate::logs_traces::now_nanos;

const DAY_NANOS: u64 = 86_400_000_000_000;

#[tokio::test]
async fn a_namespaces_lines_go_after_its_days_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("retention.yml");
    let text = "limits_config:\n  retention_stream: [{selector: '{namespace=\"dev\"}', period: 24h}]\nlog_retention_days: {prod: 90}\n";
    std::fs::write(&config, text).unwrap();
    let data = folder.path().join("data");
    let args = ["--data-dir", data.to_str().unwrap(), "--logs.retention-config", config.to_str().unwrap()];
    let server = Server::start(&args);
    let at = now_nanos() - 2 * DAY_NANOS;
    let stream = |namespace: &str| {
        let line = format!("payload of {namespace}");
        json!({"stream": {"app": "a", "namespace": namespace}, "values": [[at.to_string(), line]]})
    };
    let body = json!({"streams": [stream("dev"), stream("prod"), stream("other")]});
    let answer = client().post(format!("{}/loki/api/v1/push", server.url)).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    assert!(client().post(format!("{}/api/weir/v1/flush", server.url)).send().await.unwrap().status().is_success());

    let (start, end) = ((at - DAY_NANOS).to_string(), (at + DAY_NANOS).to_string());
    let params = [("query", "{app=\"a\"}"), ("start", &start), ("end", &end)];
    wait_for("the lines of dev to go", async || {
        let url = format!("{}/loki/api/v1/query_range", server.url);
        let found: Value = client().get(url).query(&params).send().await.unwrap().json().await.unwrap();
        let streams = found["data"]["result"].as_array().unwrap();
        let of = |one: &Value| one["stream"]["namespace"].as_str().unwrap().to_owned();
        let mut left: Vec<String> = streams.iter().map(of).collect();
        left.sort();
        left == ["other", "prod"]
    })
    .await;
}

#[test]
fn the_check_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("retention.yml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let weir = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        let done = { weir }.args(["check", "log-retention"]).arg(&file).output().unwrap();
        (done.status.success(), String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap())
    };
    let (good, said) = check("log_retention_days: {dev: 3, prod: 90}");
    assert!(good && said.contains("2 rules"), "{said}");
    let (good, said) = check("limits_config:\n  retention_stream:\n  - {selector: '{a', period: 1d}\n");
    assert!(!good && said.contains("retention.yml:3: `selector`"), "{said}");
}
