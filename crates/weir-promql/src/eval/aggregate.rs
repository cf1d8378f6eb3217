//! Aggregations across series.

use ahash::AHashMap;
use weir_model::Labels;
use weir_model::labels::METRIC_NAME;

use super::math::{self, Kahan, Mean};
use super::table::{ABSENT, Series, Table, is_absent};
use super::{Eval, Evaluator};
use crate::ast::*;
use crate::number::format_plain;
use crate::plan::Steps;
use crate::result::QueryError;

/// Series of equal grouping labels.
struct Group {
    labels: Labels,
    members: Vec<usize>,
}

impl Evaluator {
    pub(super) fn aggregate(&self, agg: &Aggregate, steps: &Steps) -> Eval<Table> {
        let table = self.vector(&agg.expr, steps)?;
        let groups = group(&table, agg);
        let number = || match &agg.param {
            Some(param) => self.scalar(param, steps),
            None => Ok(Vec::new()),
        };
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
            AggregateOp::CountValues => {
                let label = match &agg.param {
                    Some(param) => self.string(param, steps)?,
                    None => String::new(),
                };
                self.count_values(&table, groups, &label, steps)
            }
        }
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
            series.push(Series { labels: group.labels, values });
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
            series.push(Series { labels: group.labels, values: column });
        }
        Ok(Table { series, held })
    }

    /// Keeps at most k members of each group per step, with their own labels.
    fn select(&self, mut table: Table, groups: Vec<Group>, k: &[f64], steps: &Steps, pick: Pick) -> Eval<Table> {
        if k.iter().any(|k| k.is_nan()) {
            return Err(QueryError::Execution("Parameter value is NaN".to_owned()));
        }
        let mut present: Vec<(f64, usize)> = Vec::new();
        for group in &groups {
            self.tick()?;
            for (step, k) in k.iter().enumerate() {
                present.clear();
                let values = group.members.iter().map(|m| (table.series[*m].values[step], *m));
                present.extend(values.filter(|(v, _)| !is_absent(*v)));
                let k = if *k < 1.0 { 0 } else { *k as usize };
                if k >= present.len() {
                    continue;
                }
                if k > 0 {
                    present.select_nth_unstable_by(k - 1, |a, b| pick.order(a, b));
                }
                for (_, member) in &present[k..] {
                    table.series[*member].values[step] = ABSENT;
                }
            }
        }
        if steps.n == 1 && pick != Pick::First {
            return Ok(in_order(table, &groups, pick));
        }
        Ok(table)
    }

    fn count_values(&self, table: &Table, groups: Vec<Group>, label: &str, steps: &Steps) -> Eval<Table> {
        if label.is_empty() {
            return Err(QueryError::Execution("invalid label name \"\"".to_owned()));
        }
        let mut held = self.reserve(0, steps)?;
        let mut series = Vec::new();
        for group in groups {
            // Bits, not values: NaN equals NaN here.
            let mut by_value: AHashMap<u64, usize> = AHashMap::new();
            for member in group.members {
                self.tick()?;
                for (step, value) in table.series[member].values.iter().enumerate().filter(|(_, v)| !is_absent(**v)) {
                    let bits = if value.is_nan() { f64::NAN.to_bits() } else { value.to_bits() };
                    let idx = match by_value.get(&bits) {
                        Some(idx) => *idx,
                        None => {
                            let bytes = (steps.n * size_of::<f64>()) as u64;
                            held.grow(bytes).map_err(|_| QueryError::TooManySamples)?;
                            let labels = group.labels.with(label, &format_plain(*value));
                            series.push(Series { labels, values: vec![ABSENT; steps.n] });
                            by_value.insert(bits, series.len() - 1);
                            series.len() - 1
                        }
                    };
                    let count: &mut f64 = &mut series[idx].values[step];
                    *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
                }
            }
        }
        Table { series, held }.merged()
    }
}

fn group(table: &Table, agg: &Aggregate) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut by_labels: AHashMap<Labels, usize> = AHashMap::new();
    let listed = |name: &str| agg.grouping.iter().any(|g| g == name);
    for (idx, series) in table.series.iter().enumerate() {
        let labels = if agg.without {
            series.labels.filter(|name| name != METRIC_NAME && !listed(name))
        } else if agg.grouping.is_empty() {
            Labels::empty()
        } else {
            series.labels.filter(listed)
        };
        match by_labels.get(&labels) {
            Some(group) => groups[*group].members.push(idx),
            None => {
                by_labels.insert(labels.clone(), groups.len());
                groups.push(Group { labels, members: vec![idx] });
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
        let delta = v - self.mean;
        self.mean += delta / self.n;
        self.squares += delta * (v - self.mean);
    }
    fn variance(&self) -> f64 {
        self.squares / self.n
    }
}
