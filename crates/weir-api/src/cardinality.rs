//! `GET /api/weir/v1/cardinality` and `/cardinality/metric`: how many series there are, of what, who made them, and
//! whether anybody looks at them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_ingest::cardinality::Standing;
use weir_model::{LabelCensus, MetricCensus, TenantId};
use weir_rules::Language;

use crate::App;
use crate::diagnose::ApiError;
use crate::prometheus::AskedMetrics;
use crate::tenant::Tenant;

/// Metrics of one answer.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 5_000;
/// Labels, values and targets of one metric.
const PARTS_MAX: usize = 20;
/// Of a metric with more series, every n-th is looked at: counting must not hold up those who write.
const SEEN_MAX: u64 = 200_000;

pub fn router(asked: Arc<AskedMetrics>) -> Router<Arc<App>> {
    Router::new()
        .route("/api/weir/v1/cardinality", get(list))
        .route("/api/weir/v1/cardinality/metric", get(one))
        .layer(Extension(asked))
}

#[derive(Deserialize)]
struct ListQuery {
    /// Part of the metric's name.
    #[serde(default)]
    search: String,
    limit: Option<usize>,
    /// Only metrics that no rule and no query of this run looked at.
    #[serde(default)]
    unused: bool,
}

async fn list(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Arc<AskedMetrics>>,
    Tenant(tenant): Tenant,
    Query(query): Query<ListQuery>,
) -> Result<Json<Value>, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if limit > LIMIT_MAX {
        return Err(ApiError::bad_request(format!("`limit` {limit}: at most {LIMIT_MAX}")));
    }
    let by_rules = used_by_rules(&app, &tenant);
    let all = app.gate.metrics(&tenant);
    let n_series: u64 = all.iter().map(|(_, n, _)| n).sum();
    let n_metrics = all.len();
    let mut n_unused = (0u64, 0u64);
    let mut shown = Vec::new();
    let mut n_matching = 0;
    for (name, series, grown) in all {
        let rules = by_rules.get(&*name).map_or(0, BTreeSet::len);
        let queried_at = asked.last(&tenant, &name);
        let is_unused = rules == 0 && queried_at.is_none();
        if is_unused {
            n_unused = (n_unused.0 + 1, n_unused.1 + series);
        }
        if !name.contains(&query.search) || query.unused && !is_unused {
            continue;
        }
        n_matching += 1;
        if shown.len() < limit {
            shown.push(json!({
                "name": &*name,
                "series": series,
                "grown": grown.map(|g| json!({ "by": g.by, "since": g.since.rfc3339() })),
                "rules": rules,
                "queried_at": queried_at.map(|at| at.rfc3339()),
            }));
        }
    }
    let budgets: Vec<Value> = app.gate.standings().iter().filter(|s| s.tenant == tenant).map(standing).collect();
    Ok(Json(json!({
        "series": n_series,
        "n_metrics": n_metrics,
        "n_matching": n_matching,
        "unused": { "metrics": n_unused.0, "series": n_unused.1, "since": app.started_at.rfc3339() },
        "budgets": budgets,
        "metrics": shown,
    })))
}

fn standing(one: &Standing) -> Value {
    let culprit = &one.culprit;
    json!({
        "budget": &*one.budget,
        "action": one.action.as_str(),
        "metric": one.metric.as_deref(),
        "series": one.n_series,
        "max_series": one.series_max,
        "used_ratio": one.used_ratio(),
        "culprit": {
            "metric": &*culprit.metric,
            "label": culprit.label.as_ref().map(label),
            "target": culprit.target.as_ref().map(|t| json!({
                "job": &*t.job, "instance": &*t.instance, "series": t.n_series,
            })),
        },
        "folded_labels": one.folded_labels.iter().map(|l| &**l).collect::<Vec<_>>(),
        "hidden_series": one.n_hidden,
        "samples": { "folded": one.n_folded, "dropped": one.n_dropped, "refused": one.n_refused },
        "example": one.example,
    })
}

fn label(label: &LabelCensus) -> Value {
    let values: Vec<Value> = label.values.iter().map(|(value, n)| json!({ "value": &**value, "series": n })).collect();
    json!({ "name": &*label.name, "n_values": label.n_values, "values": values })
}

#[derive(Deserialize)]
struct OneQuery {
    name: String,
}

async fn one(
    State(app): State<Arc<App>>,
    Extension(asked): Extension<Arc<AskedMetrics>>,
    Tenant(tenant): Tenant,
    Query(query): Query<OneQuery>,
) -> Result<Json<Value>, ApiError> {
    let (gate, of, name) = (app.gate.clone(), tenant.clone(), query.name.clone());
    let census = tokio::task::spawn_blocking(move || gate.census().metric(&of, &name, SEEN_MAX, PARTS_MAX)).await;
    let census: MetricCensus = census
        .map_err(|e| ApiError(axum::http::StatusCode::INTERNAL_SERVER_ERROR, format!("counting ended early: {e}")))?;
    if census.n_series == 0 {
        let reason =
            format!("no series of `{}` brought samples lately; `/api/weir/v1/cardinality` lists metrics", query.name);
        return Err(ApiError::not_found(reason));
    }
    let rules = used_by_rules(&app, &tenant).remove(&query.name).unwrap_or_default();
    let targets: Vec<Value> = census
        .targets
        .iter()
        .map(|t| json!({ "job": &*t.job, "instance": &*t.instance, "series": t.n_series }))
        .collect();
    Ok(Json(json!({
        "name": query.name,
        "series": census.n_series,
        "series_looked_at": census.n_seen,
        "labels": census.labels.iter().map(label).collect::<Vec<_>>(),
        "targets": targets,
        "rules": rules,
        "queried_at": asked.last(&tenant, &query.name).map(|at| at.rfc3339()),
    })))
}

/// Rules by the metrics that they name.
fn used_by_rules(app: &App, tenant: &TenantId) -> BTreeMap<String, BTreeSet<String>> {
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for group in app.rules.groups(tenant).iter().filter(|g| g.language == Language::Promql) {
        for rule in &group.rules {
            let Ok(expr) = weir_promql::parse(&rule.query) else { continue };
            for metric in expr.metrics_used() {
                used.entry(metric.to_owned()).or_default().insert(rule.name.clone());
            }
        }
    }
    used
}
