//! Native histograms: [`Histogram`] as it is sent and stored, [`FloatHistogram`] as it is computed with.
//!
//! Source: Prometheus `model/histogram`, and its native histogram specification.

mod arithmetic;
mod bounds;
mod float;
mod kahan;
mod sparse;
mod trim;

use std::sync::Arc;

use crate::metric::{STALE_NAN_BITS, is_stale};
use crate::time::Timestamp;

pub use arithmetic::{Adjusted, IncompatibleSchemas};
pub use bounds::{Bucket, bound};
pub use float::FloatHistogram;
pub use kahan::{Kahan, Number};

/// Schema of histograms with custom bucket boundaries.
pub const CUSTOM_SCHEMA: i32 = -53;
/// Coarsest exponential schema: each bucket is 65,536 times as wide as the one before.
pub const SCHEMA_MIN: i32 = -4;
/// Finest exponential schema: 256 buckets per power of two.
pub const SCHEMA_MAX: i32 = 8;
/// Schemas up to this are known; what is finer than [`SCHEMA_MAX`] is reduced to it.
pub const SCHEMA_RESERVED_MAX: i32 = 52;
/// Bound of foreign buckets of one histogram; a sender's default is 160.
pub const BUCKETS_MAX: usize = 100_000;

/// A run of consecutive buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BucketSpan {
    /// Gap to the span before, or the index of the first bucket for the first span.
    pub offset: i32,
    pub length: u32,
}

/// Whether the counts started anew since the sample before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResetHint {
    #[default]
    Unknown,
    Reset,
    NotReset,
    /// Not a counter: counts go up and down.
    Gauge,
}

impl ResetHint {
    /// As remote write and the chunk formats number it.
    pub fn number(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::Reset => 1,
            Self::NotReset => 2,
            Self::Gauge => 3,
        }
    }
    pub fn from_number(number: u64) -> Option<Self> {
        [Self::Unknown, Self::Reset, Self::NotReset, Self::Gauge].get(usize::try_from(number).ok()?).copied()
    }
}

/// Counts of the zero bucket, of all observations, and of each bucket that the spans list (absolute, not deltas).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BucketCounts<T> {
    pub count: T,
    pub zero: T,
    pub positive: Vec<T>,
    pub negative: Vec<T>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Counts {
    Integer(BucketCounts<u64>),
    Float(BucketCounts<f64>),
}

/// A native histogram as senders write it. What came from outside has passed [`Histogram::check`].
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    pub schema: i32,
    pub hint: ResetHint,
    pub zero_threshold: f64,
    pub sum: f64,
    pub positive_spans: Vec<BucketSpan>,
    pub negative_spans: Vec<BucketSpan>,
    pub counts: Counts,
    /// Upper bounds for [`CUSTOM_SCHEMA`], ascending, without the last one, which is +Inf.
    pub custom_bounds: Arc<[f64]>,
}

/// A histogram at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    pub at: Timestamp,
    pub histogram: Arc<Histogram>,
}

/// Why a histogram is none. Wording follows Prometheus `model/histogram/generic.go`.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidHistogram {
    #[error(
        "histogram has an invalid schema, which must be between {SCHEMA_MIN} and {SCHEMA_MAX} for exponential buckets, or {CUSTOM_SCHEMA} for custom buckets, got schema {0}"
    )]
    Schema(i32),
    #[error("{0} side: histogram has a span whose offset is negative")]
    NegativeOffset(&'static str),
    #[error(
        "{side} side: spans need {spans} buckets, have {buckets} buckets: histogram spans specify different number of buckets than provided"
    )]
    SpansMismatch { side: &'static str, spans: u64, buckets: usize },
    #[error("{0} side: histogram has a bucket whose observation count is negative")]
    NegativeCount(&'static str),
    #[error(
        "{side}: {seen} observations found in buckets, but the Count field is {count}: histogram's observation count should {rule} the number of observations found in the buckets"
    )]
    Count { side: &'static str, seen: u64, count: u64, rule: &'static str },
    #[error("custom buckets: {0}")]
    Custom(&'static str),
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialWithBounds,
    #[error("a histogram of {0} buckets; the limit is {BUCKETS_MAX}")]
    TooManyBuckets(usize),
    #[error("bucket indexes past the range of their type")]
    Index,
}

