//! What fields logs have: found in labels and by parsing a sample of lines.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Json;
use serde_json::{Value, json};
use weir_logql::{LogParams, LogResult, json as json_parser, logfmt};
use weir_model::TenantId;
use weir_model::source::Direction;

use super::params::Params;
use super::{ApiError, metadata, query};
use crate::stores::Stores;
use crate::tenant::Tenant;

const DEFAULT_NANOS: i64 = 3600 * 1_000_000_000;
/// Values remembered of one field; its cardinality is cut there.
const VALUES_MAX: usize = 1000;
/// Fields of one answer, whatever its `limit`.
const FIELDS_MAX: usize = 5000;

pub(super) async fn labels(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let (streams, ..) = metadata::streams(&app, &tenant, &params, DEFAULT_NANOS).await?;
    let mut values: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for label in streams.iter().flat_map(|(labels, _)| labels) {
        values.entry(&label.name).or_default().insert(&label.value);
    }
    let found: Vec<Value> =
        values.iter().map(|(name, values)| json!({"label": name, "cardinality": values.len()})).collect();
    Ok(Json(json!({"detectedLabels": found})))
}

pub(super) async fn fields(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let limit = params.count("limit", 1000)?;
    let sample = sample(&app, tenant, &params).await?;
    let found: Vec<Value> = collect(&sample)
        .into_iter()
        .take(limit)
        .map(|(name, field)| {
            let mut shown = json!({"label": name, "type": field.kind.unwrap_or("string"),
                "cardinality": field.values.len(), "parsers": field.parsers()});
            if !field.json_path.is_empty() {
                shown["jsonPath"] = json!(field.json_path);
            }
            shown
        })
        .collect();
    Ok(Json(json!({"fields": found, "limit": limit})))
}

pub(super) async fn values(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    Path(name): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let limit = params.count("limit", 1000)?;
    let sample = sample(&app, tenant, &params).await?;
    let values: Vec<String> =
        collect(&sample).remove(&name).map(|f| f.values.into_iter().take(limit).collect()).unwrap_or_default();
    Ok(Json(json!({"values": values, "limit": limit})))
}

async fn sample(app: &Arc<Stores>, tenant: TenantId, params: &Params) -> Result<LogResult, ApiError> {
    let expr = weir_logql::parse_log(params.required("query")?)?;
    let (start, end) = params.range(&*app.clock, DEFAULT_NANOS)?;
    let limit = params.count("line_limit", 100)?.min(5000);
    query::run_log(app, tenant, expr, LogParams { start, end, limit, direction: Direction::Backward }).await
}

#[derive(Default)]
struct Field {
    /// Of all values so far; `string` as soon as two differ.
    kind: Option<&'static str>,
    values: BTreeSet<String>,
    /// Both unset: structured metadata.
    is_json: bool,
    is_logfmt: bool,
    /// Keys from the outermost object to the value, as they stand in the line.
    json_path: Vec<String>,
}

impl Field {
    /// As Loki shows them: null for structured metadata.
    fn parsers(&self) -> Option<Vec<&'static str>> {
        let found = [(self.is_json, "json"), (self.is_logfmt, "logfmt")];
        let names: Vec<&'static str> = found.into_iter().filter_map(|(is, name)| is.then_some(name)).collect();
        (!names.is_empty()).then_some(names)
    }

    fn add(&mut self, value: &str) {
        let kind = kind_of(value);
        self.kind = match self.kind {
            None => Some(kind),
            Some(before) if before == kind => Some(kind),
            Some("int" | "float") if matches!(kind, "int" | "float") => Some("float"),
            Some(_) => Some("string"),
        };
        if self.values.len() < VALUES_MAX {
            self.values.insert(value.to_owned());
        }
    }
}

fn kind_of(value: &str) -> &'static str {
    if value.parse::<i64>().is_ok() {
        "int"
    } else if value.parse::<f64>().is_ok() {
        "float"
    } else if matches!(value, "true" | "false" | "True" | "False" | "TRUE" | "FALSE" | "t" | "f" | "T" | "F") {
        "boolean"
    } else if weir_go::parse_go_duration(value).is_ok() {
        "duration"
    } else if weir_logql::parse_bytes(value).is_some() {
        "bytes"
    } else {
        "string"
    }
}

fn collect(result: &LogResult) -> BTreeMap<String, Field> {
    let mut fields: BTreeMap<String, Field> = BTreeMap::new();
    for stream in &result.streams {
        for entry in &stream.entries {
            for (name, value) in &entry.metadata {
                fields.entry(name.to_string()).or_default().add(value);
            }
            let full = |name: &str| {
                let taken = stream.labels.get(name).is_some() || entry.metadata.iter().any(|(n, _)| **n == *name);
                if taken { format!("{name}_extracted") } else { name.to_owned() }
            };
            if entry.line.trim_start().starts_with('{') {
                // What stands before a fault in the line counts.
                let _ = json_parser::flatten_while(&entry.line, |found| {
                    let field = fields.entry(full(found.name)).or_default();
                    field.add(found.value);
                    field.is_json = true;
                    if field.json_path.is_empty() {
                        field.json_path.extend(found.parents.iter().cloned());
                        field.json_path.push(found.key.to_owned());
                    }
                    fields.len() < FIELDS_MAX
                });
            } else {
                // A word without `=` is prose, not a field; a lenient reading never fails.
                let _ = logfmt::pairs_while(&entry.line, false, |key, value| {
                    if !value.is_empty() {
                        let mut name = String::with_capacity(key.len());
                        json_parser::push_sanitised(&mut name, key);
                        let field = fields.entry(full(&name)).or_default();
                        field.add(&value);
                        field.is_logfmt = true;
                    }
                    fields.len() < FIELDS_MAX
                });
            }
        }
    }
    fields
}
