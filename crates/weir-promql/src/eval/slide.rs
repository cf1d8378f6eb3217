//! Sliding a function along series: each series alone, so that all cores share the work.

use std::cell::RefCell;

use rayon::prelude::*;
use weir_model::{Labels, Sample, Timestamp};

use super::load::HistPoint;
use super::notes::Notes;
use super::range::{Params, RangeInput, RangeSeries};
use super::table::{Cell, Series, is_absent, without_metadata};
use super::window::{Report, Resets, Window, WindowFn};
use super::{Eval, Limits};
use crate::ast::Span;
use crate::plan::Steps;

/// Samples looked at between two questions whether anybody still waits: well under a millisecond.
const TICK_SAMPLES: usize = 1 << 17;
/// Windows and samples below which one core is done before another one would have begun.
const SHARED_MIN: usize = 1 << 15;
/// Parts per core, so that one with long series does not keep the others waiting.
const PARTS: usize = 4;

/// A function, what it slides over, and where its results go.
pub(super) struct Slide<'a> {
    pub function: WindowFn,
    pub input: &'a RangeInput<'a>,
    pub params: &'a Params,
    pub steps: &'a Steps,
    pub limits: Limits<'a>,
    /// Of the range vector, and of the whole call's arguments.
    pub span: Span,
    pub args_span: Span,
    pub late_names: bool,
    pub type_and_unit_labels: bool,
    /// Whether samples are counted for each step.
    pub per_step: bool,
}

/// What came of some of the series.
#[derive(Default)]
pub(super) struct Slid {
    /// One for each series that has a result at any step, in their order.
    pub series: Vec<Series>,
    pub notes: Notes,
    pub n_samples: u64,
    /// Empty unless they are counted.
    pub per_step: Vec<u64>,
}

impl Slid {
    fn add(mut self, other: Self) -> Self {
        self.series.extend(other.series);
        self.notes.add(other.notes);
        self.n_samples += other.n_samples;
        self.per_step.iter_mut().zip(other.per_step).for_each(|(sum, n)| *sum += n);
        self
    }
}

