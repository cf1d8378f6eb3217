//! Range vectors: of a selector, or of a subquery.

use std::borrow::Cow;
use std::sync::Arc;

use weir_model::histogram::ResetHint;
use weir_model::{FloatHistogram, Labels, Reservation, Sample, Timestamp, is_stale};

use super::buckets::{self, Buckets};
use super::load::{HistPoint, Loaded};
use super::slide::Slide;
use super::table::{Series, Table, is_absent};
use super::window::WindowFn;
use super::{Eval, Evaluator, selector_time, type_mismatch};
use crate::ast::*;
use crate::plan::{Steps, millis, subquery_steps};

/// All samples that any window of a range vector may hold, without stale markers.
pub(super) struct RangeSeries<'a> {
    pub labels: Cow<'a, Labels>,
    pub drop_name: bool,
    pub floats: Cow<'a, [Sample]>,
    /// Of the floats; empty when each stands for itself.
    pub weights: Cow<'a, [f64]>,
    pub histograms: Cow<'a, [HistPoint]>,
}

pub(super) struct RangeInput<'a> {
    pub series: Vec<RangeSeries<'a>>,
    range_ms: i64,
    offset_ms: i64,
    at: Option<At>,
    pub extended: Option<Extended>,
    lookback_ms: i64,
    pub buckets: &'a Buckets,
    _held: Option<Reservation>,
}

impl RangeInput<'_> {
    /// The window of a step: start excluded, end included.
    pub fn bounds(&self, step_at: i64) -> (i64, i64) {
        let end = selector_time(self.at, step_at).saturating_sub(self.offset_ms);
        (end.saturating_sub(self.range_ms), end)
    }

    /// Where samples are taken from: an extended window looks back, and ahead when smoothed.
    pub fn reach(&self, (start, end): (i64, i64)) -> (i64, i64) {
        match self.extended {
            None => (start, end),
            Some(Extended::Anchored) => (start.saturating_sub(self.lookback_ms), end),
            Some(Extended::Smoothed) => (start.saturating_sub(self.lookback_ms), end.saturating_add(self.lookback_ms)),
        }
    }
}

/// The scalar arguments of a function, one per step.
pub(super) type Params = Vec<Vec<f64>>;

impl Evaluator {
    pub(super) fn range_input<'a>(&'a self, expr: &Expr, steps: &Steps) -> Eval<RangeInput<'a>> {
        match &expr.kind {
            ExprKind::Paren(inner) => self.range_input(inner, steps),
            ExprKind::Matrix(selector, range) => {
                let series = self.loaded[selector.slot].iter().map(|s| RangeSeries {
                    labels: Cow::Borrowed(&s.labels),
                    drop_name: false,
                    floats: without_stale(&s.floats),
                    weights: weights_without_stale(s),
                    histograms: Cow::Borrowed(&s.histograms[..]),
                });
                Ok(RangeInput {
                    series: series.collect(),
                    range_ms: millis(*range),
                    offset_ms: selector.offset_ms,
                    at: selector.at,
                    extended: selector.extended,
                    lookback_ms: self.settings.lookback_ms.saturating_add(self.buckets[selector.slot].longest()),
                    buckets: &self.buckets[selector.slot],
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
            let time = |idx: usize| Timestamp(inner.at(idx));
            let present = s.values.into_iter().enumerate().filter(|(_, v)| !is_absent(*v));
            let floats: Vec<Sample> = present.map(|(idx, value)| Sample { at: time(idx), value }).collect();
            let filled = s.histograms.into_iter().enumerate().filter_map(|(idx, h)| Some((idx, h?)));
            let histograms: Vec<HistPoint> =
                filled.map(|(idx, h)| HistPoint { at: time(idx), h: resampled(h) }).collect();
            RangeSeries {
                labels: Cow::Owned(s.labels),
                drop_name: s.drop_name,
                floats: Cow::Owned(floats),
                weights: Cow::Borrowed(&[]),
                histograms: Cow::Owned(histograms),
            }
        };
        Ok(RangeInput {
            series: table.series.into_iter().map(to_samples).collect(),
            range_ms: millis(sub.range),
            offset_ms: sub.offset_ms,
            at: sub.at,
            extended: None,
            lookback_ms: self.settings.lookback_ms,
            buckets: &buckets::NONE,
            _held: Some(held),
        })
    }

    pub(super) fn over_windows(
        &self,
        function: WindowFn,
        arg: &Expr,
        args_span: Span,
        params: &Params,
        steps: &Steps,
    ) -> Eval<Table> {
        let input = self.range_input(arg, steps)?;
        let held = self.reserve(input.series.len(), steps)?;
        let settings = &self.settings;
        let slide = Slide {
            function,
            input: &input,
            params,
            steps,
            limits: self.limits(),
            span: arg.span,
            args_span,
            late_names: settings.late_names,
            type_and_unit_labels: settings.type_and_unit_labels,
            per_step: settings.stats_per_step && *steps == self.top,
        };
        let found = slide.run()?;
        self.notes.borrow_mut().add(found.notes);
        self.samples.set(self.samples.get() + found.n_samples);
        self.per_step.borrow_mut().iter_mut().zip(found.per_step).for_each(|(sum, n)| *sum += n);
        if !input.series.is_empty() && input.buckets.longest() > input.range_ms {
            self.notes.borrow_mut().widened(input.range_ms, input.buckets.longest(), arg.span);
        }
        let table = Table { series: found.series, held };
        if function.keep_name || self.settings.late_names { Ok(table) } else { table.merged() }
    }
}

/// Steps leave samples out, so that what a hint says of the sample before no longer holds.
fn resampled(h: Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match h.hint {
        ResetHint::Reset | ResetHint::NotReset => Arc::new(FloatHistogram { hint: ResetHint::Unknown, ..(*h).clone() }),
        ResetHint::Unknown | ResetHint::Gauge => h,
    }
}

fn weights_without_stale(data: &Loaded) -> Cow<'_, [f64]> {
    if data.weights.is_empty() || !data.floats.iter().any(|s| is_stale(s.value)) {
        return Cow::Borrowed(&data.weights);
    }
    let real = data.floats.iter().zip(&data.weights).filter(|(s, _)| !is_stale(s.value));
    Cow::Owned(real.map(|(_, weight)| *weight).collect())
}

pub(super) fn without_stale(samples: &[Sample]) -> Cow<'_, [Sample]> {
    if samples.iter().any(|s| is_stale(s.value)) {
        Cow::Owned(samples.iter().filter(|s| !is_stale(s.value)).copied().collect())
    } else {
        Cow::Borrowed(samples)
    }
}
