//! Aggregations across series.

use ahash::AHashMap;
use weir_model::histogram::ResetHint;
use weir_model::labels::METRIC_NAME;
use weir_model::{FloatHistogram, Labels};

use super::math::{self, HistMean, HistSum, Kahan, Mean};
use super::notes::Operation;
use super::table::{ABSENT, Cell, Hist, Series, Table, is_absent};
use super::{Eval, Evaluator};
use crate::ast::*;
use crate::number::{format_literal, format_plain};
use crate::plan::Steps;
use crate::result::QueryError;

/// Series of equal grouping labels.
struct Group {
    labels: Labels,
    drop_name: bool,
    members: Vec<usize>,
}

impl Evaluator {
    pub(super) fn aggregate(&self, agg: &Aggregate, span: Span, steps: &Steps) -> Eval<Table> {
        let table = self.vector(&agg.expr, steps)?;
        let groups = group(&table, agg);
        let number = || match &agg.param {
            Some(param) => self.scalar(param, steps),
            None => Ok(Vec::new()),
        };
        let has_histograms = table.series.iter().any(|s| !s.histograms.is_empty());
        let inner = agg.expr.span;
        if has_histograms {
            match agg.op {
                AggregateOp::Sum | AggregateOp::Avg => return self.add_up(&table, groups, agg.op, inner, steps),
                AggregateOp::Count | AggregateOp::Group => {
                    // Only that there is a value matters.
                    let mut table = table;
                    table.map_cells(|_, _| Some(Cell::Float(1.0)));
                    let count = agg.op == AggregateOp::Count;
                    return self.fold(&table, groups, steps, 0.0, |n, _| *n += 1.0, |n| if count { *n } else { 1.0 });
                }
                AggregateOp::Limitk | AggregateOp::LimitRatio | AggregateOp::CountValues => {}
                AggregateOp::Topk | AggregateOp::Bottomk => self.note_ignored(&table, agg.op, span),
                _ => self.note_ignored(&table, agg.op, inner),
            }
        }
        match agg.op {
            AggregateOp::Sum => self.fold(&table, groups, steps, Kahan::default(), Kahan::add, |k| k.total()),
            AggregateOp::Avg => self.fold(&table, groups, steps, Mean::default(), Mean::add, |m| m.value()),
            AggregateOp::Count => self.fold(&table, groups, steps, 0.0, |n, _| *n += 1.0, |n| *n),
            AggregateOp::Group => self.fold(&table, groups, steps, (), |(), _| (), |()| 1.0),
            AggregateOp::Min => {
                let lower = |best: &mut f64, v: f64| *best = if *best > v || best.is_nan() { v } else { *best };
                self.fold(&table, groups, steps, f64::NAN, lower, |v| *v)
            }
            AggregateOp::Max => {
                let higher = |best: &mut f64, v: f64| *best = if *best < v || best.is_nan() { v } else { *best };
                self.fold(&table, groups, steps, f64::NAN, higher, |v| *v)
            }
            AggregateOp::Stdvar => {
                self.fold(&table, groups, steps, Welford::default(), Welford::add, Welford::variance)
            }
            AggregateOp::Stddev => {
                self.fold(&table, groups, steps, Welford::default(), Welford::add, |w| w.variance().sqrt())
            }
            AggregateOp::Quantile => {
                let phi = number()?;
                if let Some(param) = &agg.param {
                    self.check_quantile(&phi, param);
                }
                self.quantiles(&table, groups, &phi, steps)
            }
            AggregateOp::Topk => self.select(table, groups, &number()?, steps, Pick::Highest),
            AggregateOp::Bottomk => self.select(table, groups, &number()?, steps, Pick::Lowest),
            AggregateOp::Limitk => self.select(table, groups, &number()?, steps, Pick::First),
            AggregateOp::LimitRatio => self.limit_ratio(table, agg, &number()?),
            AggregateOp::CountValues => {
                let label = match &agg.param {
                    Some(param) => self.string(param, steps)?,
                    None => String::new(),
                };
                self.count_values(&table, agg, &label, steps)
            }
        }
    }

    fn note_ignored(&self, table: &Table, op: AggregateOp, span: Span) {
        if table.series.iter().any(|s| s.histograms.iter().any(Option::is_some)) {
            self.notes.borrow_mut().ignored_in_aggregation(op.as_str(), span);
        }
    }

