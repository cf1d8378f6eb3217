//! What is stored: series, label names and values, metadata, exemplars.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};
use weir_model::matcher::all_match;
use weir_model::source::{MetricFragment, Projection};
use weir_model::{Exemplar, Labels};
use weir_promql::{parse as parse_expr, selectors};

use super::Prometheus;
use super::answer::{ApiError, Notes, success};
use super::params::Params;

pub(super) async fn series(State(prometheus): State<Arc<Prometheus>>, params: Params) -> Result<Response, ApiError> {
    if params.all("match[]").next().is_none() {
        return Err(ApiError::BadData("no match[] parameter provided".to_owned()));
    }
    let limit = params.limit("limit")?;
    let range = params.range()?;
    let sets = params.matcher_sets()?;
    let context = prometheus.read_context();
    let stop = context.cancel.on_drop();
    let mut cursors = Vec::with_capacity(sets.len());
    for matchers in sets {
        let fragment = MetricFragment { matchers, range, projection: Projection::Series, ..MetricFragment::default() };
        let cursor = prometheus.metrics.open(&params.tenant, &fragment, &context).await?;
        cursors.push((fragment.matchers, cursor));
    }
    let answer = Prometheus::compute(move || {
        let mut found: BTreeSet<Labels> = BTreeSet::new();
        let mut held = context.budget.try_reserve(0).map_err(weir_model::source::ReadError::from)?;
        for (matchers, mut cursor) in cursors {
            while let Some(batch) = cursor.next()? {
                context.cancel.check()?;
                for labels in batch.into_iter().map(|s| s.labels).filter(|l| all_match(&matchers, l)) {
                    held.grow(SET_ENTRY_BYTES).map_err(weir_model::source::ReadError::from)?;
                    found.insert(labels);
                }
            }
        }
        let all: Vec<&Labels> = found.iter().collect();
        let (shown, notes) = cut(&all, limit);
        success(&shown, notes)
    })
    .await;
    stop.disarm();
    answer
}

/// A label set in a sorted set: two pointers, and its share of a tree node. Names and values are shared.
const SET_ENTRY_BYTES: u64 = 48;

/// The first `limit` items, with a warning when that is not all.
fn cut<T>(items: &[T], limit: Option<usize>) -> (&[T], Notes) {
    match limit {
        Some(limit) if items.len() > limit => {
            let warnings = vec!["results truncated due to limit".to_owned()];
            (&items[..limit], Notes { warnings, infos: Vec::new() })
        }
        _ => (items, Notes::default()),
    }
}

pub(super) async fn labels(State(prometheus): State<Arc<Prometheus>>, params: Params) -> Result<Response, ApiError> {
    let (limit, range) = (params.limit("limit")?, params.range()?);
    let mut names = BTreeSet::new();
    for matchers in or_everything(params.matcher_sets()?) {
        names.extend(prometheus.metrics.label_names(&params.tenant, &matchers, range).await?);
    }
    let names: Vec<String> = names.into_iter().collect();
    let (shown, notes) = cut(&names, limit);
    success(&shown, notes)
}

pub(super) async fn label_values(
    State(prometheus): State<Arc<Prometheus>>,
    name: Result<Path<String>, PathRejection>,
    params: Params,
) -> Result<Response, ApiError> {
    let Path(name) = name.map_err(|e| ApiError::BadData(format!("invalid label name: {e}")))?;
    let name = unescape_name(&name);
    let (limit, range) = (params.limit("limit")?, params.range()?);
    let mut values = BTreeSet::new();
    for matchers in or_everything(params.matcher_sets()?) {
        values.extend(prometheus.metrics.label_values(&params.tenant, &name, &matchers, range).await?);
    }
    let values: Vec<String> = values.into_iter().collect();
    let (shown, notes) = cut(&values, limit);
    success(&shown, notes)
}

fn or_everything<T>(sets: Vec<Vec<T>>) -> Vec<Vec<T>> {
    if sets.is_empty() { vec![Vec::new()] } else { sets }
}

/// `U__my_2e_metric` is `my.metric`: two underscores stand for one, `_hex_` for a code point. What
/// is not such a name stays as it is.
fn unescape_name(name: &str) -> String {
    let Some(mut rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::with_capacity(rest.len());
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('_') {
            out.push('_');
            rest = after;
            continue;
        }
        let code = rest.find('_').map(|end| (&rest[..end], &rest[end + 1..]));
        let Some((hex, after)) = code.filter(|(hex, _)| (1..=6).contains(&hex.len())) else { return name.to_owned() };
        match u32::from_str_radix(hex, 16).ok().and_then(char::from_u32) {
            Some(c) => out.push(c),
            None => return name.to_owned(),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

pub(super) async fn metadata(State(prometheus): State<Arc<Prometheus>>, params: Params) -> Result<Response, ApiError> {
    let limit = params.limit("limit")?;
    let per_metric = params.limit("limit_per_metric")?.unwrap_or(usize::MAX);
    let families = prometheus.metrics.metadata(&params.tenant, params.get("metric")).await?;
    let mut by_name: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for family in families {
        let entry = json!({ "type": family.kind, "help": family.help, "unit": family.unit });
        if by_name.len() >= limit.unwrap_or(usize::MAX) && !by_name.contains_key(&family.family) {
            continue;
        }
        let entries = by_name.entry(family.family).or_default();
        if entries.len() < per_metric && !entries.contains(&entry) {
            entries.push(entry);
        }
    }
    success(&by_name, Notes::default())
}

pub(super) async fn exemplars(State(prometheus): State<Arc<Prometheus>>, params: Params) -> Result<Response, ApiError> {
    let range = params.range()?;
    if range.end < range.start {
        return Err(ApiError::param("end", "end timestamp must not be before start timestamp"));
    }
    let expr = parse_expr(params.get("query")).map_err(|e| ApiError::param("query", e))?;
    let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
    for selector in selectors(&expr, prometheus.engine.options().lookback) {
        for (labels, exemplars) in prometheus.metrics.exemplars(&params.tenant, selector.matchers, range).await? {
            if !exemplars.is_empty() {
                found.insert(labels, exemplars);
            }
        }
    }
    let to_json = |e: &Exemplar| {
        let value = weir_promql::format_value(e.value);
        json!({ "labels": e.labels, "value": value, "timestamp": e.at.secs_f64() })
    };
    let list: Vec<Value> = found
        .iter()
        .map(|(labels, exemplars)| {
            json!({ "seriesLabels": labels, "exemplars": exemplars.iter().map(to_json).collect::<Vec<_>>() })
        })
        .collect();
    success(&list, Notes::default())
}

#[cfg(test)]
mod tests {
    use super::unescape_name;

    #[test]
    fn escaped_names() {
        for (name, want) in [
            ("job", "job"),
            ("U__my_2e_metric", "my.metric"),
            ("U__a__b", "a_b"),
            ("U__a_zz_b", "U__a_zz_b"),
            ("U__a_", "U__a_"),
            ("U___1f600_", "😀"),
        ] {
            assert_eq!(unescape_name(name), want);
        }
    }
}
