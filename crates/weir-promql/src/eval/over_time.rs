//! Aggregations over the samples of one series.

use std::sync::Arc;

use weir_model::FloatHistogram;
use weir_model::histogram::{IncompatibleSchemas, ResetHint};
use weir_model::source::Rollup;

use super::extended;
use super::load::HistPoint;
use super::math::{self, HistMean, HistSum, Kahan, Mean};
use super::notes::{Notes, Operation};
use super::table::{Cell, Hist};
use super::window::{Window, WindowFn};
use weir_model::Sample;

pub(crate) const AVG: WindowFn = WindowFn::new(|w| {
    if !w.weights.is_empty() {
        return Some(sum(w) / w.weights.iter().sum::<f64>());
    }
    let mut mean = Mean::default();
    values(w).for_each(|v| mean.add(v));
    Some(mean.value())
})
.with_histograms(|w| {
    fold_histograms(w, |points| {
        let mut mean = HistMean::new(&points[0].h);
        let mut differ = false;
        for point in &points[1..] {
            differ |= mean.add(&point.h)?.bounds_differ;
        }
        Ok((mean.value(), differ))
    })
})
.of_buckets(Rollup::Sum);
pub(crate) const SUM: WindowFn = WindowFn::new(|w| Some(sum(w)))
    .with_histograms(|w| {
        fold_histograms(w, |points| {
            let mut sum = HistSum::new(&points[0].h);
            let mut differ = false;
            for point in &points[1..] {
                differ |= sum.add(&point.h)?.bounds_differ;
            }
            Ok((sum.value(), differ))
        })
    })
    .of_buckets(Rollup::Sum)
    .growing();
pub(crate) const COUNT: WindowFn = WindowFn::new(|w| Some(n_samples(w)))
    .with_histograms(|w| Some(Cell::Float(n_samples(w))))
    .of_buckets(Rollup::Sum)
    .growing();
pub(crate) const PRESENT: WindowFn = WindowFn::new(|_| Some(1.0)).with_histograms(|_| Some(Cell::Float(1.0)));
pub(crate) const LAST: WindowFn = WindowFn::new(|w| w.samples.last().map(|s| s.value))
    .with_histograms(|w| pick(w.samples.last(), w.histograms.last(), |float, histogram| float > histogram))
    .keeping_name();
pub(crate) const FIRST: WindowFn = WindowFn::new(|w| w.samples.first().map(|s| s.value))
    .with_histograms(|w| pick(w.samples.first(), w.histograms.first(), |float, histogram| float < histogram))
    .keeping_name();
pub(crate) const MIN: WindowFn =
    WindowFn::new(|w| values(w).reduce(|best, v| if v < best || best.is_nan() { v } else { best }))
        .of_buckets(Rollup::Min);
pub(crate) const MAX: WindowFn =
    WindowFn::new(|w| values(w).reduce(|best, v| if v > best || best.is_nan() { v } else { best }))
        .of_buckets(Rollup::Max);
pub(crate) const TS_OF_MIN: WindowFn = WindowFn::new(|w| time_of(w, |v, best| v <= best));
pub(crate) const TS_OF_MAX: WindowFn = WindowFn::new(|w| time_of(w, |v, best| v >= best));
pub(crate) const TS_OF_FIRST: WindowFn = WindowFn::new(|w| w.samples.first().map(|s| s.at.secs_f64()))
    .with_histograms(|w| times(w).reduce(f64::min).map(Cell::Float));
pub(crate) const TS_OF_LAST: WindowFn = WindowFn::new(|w| w.samples.last().map(|s| s.at.secs_f64()))
    .with_histograms(|w| times(w).reduce(f64::max).map(Cell::Float));
pub(crate) const STDVAR: WindowFn = WindowFn::new(|w| Some(variance(w)));
pub(crate) const STDDEV: WindowFn = WindowFn::new(|w| Some(variance(w).sqrt()));
pub(crate) const QUANTILE: WindowFn =
    WindowFn::new(|w| math::quantile(w.params[0], &mut values(w).collect::<Vec<_>>()));
pub(crate) const MAD: WindowFn = WindowFn::new(|w| {
    let mut all: Vec<f64> = values(w).collect();
    if all.iter().any(|v| v.is_nan()) {
        return Some(f64::NAN);
    }
    let median = math::quantile(0.5, &mut all)?;
    all.iter_mut().for_each(|v| *v = (*v - median).abs());
    math::quantile(0.5, &mut all)
});
/// Smoothing factor and trend factor are its parameters, checked by the caller.
pub(crate) const DOUBLE_EXPONENTIAL: WindowFn = WindowFn::new(|w| {
    let [first, second, ..] = w.samples else { return None };
    let [smoothing, trend_factor] = w.params;
    let (mut before, mut smooth, mut trend) = (0.0, first.value, second.value - first.value);
    for (idx, sample) in w.samples[1..].iter().enumerate() {
        if idx > 0 {
            trend = trend_factor * (smooth - before) + (1.0 - trend_factor) * trend;
        }
        let next = smoothing * sample.value + (1.0 - smoothing) * (smooth + trend);
        (before, smooth) = (smooth, next);
    }
    Some(smooth)
});
pub(crate) const CHANGES: WindowFn =
    WindowFn::new(|w| Some(w.samples.windows(2).filter(|p| changed(p)).count() as f64))
        .with_histograms(|w| Some(count_pairs(w.samples, w.histograms, differs)))
        .with_extended(|w| extended::anchored(w).map(|(floats, histograms)| count_pairs(floats, histograms, differs)));
