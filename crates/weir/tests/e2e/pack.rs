//! The shipped alerts: their tests, run by weir and by promtool, and a server that has them.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::alerting::wait_for;
use crate::harness::Server;
use crate::remote_write::{Series, send};

fn tests() -> Vec<PathBuf> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../weir-rules/pack/tests");
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    assert_eq!(found.len(), 8, "a file of tests per pack, and one over a week");
    found
}

fn passes(program: &str) {
    let done = Command::new(program).args(["test", "rules"]).args(tests()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{program}: {said}");
}

#[test]
fn every_pack_passes_its_tests() {
    passes(env!("CARGO_BIN_EXE_weir"));
}

/// The rules are Prometheus' as well.
#[test]
fn every_pack_passes_its_tests_under_promtool() {
    passes("promtool");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_packs_alerts_and_shows_the_runbook() {
    let server = Server::start(&["--rules.pack", "kafka,kubernetes"]);
    let client = reqwest::Client::new();
    let now = jiff::Timestamp::now().as_millisecond();
    let labels = vec![
        ("__name__", "kube_node_status_condition".to_owned()),
        ("condition", "Ready".to_owned()),
        ("node", "n1".to_owned()),
        ("status", "true".to_owned()),
    ];
    send(&client, &server.url, &[Series { labels, samples: vec![(now, 0.0)] }]).await;
    let firing = async || {
        let answer = client.get(format!("{}/api/v1/alerts", server.url)).send().await.unwrap();
        let all = answer.json::<Value>().await.unwrap()["data"]["alerts"].as_array().unwrap().clone();
        all.into_iter().find(|a| a["labels"]["alertname"] == "NodeNotReady" && a["state"] == "firing")
    };
    wait_for("the alert of the pack", async || firing().await.is_some()).await;
    let alert = firing().await.unwrap();
    assert_eq!(alert["labels"]["tier"], "T1");
    let runbook = client.get(alert["annotations"]["runbook_url"].as_str().unwrap()).send().await.unwrap();
    assert!(runbook.status().is_success());
    let text = runbook.text().await.unwrap();
    assert!(text.starts_with("# NodeNotReady") && text.contains("kubectl drain"), "{text}");
    let unknown = client.get(format!("{}/api/weir/v1/runbooks/kafka/Nothing", server.url)).send().await.unwrap();
    assert_eq!(unknown.status(), 404);
    let done = Command::new(env!("CARGO_BIN_EXE_weir")).args(["serve", "--rules.pack", "nothing"]).output().unwrap();
    assert!(String::from_utf8_lossy(&done.stderr).contains("application, cost"), "{done:?}");
}