impl Histogram {
    /// The marker that ends a series of histograms.
    pub fn stale() -> Self {
        Self {
            schema: 0,
            hint: ResetHint::Unknown,
            zero_threshold: 0.0,
            sum: f64::from_bits(STALE_NAN_BITS),
            positive_spans: Vec::new(),
            negative_spans: Vec::new(),
            counts: Counts::Integer(BucketCounts::default()),
            custom_bounds: Arc::from([]),
        }
    }

    pub fn is_stale(&self) -> bool {
        is_stale(self.sum)
    }

    pub fn is_float(&self) -> bool {
        matches!(self.counts, Counts::Float(_))
    }

    /// Number of buckets listed, empty ones included.
    pub fn n_buckets(&self) -> usize {
        match &self.counts {
            Counts::Integer(c) => c.positive.len() + c.negative.len(),
            Counts::Float(c) => c.positive.len() + c.negative.len(),
        }
    }

    /// What it takes in memory.
    pub fn size_bytes(&self) -> usize {
        let spans = self.positive_spans.len() + self.negative_spans.len();
        size_of::<Self>() + 8 * (self.n_buckets() + spans + self.custom_bounds.len())
    }

    /// Equal down to the bits, so that NaN equals itself.
    pub fn same_bits(&self, other: &Self) -> bool {
        let bits =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
        let counts = match (&self.counts, &other.counts) {
            (Counts::Integer(a), Counts::Integer(b)) => a == b,
            (Counts::Float(a), Counts::Float(b)) => {
                bits(&[a.count, a.zero], &[b.count, b.zero])
                    && bits(&a.positive, &b.positive)
                    && bits(&a.negative, &b.negative)
            }
            _ => false,
        };
        counts
            && self.schema == other.schema
            && self.hint == other.hint
            && bits(&[self.zero_threshold, self.sum], &[other.zero_threshold, other.sum])
            && self.positive_spans == other.positive_spans
            && self.negative_spans == other.negative_spans
            && bits(&self.custom_bounds, &other.custom_bounds)
    }

    /// What every decoder asks before it lets a histogram in. A schema finer than [`SCHEMA_MAX`] comes out reduced.
    pub fn check(self) -> Result<Self, InvalidHistogram> {
        let n_buckets = self.n_buckets();
        if n_buckets > BUCKETS_MAX || self.positive_spans.len() + self.negative_spans.len() > BUCKETS_MAX {
            return Err(InvalidHistogram::TooManyBuckets(n_buckets));
        }
        let (n_positive, n_negative) = match &self.counts {
            Counts::Integer(c) => (c.positive.len(), c.negative.len()),
            Counts::Float(c) => (c.positive.len(), c.negative.len()),
        };
        check_spans("positive", &self.positive_spans, n_positive)?;
        check_spans("negative", &self.negative_spans, n_negative)?;
        match self.schema {
            CUSTOM_SCHEMA => self.check_custom()?,
            SCHEMA_MIN..=SCHEMA_RESERVED_MAX if !self.custom_bounds.is_empty() => {
                return Err(InvalidHistogram::ExponentialWithBounds);
            }
            SCHEMA_MIN..=SCHEMA_RESERVED_MAX => {}
            other => return Err(InvalidHistogram::Schema(other)),
        }
        self.check_counts()?;
        if self.schema > SCHEMA_MAX { Ok(self.reduced(SCHEMA_MAX)) } else { Ok(self) }
    }

