//! A histogram to compute with.

use std::sync::Arc;

use super::bounds::{Bucket, bound, coarser};
use super::{BucketCounts, CUSTOM_SCHEMA, Counts, Histogram, Number, ResetHint, sparse};

/// Buckets are pairs of index and count, ascending by index; a count of zero is as good as none.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatHistogram<N = f64> {
    pub schema: i32,
    pub hint: ResetHint,
    pub zero_threshold: f64,
    pub zero_count: N,
    pub count: N,
    pub sum: N,
    pub positive: Vec<(i32, N)>,
    pub negative: Vec<(i32, N)>,
    pub custom_bounds: Arc<[f64]>,
}

impl<N: Number> Default for FloatHistogram<N> {
    fn default() -> Self {
        Self {
            schema: 0,
            hint: ResetHint::Unknown,
            zero_threshold: 0.0,
            zero_count: N::default(),
            count: N::default(),
            sum: N::default(),
            positive: Vec::new(),
            negative: Vec::new(),
            custom_bounds: Arc::from([]),
        }
    }
}

impl<N: Number> FloatHistogram<N> {
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Counts in another kind of number.
    pub fn convert<M: Number>(&self) -> FloatHistogram<M> {
        let number = |n: N| {
            let mut out = M::default();
            out.plus(n.get());
            out
        };
        let buckets = |from: &[(i32, N)]| from.iter().map(|(idx, n)| (*idx, number(*n))).collect();
        FloatHistogram {
            schema: self.schema,
            hint: self.hint,
            zero_threshold: self.zero_threshold,
            zero_count: number(self.zero_count),
            count: number(self.count),
            sum: number(self.sum),
            positive: buckets(&self.positive),
            negative: buckets(&self.negative),
            custom_bounds: self.custom_bounds.clone(),
        }
    }

    /// Merges buckets until the schema is `schema`, which is no finer than the present one.
    pub fn reduce(&mut self, schema: i32) {
        if self.is_custom() || schema >= self.schema {
            return;
        }
        let shift = self.schema - schema;
        for side in [&mut self.positive, &mut self.negative] {
            let mut merged: Vec<(i32, N)> = Vec::with_capacity(side.len());
            for (idx, n) in side.iter() {
                let idx = coarser(*idx, shift);
                match merged.last_mut() {
                    Some((last, sum)) if *last == idx => sum.merge(*n),
                    _ => merged.push((idx, *n)),
                }
            }
            *side = merged;
        }
        self.schema = schema;
    }

    /// All counts and the sum times `factor`.
    pub fn scale(&mut self, factor: f64) {
        self.zero_count.times(factor);
        self.count.times(factor);
        self.sum.times(factor);
        for (_, n) in self.positive.iter_mut().chain(&mut self.negative) {
            n.times(factor);
        }
        if factor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Drops buckets that hold nothing.
    pub fn compact(&mut self) {
        self.positive.retain(|(_, n)| n.get() != 0.0);
        self.negative.retain(|(_, n)| n.get() != 0.0);
    }

    /// Upper bound of the bucket's absolute value.
    pub(super) fn upper(&self, idx: i32) -> f64 {
        bound(idx, self.schema, &self.custom_bounds)
    }
    pub(super) fn lower(&self, idx: i32) -> f64 {
        bound(idx.saturating_sub(1), self.schema, &self.custom_bounds)
    }
}

impl FloatHistogram {
    pub fn size_bytes(&self) -> usize {
        size_of::<Self>() + 16 * (self.positive.len() + self.negative.len())
    }

    /// Divided by `divisor`; division by zero leaves no buckets.
    pub fn divide(&mut self, divisor: f64) {
        self.zero_count /= divisor;
        self.count /= divisor;
        self.sum /= divisor;
        if divisor == 0.0 {
            self.positive.clear();
            self.negative.clear();
            return;
        }
        for (_, n) in self.positive.iter_mut().chain(&mut self.negative) {
            *n /= divisor;
        }
        if divisor < 0.0 {
            self.hint = ResetHint::Gauge;
        }
    }

