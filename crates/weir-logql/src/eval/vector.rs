//! Aggregations over series, step by step.

use std::collections::BTreeMap;

use weir_model::Labels;

use super::QueryError;
use super::accumulate::Acc;
use crate::ast::{Grouping, VectorOp};

/// One value or none for each step of the query.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) labels: Labels,
    pub(super) values: Vec<Option<f64>>,
}

pub(super) fn group_labels(grouping: &Grouping, labels: &Labels) -> Labels {
    labels.filter(|name| grouping.labels.iter().any(|l| l == name) != grouping.without)
}

pub(super) fn aggregate(
    op: VectorOp,
    param: Option<usize>,
    grouping: &Grouping,
    series: Vec<Series>,
    steps: usize,
) -> Vec<Series> {
    match op {
        VectorOp::Sort | VectorOp::SortDesc => sort(series, op == VectorOp::SortDesc),
        VectorOp::Topk | VectorOp::Bottomk | VectorOp::ApproxTopk => {
            select_k(series, param.unwrap_or(1), op == VectorOp::Bottomk, grouping, steps)
        }
        _ => reduce(op, grouping, series, steps),
    }
}

fn reduce(op: VectorOp, grouping: &Grouping, series: Vec<Series>, steps: usize) -> Vec<Series> {
    let mut groups: BTreeMap<Labels, Vec<Option<Acc>>> = BTreeMap::new();
    for one in series {
        let group = groups.entry(group_labels(grouping, &one.labels)).or_insert_with(|| vec![None; steps]);
        for (slot, value) in group.iter_mut().zip(one.values) {
            let Some(value) = value else { continue };
            let acc = Acc::of(weir_model::Nanos(0), value);
            match slot {
                Some(total) => total.merge(&acc),
                None => *slot = Some(acc),
            }
        }
    }
    let value = |acc: Acc| match op {
        VectorOp::Sum => acc.sum,
        VectorOp::Avg => acc.mean(),
        VectorOp::Min => acc.min,
        VectorOp::Max => acc.max,
        VectorOp::Stddev => acc.variance().sqrt(),
        VectorOp::Stdvar => acc.variance(),
        _ => acc.count as f64,
    };
    groups
        .into_iter()
        .map(|(labels, accs)| Series { labels, values: accs.into_iter().map(|acc| acc.map(value)).collect() })
        .collect()
}

/// At each step the `k` largest (or smallest) series of each group; ordered by their best value.
fn select_k(series: Vec<Series>, k: usize, smallest: bool, grouping: &Grouping, steps: usize) -> Vec<Series> {
    let mut groups: BTreeMap<Labels, Vec<usize>> = BTreeMap::new();
    for (idx, one) in series.iter().enumerate() {
        // Without a grouping all series compete.
        let key = group_labels(grouping, &one.labels);
        groups.entry(key).or_default().push(idx);
    }
    let mut kept: Vec<Vec<Option<f64>>> = vec![Vec::new(); series.len()];
    for members in groups.values() {
        for step in 0..steps {
            let mut present: Vec<(f64, usize)> =
                members.iter().filter_map(|idx| series[*idx].values[step].map(|v| (v, *idx))).collect();
            present.sort_by(|a, b| order(a.0, b.0, smallest).then_with(|| series[a.1].labels.cmp(&series[b.1].labels)));
            for (value, idx) in present.into_iter().take(k) {
                if kept[idx].is_empty() {
                    kept[idx] = vec![None; steps];
                }
                kept[idx][step] = Some(value);
            }
        }
    }
    let out: Vec<Series> = series
        .into_iter()
        .zip(kept)
        .filter(|(_, values)| !values.is_empty())
        .map(|(one, values)| Series { labels: one.labels, values })
        .collect();
    sort(out, !smallest)
}

/// NaN last in either order.
fn order(a: f64, b: f64, ascending: bool) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Greater,
        (false, true) => std::cmp::Ordering::Less,
        _ if ascending => a.total_cmp(&b),
        _ => b.total_cmp(&a),
    }
}

/// By the last value of each series.
fn sort(mut series: Vec<Series>, descending: bool) -> Vec<Series> {
    let last = |s: &Series| s.values.iter().rev().find_map(|v| *v).unwrap_or(f64::NAN);
    series.sort_by(|a, b| order(last(a), last(b), !descending).then_with(|| a.labels.cmp(&b.labels)));
    series
}

pub(super) fn label_replace(
    series: &mut [Series],
    dst: &str,
    replacement: &str,
    src: &str,
    regex: &regex::Regex,
) -> Result<(), QueryError> {
    let mut seen = std::collections::BTreeSet::new();
    for one in series {
        if let Some(captures) = regex.captures(one.labels.value(src)) {
            let mut value = String::new();
            captures.expand(replacement, &mut value);
            one.labels = one.labels.with(dst, &value);
        }
        if !seen.insert(one.labels.clone()) {
            let text = format!("label_replace makes two series with the same labels: {}", one.labels);
            return Err(QueryError::Execution(text));
        }
    }
    Ok(())
}
