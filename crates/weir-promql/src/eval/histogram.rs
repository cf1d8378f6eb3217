//! Quantiles of classic histograms, whose buckets are series with an `le` label.

use ahash::AHashMap;
use weir_model::Labels;
use weir_model::labels::METRIC_NAME;

use super::table::{ABSENT, Series, Table, is_absent};
use super::{Eval, Evaluator};
use crate::ast::Span;
use crate::plan::Steps;

/// Relative difference below which counts of neighbouring buckets are taken for equal: float
/// error, not a bucket that shrank.
const SMALL_DELTA: f64 = 1e-12;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    pub upper: f64,
    pub count: f64,
}

struct Histogram {
    labels: Labels,
    /// Upper bound and position of the series, by bound.
    buckets: Vec<(f64, usize)>,
    metric: String,
}

impl Evaluator {
    pub(super) fn histogram_quantile(&self, phi: &[f64], table: Table, span: Span, steps: &Steps) -> Eval<Table> {
        let mut histograms: Vec<Histogram> = Vec::new();
        let mut by_labels: AHashMap<Labels, usize> = AHashMap::new();
        for (idx, series) in table.series.iter().enumerate() {
            let le = series.labels.value("le");
            let Some(upper) = parse_bound(le) else {
                self.notes.borrow_mut().bad_bucket(series.labels.metric_name(), le, span);
                continue;
            };
            let labels = series.labels.filter(|name| name != "le" && name != METRIC_NAME);
            let histogram = *by_labels.entry(labels.clone()).or_insert_with(|| {
                let metric = series.labels.metric_name().to_owned();
                histograms.push(Histogram { labels, buckets: Vec::new(), metric });
                histograms.len() - 1
            });
            histograms[histogram].buckets.push((upper, idx));
        }
        let held = self.reserve(histograms.len(), steps)?;
        let mut series = Vec::with_capacity(histograms.len());
        let mut buckets = Vec::new();
        for mut histogram in histograms {
            self.tick()?;
            histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            let mut values = vec![ABSENT; steps.n];
            let mut forced = false;
            for (step, value) in values.iter_mut().enumerate() {
                let counts = histogram.buckets.iter().map(|(upper, idx)| (upper, table.series[*idx].values[step]));
                let present = counts.filter(|(_, count)| !is_absent(*count));
                buckets.clear();
                buckets.extend(present.map(|(upper, count)| Bucket { upper: *upper, count }));
                if !buckets.is_empty() {
                    let (quantile, fixed) = quantile(phi[step], &mut buckets);
                    *value = quantile;
                    forced |= fixed;
                }
            }
            if forced {
                self.notes.borrow_mut().forced_monotonic(&histogram.metric, span);
            }
            series.push(Series { labels: histogram.labels, values });
        }
        Ok(Table { series, held })
    }
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
pub(super) fn quantile(phi: f64, buckets: &mut Vec<Bucket>) -> (f64, bool) {
    if phi.is_nan() || buckets.last().is_none_or(|b| b.upper != f64::INFINITY) {
        return (f64::NAN, false);
    }
    if !(0.0..=1.0).contains(&phi) {
        return (if phi < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY }, false);
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

fn make_cumulative(buckets: &mut [Bucket]) -> bool {
    let mut forced = false;
    let mut before = buckets[0].count;
    for bucket in &mut buckets[1..] {
        if bucket.count == before {
            continue;
        }
        if nearly_equal(before, bucket.count) {
            bucket.count = before;
        } else if bucket.count < before {
            bucket.count = before;
            forced = true;
        } else {
            before = bucket.count;
        }
    }
    forced
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