    fn check_custom(&self) -> Result<(), InvalidHistogram> {
        let custom = |text| Err(InvalidHistogram::Custom(text));
        let (zero, n_negative) = match &self.counts {
            Counts::Integer(c) => (c.zero as f64, c.negative.len()),
            Counts::Float(c) => (c.zero, c.negative.len()),
        };
        if self.custom_bounds.iter().any(|b| b.is_nan()) {
            return custom("histogram custom bounds must not be NaN");
        }
        if self.custom_bounds.contains(&f64::INFINITY) {
            return custom("histogram custom bounds must be finite");
        }
        if !self.custom_bounds.is_sorted_by(|a, b| a < b) {
            return custom("histogram custom bounds must be in strictly increasing order");
        }
        let end: i64 = self.positive_spans.iter().map(|s| i64::from(s.offset) + i64::from(s.length)).sum();
        if end > self.custom_bounds.len() as i64 + 1 || self.positive_spans.first().is_some_and(|s| s.offset < 0) {
            return custom("histogram custom bounds are too few");
        }
        if zero != 0.0 {
            return custom("must have zero count of 0");
        }
        if self.zero_threshold != 0.0 {
            return custom("must have zero threshold of 0");
        }
        if !self.negative_spans.is_empty() || n_negative > 0 {
            return custom("must not have negative buckets");
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), InvalidHistogram> {
        match &self.counts {
            Counts::Integer(c) => {
                let all = c.positive.iter().chain(&c.negative).chain([&c.zero]);
                let seen = all.fold(0u64, |sum, n| sum.saturating_add(*n));
                let side = if self.is_custom() { "custom buckets" } else { "buckets" };
                // Observations of NaN are in no bucket.
                if self.sum.is_nan() && seen > c.count {
                    return Err(InvalidHistogram::Count { side, seen, count: c.count, rule: "be at least" });
                }
                if !self.sum.is_nan() && seen != c.count {
                    return Err(InvalidHistogram::Count { side, seen, count: c.count, rule: "equal" });
                }
                Ok(())
            }
            // Sums of floats are never exact enough to compare with the count.
            Counts::Float(c) => {
                for (side, negative) in [
                    ("positive", c.positive.iter().any(|n| *n < 0.0)),
                    ("negative", c.negative.iter().any(|n| *n < 0.0)),
                    ("zero", c.zero < 0.0 || c.count < 0.0),
                ] {
                    if negative {
                        return Err(InvalidHistogram::NegativeCount(side));
                    }
                }
                Ok(())
            }
        }
    }

    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_SCHEMA
    }

    /// Neighbouring buckets merged until the schema is `schema`; a coarser or custom one stays as it is.
    pub fn reduced(self, schema: i32) -> Self {
        if self.is_custom() || schema >= self.schema || schema < SCHEMA_MIN {
            return self;
        }
        let shift = self.schema - schema;
        let reduce = |spans: &[BucketSpan]| sparse::indexes(spans).map(|idx| bounds::coarser(idx, shift)).collect();
        let (positive, negative): (Vec<i32>, Vec<i32>) = (reduce(&self.positive_spans), reduce(&self.negative_spans));
        let (positive_spans, negative_spans, counts) = match &self.counts {
            Counts::Integer(c) => {
                let (p, n) = (sparse::merge(&positive, &c.positive), sparse::merge(&negative, &c.negative));
                let counts = BucketCounts { count: c.count, zero: c.zero, positive: p.1, negative: n.1 };
                (p.0, n.0, Counts::Integer(counts))
            }
            Counts::Float(c) => {
                let (p, n) = (sparse::merge(&positive, &c.positive), sparse::merge(&negative, &c.negative));
                let counts = BucketCounts { count: c.count, zero: c.zero, positive: p.1, negative: n.1 };
                (p.0, n.0, Counts::Float(counts))
            }
        };
        Self { schema, positive_spans, negative_spans, counts, ..self }
    }

    /// In the form that is computed with: empty buckets are gone, counts are floats.
    pub fn to_float(&self) -> FloatHistogram {
        let (count, zero_count, positive, negative) = match &self.counts {
            Counts::Integer(c) => (
                c.count as f64,
                c.zero as f64,
                sparse::pairs(&self.positive_spans, &c.positive, |n| n as f64),
                sparse::pairs(&self.negative_spans, &c.negative, |n| n as f64),
            ),
            Counts::Float(c) => (
                c.count,
                c.zero,
                sparse::pairs(&self.positive_spans, &c.positive, |n| n),
                sparse::pairs(&self.negative_spans, &c.negative, |n| n),
            ),
        };
        FloatHistogram {
            schema: self.schema,
            hint: self.hint,
            zero_threshold: self.zero_threshold,
            zero_count,
            count,
            sum: self.sum,
            positive,
            negative,
            custom_bounds: self.custom_bounds.clone(),
        }
    }
}

fn check_spans(side: &'static str, spans: &[BucketSpan], n_buckets: usize) -> Result<(), InvalidHistogram> {
    let mut end = 0i64;
    for (k, span) in spans.iter().enumerate() {
        if k > 0 && span.offset < 0 {
            return Err(InvalidHistogram::NegativeOffset(side));
        }
        end += i64::from(span.offset) + i64::from(span.length);
        if i32::try_from(end).is_err() {
            return Err(InvalidHistogram::Index);
        }
    }
    let wanted: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
    if wanted != n_buckets as u64 {
        return Err(InvalidHistogram::SpansMismatch { side, spans: wanted, buckets: n_buckets });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
