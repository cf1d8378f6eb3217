//! Addition, subtraction, and whether a counter started anew.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{FloatHistogram, Number, ResetHint};

/// Exponential and custom buckets cannot be brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct IncompatibleSchemas;

/// What had to give for two histograms to fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adjusted {
    /// One said that counts started anew, the other that they did not.
    pub hints_collide: bool,
    /// Custom bounds differed; those that both have are left.
    pub bounds_differ: bool,
}

impl<N: Number> FloatHistogram<N> {
    /// Adds `other`, on the coarser schema and the wider zero bucket of the two.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Adjusted, IncompatibleSchemas> {
        self.combine(other, 1.0)
    }

    /// Subtracts `other`; counts may become negative.
    pub fn subtract(&mut self, other: &FloatHistogram) -> Result<Adjusted, IncompatibleSchemas> {
        self.combine(other, -1.0)
    }

    fn combine(&mut self, other: &FloatHistogram, sign: f64) -> Result<Adjusted, IncompatibleSchemas> {
        if self.is_custom() != other.is_custom() {
            return Err(IncompatibleSchemas);
        }
        let mut adjusted = Adjusted { hints_collide: self.join_hint(other.hint), bounds_differ: false };
        self.count.plus(sign * other.count);
        self.sum.plus(sign * other.sum);
        if self.is_custom() {
            if self.custom_bounds == other.custom_bounds {
                merge(&mut self.positive, &other.positive, sign);
            } else {
                adjusted.bounds_differ = true;
                let common = common_bounds(&self.custom_bounds, &other.custom_bounds);
                self.positive = onto(&self.positive, &self.custom_bounds, &common);
                merge(&mut self.positive, &onto(&other.positive, &other.custom_bounds, &common), sign);
                self.custom_bounds = Arc::from(common);
            }
            return Ok(adjusted);
        }
        // Most pairs have one layout, and are added without a copy.
        if self.schema == other.schema && self.zero_threshold == other.zero_threshold {
            self.zero_count.plus(sign * other.zero_count);
            merge(&mut self.positive, &other.positive, sign);
            merge(&mut self.negative, &other.negative, sign);
            return Ok(adjusted);
        }
        let mut other = other.clone();
        while self.zero_threshold != other.zero_threshold {
            if self.zero_threshold > other.zero_threshold {
                other.widen_zero(self.zero_threshold);
            } else {
                self.widen_zero(other.zero_threshold);
            }
        }
        let schema = self.schema.min(other.schema);
        self.reduce(schema);
        other.reduce(schema);
        self.zero_count.plus(sign * other.zero_count);
        merge(&mut self.positive, &other.positive, sign);
        merge(&mut self.negative, &other.negative, sign);
        Ok(adjusted)
    }

    /// The hint of a sum; answers whether the two contradict each other.
    fn join_hint(&mut self, other: ResetHint) -> bool {
        use ResetHint::*;
        let collide = matches!((self.hint, other), (Reset, NotReset) | (NotReset, Reset));
        self.hint = match (self.hint, other) {
            (a, b) if a == b => a,
            (Gauge, _) | (_, Gauge) => Gauge,
            _ => Unknown,
        };
        collide
    }

    /// Makes the zero bucket at least as wide as `threshold`; a filled bucket that the new
    /// threshold cuts is taken in whole.
    pub(super) fn widen_zero(&mut self, threshold: f64) {
        let mut threshold = threshold;
        loop {
            let cut =
                |(idx, n): &(i32, N)| n.get() != 0.0 && self.lower(*idx) < threshold && self.upper(*idx) > threshold;
            match self.positive.iter().chain(&self.negative).find(|pair| cut(pair)) {
                Some((idx, _)) => threshold = self.upper(*idx),
                None => break,
            }
        }
        let within = |h: &Self, idx: i32| h.upper(idx) <= threshold;
        let mut zero = self.zero_count;
        for (_, n) in self.positive.iter().chain(&self.negative).filter(|(idx, _)| within(self, *idx)) {
            zero.merge(*n);
        }
        let keep = |side: &[(i32, N)]| side.iter().filter(|(idx, _)| !within(self, *idx)).copied().collect();
        (self.positive, self.negative) = (keep(&self.positive), keep(&self.negative));
        self.zero_count = zero;
        self.zero_threshold = threshold;
    }
}

