//! Histograms that observe: with bounds that are given, or with exponential ones that fit themselves to what comes.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, exponential_histogram_data_point::Buckets,
};

use crate::config::Field;

/// Upper bounds in milliseconds where none are given.
pub(super) const DEFAULT_MS: [f64; 16] =
    [2., 4., 6., 8., 10., 50., 100., 200., 400., 800., 1000., 1400., 2000., 5000., 10_000., 15_000.];
/// Buckets of an exponential histogram where no number is given, and at most.
pub(super) const EXPONENTIAL_SIZE: usize = 160;
const EXPONENTIAL_SIZE_MAX: usize = 1000;
const BOUNDS_MAX: usize = 500;
const SCALE_MAX: i32 = 20;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Upper bounds, ascending.
    Explicit(Arc<[f64]>),
    /// So many buckets at most.
    Exponential(usize),
}

impl Shape {
    /// Bounds that a file gives as durations, in units of so many nanoseconds.
    pub fn read_buckets(field: &Field<'_>, unit_nanos: f64) -> Self {
        let items = field.items();
        let bounds: Vec<f64> =
            items.iter().filter_map(|item| Some(item.duration()?.as_nanos() as f64 / unit_nanos)).collect();
        if bounds.len() > BOUNDS_MAX {
            field.error(format!("{} bounds; at most {BOUNDS_MAX}", bounds.len()));
        }
        if let Some(k) = bounds.windows(2).position(|pair| pair[0] >= pair[1])
            && let Some(item) = items.get(k + 1)
        {
            item.error("is not above the bound before it");
        }
        Self::Explicit(bounds.into())
    }

    pub fn read_size(field: &Field<'_>) -> Self {
        let size = field.unsigned().map_or(EXPONENTIAL_SIZE, |n| usize::try_from(n).unwrap_or(usize::MAX));
        match size {
            0 => Self::Exponential(EXPONENTIAL_SIZE),
            2..=EXPONENTIAL_SIZE_MAX => Self::Exponential(size),
            _ => {
                field.error(format!("{size} buckets; from 2 to {EXPONENTIAL_SIZE_MAX}"));
                Self::Exponential(EXPONENTIAL_SIZE)
            }
        }
    }

    /// The usual bounds in a unit of so many of which a millisecond has.
    pub fn default_of(per_ms: f64) -> Self {
        Self::Explicit(DEFAULT_MS.iter().map(|bound| bound * per_ms).collect())
    }

    pub fn empty(&self) -> Histogram {
        match self {
            Self::Explicit(bounds) => {
                Histogram::Explicit(Explicit { bounds: bounds.clone(), counts: vec![0; bounds.len() + 1], sum: 0.0 })
            }
            Self::Exponential(size) => Histogram::Exponential(Exponential::new(*size)),
        }
    }
}

pub(super) fn units(duration: Duration, unit_nanos: f64) -> f64 {
    duration.as_nanos() as f64 / unit_nanos
}

#[derive(Clone, Debug)]
pub(super) enum Histogram {
    Explicit(Explicit),
    Exponential(Exponential),
}

