//! Range vectors and the functions over their windows, which slide along each series.

use std::borrow::Cow;

use weir_model::{Labels, Reservation, Sample, Timestamp, is_stale};

use super::table::{ABSENT, Series, Table, is_absent};
use super::window::{Resets, Window, WindowFn};
use super::{Eval, Evaluator, selector_time, type_mismatch};
use crate::ast::*;
use crate::plan::{Steps, millis, subquery_steps};

/// Samples looked at between two questions whether anybody still waits: well under a millisecond.
const TICK_SAMPLES: usize = 1 << 17;

/// All samples that any window of a range vector may hold, per series, without stale markers.
pub(super) struct RangeInput<'a> {
    pub series: Vec<(Cow<'a, Labels>, Cow<'a, [Sample]>)>,
    range_ms: i64,
    offset_ms: i64,
    at: Option<At>,
    _held: Option<Reservation>,
}

impl RangeInput<'_> {
    /// The window of a step: start excluded, end included.
    pub fn bounds(&self, step_at: i64) -> (i64, i64) {
        let end = selector_time(self.at, step_at).saturating_sub(self.offset_ms);
        (end.saturating_sub(self.range_ms), end)
    }
}

impl Evaluator {
    pub(super) fn range_input<'a>(&'a self, expr: &Expr, steps: &Steps) -> Eval<RangeInput<'a>> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.range_input(inner, steps),
            ExprKind::Matrix(selector, range) => {
                let series = self.loaded[selector.slot].iter();
                Ok(RangeInput {
                    series: series.map(|s| (Cow::Borrowed(&s.labels), without_stale(&s.samples))).collect(),
                    range_ms: millis(*range),
                    offset_ms: selector.offset_ms,
                    at: selector.at,
                    _held: None,
                })
            }
            ExprKind::Subquery(sub) => self.subquery(sub, steps),
            _ => Err(type_mismatch(expr, ValueType::Matrix)),
        }
    }

    fn subquery<'a>(&'a self, sub: &Subquery, steps: &Steps) -> Eval<RangeInput<'a>> {
        let inner = subquery_steps(sub, steps, self.settings.subquery_step_ms);
        let table = if inner.n == 0 {
            Table { series: Vec::new(), held: self.reserve(0, &inner)? }
        } else {
            self.vector(&sub.expr, &inner)?
        };
        // Samples are twice as large as cells.
        let n = table.series.len() as u64 * inner.n as u64;
        let held = self.reserve_bytes(n.saturating_mul(super::BYTES_PER_SAMPLE))?;
        let to_samples = |s: Series| {
            let present = s.values.into_iter().enumerate().filter(|(_, v)| !is_absent(*v));
            let samples: Vec<Sample> =
                present.map(|(idx, value)| Sample { at: Timestamp(inner.at(idx)), value }).collect();
            (Cow::Owned(s.labels), Cow::Owned(samples))
        };
        Ok(RangeInput {
            series: table.series.into_iter().map(to_samples).collect(),
            range_ms: millis(sub.range),
            offset_ms: sub.offset_ms,
            at: sub.at,
            _held: Some(held),
        })
    }

    /// `param`: the function's scalar argument per step, when it has one.
    pub(super) fn over_windows(
        &self,
        function: WindowFn,
        arg: &Expr,
        param: Option<&[f64]>,
        steps: &Steps,
    ) -> Eval<Table> {
        let input = self.range_input(arg, steps)?;
        let held = self.reserve(input.series.len(), steps)?;
        let mut series = Vec::with_capacity(input.series.len());
        let mut resets = Vec::new();
        for (labels, samples) in &input.series {
            self.tick()?;
            resets.clear();
            if function.counter {
                resets.extend((1..samples.len()).filter(|at| samples[*at].value < samples[at - 1].value));
                if samples.len() > 1 {
                    self.notes.borrow_mut().maybe_no_counter(labels.metric_name(), arg.span);
                }
            }
            let values = self.slide(function, &input, samples, &resets, param, steps)?;
            if !values.is_empty() {
                let labels = if function.keep_name { (**labels).clone() } else { labels.without_name() };
                series.push(Series { labels, values });
            }
        }
        let table = Table { series, held };
        if function.keep_name { Ok(table) } else { table.merged() }
    }

    /// One column; empty when no step has a result. Window bounds only move forward, so finding
    /// them costs one pass over the samples.
    fn slide(
        &self,
        function: WindowFn,
        input: &RangeInput<'_>,
        samples: &[Sample],
        resets: &[usize],
        param: Option<&[f64]>,
        steps: &Steps,
    ) -> Eval<Vec<f64>> {
        let mut values = Vec::new();
        let (mut from, mut to, mut reset_from, mut reset_to) = (0, 0, 0, 0);
        let mut seen = 0;
        for (idx, step_at) in steps.iter().enumerate() {
            let (start, end) = input.bounds(step_at);
            from += samples[from..].iter().take_while(|s| s.at.0 <= start).count();
            to = to.max(from);
            to += samples[to..].iter().take_while(|s| s.at.0 <= end).count();
            if from == to {
                continue;
            }
            seen += to - from;
            if seen / TICK_SAMPLES != (seen - (to - from)) / TICK_SAMPLES {
                self.tick()?;
            }
            // A reset at the first sample compares it with one outside the window.
            reset_from += resets[reset_from..].iter().take_while(|at| **at <= from).count();
            reset_to = reset_to.max(reset_from);
            reset_to += resets[reset_to..].iter().take_while(|at| **at < to).count();
            let window = Window {
                samples: &samples[from..to],
                start,
                end,
                step_at,
                param: param.map_or(f64::NAN, |p| p[idx]),
                resets: Resets { at: &resets[reset_from..reset_to], base: from },
            };
            if let Some(value) = (function.eval)(&window) {
                if values.is_empty() {
                    values = vec![ABSENT; steps.n];
                }
                values[idx] = value;
            }
        }
        self.count_samples(seen);
        Ok(values)
    }
}

fn without_stale(samples: &[Sample]) -> Cow<'_, [Sample]> {
    if samples.iter().any(|s| is_stale(s.value)) {
        Cow::Owned(samples.iter().filter(|s| !is_stale(s.value)).copied().collect())
    } else {
        Cow::Borrowed(samples)
    }
}
