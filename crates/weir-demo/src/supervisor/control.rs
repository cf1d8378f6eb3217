//! The demo's own HTTP: what `weir serve --demo-control` forwards to, and the pager's endpoint.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;

use super::Demo;
use super::fault::Fault;
use crate::error::DemoError;
use crate::metrics::now_ms;
use crate::pager::{self, Pager};

/// PagerDuty refuses larger bodies.
const BODY_BYTES_MAX: usize = 512_000;

/// The demo comes into being after its server, since weir wants the address first.
#[derive(Clone)]
pub(crate) struct Door {
    pub pager: Arc<Pager>,
    pub demo: Arc<Mutex<Option<Arc<Demo>>>>,
}

pub(crate) fn router(door: Door) -> Router {
    Router::new()
        .route("/demo", get(list))
        .route("/demo/faults/{id}/break", post(break_it))
        .route("/demo/faults/{id}/heal", post(heal))
        .route("/v2/enqueue", post(enqueue))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(door)
}

async fn list(State(door): State<Door>) -> Response {
    let demo = door.demo.lock().clone();
    let faults = demo.map(|d| d.faults()).unwrap_or_default();
    Json(json!({"faults": faults, "pages": door.pager.pages()})).into_response()
}

#[derive(Deserialize)]
struct Where {
    partition: Option<i32>,
}

async fn break_it(State(door): State<Door>, Path(id): Path<String>, Query(place): Query<Where>) -> Response {
    let (demo, fault) = match find(&door, &id) {
        Ok(found) => found,
        Err(error) => return refuse(&error),
    };
    // The work goes on when the caller hangs up: a half-done deployment is nobody's wish.
    let task = tokio::spawn(async move { demo.break_it(fault, place.partition).await.map(|_| ()) });
    answer(task.await)
}

async fn heal(State(door): State<Door>, Path(id): Path<String>) -> Response {
    let (demo, fault) = match find(&door, &id) {
        Ok(found) => found,
        Err(error) => return refuse(&error),
    };
    let task = tokio::spawn(async move { demo.heal(fault).await });
    answer(task.await)
}

fn find(door: &Door, id: &str) -> Result<(Arc<Demo>, Fault), DemoError> {
    let fault = Fault::parse(id).ok_or_else(|| DemoError::NoSuchFault { id: id.to_owned() })?;
    let demo = door.demo.lock().clone();
    let demo = demo.ok_or_else(|| DemoError::NotNow { id: id.to_owned(), why: "the demo is still starting".into() })?;
    Ok((demo, fault))
}

fn answer(result: Result<Result<(), DemoError>, tokio::task::JoinError>) -> Response {
    match result.map_err(DemoError::from).and_then(|inner| inner) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &DemoError) -> Response {
    let status = match error {
        DemoError::NoSuchFault { .. } => StatusCode::NOT_FOUND,
        DemoError::NotNow { .. } => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(json!({"error": error.chain()}))).into_response()
}

async fn enqueue(State(door): State<Door>, body: Bytes) -> Response {
    let result = door.pager.take(&body, now_ms());
    if let Err(errors) = &result {
        tracing::warn!(?errors, "the pager refused an event");
    }
    let (status, body) = pager::answer(&result);
    (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), Json(body)).into_response()
}
