//! `patterns`: what lines have in common, with counts over time.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde_json::{Value, json};
use weir_logql::{PatternCollector, QueryError};
use weir_model::source::{Direction, LogFragment};

use super::params::Params;
use super::{ApiError, encode, metadata, query};
use crate::stores::Stores;
use crate::tenant::Tenant;

const DEFAULT_NANOS: i64 = 3600 * 1_000_000_000;
/// Lines that are read for one answer; the counts are those of the lines read.
const LINES_MAX: u64 = 100_000;
/// Patterns in one answer, the most frequent first.
const PATTERNS_MAX: usize = 300;

pub(super) async fn patterns(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let matchers = metadata::matchers(Some(params.required("query")?))?;
    let (start, end) = params.range(&*app.clock, DEFAULT_NANOS)?;
    let step_nanos = query::step(&params, start, end)?;
    let direction = Direction::Backward;
    let fragment = LogFragment { matchers, start, end, direction, predicates: Vec::new() };
    let found = query::run(&app, |_, app, context| async move {
        let mut cursor = app.logs.open(&tenant, &fragment, &context).await.map_err(QueryError::from)?;
        Ok(move || {
            let mut collector = PatternCollector::new(step_nanos);
            collector.read(&mut *cursor, LINES_MAX, &context)?;
            Ok(collector.finish())
        })
    })
    .await?;
    let shown: Vec<Value> = found
        .iter()
        .take(PATTERNS_MAX)
        .map(|pattern| {
            let samples: Vec<Value> = pattern.samples.iter().map(|(at, n)| json!([encode::seconds(*at), n])).collect();
            json!({"pattern": pattern.pattern, "level": pattern.level, "samples": samples})
        })
        .collect();
    Ok(Json(json!({"status": "success", "data": shown})))
}
