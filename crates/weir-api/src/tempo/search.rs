//! `/api/search`: by TraceQL, or by tags and duration.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde_json::{Map, Value, json};
use weir_model::{AttrValue, Nanos};
use weir_traceql::{Query, SearchParams, SearchResult, SpanSetMatch, TraceMatch};

use super::encode::value_json;
use crate::loki::ApiError;
use crate::loki::params::Params;
use crate::stores::Stores;
use crate::tenant::Tenant;

const SECOND: i64 = 1_000_000_000;
const RANGE_NANOS_MAX: i64 = 168 * 3600 * SECOND;
const LIMIT_MAX: usize = 262_144;
const SPANS_MAX: usize = 100;

/// Tags whose text matches in part, as upstream's columns of their own do.
const WELL_KNOWN: &[&str] = &[
    "service.name",
    "name",
    "root.name",
    "root.service.name",
    "cluster",
    "namespace",
    "pod",
    "container",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "http.method",
    "http.url",
];

pub(super) async fn search(
    State(stores): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let query = query(&params)?;
    if query.metrics.is_some() {
        return Err(ApiError::bad("a metrics query cannot be searched; use /api/metrics/query_range"));
    }
    let limit = params.count("limit", 20)?;
    if limit > LIMIT_MAX {
        return Err(ApiError::bad(format!("invalid limit: {limit} is more than {LIMIT_MAX}")));
    }
    let spans_per_set = match params.get("spss") {
        None => 3,
        Some(text) => match text.parse() {
            Ok(0) => usize::MAX,
            Ok(n) if n <= SPANS_MAX => n,
            _ => return Err(ApiError::bad(format!("invalid spss: `{text}` is not 0 to {SPANS_MAX}"))),
        },
    };
    let (start, end) = range(&params, &stores)?;
    let search = SearchParams { start, end, limit, spans_per_set };
    let result = super::run(&stores, |stores, context| async move {
        let open = weir_traceql::open_search(&*stores.spans, &tenant, query, search, &context).await?;
        Ok(move || open.run())
    })
    .await?;
    Ok(Json(answer(&result)))
}

/// Both ends or none; none means everything up to the longest range.
pub(super) fn range(params: &Params, stores: &Stores) -> Result<(Nanos, Nanos), ApiError> {
    let now = stores.clock.now_nanos();
    match (params.time("start")?, params.time("end")?) {
        (None | Some(Nanos(0)), None | Some(Nanos(0))) => {
            // Clocks of senders run ahead a little.
            Ok((Nanos(now.0 - RANGE_NANOS_MAX), Nanos(now.0 + 3600 * SECOND)))
        }
        (Some(start), Some(end)) if end <= start => Err(ApiError::bad(format!(
            "http parameter start must be before end. received start={} end={}",
            start.0, end.0
        ))),
        (Some(start), Some(end)) if end.0 - start.0 > RANGE_NANOS_MAX => Err(ApiError::bad(
            "range specified by start and end exceeds 168h0m0s. received start and end too far apart",
        )),
        (Some(start), Some(end)) => Ok((start, end)),
        _ => Err(ApiError::bad("please provide non-zero values for http parameters start and end")),
    }
}

fn query(params: &Params) -> Result<Query, ApiError> {
    let tags = params.get("tags");
    let durations = params.get("minDuration").is_some() || params.get("maxDuration").is_some();
    match params.get("q") {
        Some(_) if tags.is_some() => Err(ApiError::bad("invalid request: can't specify tags and q in the same query")),
        Some(q) => Ok(weir_traceql::parse(q)?),
        None if tags.is_none() && !durations => Ok(weir_traceql::parse("{}")?),
        None => Ok(weir_traceql::parse(&tags_query(params, tags.unwrap_or(""))?)?),
    }
}

