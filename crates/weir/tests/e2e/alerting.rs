//! Rules and alerts from files to the real `amtool`, and the files read again while weir runs.

use std::path::Path;
use std::process::Command;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::harness::Server;

fn write_rules(dir: &Path, alert: &str) {
    let text = format!("groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: {alert}\n    expr: vector(1) > 0\n");
    std::fs::write(dir.join("rules.yml"), text).unwrap();
}

async fn alert_names(client: &Client, url: &str) -> Vec<String> {
    let rules: Value = client.get(format!("{url}/api/v1/rules")).send().await.unwrap().json().await.unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|g| g["rules"].as_array().unwrap());
    rules.map(|r| r["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn files_are_read_again_on_request_and_a_bad_one_changes_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    write_rules(dir.path(), "First");
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "rule_files: ['rules.yml']\n").unwrap();
    let server = Server::start(&["--prometheus-config", config.to_str().unwrap()]);
    let client = Client::new();
    let reload = async || client.post(format!("{}/-/reload", server.url)).send().await.unwrap();
    assert_eq!(alert_names(&client, &server.url).await, ["First"]);

    write_rules(dir.path(), "Second");
    assert_eq!(reload().await.status(), StatusCode::OK);
    assert_eq!(alert_names(&client, &server.url).await, ["Second"]);

    std::fs::write(dir.path().join("rules.yml"), "groups:\n- name: g\n  rulez: []\n").unwrap();
    let refused = reload().await;
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let text = refused.text().await.unwrap();
    assert!(text.contains("rulez") && text.contains("rules.yml"), "{text}");
    assert_eq!(alert_names(&client, &server.url).await, ["Second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn amtool_sees_alerts_and_silences_them() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start(&[]);
    let client = Client::new();
    let alerts = json!([{"labels": {"alertname": "DiskFull", "host": "db-1"}, "annotations": {"summary": "99 %"}}]);
    let posted = client.post(format!("{}/api/v2/alerts", server.url)).json(&alerts).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::OK);
    let amtool = |args: &[&str]| {
        let mut command = Command::new("amtool");
        command.args(args).arg(format!("--alertmanager.url={}", server.url));
        let output = command.output().unwrap_or_else(|e| panic!("cannot run amtool: {e}; run `make setup`"));
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let found: Value = serde_json::from_str(&amtool(&["alert", "query", "DiskFull", "--output=json"])).unwrap();
    assert_eq!(found[0]["labels"], json!({"alertname": "DiskFull", "host": "db-1"}));

    let silence = amtool(&["silence", "add", "host=db-1", "--comment=disk is on its way", "--author=ops"]);
    let listed = amtool(&["silence", "query"]);
    assert!(listed.contains(silence.trim()), "{listed}");
    let silenced: Value = serde_json::from_str(&amtool(&["alert", "query", "--silenced", "--output=json"])).unwrap();
    assert_eq!(silenced[0]["status"]["silencedBy"], json!([silence.trim()]));
}