impl Slide<'_> {
    /// The columns of all series, in their order.
    pub fn run(&self) -> Eval<Slid> {
        let all = &self.input.series;
        let n_samples: usize = all.iter().map(|s| s.floats.len() + s.histograms.len()).sum();
        let work = n_samples.saturating_add(all.len().saturating_mul(self.steps.n));
        let parts = rayon::current_num_threads() * PARTS;
        if work < SHARED_MIN || all.len() < 2 || parts == PARTS {
            return self.part(all);
        }
        let parts: Vec<Slid> =
            all.par_chunks(all.len().div_ceil(parts)).map(|part| self.part(part)).collect::<Eval<_>>()?;
        Ok(parts.into_iter().reduce(Slid::add).unwrap_or_default())
    }

    fn part(&self, part: &[RangeSeries<'_>]) -> Eval<Slid> {
        let notes = RefCell::default();
        let mut out = Slid { series: Vec::with_capacity(part.len()), ..Slid::default() };
        if self.per_step {
            out.per_step = vec![0; self.steps.n];
        }
        let mut resets = Vec::new();
        for one in part {
            self.limits.check()?;
            let report = Report { notes: &notes, labels: &one.labels, span: self.span, args_span: self.args_span };
            let Some(column) = self.along(one, &report, &mut resets, &mut out)? else { continue };
            if self.function.wants_counter_name && column.values.iter().any(|v| !is_absent(*v)) {
                self.note_counter_name(&one.labels, &mut notes.borrow_mut());
            }
            out.series.push(self.named(column, one));
        }
        out.notes = notes.into_inner();
        Ok(out)
    }

    fn note_counter_name(&self, labels: &Labels, notes: &mut Notes) {
        if self.type_and_unit_labels {
            notes.no_counter_type(labels.metric_name(), labels.value("__type__"), self.span);
        } else {
            notes.maybe_no_counter(labels.metric_name(), self.span);
        }
    }

    fn named(&self, mut column: Series, from: &RangeSeries<'_>) -> Series {
        let drop_name = !self.function.keep_name || from.drop_name;
        column.labels =
            if drop_name && !self.late_names { without_metadata(&from.labels) } else { (*from.labels).clone() };
        column.drop_name = drop_name && self.late_names;
        column
    }

    /// One column; `None` when no step has a result. Window bounds only move forward, so finding
    /// them costs one pass over the samples.
    fn along(
        &self,
        series: &RangeSeries<'_>,
        report: &Report<'_>,
        resets: &mut Vec<usize>,
        out: &mut Slid,
    ) -> Eval<Option<Series>> {
        let (samples, histograms) = (&*series.floats, &*series.histograms);
        resets.clear();
        if self.function.counter {
            resets.extend((1..samples.len()).filter(|at| samples[*at].value < samples[at - 1].value));
        }
        let float_time = |s: &Sample| s.at.0;
        let mut column: Option<Series> = None;
        let (mut from, mut to, mut reset_from, mut reset_to) = (0, 0, 0, 0);
        let (mut hist_from, mut hist_to) = (0, 0);
        let mut seen = 0;
        for (idx, step_at) in self.steps.iter().enumerate() {
            let asked = self.input.bounds(step_at);
            let (start, end) = self.input.buckets.window(asked);
            let (first, last) = self.input.reach((start, end));
            from = past(samples, from, first, float_time);
            to = past(samples, to.max(from), last, float_time);
            if !histograms.is_empty() {
                let time = |p: &HistPoint| p.at.0;
                hist_from = past(histograms, hist_from, first, time);
                hist_to = past(histograms, hist_to.max(hist_from), last, time);
            }
            let n = (to - from) + (hist_to - hist_from);
            if n == 0 {
                continue;
            }
            seen += n;
            if let Some(sum) = out.per_step.get_mut(idx) {
                *sum += n as u64;
            }
            if seen / TICK_SAMPLES != (seen - n) / TICK_SAMPLES {
                self.limits.check()?;
            }
            // Of buckets, the sample before the window is at its edge.
            let before = if self.function.buckets.from_before { self.input.buckets.length_at(start) } else { 0 };
            let is_near = |at: Timestamp| start.saturating_sub(before) < at.0;
            let lead = usize::from(before > 0 && from > 0 && is_near(samples[from - 1].at));
            let hist_lead = usize::from(before > 0 && hist_from > 0 && is_near(histograms[hist_from - 1].at));
            let base = from - lead;
            // A reset at the first sample compares it with one outside the window.
            let itself = |at: &usize| *at as i64;
            reset_from = past(resets, reset_from, base as i64, itself);
            reset_to = past(resets, reset_to.max(reset_from), to as i64 - 1, itself);
            let param = |k: usize| self.params.get(k).map_or(f64::NAN, |p| p[idx]);
            let window = Window {
                samples: &samples[base..to],
                weights: series.weights.get(from..to).unwrap_or_default(),
                histograms: &histograms[hist_from - hist_lead..hist_to],
                start,
                end,
                step_at,
                params: [param(0), param(1)],
                resets: Resets { at: &resets[reset_from..reset_to], base },
                extended: self.input.extended,
                report,
            };
            if let Some(cell) = self.function.apply(&window) {
                let cell = if self.function.buckets.grows { scaled(cell, asked, (start, end)) } else { cell };
                column.get_or_insert_with(|| Series::empty(Labels::empty(), self.steps.n)).set(idx, Some(cell));
            }
        }
        out.n_samples += seen as u64;
        Ok(column)
    }
}

/// What a window gives for the one that was asked for, where they differ in length.
fn scaled(cell: Cell, asked: (i64, i64), window: (i64, i64)) -> Cell {
    let (asked, length) = (asked.1 - asked.0, window.1 - window.0);
    if asked == length || length <= 0 {
        return cell;
    }
    let by = asked as f64 / length as f64;
    match cell {
        Cell::Float(value) => Cell::Float(value * by),
        Cell::Histogram(h) => {
            let mut h = (*h).clone();
            h.scale(by);
            h.into()
        }
    }
}

/// The first position from `at` on whose time is after `time`.
fn past<T>(items: &[T], mut at: usize, time: i64, of: impl Fn(&T) -> i64) -> usize {
    while items.get(at).is_some_and(|item| of(item) <= time) {
        at += 1;
    }
    at
}
