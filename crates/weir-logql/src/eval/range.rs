//! Range aggregations: entries stream into windows, series by series; no line is held.

use std::collections::BTreeMap;

use ahash::AHashMap;
use weir_model::columns::LogScans;
use weir_model::log::SAMPLING_WEIGHT;
use weir_model::source::{Direction, LogFragment, LogSource, ReadContext, StreamData};
use weir_model::{Labels, LabelsBuilder, MatchOp, Nanos, Reservation, TenantId};

use super::accumulate::{Acc, Grid, slide};
use super::columns::Steps;
use super::vector::Series;
use super::{MetricParams, QueryError, Statistics, scan};
use crate::ast::{Grouping, RangeAggregation, RangeOp};
use crate::pipeline::{Needed, Row, Scratch, apply, apply_unwrap, predicates};

/// Memory is taken from the budget in pieces of this size, not entry by entry.
const RESERVE_BYTES: u64 = 64 << 10;

/// A range aggregation whose data is within reach.
pub(super) struct OpenRange {
    pub(super) aggregation: RangeAggregation,
    grouping: Option<Grouping>,
    grid: Grid,
    /// What is answered from columns.
    steps: Option<Steps>,
    scans: LogScans,
    pub(super) context: ReadContext,
    now: Nanos,
}

impl OpenRange {
    /// `outer`: the grouping of a `sum` around it, which may be applied per line already.
    pub(super) async fn open(
        source: &dyn LogSource,
        tenant: &TenantId,
        aggregation: RangeAggregation,
        outer: Option<&Grouping>,
        params: MetricParams,
        context: &ReadContext,
        now: Nanos,
    ) -> Result<Self, QueryError> {
        let grid = Grid::new(params, aggregation.offset_nanos, aggregation.range_nanos);
        let (start, end) = grid.bounds();
        let fragment = LogFragment {
            matchers: aggregation.log.matchers.clone(),
            start,
            end,
            direction: Direction::Forward,
            predicates: predicates(&aggregation.log.stages),
        };
        let steps = scan::steps(&aggregation);
        let scans = match &steps {
            Some(_) => source.open_scans(tenant, &fragment, context).await?,
            None => LogScans { scans: Vec::new(), rest: source.open(tenant, &fragment, context).await? },
        };
        let grouping = match aggregation.op {
            RangeOp::AbsentOverTime => Some(Grouping::default()),
            op if is_additive(op) => aggregation.grouping.clone().or_else(|| outer.cloned()),
            _ => aggregation.grouping.clone(),
        };
        Ok(Self { aggregation, grouping, grid, steps, scans, context: context.clone(), now })
    }

    pub(super) fn run(mut self, statistics: &mut Statistics) -> Result<Vec<Series>, QueryError> {
        let needed = match &self.grouping {
            Some(Grouping { without: false, labels }) => {
                Needed::of(&self.aggregation.log.stages, self.aggregation.unwrap.as_ref(), labels)
            }
            _ => Needed::default(),
        };
        let unwrapped = self.aggregation.unwrap.as_ref().map(|u| u.label.clone());
        let keep_values = matches!(self.aggregation.op, RangeOp::QuantileOverTime | RangeOp::RateCounter);
        let mut table = Table {
            grouping: self.grouping.take(),
            unwrapped,
            keep_values,
            grid: self.grid,
            index: AHashMap::new(),
            series: Vec::new(),
            key: Vec::new(),
            memory: self.context.budget.try_reserve(0)?,
            owed_bytes: 0,
        };
        let mut scratch = Scratch::new(self.now);
        let steps = self.steps.take();
        for mut part in std::mem::take(&mut self.scans.scans) {
            self.context.cancel.check()?;
            let Some(steps) = &steps else { break };
            self.take_scan(&mut *part, steps, &needed, (&mut scratch, &mut table), statistics)?;
        }
        while let Some(batch) = self.scans.rest.next(None)? {
            self.context.cancel.check()?;
            self.take_batch(&batch, &needed, &mut scratch, &mut table, statistics)?;
        }
        Ok(self.finish(table))
    }

