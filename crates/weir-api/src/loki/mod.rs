//! Loki's HTTP API: queries, metadata, tail. Push stands elsewhere.
//!
//! Errors are plain text. Times of log entries are strings of nanoseconds, those of metric samples
//! numbers of seconds.

mod deletes;
mod detected;
mod encode;
mod metadata;
pub(crate) mod params;
mod patterns;
mod query;
mod tail;
mod volume;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use weir_logql::{ParseError, QueryError};
use weir_model::source::ReadError;

use crate::stores::Stores;

/// The routes, with their state. The tail listens to the commit feed from now on.
pub(crate) fn router<S>(stores: &Arc<Stores>) -> Router<S> {
    let hub = tail::TailHub::subscribed(&stores.feed);
    let both = |path: &str| [format!("/loki/api/v1/{path}"), format!("/api/prom/{path}")];
    let mut router: Router<Arc<Stores>> = Router::new()
        .route("/loki/api/v1/query", get(query::instant).post(query::instant))
        .route("/loki/api/v1/query_range", get(query::range).post(query::range))
        .route("/loki/api/v1/labels", get(metadata::labels).post(metadata::labels))
        .route("/loki/api/v1/series", get(metadata::series).post(metadata::series))
        .route("/loki/api/v1/index/stats", get(metadata::stats).post(metadata::stats))
        .route("/loki/api/v1/index/volume", get(volume::instant).post(volume::instant))
        .route("/loki/api/v1/index/volume_range", get(volume::range).post(volume::range))
        .route("/loki/api/v1/detected_labels", get(detected::labels).post(detected::labels))
        .route("/loki/api/v1/detected_fields", get(detected::fields).post(detected::fields))
        .route("/loki/api/v1/detected_field/{name}/values", get(detected::values).post(detected::values))
        .route("/loki/api/v1/patterns", get(patterns::patterns).post(patterns::patterns))
        .route(
            "/loki/api/v1/delete",
            get(deletes::list).post(deletes::create).put(deletes::create).delete(deletes::cancel),
        )
        .route("/loki/api/v1/drilldown-limits", get(query::drilldown_limits))
        .route("/loki/api/v1/format_query", get(query::format).post(query::format))
        .route("/loki/api/v1/status/buildinfo", get(build_info))
        .route(
            "/loki/api/v1/tail",
            get(move |State(app): State<Arc<Stores>>, request: Request| tail::tail(app, hub.clone(), request)),
        )
        .route("/ready", get(|| async { "ready\n" }));
    for path in both("label") {
        router = router.route(&path, get(metadata::labels).post(metadata::labels));
    }
    for path in both("label/{name}/values") {
        router = router.route(&path, get(metadata::values).post(metadata::values));
    }
    router.with_state(stores.clone())
}

/// Version and the keys that clients expect beside it.
pub(crate) async fn build_info() -> Json<serde_json::Value> {
    let version = env!("CARGO_PKG_VERSION");
    Json(json!({
        "version": version, "revision": "", "branch": "", "buildUser": "", "buildDate": "", "goVersion": "",
    }))
}

/// A status and its message.
#[derive(Debug)]
pub(crate) struct ApiError(pub(crate) StatusCode, pub(crate) String);

impl ApiError {
    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, message.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let headers =
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
        (self.0, headers, format!("{}\n", self.1)).into_response()
    }
}

impl From<ParseError> for ApiError {
    fn from(error: ParseError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let status = match &error {
            ReadError::Budget(_) => StatusCode::TOO_MANY_REQUESTS,
            // What nginx made up for a client that left; nobody reads this answer.
            ReadError::Cancelled => StatusCode::from_u16(499).expect("499 is within the range of codes"),
            ReadError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
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
