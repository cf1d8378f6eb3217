//! Windows that are `anchored` (begin with the last sample before them) or `smoothed` (begin and
//! end with values interpolated from the samples around).
//!
//! Source: Prometheus 3 `promql/functions.go`, `extendedRate`, `extendedHistogramRate`.

use weir_model::histogram::ResetHint;
use weir_model::{FloatHistogram, Sample, Timestamp};

use super::load::HistPoint;
use super::notes::Notes;
use super::rate_histogram::{add, subtract};
use super::table::{Cell, Hist};
use super::window::{Report, Window};
use crate::ast::Extended;

/// Change over the window, divided by `divisor`; nothing is extrapolated.
pub(super) fn rate(w: &Window<'_>, counter: bool, divisor: f64) -> Option<Cell> {
    match (w.samples.is_empty(), w.histograms.is_empty()) {
        (false, false) => {
            w.report.note(Notes::mixed_in_range);
            None
        }
        (false, true) => {
            let edges = Edges::find(w, w.samples.len(), |idx| w.samples[idx].at.0)?;
            Some(Cell::Float(floats(w, &edges, counter) / divisor))
        }
        _ => {
            let edges = Edges::find(w, w.histograms.len(), |idx| w.histograms[idx].at.0)?;
            let mut change = histograms(w, &edges, counter)?;
            change.divide(divisor);
            change.hint = ResetHint::Gauge;
            change.compact();
            Some(change.into())
        }
    }
}

/// Positions of the samples that the window begins and ends with.
struct Edges {
    first: usize,
    last: usize,
}

impl Edges {
    fn find(w: &Window<'_>, n: usize, at: impl Fn(usize) -> i64) -> Option<Self> {
        let search = |past: &dyn Fn(i64) -> bool| (0..n - 1).find(|idx| past(at(*idx))).unwrap_or(n - 1);
        let first = search(&|t| t > w.start).saturating_sub(1);
        let smoothed = w.extended == Some(Extended::Smoothed);
        let last = if smoothed { search(&|t| t >= w.end) } else { n - 1 };
        if at(last) <= w.start || (smoothed && at(first) > w.end) { None } else { Some(Self { first, last }) }
    }
}

fn floats(w: &Window<'_>, edges: &Edges, counter: bool) -> f64 {
    let (left, right) = ends(w.samples, edges, w, counter);
    let mut change = right - left;
    if counter {
        // The ends carry resets at the edges already.
        let from = edges.first + usize::from(w.samples[edges.first].at.0 <= w.start);
        let to = (edges.last + 1) - usize::from(w.samples[edges.last].at.0 >= w.end);
        let mut before = left;
        for value in w.samples[from.min(to)..to].iter().map(|s| s.value).chain([right]) {
            if value < before {
                change += before;
            }
            before = value;
        }
    }
    change
}

fn ends(samples: &[Sample], edges: &Edges, w: &Window<'_>, counter: bool) -> (f64, f64) {
    let smoothed = w.extended == Some(Extended::Smoothed);
    let (first, last) = (samples[edges.first], samples[edges.last]);
    let left = match samples.get(edges.first + 1) {
        Some(next) if smoothed && first.at.0 < w.start => interpolate(first, *next, w.start, counter),
        _ => first.value,
    };
    let right = if smoothed && edges.last > 0 && last.at.0 > w.end {
        interpolate(samples[edges.last - 1], last, w.end, counter)
    } else {
        last.value
    };
    (left, right)
}

/// On the line between the two; a counter that was reset between them rises from zero.
pub(super) fn interpolate(a: Sample, b: Sample, at: i64, counter: bool) -> f64 {
    let from = if counter && b.value < a.value { 0.0 } else { a.value };
    from + (b.value - from) * (at - a.at.0) as f64 / (b.at.0 - a.at.0) as f64
}

fn histograms(w: &Window<'_>, edges: &Edges, counter: bool) -> Option<FloatHistogram> {
    let points = w.histograms;
    let within = &points[edges.first..=edges.last];
    if within.iter().any(|p| p.h.is_custom() != within[0].h.is_custom()) {
        w.report.note(Notes::mixed_schemas);
        return None;
    }
    if counter && within.iter().any(|p| p.h.hint == ResetHint::Gauge) {
        w.report.note(Notes::not_counter);
    }
    let smoothed = w.extended == Some(Extended::Smoothed);
    let (first, last) = (&points[edges.first], &points[edges.last]);
    let left = match points.get(edges.first + 1) {
        Some(next) if smoothed && first.at.0 < w.start => between(first, next, w.start, counter, w.report)?,
        _ => (*first.h).clone(),
    };
    let right = if smoothed && edges.last > 0 && last.at.0 > w.end {
        between(&points[edges.last - 1], last, w.end, counter, w.report)?
    } else {
        (*last.h).clone()
    };
    if !counter && (left.hint != ResetHint::Gauge || right.hint != ResetHint::Gauge) {
        w.report.note(Notes::not_gauge);
    }
    let mut change = right.clone();
    subtract(&mut change, &left, w.report)?;
    if counter {
        add_lost(w, edges, &left, &right, &mut change)?;
    }
    Some(change)
}

