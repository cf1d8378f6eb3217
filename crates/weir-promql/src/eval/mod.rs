//! Evaluation: each node is computed once, over all steps, as columns per series.

mod aggregate;
mod binary;
mod call;
pub(crate) mod date;
mod histogram;
mod labels;
mod load;
pub(crate) mod math;
mod notes;
pub(crate) mod over_time;
mod range;
pub(crate) mod rate;
mod table;
pub(crate) mod window;

use std::cell::{Cell, RefCell};

use weir_model::source::{ReadContext, SeriesData};
use weir_model::{Budget, Labels, Reservation, Sample, Timestamp};

use crate::ast::*;
use crate::engine::{Prepared, Settings};
use crate::plan::{Steps, is_step_invariant};
use crate::result::*;
use notes::Notes;
use table::{ABSENT, Series, Table, is_absent};

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
    let evaluator = Evaluator {
        settings,
        context,
        account,
        loaded: Vec::new(),
        notes: RefCell::default(),
        samples: Cell::new(0),
        peak_bytes: Cell::new(0),
        ticks: Cell::new(0),
    };
    let (evaluator, held) = evaluator.load(reads)?;
    let series = evaluator.loaded.iter().map(|l| l.len() as u64).sum();
    let value = if instant { evaluator.instant_value(&expr, &steps) } else { evaluator.matrix(&expr, &steps) }?;
    drop(held);
    let stats = Stats {
        samples_total: evaluator.samples.get(),
        samples_peak: evaluator.peak_bytes.get() / BYTES_PER_SAMPLE,
        series,
    };
    let Notes { warnings, infos } = evaluator.notes.into_inner();
    Ok(QueryResult { value, warnings, infos, stats })
}

const BYTES_PER_SAMPLE: u64 = size_of::<Sample>() as u64;

struct Evaluator {
    settings: Settings,
    context: ReadContext,
    /// What this query may hold; a child of the context's.
    account: Budget,
    /// Per fetch of the plan.
    loaded: Vec<Vec<SeriesData>>,
    notes: RefCell<Notes>,
    samples: Cell<u64>,
    peak_bytes: Cell<u64>,
    ticks: Cell<u32>,
}

impl Evaluator {
    // ---- limits ------------------------------------------------------------------------------

    /// Called about once per series: stops a query that nobody waits for or that ran too long.
    fn tick(&self) -> Eval<()> {
        self.context.cancel.check()?;
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks.is_multiple_of(16) && self.settings.clock.now() > self.settings.deadline {
            return Err(QueryError::Timeout);
        }
        Ok(())
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

    // ---- the answer --------------------------------------------------------------------------

    fn instant_value(&self, expr: &Expr, steps: &Steps) -> Eval<Value> {
        let at = Timestamp(steps.start);
        if expr.value_type() == ValueType::Matrix {
            return self.raw_samples(expr, steps);
        }
        let table = match self.eval(expr, steps)? {
            Val::Scalar(values) => return Ok(Value::Scalar(Sample { at, value: values[0] })),
            Val::String(text) => return Ok(Value::String(at, text)),
            Val::Vector(table) => table,
        };
        let present = table.series.into_iter().filter(|s| !is_absent(s.values[0]));
        let mut vector: Vec<VectorSample> =
            present.map(|s| VectorSample { labels: s.labels, at, value: s.values[0] }).collect();
        if !has_order(expr) {
            vector.sort_by(|a, b| a.labels.cmp(&b.labels));
        }
        Ok(Value::Vector(vector))
    }

    /// The samples themselves, for an instant query of a range vector.
    fn raw_samples(&self, expr: &Expr, steps: &Steps) -> Eval<Value> {
        let input = self.range_input(expr, steps)?;
        let (start, end) = input.bounds(steps.start);
        let mut matrix = Vec::new();
        for (labels, samples) in &input.series {
            let from = samples.partition_point(|s| s.at.0 <= start);
            let to = samples.partition_point(|s| s.at.0 <= end);
            if from < to {
                self.count_samples(to - from);
                matrix.push(SeriesData {
                    labels: (**labels).clone(),
                    samples: samples[from..to].to_vec(),
                    ..SeriesData::default()
                });
            }
        }
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Value::Matrix(matrix))
    }

    fn matrix(&self, expr: &Expr, steps: &Steps) -> Eval<Value> {
        let sample = |(idx, value): (usize, f64)| Sample { at: Timestamp(steps.at(idx)), value };
        let table = match self.eval(expr, steps)? {
            Val::Vector(table) => table,
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
        for Series { labels, values } in table.series {
            let n = values.iter().filter(|v| !is_absent(**v)).count();
            if n > 0 {
                let mut samples = Vec::with_capacity(n);
                samples.extend(values.into_iter().enumerate().filter(|(_, v)| !is_absent(*v)).map(sample));
                matrix.push(SeriesData { labels, samples, ..SeriesData::default() });
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
            ExprKind::Vector(selector) => self.instant_vector(selector, steps).map(Val::Vector),
            ExprKind::Paren(inner) => self.eval(inner, steps),
            ExprKind::Unary { negative, expr } => self.unary(*negative, expr, steps),
            ExprKind::Call(call) => self.call(call, steps),
            ExprKind::Aggregate(agg) => self.aggregate(agg, steps).map(Val::Vector),
            ExprKind::Binary(binary) => self.binary(binary, steps),
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
                let repeat = |s: Series| Series { labels: s.labels, values: vec![s.values[0]; steps.n] };
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
                table.map_values(|v| -v);
                table.drop_names();
                table.merged().map(Val::Vector)
            }
            Val::String(_) => Err(type_mismatch(expr, ValueType::Vector)),
        }
    }

    /// The newest sample at each step that is no older than the lookback and no stale marker.
    fn instant_vector(&self, selector: &VectorSelector, steps: &Steps) -> Eval<Table> {
        let loaded = &self.loaded[selector.slot];
        let held = self.reserve(loaded.len(), steps)?;
        let mut series = Vec::with_capacity(loaded.len());
        for data in loaded {
            self.tick()?;
            let values = self.latest(&data.samples, selector, steps, |s| s.value);
            if !values.is_empty() {
                series.push(Series { labels: data.labels.clone(), values });
            }
        }
        Ok(Table { series, held })
    }

    /// A column of what `pick` makes of the newest sample; empty when no step has one.
    fn latest(
        &self,
        samples: &[Sample],
        selector: &VectorSelector,
        steps: &Steps,
        pick: impl Fn(&Sample) -> f64,
    ) -> Vec<f64> {
        let mut values = Vec::new();
        let mut after = 0;
        let mut seen = 0;
        for (idx, step_at) in steps.iter().enumerate() {
            let at = selector_time(selector.at, step_at).saturating_sub(selector.offset_ms);
            after += if idx == 0 {
                samples.partition_point(|s| s.at.0 <= at)
            } else {
                samples[after..].iter().take_while(|s| s.at.0 <= at).count()
            };
            let Some(sample) = after.checked_sub(1).map(|last| &samples[last]) else { continue };
            if sample.at.0 <= at.saturating_sub(self.settings.lookback_ms) || is_absent(sample.value) {
                continue;
            }
            if values.is_empty() {
                values = vec![ABSENT; steps.n];
            }
            values[idx] = pick(sample);
            seen += 1;
        }
        self.count_samples(seen);
        values
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
