//! The newest samples of a series, plain: 12 bytes each.

use weir_model::{Sample, Timestamp};

/// Words of a sample: milliseconds after `base`, then the two halves of the value's bits.
const WORDS: usize = 3;

/// Ascending by time, each time once; `base` is the first one's time.
#[derive(Debug, Default)]
pub(crate) struct Open {
    base: i64,
    words: Vec<u32>,
}

/// Where a time belongs.
pub(crate) enum Place {
    There(f64),
    /// Before this position.
    Free(usize),
    /// Too far from the others for their 32 bits.
    Far,
}

impl Open {
    pub fn len(&self) -> usize {
        self.words.len() / WORDS
    }
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }
    pub fn first(&self) -> Option<i64> {
        (!self.is_empty()).then_some(self.base)
    }
    pub fn last(&self) -> Option<i64> {
        let n = self.len();
        (n > 0).then(|| self.at(n - 1))
    }
    pub fn capacity_bytes(&self) -> u64 {
        4 * self.words.capacity() as u64
    }

    fn at(&self, idx: usize) -> i64 {
        self.base.wrapping_add(i64::from(self.words[idx * WORDS]))
    }
    fn value(&self, idx: usize) -> f64 {
        let (low, high) = (self.words[idx * WORDS + 1], self.words[idx * WORDS + 2]);
        f64::from_bits(u64::from(high) << 32 | u64::from(low))
    }
    pub fn get(&self, idx: usize) -> Sample {
        Sample { at: Timestamp(self.at(idx)), value: self.value(idx) }
    }

    /// Appends when `at` is later than all others and near enough.
    pub fn push(&mut self, at: i64, value: f64) -> bool {
        if self.words.is_empty() {
            self.base = at;
            self.words.reserve_exact(4 * WORDS);
        } else if self.words.len() == self.words.capacity() {
            self.words.reserve_exact(self.words.len());
        }
        let after = at.wrapping_sub(self.base);
        let last = if self.words.is_empty() { -1 } else { i64::from(self.words[self.words.len() - WORDS]) };
        let Ok(word) = u32::try_from(after) else { return false };
        if at < self.base || after <= last {
            return false;
        }
        let bits = value.to_bits();
        self.words.extend_from_slice(&[word, bits as u32, (bits >> 32) as u32]);
        true
    }

    pub fn find(&self, at: i64) -> Place {
        let (Some(first), Some(last)) = (self.first(), self.last()) else { return Place::Free(0) };
        let span = i128::from(at.max(last)) - i128::from(at.min(first));
        if span > i128::from(u32::MAX) {
            return Place::Far;
        }
        let idx = self.position(at);
        if idx < self.len() && self.at(idx) == at { Place::There(self.value(idx)) } else { Place::Free(idx) }
    }

    /// Position of the first sample at or after `at`.
    pub fn position(&self, at: i64) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.at(middle) < at { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Inserts where [`Open::find`] said.
    pub fn insert(&mut self, idx: usize, at: i64, value: f64) {
        if self.is_empty() || at < self.base {
            let shift = if self.is_empty() { 0 } else { self.base.wrapping_sub(at) as u32 };
            self.words.iter_mut().step_by(WORDS).for_each(|w| *w += shift);
            self.base = at;
        }
        let bits = value.to_bits();
        let words = [at.wrapping_sub(self.base) as u32, bits as u32, (bits >> 32) as u32];
        self.words.splice(idx * WORDS..idx * WORDS, words);
    }

    /// Removes the first `n` samples.
    pub fn remove_first(&mut self, n: usize) {
        if n == 0 {
            return;
        }
        if n == self.len() {
            self.words = Vec::new();
            return;
        }
        let base = self.at(n);
        let shift = base.wrapping_sub(self.base) as u32;
        self.words.drain(..n * WORDS);
        self.words.iter_mut().step_by(WORDS).for_each(|w| *w -= shift);
        self.base = base;
    }

    pub fn shrink(&mut self) {
        self.words.shrink_to(self.words.len().next_multiple_of(4 * WORDS));
    }

    /// Adds the samples from `start` to `end` (both included).
    pub fn read(&self, start: i64, end: i64, out: &mut Vec<Sample>) {
        let samples = (self.position(start)..self.len()).map(|idx| self.get(idx));
        out.extend(samples.take_while(|s| s.at.0 <= end));
    }
}