/// Tags and durations as TraceQL; each tag may be on another span of the trace.
fn tags_query(params: &Params, tags: &str) -> Result<String, ApiError> {
    let mut conditions: Vec<String> = Vec::new();
    weir_logql::logfmt::pairs(tags, true, |key, value| conditions.push(tag_condition(key, &value)))
        .map_err(|e| ApiError::bad(format!("invalid tags: {} at position {}", e.reason, e.at + 1)))?;
    for (name, op) in [("minDuration", ">="), ("maxDuration", "<=")] {
        if let Some(text) = params.get(name) {
            weir_go::parse_go_duration(text).map_err(|e| ApiError::bad(format!("invalid {name}: {e}")))?;
            conditions.push(format!("{{ traceDuration {op} {text} }}"));
        }
    }
    Ok(if conditions.is_empty() { "{}".to_owned() } else { conditions.join(" && ") })
}

fn tag_condition(key: &str, value: &str) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let field = match key {
        "name" => "name".to_owned(),
        "root.name" => "rootName".to_owned(),
        "root.service.name" => "rootServiceName".to_owned(),
        "status.code" if matches!(value, "ok" | "error" | "unset") => return format!("{{ status = {value} }}"),
        "error" if value == "true" => return "{ status = error || .error = true }".to_owned(),
        _ => format!(".{}", quoted(key)),
    };
    if WELL_KNOWN.contains(&key) {
        return format!("{{ {field} =~ {} }}", quoted(&format!(".*{}.*", regex_escape(value))));
    }
    let text = format!("{field} = {}", quoted(value));
    // `500` may have been sent as a number or as text.
    let is_plain = value.parse::<f64>().is_ok_and(f64::is_finite) && value.starts_with(|c: char| c.is_ascii_digit());
    if is_plain || matches!(value, "true" | "false") {
        format!("{{ {text} || {field} = {value} }}")
    } else {
        format!("{{ {text} }}")
    }
}

fn regex_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$#&-~".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn answer(result: &SearchResult) -> Value {
    let statistics = &result.statistics;
    json!({
        "traces": result.traces.iter().map(trace_json).collect::<Vec<_>>(),
        "metrics": {
            "inspectedTraces": statistics.traces,
            "inspectedBytes": statistics.bytes.to_string(),
            "inspectedSpans": statistics.spans.to_string(),
            "completedJobs": 1,
            "totalJobs": 1,
        },
    })
}

fn trace_json(found: &TraceMatch) -> Value {
    let root = found.root.as_deref();
    let sets: Vec<Value> = found.span_sets.iter().map(set_json).collect();
    let services: Map<String, Value> = found
        .services
        .iter()
        .map(|(name, (spans, errors))| {
            let mut counts = Map::new();
            counts.insert("spanCount".to_owned(), json!(spans));
            if *errors > 0 {
                counts.insert("errorCount".to_owned(), json!(errors));
            }
            (name.clone(), Value::Object(counts))
        })
        .collect();
    json!({
        "traceID": found.trace_id.to_string(),
        "rootServiceName": root.map_or("<root span not yet received>", |r| r.resource.service()),
        "rootTraceName": root.map_or("", |r| &r.name),
        "startTimeUnixNano": found.start.0.to_string(),
        "durationMs": (found.end.0 - found.start.0).max(0) / 1_000_000,
        "spanSet": sets.first(),
        "spanSets": sets,
        "serviceStats": services,
    })
}

fn set_json(set: &SpanSetMatch) -> Value {
    let pairs = |pairs: &[(String, AttrValue)]| -> Vec<Value> {
        pairs.iter().map(|(key, value)| json!({"key": key, "value": value_json(value)})).collect()
    };
    let spans: Vec<Value> = set
        .spans
        .iter()
        .map(|one| {
            json!({
                "spanID": one.span.span_id.to_string(),
                "name": &*one.span.name,
                "startTimeUnixNano": one.span.start.0.to_string(),
                "durationNanos": one.span.duration_nanos().to_string(),
                "attributes": pairs(&one.attributes),
            })
        })
        .collect();
    let mut out = json!({"spans": spans, "matched": set.matched});
    if !set.attributes.is_empty() {
        out["attributes"] = json!(pairs(&set.attributes));
    }
    out
}
