//! Function calls.

use weir_model::{Labels, Sample};

use super::histogram::Asked;
use super::load::HistPoint;
use super::table::{ABSENT, Cell, Series, Table, is_absent};
use super::window::WindowFn;
use super::{Eval, Evaluator, Val, math, type_mismatch};
use crate::ast::*;
use crate::function::{Imp, Special};
use crate::plan::Steps;
use crate::result::QueryError;

impl Evaluator {
    pub(super) fn call(&self, call: &Call, span: Span, steps: &Steps) -> Eval<Val> {
        match call.function.imp {
            Imp::Special(special) => self.special(special, call, span, steps),
            Imp::Math(f) => {
                let mut table = self.vector(&call.args[0], steps)?;
                table.map_values(f);
                self.unnamed(table).map(Val::Vector)
            }
            Imp::Figure(f) => {
                let mut table = self.vector(&call.args[0], steps)?;
                table.map_cells(|_, cell| match cell {
                    Cell::Histogram(h) => Some(Cell::Float(f(&h))),
                    Cell::Float(_) => None,
                });
                self.unnamed(table).map(Val::Vector)
            }
            Imp::Date(f) => {
                let mut table = match call.args.first() {
                    Some(arg) => self.vector(arg, steps)?,
                    None => self.one_series(step_seconds(steps), steps)?,
                };
                table.map_values(|v| if v.is_nan() { f64::NAN } else { f(v) });
                self.unnamed(table).map(Val::Vector)
            }
            Imp::Window(function) => self.windows(function, call, steps).map(Val::Vector),
        }
    }

    fn windows(&self, function: WindowFn, call: &Call, steps: &Steps) -> Eval<Table> {
        let is_range = |e: &&Expr| e.value_type() == ValueType::Matrix;
        let Some(range) = call.args.iter().find(is_range) else {
            return Err(type_mismatch(&call.args[0], ValueType::Matrix));
        };
        check_extended(function, call, range)?;
        let scalars = call.args.iter().filter(|e| !is_range(e));
        let params = scalars.map(|param| self.scalar(param, steps)).collect::<Eval<Vec<_>>>()?;
        match call.function.name {
            "quantile_over_time" => self.check_quantile(&params[0], &call.args[0]),
            "double_exponential_smoothing" => {
                for (param, what) in params.iter().zip(["smoothing", "trend"]) {
                    check_factor(param, what)?;
                }
            }
            _ => {}
        }
        let args_span = call.args[0].span;
        self.over_windows(function, range, args_span, &params, steps)
    }

    /// Notes a φ outside [0, 1].
    pub(super) fn check_quantile(&self, values: &[f64], expr: &Expr) {
        for bad in values.iter().filter(|phi| !(0.0..=1.0).contains(*phi)) {
            self.notes.borrow_mut().bad_quantile(*bad, expr.span);
        }
    }

