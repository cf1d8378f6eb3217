//! Metrics from spans: a sample at t covers (t − step, t].

use ahash::AHashMap;
use weir_model::source::{ReadContext, SpanColumnCursor, SpanCursor, SpanFragment, SpanSource, TraceData};
use weir_model::span::{SAMPLING_WEIGHT, attr, weight_of};
use weir_model::{Nanos, Reservation, TenantId, TraceId};

use super::columns::{self, Counting, Plan};
use super::compare::Comparing;
use super::histogram::Log2Histogram;
use super::search::Statistics;
use super::value::{Value, field_of};
use super::{QueryError, Trace, predicates, spanset};
use crate::ast::{Comparison, MetricsOp, MetricsStage, Query, SecondStage};

/// Most series of one query.
const SERIES_MAX: usize = 5_000;

/// Steps end at `start + step, start + 2·step, … ≤ end`; one step for an instant query.
#[derive(Clone, Copy, Debug)]
pub struct MetricsParams {
    /// Excluded.
    pub start: Nanos,
    /// Included.
    pub end: Nanos,
    pub step_nanos: i64,
    /// Exemplars of each series.
    pub exemplars: usize,
}

impl MetricsParams {
    fn steps(&self) -> usize {
        let span = self.end.0.saturating_sub(self.start.0).max(0);
        usize::try_from(span / self.step_nanos.max(1)).unwrap_or(0)
    }
}

/// A label's value with its type; `nil` stands for an absent attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum LabelValue {
    Nil,
    Attribute(weir_model::AttrValue),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub at: Nanos,
    pub value: f64,
    pub trace_id: TraceId,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetricsSeries {
    pub labels: Vec<(String, LabelValue)>,
    /// Ascending; steps without a value are left out.
    pub samples: Vec<(Nanos, f64)>,
    pub exemplars: Vec<Exemplar>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricsResult {
    pub series: Vec<MetricsSeries>,
    pub statistics: Statistics,
}

/// A metrics query whose data is within reach.
pub struct OpenMetrics {
    query: Query,
    stage: MetricsStage,
    params: MetricsParams,
    input: Input,
    context: ReadContext,
}

enum Input {
    Traces(Box<dyn SpanCursor>),
    /// Enough where a query looks at spans one by one.
    Columns(Plan, Box<dyn SpanColumnCursor>),
}

/// Refuses a query without a metrics stage.
pub async fn open_metrics(
    source: &dyn SpanSource,
    tenant: &TenantId,
    query: Query,
    params: MetricsParams,
    context: &ReadContext,
) -> Result<OpenMetrics, QueryError> {
    let Some(stage) = query.metrics.clone() else {
        return Err(QueryError::Execution("not a metrics query: add a stage such as `| rate()`".to_owned()));
    };
    let fragment = SpanFragment {
        start: Nanos(params.start.0.saturating_add(1)),
        end: Nanos(params.end.0.saturating_add(1)),
        predicates: predicates(&query),
    };
    if let Some(plan) = columns::plan(&query, &stage)
        && let Some(cursor) = source.open_columns(tenant, &plan.columns(&params), context).await?
    {
        return Ok(OpenMetrics { query, stage, params, input: Input::Columns(plan, cursor), context: context.clone() });
    }
    let input = Input::Traces(source.open(tenant, &fragment, context).await?);
    Ok(OpenMetrics { query, stage, params, input, context: context.clone() })
}

/// Opens and runs on the calling thread.
pub async fn metrics(
    source: &dyn SpanSource,
    tenant: &TenantId,
    query: Query,
    params: MetricsParams,
    context: &ReadContext,
) -> Result<MetricsResult, QueryError> {
    open_metrics(source, tenant, query, params, context).await?.run()
}

#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    /// Spans that were looked at.
    pub(super) count: u64,
    /// Spans that they stand for.
    pub(super) weight: f64,
    sum: f64,
    min: f64,
    max: f64,
    histogram: Log2Histogram,
}

pub(super) struct Accumulated {
    labels: Vec<(String, LabelValue)>,
    pub(super) cells: Vec<Cell>,
    pub(super) exemplars: Vec<Exemplar>,
    last_exemplar_step: usize,
    pub(super) is_duration: bool,
}

