//! Range vectors and the functions over their windows, which slide along each series.

use std::borrow::Cow;
use std::sync::Arc;

use weir_model::histogram::ResetHint;
use weir_model::{FloatHistogram, Labels, Reservation, Sample, Timestamp, is_stale};

use super::load::HistPoint;
use super::table::{Series, Table, is_absent, without_metadata};
use super::window::{Report, Resets, Window, WindowFn};
use super::{Eval, Evaluator, selector_time, type_mismatch};
use crate::ast::*;
use crate::plan::{Steps, millis, subquery_steps};

/// Samples looked at between two questions whether anybody still waits: well under a millisecond.
const TICK_SAMPLES: usize = 1 << 17;

/// All samples that any window of a range vector may hold, without stale markers.
pub(super) struct RangeSeries<'a> {
    pub labels: Cow<'a, Labels>,
    pub drop_name: bool,
    pub floats: Cow<'a, [Sample]>,
    pub histograms: Cow<'a, [HistPoint]>,
}

pub(super) struct RangeInput<'a> {
    pub series: Vec<RangeSeries<'a>>,
    range_ms: i64,
    offset_ms: i64,
    at: Option<At>,
    pub extended: Option<Extended>,
    lookback_ms: i64,
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
                    histograms: Cow::Borrowed(&s.histograms[..]),
                });
                Ok(RangeInput {
                    series: series.collect(),
                    range_ms: millis(*range),
                    offset_ms: selector.offset_ms,
                    at: selector.at,
                    extended: selector.extended,
                    lookback_ms: self.settings.lookback_ms,
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
        let mut series = Vec::with_capacity(input.series.len());
        for one in &input.series {
            self.tick()?;
            let report = Report { notes: &self.notes, labels: &one.labels, span: arg.span, args_span };
            let Some(column) = self.slide(function, &input, one, &report, params, steps)? else { continue };
            if function.wants_counter_name && column.values.iter().any(|v| !is_absent(*v)) {
                self.note_counter_name(&one.labels, arg.span);
            }
            series.push(self.named(column, one, function.keep_name));
        }
        let table = Table { series, held };
        if function.keep_name || self.settings.late_names { Ok(table) } else { table.merged() }
    }

    fn note_counter_name(&self, labels: &Labels, span: Span) {
        let mut notes = self.notes.borrow_mut();
        if self.settings.type_and_unit_labels {
            notes.no_counter_type(labels.metric_name(), labels.value("__type__"), span);
        } else {
            notes.maybe_no_counter(labels.metric_name(), span);
        }
    }

    fn named(&self, mut column: Series, from: &RangeSeries<'_>, keep_name: bool) -> Series {
        let drop_name = !keep_name || from.drop_name;
        column.labels = if drop_name && !self.settings.late_names {
            without_metadata(&from.labels)
        } else {
            (*from.labels).clone()
        };
        column.drop_name = drop_name && self.settings.late_names;
        column
    }

    /// One column; `None` when no step has a result. Window bounds only move forward, so finding
    /// them costs one pass over the samples.
    fn slide(
        &self,
        function: WindowFn,
        input: &RangeInput<'_>,
        series: &RangeSeries<'_>,
        report: &Report<'_>,
        params: &Params,
        steps: &Steps,
    ) -> Eval<Option<Series>> {
        let (samples, histograms) = (&*series.floats, &*series.histograms);
        let mut resets = Vec::new();
        if function.counter {
            resets.extend((1..samples.len()).filter(|at| samples[*at].value < samples[at - 1].value));
        }
        let mut column: Option<Series> = None;
        let (mut from, mut to, mut reset_from, mut reset_to) = (0, 0, 0, 0);
        let (mut hist_from, mut hist_to) = (0, 0);
        let mut seen = 0;
        for (idx, step_at) in steps.iter().enumerate() {
            let (start, end) = input.bounds(step_at);
            let (first, last) = input.reach((start, end));
            from += samples[from..].iter().take_while(|s| s.at.0 <= first).count();
            to = to.max(from);
            to += samples[to..].iter().take_while(|s| s.at.0 <= last).count();
            hist_from += histograms[hist_from..].iter().take_while(|p| p.at.0 <= first).count();
            hist_to = hist_to.max(hist_from);
            hist_to += histograms[hist_to..].iter().take_while(|p| p.at.0 <= last).count();
            let n = (to - from) + (hist_to - hist_from);
            if n == 0 {
                continue;
            }
            seen += n;
            self.count_at(idx, steps, n);
            if seen / TICK_SAMPLES != (seen - n) / TICK_SAMPLES {
                self.tick()?;
            }
            // A reset at the first sample compares it with one outside the window.
            reset_from += resets[reset_from..].iter().take_while(|at| **at <= from).count();
            reset_to = reset_to.max(reset_from);
            reset_to += resets[reset_to..].iter().take_while(|at| **at < to).count();
            let param = |k: usize| params.get(k).map_or(f64::NAN, |p| p[idx]);
            let window = Window {
                samples: &samples[from..to],
                histograms: &histograms[hist_from..hist_to],
                start,
                end,
                step_at,
                params: [param(0), param(1)],
                resets: Resets { at: &resets[reset_from..reset_to], base: from },
                extended: input.extended,
                report,
            };
            if let Some(cell) = function.apply(&window) {
                let column = column.get_or_insert_with(|| Series::empty(Labels::empty(), steps.n));
                column.set(idx, Some(cell));
            }
        }
        self.count_samples(seen);
        Ok(column)
    }
}

/// Steps leave samples out, so that what a hint says of the sample before no longer holds.
fn resampled(h: Arc<FloatHistogram>) -> Arc<FloatHistogram> {
    match h.hint {
        ResetHint::Reset | ResetHint::NotReset => Arc::new(FloatHistogram { hint: ResetHint::Unknown, ..(*h).clone() }),
        ResetHint::Unknown | ResetHint::Gauge => h,
    }
}

pub(super) fn without_stale(samples: &[Sample]) -> Cow<'_, [Sample]> {
    if samples.iter().any(|s| is_stale(s.value)) {
        Cow::Owned(samples.iter().filter(|s| !is_stale(s.value)).copied().collect())
    } else {
        Cow::Borrowed(samples)
    }
}
