//! Files and HTTP endpoints.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::HeaderMap;
use axum::routing::get;

use crate::support::{discovering, labels_of, serve, until, wait_for};

#[tokio::test]
async fn files_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.yml", "- targets: ['a:1', 'a:2']\n  labels: {env: x}\n");
    write("b.json", r#"[{"targets": ["b:1"]}]"#);
    let collector = discovering("file_sd_configs: [{files: ['*.yml', 'b.json']}]", folder.path());
    until(&collector, &["a:1", "a:2", "b:1"]).await;
    let path = folder.path().join("a.yml");
    assert_eq!(labels_of(&collector, "a:1", "__meta_"), [format!("filepath={}", path.display())]);
    // A file that cannot be read keeps its targets.
    write("a.yml", "- targets: ['a:1'\n");
    write("c.yml", "- targets: ['c:1']\n");
    until(&collector, &["a:1", "a:2", "b:1", "c:1"]).await;
    let status = collector.discovery();
    assert!(status[0].last_error.contains("a.yml"), "{status:?}");
    write("a.yml", "- targets: ['a:3']\n");
    std::fs::remove_file(folder.path().join("b.json")).unwrap();
    until(&collector, &["a:3", "c:1"]).await;
}

#[tokio::test]
async fn an_endpoint_is_asked_again() {
    // What the endpoint answers: targets, then no JSON at all, then others.
    let phase = Arc::new(AtomicUsize::new(0));
    let n_bad = Arc::new(AtomicUsize::new(0));
    let (now, bad) = (phase.clone(), n_bad.clone());
    let answer = move |headers: HeaderMap| {
        assert_eq!(headers["X-Prometheus-Refresh-Interval-Seconds"], "0.05");
        assert_eq!(headers["Authorization"], "Bearer t");
        let (kind, body) = match now.load(Ordering::SeqCst) {
            0 => ("application/json; charset=utf-8", r#"[{"targets":["a:1"],"labels":{"__meta_x":"y"}}]"#),
            1 => ("text/html", "[]"),
            _ => ("application/json", r#"[{"targets":["b:1"]}]"#),
        };
        bad.fetch_add(usize::from(kind == "text/html"), Ordering::SeqCst);
        async move { ([("Content-Type", kind)], body) }
    };
    let address = serve(Router::new().route("/sd", get(answer))).await;
    let job = format!(
        "http_sd_configs: [{{url: 'http://{address}/sd', refresh_interval: 50ms, authorization: {{credentials: t}}}}]"
    );
    let collector = discovering(&job, std::path::Path::new("."));
    until(&collector, &["a:1"]).await;
    assert_eq!(labels_of(&collector, "a:1", "__meta_"), [format!("url=http://{address}/sd"), "x=y".to_owned()]);
    // What cannot be read keeps the targets.
    phase.store(1, Ordering::SeqCst);
    let n_seen = || n_bad.load(Ordering::SeqCst);
    wait_for("two bad answers are fetched", || n_seen() >= 2, || n_seen().to_string()).await;
    until(&collector, &["a:1"]).await;
    phase.store(2, Ordering::SeqCst);
    until(&collector, &["b:1"]).await;
}
