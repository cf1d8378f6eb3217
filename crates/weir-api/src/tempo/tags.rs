//! Names of attributes, and their values.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use serde_json::{Value, json};
use weir_model::source::{SpanFragment, TraceData};
use weir_model::span::Attributes;
use weir_model::{AttrValue, TenantId};
use weir_traceql::{Field, Intrinsic, Query};

use super::{Read, search};
use crate::loki::ApiError;
use crate::loki::params::Params;
use crate::stores::Stores;
use crate::tenant::Tenant;

/// Spans looked at; the newest come first, so a long range costs no more than a short one.
const SPANS_MAX: usize = 200_000;
/// Values collected when the request sets no limit, and the most that it may ask for.
const VALUES_MAX: usize = 10_000;

const SCOPES: [&str; 6] = ["resource", "span", "event", "link", "instrumentation", "intrinsic"];

/// As Tempo lists them.
const INTRINSICS: &[&str] = &[
    "duration",
    "event:name",
    "event:timeSinceStart",
    "instrumentation:name",
    "instrumentation:version",
    "kind",
    "name",
    "rootName",
    "rootServiceName",
    "span:duration",
    "span:kind",
    "span:name",
    "span:status",
    "span:statusMessage",
    "status",
    "statusMessage",
    "trace:duration",
    "trace:rootName",
    "trace:rootService",
    "traceDuration",
];

type Names = BTreeMap<&'static str, BTreeSet<String>>;

pub(super) async fn names_v2(
    State(stores): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let names = names(&stores, tenant, &params).await?;
    let scopes: Vec<Value> =
        SCOPES.iter().filter_map(|scope| names.get(scope).map(|tags| json!({"name": scope, "tags": tags}))).collect();
    Ok(Json(json!({"scopes": scopes, "metrics": {}})))
}

pub(super) async fn names_v1(
    State(stores): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let names: BTreeSet<String> = names(&stores, tenant, &params).await?.into_values().flatten().collect();
    Ok(Json(json!({"tagNames": names, "metrics": {}})))
}

/// Names by scope; scopes without names are left out.
async fn names(stores: &Arc<Stores>, tenant: TenantId, params: &Params) -> Result<Names, ApiError> {
    let scope = params.get("scope").unwrap_or("none").to_owned();
    if scope != "none" && !SCOPES.contains(&scope.as_str()) {
        return Err(ApiError::bad(format!("invalid scope: {scope}")));
    }
    let wants = move |name: &str| scope == "none" || scope == name;
    let mut names: Names = BTreeMap::new();
    if wants("intrinsic") {
        names.insert("intrinsic", INTRINSICS.iter().map(|n| (*n).to_owned()).collect());
    }
    let limit = limit(params)?;
    let found = walk(stores, tenant, params, move |data, mut names: Names| {
        let mut add = |scope: &'static str, attributes: &Attributes| {
            if !wants(scope) || attributes.is_empty() {
                return;
            }
            let known = names.entry(scope).or_default();
            for (name, _) in attributes {
                if known.len() < limit && !known.contains(&**name) {
                    known.insert(name.to_string());
                }
            }
        };
        for span in &data.spans {
            add("resource", &span.resource.attributes);
            add("span", &span.attributes);
            add("instrumentation", &span.scope.attributes);
            span.events.iter().for_each(|e| add("event", &e.attributes));
            span.links.iter().for_each(|l| add("link", &l.attributes));
        }
        names
    })
    .await?;
    names.extend(found);
    Ok(names)
}

fn limit(params: &Params) -> Result<usize, ApiError> {
    match params.get("limit") {
        None | Some("0") => Ok(VALUES_MAX),
        Some(_) => Ok(params.count("limit", VALUES_MAX)?.min(VALUES_MAX)),
    }
}

