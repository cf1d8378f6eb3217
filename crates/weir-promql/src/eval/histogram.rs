//! Quantiles of classic histograms, whose buckets are series with an `le` label.

use std::borrow::Cow;

use ahash::AHashMap;
use weir_model::{Labels, LabelsBuilder};

use super::table::{ABSENT, Series, Table, is_absent, without_metadata};
use super::window::Report;
use super::{Eval, Evaluator, native};
use crate::ast::Span;
use crate::parse::quote::go_string;
use crate::plan::Steps;
use crate::result::QueryError;

/// Relative difference below which counts of neighbouring buckets are taken for equal: float
/// error, not a bucket that shrank.
const SMALL_DELTA: f64 = 1e-12;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    pub upper: f64,
    pub count: f64,
}

/// What is asked of each histogram.
pub(super) enum Asked<'a> {
    /// The quantile at each step, and the label that says which one it is.
    Quantile {
        phi: &'a [f64],
        label: Option<(&'a str, String)>,
    },
    Fraction {
        lower: &'a [f64],
        upper: &'a [f64],
    },
}

/// Buckets of one classic histogram, or one native histogram, or both of one name.
struct Histogram {
    labels: Labels,
    /// Upper bound and position of the series, by bound.
    buckets: Vec<(f64, usize)>,
    native: Option<usize>,
}

impl Evaluator {
    /// Classic and native histograms of a vector; where a step has both of one name, neither counts.
    pub(super) fn of_histograms(&self, asked: &[Asked<'_>], table: &Table, span: Span, steps: &Steps) -> Eval<Table> {
        let histograms = self.gather(table, span);
        let held = self.reserve(histograms.len() * asked.len(), steps)?;
        let mut out = Vec::with_capacity(histograms.len());
        for asked in asked {
            for histogram in &histograms {
                self.tick()?;
                let mut column = Series::empty(self.result_labels(histogram, asked), steps.n);
                column.drop_name = self.settings.late_names;
                for step in 0..steps.n {
                    let value = self.of_one(asked, histogram, table, step, (span, steps.at(step)));
                    column.values[step] = value.unwrap_or(ABSENT);
                }
                if !column.is_empty() {
                    out.push(column);
                }
            }
        }
        let table = Table { series: out, held };
        if self.settings.late_names { Ok(table) } else { table.merged() }
    }

    fn gather(&self, table: &Table, span: Span) -> Vec<Histogram> {
        let mut histograms: Vec<Histogram> = Vec::new();
        let mut by_labels: AHashMap<Labels, usize> = AHashMap::new();
        let mut find = |labels: Labels| {
            *by_labels.entry(labels.clone()).or_insert_with(|| {
                histograms.push(Histogram { labels, buckets: Vec::new(), native: None });
                histograms.len() - 1
            })
        };
        let mut places = Vec::new();
        for (idx, series) in table.series.iter().enumerate() {
            if !series.histograms.is_empty() {
                places.push((find(series.labels.clone()), idx, None));
            }
            if series.values.iter().all(|v| is_absent(*v)) {
                continue;
            }
            let le = series.labels.value("le");
            let Some(upper) = parse_bound(le) else {
                let metric = if self.settings.late_names { series.labels.metric_name() } else { "" };
                self.notes.borrow_mut().bad_bucket(metric, le, span);
                continue;
            };
            places.push((find(series.labels.without("le")), idx, Some(upper)));
        }
        for (histogram, idx, upper) in places {
            match upper {
                Some(upper) => histograms[histogram].buckets.push((upper, idx)),
                None => histograms[histogram].native = Some(idx),
            }
        }
        histograms.iter_mut().for_each(|h| h.buckets.sort_by(|a, b| a.0.total_cmp(&b.0)));
        histograms
    }

    fn result_labels(&self, histogram: &Histogram, asked: &Asked<'_>) -> Labels {
        let mut labels = histogram.labels.clone();
        if !self.settings.late_names {
            labels = without_metadata(&labels);
        }
        if let Asked::Quantile { label: Some((name, value)), .. } = asked {
            let mut builder: LabelsBuilder = labels.to_builder();
            builder.set(*name, value.as_str());
            labels = builder.build();
        }
        labels
    }

    fn of_one(
        &self,
        asked: &Asked<'_>,
        histogram: &Histogram,
        table: &Table,
        step: usize,
        (span, at): (Span, i64),
    ) -> Option<f64> {
        let native = histogram.native.and_then(|idx| table.series[idx].histogram(step));
        let counts = histogram.buckets.iter().map(|(upper, idx)| (upper, table.series[*idx].values[step]));
        let mut buckets: Vec<Bucket> = counts
            .filter(|(_, count)| !is_absent(*count))
            .map(|(upper, count)| Bucket { upper: *upper, count })
            .collect();
        // Notes name the metric where its name is still there.
        let named =
            if self.settings.late_names { Cow::Borrowed(&histogram.labels) } else { Cow::Owned(Labels::empty()) };
        let report = Report { notes: &self.notes, labels: &named, span, args_span: span };
        match (native, buckets.is_empty()) {
            (None, true) => None,
            (Some(_), false) => {
                report.note(|notes, metric, span| notes.mixed_classic_native(metric, span));
                None
            }
            (Some(h), true) => Some(match asked {
                Asked::Quantile { phi, .. } => native::quantile(phi[step], h, &report),
                Asked::Fraction { lower, upper } => native::fraction(lower[step], upper[step], h, &report),
            }),
            (None, false) => Some(match asked {
                Asked::Quantile { phi, .. } => {
                    let (value, raised) = quantile(phi[step], &mut buckets);
                    if let Some(raised) = raised {
                        let between = (raised.lowest, raised.highest);
                        report
                            .note(|notes, metric, span| notes.forced_monotonic(metric, span, at, between, raised.most));
                    }
                    value
                }
                Asked::Fraction { lower, upper } => fraction(lower[step], upper[step], &mut buckets),
            }),
        }
    }
}

/// The label of `histogram_quantiles` must be a possible name.
pub(super) fn check_label(name: &str) -> Eval<()> {
    if name.is_empty() {
        return Err(QueryError::Execution(format!("invalid label name {} in histogram_quantiles", go_string(name))));
    }
    Ok(())
}

/// Where counts had to be raised, and by how much at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Raised {
    lowest: f64,
    highest: f64,
    most: f64,
}

