//! Prometheus' target endpoints, and `/-/reload`.
//!
//! Targets belong to one tenant; others see empty lists.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_collect::{Health, TargetStatus};
use weir_model::{Labels, Matcher, TenantId, Timestamp};

use crate::App;
use crate::tenant::Tenant;

/// Reads every configuration file again; on an error the old configuration stays.
pub type Reload = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/targets", get(targets))
        .route("/api/v1/targets/metadata", get(metadata))
        .route("/api/v1/scrape_pools", get(pools))
        .route("/-/reload", post(reload).put(reload))
}

async fn reload(State(app): State<Arc<App>>) -> Response {
    match (app.reload)() {
        Ok(()) => StatusCode::OK.into_response(),
        Err(text) => (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {text}\n")).into_response(),
    }
}

fn success(data: Value) -> Response {
    Json(json!({ "status": "success", "data": data })).into_response()
}

fn bad_data(text: String) -> Response {
    let body = json!({ "status": "error", "errorType": "bad_data", "error": text });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TargetsParams {
    state: Option<String>,
    scrape_pool: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActiveTarget<'a> {
    discovered_labels: &'a Labels,
    labels: &'a Labels,
    scrape_pool: &'a str,
    scrape_url: &'a str,
    global_url: &'a str,
    last_error: &'a str,
    last_scrape: String,
    last_scrape_duration: f64,
    health: &'static str,
    scrape_interval: String,
    scrape_timeout: String,
}

fn active(status: &TargetStatus) -> Value {
    let target = &status.target;
    json!(ActiveTarget {
        discovered_labels: &target.discovered,
        labels: &target.labels,
        scrape_pool: &target.pool,
        scrape_url: &target.url,
        global_url: &target.url,
        last_error: &status.last_error,
        // Go's zero time stands for "not yet".
        last_scrape: status.last_scrape.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), Timestamp::rfc3339),
        last_scrape_duration: status.last_duration.as_secs_f64(),
        health: match status.health {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        },
        scrape_interval: weir_go::format_prometheus_duration(target.interval),
        scrape_timeout: weir_go::format_prometheus_duration(target.timeout),
    })
}

/// All targets, or none when they belong to somebody else.
fn visible(app: &App, tenant: &TenantId) -> Vec<TargetStatus> {
    if *tenant == *app.collector.tenant() { app.collector.targets() } else { Vec::new() }
}

async fn targets(State(app): State<Arc<App>>, Tenant(tenant): Tenant, Query(params): Query<TargetsParams>) -> Response {
    let state = params.state.as_deref().unwrap_or("any").to_lowercase();
    let in_pool = |pool: &str| params.scrape_pool.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == pool);
    let mut active_targets = Vec::new();
    if matches!(state.as_str(), "any" | "active" | "") {
        active_targets.extend(visible(&app, &tenant).iter().filter(|t| in_pool(&t.target.pool)).map(active));
    }
    let (mut dropped_targets, mut counts) = (Vec::new(), BTreeMap::new());
    let dropped = if tenant == *app.collector.tenant() { app.collector.dropped() } else { Vec::new() };
    for target in dropped.iter().filter(|t| in_pool(&t.pool)) {
        *counts.entry(target.pool.clone()).or_insert(0u64) += 1;
        if matches!(state.as_str(), "any" | "dropped" | "") {
            dropped_targets.push(json!({ "discoveredLabels": &target.discovered, "scrapePool": &target.pool }));
        }
    }
    success(json!({
        "activeTargets": active_targets,
        "droppedTargets": dropped_targets,
        "droppedTargetCounts": counts,
    }))
}

async fn pools(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Response {
    let pools = if tenant == *app.collector.tenant() { app.collector.pools() } else { Vec::new() };
    success(json!({ "scrapePools": pools }))
}

#[derive(Deserialize)]
struct MetadataParams {
    #[serde(default)]
    match_target: String,
    #[serde(default)]
    metric: String,
    limit: Option<usize>,
}

async fn metadata(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Query(params): Query<MetadataParams>,
) -> Response {
    let matchers = match selector(&params.match_target) {
        Ok(matchers) => matchers,
        Err(text) => return bad_data(format!("invalid parameter \"match_target\": {text}")),
    };
    let limit = params.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let mut out = Vec::new();
    for status in visible(&app, &tenant) {
        if !matchers.iter().all(|m| m.matches_labels(&status.target.labels)) {
            continue;
        }
        for (family, metadata) in status.metadata.iter() {
            if !params.metric.is_empty() && *family != params.metric {
                continue;
            }
            let mut row = json!({
                "target": &status.target.labels,
                "type": metadata.kind,
                "help": metadata.help,
                "unit": metadata.unit,
            });
            if params.metric.is_empty() {
                row["metric"] = family.as_str().into();
            }
            out.push(row);
            if out.len() >= limit {
                return success(out.into());
            }
        }
    }
    success(out.into())
}

fn selector(text: &str) -> Result<Vec<Matcher>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let expr = weir_promql::parse(text).map_err(|e| e.to_string())?;
    let selectors = weir_promql::selectors(&expr, Duration::ZERO);
    match &selectors[..] {
        [one] => Ok(one.matchers.to_vec()),
        _ => Err(format!("`{text}` is no selector")),
    }
}
