//! `/api/weir/v1/escalations`: pages, how far they have come, who acknowledged; and what they cost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_alert::{Counted, Outcome, Page, Recipient, Told, Which, figures};
use weir_diagnose::Incident;
use weir_model::{TenantId, TimeRange};

use crate::App;
use crate::changes;
use crate::diagnose::{ApiError, parse_time};
use crate::incidents::Acknowledge;
use crate::tenant::Tenant;

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 5000;
/// Figures are of so many seconds when nothing is said.
const FIGURES_SECONDS: u64 = 28 * 24 * 3600;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/weir/v1/escalations", get(list))
        .route("/api/weir/v1/escalations/figures", get(cost))
        .route("/api/weir/v1/escalations/{id}", get(one))
        .route("/api/weir/v1/escalations/{id}/acknowledge", post(acknowledge))
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
    let wanted: fn(&Page) -> bool = match query.state.as_deref() {
        None | Some("") => |_| true,
        Some("open") => |p| p.state.is_open(),
        Some("over") => |p| !p.state.is_open(),
        Some(other) => return Err(ApiError::bad_request(format!("`state`: `{other}` is neither open nor over"))),
    };
    let pages = app.oncall.pages(&tenant);
    let shown = pages.iter().filter(|p| wanted(p)).take(query.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX));
    Ok(Json(json!({ "escalations": shown.map(|p| to_json(&app, p)).collect::<Vec<_>>() })))
}

fn unknown(id: &str) -> ApiError {
    ApiError::not_found(format!("no page `{id}`; `/api/weir/v1/escalations` lists them"))
}

async fn one(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let page = app.oncall.page(&tenant, &id).ok_or_else(|| unknown(&id))?;
    Ok(Json(to_json(&app, &page)))
}

async fn acknowledge(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let ack = Acknowledge::read(&body)?;
    let page = app.oncall.page(&tenant, &id).ok_or_else(|| unknown(&id))?;
    if !page.state.is_open() {
        return Err(ApiError(StatusCode::CONFLICT, format!("page `{id}` is over already")));
    }
    let page = acknowledge_page(&app, &tenant, page, ack).await?;
    Ok(Json(to_json(&app, &page)))
}

/// The page, and the incidents of its alerts.
pub(crate) async fn acknowledge_page(
    app: &App,
    tenant: &TenantId,
    page: Page,
    ack: Acknowledge,
) -> Result<Page, ApiError> {
    app.oncall.acknowledge(tenant, Which::Page(page.id.clone()), &ack.by, &ack.comment).await;
    let mut incidents: BTreeSet<String> = BTreeSet::new();
    for labels in &page.members {
        incidents.extend(app.incidents.get(tenant, &format!("{:016x}", labels.fingerprint())).map(|i| i.id));
    }
    for id in incidents {
        app.incidents.acknowledge(tenant, &id, ack.by.clone(), ack.comment.clone());
    }
    let incidents = app.incidents.clone();
    changes::written("the acknowledgement", move || incidents.flush().map_err(|e| e.to_string())).await?;
    Ok(app.oncall.page(tenant, &page.id).unwrap_or(page))
}

/// Pages of the alerts of an incident that somebody is on.
pub(crate) async fn acknowledge_incident(app: &App, tenant: &TenantId, incident: &Incident, by: &str, comment: &str) {
    let fingerprints = incident.alerts.iter().filter_map(|a| u64::from_str_radix(&a.fingerprint, 16).ok());
    app.oncall.acknowledge(tenant, Which::Alerts(fingerprints.collect()), by, comment).await;
}

fn to_json(app: &App, page: &Page) -> Value {
    let config = app.oncall.config();
    let mut value = json!({
        "id": page.id,
        "rule": page.rule,
        "title": page.title,
        "state": page.state.as_str(),
        "chain": page.chain,
        "started_at": page.started_at.rfc3339(),
        "step": page.step.map(|step| step + 1),
        "steps": config.chain(&page.chain).map_or(0, |c| c.steps.len()),
        "round": page.round + 1,
        "exhausted": page.exhausted,
        "told": page.told.iter().map(told).collect::<Vec<_>>(),
        "notes": page.notes,
        "alerts": page.members.iter().map(|labels| json!({
            "fingerprint": format!("{:016x}", labels.fingerprint()), "labels": labels,
        })).collect::<Vec<_>>(),
    });
    if let Some(tier) = &page.tier {
        value["tier"] = tier.as_str().into();
    }
    for (name, at) in [("next_at", page.next_at), ("ended_at", page.ended_at)] {
        if let Some(at) = at {
            value[name] = at.rfc3339().into();
        }
    }
    if let Some(ack) = &page.acknowledged {
        value["acknowledged"] = json!({ "by": ack.by, "at": ack.at.rfc3339(), "comment": ack.comment });
    }
    value
}

fn told(told: &Told) -> Value {
    let mut value = match &told.to {
        Recipient::Person { person, channel } => json!({ "person": person, "channel": channel }),
        Recipient::Receiver(receiver) => json!({ "receiver": receiver }),
    };
    let (state, at, error) = match &told.outcome {
        Outcome::UnderWay => ("under_way", None, None),
        Outcome::Sent(at) => ("sent", Some(at), None),
        Outcome::Failed(at, error) => ("failed", Some(at), Some(error)),
        Outcome::Stopped => ("stopped", None, None),
    };
    value["step"] = (told.step + 1).into();
    value["round"] = (told.round + 1).into();
    value["at"] = told.at.rfc3339().into();
    value["state"] = state.into();
    if let Some(at) = at {
        value["answered_at"] = at.rfc3339().into();
    }
    if let Some(error) = error {
        value["error"] = error.as_str().into();
    }
    value
}

#[derive(Deserialize)]
struct RangeQuery {
    start: Option<String>,
    end: Option<String>,
}

async fn cost(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Query(query): Query<RangeQuery>,
) -> Result<Json<Value>, ApiError> {
    let now = app.clock.now();
    let end = query.end.as_deref().map_or(Ok(now), |t| parse_time("end", t))?;
    let default = end.minus(std::time::Duration::from_secs(FIGURES_SECONDS));
    let start = query.start.as_deref().map_or(Ok(default), |t| parse_time("start", t))?;
    if start > end {
        return Err(ApiError::bad_request("`start` must not be after `end`"));
    }
    let (pages, config) = (app.oncall.pages(&tenant), app.oncall.config());
    let found = figures(pages.iter(), TimeRange::new(start, end), config.night, &config.zone);
    let table = |rows: &BTreeMap<String, Counted>| {
        let row = |(name, counted): (&String, &Counted)| {
            let mut row = counted_json(counted);
            row["name"] = name.as_str().into();
            row
        };
        rows.iter().map(row).collect::<Vec<_>>()
    };
    Ok(Json(json!({
        "start": start.rfc3339(), "end": end.rfc3339(),
        "all": counted_json(&found.all),
        "by_rule": table(&found.by_rule),
        "by_person": table(&found.by_person),
        "by_night": table(&found.by_night),
    })))
}

fn counted_json(counted: &Counted) -> Value {
    json!({
        "pages": counted.pages,
        "acknowledged": counted.acknowledged,
        "exhausted": counted.exhausted,
        "at_night": counted.at_night,
        "acted_upon": counted.acted_upon(),
        "mtta_seconds": counted.mtta().map(|d| d.as_secs_f64()),
        "mttr_seconds": counted.mttr().map(|d| d.as_secs_f64()),
    })
}
