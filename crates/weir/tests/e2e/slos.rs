//! Objectives: from a file to burn alerts, figures, the gate and the check of routes.

use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::routing::get;
use reqwest::Client;
use serde_json::Value;

use crate::alerting::wait_for;
use crate::harness::Server;

const SLOS: &str = "
slos:
- name: orders
  service: shop
  objective: 99.9
  tier: T1
  sli: {ratio: {bad: 'orders_total{code=\"500\"}', total: orders_total}}
- name: pages
  service: shop
  objective: 99
  window: month
  sli: {ratio: {bad: 'pages_total{code=\"500\"}', total: pages_total}}
- name: nothing
  service: shop
  objective: 99
  sli: {ratio: {bad: 'none_total{code=\"500\"}', total: none_total}}
";

/// Half of all orders fail, no page does.
async fn target() -> String {
    let n = Arc::new(AtomicU64::new(1));
    let answer = move || {
        let n = n.fetch_add(1, Ordering::Relaxed) * 100;
        async move {
            let line = |name: &str, code: u32| format!("{name}{{code=\"{code}\"}} {n}\n");
            format!("{}{}{}", line("orders_total", 200), line("orders_total", 500), line("pages_total", 200))
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/metrics", get(answer))).await });
    address
}

fn weir(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir")).args(args).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burning_budget_alerts_and_closes_the_gate() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let target = target().await;
    std::fs::write(path("slos.yaml"), SLOS).unwrap();
    let prometheus = format!(
        "scrape_configs:\n- job_name: shop\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  \
         static_configs: [{{targets: ['{target}']}}]\n"
    );
    std::fs::write(path("prometheus.yml"), prometheus).unwrap();
    let (prometheus, slos, data) = (path("prometheus.yml"), path("slos.yaml"), path("data"));
    let server = Server::start(&["--prometheus-config", &prometheus, "--slos", &slos, "--data-dir", &data]);
    let client = Client::new();
    let shown = async |id: &str| {
        let answer = client.get(format!("{}/api/weir/v1/slos/{id}", server.url)).send().await.unwrap();
        answer.json::<Value>().await.unwrap()
    };
    wait_for("figures of the orders", async || shown("orders").await["budget_left"].is_number()).await;
    wait_for("the page", async || {
        let alerts = shown("orders").await["alerts"].as_array().unwrap().clone();
        alerts.iter().any(|a| a["severity"] == "page" && a["state"] == "firing")
    })
    .await;
    let orders = shown("orders").await;
    let near = |value: &Value, want: f64| (value.as_f64().unwrap() - want).abs() < want.abs() * 0.02;
    assert!(near(&orders["error_ratio"], 0.5) && near(&orders["burn_rate"], 500.0), "{orders:#}");
    assert_eq!(orders["state"], "exhausted");
    wait_for("figures of the pages", async || shown("pages").await["state"] == "ok").await;
    let pages = shown("pages").await;
    assert_eq!((&pages["budget_left"], &pages["burn_rate"]), (&1.0.into(), &0.0.into()), "{pages:#}");
    assert_eq!(shown("nothing").await["state"], "unknown");
    let list: Value =
        client.get(format!("{}/api/weir/v1/slos", server.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(list["slos"].as_array().unwrap().len(), 3);

    for (name, open) in [("orders", false), ("pages", true), ("nothing", false), ("none", false)] {
        let output = weir(&["slo", "gate", name, "--url", &server.url]);
        assert_eq!(output.status.success(), open, "{name}: {}", said(&output));
    }
}

#[test]
fn the_pages_of_objectives_must_end_where_somebody_wakes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let slos = path("slos.yaml", SLOS);
    let routes = |receiver: &str| {
        let text = format!(
            "route:\n  receiver: chat\n  routes:\n  - {{matchers: [severity=page], receiver: {receiver}, group_wait: 1s}}\n\
             receivers:\n- {{name: chat, slack_configs: [{{api_url: 'http://localhost/x', channel: c}}]}}\n\
             - {{name: pager, pagerduty_configs: [{{routing_key: k}}]}}\n"
        );
        path(&format!("{receiver}.yml"), &text)
    };
    let check = |routes: &str| weir(&["check", "slos", "--alertmanager-config", routes, &slos]);
    let good = check(&routes("pager"));
    assert!(good.status.success() && said(&good).contains("3 objectives"), "{}", said(&good));
    // 51.84 s of the window, twice 15 s, and a second.
    assert!(said(&good).contains("a failure of 100 % of its events takes 82 s to page"), "{}", said(&good));
    let bad = check(&routes("chat"));
    assert!(!bad.status.success(), "{}", said(&bad));
    assert!(
        said(&bad).contains("slos.yaml:3: objective `orders`: its page")
            && said(&bad).contains("reaches chat, which pages nobody"),
        "{}",
        said(&bad)
    );

    // What is printed is a rule file that Prometheus takes.
    let rules = weir(&["slo", "rules", &slos]);
    let file = path("rules.yml", &String::from_utf8(rules.stdout).unwrap());
    let theirs = Command::new("promtool").args(["check", "rules", &file]).output().unwrap();
    assert!(theirs.status.success(), "{}", said(&theirs));
}