impl FloatHistogram {
    /// Whether counts started anew between `previous` and this one.
    ///
    /// Source: Prometheus `FloatHistogram.DetectReset`.
    pub fn is_reset_after(&self, previous: &Self) -> bool {
        match self.hint {
            ResetHint::Reset => return true,
            ResetHint::NotReset => return false,
            ResetHint::Unknown | ResetHint::Gauge => {}
        }
        if self.count < previous.count {
            return true;
        }
        if self.is_custom() {
            if !previous.is_custom() {
                return true;
            }
            if self.custom_bounds != previous.custom_bounds {
                let common = common_bounds(&self.custom_bounds, &previous.custom_bounds);
                let now = onto(&self.positive, &self.custom_bounds, &common);
                return lost_any(&now, &onto(&previous.positive, &previous.custom_bounds, &common));
            }
        }
        // Resolution is only gained, and the zero bucket only shrinks, with a restart.
        if previous.is_custom() && !self.is_custom()
            || self.schema > previous.schema
            || self.zero_threshold < previous.zero_threshold
        {
            return true;
        }
        let adjusted;
        let mut before = previous;
        if self.schema < previous.schema || self.zero_threshold != previous.zero_threshold {
            let mut copy = previous.clone();
            copy.widen_zero(self.zero_threshold);
            if copy.zero_threshold != self.zero_threshold {
                return true;
            }
            copy.reduce(self.schema);
            adjusted = copy;
            before = &adjusted;
        }
        self.zero_count < before.zero_count
            || lost_any(&self.positive, &before.positive)
            || lost_any(&self.negative, &before.negative)
    }
}

/// Whether a bucket of `before` holds less now.
fn lost_any(now: &[(i32, f64)], before: &[(i32, f64)]) -> bool {
    let mut now = now.iter().peekable();
    before.iter().any(|(idx, n)| {
        while now.peek().is_some_and(|(at, _)| at < idx) {
            now.next();
        }
        let count = now.peek().filter(|(at, _)| at == idx).map_or(0.0, |(_, n)| *n);
        count < *n
    })
}

/// Adds `from` times `sign` into `into`, both ascending.
fn merge<N: Number, M: Number>(into: &mut Vec<(i32, N)>, from: &[(i32, M)], sign: f64) {
    if from.is_empty() {
        return;
    }
    let same_layout = into.len() == from.len() && into.iter().zip(from).all(|(a, b)| a.0 == b.0);
    if same_layout {
        into.iter_mut().zip(from).for_each(|((_, a), (_, b))| a.plus(sign * b.get()));
        return;
    }
    let number = |n: M| {
        let mut out = N::default();
        out.plus(sign * n.get());
        out
    };
    let mut out = Vec::with_capacity(into.len() + from.len());
    let (mut a, mut b) = (into.iter().peekable(), from.iter().peekable());
    while let (Some((left, n)), Some((right, m))) = (a.peek(), b.peek()) {
        match left.cmp(right) {
            Ordering::Less => {
                out.push((*left, *n));
                a.next();
            }
            Ordering::Greater => {
                out.push((*right, number(*m)));
                b.next();
            }
            Ordering::Equal => {
                let mut sum = *n;
                sum.plus(sign * m.get());
                out.push((*left, sum));
                a.next();
                b.next();
            }
        }
    }
    out.extend(a.copied());
    out.extend(b.map(|(idx, m)| (*idx, number(*m))));
    *into = out;
}

/// Bounds that both have.
fn common_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().filter(|bound| b.binary_search_by(|x| x.total_cmp(bound)).is_ok()).copied().collect()
}

/// Buckets of `bounds` added up into those of the fewer bounds `common`.
fn onto<N: Number>(buckets: &[(i32, N)], bounds: &[f64], common: &[f64]) -> Vec<(i32, N)> {
    let mut out: Vec<(i32, N)> = Vec::new();
    for (idx, n) in buckets {
        let target = match usize::try_from(*idx).ok().and_then(|idx| bounds.get(idx)) {
            Some(upper) => common.partition_point(|c| c < upper),
            None => common.len(),
        } as i32;
        match out.last_mut() {
            Some((last, sum)) if *last == target => sum.merge(*n),
            _ => out.push((target, *n)),
        }
    }
    out
}
