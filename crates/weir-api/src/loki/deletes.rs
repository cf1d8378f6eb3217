//! `delete`: requests to delete lines, their list, and taking them back.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use serde_json::{Value, json};
use weir_logql::Stage;
use weir_model::{LogDeletion, Nanos};

use super::ApiError;
use super::params::Params;
use crate::stores::Stores;
use crate::tenant::Tenant;

/// The request takes effect for every read that begins after the answer.
pub(super) async fn create(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let query = params.get("query").ok_or_else(|| ApiError::bad("query not set"))?;
    let expr = weir_logql::parse_log(query)?;
    // A stage that rewrites would make a request that deletes other lines than it shows.
    if expr
        .stages
        .iter()
        .any(|s| matches!(s, Stage::LineFormat(_) | Stage::LabelFormat(_) | Stage::Drop(_) | Stage::Keep(_)))
    {
        return Err(ApiError::bad(
            "invalid delete request: only a selector, filters and parsers may stand in the query",
        ));
    }
    let now = app.clock.now_nanos();
    let start = time(&params, "start")?.ok_or_else(|| ApiError::bad("start time not set"))?;
    let end = time(&params, "end")?.unwrap_or(now);
    if end > now {
        return Err(ApiError::bad("deletes in the future are not allowed"));
    }
    if start > end {
        return Err(ApiError::bad("start time can't be greater than end time"));
    }
    let id = new_id(&app, &tenant, now);
    let deletion = LogDeletion { id: id.into(), query: expr.to_string().into(), start, end, created_at: now };
    let added = app.log_deletions.add(&tenant, deletion);
    added.map_err(|e| ApiError(StatusCode::SERVICE_UNAVAILABLE, e.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// Eight hexadecimal digits, as Loki's; unique among the tenant's.
fn new_id(app: &Stores, tenant: &weir_model::TenantId, now: Nanos) -> String {
    let known = app.log_deletions.list(tenant);
    let mut seed = (now.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    loop {
        let id = format!("{:08x}", seed >> 32);
        if !known.iter().any(|d| *d.id == *id) {
            return id;
        }
        seed = seed.wrapping_add(1 << 32);
    }
}

pub(super) async fn list(State(app): State<Arc<Stores>>, Tenant(tenant): Tenant) -> Json<Value> {
    let seconds = |at: Nanos| at.0.div_euclid(1_000_000_000);
    let shown = |d: &LogDeletion| {
        // Hidden from the first moment on, so every request counts as processed.
        json!({"request_id": *d.id, "start_time": seconds(d.start), "end_time": seconds(d.end), "query": *d.query,
            "status": "processed", "created_at": seconds(d.created_at)})
    };
    Json(app.log_deletions.list(&tenant).iter().map(shown).collect())
}

pub(super) async fn cancel(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<StatusCode, ApiError> {
    let id = params.get("request_id").ok_or_else(|| ApiError::bad("request_id not set"))?;
    match app.log_deletions.cancel(&tenant, id) {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(ApiError(StatusCode::NOT_FOUND, "could not find delete request with given id".to_owned())),
        Err(error) => Err(ApiError(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

/// Unix seconds or RFC 3339; nothing else here, unlike in queries.
fn time(params: &Params, name: &str) -> Result<Option<Nanos>, ApiError> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let bad = || ApiError::bad(format!("invalid {name} time: give Unix seconds or RFC 3339, not `{text}`"));
    if let Ok(seconds) = text.parse::<i64>() {
        return seconds.checked_mul(1_000_000_000).map(|n| Some(Nanos(n))).ok_or_else(bad);
    }
    params.time(name).map_err(|_| bad())
}
