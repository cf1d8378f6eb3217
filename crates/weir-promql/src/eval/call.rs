//! Function calls.

use weir_model::Labels;

use super::table::{ABSENT, Series, Table, is_absent};
use super::{Eval, Evaluator, Val, math, type_mismatch};
use crate::ast::*;
use crate::function::{Imp, Special};
use crate::plan::Steps;

impl Evaluator {
    pub(super) fn call(&self, call: &Call, steps: &Steps) -> Eval<Val> {
        match call.function.imp {
            Imp::Special(special) => self.special(special, call, steps),
            Imp::Math(f) => {
                let mut table = self.vector(&call.args[0], steps)?;
                table.map_values(f);
                table.drop_names();
                table.merged().map(Val::Vector)
            }
            Imp::Date(f) => {
                let mut table = match call.args.first() {
                    Some(arg) => self.vector(arg, steps)?,
                    None => self.one_series(step_seconds(steps), steps)?,
                };
                table.map_values(|v| if v.is_nan() { f64::NAN } else { f(v) });
                table.drop_names();
                table.merged().map(Val::Vector)
            }
            Imp::Window(function) => {
                let is_range = |e: &&Expr| e.value_type() == ValueType::Matrix;
                let Some(range) = call.args.iter().find(is_range) else {
                    return Err(type_mismatch(&call.args[0], ValueType::Matrix));
                };
                let param = match call.args.iter().find(|e| !is_range(e)) {
                    Some(param) => {
                        let values = self.scalar(param, steps)?;
                        if call.function.name == "quantile_over_time" {
                            self.check_quantile(&values, param);
                        }
                        Some(values)
                    }
                    None => None,
                };
                self.over_windows(function, range, param.as_deref(), steps).map(Val::Vector)
            }
        }
    }

    /// Notes a φ outside [0, 1].
    pub(super) fn check_quantile(&self, values: &[f64], expr: &Expr) {
        if let Some(bad) = values.iter().find(|phi| !(0.0..=1.0).contains(*phi)) {
            self.notes.borrow_mut().bad_quantile(*bad, expr.span);
        }
    }

    fn special(&self, special: Special, call: &Call, steps: &Steps) -> Eval<Val> {
        let args = &call.args;
        let vector = |idx: usize| self.vector(&args[idx], steps);
        let scalar = |idx: usize| self.scalar(&args[idx], steps);
        let table = match special {
            Special::Pi => return Ok(Val::Scalar(vec![std::f64::consts::PI; steps.n])),
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
                let present = self.over_windows(super::over_time::PRESENT.keeping_name(), &args[0], None, steps)?;
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
                return self.histogram_quantile(&phi, vector(1)?, args[1].span, steps).map(Val::Vector);
            }
            Special::LabelReplace => return self.label_replace(call, steps).map(Val::Vector),
            Special::LabelJoin => return self.label_join(call, steps).map(Val::Vector),
            Special::Sort { descending } => return vector(0).map(|t| Val::Vector(sorted(t, descending))),
            Special::SortByLabel { descending } => return self.sort_by_label(call, descending, steps).map(Val::Vector),
        };
        let mut table = table;
        table.drop_names();
        table.merged().map(Val::Vector)
    }

    fn one_series(&self, values: Vec<f64>, steps: &Steps) -> Eval<Table> {
        let held = self.reserve(1, steps)?;
        Ok(Table { series: vec![Series { labels: Labels::empty(), values }], held })
    }

    /// The time of the sample itself for a plain selector, else of the step.
    fn timestamp(&self, arg: &Expr, steps: &Steps) -> Eval<Table> {
        let ExprKind::Vector(selector) = &arg.unparen().kind else {
            let mut table = self.vector(arg, steps)?;
            table.map_steps(|idx, _| Some(steps.at(idx) as f64 / 1000.0));
            return Ok(table);
        };
        let loaded = &self.loaded[selector.slot];
        let held = self.reserve(loaded.len(), steps)?;
        let mut series = Vec::with_capacity(loaded.len());
        for data in loaded {
            self.tick()?;
            let values = self.latest(&data.samples, selector, steps, |s| s.at.secs_f64());
            if !values.is_empty() {
                series.push(Series { labels: data.labels.clone(), values });
            }
        }
        Ok(Table { series, held })
    }

    /// 1 where nothing is present, with the labels that the selector pins to one value.
    fn absent(&self, arg: &Expr, present: Vec<bool>, steps: &Steps) -> Eval<Table> {
        let held = self.reserve(1, steps)?;
        if present.iter().all(|p| *p) {
            return Ok(Table { series: Vec::new(), held });
        }
        let values = present.into_iter().map(|p| if p { ABSENT } else { 1.0 }).collect();
        Ok(Table { series: vec![Series { labels: super::labels::of_absent(arg), values }], held })
    }
}

fn step_seconds(steps: &Steps) -> Vec<f64> {
    steps.iter().map(|at| at as f64 / 1000.0).collect()
}

fn presence(table: &Table, steps: &Steps) -> Vec<bool> {
    let mut present = vec![false; steps.n];
    for series in &table.series {
        present.iter_mut().zip(&series.values).for_each(|(p, v)| *p |= !is_absent(*v));
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
