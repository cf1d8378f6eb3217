//! Evaluation: each node is computed once, over all steps, as columns per series.

mod aggregate;
mod binary;
mod buckets;
mod call;
pub(crate) mod date;
mod extended;
mod histogram;
mod info;
mod labels;
mod load;
pub(crate) mod math;
pub(crate) mod native;
mod notes;
pub(crate) mod over_time;
mod range;
pub(crate) mod rate;
mod rate_histogram;
mod slide;
mod table;
pub(crate) mod window;

use std::cell::{Cell, RefCell};

use weir_model::source::{ReadContext, SeriesData};
use weir_model::{Budget, HistogramSample, Labels, Reservation, Sample, Timestamp};

use crate::ast::*;
use crate::engine::{Prepared, Settings};
use crate::plan::{Steps, is_step_invariant};
use crate::result::*;
use buckets::Buckets;
use load::{HistPoint, Loaded};
use notes::Notes;
use table::{Cell as Datum, Series, Table, is_absent, without_metadata};
use window::{Report, Window};

#[cfg(test)]
mod bucket_tests;
#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod tests;

type Eval<T> = Result<T, QueryError>;

/// A value over all steps.
enum Val {
    /// One number per step.
    Scalar(Vec<f64>),
    String(String),
    Vector(Table),
}

pub(crate) fn run(prepared: Prepared) -> Eval<QueryResult> {
    let Prepared { expr, steps, instant, reads, settings, context } = prepared;
    let account = context.budget.child("query", settings.samples_max.saturating_mul(BYTES_PER_SAMPLE));
    let settings_per_step = settings.stats_per_step;
    let evaluator = Evaluator {
        settings,
        context,
        account,
        loaded: Vec::new(),
        buckets: Vec::new(),
        notes: RefCell::default(),
        samples: Cell::new(0),
        peak_bytes: Cell::new(0),
        ticks: Cell::new(0),
        per_step: RefCell::new(if settings_per_step { vec![0; steps.n] } else { Vec::new() }),
        top: steps,
        is_instant: instant,
    };
    let (evaluator, held) = evaluator.load(reads)?;
    let series = evaluator.loaded.iter().map(|l| l.len() as u64).sum();
    let value = if instant { evaluator.instant_value(&expr, &steps) } else { evaluator.matrix(&expr, &steps) }?;
    drop(held);
    let stats = Stats {
        samples_total: evaluator.samples.get(),
        samples_peak: evaluator.peak_bytes.get() / BYTES_PER_SAMPLE,
        series,
        samples_per_step: evaluator.per_step.into_inner(),
    };
    let (warnings, infos) = evaluator.notes.into_inner().finish();
    Ok(QueryResult { value, warnings, infos, stats })
}

const BYTES_PER_SAMPLE: u64 = size_of::<Sample>() as u64;

struct Evaluator {
    settings: Settings,
    context: ReadContext,
    /// What this query may hold; a child of the context's.
    account: Budget,
    /// Per fetch of the plan.
    loaded: Vec<Vec<Loaded>>,
    /// Per fetch of the plan.
    buckets: Vec<Buckets>,
    notes: RefCell<Notes>,
    samples: Cell<u64>,
    peak_bytes: Cell<u64>,
    ticks: Cell<u32>,
    /// Samples seen at each step of the whole query, when asked for.
    per_step: RefCell<Vec<u64>>,
    /// Steps of the whole query.
    top: Steps,
    is_instant: bool,
}

/// What stops a query, for those that compute beside each other.
struct Limits<'a> {
    context: &'a ReadContext,
    settings: &'a Settings,
}

impl Limits<'_> {
    fn check(&self) -> Eval<()> {
        self.context.cancel.check()?;
        if self.settings.clock.now() > self.settings.deadline {
            return Err(QueryError::Timeout);
        }
        Ok(())
    }
}

impl Evaluator {
    // ---- limits ------------------------------------------------------------------------------

    /// Called about once per series: stops a query that nobody waits for or that ran too long.
    fn tick(&self) -> Eval<()> {
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks.is_multiple_of(16) { self.limits().check() } else { Ok(self.context.cancel.check()?) }
    }

