//! What a function over a range vector sees of one series at one step.

use weir_model::Sample;

/// The samples in (start, end], ascending, without stale markers; never empty.
pub(crate) struct Window<'a> {
    pub samples: &'a [Sample],
    /// Milliseconds; excluded.
    pub start: i64,
    /// Milliseconds; included.
    pub end: i64,
    /// The step's own time, before `offset` and `@`.
    pub step_at: i64,
    /// The function's scalar argument, or NaN.
    pub param: f64,
    /// Positions in `samples` (never 0) at which the value is below the one before; filled only
    /// when [`WindowFn::counter`] asks for it.
    pub resets: Resets<'a>,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Resets<'a> {
    /// Positions in the whole series.
    pub at: &'a [usize],
    /// Position of the window's first sample in the series.
    pub base: usize,
}

impl Window<'_> {
    /// Sum of the values that were lost at counter resets inside the window, added to `to`.
    pub fn add_lost(&self, to: f64) -> f64 {
        let lost = self.resets.at.iter().map(|at| self.samples[at - self.resets.base - 1].value);
        lost.fold(to, |sum, v| sum + v)
    }
}

/// A function over windows.
#[derive(Clone, Copy)]
pub(crate) struct WindowFn {
    /// `None`: no result at this step.
    pub eval: fn(&Window<'_>) -> Option<f64>,
    /// Whether the metric's name stays.
    pub keep_name: bool,
    /// Whether it wants `resets`, and takes its input for a counter.
    pub counter: bool,
}

impl WindowFn {
    pub const fn new(eval: fn(&Window<'_>) -> Option<f64>) -> Self {
        Self { eval, keep_name: false, counter: false }
    }
    pub const fn keeping_name(mut self) -> Self {
        self.keep_name = true;
        self
    }
    pub const fn of_counters(mut self) -> Self {
        self.counter = true;
        self
    }
}
