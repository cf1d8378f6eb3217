//! Arithmetic: what Go's `math` and PromQL's operators do with each pair of numbers.

use weir_model::FloatHistogram;
pub(crate) use weir_model::histogram::Kahan;
use weir_model::histogram::{Adjusted, IncompatibleSchemas};

use crate::ast::BinaryOp;

pub(crate) fn deg(v: f64) -> f64 {
    v * 180.0 / std::f64::consts::PI
}
pub(crate) fn rad(v: f64) -> f64 {
    v * std::f64::consts::PI / 180.0
}
pub(crate) fn sgn(v: f64) -> f64 {
    if v < 0.0 {
        -1.0
    } else if v > 0.0 {
        1.0
    } else {
        v
    }
}

/// Go's `math.Max`: NaN wins, unlike `f64::max`.
pub(crate) fn max(a: f64, b: f64) -> f64 {
    match () {
        () if a == f64::INFINITY || b == f64::INFINITY => f64::INFINITY,
        () if a.is_nan() || b.is_nan() => f64::NAN,
        () if a == 0.0 && b == 0.0 => {
            if a.is_sign_negative() {
                b
            } else {
                a
            }
        }
        () => {
            if a > b {
                a
            } else {
                b
            }
        }
    }
}
/// Go's `math.Min`.
pub(crate) fn min(a: f64, b: f64) -> f64 {
    -max(-a, -b)
}

/// Rounds to the nearest multiple of `to`, halves up.
pub(crate) fn round_to(v: f64, to: f64) -> f64 {
    // The inverse keeps 0.1 and its like exact where division would not.
    let inverse = 1.0 / to;
    (v * inverse + 0.5).floor() / inverse
}

/// The value of an arithmetic operator; comparisons give 1 or 0.
pub(crate) fn apply(op: BinaryOp, a: f64, b: f64) -> f64 {
    let flag = |holds: bool| if holds { 1.0 } else { 0.0 };
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        BinaryOp::Eq => flag(a == b),
        BinaryOp::Ne => flag(a != b),
        BinaryOp::Gt => flag(a > b),
        BinaryOp::Lt => flag(a < b),
        BinaryOp::Ge => flag(a >= b),
        BinaryOp::Le => flag(a <= b),
        // Set operators work on presence and never come here.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
        // They cut histograms, and the evaluator refuses floats.
        BinaryOp::TrimUpper | BinaryOp::TrimLower => f64::NAN,
    }
}

/// A mean that survives sums beyond the largest float. Source: Prometheus `promql/engine.go`, AVG.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mean {
    kahan: Kahan,
    n: f64,
    incremental: bool,
}

impl Mean {
    pub fn add(&mut self, v: f64) {
        self.n += 1.0;
        if !self.incremental {
            let mut next = self.kahan;
            next.add(v);
            if !next.sum.is_infinite() || self.n == 1.0 {
                self.kahan = next;
                return;
            }
            self.incremental = true;
            self.kahan.sum /= self.n - 1.0;
            self.kahan.lost /= self.n - 1.0;
        }
        let mean = self.kahan.sum;
        if mean.is_infinite() && (v == mean || v.is_finite()) {
            return;
        }
        let keep = (self.n - 1.0) / self.n;
        self.kahan = Kahan { sum: mean * keep, lost: self.kahan.lost * keep };
        self.kahan.add(v / self.n);
    }
    pub fn value(self) -> f64 {
        if self.incremental { self.kahan.total() } else { self.kahan.sum / self.n + self.kahan.lost / self.n }
    }
}

/// A sum of histograms that carries what rounding lost.
pub(crate) struct HistSum(FloatHistogram<Kahan>);

impl HistSum {
    pub fn new(first: &FloatHistogram) -> Self {
        Self(first.convert())
    }
    pub fn add(&mut self, h: &FloatHistogram) -> Result<Adjusted, IncompatibleSchemas> {
        self.0.add(h)
    }
    pub fn value(&self) -> FloatHistogram {
        let mut out: FloatHistogram = self.0.convert();
        out.compact();
        out
    }
}

/// A mean of histograms that survives sums beyond the largest float.
pub(crate) struct HistMean {
    sum: FloatHistogram<Kahan>,
    n: f64,
    incremental: bool,
}

impl HistMean {
    pub fn new(first: &FloatHistogram) -> Self {
        Self { sum: first.convert(), n: 1.0, incremental: false }
    }

    pub fn add(&mut self, h: &FloatHistogram) -> Result<Adjusted, IncompatibleSchemas> {
        self.n += 1.0;
        if !self.incremental {
            let mut next = self.sum.clone();
            let adjusted = next.add(h)?;
            if !next.convert::<f64>().has_overflow() {
                self.sum = next;
                return Ok(adjusted);
            }
            self.incremental = true;
            self.sum.scale(1.0 / (self.n - 1.0));
        }
        self.sum.scale((self.n - 1.0) / self.n);
        let mut part = h.clone();
        part.divide(self.n);
        self.sum.add(&part)
    }

    pub fn value(&self) -> FloatHistogram {
        let mut out: FloatHistogram = self.sum.convert();
        if !self.incremental {
            out.divide(self.n);
        }
        out.compact();
        out
    }
}

/// The φ-quantile of values in any order; `None` for none of them. Sorts in place, NaN first.
pub(crate) fn quantile(phi: f64, values: &mut [f64]) -> Option<f64> {
    if values.is_empty() || phi.is_nan() {
        return (!values.is_empty()).then_some(f64::NAN);
    }
    if !(0.0..=1.0).contains(&phi) {
        return Some(if phi < 0.0 { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    values.sort_unstable_by(nan_first);
    let last = values.len() - 1;
    let rank = phi * last as f64;
    let lower = (rank.floor() as usize).min(last);
    let upper = (lower + 1).min(last);
    let weight = rank - rank.floor();
    Some(values[lower] * (1.0 - weight) + values[upper] * weight)
}

/// Ascending, with NaN below everything.
pub(crate) fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_wins_in_min_and_max() {
        assert!(max(f64::NAN, 1.0).is_nan() && min(1.0, f64::NAN).is_nan());
        assert_eq!((max(1.0, 2.0), min(1.0, 2.0)), (2.0, 1.0));
    }

    #[test]
    fn mean_of_the_largest_floats_is_finite() {
        let mut m = Mean::default();
        for _ in 0..4 {
            m.add(f64::MAX);
        }
        assert!((m.value() / f64::MAX - 1.0).abs() < 1e-12);
    }

    #[test]
    fn quantiles_interpolate() {
        for (phi, want) in [(0.0, 1.0), (0.5, 2.5), (1.0, 4.0), (0.25, 1.75)] {
            assert_eq!(quantile(phi, &mut [4.0, 1.0, 3.0, 2.0]), Some(want));
        }
        assert_eq!(quantile(1.5, &mut [1.0]), Some(f64::INFINITY));
    }
}