/// Adds what counters lost at resets between the window's two ends.
fn add_lost(
    w: &Window<'_>,
    edges: &Edges,
    left: &FloatHistogram,
    right: &FloatHistogram,
    change: &mut FloatHistogram,
) -> Option<()> {
    let points = w.histograms;
    let mut from = edges.first + 1;
    let mut before = left;
    let smoothed = w.extended == Some(Extended::Smoothed);
    let interpolated = smoothed && points[edges.first].at.0 < w.start;
    if interpolated && points.get(from).is_some_and(|next| next.h.is_reset_after(&points[edges.first].h)) {
        // The left end lies after that reset already.
        before = &points[from].h;
        from += 1;
    }
    if from > edges.last {
        return Some(());
    }
    let mut lost: Option<FloatHistogram> = None;
    let inner = points[from..edges.last].iter().map(|p| &*p.h);
    for h in inner.chain([right]) {
        if h.is_reset_after(before) {
            match &mut lost {
                Some(sum) => add(sum, before, w.report)?,
                None => lost = Some(before.clone()),
            }
        }
        before = h;
    }
    match lost {
        Some(lost) => add(change, &lost, w.report),
        None => Some(()),
    }
}

pub(super) fn between(
    a: &HistPoint,
    b: &HistPoint,
    at: i64,
    counter: bool,
    report: &Report<'_>,
) -> Option<FloatHistogram> {
    if at == a.at.0 || at == b.at.0 {
        return Some((*if at == a.at.0 { &a.h } else { &b.h }).as_ref().clone());
    }
    let fraction = (at - a.at.0) as f64 / (b.at.0 - a.at.0) as f64;
    let mut out = (*b.h).clone();
    if counter && b.h.is_reset_after(&a.h) {
        out.scale(fraction);
        return Some(out);
    }
    subtract(&mut out, &a.h, report)?;
    out.scale(fraction);
    add(&mut out, &a.h, report)?;
    Some(out)
}

/// The samples of an extended window, with one at either edge.
pub(super) fn with_edges(samples: &[Sample], w: &Window<'_>) -> Vec<Sample> {
    if samples.is_empty() {
        return Vec::new();
    }
    let Some(edges) = Edges::find(w, samples.len(), |idx| samples[idx].at.0) else { return Vec::new() };
    let (left, right) = ends(samples, &edges, w, false);
    let inside = samples[edges.first..=edges.last].iter().filter(|s| s.at.0 > w.start && s.at.0 < w.end);
    let mut out = vec![Sample { at: Timestamp(w.start), value: left }];
    out.extend(inside.copied());
    out.push(Sample { at: Timestamp(w.end), value: right });
    out
}

/// An `anchored` window begins with its newest sample at or before the start, and is empty without
/// a sample after that.
pub(super) fn anchored<'a>(w: &Window<'a>) -> Option<(&'a [Sample], &'a [HistPoint])> {
    let float = w.samples.partition_point(|s| s.at.0 <= w.start);
    let histogram = w.histograms.partition_point(|p| p.at.0 <= w.start);
    if float == w.samples.len() && histogram == w.histograms.len() {
        return None;
    }
    let anchor_float = float.checked_sub(1).map(|idx| (w.samples[idx].at.0, idx));
    let anchor_histogram = histogram.checked_sub(1).map(|idx| (w.histograms[idx].at.0, idx));
    let (from, from_histogram) = match (anchor_float, anchor_histogram) {
        (None, None) => (0, 0),
        (Some((_, idx)), None) => (idx, histogram),
        (Some((at, idx)), Some((other, _))) if at >= other => (idx, histogram),
        (_, Some((_, idx))) => (float, idx),
    };
    Some((&w.samples[from..], &w.histograms[from_histogram..]))
}

/// What a `smoothed` instant selector shows at `at`.
pub(super) fn smoothed_at(
    floats: &[Sample],
    histograms: &[HistPoint],
    at: i64,
    lookback_ms: i64,
    report: &Report<'_>,
) -> Option<Cell> {
    let inside = |t: i64| t > at.saturating_sub(lookback_ms) && t <= at.saturating_add(lookback_ms);
    let floats = &floats[floats.partition_point(|s| s.at.0 <= at.saturating_sub(lookback_ms))..];
    let floats = &floats[..floats.iter().take_while(|s| inside(s.at.0)).count()];
    let points = &histograms[histograms.partition_point(|p| p.at.0 <= at.saturating_sub(lookback_ms))..];
    let points = &points[..points.iter().take_while(|p| inside(p.at.0)).count()];
    match (floats.is_empty(), points.is_empty()) {
        (true, true) => None,
        (false, false) => {
            report.note(Notes::mixed_in_range);
            None
        }
        (false, true) => {
            let next = floats.partition_point(|s| s.at.0 < at);
            let value = match (next.checked_sub(1).map(|idx| floats[idx]), floats.get(next)) {
                (_, Some(exact)) if exact.at.0 == at => exact.value,
                (Some(before), Some(after)) => interpolate(before, *after, at, false),
                (Some(before), None) => before.value,
                (None, _) => return None,
            };
            Some(Cell::Float(value))
        }
        (true, false) => {
            let next = points.partition_point(|p| p.at.0 < at);
            let hist: Hist = match (next.checked_sub(1).map(|idx| &points[idx]), points.get(next)) {
                (_, Some(exact)) if exact.at.0 == at => exact.h.clone(),
                (Some(before), Some(after)) if before.h.is_custom() != after.h.is_custom() => {
                    report.note(Notes::mixed_schemas);
                    return None;
                }
                (Some(before), Some(after)) => {
                    let counter = before.h.hint != ResetHint::Gauge || after.h.hint != ResetHint::Gauge;
                    return between(before, after, at, counter, report).map(Cell::from);
                }
                // The hint speaks of two samples that follow each other.
                (Some(before), None) => {
                    return Some(FloatHistogram { hint: ResetHint::Unknown, ..(*before.h).clone() }.into());
                }
                (None, _) => return None,
            };
            Some(Cell::Histogram(hist))
        }
    }
}