pub(crate) const RESETS: WindowFn =
    WindowFn::new(|w| Some(w.samples.windows(2).filter(|p| p[1].value < p[0].value).count() as f64))
        .with_histograms(|w| Some(count_pairs(w.samples, w.histograms, is_reset)))
        .with_extended(|w| extended::anchored(w).map(|(floats, histograms)| count_pairs(floats, histograms, is_reset)))
        .of_buckets(Rollup::Counter);

fn changed(pair: &[Sample]) -> bool {
    let (a, b) = (pair[0].value, pair[1].value);
    a != b && !(a.is_nan() && b.is_nan())
}

fn n_samples(w: &Window<'_>) -> f64 {
    let floats = if w.weights.is_empty() { w.samples.len() as f64 } else { w.weights.iter().sum() };
    floats + w.histograms.len() as f64
}

fn sum(w: &Window<'_>) -> f64 {
    let mut sum = Kahan::default();
    values(w).for_each(|v| sum.add(v));
    if sum.sum.is_infinite() { sum.sum } else { sum.total() }
}

fn times<'a>(w: &'a Window<'_>) -> impl Iterator<Item = f64> + 'a {
    w.samples.iter().map(|s| s.at.secs_f64()).chain(w.histograms.iter().map(|p| p.at.secs_f64()))
}

fn time_of(w: &Window<'_>, better: fn(f64, f64) -> bool) -> Option<f64> {
    let pick = |best: Sample, s: Sample| if better(s.value, best.value) || best.value.is_nan() { s } else { best };
    w.samples.iter().copied().reduce(pick).map(|s| s.at.secs_f64())
}

fn pick(float: Option<&Sample>, point: Option<&HistPoint>, take_float: fn(i64, i64) -> bool) -> Option<Cell> {
    match (float, point) {
        (Some(s), Some(p)) if take_float(s.at.0, p.at.0) => Some(Cell::Float(s.value)),
        (_, Some(p)) => Some(Cell::Histogram(p.h.clone())),
        (Some(s), None) => Some(Cell::Float(s.value)),
        (None, None) => None,
    }
}

/// Number of neighbours, in order of time, for which `counts` holds; floats and histograms that
/// follow each other always count.
fn count_pairs(floats: &[Sample], histograms: &[HistPoint], counts: fn(&Either<'_>, &Either<'_>) -> bool) -> Cell {
    let floats = floats.iter().map(|s| (s.at.0, Either::Float(s.value)));
    let mut all: Vec<_> = floats.chain(histograms.iter().map(|p| (p.at.0, Either::Histogram(&p.h)))).collect();
    all.sort_by_key(|(at, _)| *at);
    Cell::Float(all.windows(2).filter(|pair| counts(&pair[0].1, &pair[1].1)).count() as f64)
}

enum Either<'a> {
    Float(f64),
    Histogram(&'a Hist),
}

fn differs(before: &Either<'_>, now: &Either<'_>) -> bool {
    match (before, now) {
        (Either::Float(a), Either::Float(b)) => a != b && !(a.is_nan() && b.is_nan()),
        (Either::Histogram(a), Either::Histogram(b)) => !a.same_data(b),
        _ => true,
    }
}

fn is_reset(before: &Either<'_>, now: &Either<'_>) -> bool {
    match (before, now) {
        (Either::Float(a), Either::Float(b)) => b < a,
        (Either::Histogram(a), Either::Histogram(b)) => b.is_reset_after(a),
        _ => true,
    }
}

type Folded = Result<(FloatHistogram, bool), IncompatibleSchemas>;

/// A sum or mean of a window that holds nothing but histograms; answers whether bounds differed.
fn fold_histograms(w: &Window<'_>, fold: impl FnOnce(&[HistPoint]) -> Folded) -> Option<Cell> {
    if !w.samples.is_empty() {
        w.report.note(Notes::mixed_in_range);
        return None;
    }
    let hinted = |hint: ResetHint| w.histograms.iter().any(|p| p.h.hint == hint);
    match fold(w.histograms) {
        Ok((h, bounds_differ)) => {
            w.report.note(|notes, _, span| {
                if hinted(ResetHint::Reset) && hinted(ResetHint::NotReset) {
                    notes.hints_collide(Operation::Aggregation, span);
                }
                if bounds_differ {
                    notes.bounds_differ(Operation::Aggregation, span);
                }
            });
            Some(Cell::Histogram(Arc::new(h)))
        }
        Err(IncompatibleSchemas) => {
            w.report.note(Notes::mixed_schemas);
            None
        }
    }
}

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