impl Accumulated {
    /// Whether there is room for an exemplar of a step that has none yet; it is noted as taken.
    pub(super) fn wants_exemplar(&mut self, step: usize, most: usize) -> bool {
        let is_new_step = self.exemplars.is_empty() || self.last_exemplar_step != step;
        let wants = is_new_step && self.exemplars.len() < most;
        if wants {
            self.last_exemplar_step = step;
        }
        wants
    }
}

impl OpenMetrics {
    pub fn run(mut self) -> Result<MetricsResult, QueryError> {
        let mut statistics = Statistics::default();
        let memory = self.context.budget.try_reserve(0)?;
        let mut table = Table { index: AHashMap::new(), rows: Vec::new(), memory };
        let mut comparing = Comparing::new(self.params.steps(), self.context.budget.try_reserve(0)?);
        match &mut self.input {
            Input::Columns(plan, cursor) => {
                let mut counting = Counting::new(plan, &self.stage, &self.params, self.params.steps());
                while let Some(batch) = cursor.next()? {
                    self.context.cancel.check()?;
                    statistics.traces += batch.n_traces() as u64;
                    statistics.spans += batch.n_rows() as u64;
                    statistics.bytes += batch.n_rows() as u64 * plan.row_bytes();
                    counting.add(&*batch, &mut table)?;
                }
            }
            Input::Traces(cursor) => {
                let of = OfTraces { query: &self.query, stage: &self.stage, params: &self.params };
                while let Some(batch) = cursor.next()? {
                    self.context.cancel.check()?;
                    for data in &batch {
                        statistics.traces += 1;
                        statistics.spans += data.spans.len() as u64;
                        statistics.bytes += data.spans.iter().map(|s| s.size_bytes() as u64).sum::<u64>();
                        match &self.stage.comparison {
                            Some(with) => of.compare(data, with, &mut comparing)?,
                            None => of.take(data, &mut table)?,
                        }
                    }
                }
            }
        }
        if let Some(with) = &self.stage.comparison {
            let mut series = comparing.series(with.top, |step| self.at(step));
            series.sort_by_cached_key(|one| format!("{:?}", one.labels));
            return Ok(MetricsResult { series, statistics });
        }
        let mut rows = table.rows;
        // A group that was found among spans of which none counted.
        rows.retain(|row| row.cells.iter().any(|cell| cell.count > 0));
        let mut series: Vec<MetricsSeries> = rows.into_iter().flat_map(|row| self.series_of(row)).collect();
        series.sort_by(|a, b| format!("{:?}", a.labels).cmp(&format!("{:?}", b.labels)));
        for then in &self.stage.then {
            second_stage(*then, &mut series);
        }
        Ok(MetricsResult { series, statistics })
    }

    fn at(&self, step: usize) -> Nanos {
        Nanos(self.params.start.0 + self.params.step_nanos * (step as i64 + 1))
    }