    pub(super) fn take_batch(
        &self,
        batch: &StreamData,
        needed: &Needed,
        scratch: &mut Scratch,
        table: &mut Table,
        statistics: &mut Statistics,
    ) -> Result<(), QueryError> {
        let (start, end) = self.grid.bounds();
        let mut bare_series = None;
        for entry in &batch.entries {
            if !(start <= entry.at && entry.at < end) {
                continue;
            }
            statistics.lines += 1;
            statistics.bytes += entry.line.len() as u64;
            statistics.metadata_bytes += (entry.size_bytes() - entry.line.len()) as u64;
            let mut row = Row::new(&batch.labels, entry, scratch);
            if !apply(&self.aggregation.log.stages, needed, &mut row) {
                continue;
            }
            let value = match &self.aggregation.unwrap {
                Some(unwrap) => match apply_unwrap(unwrap, &mut row) {
                    Some(value) => value,
                    None => continue,
                },
                None => match self.aggregation.op {
                    RangeOp::BytesRate | RangeOp::BytesOverTime => row.line().len() as f64,
                    _ => 1.0,
                },
            };
            if let Some(error) = row.fatal_error() {
                return Err(QueryError::Pipeline { error: error.as_str(), labels: all_labels(&row).to_string() });
            }
            statistics.lines_passed += 1;
            let weight = entry.sampling_weight();
            statistics.lines_weighted += u64::from(weight > 1.0);
            let idx = match bare_series {
                Some(idx) if row.is_bare() && row.error().is_none() => idx,
                _ => {
                    let idx = table.series_of(&row)?;
                    if row.is_bare() && row.error().is_none() {
                        bare_series = Some(idx);
                    }
                    idx
                }
            };
            table.add(idx, entry.at, value, weight)?;
        }
        Ok(())
    }

    fn finish(&self, table: Table) -> Vec<Series> {
        if self.aggregation.op == RangeOp::AbsentOverTime {
            return self.absent(table);
        }
        let mut out = Vec::with_capacity(table.series.len());
        for state in table.series {
            let mut values = vec![None; self.grid.steps];
            if table.keep_values {
                self.over_values(state.values, &mut values);
            } else {
                let buckets: Vec<(i64, Acc)> = state.buckets.into_iter().collect();
                slide(&self.grid, &buckets, |i, acc| values[i] = Some(self.of_acc(acc)));
            }
            if values.iter().any(Option::is_some) {
                out.push(Series { labels: state.labels, values });
            }
        }
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        out
    }

    fn of_acc(&self, acc: &Acc) -> f64 {
        let seconds = self.aggregation.range_nanos as f64 / 1e9;
        match self.aggregation.op {
            RangeOp::Rate | RangeOp::BytesRate => acc.sum / seconds,
            RangeOp::CountOverTime | RangeOp::BytesOverTime | RangeOp::SumOverTime => acc.sum,
            RangeOp::AvgOverTime => acc.mean(),
            RangeOp::MinOverTime => acc.min,
            RangeOp::MaxOverTime => acc.max,
            RangeOp::StddevOverTime => acc.variance().sqrt(),
            RangeOp::StdvarOverTime => acc.variance(),
            RangeOp::FirstOverTime => acc.first.1,
            RangeOp::LastOverTime => acc.last.1,
            // These three do not go through accumulators; 1 is what presence means.
            RangeOp::AbsentOverTime | RangeOp::QuantileOverTime | RangeOp::RateCounter => 1.0,
        }
    }

    fn over_values(&self, mut samples: Vec<(i64, f64)>, values: &mut [Option<f64>]) {
        samples.sort_by_key(|(at, _)| *at);
        let mut of_window: Vec<f64> = Vec::new();
        for (i, slot) in values.iter_mut().enumerate() {
            let (left, right) = self.grid.edges(i);
            let from = samples.partition_point(|(at, _)| *at <= left);
            let to = samples.partition_point(|(at, _)| *at <= right);
            let window = &samples[from..to];
            if window.is_empty() {
                continue;
            }
            *slot = if self.aggregation.op == RangeOp::RateCounter {
                counter_rate(window, left, right)
            } else {
                of_window.clear();
                of_window.extend(window.iter().map(|(_, v)| *v));
                Some(quantile(self.aggregation.param.unwrap_or(f64::NAN), &mut of_window))
            };
        }
    }