/// The part of the observations between two values, linear within a bucket.
///
/// Source: Prometheus `promql/quantile.go`, `BucketFraction`.
pub(super) fn fraction(lower: f64, upper: f64, buckets: &mut Vec<Bucket>) -> f64 {
    if buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return f64::NAN;
    }
    coalesce(buckets);
    let all = buckets[buckets.len() - 1].count;
    if all == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let rank_of = |v: f64| rank(buckets, v).filter(|rank| *rank <= all).unwrap_or(all);
    (rank_of(upper) - rank_of(lower)) / all
}

fn rank(buckets: &[Bucket], v: f64) -> Option<f64> {
    // A first bucket that ends above zero is taken to begin there.
    let mut lower = if buckets[0].upper <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut below = 0.0;
    for bucket in buckets {
        if lower >= v {
            return Some(below);
        }
        if bucket.upper > v {
            let share = (v - lower) / (bucket.upper - lower);
            return Some(if lower == f64::NEG_INFINITY {
                bucket.count
            } else {
                below + (bucket.count - below) * share
            });
        }
        (lower, below) = (bucket.upper, bucket.count);
    }
    None
}

fn parse_bound(le: &str) -> Option<f64> {
    let plain = le.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    match le.to_ascii_lowercase().trim_start_matches('+') {
        "inf" | "infinity" => Some(f64::INFINITY),
        "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
        number if plain => number.parse().ok(),
        _ => None,
    }
}

/// The φ-quantile of cumulative buckets sorted by bound, linear within a bucket; and whether
/// counts had to be raised to be cumulative.
///
/// Source: Prometheus `promql/quantile.go`, `BucketQuantile`.
pub(super) fn quantile(phi: f64, buckets: &mut Vec<Bucket>) -> (f64, Option<Raised>) {
    if phi.is_nan() || buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return (f64::NAN, None);
    }
    if !(0.0..=1.0).contains(&phi) {
        return (if phi < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, None);
    }
    coalesce(buckets);
    let forced = make_cumulative(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].count;
    if buckets.len() < 2 || observations == 0.0 || observations.is_nan() {
        return (f64::NAN, forced);
    }
    let rank = phi * observations;
    let idx = buckets[..last].partition_point(|b| b.count < rank);
    if idx == last {
        return (buckets[last - 1].upper, forced);
    }
    let Bucket { upper, count } = buckets[idx];
    if idx == 0 && upper <= 0.0 {
        return (upper, forced);
    }
    let below = if idx == 0 { Bucket { upper: 0.0, count: 0.0 } } else { buckets[idx - 1] };
    (below.upper + (upper - below.upper) * ((rank - below.count) / (count - below.count)), forced)
}

/// Adds up buckets of equal bound (`le="1"` and `le="1.0"`).
fn coalesce(buckets: &mut Vec<Bucket>) {
    buckets.dedup_by(|b, kept| {
        let same = b.upper == kept.upper;
        if same {
            kept.count += b.count;
        }
        same
    });
}

fn make_cumulative(buckets: &mut [Bucket]) -> Option<Raised> {
    let mut raised: Option<Raised> = None;
    let mut before = buckets[0].count;
    for Bucket { upper, count } in &mut buckets[1..] {
        if *count == before {
            continue;
        }
        if nearly_equal(before, *count) {
            *count = before;
        } else if *count < before {
            let by = before - *count;
            let known = raised.get_or_insert(Raised { lowest: *upper, highest: *upper, most: by });
            (known.lowest, known.highest) = (known.lowest.min(*upper), known.highest.max(*upper));
            known.most = known.most.max(by);
            *count = before;
        } else {
            before = *count;
        }
    }
    raised
}

fn nearly_equal(a: f64, b: f64) -> bool {
    if a.is_nan() || b.is_nan() {
        return a.is_nan() && b.is_nan();
    }
    let (size, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || size < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / size.min(f64::MAX) < SMALL_DELTA
}
