//! Windows over time: entries fall into buckets, and a window is a run of buckets.

use weir_model::Nanos;

use super::MetricParams;

/// The steps of a query against one range: cuts time so that each window begins and ends at a cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    start: i64,
    step: i64,
    pub(crate) steps: usize,
    range: i64,
}

impl Grid {
    /// `params` already shifted by the offset.
    pub(crate) fn new(params: MetricParams, offset_nanos: i64, range_nanos: i64) -> Self {
        let span = params.end.0.saturating_sub(params.start.0).max(0);
        let (step, steps) = if params.is_instant() || params.step_nanos <= 0 {
            (range_nanos.max(1), 1)
        } else {
            (params.step_nanos, usize::try_from(span / params.step_nanos).unwrap_or(0) + 1)
        };
        Self { start: params.start.0.saturating_sub(offset_nanos), step, steps, range: range_nanos.max(1) }
    }

    /// The first instant inside any window, and the first after all of them.
    pub(crate) fn bounds(&self) -> (Nanos, Nanos) {
        let last = self.start.saturating_add(self.step.saturating_mul(self.steps as i64 - 1));
        (Nanos(self.start.saturating_sub(self.range).saturating_add(1)), Nanos(last.saturating_add(1)))
    }

    /// The bucket of an instant. Each step has two: before and after the cut where the window of a
    /// later step begins (they coincide when the step divides the range).
    pub(crate) fn bucket(&self, at: Nanos) -> i64 {
        let past = at.0.saturating_sub(self.start);
        let k = -(-past).div_euclid(self.step);
        let right = k.saturating_mul(self.step);
        let cut = right.saturating_sub(self.range % self.step);
        2 * k + i64::from(self.range % self.step == 0 || past > cut)
    }

    /// The last instant of a bucket.
    pub(crate) fn last_of(&self, bucket: i64) -> i64 {
        let right = self.start.saturating_add(bucket.div_euclid(2).saturating_mul(self.step));
        if bucket.rem_euclid(2) == 1 { right } else { right.saturating_sub(self.range % self.step) }
    }

    /// First and last bucket of the window that ends at step `i`.
    pub(crate) fn window(&self, i: usize) -> (i64, i64) {
        let i = i as i64;
        let first = i - self.range / self.step + i64::from(self.range % self.step == 0);
        let is_cut = self.range % self.step != 0;
        (if is_cut { 2 * first + 1 } else { 2 * first }, 2 * i + 1)
    }

    /// Left edge (excluded) and right edge (included) of the window of step `i`.
    pub(crate) fn edges(&self, i: usize) -> (i64, i64) {
        let right = self.start + self.step * i as i64;
        (right.saturating_sub(self.range), right)
    }
}

/// Everything that the mergeable aggregations need of a set of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Acc {
    pub(crate) count: u64,
    /// Lines that the entries stand for; `count` without sampling.
    pub(crate) weight: f64,
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    mean: f64,
    /// Sum of squared distances from the mean (Welford).
    m2: f64,
    pub(crate) first: (i64, f64),
    pub(crate) last: (i64, f64),
}

impl Acc {
    pub(crate) fn of(at: Nanos, value: f64) -> Self {
        Self {
            count: 1,
            weight: 1.0,
            sum: value,
            min: value,
            max: value,
            mean: value,
            m2: 0.0,
            first: (at.0, value),
            last: (at.0, value),
        }
    }

    /// Of an entry that stands for `weight` lines: sums and means count it that often.
    pub(crate) fn weighted(at: Nanos, value: f64, weight: f64) -> Self {
        Self { weight, sum: value * weight, ..Self::of(at, value) }
    }

    /// Of `count` entries that count one each.
    pub(crate) fn ones(count: u64, first: Nanos, last: Nanos) -> Self {
        Self {
            count,
            weight: count as f64,
            sum: count as f64,
            first: (first.0, 1.0),
            last: (last.0, 1.0),
            ..Self::of(first, 1.0)
        }
    }