    /// 1 where the window is empty, under the labels that the selector's equalities name.
    fn absent(&self, mut table: Table) -> Vec<Series> {
        let mut values = vec![Some(1.0); self.grid.steps];
        if let Some(state) = table.series.pop() {
            let buckets: Vec<(i64, Acc)> = state.buckets.into_iter().collect();
            slide(&self.grid, &buckets, |i, _| values[i] = None);
        }
        if values.iter().all(Option::is_none) {
            return Vec::new();
        }
        let equal = self.aggregation.log.matchers.iter().filter(|m| m.op == MatchOp::Equal);
        let labels = Labels::from_pairs(equal.map(|m| (m.name.as_str(), m.value.as_str())));
        vec![Series { labels, values }]
    }
}

/// Whether the sum over groups of lines is the sum over all lines.
pub(super) fn is_additive(op: RangeOp) -> bool {
    matches!(
        op,
        RangeOp::Rate | RangeOp::CountOverTime | RangeOp::BytesRate | RangeOp::BytesOverTime | RangeOp::SumOverTime
    )
}

fn all_labels(row: &Row<'_>) -> Labels {
    let mut builder = LabelsBuilder::default();
    row.for_each(|_, name, value| {
        builder.set(name, value);
    });
    for (name, value) in row.error_labels() {
        builder.set(name, value);
    }
    builder.build()
}

struct State {
    labels: Labels,
    buckets: BTreeMap<i64, Acc>,
    values: Vec<(i64, f64)>,
}

/// The series of one aggregation by their labels.
pub(super) struct Table {
    /// `None`: all labels but the unwrapped one.
    pub(super) grouping: Option<Grouping>,
    pub(super) unwrapped: Option<String>,
    keep_values: bool,
    grid: Grid,
    index: AHashMap<Box<[u8]>, usize>,
    series: Vec<State>,
    key: Vec<u8>,
    memory: Reservation,
    owed_bytes: u64,
}

impl Table {
    fn series_of(&mut self, row: &Row<'_>) -> Result<usize, QueryError> {
        let grouping = self.grouping.take();
        let pairs: Vec<(&str, &str)> = match &grouping {
            Some(Grouping { without: false, labels }) => {
                labels.iter().filter_map(|name| row.get(name).map(|value| (name.as_str(), value))).collect()
            }
            grouping => {
                let dropped: &[String] = grouping.as_ref().map_or(&[], |g| g.labels.as_slice());
                let mut pairs = Vec::new();
                row.for_each(|_, name, value| {
                    if self.unwrapped.as_deref() != Some(name)
                        && name != SAMPLING_WEIGHT
                        && !dropped.iter().any(|d| d == name)
                    {
                        pairs.push((name, value));
                    }
                });
                pairs
            }
        };
        let idx = self.series_of_pairs(pairs);
        self.grouping = grouping;
        idx
    }

    pub(super) fn series_of_pairs(&mut self, mut pairs: Vec<(&str, &str)>) -> Result<usize, QueryError> {
        pairs.retain(|(_, value)| !value.is_empty());
        pairs.sort_unstable();
        pairs.dedup();
        self.key.clear();
        for (name, value) in &pairs {
            for text in [name, value] {
                self.key.extend_from_slice(&(text.len() as u32).to_le_bytes());
                self.key.extend_from_slice(text.as_bytes());
            }
        }
        if let Some(idx) = self.index.get(self.key.as_slice()) {
            return Ok(*idx);
        }
        let idx = self.series.len();
        let labels = Labels::from_pairs(pairs);
        self.index.insert(self.key.as_slice().into(), idx);
        self.series.push(State { labels, buckets: BTreeMap::new(), values: Vec::new() });
        let bytes = 200 + 3 * self.key.len() as u64;
        self.owe(bytes)?;
        Ok(idx)
    }

