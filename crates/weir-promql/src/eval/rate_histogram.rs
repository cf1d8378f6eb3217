//! `rate` and its relatives over native histograms.

use weir_model::FloatHistogram;
use weir_model::histogram::ResetHint;

use super::load::HistPoint;
use super::notes::{Notes, Operation};
use super::rate::{Extent, factor};
use super::table::{Cell, Hist};
use super::window::{Report, Window};

/// As `extrapolated` for floats; the first sample's count tells where the counter was zero.
///
/// Source: Prometheus 3 `promql/functions.go`, `extrapolatedRate` and `histogramRate`.
pub(super) fn extrapolated_histogram(w: &Window<'_>, counter: bool, divisor: f64) -> Option<Cell> {
    if !w.samples.is_empty() {
        w.report.note(Notes::mixed_in_range);
        return None;
    }
    let [first, .., last] = w.histograms else { return None };
    let mut change = change(w.histograms, counter, w.report)?;
    let to_zero = |sampled: f64| {
        let share = first.h.count / change.count;
        (counter && change.count > 0.0 && first.h.count >= 0.0).then_some(sampled * share)
    };
    let extent = Extent { first: first.at.0, last: last.at.0, n: w.histograms.len() };
    let factor = factor(w, &extent, to_zero) / divisor;
    change.scale(factor);
    Some(change.into())
}

/// Last minus first, plus what was lost at resets; `None` when the histograms do not fit.
fn change(points: &[HistPoint], counter: bool, report: &Report<'_>) -> Option<FloatHistogram> {
    let (first, last) = (points.first()?, points.last()?);
    let is_gauge = |h: &FloatHistogram| h.hint == ResetHint::Gauge;
    if counter && points.iter().any(|p| is_gauge(&p.h)) {
        report.note(Notes::not_counter);
    }
    if !counter && (!is_gauge(&first.h) || !is_gauge(&last.h)) {
        report.note(Notes::not_gauge);
    }
    // After a reset at once, the first sample counts for nothing, whatever its buckets are.
    let second = &points[1].h;
    let nothing =
        FloatHistogram { schema: second.schema, custom_bounds: second.custom_bounds.clone(), ..Default::default() };
    let dropped_first = counter && second.is_reset_after(&first.h);
    let mut before: &FloatHistogram = if dropped_first { &nothing } else { &first.h };
    let custom = before.is_custom();
    let inner = if counter { &points[1..] } else { &points[points.len() - 1..] };
    if inner.iter().any(|p| p.h.is_custom() != custom) {
        report.note(Notes::mixed_schemas);
        return None;
    }
    let mut change = (*last.h).clone();
    subtract(&mut change, before, report)?;
    if counter {
        for point in &points[1..] {
            if point.h.is_reset_after(before) {
                add(&mut change, before, report)?;
            }
            before = &point.h;
        }
    }
    change.hint = ResetHint::Gauge;
    change.compact();
    Some(change)
}

/// Adds, noting custom bounds that differ; `None`, and a note, when the two do not fit.
pub(super) fn add(sum: &mut FloatHistogram, other: &FloatHistogram, report: &Report<'_>) -> Option<()> {
    note(sum.add(other), Operation::Addition, report)
}

pub(super) fn subtract(sum: &mut FloatHistogram, other: &FloatHistogram, report: &Report<'_>) -> Option<()> {
    note(sum.subtract(other), Operation::Subtraction, report)
}

/// Hints that collide are of no interest here: resets are treated one by one.
fn note(
    done: Result<weir_model::histogram::Adjusted, weir_model::histogram::IncompatibleSchemas>,
    operation: Operation,
    report: &Report<'_>,
) -> Option<()> {
    match done {
        Ok(adjusted) => {
            if adjusted.bounds_differ {
                report.note(|notes, _, span| notes.bounds_differ(operation, span));
            }
            Some(())
        }
        Err(_) => {
            report.note(Notes::mixed_schemas);
            None
        }
    }
}

enum Last<'a> {
    Float(f64),
    Histogram(&'a Hist),
}

/// Between the last two samples, of whatever kind.
pub(super) fn instant_value(w: &Window<'_>, rate: bool) -> Option<Cell> {
    let floats = w.samples.iter().rev().take(2).map(|s| (s.at.0, Last::Float(s.value)));
    let histograms = w.histograms.iter().rev().take(2).map(|p| (p.at.0, Last::Histogram(&p.h)));
    let mut newest: Vec<_> = floats.chain(histograms).collect();
    newest.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let [(now_at, now), (before_at, before), ..] = newest.as_slice() else { return None };
    let secs = (now_at - before_at) as f64 / 1000.0;
    let mut report = Report { ..*w.report };
    report.span = w.report.args_span;
    let (now, before) = match (now, before) {
        (Last::Histogram(now), Last::Histogram(before)) => (now, before),
        (Last::Float(now), Last::Float(before)) => {
            let change = if rate && now < before { *now } else { now - before };
            return Some(Cell::Float(if rate { change / secs } else { change }));
        }
        _ => {
            report.note(Notes::mixed_in_range);
            return None;
        }
    };
    let gauges = [now, before].iter().filter(|h| h.hint == ResetHint::Gauge).count();
    if rate && gauges > 0 {
        report.note(Notes::not_counter);
    }
    if !rate && gauges < 2 {
        report.note(Notes::not_gauge);
    }
    let mut change = (***now).clone();
    if !rate || !now.is_reset_after(before) {
        subtract(&mut change, before, &report)?;
    }
    change.hint = ResetHint::Gauge;
    change.compact();
    if rate {
        change.divide(secs);
    }
    Some(change.into())
}