    /// Whether any figure left the range of floats.
    pub fn has_overflow(&self) -> bool {
        let buckets = self.positive.iter().chain(&self.negative).map(|(_, n)| *n);
        buckets.chain([self.zero_count, self.count, self.sum]).any(f64::is_infinite)
    }

    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
        }
    }

    pub fn positive_bucket(&self, (idx, count): (i32, f64)) -> Bucket {
        let (lower, upper) = (self.lower(idx), self.upper(idx));
        let lower_inclusive = self.is_custom() && lower == f64::NEG_INFINITY;
        Bucket { lower, upper, lower_inclusive, upper_inclusive: true, count }
    }

    pub fn negative_bucket(&self, (idx, count): (i32, f64)) -> Bucket {
        let (lower, upper) = (-self.upper(idx), -self.lower(idx));
        Bucket { lower, upper, lower_inclusive: true, upper_inclusive: false, count }
    }

    /// From the lowest to the highest, the zero bucket where it holds something; the neighbours of
    /// the zero bucket are cut where it begins.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut out = Vec::with_capacity(self.positive.len() + self.negative.len() + 1);
        for pair in self.negative.iter().rev() {
            let mut bucket = self.negative_bucket(*pair);
            if bucket.upper > -self.zero_threshold {
                bucket.upper = -self.zero_threshold;
            }
            out.push(bucket);
        }
        if self.zero_count != 0.0 && !self.is_custom() {
            out.push(self.zero_bucket());
        }
        for pair in &self.positive {
            let mut bucket = self.positive_bucket(*pair);
            if !self.is_custom() && bucket.lower < self.zero_threshold {
                bucket.lower = self.zero_threshold;
            }
            out.push(bucket);
        }
        out
    }

    /// Equal as data: bits of all figures, empty buckets aside, whatever the hints say.
    pub fn same_data(&self, other: &Self) -> bool {
        let same = |a: f64, b: f64| a.to_bits() == b.to_bits();
        let buckets = |a: &[(i32, f64)], b: &[(i32, f64)]| {
            let filled = |list: &[(i32, f64)]| -> Vec<(i32, u64)> {
                list.iter().filter(|(_, n)| *n != 0.0).map(|(idx, n)| (*idx, n.to_bits())).collect()
            };
            filled(a) == filled(b)
        };
        self.schema == other.schema
            && self.zero_threshold == other.zero_threshold
            && same(self.zero_count, other.zero_count)
            && same(self.count, other.count)
            && same(self.sum, other.sum)
            && self.custom_bounds == other.custom_bounds
            && buckets(&self.positive, &other.positive)
            && buckets(&self.negative, &other.negative)
    }

    /// As it is stored, with integer counts; `None` unless they are all whole and agree with each other.
    pub fn to_integers(&self) -> Option<Histogram> {
        // Beyond, floats skip whole numbers.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        let whole = |n: f64| (n.fract() == 0.0 && (0.0..EXACT_MAX).contains(&n)).then_some(n as u64);
        let side = |side: &[(i32, f64)]| side.iter().map(|(_, n)| whole(*n)).collect::<Option<Vec<u64>>>();
        let counts = BucketCounts {
            count: whole(self.count)?,
            zero: whole(self.zero_count)?,
            positive: side(&self.positive)?,
            negative: side(&self.negative)?,
        };
        Histogram { counts: Counts::Integer(counts), ..self.to_stored() }.check().ok()
    }

    /// As it is stored, with float counts.
    pub fn to_stored(&self) -> Histogram {
        let counts = |side: &[(i32, f64)]| side.iter().map(|(_, n)| *n).collect();
        let spans = |side: &[(i32, f64)]| sparse::spans(side.iter().map(|(idx, _)| *idx));
        Histogram {
            schema: self.schema,
            hint: self.hint,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            positive_spans: spans(&self.positive),
            negative_spans: spans(&self.negative),
            counts: Counts::Float(BucketCounts {
                count: self.count,
                zero: self.zero_count,
                positive: counts(&self.positive),
                negative: counts(&self.negative),
            }),
            custom_bounds: self.custom_bounds.clone(),
        }
    }
}
