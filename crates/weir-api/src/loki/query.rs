//! `query`, `query_range` and `format_query`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use weir_logql::{
    Engine, Expr, LogParams, LogResult, LogStream, MetricExpr, MetricParams, MetricResult, MetricValue, QueryError,
};
use weir_model::source::{Cancel, Direction, ReadContext};
use weir_model::{Nanos, TenantId};

use super::params::Params;
use super::{ApiError, encode};
use crate::stores::Stores;
use crate::tenant::Tenant;

/// Loki's defaults: `max_entries_limit_per_query`, `max_query_length`, steps of one query.
const ENTRIES_MAX: usize = 5000;
const RANGE_NANOS_MAX: i64 = 721 * 3600 * 1_000_000_000;
const STEPS_MAX: i64 = 11_000;
const HOUR_NANOS: i64 = 3600 * 1_000_000_000;

pub(super) async fn range(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, ApiError> {
    let (start, end) = params.range(&*app.clock, HOUR_NANOS)?;
    if end.0.saturating_sub(start.0) > RANGE_NANOS_MAX {
        let text = "the query time range exceeds the limit (query length: more than 721h, limit: 30d1h)";
        return Err(ApiError::bad(text));
    }
    match weir_logql::parse(params.required("query")?)? {
        Expr::Log(expr) => {
            let limit = entries_limit(&params)?;
            let log = LogParams { start, end, limit, direction: direction(&params)? };
            let started = app.clock.now_nanos();
            let result = run(&app, |engine, app, context| async move {
                let open = engine.open_log(&*app.logs, &tenant, expr, log, &context).await?;
                Ok(move || open.run())
            })
            .await?;
            let interval = params.duration("interval")?.unwrap_or(0);
            Ok(log_answer(sparse(result, interval), wants_categories(&headers), elapsed(&app, started)))
        }
        Expr::Metric(expr) => {
            let step_nanos = step(&params, start, end)?;
            let metric = MetricParams { start, end, step_nanos };
            metric_answer(&app, tenant, expr, metric, false).await
        }
    }
}

pub(super) async fn instant(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Response, ApiError> {
    let at = params.time("time")?.unwrap_or_else(|| app.clock.now_nanos());
    match weir_logql::parse(params.required("query")?)? {
        Expr::Log(_) => Err(ApiError::bad(
            "log queries are not supported as an instant query type, please change your query to a range query type",
        )),
        Expr::Metric(expr) => metric_answer(&app, tenant, expr, MetricParams::instant(at), true).await,
    }
}

pub(super) async fn format(params: Params) -> Response {
    let answer =
        params.required("query").map_err(|e| e.1).and_then(|q| weir_logql::parse(q).map_err(|e| e.to_string()));
    match answer {
        Ok(expr) => Json(json!({"status": "success", "data": expr.to_string()})).into_response(),
        Err(error) => {
            (StatusCode::BAD_REQUEST, Json(json!({"status": "invalid-query", "error": error}))).into_response()
        }
    }
}

/// What the Drilldown app asks before it offers anything.
pub(super) async fn drilldown_limits() -> Json<serde_json::Value> {
    let limits = json!({
        "discover_log_levels": true, "discover_service_name": true, "log_level_fields": ["level", "severity"],
        "max_entries_limit_per_query": ENTRIES_MAX, "max_query_length": "30d1h", "metric_aggregation_enabled": false,
        "max_query_series": Engine::default().series_max, "pattern_persistence_enabled": false, "query_timeout": "1m",
        "retention_period": "0s", "volume_enabled": true, "volume_max_series": 1000,
    });
    Json(json!({"limits": limits, "pattern_ingester_enabled": true, "version": env!("CARGO_PKG_VERSION"),
        "maxDetectedFields": 1000, "maxDetectedValues": 1000, "maxLabelValues": 1000, "maxLinesPerQuery": ENTRIES_MAX}))
}

/// Opens on this task, runs on a thread for CPU work; a dropped request cancels the run.
pub(super) async fn run<T, Open, Opened, Run>(app: &Arc<Stores>, open: Open) -> Result<T, ApiError>
where
    Open: FnOnce(Engine, Arc<Stores>, ReadContext) -> Opened,
    Opened: Future<Output = Result<Run, QueryError>>,
    Run: FnOnce() -> Result<T, QueryError> + Send + 'static,
    T: Send + 'static,
{
    let cancel = Cancel::default();
    let _on_drop = cancel.on_drop();
    let context = ReadContext { budget: app.query_budget.clone(), cancel };
    let work = open(Engine { now: app.clock.now_nanos(), ..Engine::default() }, app.clone(), context).await?;
    let joined = tokio::task::spawn_blocking(work).await;
    let result = joined.map_err(|_| ApiError(StatusCode::INTERNAL_SERVER_ERROR, "the query crashed".to_owned()))?;
    Ok(result?)
}

pub(super) async fn run_log(
    app: &Arc<Stores>,
    tenant: TenantId,
    expr: weir_logql::LogExpr,
    params: LogParams,
) -> Result<LogResult, ApiError> {
    run(app, |engine, app, context| async move {
        let open = engine.open_log(&*app.logs, &tenant, expr, params, &context).await?;
        Ok(move || open.run())
    })
    .await
}

async fn metric_answer(
    app: &Arc<Stores>,
    tenant: TenantId,
    expr: MetricExpr,
    params: MetricParams,
    instant: bool,
) -> Result<Response, ApiError> {
    let started = app.clock.now_nanos();
    let MetricResult { value, statistics } = run(app, |engine, app, context| async move {
        let open = engine.open_metric(&*app.logs, &tenant, expr, params, &context).await?;
        Ok(move || open.run())
    })
    .await?;
    let exec_seconds = elapsed(app, started);
    let (kind, result, n) = match value {
        MetricValue::Scalar(value) if instant => {
            ("scalar", json!([encode::seconds(params.start), weir_go::format_f(value)]), 1)
        }
        // A number over a range is one series of it.
        MetricValue::Scalar(value) => {
            let steps = (params.end.0 - params.start.0) / params.step_nanos.max(1);
            let samples = (0..=steps).map(|i| (Nanos(params.start.0 + i * params.step_nanos), value)).collect();
            let series = weir_logql::MetricSeries { labels: weir_model::Labels::empty(), samples };
            ("matrix", json!(encode::matrix(&[series])), 1)
        }
        MetricValue::Series(series) if instant => ("vector", json!(encode::vector(&series)), series.len()),
        MetricValue::Series(series) => ("matrix", json!(encode::matrix(&series)), series.len()),
    };
    let stats = encode::stats(&statistics, exec_seconds, n);
    let data = json!({"resultType": kind, "result": result, "stats": stats});
    let mut answer = json!({"status": "success", "data": data});
    if statistics.lines_weighted > 0 {
        answer["warnings"] = json!([sampled(statistics.lines_weighted)]);
    }
    Ok(Json(answer).into_response())
}

/// What a query over sampled lines is told.
fn sampled(lines: u64) -> String {
    format!(
        "lines of this range were sampled at ingest: {lines} that were kept stand for others; counts, rates, sums, bytes \
         and averages count these too: exactly by stream and level, else on average"
    )
}

fn log_answer(result: LogResult, categories: bool, exec_seconds: f64) -> Response {
    let n = result.streams.iter().map(|s| s.entries.len()).sum();
    let streams = if categories { encode::categorised(&result.streams) } else { encode::merged(&result.streams) };
    let mut data = json!({
        "resultType": "streams",
        "result": streams,
        "stats": encode::stats(&result.statistics, exec_seconds, n),
    });
    if categories {
        data["encodingFlags"] = json!(["categorize-labels"]);
    }
    Json(json!({"status": "success", "data": data})).into_response()
}

pub(super) fn wants_categories(headers: &HeaderMap) -> bool {
    headers
        .get_all("x-loki-response-encoding-flags")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .any(|v| v.split(',').any(|flag| flag.trim() == "categorize-labels"))
}

fn elapsed(app: &Stores, started: Nanos) -> f64 {
    (app.clock.now_nanos().0 - started.0).max(0) as f64 / 1e9
}

fn entries_limit(params: &Params) -> Result<usize, ApiError> {
    let limit = params.count("limit", 100)?;
    if limit > ENTRIES_MAX {
        return Err(ApiError::bad(format!(
            "max entries limit per query exceeded, limit > max_entries_limit_per_query ({limit} > {ENTRIES_MAX})"
        )));
    }
    Ok(limit)
}

fn direction(params: &Params) -> Result<Direction, ApiError> {
    match params.get("direction").map(str::to_ascii_lowercase).as_deref() {
        None | Some("backward") => Ok(Direction::Backward),
        Some("forward") => Ok(Direction::Forward),
        Some(other) => Err(ApiError::bad(format!("invalid direction '{other}': use forward or backward"))),
    }
}

pub(super) fn step(params: &Params, start: Nanos, end: Nanos) -> Result<i64, ApiError> {
    let span = end.0.saturating_sub(start.0);
    let default = (span / 250 / 1_000_000_000).max(1) * 1_000_000_000;
    let step = params.duration("step")?.unwrap_or(default);
    if step <= 0 {
        return Err(ApiError::bad(
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    if span / step > STEPS_MAX {
        return Err(ApiError::bad(
            "exceeded maximum resolution of 11,000 points per time series. Try increasing the value of the step parameter",
        ));
    }
    Ok(step)
}

/// Keeps an entry of a stream only when the one kept before it is `interval` away.
fn sparse(mut result: LogResult, interval_nanos: i64) -> LogResult {
    if interval_nanos <= 0 {
        return result;
    }
    for LogStream { entries, .. } in &mut result.streams {
        let mut kept: Option<Nanos> = None;
        entries.retain(|entry| {
            let keep = kept.is_none_or(|at| (entry.at.0 - at.0).abs() >= interval_nanos);
            if keep {
                kept = Some(entry.at);
            }
            keep
        });
    }
    result
}
