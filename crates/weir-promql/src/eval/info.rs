//! `info()`: labels of info metrics onto the series of the same job and instance.
//!
//! Source: Prometheus 3 `promql/info.go`.

use std::collections::BTreeSet;

use ahash::AHashMap;
use weir_model::labels::METRIC_NAME;
use weir_model::{Labels, LabelsBuilder, Matcher};

use super::labels::go_labels;
use super::load::{HistPoint, Loaded};
use super::table::{Cell, Series, Table, is_absent};
use super::{Eval, Evaluator};
use crate::ast::*;
use crate::plan::Steps;
use crate::result::QueryError;

/// The labels that say which series an info metric is about.
const IDENTIFYING: [&str; 2] = ["instance", "job"];

/// An info series, and when its newest sample was taken at each step; NaN for a histogram.
struct Info<'a> {
    labels: &'a Labels,
    times: Series,
}

/// Name of the info metric, and the values of the identifying labels.
type Key<'a> = (&'a str, [&'a str; 2]);

fn key<'a>(name: &'a str, labels: &'a Labels) -> Key<'a> {
    (name, IDENTIFYING.map(|label| labels.value(label)))
}

impl Evaluator {
    /// The planner has made the second argument a selector of info series.
    pub(super) fn info(&self, call: &Call, steps: &Steps) -> Eval<Table> {
        let base = self.vector(&call.args[0], steps)?;
        let Some(ExprKind::Vector(selector)) = call.args.get(1).map(|arg| &arg.unparen().kind) else {
            return Err(QueryError::Bad("info() takes a selector of labels as its second argument".to_owned()));
        };
        let name_matchers: Vec<&Matcher> = selector.matchers.iter().filter(|m| m.name == METRIC_NAME).collect();
        let wanted: Vec<&Matcher> = selector.matchers.iter().filter(|m| m.name != METRIC_NAME).collect();
        let infos = self.info_columns(&self.loaded[selector.slot], selector, steps);
        if infos.iter().any(|info| info.times.values.iter().any(|t| t.is_nan() && !is_absent(*t))) {
            return Err(QueryError::Execution("info sample should be float".to_owned()));
        }
        let names: BTreeSet<&str> = infos.iter().map(|i| i.labels.metric_name()).collect();
        let mut by_key: AHashMap<Key<'_>, Vec<usize>> = AHashMap::new();
        for (idx, info) in infos.iter().enumerate() {
            by_key.entry(key(info.labels.metric_name(), info.labels)).or_default().push(idx);
        }
        let held = self.reserve(base.series.len(), steps)?;
        let mut out: Vec<Series> = Vec::new();
        let mut by_labels: AHashMap<Labels, usize> = AHashMap::new();
        for series in &base.series {
            self.tick()?;
            // An info series gets no labels of itself.
            let name = series.labels.metric_name();
            if name_matchers.iter().all(|m| m.matches(name)) {
                out.push(series.clone());
                continue;
            }
            let identified = IDENTIFYING.iter().any(|label| !series.labels.value(label).is_empty());
            for step in 0..steps.n {
                let Some(cell) = series.cell(step) else { continue };
                let mut matching = Vec::new();
                for name in names.iter().filter(|_| identified) {
                    let candidates = by_key.get(&key(name, &series.labels)).map_or(&[][..], Vec::as_slice);
                    matching.extend(newest(&infos, candidates, step)?);
                }
                let Some(labels) = joined(&series.labels, &matching, &wanted)? else { continue };
                let idx = *by_labels.entry(labels.clone()).or_insert_with(|| {
                    out.push(Series { drop_name: series.drop_name, ..Series::empty(labels, steps.n) });
                    out.len() - 1
                });
                if out[idx].has(step) {
                    let text = "vector cannot contain metrics with the same labelset";
                    return Err(QueryError::Execution(text.to_owned()));
                }
                out[idx].set(step, Some(cell));
            }
        }
        Table { series: out, held }.merged()
    }

    fn info_columns<'a>(&self, loaded: &'a [Loaded], selector: &VectorSelector, steps: &Steps) -> Vec<Info<'a>> {
        let histogram = |_: &HistPoint| Cell::Float(f64::NAN);
        let column = |data: &'a Loaded| {
            let times = self.latest(data, selector, steps, |s| s.at.0 as f64, histogram)?;
            Some(Info { labels: &data.labels, times })
        };
        loaded.iter().filter_map(column).collect()
    }
}

/// The candidate with the newest sample; two of the same time are one too many.
fn newest<'a>(infos: &'a [Info<'a>], candidates: &[usize], step: usize) -> Eval<Option<&'a Labels>> {
    let mut best: Option<(&Info<'_>, i64)> = None;
    for info in candidates.iter().map(|idx| &infos[*idx]).filter(|i| i.times.has(step)) {
        let at = info.times.values[step] as i64;
        match best {
            Some((known, known_at)) if known_at == at => {
                return Err(QueryError::Execution(format!(
                    "found duplicate series for info metric: existing {} @ {known_at}, new {} @ {at}",
                    go_labels(known.labels),
                    go_labels(info.labels)
                )));
            }
            Some((_, known_at)) if known_at > at => {}
            _ => best = Some((info, at)),
        }
    }
    Ok(best.map(|(info, _)| info.labels))
}

/// The series' labels with those of its info series that are wanted; `None` when the series goes,
/// as it has no info and the matchers ask for some.
fn joined(base: &Labels, infos: &[&Labels], wanted: &[&Matcher]) -> Eval<Option<Labels>> {
    let mut added = LabelsBuilder::default();
    for label in infos.iter().flat_map(|labels| labels.iter()) {
        let is_wanted = wanted.is_empty() || wanted.iter().any(|m| *m.name == *label.name);
        if *label.name == *METRIC_NAME || !is_wanted {
            continue;
        }
        if added.get(&label.name).is_some_and(|known| *known != *label.value) {
            return Err(QueryError::Execution(format!("conflicting label: {}", label.name)));
        }
        if base.get(&label.name).is_none() {
            added.set(label.name.clone(), label.value.clone());
        }
    }
    if infos.is_empty() && !wanted.iter().all(|m| m.matches("")) {
        return Ok(None);
    }
    let mut out = base.to_builder();
    for label in added.build().iter() {
        out.set(label.name.clone(), label.value.clone());
    }
    Ok(Some(out.build()))
}
