//! `/api/weir/v1/notifications` and `/api/weir/v1/alerts/history`: what was said, and what happened.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_model::TimeRange;

use crate::App;
use crate::diagnose::{ApiError, parse_time};
use crate::tenant::Tenant;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 10_000;

#[derive(Deserialize)]
struct Limits {
    start: Option<String>,
    end: Option<String>,
    limit: Option<usize>,
}

impl Limits {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX)
    }
}

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/weir/v1/notifications", get(notifications))
        .route("/api/weir/v1/alerts/history", get(history))
}

async fn notifications(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Query(query): Query<Limits>,
) -> Json<Value> {
    let sent = app.alerts.notifications(&tenant, query.limit());
    let json = |n: &weir_alert::SentNotification| {
        let mut json = json!({
            "at": n.at.rfc3339(),
            "receiver": n.receiver,
            "integration": n.integration,
            "status": if n.error.is_none() { "sent" } else { "failed" },
            "group_key": n.group_key,
            "alerts": n.n_alerts,
            "reason": n.reason,
        });
        if let Some(error) = &n.error {
            json["error"] = error.as_str().into();
        }
        json
    };
    Json(json!({ "notifications": sent.iter().map(json).collect::<Vec<_>>() }))
}

async fn history(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Query(query): Query<Limits>,
) -> Result<Json<Value>, ApiError> {
    let mut range = TimeRange::ALL;
    if let Some(start) = &query.start {
        range.start = parse_time("start", start)?;
    }
    if let Some(end) = &query.end {
        range.end = parse_time("end", end)?;
    }
    let entries = app.rules.history(&tenant, range, query.limit());
    let json = |e: &weir_rules::HistoryEntry| {
        json!({
            "at": e.at.rfc3339(),
            "phase": e.phase,
            "labels": e.labels,
            "annotations": e.annotations,
            // `null` for NaN and the infinities, which JSON does not know.
            "value": e.value,
            "fingerprint": format!("{:016x}", e.labels.fingerprint()),
        })
    };
    Ok(Json(json!({ "transitions": entries.iter().map(json).collect::<Vec<_>>() })))
}
