//! `index/volume` and `index/volume_range`: bytes by label.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Json;
use serde_json::{Value, json};
use weir_model::source::LogStats;
use weir_model::{Labels, Matcher, Nanos};

use super::params::Params;
use super::{ApiError, encode, metadata, query};
use crate::stores::Stores;
use crate::tenant::Tenant;

const DEFAULT_NANOS: i64 = 3600 * 1_000_000_000;
/// Each step of a range reads the index once.
const STEPS_MAX: i64 = 1000;

/// How streams are summed up.
struct Plan {
    matchers: Vec<Matcher>,
    /// Label names to group by; with none of them every label counts.
    names: Vec<String>,
    by_label: bool,
    limit: usize,
}

impl Plan {
    fn read(params: &Params) -> Result<Self, ApiError> {
        let matchers = metadata::matchers(Some(params.required("query")?))?;
        let targets = params.get("targetLabels").unwrap_or("").split(',').map(str::trim).filter(|t| !t.is_empty());
        let mut names: Vec<String> = targets.map(str::to_owned).collect();
        if names.is_empty() {
            names = matchers.iter().map(|m| m.name.clone()).collect();
        }
        let by_label = match params.get("aggregateBy") {
            None | Some("series") => false,
            Some("labels") => true,
            Some(other) => return Err(ApiError::bad(format!("invalid aggregateBy `{other}`: use series or labels"))),
        };
        Ok(Self { matchers, names, by_label, limit: params.count("limit", 100)? })
    }

    /// Bytes by group, most first, equal ones by name.
    fn sum(&self, streams: &[(Labels, LogStats)]) -> Vec<(Labels, u64)> {
        let wanted = |name: &str| self.names.is_empty() || self.names.iter().any(|n| n == name);
        let mut sums: BTreeMap<Labels, u64> = BTreeMap::new();
        for (labels, stats) in streams {
            if self.by_label {
                for label in labels.iter().filter(|l| wanted(&l.name)) {
                    // The name is what counts; a set cannot hold it with an empty value.
                    *sums.entry(Labels::from_pairs([("", label.name.clone())])).or_default() += stats.bytes;
                }
            } else {
                *sums.entry(labels.filter(wanted)).or_default() += stats.bytes;
            }
        }
        let mut sums: Vec<(Labels, u64)> = sums.into_iter().collect();
        sums.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        sums.truncate(self.limit);
        sums
    }

    fn metric(&self, labels: &Labels) -> Value {
        if self.by_label { json!({(labels.value("")): ""}) } else { json!(labels) }
    }
}

pub(super) async fn instant(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let plan = Plan::read(&params)?;
    let (start, end) = params.range(&*app.clock, DEFAULT_NANOS)?;
    let streams = app.logs.streams(&tenant, &plan.matchers, start, end).await?;
    let one = |(labels, bytes): &(Labels, u64)| json!({"metric": plan.metric(labels), "value": [encode::seconds(end), bytes.to_string()]});
    let result: Vec<Value> = plan.sum(&streams).iter().map(one).collect();
    Ok(Json(json!({"status": "success", "data": {"resultType": "vector", "result": result}})))
}

pub(super) async fn range(
    State(app): State<Arc<Stores>>,
    Tenant(tenant): Tenant,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let plan = Plan::read(&params)?;
    let (start, end) = params.range(&*app.clock, DEFAULT_NANOS)?;
    let step = query::step(&params, start, end)?;
    if (end.0 - start.0) / step > STEPS_MAX {
        return Err(ApiError::bad(format!("more than {STEPS_MAX} steps; increase the step parameter")));
    }
    let mut series: BTreeMap<Labels, Vec<Value>> = BTreeMap::new();
    let mut from = start;
    while from < end {
        let to = Nanos(from.0.saturating_add(step)).min(end);
        let streams = app.logs.streams(&tenant, &plan.matchers, from, to).await?;
        for (labels, bytes) in plan.sum(&streams) {
            series.entry(labels).or_default().push(json!([encode::seconds(to), bytes.to_string()]));
        }
        from = to;
    }
    let result: Vec<Value> =
        series.iter().map(|(labels, values)| json!({"metric": plan.metric(labels), "values": values})).collect();
    Ok(Json(json!({"status": "success", "data": {"resultType": "matrix", "result": result}})))
}
