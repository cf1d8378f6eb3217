//! Budgets of series: a label with a value per user is folded, its metric, label and target are named, and nothing
//! grows beyond the budget, also after kill -9.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::routing::get;
use reqwest::Client;
use serde_json::Value;

use crate::alerting::wait_for;
use crate::harness::Server;

const USERS: usize = 60;
const BUDGET: usize = 20;
/// The labels that document after document names as the ones that ruin a Prometheus.
const LABELS: [&str; 3] = ["user_id", "request_id", "trace_id"];

/// A counter per user in three metrics, each with another label.
async fn target() -> String {
    let n = Arc::new(AtomicU64::new(1));
    let answer = move || {
        let n = n.fetch_add(1, Ordering::Relaxed);
        async move {
            let line =
                |label: &str, user: usize| format!("by_{label}_total{{{label}=\"v{user}\"}} {}\n", n * user as u64);
            LABELS.iter().flat_map(|label| (0..USERS).map(move |user| line(label, user))).collect::<String>()
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/metrics", get(answer))).await });
    address
}

async fn json(client: &Client, url: String) -> Value {
    client.get(url).send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_with_a_value_per_user_is_folded_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let target = target().await;
    let prometheus = format!(
        "scrape_configs:\n- job_name: shop\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  \
         static_configs: [{{targets: ['{target}']}}]\n"
    );
    std::fs::write(path("prometheus.yml"), prometheus).unwrap();
    let budgets = format!("budgets: [{{name: counters, metric: by_.*, max_series: {BUDGET}, action: fold}}]\n");
    std::fs::write(path("cardinality.yml"), budgets).unwrap();
    let (prometheus, budgets, data) = (path("prometheus.yml"), path("cardinality.yml"), path("data"));
    let args = ["--prometheus-config", &prometheus, "--cardinality.config", &budgets, "--data-dir", &data];
    let server = Server::start(&args);
    let client = Client::new();
    let list = async |url: &str| json(&client, format!("{url}/api/weir/v1/cardinality")).await;
    let is_named = |found: &Value, label: &str| {
        let of = |b: &&Value| b["metric"] == format!("by_{label}_total") && b["culprit"]["label"]["name"] == label;
        found["budgets"].as_array().is_some_and(|all| {
            all.iter().find(of).is_some_and(|b| {
                b["folded_labels"] == serde_json::json!([label])
                    && b["culprit"]["target"]["job"] == "shop"
                    && b["hidden_series"] == USERS - BUDGET
            })
        })
    };
    wait_for("all three culprits by name", async || {
        let found = list(&server.url).await;
        LABELS.iter().all(|label| is_named(&found, label))
    })
    .await;
    // A query says what it read.
    let ask = async |url: &str, query: &str| {
        let answer = client.get(format!("{url}/api/v1/query")).query(&[("query", query)]).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    let answer = ask(&server.url, "sum(increase(by_user_id_total[30s]))").await;
    let warnings = answer["warnings"].to_string();
    assert!(warnings.contains("by_user_id_total") && warnings.contains("folded"), "{answer}");
    let count = ask(&server.url, "count(by_user_id_total)").await;
    assert_eq!(count["data"]["result"][0]["value"][1], (BUDGET + 1).to_string(), "{count}");
    wait_for("the alert that names the label", async || {
        let alerts = json(&client, format!("{}/api/v1/alerts", server.url)).await;
        let named = |a: &Value| {
            let annotations = a["annotations"].to_string();
            a["labels"]["alertname"] == "CardinalityBudgetUsedUp"
                && a["state"] == "firing"
                && annotations.contains("user_id")
                && annotations.contains("job shop")
        };
        alerts["data"]["alerts"].as_array().is_some_and(|all| all.iter().any(named))
    })
    .await;
    server.kill();
    let server = Server::start(&args);
    wait_for("the same budgets after kill -9", async || is_named(&list(&server.url).await, "trace_id")).await;
    let count = ask(&server.url, "count(last_over_time(by_trace_id_total[10m]))").await;
    assert_eq!(count["data"]["result"][0]["value"][1], (BUDGET + 1).to_string(), "{count}");
}

#[test]
fn a_bad_file_of_budgets_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cardinality.yml");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let done = Command::new(env!("CARGO_BIN_EXE_weir")).args(["check", "cardinality"]).arg(&path).output().unwrap();
        (
            done.status.success(),
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr)),
        )
    };
    let (ok, said) = check("budgets:\n- metric: a\n  max_series: 5\n  action: burn\n");
    assert!(!ok && said.contains("cardinality.yml:4:") && said.contains("burn"), "{said}");
    let (ok, said) = check("budgets: [{metric: a, max_series: 5}]\n");
    assert!(ok && said.contains("1 budget, none of which does more than warn"), "{said}");
}
