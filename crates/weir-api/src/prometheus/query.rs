//! `/api/v1/query` and `/api/v1/query_range`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use weir_promql::{Query, QueryError, Value, ValueType, parse};

use super::Prometheus;
use super::answer::{ApiError, Notes, QueryTimings, query_data, success_raw};
use super::params::Params;

pub(super) async fn instant(State(prometheus): State<Arc<Prometheus>>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?;
    let at = params.time_or("time", prometheus.clock.now())?;
    let timeout = params.duration_opt("timeout")?;
    let expr = parse(params.get("query")).map_err(|e| ApiError::param("query", e))?;
    let lookback = params.duration_opt("lookback_delta")?;
    let resolution = params.resolution(Duration::ZERO)?;
    let query = Query { lookback, timeout, resolution, ..Query::instant(expr, at) };
    answer(&prometheus, &params, query, limit).await
}

pub(super) async fn range(State(prometheus): State<Arc<Prometheus>>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?;
    let (start, end) = (params.time("start")?, params.time("end")?);
    if end < start {
        return Err(ApiError::param("end", "end timestamp must not be before start time"));
    }
    let step = u64::try_from(params.duration_ms("step")?).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    let Some(step) = step else {
        let text = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::param("step", text));
    };
    let timeout = params.duration_opt("timeout")?;
    let lookback = params.duration_opt("lookback_delta")?;
    let expr = parse(params.get("query")).map_err(|e| ApiError::param("query", e))?;
    let kind = expr.value_type();
    let resolution = params.resolution(step / 5)?;
    let query = Query { lookback, timeout, resolution, ..Query::range(expr, start, end, step) };
    let answer = answer(&prometheus, &params, query, limit).await;
    match answer {
        Err(ApiError::BadData(text)) if matches!(kind, ValueType::Matrix | ValueType::String) => {
            Err(ApiError::param("query", text))
        }
        answer => answer,
    }
}

async fn answer(
    prometheus: &Prometheus,
    params: &Params,
    mut query: Query,
    limit: Option<usize>,
) -> Result<Response, ApiError> {
    query.stats_per_step = params.get("stats") == "all";
    let now = || prometheus.clock.now_nanos().secs_f64();
    let context = prometheus.read_context();
    // Dropped with the request when the client leaves.
    let stop = context.cancel.on_drop();
    let asked_at = now();
    let permit = prometheus.permits.acquire().await.map_err(|_| QueryError::Cancelled)?;
    let started_at = now();
    prometheus.asked.note(&params.tenant, &query.expr, prometheus.clock.now());
    let prepared = prometheus.engine.open(&*prometheus.metrics, &params.tenant, &query, &context).await?;
    let opened_at = now();
    // The engine has checked by now that they are not too many.
    let steps = query.stats_per_step.then(|| query.when.steps());
    let clock = prometheus.clock.clone();
    let with_stats = !params.get("stats").is_empty();
    let response = Prometheus::compute(move || {
        let mut result = prepared.eval()?;
        let cut = limit.is_some_and(|limit| truncate(&mut result.value, limit));
        if cut {
            result.warnings.push("results truncated due to limit".to_owned());
        }
        let timings = QueryTimings {
            preparation: opened_at - started_at,
            queue: started_at - asked_at,
            evaluation: clock.now_nanos().secs_f64() - opened_at,
            stats: result.stats,
            steps,
        };
        let data = query_data(&result.value, with_stats.then_some(&timings));
        Ok(success_raw(&data, Notes { warnings: result.warnings, infos: result.infos }))
    })
    .await;
    drop(permit);
    stop.disarm();
    response
}

/// Whether anything was cut.
fn truncate(value: &mut Value, limit: usize) -> bool {
    let n = match value {
        Value::Vector(samples) => samples.len(),
        Value::Matrix(series) => series.len(),
        Value::Scalar(_) | Value::String(..) => 0,
    };
    match value {
        Value::Vector(samples) => samples.truncate(limit),
        Value::Matrix(series) => series.truncate(limit),
        Value::Scalar(_) | Value::String(..) => {}
    }
    n > limit
}
