//! Aggregations over the samples of one series.

use super::math::{self, Kahan, Mean};
use super::window::{Window, WindowFn};

pub(crate) const AVG: WindowFn = WindowFn::new(|w| {
    let mut mean = Mean::default();
    values(w).for_each(|v| mean.add(v));
    Some(mean.value())
});
pub(crate) const SUM: WindowFn = WindowFn::new(|w| {
    let mut sum = Kahan::default();
    values(w).for_each(|v| sum.add(v));
    Some(sum.total())
});
pub(crate) const COUNT: WindowFn = WindowFn::new(|w| Some(w.samples.len() as f64));
pub(crate) const PRESENT: WindowFn = WindowFn::new(|_| Some(1.0));
pub(crate) const LAST: WindowFn = WindowFn::new(|w| w.samples.last().map(|s| s.value)).keeping_name();
pub(crate) const FIRST: WindowFn = WindowFn::new(|w| w.samples.first().map(|s| s.value)).keeping_name();
pub(crate) const MIN: WindowFn =
    WindowFn::new(|w| values(w).reduce(|best, v| if v < best || best.is_nan() { v } else { best }));
pub(crate) const MAX: WindowFn =
    WindowFn::new(|w| values(w).reduce(|best, v| if v > best || best.is_nan() { v } else { best }));
pub(crate) const STDVAR: WindowFn = WindowFn::new(|w| Some(variance(w)));
pub(crate) const STDDEV: WindowFn = WindowFn::new(|w| Some(variance(w).sqrt()));
pub(crate) const QUANTILE: WindowFn = WindowFn::new(|w| math::quantile(w.param, &mut values(w).collect::<Vec<_>>()));
pub(crate) const MAD: WindowFn = WindowFn::new(|w| {
    let mut all: Vec<f64> = values(w).collect();
    let median = math::quantile(0.5, &mut all)?;
    all.iter_mut().for_each(|v| *v = (*v - median).abs());
    math::quantile(0.5, &mut all)
});
pub(crate) const CHANGES: WindowFn = WindowFn::new(|w| {
    let changed = |a: f64, b: f64| a != b && !(a.is_nan() && b.is_nan());
    Some(w.samples.windows(2).filter(|p| changed(p[0].value, p[1].value)).count() as f64)
});
pub(crate) const RESETS: WindowFn =
    WindowFn::new(|w| Some(w.samples.windows(2).filter(|p| p[1].value < p[0].value).count() as f64));

fn values<'a>(w: &'a Window<'_>) -> impl Iterator<Item = f64> + 'a {
    w.samples.iter().map(|s| s.value)
}

/// Population variance, by Welford's method with compensated sums.
fn variance(w: &Window<'_>) -> f64 {
    let (mut mean, mut aux, mut n) = (Kahan::default(), Kahan::default(), 0.0);
    for v in values(w) {
        n += 1.0;
        let delta = v - mean.total();
        mean.add(delta / n);
        aux.add(delta * (v - mean.total()));
    }
    aux.total() / n
}