/// Folds over the traces of the range that the request's filter selects.
async fn walk<T: Send + Default + 'static>(
    stores: &Arc<Stores>,
    tenant: TenantId,
    params: &Params,
    fold: impl Fn(&TraceData, T) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let (start, end) = search::range(params, stores)?;
    let filter = params.get("q").and_then(lenient);
    let predicates = filter.as_ref().map(weir_traceql::predicates).unwrap_or_default();
    let fragment = SpanFragment { start, end, predicates };
    super::run(stores, |stores, context| async move {
        let mut cursor = stores.spans.open(&tenant, &fragment, &context).await?;
        Ok(move || -> Read<T> {
            let mut state = T::default();
            let mut n_spans = 0;
            while let Some(batch) = cursor.next()? {
                context.cancel.check()?;
                for data in &batch {
                    n_spans += data.spans.len();
                    if filter.as_ref().is_none_or(|query| weir_traceql::matches_trace(query, data)) {
                        state = fold(data, state);
                    }
                }
                if n_spans >= SPANS_MAX {
                    break;
                }
            }
            Ok(state)
        })
    })
    .await
}

/// A query that may be half-typed: the whole of it, or those of its conditions that can be read.
fn lenient(text: &str) -> Option<Query> {
    if let Ok(query) = weir_traceql::parse(text) {
        return Some(query);
    }
    let inner = text.trim().trim_start_matches('{').trim_end_matches('}');
    let readable: Vec<&str> = inner
        .split("&&")
        .map(str::trim)
        .filter(|c| !c.is_empty() && weir_traceql::parse(&format!("{{ {c} }}")).is_ok())
        .collect();
    weir_traceql::parse(&format!("{{ {} }}", readable.join(" && "))).ok()
}

/// The field that `…/tag/{name}/values` names. Grafana encodes the name twice; the router undid one.
fn field_of(rest: &str) -> Result<Field, ApiError> {
    let name = rest.strip_suffix("/values").ok_or_else(|| ApiError::bad(format!("no such path: tag/{rest}")))?;
    let name = percent_encoding::percent_decode_str(name)
        .decode_utf8()
        .map_err(|_| ApiError::bad(format!("tag name `{name}` is not UTF-8")))?;
    Ok(weir_traceql::parse_field(&name)?)
}

pub(super) async fn values_v2(
    State(stores): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    Path(rest): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let values = values(&stores, tenant, field_of(&rest)?, &params).await?;
    let values: Vec<Value> = values.into_iter().map(|(kind, value)| json!({"type": kind, "value": value})).collect();
    Ok(Json(json!({"tagValues": values, "metrics": {}})))
}

/// Names without scope: `service.name`.
pub(super) async fn values_v1(
    State(stores): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    Path(rest): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let field = match field_of(&rest) {
        Ok(field) => field,
        Err(_) => field_of(&format!(".{rest}"))?,
    };
    let values: BTreeSet<String> =
        values(&stores, tenant, field, &params).await?.into_iter().map(|(_, value)| value).collect();
    Ok(Json(json!({"tagValues": values, "metrics": {}})))
}

type TypedValues = BTreeSet<(&'static str, String)>;

async fn values(
    stores: &Arc<Stores>,
    tenant: TenantId,
    field: Field,
    params: &Params,
) -> Result<TypedValues, ApiError> {
    let keywords: &[&str] = match &field {
        Field::Intrinsic(Intrinsic::Status) => &["ok", "error", "unset"],
        Field::Intrinsic(Intrinsic::Kind) => &["client", "server", "internal", "producer", "consumer", "unspecified"],
        _ => &[],
    };
    if !keywords.is_empty() {
        return Ok(keywords.iter().map(|k| ("keyword", (*k).to_owned())).collect());
    }
    let is_duration = matches!(
        field,
        Field::Intrinsic(Intrinsic::Duration | Intrinsic::TraceDuration | Intrinsic::EventTimeSinceStart)
    );
    let limit = limit(params)?;
    walk(stores, tenant, params, move |data, mut values: TypedValues| {
        for idx in 0..data.spans.len() {
            if values.len() >= limit {
                break;
            }
            match weir_traceql::field_value(&data.spans, idx, &field) {
                Some(AttrValue::Array(items)) => values.extend(items.iter().map(|v| typed(v, is_duration))),
                Some(value) => drop(values.insert(typed(&value, is_duration))),
                None => {}
            }
        }
        values
    })
    .await
}

fn typed(value: &AttrValue, is_duration: bool) -> (&'static str, String) {
    let kind = match value {
        _ if is_duration => "duration",
        AttrValue::Int(_) => "int",
        AttrValue::Double(_) => "float",
        AttrValue::Bool(_) => "bool",
        _ => "string",
    };
    (kind, value.to_text())
}
