//! `GET /api/weir/v1/slos` and `/slos/{id}`: objectives, what is left of their budgets, how fast they burn.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::routing::get;
use axum::{Json, Router};
use parking_lot::RwLock;
use serde_json::{Value, json};
use weir_model::source::{Cancel, ReadContext};
use weir_model::{AlertPhase, TenantId, Timestamp};
use weir_promql::{Engine, EngineOptions};
use weir_rules::AlertView;
use weir_slo::{Severity, Slo, Standing, Timing, consumed_query, page_times, rate_query};

use crate::App;
use crate::diagnose::ApiError;
use crate::tenant::Tenant;

/// The objectives that the rules in force were made from. Like all rules of files they belong to requests
/// without a tenant.
pub type Slos = Arc<RwLock<Arc<[Slo]>>>;

pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/weir/v1/slos", get(list)).route("/api/weir/v1/slos/{id}", get(one))
}

fn of_tenant(app: &App, tenant: &TenantId) -> Arc<[Slo]> {
    if *tenant == TenantId::anonymous() { app.slos.read().clone() } else { Arc::new([]) }
}

async fn list(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Result<Json<Value>, ApiError> {
    let slos = of_tenant(&app, &tenant);
    let alerts = app.rules.alerts(&tenant);
    let mut shown = Vec::with_capacity(slos.len());
    for slo in slos.iter() {
        shown.push(to_json(&app, &tenant, slo, &alerts).await?);
    }
    Ok(Json(json!({ "slos": shown })))
}

async fn one(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let slos = of_tenant(&app, &tenant);
    let Some(slo) = slos.iter().find(|s| s.id == id) else {
        return Err(ApiError::not_found(format!("no objective `{id}`; `/api/weir/v1/slos` lists them")));
    };
    Ok(Json(to_json(&app, &tenant, slo, &app.rules.alerts(&tenant)).await?))
}

/// The value of a query that gives one; `None` without data.
async fn number(app: &App, tenant: &TenantId, query: &str, at: Timestamp) -> Result<Option<f64>, ApiError> {
    let internal = |reason: String| ApiError(axum::http::StatusCode::INTERNAL_SERVER_ERROR, reason);
    let expr = weir_promql::parse(query).map_err(|e| internal(e.to_string()))?;
    let engine = Engine::new(EngineOptions { clock: app.clock.clone(), ..EngineOptions::default() });
    let context = ReadContext { budget: app.query_budget.clone(), cancel: Cancel::default() };
    let _stop = context.cancel.on_drop();
    let answer = engine.instant(&*app.metrics, tenant, &expr, at, &context).await;
    let value = answer.map_err(|e| internal(format!("`{query}`: {e}")))?.value;
    Ok(match value {
        weir_promql::Value::Vector(samples) => samples.first().map(|s| s.value).filter(|v| v.is_finite()),
        _ => None,
    })
}

async fn to_json(app: &App, tenant: &TenantId, slo: &Slo, alerts: &[AlertView]) -> Result<Value, ApiError> {
    let now = app.clock.now();
    let (start, end) = slo.period.bounds(now);
    let (length, elapsed) = (end.since(start), now.since(start));
    let bad = number(app, tenant, &consumed_query(slo, elapsed), now).await?;
    let bad_now = number(app, tenant, &rate_query(slo, std::time::Duration::from_secs(3600)), now).await?;
    let standing = bad.map(|bad| Standing::new(slo.objective, bad, bad_now.unwrap_or_default(), length, elapsed));
    let own: Vec<&AlertView> = alerts.iter().filter(|a| a.labels.value("slo") == slo.id).collect();
    let fires = own.iter().any(|a| matches!(a.phase, AlertPhase::Firing | AlertPhase::Unknown));
    let state = match standing {
        Some(standing) if standing.budget_left <= 0.0 => "exhausted",
        _ if fires => "burning",
        Some(_) => "ok",
        None => "unknown",
    };
    let alert = |a: &&AlertView| {
        json!({ "name": a.labels.value("alertname"), "severity": a.labels.value("severity"),
            "window": a.labels.value("long_window"), "state": a.phase, "since": a.active_at.rfc3339() })
    };
    let mut out = json!({
        "id": slo.id, "name": slo.name, "service": slo.service, "description": slo.description,
        "objective": slo.objective, "tier": slo.tier, "labels": slo.labels, "file": slo.file,
        "period": { "start": start.rfc3339(), "end": end.rfc3339() },
        "state": state,
        "alerts": own.iter().map(alert).collect::<Vec<_>>(),
        "windows": slo.burns().iter().map(|b| json!({ "severity": b.severity.as_str(), "factor": b.factor,
            "long_seconds": b.long.as_secs(), "short_seconds": b.short.as_secs(),
            "threshold": b.threshold(slo.objective) })).collect::<Vec<_>>(),
        "page_times": times(app, slo),
    });
    if let (Some(bad), Some(standing)) = (bad, standing) {
        out["error_ratio"] = bad.into();
        out["budget_left"] = standing.budget_left.into();
        out["burn_rate"] = standing.burn_rate.into();
        if let Some(left) = standing.exhausted_in {
            out["exhausted_at"] = now.plus(left).rfc3339().into();
        }
    }
    Ok(out)
}

/// By the longest scrape interval that there is, and the wait of the route that a page takes.
fn times(app: &App, slo: &Slo) -> Value {
    let config = app.alerts.config();
    let mut labels: BTreeMap<String, String> = slo.labels.clone();
    labels.extend(slo.alerts.page.labels.clone());
    for (name, value) in [("slo", &*slo.id), ("service", &*slo.service), ("severity", Severity::Page.as_str())] {
        labels.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    let routes = config.routes_of(&weir_model::Labels::from_pairs(labels));
    let wait = routes.iter().map(|idx| config.routes[*idx].group_wait).min().unwrap_or_default();
    let timing = Timing { group_wait: wait, ..Timing::default() };
    let time = |t: &weir_slo::PageTime| {
        json!({ "ratio": t.ratio, "window_seconds": t.window.map(|w| w.as_secs_f64()), "scrape_seconds": timing.scrape.as_secs_f64(),
            "evaluation_seconds": timing.evaluation.as_secs_f64(), "group_wait_seconds": wait.as_secs_f64(),
            "total_seconds": t.total.map(|t| t.as_secs_f64()) })
    };
    page_times(slo, &timing).iter().map(time).collect()
}
