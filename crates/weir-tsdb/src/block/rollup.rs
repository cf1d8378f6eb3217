//! From samples to buckets: a pure function of one series' columns, the same for raw samples and for finer buckets.
//!
//! Bucket k is (k·length, (k+1)·length], as PromQL's windows are, so that a window between edges of buckets covers
//! what they cover. Each column has samples at real times: nobody has to know that they stand for others.

use serde::{Deserialize, Serialize};
use weir_model::histogram::ResetHint;
use weir_model::{FloatHistogram, HistogramSample, Sample, is_stale};

/// What a rolled block has of each bucket. A series that a block lacks is as in the block of [`Column::Last`], or
/// counts one sample per bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Column {
    #[default]
    Last,
    Counter,
    Min,
    Max,
    Sum,
    Count,
}

impl Column {
    pub const ALL: [Self; 6] = [Self::Last, Self::Counter, Self::Min, Self::Max, Self::Sum, Self::Count];
}

/// One series. All but `last` are empty where they say no more than it does.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Columns {
    /// Every sample, or the last of each bucket; a stale marker after it stays.
    pub last: Vec<Sample>,
    /// The last of each bucket, and the samples around each fall, those across the beginning too.
    pub counter: Vec<Sample>,
    /// The others have the time of the bucket's last sample.
    pub min: Vec<Sample>,
    pub max: Vec<Sample>,
    pub sum: Vec<Sample>,
    pub count: Vec<Sample>,
    /// As `last` and `counter` in one.
    pub histograms: Vec<HistogramSample>,
}

/// The newest samples before the stretch that is rolled up.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    pub value: Option<f64>,
    pub histogram: Option<HistogramSample>,
}

pub(super) fn bucket_of(at: i64, length: i64) -> i64 {
    at.saturating_sub(1).div_euclid(length)
}

fn real(samples: &[Sample]) -> impl DoubleEndedIterator<Item = &Sample> {
    samples.iter().filter(|s| !is_stale(s.value))
}

impl Columns {
    pub fn get(&self, column: Column) -> &[Sample] {
        match column {
            Column::Last => &self.last,
            Column::Counter => &self.counter,
            Column::Min => &self.min,
            Column::Max => &self.max,
            Column::Sum => &self.sum,
            Column::Count => &self.count,
        }
    }

    pub fn get_mut(&mut self, column: Column) -> &mut Vec<Sample> {
        match column {
            Column::Last => &mut self.last,
            Column::Counter => &mut self.counter,
            Column::Min => &mut self.min,
            Column::Max => &mut self.max,
            Column::Sum => &mut self.sum,
            Column::Count => &mut self.count,
        }
    }

    /// These columns in longer buckets.
    pub fn rolled(&self, length: i64, before: &Before) -> Self {
        let last = lasts(&self.last, length);
        let ends: Vec<Sample> = real(&last).copied().collect();
        let of = |column: &Vec<Sample>, fold: fn(f64, f64) -> f64| {
            let from = if column.is_empty() { &self.last } else { column };
            folded(from, &ends, length, |s| s.value, fold)
        };
        let unlike_last = |column: Vec<Sample>| if same(&column, &ends) { Vec::new() } else { column };
        let ones = |s: &Sample| if self.count.is_empty() { 1.0 } else { s.value };
        let counted = if self.count.is_empty() { &self.last } else { &self.count };
        let count = folded(counted, &ends, length, ones, |a, b| a + b);
        let counter = if self.counter.is_empty() { &self.last } else { &self.counter };
        Self {
            counter: unlike_last(around_falls(counter, &ends, length, before)),
            min: unlike_last(of(&self.min, |least, v| if v < least || least.is_nan() { v } else { least })),
            max: unlike_last(of(&self.max, |most, v| if v > most || most.is_nan() { v } else { most })),
            sum: unlike_last(of(&self.sum, |sum, v| sum + v)),
            count: if count.iter().all(|s| s.value == 1.0) { Vec::new() } else { count },
            histograms: rolled_histograms(&self.histograms, length, before),
            last,
        }
    }
}

