//! Status pages and health.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use serde_json::json;

use super::answer::{ApiError, Notes, success};
use super::{CONCURRENCY_MAX, Prometheus};

/// The version that clients read: Grafana gates features on it. The API is that of this release.
const PROMETHEUS_VERSION: &str = "3.5.0";

pub(super) async fn buildinfo() -> Result<Response, ApiError> {
    // No `features`: Grafana would take the server for Mimir.
    let info = json!({
        "version": PROMETHEUS_VERSION,
        "revision": concat!("weir-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    });
    success(&info, Notes::default())
}

pub(super) async fn runtimeinfo(State(prometheus): State<Arc<Prometheus>>) -> Result<Response, ApiError> {
    let directory = std::env::current_dir().map(|d| d.display().to_string()).unwrap_or_default();
    let hostname = tokio::fs::read_to_string("/proc/sys/kernel/hostname").await.unwrap_or_default();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let started = prometheus.started_at.rfc3339();
    let info = json!({
        "startTime": started,
        "CWD": directory,
        "hostname": hostname.trim(),
        "serverTime": prometheus.clock.now().rfc3339(),
        "reloadConfigSuccess": true,
        "lastConfigTime": started,
        "corruptionCount": 0,
        // The nearest things that this program has.
        "goroutineCount": tasks,
        "GOMAXPROCS": std::thread::available_parallelism().map_or(1, |n| n.get()),
        "GOMEMLIMIT": prometheus.budget.limit_bytes(),
        "GOGC": "",
        "GODEBUG": "",
        "storageRetention": "",
    });
    success(&info, Notes::default())
}

pub(super) async fn flags(State(prometheus): State<Arc<Prometheus>>) -> Result<Response, ApiError> {
    let options = prometheus.engine.options();
    let duration =
        |d: std::time::Duration| weir_promql::format_duration(i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let flags = json!({
        "query.lookback-delta": duration(options.lookback),
        "query.max-concurrency": CONCURRENCY_MAX.to_string(),
        "query.max-samples": options.samples_max.to_string(),
        "query.timeout": duration(options.timeout),
        "web.external-url": prometheus.external_url,
    });
    success(&flags, Notes::default())
}

/// What `--prometheus-config` says, with what is left to its defaults; empty without the file.
pub(super) async fn config(State(prometheus): State<Arc<Prometheus>>) -> Result<Response, ApiError> {
    let yaml = prometheus.config.read().clone();
    success(&json!({ "yaml": &*yaml }), Notes::default())
}

pub(super) async fn healthy() -> &'static str {
    "Prometheus Server is Healthy.\n"
}

/// Nothing answers before the program is ready: it binds its port last.
pub(super) async fn ready() -> &'static str {
    "Prometheus Server is Ready.\n"
}