    fn special(&self, special: Special, call: &Call, span: Span, steps: &Steps) -> Eval<Val> {
        let args = &call.args;
        let vector = |idx: usize| self.vector(&args[idx], steps);
        let scalar = |idx: usize| self.scalar(&args[idx], steps);
        let constant = |secs: f64| {
            let _held = self.reserve(1, steps)?;
            Ok(Val::Scalar(vec![secs; steps.n]))
        };
        let top = self.top;
        let table = match special {
            Special::Pi => return constant(std::f64::consts::PI),
            Special::Start => return constant(top.start as f64 / 1000.0),
            Special::End => return constant(top.end() as f64 / 1000.0),
            Special::Range => return constant((top.end() - top.start) as f64 / 1000.0),
            Special::Step => return constant(self.settings.step_ms as f64 / 1000.0),
            Special::MaxOf | Special::MinOf => {
                let (mut a, b) = (scalar(0)?, scalar(1)?);
                let of = if special == Special::MaxOf { math::max } else { math::min };
                a.iter_mut().zip(b).for_each(|(a, b)| *a = of(*a, b));
                return Ok(Val::Scalar(a));
            }
            Special::Time => {
                let _held = self.reserve(1, steps)?;
                return Ok(Val::Scalar(step_seconds(steps)));
            }
            Special::Scalar => return Ok(Val::Scalar(to_scalar(&vector(0)?, steps))),
            Special::Vector => return self.one_series(scalar(0)?, steps).map(Val::Vector),
            Special::Timestamp => self.timestamp(&args[0], steps)?,
            Special::Absent => {
                let present = presence(&vector(0)?, steps);
                return self.absent(&args[0], present, steps).map(Val::Vector);
            }
            Special::AbsentOverTime => {
                check_extended(super::over_time::PRESENT, call, &args[0])?;
                let function = super::over_time::PRESENT.keeping_name();
                let present = self.over_windows(function, &args[0], args[0].span, &Vec::new(), steps)?;
                return self.absent(&args[0], presence(&present, steps), steps).map(Val::Vector);
            }
            Special::Clamp => {
                let (mut table, low, high) = (vector(0)?, scalar(1)?, scalar(2)?);
                let clamp = |v: f64, low: f64, high: f64| math::max(low, math::min(high, v));
                table.map_steps(|idx, v| {
                    (high[idx] >= low[idx] || low[idx].is_nan() || high[idx].is_nan())
                        .then(|| clamp(v, low[idx], high[idx]))
                });
                table
            }
            Special::ClampMin => {
                let (mut table, low) = (vector(0)?, scalar(1)?);
                table.map_steps(|idx, v| Some(math::max(low[idx], v)));
                table
            }
            Special::ClampMax => {
                let (mut table, high) = (vector(0)?, scalar(1)?);
                table.map_steps(|idx, v| Some(math::min(high[idx], v)));
                table
            }
            Special::Round => {
                let mut table = vector(0)?;
                let to = if args.len() > 1 { Some(scalar(1)?) } else { None };
                table.map_steps(|idx, v| Some(math::round_to(v, to.as_ref().map_or(1.0, |to| to[idx]))));
                table
            }
            Special::HistogramQuantile => {
                let phi = scalar(0)?;
                self.check_quantile(&phi, &args[0]);
                let asked = Asked::Quantile { phi: &phi, label: None };
                return self.of_histograms(&[asked], &vector(1)?, args[1].span, steps).map(Val::Vector);
            }
            Special::HistogramQuantiles => return self.histogram_quantiles(call, steps).map(Val::Vector),
            Special::HistogramFraction => {
                let (lower, upper) = (scalar(0)?, scalar(1)?);
                let asked = Asked::Fraction { lower: &lower, upper: &upper };
                return self.of_histograms(&[asked], &vector(2)?, args[2].span, steps).map(Val::Vector);
            }
            Special::Info => return self.info(call, steps).map(Val::Vector),
            Special::LabelReplace => return self.label_replace(call, steps).map(Val::Vector),
            Special::LabelJoin => return self.label_join(call, steps).map(Val::Vector),
            Special::Sort { descending } => {
                let mut table = vector(0)?;
                self.note_sort(span);
                // Histograms have no order.
                table.map_values(|v| v);
                return Ok(Val::Vector(sorted(table, descending)));
            }
            Special::SortByLabel { descending } => {
                self.note_sort(span);
                return self.sort_by_label(call, descending, steps).map(Val::Vector);
            }
        };
        self.unnamed(table).map(Val::Vector)
    }

    /// Ranges are always in order of labels.
    fn note_sort(&self, span: Span) {
        if !self.is_instant {
            let text = "sort is ineffective for range queries since results are always ordered by labels";
            self.notes.borrow_mut().warn(text.to_owned(), span);
        }
    }

    fn histogram_quantiles(&self, call: &Call, steps: &Steps) -> Eval<Table> {
        let table = self.vector(&call.args[0], steps)?;
        let label = self.string(&call.args[1], steps)?;
        super::histogram::check_label(&label)?;
        let mut columns = Vec::new();
        for arg in &call.args[2..] {
            let phi = self.scalar(arg, steps)?;
            self.check_quantile(&phi, arg);
            columns.push(phi);
        }
        let asked: Vec<Asked<'_>> = columns
            .iter()
            .map(|phi| {
                let text = openmetrics_number(phi.first().copied().unwrap_or(f64::NAN));
                Asked::Quantile { phi, label: Some((&label, text)) }
            })
            .collect();
        self.of_histograms(&asked, &table, call.args[0].span, steps)
    }

