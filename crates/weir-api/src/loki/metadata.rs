//! Labels, values, series, statistics of the index.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use serde_json::{Value, json};
use weir_model::source::LogStats;
use weir_model::{Labels, Matcher, Nanos, TenantId};

use super::ApiError;
use super::params::Params;
use crate::stores::Stores;
use crate::tenant::Tenant;

/// Metadata looks back six hours by default, as Loki does.
const DEFAULT_NANOS: i64 = 6 * 3600 * 1_000_000_000;

/// A selector, or the selector of a log query; nothing selects every stream.
pub(super) fn matchers(query: Option<&str>) -> Result<Vec<Matcher>, ApiError> {
    match query.map(str::trim) {
        None | Some("" | "{}") => Ok(Vec::new()),
        Some(text) => match weir_logql::parse_selector(text) {
            Ok(matchers) => Ok(matchers),
            // Drilldown sends whole queries; their pipeline plays no part here.
            Err(_) => Ok(weir_logql::parse_log(text)?.matchers),
        },
    }
}

pub(super) async fn streams(
    app: &Stores,
    tenant: &TenantId,
    params: &Params,
    default_nanos: i64,
) -> Result<(Vec<(Labels, LogStats)>, Nanos, Nanos), ApiError> {
    let (start, end) = params.range(&*app.clock, default_nanos)?;
    let matchers = matchers(params.get("query"))?;
    Ok((app.logs.streams(tenant, &matchers, start, end).await?, start, end))
}

fn success(data: impl serde::Serialize) -> Json<Value> {
    Json(json!({"status": "success", "data": data}))
}

pub(super) async fn labels(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let (streams, ..) = streams(&app, &tenant, &params, DEFAULT_NANOS).await?;
    let names: BTreeSet<&str> = streams.iter().flat_map(|(labels, _)| labels.iter().map(|l| &*l.name)).collect();
    Ok(success(names))
}

pub(super) async fn values(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let (streams, ..) = streams(&app, &tenant, &params, DEFAULT_NANOS).await?;
    let values: BTreeSet<&str> = streams.iter().filter_map(|(labels, _)| labels.get(&name)).collect();
    Ok(success(values))
}

pub(super) async fn series(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let (start, end) = params.range(&*app.clock, DEFAULT_NANOS)?;
    let mut selectors: Vec<&str> = params.all("match[]").chain(params.all("match")).filter(|s| !s.is_empty()).collect();
    if selectors.is_empty() {
        selectors.push("{}");
    }
    let mut found: BTreeSet<Labels> = BTreeSet::new();
    for selector in selectors {
        let streams = app.logs.streams(&tenant, &matchers(Some(selector))?, start, end).await?;
        found.extend(streams.into_iter().map(|(labels, _)| labels));
    }
    Ok(success(found))
}

/// Bare, without an envelope.
pub(super) async fn stats(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    params.required("query")?;
    let (streams, ..) = streams(&app, &tenant, &params, 3600 * 1_000_000_000).await?;
    let total = streams.iter().fold(LogStats::default(), |mut total, (_, one)| {
        total.entries += one.entries;
        total.bytes += one.bytes;
        total
    });
    // A stream in memory is one chunk.
    let n = streams.len();
    Ok(Json(json!({"streams": n, "chunks": n, "bytes": total.bytes, "entries": total.entries})))
}