impl Histogram {
    pub fn observe(&mut self, value: f64) {
        match self {
            Self::Explicit(histogram) => {
                // A value on a bound is below it.
                let bucket = histogram.bounds.partition_point(|bound| *bound < value);
                histogram.counts[bucket] += 1;
                histogram.sum += value;
            }
            Self::Exponential(histogram) => histogram.observe(value),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Explicit {
    bounds: Arc<[f64]>,
    /// Of each bound, then of what is above all.
    counts: Vec<u64>,
    sum: f64,
}

impl Explicit {
    pub fn point(&self) -> HistogramDataPoint {
        HistogramDataPoint {
            count: self.counts.iter().sum(),
            sum: Some(self.sum),
            bucket_counts: self.counts.clone(),
            explicit_bounds: self.bounds.to_vec(),
            ..HistogramDataPoint::default()
        }
    }
}

/// Buckets (b^i, b^(i+1)] with b = 2^(2^-scale), as fine as `size` buckets allow.
#[derive(Clone, Debug)]
pub(super) struct Exponential {
    size: usize,
    scale: i32,
    /// Index of the first bucket.
    offset: i32,
    counts: Vec<u64>,
    zeros: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Exponential {
    fn new(size: usize) -> Self {
        Self {
            size,
            scale: SCALE_MAX,
            offset: 0,
            counts: Vec::new(),
            zeros: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
        }
    }

    /// Durations: nothing is below zero.
    fn observe(&mut self, value: f64) {
        self.sum += value;
        (self.min, self.max) = (self.min.min(value), self.max.max(value));
        if value < f64::MIN_POSITIVE {
            self.zeros += 1;
            return;
        }
        let mut at = index(value, self.scale);
        if self.counts.is_empty() {
            self.offset = at;
        }
        let (low, high) = (self.offset.min(at), self.last().max(at));
        let shift = (0..).find(|shift| (i64::from(high) >> shift) - (i64::from(low) >> shift) < self.size as i64);
        let shift = shift.unwrap_or(0);
        if shift > 0 {
            self.coarsen(shift);
            at >>= shift;
        }
        if at < self.offset {
            let n = (self.offset - at) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, n));
            self.offset = at;
        }
        let k = (at - self.offset) as usize;
        if k >= self.counts.len() {
            self.counts.resize(k + 1, 0);
        }
        self.counts[k] += 1;
    }

    fn last(&self) -> i32 {
        self.offset + (self.counts.len() as i32 - 1).max(0)
    }

    /// Joins neighbours, so that one bucket stands for 2^`shift`.
    fn coarsen(&mut self, shift: i32) {
        let offset = self.offset >> shift;
        let mut counts = vec![0; ((self.last() >> shift) - offset + 1) as usize];
        for (k, count) in self.counts.iter().enumerate() {
            counts[(((self.offset + k as i32) >> shift) - offset) as usize] += count;
        }
        let was_empty = self.counts.is_empty();
        (self.offset, self.scale) = (offset, self.scale - shift);
        self.counts = if was_empty { Vec::new() } else { counts };
    }

    pub fn point(&self) -> ExponentialHistogramDataPoint {
        let count = self.zeros + self.counts.iter().sum::<u64>();
        let seen = |value: f64| (count > 0).then_some(value);
        ExponentialHistogramDataPoint {
            count,
            sum: Some(self.sum),
            min: seen(self.min),
            max: seen(self.max),
            scale: self.scale,
            zero_count: self.zeros,
            positive: Some(Buckets { offset: self.offset, bucket_counts: self.counts.clone() }),
            ..ExponentialHistogramDataPoint::default()
        }
    }
}

/// The bucket of a positive, normal value. Bounds belong to the bucket below them.
fn index(value: f64, scale: i32) -> i32 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1023;
    let fraction = bits & ((1 << 52) - 1);
    if fraction == 0 {
        // A power of two is the bound itself; logarithms may round to the other side of it.
        return if scale > 0 { (exponent << scale) - 1 } else { (exponent - 1) >> -scale };
    }
    if scale <= 0 {
        return exponent >> -scale;
    }
    let within = f64::from_bits((1023 << 52) | fraction).log2();
    let steps = f64::from(1u32 << scale);
    let at = ((within * steps).ceil() as i32 - 1).clamp(0, (1 << scale) - 1);
    (exponent << scale) + at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(size: usize, values: &[f64]) -> Exponential {
        let mut histogram = Exponential::new(size);
        values.iter().for_each(|value| histogram.observe(*value));
        histogram
    }

    #[test]
    fn bounds_belong_to_the_bucket_below() {
        // Index of a value at scales 0, 1, -1, 3: the specification's mapping, upper inclusive.
        for (value, want) in [
            (1.0, [-1, -1, -1, -1]),
            (2.0, [0, 1, 0, 7]),
            (4.0, [1, 3, 0, 15]),
            (3.0, [1, 3, 0, 12]),
            (1.5, [0, 1, 0, 4]),
            (0.5, [-2, -3, -1, -9]),
        ] {
            let got = [0, 1, -1, 3].map(|scale| index(value, scale));
            assert_eq!(got, want, "{value}");
        }
    }

    #[test]
    fn explicit_bounds_take_what_is_on_them() {
        let Shape::Explicit(_) = Shape::default_of(1.0) else { panic!("explicit") };
        let mut histogram = Shape::Explicit(Arc::from([1.0, 2.0])).empty();
        [0.0, 1.0, 1.5, 2.0, 7.0].iter().for_each(|value| histogram.observe(*value));
        let Histogram::Explicit(histogram) = histogram else { panic!("explicit") };
        let point = histogram.point();
        assert_eq!((point.count, point.sum, point.bucket_counts), (5, Some(11.5), vec![2, 2, 1]));
    }

    proptest! {
        #[test]
        fn every_value_is_in_a_bucket_that_has_room_for_it(
            size in 2usize..40,
            values in prop::collection::vec(prop_oneof![Just(0.0), 1e-9..1e9f64, (-30i32..30).prop_map(|e| f64::from(e).exp2())], 1..200),
        ) {
            let histogram = of(size, &values);
            prop_assert!(histogram.counts.len() <= size);
            let point = histogram.point();
            prop_assert_eq!(point.count as usize, values.len());
            // Each bucket has as many values as lie between its bounds, save for rounding at the bounds.
            let base = |i: i32| (f64::from(i) * f64::from(-histogram.scale).exp2()).exp2();
            let mut below = 0u64;
            for (k, count) in histogram.counts.iter().enumerate() {
                below += count;
                let upper = base(histogram.offset + k as i32 + 1);
                let [least, most] = [1.0 - 1e-9, 1.0 + 1e-9].map(|near| {
                    values.iter().filter(|v| **v > 0.0 && **v <= upper * near).count() as u64
                });
                prop_assert!((least..=most).contains(&below), "{} not in {}..={} up to {}", below, least, most, upper);
            }
        }
    }
}
