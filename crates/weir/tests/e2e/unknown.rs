//! An alert whose input stops is unknown: nobody is told that it resolved, until it has.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::get;
use reqwest::Client;
use serde_json::Value;

use crate::alerting::{wait_for, webhook};
use crate::harness::Server;

/// A target that tells a heat, or fails below zero.
async fn target() -> (String, Arc<AtomicI64>) {
    let heat = Arc::new(AtomicI64::new(90));
    let shown = heat.clone();
    let answer = move || {
        let heat = shown.load(Ordering::Relaxed);
        async move {
            if heat < 0 {
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            } else {
                format!("heat {heat}\n").into_response()
            }
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/metrics", get(answer))).await });
    (address, heat)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_down_resolves_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let ((target, heat), (url, got)) = (target().await, webhook().await);
    let rule = |name: &str| format!("  rules:\n  - {{alert: {name}, expr: heat > 50}}\n");
    let rules = format!(
        "groups:\n- name: a\n  interval: 1s\n{}- name: b\n  interval: 1s\n  missing_input: resolve\n{}",
        rule("Hot"),
        rule("HotAsUpstream")
    );
    std::fs::write(path("rules.yml"), rules).unwrap();
    let prometheus = format!(
        "rule_files: ['rules.yml']\nscrape_configs:\n- job_name: oven\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  \
         static_configs: [{{targets: ['{target}']}}]\n"
    );
    std::fs::write(path("prometheus.yml"), prometheus).unwrap();
    let alertmanager = format!(
        "route: {{receiver: r, group_by: [alertname], group_wait: 0s, group_interval: 1s}}\n\
         receivers: [{{name: r, webhook_configs: [{{url: '{url}'}}]}}]\n"
    );
    std::fs::write(path("alertmanager.yml"), alertmanager).unwrap();
    let (prometheus, alertmanager, data) = (path("prometheus.yml"), path("alertmanager.yml"), path("data"));
    let args = [
        "--prometheus-config",
        &prometheus,
        "--alertmanager-config",
        &alertmanager,
        "--data-dir",
        &data,
        "--rules.missing-input",
        "unknown",
    ];
    let server = Server::start(&args);
    let client = Client::new();
    let state = async |name: &str| {
        let answer = client.get(format!("{}/api/v1/alerts", server.url)).send().await.unwrap();
        let body: Value = answer.json().await.unwrap();
        let alerts = body["data"]["alerts"].as_array().unwrap().clone();
        let found = alerts.iter().find(|a| a["labels"]["alertname"] == name);
        found.map_or(String::new(), |a| a["state"].as_str().unwrap().to_owned())
    };
    let told = |name: &str, status: &str| {
        let is = |body: &&Value| body["groupLabels"]["alertname"] == name && body["status"] == status;
        got.lock().unwrap().iter().filter(is).count()
    };
    wait_for("both pages", async || told("Hot", "firing") == 1 && told("HotAsUpstream", "firing") == 1).await;

    heat.store(-1, Ordering::Relaxed);
    wait_for("the unknown alert", async || state("Hot").await == "unknown").await;
    wait_for("upstream's resolve", async || told("HotAsUpstream", "resolved") == 1).await;
    let rules: Value = client.get(format!("{}/api/v1/rules", server.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(rules["data"]["groups"][0]["rules"][0]["state"], "unknown");
    let metrics = client.get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("weir_rules_input_wait_seconds{group=\"a\",rule=\"Hot\"}"), "{metrics}");
    let incidents: Value =
        client.get(format!("{}/api/weir/v1/incidents", server.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(incidents["incidents"][0]["state"], "firing", "{incidents}");
    assert_eq!(told("Hot", "resolved"), 0);

    // It is back and as bad as before: no news.
    heat.store(90, Ordering::Relaxed);
    wait_for("the alert that fires again", async || state("Hot").await == "firing").await;
    assert_eq!((told("Hot", "firing"), told("Hot", "resolved")), (1, 0));
    heat.store(10, Ordering::Relaxed);
    wait_for("the resolve", async || told("Hot", "resolved") == 1).await;
    assert_eq!(state("Hot").await, "");
}
