//! Debian's node exporter, scraped by the real program through a `prometheus.yml`.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::Server;

struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start_exporter(address: &str) -> Exporter {
    let mut command = Command::new("prometheus-node-exporter");
    command.arg(format!("--web.listen-address={address}")).stdout(Stdio::null()).stderr(Stdio::null());
    Exporter(command.spawn().expect("prometheus-node-exporter is installed"))
}

async fn get(url: &str, path: &str, params: &[(&str, &str)]) -> Value {
    let response = reqwest::Client::new().get(format!("{url}{path}")).query(params).send().await.unwrap();
    response.json().await.unwrap()
}

/// The first value of an instant query once `until` holds for it; `None` is no series.
async fn wait(url: &str, query: &str, until: impl Fn(Option<f64>) -> bool) {
    let stop = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = get(url, "/api/v1/query", &[("query", query)]).await;
        let value = answer["data"]["result"][0]["value"][1].as_str().map(|v| v.parse().unwrap());
        if until(value) {
            return;
        }
        assert!(Instant::now() < stop, "{query}: {answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_scraped_dies_and_is_replaced() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("prometheus.yml");
    let config = |job: &str| {
        format!(
            "global: {{scrape_interval: 500ms}}\nscrape_configs:\n- job_name: {job}\n  static_configs:\n  - targets: \
             ['{address}']\n    labels: {{env: test}}\n  metric_relabel_configs:\n  - {{source_labels: [__name__], \
             regex: 'go_.*', action: drop}}\n"
        )
    };
    std::fs::write(&path, config("node")).unwrap();
    let exporter = start_exporter(&address);
    let server = Server::start(&["--prometheus-config", path.to_str().unwrap()]);
    let url = server.url.as_str();

    wait(url, "up{job=\"node\", env=\"test\"}", |v| v == Some(1.0)).await;
    wait(url, "count(node_cpu_seconds_total)", |v| v.is_some_and(|n| n >= 8.0)).await;
    wait(url, "count({__name__=~\"go_.*\"})", |v| v.is_none()).await;
    wait(url, "scrape_samples_scraped - scrape_samples_post_metric_relabeling", |v| v.is_some_and(|n| n > 0.0)).await;

    let targets = get(url, "/api/v1/targets", &[]).await;
    let target = &targets["data"]["activeTargets"][0];
    assert_eq!((target["health"].as_str(), target["scrapePool"].as_str()), (Some("up"), Some("node")), "{targets}");
    assert_eq!(target["scrapeInterval"], "500ms");
    let metadata = get(url, "/api/v1/targets/metadata", &[("metric", "node_cpu_seconds_total")]).await;
    assert_eq!(metadata["data"][0]["type"], "counter", "{metadata}");
    let metadata = get(url, "/api/v1/metadata", &[("metric", "node_load1")]).await;
    assert_eq!(metadata["data"]["node_load1"][0]["type"], "gauge", "{metadata}");

    // A target that does not answer ends its series at once, long before the lookback of five minutes.
    drop(exporter);
    wait(url, "up{job=\"node\"}", |v| v == Some(0.0)).await;
    wait(url, "node_load1", |v| v.is_none()).await;

    // A bad file is refused by name and the old one stays.
    std::fs::write(&path, "scrape_configs:\n- job_name: x\n  ec2_sd_configs: []\n").unwrap();
    let reload = || reqwest::Client::new().post(format!("{url}/-/reload")).send();
    let answer = reload().await.unwrap();
    assert_eq!(answer.status(), 500);
    let text = answer.text().await.unwrap();
    assert!(text.contains("ec2_sd_configs") && text.contains("line 3"), "{text}");
    assert_eq!(get(url, "/api/v1/scrape_pools", &[]).await["data"]["scrapePools"][0], "node");

    let shown = get(url, "/api/v1/status/config", &[]).await;
    let shown = shown["data"]["yaml"].as_str().unwrap();
    assert!(shown.contains("job_name: node") && shown.contains("scrape_interval: 500ms"), "{shown}");

    // The removed target's own series end after two intervals; the new one's live.
    std::fs::write(&path, config("other")).unwrap();
    let _exporter = start_exporter(&address);
    assert_eq!(reload().await.unwrap().status(), 200);
    let shown = get(url, "/api/v1/status/config", &[]).await;
    assert!(shown["data"]["yaml"].as_str().unwrap().contains("job_name: other"), "{shown}");
    let routed = get(url, "/api/v1/alertmanagers", &[]).await;
    assert_eq!(routed["data"]["activeAlertmanagers"][0]["url"], format!("{url}/api/v2/alerts"), "{routed}");
    wait(url, "up{job=\"other\"}", |v| v == Some(1.0)).await;
    wait(url, "up{job=\"node\"}", |v| v.is_none()).await;
}
