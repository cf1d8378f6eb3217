//! Figures of one native histogram: variance, quantiles, fractions.
//!
//! Source: Prometheus 3 `promql/quantile.go`, `promql/functions.go`.

use weir_model::FloatHistogram;
use weir_model::histogram::Bucket;

use super::math::Kahan;
use super::notes::Notes;
use super::window::Report;

pub(crate) fn count(h: &FloatHistogram) -> f64 {
    h.count
}
pub(crate) fn sum(h: &FloatHistogram) -> f64 {
    h.sum
}
pub(crate) fn avg(h: &FloatHistogram) -> f64 {
    h.sum / h.count
}
pub(crate) fn stddev(h: &FloatHistogram) -> f64 {
    stdvar(h).sqrt()
}

/// Each observation is taken to lie in the middle of its bucket: the arithmetic one for custom
/// buckets, the geometric one for exponential ones, zero for the zero bucket.
pub(crate) fn stdvar(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let mut variance = Kahan::default();
    for bucket in h.buckets().into_iter().filter(|b| b.count != 0.0) {
        let middle = if h.is_custom() {
            (bucket.upper + bucket.lower) / 2.0
        } else if bucket.lower <= 0.0 && bucket.upper >= 0.0 {
            0.0
        } else {
            (bucket.upper * bucket.lower).sqrt().copysign(bucket.upper)
        };
        let delta = middle - mean;
        variance.add(bucket.count * delta * delta);
    }
    variance.total() / h.count
}

/// A zero bucket is taken to lie on the side on which the other buckets are.
fn one_sided(h: &FloatHistogram, bucket: &mut Bucket) {
    match (h.negative.is_empty(), h.positive.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

pub(super) fn quantile(phi: f64, h: &FloatHistogram, report: &Report<'_>) -> f64 {
    if !(0.0..=1.0).contains(&phi) && !phi.is_nan() {
        return if phi < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY };
    }
    if h.count == 0.0 || phi.is_nan() {
        return f64::NAN;
    }
    // Observations of NaN are counted and in no bucket, so that only counting from below is right.
    let from_below = h.sum.is_nan() || phi < 0.5;
    let mut buckets = h.buckets();
    if !from_below {
        buckets.reverse();
    }
    let mut rank = if from_below { phi } else { 1.0 - phi } * h.count;
    let mut bucket = Bucket { lower: 0.0, upper: 0.0, lower_inclusive: false, upper_inclusive: false, count: 0.0 };
    let (mut count, mut rest) = (0.0, buckets.iter());
    for next in rest.by_ref() {
        bucket = *next;
        if next.count == 0.0 {
            continue;
        }
        count += next.count;
        if count >= rank {
            break;
        }
    }
    if h.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return bucket.upper;
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return bucket.lower;
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        one_sided(h, &mut bucket);
    }
    let capped = count.min(h.count);
    if capped < rank {
        if h.sum.is_nan() {
            report.note(Notes::quantile_nan_result);
            return f64::NAN;
        }
        return bucket.upper;
    }
    rank = if from_below { rank - (capped - bucket.count) } else { capped - rank };
    if h.sum.is_nan() && capped + rest.map(|b| b.count).sum::<f64>() < h.count {
        report.note(Notes::quantile_nan_skew);
    }
    within(h, &bucket, rank / bucket.count)
}

/// The value at `fraction` of a bucket: evenly spread, over the logarithm for exponential buckets.
fn within(h: &FloatHistogram, bucket: &Bucket, fraction: f64) -> f64 {
    let Bucket { lower, upper, .. } = *bucket;
    if h.is_custom() || (lower <= 0.0 && upper >= 0.0) {
        return lower + (upper - lower) * fraction;
    }
    let (low, high) = (lower.abs().log2(), upper.abs().log2());
    if lower > 0.0 { (low + (high - low) * fraction).exp2() } else { -(high + (low - high) * (1.0 - fraction)).exp2() }
}

/// The part of the observations between two values.
pub(super) fn fraction(lower: f64, upper: f64, h: &FloatHistogram, report: &Report<'_>) -> f64 {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let buckets = h.buckets();
    let all: f64 = if h.sum.is_nan() { buckets.iter().map(|b| b.count).sum() } else { h.count };
    if all < h.count {
        report.note(Notes::fraction_nans);
    }
    let rank_of = |v: f64| rank(h, &buckets, v).filter(|rank| *rank <= all).unwrap_or(all);
    (rank_of(upper) - rank_of(lower)) / h.count
}

/// Number of observations below `v`; `None` when it lies beyond the last bucket.
fn rank(h: &FloatHistogram, buckets: &[Bucket], v: f64) -> Option<f64> {
    let mut rank = 0.0;
    for bucket in buckets {
        let mut bucket = *bucket;
        let holds_zero = bucket.lower <= 0.0 && bucket.upper >= 0.0;
        if holds_zero {
            one_sided(h, &mut bucket);
        }
        if bucket.lower >= v {
            return Some(rank);
        }
        if bucket.upper > v {
            let linear = h.is_custom() || holds_zero;
            return Some(match bucket.lower == f64::NEG_INFINITY {
                true if linear => bucket.count,
                _ => rank + bucket.count * bucket.fraction_below(v, linear),
            });
        }
        rank += bucket.count;
    }
    None
}