    /// The series of one group: one, or one for each quantile or bucket.
    fn series_of(&self, row: Accumulated) -> Vec<MetricsSeries> {
        let scale = if row.is_duration { 1e-9 } else { 1.0 };
        let make = |extra: Option<(&str, f64)>, value: &dyn Fn(&Cell) -> Option<f64>, exemplars: Vec<Exemplar>| {
            let mut labels = row.labels.clone();
            if let Some((name, number)) = extra {
                labels.push((name.to_owned(), LabelValue::Attribute(weir_model::AttrValue::Double(number))));
            }
            let samples = row.cells.iter().enumerate().filter_map(|(k, c)| value(c).map(|v| (self.at(k), v))).collect();
            MetricsSeries { labels, samples, exemplars }
        };
        let seconds = self.params.step_nanos as f64 / 1e9;
        let some = |cell: &Cell, value: f64| (cell.count > 0).then_some(value * scale);
        match self.stage.op {
            MetricsOp::Rate => vec![make(None, &|c| Some(c.weight / seconds), row.exemplars.clone())],
            MetricsOp::CountOverTime => vec![make(None, &|c| Some(c.weight), row.exemplars.clone())],
            MetricsOp::MinOverTime => vec![make(None, &|c| some(c, c.min), row.exemplars.clone())],
            MetricsOp::MaxOverTime => vec![make(None, &|c| some(c, c.max), row.exemplars.clone())],
            MetricsOp::SumOverTime => vec![make(None, &|c| some(c, c.sum), row.exemplars.clone())],
            MetricsOp::AvgOverTime => vec![make(None, &|c| some(c, c.sum / c.weight), row.exemplars.clone())],
            MetricsOp::QuantileOverTime => self
                .stage
                .quantiles
                .iter()
                .map(|q| make(Some(("p", *q)), &|c| c.histogram.quantile(*q).map(|v| v * scale), row.exemplars.clone()))
                .collect(),
            MetricsOp::HistogramOverTime => {
                let mut bounds: Vec<f64> =
                    row.cells.iter().flat_map(|c| c.histogram.buckets().map(|(bound, _)| bound)).collect();
                bounds.sort_by(f64::total_cmp);
                bounds.dedup();
                let count = |cell: &Cell, bound: f64| {
                    cell.histogram.buckets().find(|(b, _)| *b == bound).map_or(0.0, |(_, n)| n)
                };
                let in_bucket = |e: &&Exemplar, bound: f64| Log2Histogram::bound(e.value / scale) == bound;
                bounds
                    .iter()
                    .map(|b| {
                        let exemplars = row.exemplars.iter().filter(|e| in_bucket(e, *b)).cloned().collect();
                        make(Some(("__bucket", b * scale)), &|c| Some(count(c, *b)), exemplars)
                    })
                    .collect()
            }
            // Has its own way to series.
            MetricsOp::Compare => Vec::new(),
        }
    }
}

/// Counts the spans of whole traces.
struct OfTraces<'a> {
    query: &'a Query,
    stage: &'a MetricsStage,
    params: &'a MetricsParams,
}

impl OfTraces<'_> {
    /// The step that an instant falls into: step k holds (k·step, (k+1)·step] past the start.
    fn step_of(&self, at: Nanos) -> Option<usize> {
        let past = at.0.saturating_sub(self.params.start.0);
        let step = (past - 1).div_euclid(self.params.step_nanos.max(1));
        usize::try_from(step).ok().filter(|s| *s < self.params.steps())
    }

    fn compare(&self, data: &TraceData, with: &Comparison, comparing: &mut Comparing) -> Result<(), QueryError> {
        let trace = Trace::new(&data.spans);
        for set in spanset::run(&self.query.pipeline, &trace) {
            for idx in set.spans {
                if let Some(step) = self.step_of(trace.spans[idx].start) {
                    comparing.add(with, &trace, idx, step)?;
                }
            }
        }
        Ok(())
    }

    fn take(&self, data: &TraceData, table: &mut Table) -> Result<(), QueryError> {
        let steps = self.params.steps();
        let trace = Trace::new(&data.spans);
        for set in spanset::run(&self.query.pipeline, &trace) {
            for idx in set.spans {
                let span = &trace.spans[idx];
                let Some(step) = self.step_of(span.start) else { continue };
                let value = match &self.stage.field {
                    None => None,
                    Some(field) => match field_of(&trace, idx, field) {
                        value if value.number().is_some() => Some(value),
                        _ => continue,
                    },
                };
                let keys: Vec<Value<'_>> = self.stage.by.iter().map(|field| field_of(&trace, idx, field)).collect();
                let row = table.row(self.stage, &keys, steps)?;
                row.is_duration |= value.as_ref().is_some_and(Value::is_duration);
                let number = value.as_ref().and_then(Value::number);
                let weight = weight_of(attr(&span.attributes, SAMPLING_WEIGHT));
                add(&mut row.cells[step], number, weight, self.stage);
                if row.wants_exemplar(step, self.params.exemplars) {
                    let seconds = span.duration_nanos() as f64 / 1e9;
                    let value = match (number, row.is_duration) {
                        (Some(nanos), true) => nanos / 1e9,
                        (Some(value), false) => value,
                        (None, _) => seconds,
                    };
                    row.exemplars.push(Exemplar { at: span.start, value, trace_id: data.trace_id });
                }
            }
        }
        Ok(())
    }
}

