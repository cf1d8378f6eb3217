//! The query part of Prometheus' HTTP API: queries, series and labels, metadata, status.
//!
//! Shapes and wording follow Prometheus 3 `web/api/v1`; rules, alerts and writing live elsewhere.

pub(crate) mod admin;
mod answer;
mod asked;
mod federate;
mod params;
mod query;
mod remote_read;
mod series;
mod status;
mod syntax;
#[cfg(test)]
mod tests;
mod xor;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use parking_lot::RwLock;
use tokio::sync::Semaphore;
use weir_model::source::{Cancel, MetricSource, ReadContext};
use weir_model::{Budget, Clock, Timestamp};
use weir_promql::{Engine, EngineOptions};

pub(crate) use asked::AskedMetrics;

use answer::ApiError;

/// Queries evaluated at once; further ones wait (Prometheus' `query.max-concurrency`).
const CONCURRENCY_MAX: usize = 20;

/// The scrape configuration in force as `status/config` shows it: YAML without secrets.
pub type ShownConfig = Arc<RwLock<Arc<str>>>;

/// What the handlers of this surface share.
pub struct Prometheus {
    clock: Arc<dyn Clock>,
    metrics: Arc<dyn MetricSource>,
    budget: Budget,
    engine: Engine,
    permits: Semaphore,
    external_url: String,
    config: ShownConfig,
    started_at: Timestamp,
    asked: Arc<AskedMetrics>,
}

impl Prometheus {
    pub fn new(
        clock: Arc<dyn Clock>,
        metrics: Arc<dyn MetricSource>,
        budget: Budget,
        external_url: String,
        config: ShownConfig,
    ) -> Self {
        let engine = Engine::new(EngineOptions { clock: clock.clone(), ..EngineOptions::default() });
        let started_at = clock.now();
        let (permits, asked) = (Semaphore::new(CONCURRENCY_MAX), Arc::default());
        Self { clock, metrics, budget, engine, permits, external_url, config, started_at, asked }
    }

    /// What queries ask for, as it goes on.
    pub fn asked(&self) -> Arc<AskedMetrics> {
        self.asked.clone()
    }

    fn read_context(&self) -> ReadContext {
        ReadContext { budget: self.budget.clone(), cancel: Cancel::default() }
    }

    /// Runs what computes for long off the async threads.
    async fn compute<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let task = tokio::task::spawn_blocking(work).await;
        task.unwrap_or_else(|error| Err(ApiError::Internal(format!("query failed: {error}"))))
    }
}

pub fn router<S: Clone + Send + Sync + 'static>(prometheus: Arc<Prometheus>) -> Router<S> {
    Router::new()
        .route("/api/v1/query", get(query::instant).post(query::instant))
        .route("/api/v1/query_range", get(query::range).post(query::range))
        .route("/api/v1/query_exemplars", get(series::exemplars).post(series::exemplars))
        .route("/api/v1/series", get(series::series).post(series::series))
        .route("/api/v1/labels", get(series::labels).post(series::labels))
        .route("/api/v1/label/{name}/values", get(series::label_values))
        .route("/api/v1/metadata", get(series::metadata))
        .route("/api/v1/format_query", get(syntax::format).post(syntax::format))
        .route("/api/v1/parse_query", get(syntax::parse).post(syntax::parse))
        .route("/api/v1/status/buildinfo", get(status::buildinfo))
        .route("/api/v1/status/runtimeinfo", get(status::runtimeinfo))
        .route("/api/v1/status/config", get(status::config))
        .route("/api/v1/status/flags", get(status::flags))
        .route("/api/v1/read", post(remote_read::read))
        .route("/federate", get(federate::federate))
        .route("/-/healthy", get(status::healthy))
        .route("/-/ready", get(status::ready))
        .with_state(prometheus)
}
