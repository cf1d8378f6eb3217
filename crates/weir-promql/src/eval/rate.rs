//! Change over time: `rate` and its relatives, and linear regression.

use weir_model::source::Rollup;

use super::extended;
use super::math::Kahan;
use super::rate_histogram::{extrapolated_histogram, instant_value};
use super::window::{Window, WindowFn};

pub(crate) const RATE: WindowFn = WindowFn::new(|w| extrapolated(w, true, w.range_secs()))
    .with_histograms(|w| extrapolated_histogram(w, true, w.range_secs()))
    .with_extended(|w| extended::rate(w, true, w.range_secs()))
    .of_counters()
    .named_as_counter()
    .of_buckets(Rollup::Counter)
    .starting_before();
pub(crate) const INCREASE: WindowFn = WindowFn::new(|w| extrapolated(w, true, 1.0))
    .with_histograms(|w| extrapolated_histogram(w, true, 1.0))
    .with_extended(|w| extended::rate(w, true, 1.0))
    .of_counters()
    .named_as_counter()
    .of_buckets(Rollup::Counter)
    .starting_before()
    .growing();
pub(crate) const DELTA: WindowFn = WindowFn::new(|w| extrapolated(w, false, 1.0))
    .with_histograms(|w| extrapolated_histogram(w, false, 1.0))
    .with_extended(|w| extended::rate(w, false, 1.0))
    .starting_before()
    .growing();
pub(crate) const IRATE: WindowFn =
    WindowFn::new(irate).with_histograms(|w| instant_value(w, true)).of_buckets(Rollup::Counter).starting_before();
pub(crate) const IDELTA: WindowFn =
    WindowFn::new(idelta).with_histograms(|w| instant_value(w, false)).starting_before();
pub(crate) const DERIV: WindowFn = WindowFn::new(deriv).starting_before();
pub(crate) const PREDICT_LINEAR: WindowFn = WindowFn::new(predict_linear).starting_before();

/// Change between first and last sample, stretched to the window's edges as far as the samples'
/// spacing suggests that the series reached them, and for counters never below a start at zero;
/// divided by `divisor`.
///
/// Source: Prometheus 3 `promql/functions.go`, `extrapolatedRate`.
fn extrapolated(w: &Window<'_>, counter: bool, divisor: f64) -> Option<f64> {
    let [first, .., last] = w.samples else { return None };
    let mut change = last.value - first.value;
    if counter {
        change = w.add_lost(change);
    }
    let to_zero =
        |sampled: f64| (counter && change > 0.0 && first.value >= 0.0).then(|| sampled * (first.value / change));
    let span = Extent { first: first.at.0, last: last.at.0, n: w.samples.len() };
    // The factor is divided first, as upstream does it: results agree to the last bit.
    Some(change * (factor(w, &span, to_zero) / divisor))
}

/// Where the samples of a window begin and end, and how many there are.
pub(super) struct Extent {
    pub first: i64,
    pub last: i64,
    pub n: usize,
}

/// By how much a change between the samples is stretched to stand for the window. `to_zero`: how
/// long before the first sample, given the seconds sampled, a counter was zero.
pub(super) fn factor(w: &Window<'_>, at: &Extent, to_zero: impl Fn(f64) -> Option<f64>) -> f64 {
    let secs = |from: i64, to: i64| (to - from) as f64 / 1000.0;
    let sampled = secs(at.first, at.last);
    let spacing = sampled / (at.n - 1) as f64;
    let threshold = spacing * 1.1;
    let mut to_start = secs(w.start, at.first);
    if to_start >= threshold {
        to_start = spacing / 2.0;
    }
    if let Some(to_zero) = to_zero(sampled) {
        to_start = to_start.min(to_zero);
    }
    let mut to_end = secs(at.last, w.end);
    if to_end >= threshold {
        to_end = spacing / 2.0;
    }
    if sampled == 0.0 { 1.0 } else { (sampled + to_start + to_end) / sampled }
}

fn irate(w: &Window<'_>) -> Option<f64> {
    let [.., before, last] = w.samples else { return None };
    let change = if last.value < before.value { last.value } else { last.value - before.value };
    Some(change / ((last.at.0 - before.at.0) as f64 / 1000.0))
}

fn idelta(w: &Window<'_>) -> Option<f64> {
    let [.., before, last] = w.samples else { return None };
    Some(last.value - before.value)
}

fn deriv(w: &Window<'_>) -> Option<f64> {
    (w.samples.len() >= 2).then(|| regression(w, w.samples[0].at.0).0)
}

fn predict_linear(w: &Window<'_>) -> Option<f64> {
    if w.samples.len() < 2 {
        return None;
    }
    let (slope, intercept) = regression(w, w.step_at);
    Some(slope * w.params[0] + intercept)
}

/// Slope per second and value at `zero_at`, by least squares.
fn regression(w: &Window<'_>, zero_at: i64) -> (f64, f64) {
    let first = w.samples[0].value;
    if w.samples.iter().all(|s| s.value == first) {
        return if first.is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, first) };
    }
    let (mut sum_x, mut sum_y, mut sum_xy, mut sum_x2) =
        (Kahan::default(), Kahan::default(), Kahan::default(), Kahan::default());
    for s in w.samples {
        let x = (s.at.0 - zero_at) as f64 / 1000.0;
        sum_x.add(x);
        sum_y.add(s.value);
        sum_xy.add(x * s.value);
        sum_x2.add(x * x);
    }
    let n = w.samples.len() as f64;
    let (sum_x, sum_y) = (sum_x.total(), sum_y.total());
    let covariance = sum_xy.total() - sum_x * sum_y / n;
    let variance = sum_x2.total() - sum_x * sum_x / n;
    let slope = covariance / variance;
    (slope, sum_y / n - slope * sum_x / n)
}