/// `weight`: how many spans this one stands for, so that what was sampled is estimated as a whole.
pub(super) fn add(cell: &mut Cell, value: Option<f64>, weight: f64, stage: &MetricsStage) {
    cell.count += 1;
    cell.weight += weight;
    let Some(value) = value else { return };
    if cell.count == 1 {
        (cell.min, cell.max) = (value, value);
    }
    cell.sum += value * weight;
    cell.min = cell.min.min(value);
    cell.max = cell.max.max(value);
    if matches!(stage.op, MetricsOp::QuantileOverTime | MetricsOp::HistogramOverTime) {
        cell.histogram.add(value, weight);
    }
}

pub(super) struct Table {
    index: AHashMap<String, usize>,
    pub(super) rows: Vec<Accumulated>,
    memory: Reservation,
}

impl Table {
    fn row(&mut self, stage: &MetricsStage, keys: &[Value<'_>], steps: usize) -> Result<&mut Accumulated, QueryError> {
        let place = self.place(stage, keys, steps)?;
        Ok(&mut self.rows[place])
    }

    /// The place in `rows` of the group with these keys.
    pub(super) fn place(
        &mut self,
        stage: &MetricsStage,
        keys: &[Value<'_>],
        steps: usize,
    ) -> Result<usize, QueryError> {
        // The debug form tells types apart and quotes texts, so two groups never share it.
        let key = format!("{keys:?}");
        if let Some(idx) = self.index.get(&key) {
            return Ok(*idx);
        }
        if self.rows.len() >= SERIES_MAX {
            return Err(QueryError::Execution(format!("more than {SERIES_MAX} series; group by fewer attributes")));
        }
        self.memory.grow((steps * size_of::<Cell>() + 300) as u64)?;
        let mut labels: Vec<(String, LabelValue)> = stage
            .by
            .iter()
            .zip(keys)
            .map(|(field, value)| {
                (field.to_string(), value.to_attribute().map_or(LabelValue::Nil, LabelValue::Attribute))
            })
            .collect();
        let many = matches!(stage.op, MetricsOp::QuantileOverTime | MetricsOp::HistogramOverTime);
        if labels.is_empty() && !many {
            let name = weir_model::AttrValue::from(stage.op.as_str());
            labels.push(("__name__".to_owned(), LabelValue::Attribute(name)));
        }
        let row = Accumulated {
            labels,
            cells: vec![Cell::default(); steps],
            exemplars: Vec::new(),
            last_exemplar_step: 0,
            is_duration: false,
        };
        self.index.insert(key, self.rows.len());
        self.rows.push(row);
        Ok(self.rows.len() - 1)
    }
}

fn second_stage(stage: SecondStage, series: &mut Vec<MetricsSeries>) {
    match stage {
        SecondStage::Filter(op, bound) => {
            series.iter_mut().for_each(|s| s.samples.retain(|(_, value)| op.holds(value, &bound)));
        }
        SecondStage::Topk(n) => keep(series, n, true),
        SecondStage::Bottomk(n) => keep(series, n, false),
    }
    series.retain(|s| !s.samples.is_empty());
}

/// At each step only the `n` series with the largest (smallest) values.
fn keep(series: &mut [MetricsSeries], n: usize, largest: bool) {
    let mut steps: std::collections::BTreeMap<Nanos, Vec<(f64, usize)>> = std::collections::BTreeMap::new();
    for (idx, one) in series.iter().enumerate() {
        for (at, value) in &one.samples {
            steps.entry(*at).or_default().push((*value, idx));
        }
    }
    let mut kept: Vec<Vec<(Nanos, f64)>> = vec![Vec::new(); series.len()];
    for (at, mut values) in steps {
        values.sort_by(|a, b| if largest { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) }.then(a.1.cmp(&b.1)));
        for (value, idx) in values.into_iter().take(n) {
            kept[idx].push((at, value));
        }
    }
    for (one, samples) in series.iter_mut().zip(kept) {
        one.samples = samples;
    }
}