    fn one_series(&self, values: Vec<f64>, steps: &Steps) -> Eval<Table> {
        let held = self.reserve(1, steps)?;
        Ok(Table { series: vec![Series::floats(Labels::empty(), values)], held })
    }

    /// The time of the sample itself for a plain selector, else of the step.
    fn timestamp(&self, arg: &Expr, steps: &Steps) -> Eval<Table> {
        let ExprKind::Vector(selector) = &arg.unparen().kind else {
            let mut table = self.vector(arg, steps)?;
            table.map_cells(|idx, _| Some(Cell::Float(steps.at(idx) as f64 / 1000.0)));
            return Ok(table);
        };
        let float = |s: &Sample| s.at.secs_f64();
        let histogram = |p: &HistPoint| Cell::Float(p.at.secs_f64());
        self.columns(selector, steps, |data| self.latest(data, selector, steps, float, histogram))
    }

    /// 1 where nothing is present, with the labels that the selector pins to one value.
    fn absent(&self, arg: &Expr, present: Vec<bool>, steps: &Steps) -> Eval<Table> {
        let held = self.reserve(1, steps)?;
        if present.iter().all(|p| *p) {
            return Ok(Table { series: Vec::new(), held });
        }
        let values = present.into_iter().map(|p| if p { ABSENT } else { 1.0 }).collect();
        Ok(Table { series: vec![Series::floats(super::labels::of_absent(arg), values)], held })
    }
}

/// The modifiers of an extended range are for functions that know what to do with more samples.
fn check_extended(function: WindowFn, call: &Call, range: &Expr) -> Eval<()> {
    let ExprKind::Matrix(VectorSelector { extended: Some(extended), .. }, _) = &range.unparen().kind else {
        return Ok(());
    };
    let (word, safe): (_, &[&str]) = match extended {
        Extended::Anchored => ("anchored", &["changes", "delta", "increase", "rate", "resets"]),
        Extended::Smoothed => ("smoothed", &["delta", "increase", "rate"]),
    };
    let name = call.function.name;
    if function.extended.is_some() && safe.contains(&name) {
        return Ok(());
    }
    let safe = safe.join(", ");
    Err(QueryError::Execution(format!("{word} modifier can only be used with: {safe} - not with {name}")))
}

fn check_factor(values: &[f64], what: &str) -> Eval<()> {
    match values.iter().find(|v| **v <= 0.0 || **v >= 1.0) {
        Some(bad) => {
            let short = if what == "smoothing" { "sf" } else { "tf" };
            Err(QueryError::Execution(format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {bad:.6}")))
        }
        None => Ok(()),
    }
}

/// A float as OpenMetrics writes it in labels: whole numbers have `.0`.
fn openmetrics_number(v: f64) -> String {
    let text = crate::number::format_literal(v);
    if v.is_finite() && !text.contains(['.', 'e']) { format!("{text}.0") } else { text }
}

fn step_seconds(steps: &Steps) -> Vec<f64> {
    steps.iter().map(|at| at as f64 / 1000.0).collect()
}

fn presence(table: &Table, steps: &Steps) -> Vec<bool> {
    let mut present = vec![false; steps.n];
    for series in &table.series {
        present.iter_mut().enumerate().for_each(|(step, p)| *p |= series.has(step));
    }
    present
}

fn to_scalar(table: &Table, steps: &Steps) -> Vec<f64> {
    let mut values = vec![ABSENT; steps.n];
    for series in &table.series {
        for (into, v) in values.iter_mut().zip(&series.values).filter(|(_, v)| !is_absent(**v)) {
            // A second one makes it no scalar; the first one is remembered by not being absent.
            *into = if is_absent(*into) { *v } else { f64::NAN };
        }
    }
    values.iter_mut().filter(|v| is_absent(**v)).for_each(|v| *v = f64::NAN);
    values
}

/// By the value at the first step: order matters to instant queries only. NaN goes last.
fn sorted(mut table: Table, descending: bool) -> Table {
    let value = |s: &Series| s.values.first().copied().unwrap_or(f64::NAN);
    table.series.sort_by(|a, b| {
        let (a, b) = (value(a), value(b));
        match (a.is_nan(), b.is_nan()) {
            (false, false) if descending => b.total_cmp(&a),
            (false, false) => a.total_cmp(&b),
            (a, b) => a.cmp(&b),
        }
    });
    table
}