fn same(a: &[Sample], b: &[Sample]) -> bool {
    let equal = |(a, b): (&Sample, &Sample)| a.at == b.at && a.value.to_bits() == b.value.to_bits();
    a.len() == b.len() && a.iter().zip(b).all(equal)
}

/// The last real sample of each bucket, and the stale marker that follows it in the bucket.
fn lasts(samples: &[Sample], length: i64) -> Vec<Sample> {
    let mut out = Vec::new();
    for bucket in samples.chunk_by(|a, b| bucket_of(a.at.0, length) == bucket_of(b.at.0, length)) {
        let last = bucket.iter().rposition(|s| !is_stale(s.value));
        out.extend(last.map(|at| bucket[at]));
        out.extend(bucket.get(last.map_or(0, |at| at + 1)));
    }
    out
}

/// One value for each bucket, at the time of its last sample.
fn folded(
    samples: &[Sample],
    ends: &[Sample],
    length: i64,
    value: impl Fn(&Sample) -> f64,
    fold: impl Fn(f64, f64) -> f64,
) -> Vec<Sample> {
    let mut left = real(samples).peekable();
    let mut out = Vec::with_capacity(ends.len());
    for end in ends {
        let bucket = bucket_of(end.at.0, length);
        let mut all: Option<f64> = None;
        while let Some(sample) = left.next_if(|s| bucket_of(s.at.0, length) <= bucket) {
            let value = value(sample);
            all = Some(all.map_or(value, |all| fold(all, value)));
        }
        out.extend(all.map(|value| Sample { at: end.at, value }));
    }
    out
}

/// A series that falls oftener than every other bucket is no counter, and its samples are not worth keeping.
fn is_gauge(n_falls: usize, n_buckets: usize) -> bool {
    n_falls > 1 && n_falls * 2 > n_buckets
}

fn around_falls(samples: &[Sample], ends: &[Sample], length: i64, before: &Before) -> Vec<Sample> {
    let all: Vec<Sample> = real(samples).copied().collect();
    let falls: Vec<usize> = (1..all.len()).filter(|at| all[*at].value < all[at - 1].value).collect();
    if all.is_empty() || is_gauge(falls.len(), ends.len()) {
        return Vec::new();
    }
    let mut kept = vec![false; all.len()];
    // Whether the series fell since what is before the stretch is not to be seen from the end of the first bucket.
    kept[0] = before.value.is_none_or(|before| all[0].value < before);
    for at in falls {
        (kept[at - 1], kept[at]) = (true, true);
    }
    for (at, sample) in all.iter().enumerate() {
        let next = all.get(at + 1);
        kept[at] |= next.is_none_or(|next| bucket_of(next.at.0, length) != bucket_of(sample.at.0, length));
    }
    all.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(sample, _)| sample).collect()
}