    pub(crate) fn merge(&mut self, other: &Acc) {
        let (n, m) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * m / (n + m);
        self.m2 += other.m2 + delta * delta * n * m / (n + m);
        self.count += other.count;
        self.weight += other.weight;
        self.sum += other.sum;
        // A NaN gives way to any number, as in Loki's and Prometheus' min and max.
        self.min = if other.min < self.min || self.min.is_nan() { other.min } else { self.min };
        self.max = if other.max > self.max || self.max.is_nan() { other.max } else { self.max };
        if other.first.0 < self.first.0 {
            self.first = other.first;
        }
        if other.last.0 >= self.last.0 {
            self.last = other.last;
        }
    }

    /// Population variance.
    pub(crate) fn variance(&self) -> f64 {
        self.m2 / self.count as f64
    }
    pub(crate) fn mean(&self) -> f64 {
        self.sum / self.weight
    }
}

/// Calls `found` with each step whose window is not empty. Amortised two merges a bucket, however
/// much windows overlap: a queue of two stacks, since not every aggregate can be subtracted.
pub(crate) fn slide(grid: &Grid, buckets: &[(i64, Acc)], mut found: impl FnMut(usize, &Acc)) {
    let mut front: Vec<(i64, Acc)> = Vec::new();
    let mut back: Vec<(i64, Acc)> = Vec::new();
    let mut back_total: Option<Acc> = None;
    let mut next = 0;
    for i in 0..grid.steps {
        let (first, last) = grid.window(i);
        while next < buckets.len() && buckets[next].0 <= last {
            if buckets[next].0 >= first {
                back_total = Some(merged(back_total, &buckets[next].1));
                back.push(buckets[next]);
            }
            next += 1;
        }
        while front.last().is_some_and(|(bucket, _)| *bucket < first) {
            front.pop();
        }
        if front.is_empty() {
            let mut total: Option<Acc> = None;
            for (bucket, acc) in back.drain(..).rev().take_while(|(bucket, _)| *bucket >= first) {
                let mut suffix = acc;
                if let Some(later) = &total {
                    suffix.merge(later);
                }
                total = Some(suffix);
                front.push((bucket, suffix));
            }
            back_total = None;
        }
        let total = match (front.last(), &back_total) {
            (Some((_, acc)), Some(back)) => Some(merged(Some(*acc), back)),
            (Some((_, acc)), None) => Some(*acc),
            (None, back) => *back,
        };
        if let Some(acc) = total {
            found(i, &acc);
        }
    }
}

fn merged(into: Option<Acc>, acc: &Acc) -> Acc {
    match into {
        Some(mut total) => {
            total.merge(acc);
            total
        }
        None => *acc,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Buckets and the sliding queue agree with looking at every entry for every step.
        #[test]
        fn windows_agree_with_a_scan(
            times in prop::collection::vec(-50_i64..200, 0..60),
            start in 0_i64..20,
            step in 1_i64..30,
            steps in 1_i64..12,
            range in 1_i64..70,
        ) {
            let params = MetricParams { start: Nanos(start), end: Nanos(start + step * (steps - 1)), step_nanos: step };
            let grid = Grid::new(params, 0, range);
            let (from, to) = grid.bounds();
            let mut buckets: BTreeMap<i64, Acc> = BTreeMap::new();
            for t in &times {
                let at = Nanos(*t);
                if from <= at && at < to {
                    let bucket = grid.bucket(at);
                    let last = Nanos(grid.last_of(bucket));
                    prop_assert!(at <= last && grid.bucket(last) == bucket && grid.bucket(Nanos(last.0 + 1)) > bucket);
                    let acc = Acc::of(at, *t as f64);
                    buckets.entry(grid.bucket(at)).and_modify(|a| a.merge(&acc)).or_insert(acc);
                }
            }
            let buckets: Vec<_> = buckets.into_iter().collect();
            let mut got = vec![(0, 0.0); grid.steps];
            slide(&grid, &buckets, |i, acc| got[i] = (acc.count, acc.sum));
            for (i, got) in got.iter().enumerate() {
                let (left, right) = grid.edges(i);
                let inside: Vec<i64> = times.iter().copied().filter(|t| left < *t && *t <= right).collect();
                prop_assert_eq!(*got, (inside.len() as u64, inside.iter().sum::<i64>() as f64));
            }
        }
    }
}
