//! Cutting off observations above or below a value, for PromQL's `</` and `>/`.

use super::FloatHistogram;
use super::bounds::Bucket;

/// What is left of one bucket: how many observations, and where they lie on average.
struct Kept {
    count: f64,
    middle: f64,
}

impl FloatHistogram {
    /// Keeps what lies below (`upper`) or above the value `at`. Count and sum are estimated anew
    /// from the buckets, when any of them lost something.
    ///
    /// Source: Prometheus `FloatHistogram.TrimBuckets`.
    pub fn trim(&mut self, at: f64, upper: bool) {
        let linear = self.is_custom();
        let (mut count, mut sum, mut trimmed) = (0.0, 0.0, false);
        let filled = |side: &[(i32, f64)]| side.iter().any(|(_, n)| *n != 0.0);
        let (has_positive, has_negative) = (filled(&self.positive), filled(&self.negative));
        let mut cut = |bucket: Bucket, is_positive: bool| -> f64 {
            let kept = keep(bucket, at, upper, is_positive, linear);
            count += kept.count;
            sum += kept.middle * kept.count;
            trimmed |= kept.count != bucket.count;
            kept.count
        };
        let positive: Vec<_> = self.positive.iter().map(|p| (p.0, cut(self.positive_bucket(*p), true))).collect();
        let negative: Vec<_> = self.negative.iter().map(|p| (p.0, cut(self.negative_bucket(*p), false))).collect();
        (self.positive, self.negative) = (positive, negative);
        if self.zero_count > 0.0 {
            let kept = keep_zero(self.zero_bucket(), at, upper, has_negative, has_positive);
            count += kept.count;
            sum += kept.middle * kept.count;
            trimmed |= kept.count != self.zero_count;
            self.zero_count = kept.count;
        }
        if trimmed {
            (self.count, self.sum) = (count, sum);
            self.compact();
        }
    }
}

fn keep(bucket: Bucket, at: f64, upper: bool, is_positive: bool, linear: bool) -> Kept {
    let Bucket { lower: low, upper: high, count, .. } = bucket;
    if count == 0.0 {
        return Kept { count: 0.0, middle: 0.0 };
    }
    let (is_whole, is_cut) = if upper { (high <= at, low < at) } else { (low >= at, high > at) };
    if is_whole {
        return Kept { count, middle: middle(low, high, is_positive, linear) };
    }
    if !is_cut {
        return Kept { count: 0.0, middle: 0.0 };
    }
    if low.is_infinite() || high.is_infinite() {
        return keep_unbounded(bucket, at, upper);
    }
    let below = count * bucket.fraction_below(at, linear);
    if upper {
        Kept { count: below, middle: middle(low, at, is_positive, linear) }
    } else {
        Kept { count: count - below, middle: middle(at, high, is_positive, linear) }
    }
}

/// Nothing is known of how observations lie in a bucket without an end: it goes or stays whole,
/// but for one between -Inf and a positive bound, which is taken to begin at 0.
fn keep_unbounded(bucket: Bucket, at: f64, upper: bool) -> Kept {
    let Bucket { lower: low, upper: high, count, .. } = bucket;
    let or_zero = |v: f64| if v.is_infinite() { 0.0 } else { v };
    let from_zero = low == f64::NEG_INFINITY && high.is_finite();
    match (low == f64::NEG_INFINITY, upper) {
        (true, true) if at >= high => Kept { count, middle: 0.0 },
        (true, true) if from_zero && at > 0.0 && high > 0.0 => Kept { count: count * at / high, middle: at / 2.0 },
        (true, true) if high <= 0.0 => Kept { count, middle: at },
        (true, false) if at <= low => Kept { count, middle: 0.0 },
        (true, false) if from_zero && at >= 0.0 && high > at => {
            Kept { count: count * (1.0 - at / high), middle: (at + high) / 2.0 }
        }
        (true, _) => Kept { count: 0.0, middle: or_zero(high) },
        (false, false) if at >= low => Kept { count, middle: at },
        (false, _) => Kept { count: 0.0, middle: or_zero(low) },
    }
}

fn keep_zero(zero: Bucket, at: f64, upper: bool, has_negative: bool, has_positive: bool) -> Kept {
    // Without observations on one side, those around zero are taken to lie on the other.
    let high = if has_negative && !has_positive { 0.0 } else { zero.upper };
    let low = if has_positive && !has_negative { 0.0 } else { zero.lower };
    let whole = Kept { count: zero.count, middle: (low + high) / 2.0 };
    let none = Kept { count: 0.0, middle: 0.0 };
    match (at <= low, at >= high) {
        (true, _) => {
            if upper {
                none
            } else {
                whole
            }
        }
        (_, true) => {
            if upper {
                whole
            } else {
                none
            }
        }
        _ => {
            let (from, to) = if upper { (low, at) } else { (at, high) };
            Kept { count: zero.count * ((to - from) / (high - low)), middle: (from + to) / 2.0 }
        }
    }
}

fn middle(low: f64, high: f64, is_positive: bool, linear: bool) -> f64 {
    match (low.is_infinite(), high.is_infinite()) {
        (true, true) => 0.0,
        (true, false) if high > 0.0 => high / 2.0,
        (true, false) => high,
        (false, true) => low,
        _ if linear => (low + high) / 2.0,
        _ => {
            let geometric = (low * high).abs().sqrt();
            if is_positive { geometric } else { -geometric }
        }
    }
}

impl Bucket {
    /// The part of the bucket's observations that is at most `v`: they are taken to be spread
    /// evenly (`linear`) or evenly over the logarithm of the value.
    pub fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (low, high, v) = (self.lower.abs().log2(), self.upper.abs().log2(), v.abs().log2());
        if self.lower > 0.0 { (v - low) / (high - low) } else { 1.0 - ((v - high) / (low - high)) }
    }
}
