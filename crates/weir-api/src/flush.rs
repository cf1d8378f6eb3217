//! `POST /api/weir/v1/flush`: everything accepted so far goes from the write-ahead logs into blocks.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde_json::json;

use crate::App;
use crate::prometheus::admin::patiently;

/// Of logs and traces; an error says what could not be written.
pub type Flush = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/weir/v1/flush", post(flush))
}

async fn flush(State(app): State<Arc<App>>) -> Response {
    let metrics = patiently(app.metric_admin.clone(), |store| store.flush()).await;
    let flush = app.flush.clone();
    let others = tokio::task::spawn_blocking(move || flush()).await;
    let others = others.map_err(|e| e.to_string()).and_then(|done| done);
    match metrics.map_err(|e| e.to_string()).and(others) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error }))).into_response(),
    }
}