    /// `sum` and `avg` where some values are histograms: a group is all floats or all histograms at
    /// a step, or nothing.
    fn add_up(&self, table: &Table, groups: Vec<Group>, op: AggregateOp, span: Span, steps: &Steps) -> Eval<Table> {
        let held = self.reserve(groups.len(), steps)?;
        let mut series = Vec::with_capacity(groups.len());
        for group in groups {
            let mut column = Series::empty(group.labels, steps.n);
            column.drop_name = group.drop_name;
            for step in 0..steps.n {
                self.tick()?;
                let members = || group.members.iter().map(|m| &table.series[*m]);
                let floats: Vec<f64> = members().map(|s| s.values[step]).filter(|v| !is_absent(*v)).collect();
                let histograms: Vec<(&Hist, &Series)> =
                    members().filter_map(|s| Some((s.histogram(step)?, s))).collect();
                let cell = match (floats.is_empty(), histograms.is_empty()) {
                    (true, true) => None,
                    (false, false) => {
                        self.notes.borrow_mut().mixed_in_aggregation(span);
                        None
                    }
                    (false, true) if op == AggregateOp::Sum => {
                        let mut sum = Kahan::default();
                        floats.iter().for_each(|v| sum.add(*v));
                        Some(Cell::Float(sum.total()))
                    }
                    (false, true) => {
                        let mut mean = Mean::default();
                        floats.iter().for_each(|v| mean.add(*v));
                        Some(Cell::Float(mean.value()))
                    }
                    (true, false) => self.add_histograms(&histograms, op, span),
                };
                column.set(step, cell);
            }
            series.push(column);
        }
        Ok(Table { series, held })
    }

    fn add_histograms(&self, all: &[(&Hist, &Series)], op: AggregateOp, span: Span) -> Option<Cell> {
        let (first, _) = all.first()?;
        let (mut sum, mut mean) = (HistSum::new(first), HistMean::new(first));
        for (h, series) in &all[1..] {
            let added = if op == AggregateOp::Sum { sum.add(h) } else { mean.add(h) };
            match added {
                Ok(adjusted) if adjusted.bounds_differ => {
                    self.notes.borrow_mut().bounds_differ(Operation::Aggregation, span);
                }
                Ok(_) => {}
                Err(_) => {
                    self.notes.borrow_mut().mixed_schemas(series.labels.metric_name(), span);
                    return None;
                }
            }
        }
        let hinted = |hint: ResetHint| all.iter().any(|(h, _)| h.hint == hint);
        if hinted(ResetHint::Reset) && hinted(ResetHint::NotReset) {
            self.notes.borrow_mut().hints_collide(Operation::Aggregation, span);
        }
        Some(if op == AggregateOp::Sum { sum.value() } else { mean.value() }.into())
    }

    /// Keeps the series whose hash falls into a part of all hashes, the same at every step.
    fn limit_ratio(&self, mut table: Table, agg: &Aggregate, ratios: &[f64]) -> Eval<Table> {
        let span = agg.param.as_ref().map_or(agg.expr.span, |p| p.span);
        for ratio in ratios {
            if ratio.is_nan() {
                return Err(QueryError::Execution("Ratio value is NaN".to_owned()));
            }
            if ratio.abs() > 1.0 {
                self.notes.borrow_mut().bad_ratio(*ratio, ratio.clamp(-1.0, 1.0), span);
            }
        }
        for series in &mut table.series {
            self.tick()?;
            let place = series.labels.fingerprint() as f64 / u64::MAX as f64;
            for (step, ratio) in ratios.iter().enumerate() {
                let ratio = ratio.clamp(-1.0, 1.0);
                let kept = if ratio >= 0.0 { place < ratio } else { place >= 1.0 + ratio };
                if !kept {
                    series.set(step, None);
                }
            }
        }
        table.series.retain(|s| !s.is_empty());
        Ok(table)
    }

