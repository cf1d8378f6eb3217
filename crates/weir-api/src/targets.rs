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
use weir_collect::{DroppedTarget, Health, RelabelConfig, TargetStatus};
use weir_model::{Labels, Matcher, TenantId, Timestamp};

use crate::App;
use crate::tenant::Tenant;

/// Reads every configuration file again; on an error the old configuration stays.
pub type Reload = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/targets", get(targets))
        .route("/api/v1/targets/metadata", get(metadata))
        .route("/api/v1/targets/relabel_steps", get(relabel_steps))
        .route("/api/v1/scrape_pools", get(pools))
        .route("/api/weir/v1/relabel", post(explain_relabel))
        .route("/api/weir/v1/discovery", get(discovery))
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
    for pool in dropped.iter().filter(|p| in_pool(&p.pool)) {
        counts.insert(pool.pool.clone(), pool.n_dropped);
        if matches!(state.as_str(), "any" | "dropped" | "") {
            let row =
                |target: &DroppedTarget| json!({ "discoveredLabels": &target.discovered, "scrapePool": &target.pool });
            dropped_targets.extend(pool.targets.iter().map(row));
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
#[serde(rename_all = "camelCase")]
struct StepsParams {
    #[serde(default)]
    scrape_pool: String,
    /// Labels before relabelling, as a JSON object.
    #[serde(default)]
    labels: String,
}

/// What each step of a pool's `relabel_configs` makes of a target.
async fn relabel_steps(
    State(app): State<Arc<App>>,
    Tenant(tenant): Tenant,
    Query(params): Query<StepsParams>,
) -> Response {
    let labels: BTreeMap<String, String> = match serde_json::from_str(&params.labels) {
        Ok(labels) => labels,
        Err(error) => return bad_data(format!("invalid parameter \"labels\": {error}")),
    };
    let is_owner = tenant == *app.collector.tenant();
    let Some(steps) = app.collector.relabel_configs(&params.scrape_pool).filter(|_| is_owner) else {
        return bad_data(format!("no scrape pool is named `{}`", params.scrape_pool));
    };
    success(json!({ "steps": steps_json(&Labels::from_pairs(labels), &steps) }))
}

#[derive(Deserialize)]
struct ExplainRequest {
    labels: BTreeMap<String, String>,
    /// Steps in YAML, such as the value of `relabel_configs`.
    config: String,
}

/// The same for steps that are not in use yet.
async fn explain_relabel(Json(request): Json<ExplainRequest>) -> Response {
    match weir_collect::parse_relabel(&request.config) {
        Ok(steps) => Json(json!({ "steps": steps_json(&Labels::from_pairs(request.labels), &steps) })).into_response(),
        Err(text) => (StatusCode::BAD_REQUEST, Json(json!({ "error": format!("config: {text}") }))).into_response(),
    }
}

fn steps_json(labels: &Labels, configs: &[RelabelConfig]) -> Vec<Value> {
    let step = |step: weir_collect::RelabelStep<'_>| {
        let rule: serde_json::Map<String, Value> =
            step.config.describe().into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect();
        json!({ "rule": rule, "output": step.after, "keep": step.after.is_some() })
    };
    weir_collect::explain(labels, configs).into_iter().map(step).collect()
}

/// Sources of targets, and how their last attempt went.
async fn discovery(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Response {
    let rows = if tenant == *app.collector.tenant() { app.collector.discovery() } else { Vec::new() };
    let row = |row: weir_collect::DiscoveryStatus| {
        json!({
            "pool": row.pool,
            "kind": row.kind,
            "groups": row.n_groups,
            "targets": row.n_targets,
            "last_error": row.last_error,
        })
    };
    Json(json!({ "sources": rows.into_iter().map(row).collect::<Vec<_>>() })).into_response()
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