    fn limits(&self) -> Limits<'_> {
        Limits { context: &self.context, settings: &self.settings }
    }

    fn reserve_bytes(&self, bytes: u64) -> Eval<Reservation> {
        let held = self.account.try_reserve(bytes).map_err(|full| {
            if full.account == self.account.name() { QueryError::TooManySamples } else { QueryError::Budget(full) }
        })?;
        self.peak_bytes.set(self.peak_bytes.get().max(self.account.used_bytes()));
        Ok(held)
    }

    /// Memory for `n_series` columns over the steps, before they are made.
    fn reserve(&self, n_series: usize, steps: &Steps) -> Eval<Reservation> {
        let cell = size_of::<f64>() as u64;
        self.reserve_bytes((n_series as u64).saturating_mul(steps.n as u64).saturating_mul(cell))
    }

    fn count_samples(&self, n: usize) {
        self.samples.set(self.samples.get() + n as u64);
    }

    /// Counts samples of one step for the statistics; those of subqueries are in the total alone.
    fn count_at(&self, idx: usize, steps: &Steps, n: usize) {
        if *steps == self.top
            && let Some(sum) = self.per_step.borrow_mut().get_mut(idx)
        {
            *sum += n as u64;
        }
    }

    // ---- the answer --------------------------------------------------------------------------

    fn instant_value(&self, expr: &Expr, steps: &Steps) -> Eval<Value> {
        let at = Timestamp(steps.start);
        if expr.value_type() == ValueType::Matrix {
            return self.raw_samples(expr, steps);
        }
        let table = match self.eval(expr, steps)? {
            Val::Scalar(values) => return Ok(Value::Scalar(Sample { at, value: values[0] })),
            Val::String(text) => return Ok(Value::String(at, text)),
            Val::Vector(table) => self.without_late_names(table)?,
        };
        let mut vector: Vec<VectorSample> = Vec::with_capacity(table.series.len());
        for series in table.series {
            let (value, histogram) = match series.cell(0) {
                None => continue,
                Some(Datum::Float(value)) => (value, None),
                Some(Datum::Histogram(h)) => (f64::NAN, Some(h)),
            };
            vector.push(VectorSample { labels: series.labels, at, value, histogram });
        }
        if !has_order(expr) {
            vector.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        Ok(Value::Vector(vector))
    }

    /// Names go now where they were to go at the end.
    fn without_late_names(&self, mut table: Table) -> Eval<Table> {
        if table.series.iter().all(|s| !s.drop_name) {
            return Ok(table);
        }
        for series in table.series.iter_mut().filter(|s| s.drop_name) {
            series.labels = without_metadata(&series.labels);
        }
        table.series.retain(|s| !s.is_empty());
        table.merged()
    }

    /// The samples themselves, for an instant query of a range vector.
    fn raw_samples(&self, expr: &Expr, steps: &Steps) -> Eval<Value> {
        let input = self.range_input(expr, steps)?;
        let (start, end) = input.bounds(steps.start);
        let (first, last) = input.reach((start, end));
        let mut matrix = Vec::new();
        for series in &input.series {
            let floats =
                series.floats.partition_point(|s| s.at.0 <= first)..series.floats.partition_point(|s| s.at.0 <= last);
            let points = &series.histograms;
            let points = points.partition_point(|p| p.at.0 <= first)..points.partition_point(|p| p.at.0 <= last);
            let (mut samples, points) = (series.floats[floats].to_vec(), &series.histograms[points]);
            if let Some(extended) = input.extended {
                if !points.is_empty() {
                    let word = extended.as_str();
                    return Err(QueryError::Execution(format!("{word} modifier is not supported with histograms")));
                }
                let report =
                    Report { notes: &self.notes, labels: &series.labels, span: expr.span, args_span: expr.span };
                let window = Window::bare(start, end, input.extended, &report);
                samples = extended::with_edges(&samples, &window);
            }
            self.count_samples(samples.len() + points.len());
            self.count_at(0, steps, samples.len() + points.len());
            let stored = |p: &HistPoint| HistogramSample { at: p.at, histogram: p.h.to_stored().into() };
            let histograms: Vec<_> = points.iter().map(stored).collect();
            if !samples.is_empty() || !histograms.is_empty() {
                let labels = if series.drop_name { without_metadata(&series.labels) } else { (*series.labels).clone() };
                matrix.push(SeriesData { labels, samples, histograms, weights: Vec::new() });
            }
        }
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Value::Matrix(matrix))
    }

    fn matrix(&self, expr: &Expr, steps: &Steps) -> Eval<Value> {
        let sample = |(idx, value): (usize, f64)| Sample { at: Timestamp(steps.at(idx)), value };
        let table = match self.eval(expr, steps)? {
            Val::Vector(table) => self.without_late_names(table)?,
            Val::Scalar(values) => {
                let samples = values.into_iter().enumerate().map(sample).collect();
                return Ok(Value::Matrix(vec![SeriesData {
                    labels: Labels::empty(),
                    samples,
                    ..SeriesData::default()
                }]));
            }
            Val::String(_) => return Err(QueryError::Bad("a string has no range".to_owned())),
        };
        let mut matrix = Vec::with_capacity(table.series.len());
        for Series { labels, values, histograms, .. } in table.series {
            let n = values.iter().filter(|v| !is_absent(**v)).count();
            let mut samples = Vec::with_capacity(n);
            samples.extend(values.into_iter().enumerate().filter(|(_, v)| !is_absent(*v)).map(sample));
            let filled = histograms.iter().enumerate().filter_map(|(idx, h)| Some((idx, h.as_ref()?)));
            let stored = |(idx, h): (usize, &table::Hist)| HistogramSample {
                at: Timestamp(steps.at(idx)),
                histogram: h.to_stored().into(),
            };
            let histograms: Vec<_> = filled.map(stored).collect();
            if !samples.is_empty() || !histograms.is_empty() {
                matrix.push(SeriesData { labels, samples, histograms, weights: Vec::new() });
            }
        }
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Value::Matrix(matrix))
    }

    // ---- nodes -------------------------------------------------------------------------------

    fn eval(&self, expr: &Expr, steps: &Steps) -> Eval<Val> {
        if steps.n > 1 && is_step_invariant(expr) && !matches!(expr.kind, ExprKind::Number(_) | ExprKind::String(_)) {
            return self.eval_once(expr, steps);
        }
        match &expr.kind {
            ExprKind::Number(value) => {
                let _held = self.reserve(1, steps)?;
                Ok(Val::Scalar(vec![*value; steps.n]))
            }
            ExprKind::String(text) => Ok(Val::String(text.clone())),
            ExprKind::Vector(selector) => self.instant_vector(selector, expr.span, steps).map(Val::Vector),
            ExprKind::Paren(inner) => self.eval(inner, steps),
            ExprKind::Unary { negative, expr } => self.unary(*negative, expr, steps),
            ExprKind::Call(call) => self.call(call, expr.span, steps),
            ExprKind::Aggregate(agg) => self.aggregate(agg, expr.span, steps).map(Val::Vector),
            ExprKind::Binary(binary) => self.binary(binary, expr.span, steps),
            ExprKind::Matrix(..) | ExprKind::Subquery(_) => {
                Err(QueryError::Bad("a range vector is only an argument of a function".to_owned()))
            }
        }
    }

    /// Evaluates what `@` fixes at one step and repeats it over all.
    fn eval_once(&self, expr: &Expr, steps: &Steps) -> Eval<Val> {
        Ok(match self.eval(expr, &Steps::one(steps.start))? {
            Val::Scalar(values) => {
                let _held = self.reserve(1, steps)?;
                Val::Scalar(vec![values[0]; steps.n])
            }
            Val::String(text) => Val::String(text),
            Val::Vector(table) => {
                let held = self.reserve(table.series.len(), steps)?;
                let repeat = |s: Series| Series {
                    labels: s.labels,
                    drop_name: s.drop_name,
                    values: vec![s.values[0]; steps.n],
                    histograms: s.histograms.first().map_or_else(Vec::new, |h| vec![h.clone(); steps.n]),
                };
                Val::Vector(Table { series: table.series.into_iter().map(repeat).collect(), held })
            }
        })
    }

    /// The value of an argument that the parser has checked to be a scalar.
    fn scalar(&self, expr: &Expr, steps: &Steps) -> Eval<Vec<f64>> {
        match self.eval(expr, steps)? {
            Val::Scalar(values) => Ok(values),
            _ => Err(type_mismatch(expr, ValueType::Scalar)),
        }
    }
    fn string(&self, expr: &Expr, steps: &Steps) -> Eval<String> {
        match self.eval(expr, steps)? {
            Val::String(text) => Ok(text),
            _ => Err(type_mismatch(expr, ValueType::String)),
        }
    }
    fn vector(&self, expr: &Expr, steps: &Steps) -> Eval<Table> {
        match self.eval(expr, steps)? {
            Val::Vector(table) => Ok(table),
            _ => Err(type_mismatch(expr, ValueType::Vector)),
        }
    }

    fn unary(&self, negative: bool, expr: &Expr, steps: &Steps) -> Eval<Val> {
        match self.eval(expr, steps)? {
            value if !negative => Ok(value),
            Val::Scalar(mut values) => {
                values.iter_mut().for_each(|v| *v = -*v);
                Ok(Val::Scalar(values))
            }
            Val::Vector(mut table) => {
                table.map_cells(|_, cell| {
                    Some(match cell {
                        Datum::Float(v) => Datum::Float(-v),
                        Datum::Histogram(h) => {
                            let mut h = (*h).clone();
                            h.scale(-1.0);
                            h.into()
                        }
                    })
                });
                self.unnamed(table).map(Val::Vector)
            }
            Val::String(_) => Err(type_mismatch(expr, ValueType::Vector)),
        }
    }

    /// The table without the metric's name, or with it marked to go.
    fn unnamed(&self, mut table: Table) -> Eval<Table> {
        table.drop_names(self.settings.late_names);
        if self.settings.late_names { Ok(table) } else { table.merged() }
    }

    /// The newest sample at each step that is no older than the lookback and no stale marker.
    fn instant_vector(&self, selector: &VectorSelector, span: Span, steps: &Steps) -> Eval<Table> {
        let float = |s: &Sample| s.value;
        let histogram = |p: &HistPoint| Datum::Histogram(p.h.clone());
        if selector.extended == Some(Extended::Smoothed) {
            return self.smoothed_vector(selector, span, steps);
        }
        self.columns(selector, steps, |data| self.latest(data, selector, steps, float, histogram))
    }

    /// A column for each series of a selector that has one.
    fn columns(
        &self,
        selector: &VectorSelector,
        steps: &Steps,
        column: impl Fn(&Loaded) -> Option<Series>,
    ) -> Eval<Table> {
        let loaded = &self.loaded[selector.slot];
        let held = self.reserve(loaded.len(), steps)?;
        let mut series = Vec::with_capacity(loaded.len());
        for data in loaded {
            self.tick()?;
            series.extend(column(data));
        }
        Ok(Table { series, held })
    }

    /// A column of what `pick` makes of the newest sample; `None` when no step has one.
    fn latest(
        &self,
        data: &Loaded,
        selector: &VectorSelector,
        steps: &Steps,
        pick: impl Fn(&Sample) -> f64,
        pick_histogram: impl Fn(&HistPoint) -> Datum,
    ) -> Option<Series> {
        let (samples, points) = (&data.floats, &data.histograms);
        let buckets = &self.buckets[selector.slot];
        let mut column: Option<Series> = None;
        let (mut after, mut points_after) = (0, 0);
        let mut seen = 0;
        for (idx, step_at) in steps.iter().enumerate() {
            let at = selector_time(selector.at, step_at).saturating_sub(selector.offset_ms);
            after += if idx == 0 {
                samples.partition_point(|s| s.at.0 <= at)
            } else {
                samples[after..].iter().take_while(|s| s.at.0 <= at).count()
            };
            points_after += points[points_after..].iter().take_while(|p| p.at.0 <= at).count();
            // The last sample of a bucket stands until the end of the next one.
            let oldest = at.saturating_sub(self.settings.lookback_ms).saturating_sub(buckets.length_at(at));
            let sample = after.checked_sub(1).map(|last| &samples[last]).filter(|s| s.at.0 > oldest);
            let point = points_after.checked_sub(1).map(|last| &points[last]).filter(|p| p.at.0 > oldest);
            let newer = |p: &&HistPoint| sample.is_none_or(|s| s.at < p.at);
            let cell = match (sample, point.filter(newer)) {
                (_, Some(point)) => pick_histogram(point),
                (Some(sample), None) if !is_absent(sample.value) => Datum::Float(pick(sample)),
                _ => continue,
            };
            column.get_or_insert_with(|| Series::empty(data.labels.clone(), steps.n)).set(idx, Some(cell));
            seen += 1;
            self.count_at(idx, steps, 1);
        }
        self.count_samples(seen);
        column
    }

    fn smoothed_vector(&self, selector: &VectorSelector, span: Span, steps: &Steps) -> Eval<Table> {
        self.columns(selector, steps, |data| {
            let floats = range::without_stale(&data.floats);
            let report = Report { notes: &self.notes, labels: &data.labels, span, args_span: span };
            let mut column: Option<Series> = None;
            for (idx, step_at) in steps.iter().enumerate() {
                let at = selector_time(selector.at, step_at).saturating_sub(selector.offset_ms);
                let lookback = self.settings.lookback_ms.saturating_add(self.buckets[selector.slot].longest());
                let Some(cell) = extended::smoothed_at(&floats, &data.histograms, at, lookback, &report) else {
                    continue;
                };
                column.get_or_insert_with(|| Series::empty(data.labels.clone(), steps.n)).set(idx, Some(cell));
                self.count_at(idx, steps, 1);
            }
            self.count_samples(column.as_ref().map_or(0, |c| c.values.len()));
            column
        })
    }
}

fn selector_time(at: Option<At>, step_at: i64) -> i64 {
    match at {
        Some(At::Time(t)) => t.0,
        _ => step_at,
    }
}

fn type_mismatch(expr: &Expr, want: ValueType) -> QueryError {
    QueryError::Bad(format!("expected type {}, got {} from {expr}", want.documented(), expr.value_type().documented()))
}

/// Whether the query itself puts its result in an order.
fn has_order(expr: &Expr) -> bool {
    match &expr.unparen().kind {
        ExprKind::Call(call) => call.function.name.starts_with("sort"),
        ExprKind::Aggregate(agg) => matches!(agg.op, AggregateOp::Topk | AggregateOp::Bottomk),
        _ => false,
    }
}