    /// Folds each group step by step, in the order of its members.
    fn fold<A: Copy>(
        &self,
        table: &Table,
        groups: Vec<Group>,
        steps: &Steps,
        init: A,
        add: impl Fn(&mut A, f64),
        finish: impl Fn(&A) -> f64,
    ) -> Eval<Table> {
        let held = self.reserve(groups.len(), steps)?;
        let mut series = Vec::with_capacity(groups.len());
        let mut states: Vec<(A, bool)> = Vec::new();
        for group in groups {
            states.clear();
            states.resize(steps.n, (init, false));
            for member in group.members {
                self.tick()?;
                for ((state, any), value) in states.iter_mut().zip(&table.series[member].values) {
                    if !is_absent(*value) {
                        add(state, *value);
                        *any = true;
                    }
                }
            }
            let values = states.iter().map(|(state, any)| if *any { finish(state) } else { ABSENT }).collect();
            series.push(Series { drop_name: group.drop_name, ..Series::floats(group.labels, values) });
        }
        Ok(Table { series, held })
    }

    fn quantiles(&self, table: &Table, groups: Vec<Group>, phi: &[f64], steps: &Steps) -> Eval<Table> {
        let held = self.reserve(groups.len(), steps)?;
        let mut series = Vec::with_capacity(groups.len());
        let mut values = Vec::new();
        for group in groups {
            self.tick()?;
            let mut column = vec![ABSENT; steps.n];
            for (step, into) in column.iter_mut().enumerate() {
                values.clear();
                values.extend(group.members.iter().map(|m| table.series[*m].values[step]).filter(|v| !is_absent(*v)));
                *into = math::quantile(phi[step], &mut values).unwrap_or(ABSENT);
            }
            series.push(Series { drop_name: group.drop_name, ..Series::floats(group.labels, column) });
        }
        Ok(Table { series, held })
    }

    /// Keeps at most k members of each group per step, with their own labels.
    fn select(&self, mut table: Table, groups: Vec<Group>, k: &[f64], steps: &Steps, pick: Pick) -> Eval<Table> {
        if k.iter().any(|k| k.is_nan()) {
            return Err(QueryError::Execution("Parameter value is NaN".to_owned()));
        }
        if let Some(bad) = k.iter().find(|k| **k >= 9_223_372_036_854_775_808.0 || **k <= -9_223_372_036_854_775_808.0)
        {
            let text = format!("Scalar value {} overflows int64", format_literal(*bad));
            return Err(QueryError::Execution(text));
        }
        if pick != Pick::First {
            table.map_values(|v| v);
        }
        let mut present: Vec<(f64, usize)> = Vec::new();
        for group in &groups {
            self.tick()?;
            for (step, k) in k.iter().enumerate() {
                present.clear();
                let values = group.members.iter().filter(|m| table.series[**m].has(step));
                present.extend(values.map(|m| (table.series[*m].values[step], *m)));
                let k = if *k < 1.0 { 0 } else { *k as usize };
                if k >= present.len() {
                    continue;
                }
                if k > 0 {
                    present.select_nth_unstable_by(k - 1, |a, b| pick.order(a, b));
                }
                for (_, member) in &present[k..] {
                    table.series[*member].set(step, None);
                }
            }
        }
        if steps.n == 1 && pick != Pick::First {
            return Ok(in_order(table, &groups, pick));
        }
        Ok(table)
    }

    /// The value becomes a label before series are grouped, so that `by` may name it.
    fn count_values(&self, table: &Table, agg: &Aggregate, label: &str, steps: &Steps) -> Eval<Table> {
        if label.is_empty() {
            return Err(QueryError::Execution("invalid label name \"\"".to_owned()));
        }
        let mut held = self.reserve(0, steps)?;
        let mut series: Vec<Series> = Vec::new();
        let mut by_labels: AHashMap<Labels, usize> = AHashMap::new();
        for member in &table.series {
            self.tick()?;
            // Most series keep their value from step to step.
            let mut last: Option<(u64, usize)> = None;
            for step in 0..steps.n {
                let (bits, text) = match member.cell(step) {
                    None => continue,
                    Some(Cell::Float(v)) if last.is_some_and(|(bits, _)| bits == v.to_bits()) => (v.to_bits(), None),
                    Some(Cell::Float(v)) => (v.to_bits(), Some(format_plain(v))),
                    Some(Cell::Histogram(h)) => (f64::NAN.to_bits(), Some(go_histogram(&h))),
                };
                let idx = match (text, last) {
                    (None, Some((_, idx))) => idx,
                    (text, _) => {
                        let text = text.unwrap_or_default();
                        let labels = match agg.without {
                            true => grouping(&member.labels.with(label, &text), agg),
                            false => grouping(&member.labels, agg).with(label, &text),
                        };
                        match by_labels.get(&labels) {
                            Some(idx) => *idx,
                            None => {
                                let bytes = (steps.n * size_of::<f64>()) as u64;
                                held.grow(bytes).map_err(|_| QueryError::TooManySamples)?;
                                series.push(Series::empty(labels.clone(), steps.n));
                                by_labels.insert(labels, series.len() - 1);
                                series.len() - 1
                            }
                        }
                    }
                };
                last = Some((bits, idx));
                let count: &mut f64 = &mut series[idx].values[step];
                *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
            }
        }
        Ok(Table { series, held })
    }
}