fn rolled_histograms(samples: &[HistogramSample], length: i64, before: &Before) -> Vec<HistogramSample> {
    if samples.is_empty() {
        return Vec::new();
    }
    let mut kept = vec![false; samples.len()];
    let mut resets = Vec::new();
    let mut previous: Option<(Option<usize>, FloatHistogram)> =
        before.histogram.as_ref().map(|h| (None, h.histogram.to_float()));
    for (at, sample) in samples.iter().enumerate() {
        if sample.histogram.is_stale() {
            continue;
        }
        let now = sample.histogram.to_float();
        if now.hint != ResetHint::Gauge {
            match &previous {
                None => kept[at] = true,
                Some((from, previous)) if now.is_reset_after(previous) => resets.push((*from, at)),
                Some(_) => {}
            }
        }
        previous = Some((Some(at), now));
    }
    let n_buckets = samples.chunk_by(|a, b| bucket_of(a.at.0, length) == bucket_of(b.at.0, length)).count();
    if !is_gauge(resets.len(), n_buckets) {
        for (from, at) in resets {
            kept[at] = true;
            if let Some(from) = from {
                kept[from] = true;
            }
        }
    }
    let mut start = 0;
    for bucket in samples.chunk_by(|a, b| bucket_of(a.at.0, length) == bucket_of(b.at.0, length)) {
        let last = bucket.iter().rposition(|s| !s.histogram.is_stale());
        if let Some(last) = last {
            kept[start + last] = true;
        }
        let marker = last.map_or(0, |at| at + 1);
        if marker < bucket.len() {
            kept[start + marker] = true;
        }
        start += bucket.len();
    }
    samples.iter().zip(kept).filter(|(_, kept)| *kept).map(|(sample, _)| sample.clone()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FINE: i64 = 300_000;
    const LONG: i64 = 3_600_000;

    /// Irregular scrapes over six hours with gaps; counters with restarts, gauges, stale markers.
    fn series() -> impl Strategy<Value = Vec<Sample>> {
        let step = prop_oneof![8 => 1_000i64..60_000, 1 => Just(1), 1 => 300_000i64..5_000_000];
        let change = prop_oneof![20 => 0i32..50, 1 => Just(-1_000_000), 1 => -40i32..0, 1 => Just(i32::MIN)];
        proptest::collection::vec((step, change), 1..400).prop_map(|steps| {
            let (mut at, mut value) = (0, 0.0f64);
            let mut out = Vec::new();
            for (step, change) in steps {
                at += step;
                if change == i32::MIN {
                    out.push(Sample::stale(weir_model::Timestamp(at)));
                    continue;
                }
                value = (value + f64::from(change)).max(0.0);
                out.push(Sample::new(at, value));
            }
            out
        })
    }

    /// What a counter gained from sample to sample.
    fn gained(samples: &[Sample]) -> f64 {
        let all: Vec<f64> = real(samples).map(|s| s.value).collect();
        all.windows(2).map(|w| if w[1] < w[0] { w[1] } else { w[1] - w[0] }).sum()
    }

    fn until(samples: &[Sample], at: i64) -> Vec<Sample> {
        samples.iter().copied().filter(|s| s.at.0 <= at).collect()
    }

    fn or_last<'a>(column: &'a [Sample], of: &'a Columns) -> &'a [Sample] {
        if column.is_empty() { &of.last } else { column }
    }

    /// Each bucket by looking at all samples.
    fn check(raw: &[Sample], rolled: &Columns, length: i64) {
        let end = raw.last().map_or(0, |s| s.at.0);
        for bucket in 0..=bucket_of(end, length) {
            let inside = |s: &&Sample| bucket_of(s.at.0, length) == bucket;
            let of: Vec<f64> = real(raw).filter(inside).map(|s| s.value).collect();
            let one = |column: &[Sample]| {
                let found: Vec<f64> = real(column).filter(inside).map(|s| s.value).collect();
                assert!(found.len() <= 1, "one sample for each bucket");
                found.first().copied()
            };
            assert_eq!(one(&rolled.last), of.last().copied());
            assert_eq!(one(or_last(&rolled.min, rolled)), of.iter().copied().reduce(f64::min));
            assert_eq!(one(or_last(&rolled.max, rolled)), of.iter().copied().reduce(f64::max));
            assert_eq!(one(or_last(&rolled.sum, rolled)), of.iter().copied().reduce(|a, b| a + b));
            let count = if rolled.count.is_empty() { one(&rolled.last).map(|_| 1.0) } else { one(&rolled.count) };
            assert_eq!(count, (!of.is_empty()).then_some(of.len() as f64));
            let marker = |all: &[Sample]| all.iter().rfind(inside).is_some_and(|s| is_stale(s.value));
            assert_eq!(marker(&rolled.last), marker(raw), "whether the series ended in the bucket");
        }
    }

    proptest! {
        #[test]
        fn buckets_say_what_their_samples_do(raw in series()) {
            let of_raw = Columns { last: raw.clone(), ..Columns::default() };
            let fine = of_raw.rolled(FINE, &Before::default());
            check(&raw, &fine, FINE);
            let long = fine.rolled(LONG, &Before::default());
            check(&raw, &long, LONG);
            let straight = of_raw.rolled(LONG, &Before::default());
            prop_assert_eq!(&long.max, &straight.max);
            prop_assert_eq!(&long.count, &straight.count);
            // Not by `==`, as stale markers equal nothing.
            prop_assert!(same(&long.last, &straight.last));
        }

        /// What was gained since the first sample is the same at the end of every bucket, also when the buckets were
        /// made piece by piece.
        #[test]
        fn counters_lose_nothing(raw in series(), cut in 1i64..60) {
            let of_raw = Columns { last: raw.clone(), ..Columns::default() };
            let is_gauge = |samples: &[Sample], length| {
                let all: Vec<Sample> = real(samples).copied().collect();
                let n = all.chunk_by(|a, b| bucket_of(a.at.0, length) == bucket_of(b.at.0, length)).count();
                is_gauge(all.windows(2).filter(|w| w[1].value < w[0].value).count(), n)
            };
            let cut = cut * FINE;
            let (first, second): (Vec<_>, Vec<_>) = raw.iter().copied().partition(|s| s.at.0 <= cut);
            let before = Before { value: real(&first).next_back().map(|s| s.value), histogram: None };
            let in_parts = is_gauge(&first, FINE) || is_gauge(&second, FINE);
            let one = Columns { last: first, ..Columns::default() }.rolled(FINE, &Before::default());
            let two = Columns { last: second, ..Columns::default() }.rolled(FINE, &before);
            let parts = [or_last(&one.counter, &one), or_last(&two.counter, &two)].concat();
            let fine = of_raw.rolled(FINE, &Before::default());
            let long = fine.rolled(LONG, &Before::default());
            for (length, counter, is_gauge) in [
                (FINE, or_last(&fine.counter, &fine), is_gauge(&raw, FINE)),
                (FINE, &parts, in_parts),
                (LONG, or_last(&long.counter, &long), is_gauge(&raw, FINE) || is_gauge(&raw, LONG)),
            ] {
                // Gauges are not kept as counters.
                if is_gauge {
                    continue;
                }
                let first = real(&raw).next().map(|s| s.at);
                prop_assert_eq!(real(counter).next().map(|s| s.at), first);
                for edge in 0..=bucket_of(raw.last().map_or(0, |s| s.at.0), length) {
                    let edge = (edge + 1) * length;
                    prop_assert_eq!(gained(&until(counter, edge)), gained(&until(&raw, edge)));
                }
            }
        }
    }

    #[test]
    fn columns_that_say_nothing_are_left_out() {
        let minutes = |n: i64, value: fn(i64) -> f64| -> Columns {
            let last = (1..=n).map(|k| Sample::new(k * 60_000, value(k))).collect();
            Columns { last, ..Columns::default() }
        };
        let known = Before { value: Some(0.0), histogram: None };
        let counter = minutes(60, |k| k as f64).rolled(FINE, &known);
        assert_eq!((counter.last.len(), counter.counter.len(), counter.max.len()), (12, 0, 0));
        assert_eq!((counter.min.len(), counter.sum.len(), counter.count.len()), (12, 12, 12));
        let constant = minutes(60, |_| 0.0).rolled(FINE, &known);
        assert_eq!((constant.min.len(), constant.sum.len(), constant.count.len()), (0, 0, 12));
        let gauge = minutes(60, |k| (k * 7 % 5) as f64).rolled(FINE, &known);
        assert_eq!((gauge.counter.len(), gauge.max.len()), (0, 12));
        let slow = Columns { last: (1..=12).map(|k| Sample::new(k * FINE, k as f64)).collect(), ..Columns::default() };
        let rolled = slow.rolled(FINE, &known);
        assert_eq!(rolled, Columns { last: slow.last.clone(), ..Columns::default() });
    }
}
