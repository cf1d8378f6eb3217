//! Tempo's HTTP API: traces by id, search, tags, metrics from spans.
//!
//! Answers are proto-JSON: 64-bit integers as strings, zero values left out, ids inside traces in
//! base64 and those of search answers in hexadecimal.

mod encode;
mod metrics;
mod search;
mod tags;
mod trace;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use weir_model::source::{Cancel, ReadContext, ReadError};
use weir_traceql::{ParseError, QueryError};

use crate::loki::{ApiError, build_info};
use crate::stores::Stores;

/// The routes, with their state.
pub(crate) fn router<S>(stores: &Arc<Stores>) -> Router<S> {
    let router: Router<Arc<Stores>> = Router::new()
        .route("/api/traces/{id}", get(trace::v1))
        .route("/api/v2/traces/{id}", get(trace::v2))
        .route("/api/search", get(search::search))
        .route("/api/search/tags", get(tags::names_v1))
        .route("/api/v2/search/tags", get(tags::names_v2))
        // A tag's name may hold slashes, so the rest of the path is taken and `/values` cut off.
        .route("/api/search/tag/{*rest}", get(tags::values_v1))
        .route("/api/v2/search/tag/{*rest}", get(tags::values_v2))
        .route("/api/metrics/query_range", get(metrics::range))
        .route("/api/metrics/query", get(metrics::instant))
        .route("/api/echo", get(|| async { "echo" }))
        .route("/api/status/buildinfo", get(build_info));
    router.with_state(stores.clone())
}

impl From<ParseError> for ApiError {
    fn from(error: ParseError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Read(error) => error.into(),
            other => Self::bad(other.to_string()),
        }
    }
}

/// Opens on this task, runs on a thread for CPU work; a dropped request cancels the run.
async fn run<T, E, Open, Opened, Run>(stores: &Arc<Stores>, open: Open) -> Result<T, ApiError>
where
    Open: FnOnce(Arc<Stores>, ReadContext) -> Opened,
    Opened: Future<Output = Result<Run, E>>,
    Run: FnOnce() -> Result<T, E> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
    ApiError: From<E>,
{
    let cancel = Cancel::default();
    let _on_drop = cancel.on_drop();
    let context = ReadContext { budget: stores.query_budget.clone(), cancel };
    let work = open(stores.clone(), context).await?;
    let joined = tokio::task::spawn_blocking(work).await;
    let result = joined.map_err(|_| ApiError(StatusCode::INTERNAL_SERVER_ERROR, "the query crashed".to_owned()))?;
    Ok(result?)
}

/// A read without a query engine around it.
type Read<T> = Result<T, ReadError>;