/// As Prometheus prints a histogram in a label: `{count:5, sum:1, [-1,1]:2, (1,2]:3}`.
fn go_histogram(h: &FloatHistogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", format_literal(h.count), format_literal(h.sum));
    for bucket in h.buckets().into_iter().filter(|b| b.count != 0.0) {
        let (open, close) =
            (if bucket.lower_inclusive { '[' } else { '(' }, if bucket.upper_inclusive { ']' } else { ')' });
        let (lower, upper) = (format_literal(bucket.lower), format_literal(bucket.upper));
        out.push_str(&format!(", {open}{lower},{upper}{close}:{}", format_literal(bucket.count)));
    }
    out.push('}');
    out
}

fn grouping(labels: &Labels, agg: &Aggregate) -> Labels {
    let listed = |name: &str| agg.grouping.iter().any(|g| g == name);
    if agg.without {
        labels.filter(|name| name != METRIC_NAME && !listed(name))
    } else if agg.grouping.is_empty() {
        Labels::empty()
    } else {
        labels.filter(listed)
    }
}

fn group(table: &Table, agg: &Aggregate) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut by_labels: AHashMap<Labels, usize> = AHashMap::new();
    for (idx, series) in table.series.iter().enumerate() {
        let labels = grouping(&series.labels, agg);
        match by_labels.get(&labels) {
            Some(group) => {
                groups[*group].members.push(idx);
                groups[*group].drop_name |= series.drop_name;
            }
            None => {
                by_labels.insert(labels.clone(), groups.len());
                groups.push(Group { labels, drop_name: series.drop_name, members: vec![idx] });
            }
        }
    }
    groups
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pick {
    Highest,
    Lowest,
    First,
}

impl Pick {
    /// Best first; NaN is never better than a number, and of equals the earlier one stays.
    fn order(self, a: &(f64, usize), b: &(f64, usize)) -> std::cmp::Ordering {
        let by_value = match (a.0.is_nan(), b.0.is_nan()) {
            (false, false) if self == Self::Highest => b.0.total_cmp(&a.0),
            (false, false) if self == Self::Lowest => a.0.total_cmp(&b.0),
            (a, b) if self != Self::First => a.cmp(&b),
            _ => std::cmp::Ordering::Equal,
        };
        by_value.then(a.1.cmp(&b.1))
    }
}

/// The order that an instant query shows: group by group, best first.
fn in_order(mut table: Table, groups: &[Group], pick: Pick) -> Table {
    let mut rank = vec![(0, f64::NAN); table.series.len()];
    for (group, members) in groups.iter().map(|g| &g.members).enumerate() {
        for member in members {
            rank[*member] = (group, table.series[*member].values[0]);
        }
    }
    let mut order: Vec<usize> = (0..rank.len()).collect();
    order.sort_by(|a, b| {
        let ((group_a, a_value), (group_b, b_value)) = (rank[*a], rank[*b]);
        group_a.cmp(&group_b).then_with(|| pick.order(&(a_value, *a), &(b_value, *b)))
    });
    let mut taken: Vec<Option<Series>> = table.series.into_iter().map(Some).collect();
    table.series = order.into_iter().filter_map(|idx| taken[idx].take()).collect();
    table
}

/// Mean and squared distance from it, in one pass.
#[derive(Clone, Copy, Default)]
struct Welford {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Welford {
    fn add(&mut self, v: f64) {
        self.n += 1.0;
        if self.n == 1.0 {
            self.mean = v;
            self.squares = if v.is_finite() { 0.0 } else { f64::NAN };
            return;
        }
        let delta = v - self.mean;
        self.mean += delta / self.n;
        self.squares += delta * (v - self.mean);
    }
    fn variance(&self) -> f64 {
        self.squares / self.n
    }
}
