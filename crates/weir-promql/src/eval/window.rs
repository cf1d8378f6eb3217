//! What a function over a range vector sees of one series at one step.

use std::cell::RefCell;

use weir_model::source::Rollup;
use weir_model::{Labels, Sample};

use super::load::HistPoint;
use super::notes::Notes;
use super::table::Cell;
use crate::ast::{Extended, Span};

/// The samples in (start, end], ascending, without stale markers; floats and histograms are not
/// both empty. An extended window holds more on either side.
pub(crate) struct Window<'a> {
    pub samples: &'a [Sample],
    /// Of how many samples each is the sum; empty when each stands for itself.
    pub weights: &'a [f64],
    pub histograms: &'a [HistPoint],
    /// Milliseconds; excluded.
    pub start: i64,
    /// Milliseconds; included.
    pub end: i64,
    /// The step's own time, before `offset` and `@`.
    pub step_at: i64,
    /// The function's scalar arguments, or NaN.
    pub params: [f64; 2],
    /// Positions in `samples` (never 0) at which the value is below the one before; filled only
    /// when [`WindowFn::counter`] asks for it.
    pub resets: Resets<'a>,
    pub extended: Option<Extended>,
    pub report: &'a Report<'a>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Resets<'a> {
    /// Positions in the whole series.
    pub at: &'a [usize],
    /// Position of the window's first sample in the series.
    pub base: usize,
}

/// Where notes on one series go.
pub(crate) struct Report<'a> {
    pub notes: &'a RefCell<Notes>,
    pub labels: &'a Labels,
    /// Of the range vector.
    pub span: Span,
    /// Of the whole call's arguments, which some notes point at.
    pub args_span: Span,
}

impl Report<'_> {
    /// `note` gets the metric's name and where it stands.
    pub fn note(&self, note: impl FnOnce(&mut Notes, &str, Span)) {
        note(&mut self.notes.borrow_mut(), self.labels.metric_name(), self.span);
    }
}

impl<'a> Window<'a> {
    /// Bounds alone, for what looks at samples of its own.
    pub fn bare(start: i64, end: i64, extended: Option<Extended>, report: &'a Report<'a>) -> Self {
        let resets = Resets::default();
        Self {
            samples: &[],
            weights: &[],
            histograms: &[],
            start,
            end,
            step_at: end,
            params: [f64::NAN; 2],
            resets,
            extended,
            report,
        }
    }
}

impl Window<'_> {
    /// Sum of the values that were lost at counter resets inside the window, added to `to`.
    pub fn add_lost(&self, to: f64) -> f64 {
        let lost = self.resets.at.iter().map(|at| self.samples[at - self.resets.base - 1].value);
        lost.fold(to, |sum, v| sum + v)
    }

    pub fn range_secs(&self) -> f64 {
        (self.end - self.start) as f64 / 1000.0
    }
}

/// What happens when a window holds histograms.
#[derive(Clone, Copy)]
pub(crate) enum OnHistograms {
    /// Floats alone count; a mix is noted.
    Ignore,
    /// This computes, instead of `eval`.
    Use(fn(&Window<'_>) -> Option<Cell>),
}

/// A function over windows.
#[derive(Clone, Copy)]
pub(crate) struct WindowFn {
    /// Over floats. `None`: no result at this step.
    pub eval: fn(&Window<'_>) -> Option<f64>,
    pub histograms: OnHistograms,
    /// Over extended windows, where the function knows them.
    pub extended: Option<fn(&Window<'_>) -> Option<Cell>>,
    /// Whether the metric's name stays.
    pub keep_name: bool,
    /// Whether it wants `resets`.
    pub counter: bool,
    /// Whether the metric should have the name of a counter.
    pub wants_counter_name: bool,
    pub buckets: OnBuckets,
}

/// What a function does with samples that stand for buckets.
#[derive(Clone, Copy)]
pub(crate) struct OnBuckets {
    pub rollup: Rollup,
    /// It needs the last sample before the window, too: the one after that lies a bucket later.
    pub from_before: bool,
    /// Its value grows with the window, so that a longer one is scaled back.
    pub grows: bool,
}

impl WindowFn {
    pub const fn new(eval: fn(&Window<'_>) -> Option<f64>) -> Self {
        Self {
            eval,
            histograms: OnHistograms::Ignore,
            extended: None,
            keep_name: false,
            counter: false,
            wants_counter_name: false,
            buckets: OnBuckets { rollup: Rollup::Last, from_before: false, grows: false },
        }
    }
    pub const fn of_buckets(mut self, rollup: Rollup) -> Self {
        self.buckets.rollup = rollup;
        self
    }
    pub const fn starting_before(mut self) -> Self {
        self.buckets.from_before = true;
        self
    }
    pub const fn growing(mut self) -> Self {
        self.buckets.grows = true;
        self
    }
    pub const fn keeping_name(mut self) -> Self {
        self.keep_name = true;
        self
    }
    pub const fn of_counters(mut self) -> Self {
        self.counter = true;
        self
    }
    pub const fn named_as_counter(mut self) -> Self {
        self.wants_counter_name = true;
        self
    }
    pub const fn with_histograms(mut self, f: fn(&Window<'_>) -> Option<Cell>) -> Self {
        self.histograms = OnHistograms::Use(f);
        self
    }
    pub const fn with_extended(mut self, f: fn(&Window<'_>) -> Option<Cell>) -> Self {
        self.extended = Some(f);
        self
    }

    /// The value of one window.
    pub fn apply(&self, w: &Window<'_>) -> Option<Cell> {
        if w.extended.is_some() {
            return self.extended.and_then(|f| f(w));
        }
        if w.histograms.is_empty() {
            return (self.eval)(w).map(Cell::Float);
        }
        match self.histograms {
            OnHistograms::Use(f) => f(w),
            OnHistograms::Ignore if w.samples.is_empty() => None,
            OnHistograms::Ignore => {
                w.report.note(Notes::histogram_ignored_in_range);
                (self.eval)(w).map(Cell::Float)
            }
        }
    }
}
