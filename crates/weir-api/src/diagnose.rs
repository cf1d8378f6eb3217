//! `POST /api/v1/diagnose`: the ranked causes of any window.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_diagnose::{Cause, Question, Sources, diagnose};
use weir_model::source::{Cancel, ReadContext, ReadError};
use weir_model::{TimeRange, Timestamp};

use crate::App;
use crate::tenant::Tenant;

/// Causes in an answer at most.
const LIMIT_MAX: usize = 100;

/// An error as weir's own API gives it: `{"error":"text"}`.
pub(crate) struct ApiError(pub StatusCode, pub String);

impl ApiError {
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }
    pub fn not_found(text: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, text.into())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let status = match error {
            ReadError::Budget(_) => StatusCode::SERVICE_UNAVAILABLE,
            ReadError::Cancelled => StatusCode::REQUEST_TIMEOUT,
            ReadError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

/// RFC 3339, or seconds since 1970 with a fraction.
pub(crate) fn parse_time(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Ok(Timestamp(at.as_millisecond()));
    }
    match text.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds.abs() < 1e12 => Ok(Timestamp((seconds * 1e3) as i64)),
        _ => Err(ApiError::bad_request(format!("`{name}`: `{text}` is neither RFC 3339 nor Unix seconds"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    start: String,
    end: String,
    baseline_start: String,
    baseline_end: String,
    #[serde(default = "default_limit")]
    limit: usize,
}

fn default_limit() -> usize {
    10
}

pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/v1/diagnose", post(answer))
}

async fn answer(State(app): State<Arc<App>>, Tenant(tenant): Tenant, body: Bytes) -> Result<Json<Value>, ApiError> {
    let body: Body =
        serde_json::from_slice(&body).map_err(|e| ApiError::bad_request(format!("body of diagnose: {e}")))?;
    let range = |[from, to]: [(&str, &str); 2]| -> Result<TimeRange, ApiError> {
        let (start, end) = (parse_time(from.0, from.1)?, parse_time(to.0, to.1)?);
        if start >= end {
            return Err(ApiError::bad_request(format!("`{}` must be before `{}`", from.0, to.0)));
        }
        Ok(TimeRange::new(start, end))
    };
    let question = Question {
        tenant,
        window: range([("start", &body.start), ("end", &body.end)])?,
        baseline: range([("baseline_start", &body.baseline_start), ("baseline_end", &body.baseline_end)])?,
        limit: body.limit.min(LIMIT_MAX),
        now: app.clock.now(),
    };
    let cancel = Cancel::default();
    let guard = cancel.on_drop();
    let context = ReadContext { budget: app.query_budget.clone(), cancel };
    let found = diagnose(&sources(&app), &question, &context).await?;
    guard.disarm();
    Ok(Json(json!({ "causes": found.causes.iter().map(flat).collect::<Vec<_>>() })))
}

pub(crate) fn sources(app: &App) -> Sources {
    Sources {
        metrics: app.metrics.clone(),
        logs: app.logs.clone(),
        spans: app.spans.clone(),
        changes: app.changes.clone(),
    }
}

/// A cause with its evidence as lines of text.
fn flat(cause: &Cause) -> Value {
    let mut value = serde_json::to_value(cause).unwrap_or(Value::Null);
    value["evidence"] = cause.evidence.iter().map(|e| Value::String(e.text.clone())).collect();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc3339_or_seconds() {
        for (text, want) in
            [("2026-01-01T00:00:00.250Z", 1_767_225_600_250), ("1767225600.5", 1_767_225_600_500), ("0", 0)]
        {
            assert_eq!(parse_time("start", text).map(|t| t.0).ok(), Some(want), "{text}");
        }
        for bad in ["", "yesterday", "NaN", "1e300"] {
            assert!(parse_time("start", bad).is_err(), "{bad}");
        }
    }
}
