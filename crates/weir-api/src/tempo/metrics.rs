//! `/api/metrics/query_range` and `/api/metrics/query`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde_json::{Map, Value, json};
use weir_model::{Nanos, TenantId};
use weir_traceql::{LabelValue, MetricsParams, MetricsResult, MetricsSeries};

use super::encode::{double_json, value_json};
use crate::loki::ApiError;
use crate::loki::params::Params;
use crate::stores::Stores;
use crate::tenant::Tenant;

const SECOND: i64 = 1_000_000_000;
const RANGE_NANOS_MAX: i64 = 24 * 3600 * SECOND;
const STEPS_MAX: i64 = 10_000;
const EXEMPLARS_MAX: usize = 100;

pub(super) async fn range(
    State(stores): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let (start, end) = bounds(&params, &stores)?;
    let step = params.duration("step")?.unwrap_or_else(|| default_step(end.0 - start.0));
    if step <= 0 {
        return Err(ApiError::bad("step must be greater than 0"));
    }
    // Aligned outwards, and one step earlier: the first sample covers what lies before it.
    let start = Nanos(start.0.div_euclid(step) * step - step);
    let end = Nanos((end.0 + step - 1).div_euclid(step) * step);
    if (end.0 - start.0) / step > STEPS_MAX {
        return Err(ApiError::bad(format!("more than {STEPS_MAX} intervals; use a larger step")));
    }
    let exemplars = match params.get("exemplars") {
        None => 0,
        Some(text) => text.parse::<usize>().map_err(|_| ApiError::bad(format!("invalid exemplars: `{text}`")))?,
    };
    let metrics = MetricsParams { start, end, step_nanos: step, exemplars: exemplars.min(EXEMPLARS_MAX) };
    let result = evaluate(&stores, tenant, &params, metrics).await?;
    let series: Vec<Value> = result.series.iter().map(range_json).collect();
    Ok(Json(json!({"series": series, "metrics": statistics(&result)})))
}

/// One sample over the whole range. Grafana refuses fields that it does not know here.
pub(super) async fn instant(
    State(stores): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let (start, end) = bounds(&params, &stores)?;
    let metrics = MetricsParams { start, end, step_nanos: end.0 - start.0, exemplars: 0 };
    let result = evaluate(&stores, tenant, &params, metrics).await?;
    let series: Vec<Value> = result
        .series
        .iter()
        .map(|one| {
            let value = one.samples.last().map_or(0.0, |(_, value)| *value);
            let mut out = Map::new();
            out.insert("labels".to_owned(), labels(one));
            put_value(&mut out, value);
            Value::Object(out)
        })
        .collect();
    Ok(Json(json!({"series": series, "metrics": statistics(&result)})))
}

async fn evaluate(
    stores: &Arc<Stores>,
    tenant: TenantId,
    params: &Params,
    metrics: MetricsParams,
) -> Result<MetricsResult, ApiError> {
    let text = params.get("q").or_else(|| params.get("query"));
    let query = weir_traceql::parse(text.ok_or_else(|| ApiError::bad("parameter `q` is missing"))?)?;
    super::run(stores, |stores, context| async move {
        let open = weir_traceql::open_metrics(&*stores.spans, &tenant, query, metrics, &context).await?;
        Ok(move || open.run())
    })
    .await
}

fn bounds(params: &Params, stores: &Stores) -> Result<(Nanos, Nanos), ApiError> {
    let (start, end) = params.range(&*stores.clock, 3600 * SECOND)?;
    if end <= start {
        return Err(ApiError::bad("end must be greater than start"));
    }
    if end.0 - start.0 > RANGE_NANOS_MAX {
        return Err(ApiError::bad("metrics query time range exceeds the maximum allowed duration of 24h0m0s"));
    }
    Ok((start, end))
}

/// About 240 steps of a length that people like.
fn default_step(range: i64) -> i64 {
    let wanted = range / 240;
    if range < 60 * SECOND {
        let unit = SECOND / 20;
        return (wanted / unit).max(1) * unit;
    }
    let nice = [3600, 300, 60, 15, 5, 1].map(|s| s * SECOND);
    nice.into_iter().find(|s| *s <= wanted).unwrap_or(SECOND)
}

fn labels(series: &MetricsSeries) -> Value {
    let value = |value: &LabelValue| match value {
        LabelValue::Nil => json!({"stringValue": "nil"}),
        LabelValue::Attribute(value) => value_json(value),
    };
    series.labels.iter().map(|(key, v)| json!({"key": key, "value": value(v)})).collect()
}

/// Zero is left out, as proto-JSON has it.
fn put_value(out: &mut Map<String, Value>, value: f64) {
    if value != 0.0 {
        out.insert("value".to_owned(), double_json(value));
    }
}

fn range_json(series: &MetricsSeries) -> Value {
    let sample = |at: Nanos, value: f64| {
        let mut out = Map::new();
        out.insert("timestampMs".to_owned(), json!(at.millis().0.to_string()));
        put_value(&mut out, value);
        out
    };
    let samples: Vec<Value> = series.samples.iter().map(|(at, value)| Value::Object(sample(*at, *value))).collect();
    let exemplars: Vec<Value> = series
        .exemplars
        .iter()
        .map(|e| {
            let mut out = sample(e.at, e.value);
            let id = json!([{"key": "trace:id", "value": {"stringValue": e.trace_id.to_string()}}]);
            out.insert("labels".to_owned(), id);
            Value::Object(out)
        })
        .collect();
    json!({"labels": labels(series), "samples": samples, "exemplars": exemplars})
}

fn statistics(result: &MetricsResult) -> Value {
    json!({
        "inspectedTraces": result.statistics.traces,
        "inspectedBytes": result.statistics.bytes.to_string(),
        "inspectedSpans": result.statistics.spans.to_string(),
        "completedJobs": 1,
        "totalJobs": 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        let check =
            |seconds: i64, want_ms: i64| assert_eq!(default_step(seconds * SECOND), want_ms * 1_000_000, "{seconds}");
        check(30, 100);
        check(60, 1000);
        check(3600, 15_000);
        check(86_400, 300_000);
        check(900_000, 3_600_000);
    }
}
