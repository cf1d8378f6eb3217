//! `GET /api/weir/v1/incidents` and `/incidents/{id}`.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_diagnose::{Incident, IncidentAlert, IncidentState, narrative};
use weir_model::TimeRange;

use crate::App;
use crate::changes;
use crate::diagnose::ApiError;
use crate::escalations;
use crate::tenant::Tenant;

const LIMIT_MAX: usize = 500;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/weir/v1/incidents", get(list))
        .route("/api/weir/v1/incidents/{id}", get(one))
        .route("/api/weir/v1/incidents/{id}/acknowledge", post(acknowledge))
}

#[derive(Deserialize)]
struct ListQuery {
    limit: Option<usize>,
    state: Option<String>,
}

async fn list(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    use IncidentState::{Firing, Pending, Resolved};
    let state = match query.state.as_deref() {
        None | Some("") => None,
        Some(text) => match [Pending, Firing, Resolved].into_iter().find(|s| s.as_str() == text) {
            Some(state) => Some(state),
            None => return Err(ApiError::bad_request(format!("`state`: `{text}` is not pending, firing or resolved"))),
        },
    };
    let found = app.incidents.list(&tenant, state, query.limit.unwrap_or(100).min(LIMIT_MAX));
    let incidents: Vec<Value> = found.iter().map(|i| to_json(i, 1)).collect();
    Ok(Json(json!({ "incidents": incidents })))
}

async fn one(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let found = app.incidents.get(&tenant, &id);
    let incident =
        found.ok_or_else(|| ApiError::not_found(format!("no incident `{id}`, and none with such an alert")))?;
    Ok(Json(to_json(&incident, usize::MAX)))
}

/// Bytes of a name and of a comment.
const BY_BYTES_MAX: usize = 256;
const COMMENT_BYTES_MAX: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acknowledge {
    pub by: String,
    #[serde(default)]
    pub comment: String,
}

impl Acknowledge {
    pub fn read(body: &[u8]) -> Result<Self, ApiError> {
        let read: Self = serde_json::from_slice(body)
            .map_err(|e| ApiError::bad_request(format!("body of an acknowledgement, {{\"by\", \"comment\"?}}: {e}")))?;
        read.check()
    }

    pub fn check(self) -> Result<Self, ApiError> {
        if self.by.trim().is_empty() || self.by.len() > BY_BYTES_MAX || self.comment.len() > COMMENT_BYTES_MAX {
            return Err(ApiError::bad_request(format!(
                "`by` names who is on it in 1 to {BY_BYTES_MAX} bytes; `comment` has at most {COMMENT_BYTES_MAX}"
            )));
        }
        Ok(self)
    }
}

async fn acknowledge(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let Acknowledge { by, comment } = Acknowledge::read(&body)?;
    let Some(incident) = app.incidents.acknowledge(&tenant, &id, by.clone(), comment.clone()) else {
        let error = match app.incidents.get(&tenant, &id) {
            Some(_) => ApiError(StatusCode::CONFLICT, format!("incident `{id}` is resolved already")),
            None => ApiError::not_found(format!("no incident `{id}`")),
        };
        return Err(error);
    };
    escalations::acknowledge_incident(&app, &tenant, &incident, &by, &comment).await;
    let incidents = app.incidents.clone();
    changes::written("the acknowledgement", move || incidents.flush().map_err(|e| e.to_string())).await?;
    Ok(Json(to_json(&incident, usize::MAX)))
}

fn range(range: TimeRange) -> Value {
    json!({ "start": range.start.rfc3339(), "end": range.end.rfc3339() })
}

fn alert(alert: &IncidentAlert) -> Value {
    json!({
        "fingerprint": alert.fingerprint,
        "labels": alert.labels,
        "annotations": alert.annotations,
        "phase": alert.phase,
        "active_at": alert.active_at.rfc3339(),
        "value": if alert.value.is_finite() { json!(alert.value) } else { json!(alert.value.to_string()) },
        "expr": &*alert.expr,
    })
}

fn to_json(incident: &Incident, causes_max: usize) -> Value {
    let diagnosis = &incident.diagnosis;
    let mut value = json!({
        "id": incident.id,
        "state": incident.state().as_str(),
        "title": narrative::title(incident),
        "summary": narrative::sentence(incident),
        "known": diagnosis.known,
        "confidence": diagnosis.confidence,
        "since": incident.since().rfc3339(),
        "opened_at": incident.opened_at.rfc3339(),
        "window": range(incident.window),
        "baseline": range(incident.baseline),
        "alerts": incident.alerts.iter().map(alert).collect::<Vec<_>>(),
        "causes": diagnosis.causes.iter().take(causes_max).collect::<Vec<_>>(),
        "changes": diagnosis.changes.iter().map(changes::to_json).collect::<Vec<_>>(),
        "impact": narrative::impact(incident),
        "affected": diagnosis.affected.iter().map(|s| format!("service:{s}")).collect::<Vec<_>>(),
        "timeline": incident.timeline.iter().map(|e| json!({
            "at": e.at.rfc3339(), "kind": e.kind, "text": e.text,
        })).collect::<Vec<_>>(),
        "ruled_out": diagnosis.ruled_out,
    });
    for (name, at) in [("fired_at", incident.fired_at), ("resolved_at", incident.resolved_at)] {
        if let Some(at) = at {
            value[name] = at.rfc3339().into();
        }
    }
    if let Some(ack) = &incident.acknowledged {
        value["acknowledged"] = json!({ "by": ack.by, "at": ack.at.rfc3339(), "comment": ack.comment });
    }
    value
}