    fn add(&mut self, idx: usize, at: Nanos, value: f64, weight: f64) -> Result<(), QueryError> {
        let state = &mut self.series[idx];
        if self.keep_values {
            state.values.push((at.0, value));
            return self.owe(16);
        }
        self.add_acc(idx, Acc::weighted(at, value, weight))
    }

    /// Of one series, ascending by time; no values mean a one for each.
    pub(super) fn add_all(&mut self, idx: usize, times: &[i64], values: &[f64]) -> Result<(), QueryError> {
        let value = |i: usize| values.get(i).copied().unwrap_or(1.0);
        if self.keep_values {
            self.series[idx].values.extend(times.iter().enumerate().map(|(i, at)| (*at, value(i))));
            return self.owe(16 * times.len() as u64);
        }
        let mut from = 0;
        while let Some(first) = times.get(from) {
            let last = self.grid.last_of(self.grid.bucket(Nanos(*first)));
            let end = from + times[from..].partition_point(|at| *at <= last).max(1);
            let acc = if values.is_empty() {
                Acc::ones((end - from) as u64, Nanos(*first), Nanos(times[end - 1]))
            } else {
                let mut acc = Acc::of(Nanos(*first), values[from]);
                (from + 1..end).for_each(|i| acc.merge(&Acc::of(Nanos(times[i]), values[i])));
                acc
            };
            self.add_acc(idx, acc)?;
            from = end;
        }
        Ok(())
    }

    /// Of entries in one bucket.
    fn add_acc(&mut self, idx: usize, acc: Acc) -> Result<(), QueryError> {
        match self.series[idx].buckets.entry(self.grid.bucket(Nanos(acc.first.0))) {
            std::collections::btree_map::Entry::Occupied(mut slot) => {
                slot.get_mut().merge(&acc);
                Ok(())
            }
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert(acc);
                self.owe(size_of::<Acc>() as u64 + 16)
            }
        }
    }

    fn owe(&mut self, bytes: u64) -> Result<(), QueryError> {
        self.owed_bytes += bytes;
        if self.owed_bytes >= RESERVE_BYTES {
            self.memory.grow(self.owed_bytes)?;
            self.owed_bytes = 0;
        }
        Ok(())
    }
}

/// `values` not empty, in any order. Linear between the two nearest ranks.
/// Source: Prometheus `promql/quantile.go`, `quantile`.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (values.len() as f64 - 1.0);
    let lower = rank.floor();
    let weight = rank - lower;
    let (_, below, rest) = values.select_nth_unstable_by(lower as usize, f64::total_cmp);
    let below = *below;
    let above = rest.iter().copied().min_by(f64::total_cmp).unwrap_or(below);
    below * (1.0 - weight) + above * weight
}

/// Increase per second with counter resets, extrapolated towards the window's edges.
/// `None` with fewer than two samples. Source: Prometheus `promql/functions.go`, `extrapolatedRate`.
fn counter_rate(samples: &[(i64, f64)], left: i64, right: i64) -> Option<f64> {
    let (first, last) = (samples.first()?, samples.last()?);
    if samples.len() < 2 || first.0 == last.0 {
        return None;
    }
    let mut increase = last.1 - first.1;
    for pair in samples.windows(2) {
        if pair[1].1 < pair[0].1 {
            increase += pair[0].1;
        }
    }
    let seconds = |nanos: i64| nanos as f64 / 1e9;
    let sampled = seconds(last.0 - first.0);
    let average = sampled / (samples.len() - 1) as f64;
    let threshold = average * 1.1;
    let mut to_start = seconds(first.0 - left);
    let mut to_end = seconds(right - last.0);
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    // A counter is never negative, so it cannot have started before it was zero.
    if increase > 0.0 && first.1 >= 0.0 {
        to_start = to_start.min(sampled * (first.1 / increase));
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    Some(increase * ((sampled + to_start + to_end) / sampled) / seconds(right - left))
}
