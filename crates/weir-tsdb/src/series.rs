//! Samples of one series.

use std::collections::VecDeque;

use parking_lot::RwLock;
use weir_model::{Exemplar, Labels, Sample, TimeRange, Timestamp};

/// Newest exemplars kept per series; a chart shows a handful.
const EXEMPLARS_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Series {
    pub labels: Labels,
    data: RwLock<Data>,
}

#[derive(Debug, Default)]
struct Data {
    /// Ascending by time, no two with the same.
    samples: VecDeque<Sample>,
    exemplars: VecDeque<Exemplar>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Stored,
    /// The very sample was there already.
    Repeated,
    /// Another value was there at the same time.
    Conflict,
}

impl Series {
    pub fn new(labels: Labels) -> Self {
        Self { labels, data: RwLock::default() }
    }

    pub fn append(&self, samples: &[Sample], mut report: impl FnMut(&Sample, Appended)) {
        let mut data = self.data.write();
        for sample in samples {
            let got = insert(&mut data.samples, *sample);
            report(sample, got);
        }
    }

    pub fn add_exemplars(&self, exemplars: &[Exemplar]) {
        if exemplars.is_empty() {
            return;
        }
        let mut data = self.data.write();
        for exemplar in exemplars {
            if data.exemplars.contains(exemplar) {
                continue;
            }
            if data.exemplars.len() == EXEMPLARS_MAX {
                data.exemplars.pop_front();
            }
            data.exemplars.push_back(exemplar.clone());
        }
    }

    pub fn exemplars(&self, range: TimeRange) -> Vec<Exemplar> {
        let mut found: Vec<_> = self.data.read().exemplars.iter().filter(|e| range.contains(e.at)).cloned().collect();
        found.sort_by_key(|e| e.at);
        found
    }

    /// First and last sample times.
    pub fn span(&self) -> Option<TimeRange> {
        let data = self.data.read();
        Some(TimeRange::new(data.samples.front()?.at, data.samples.back()?.at))
    }

    pub fn has_samples_in(&self, range: TimeRange) -> bool {
        let data = self.data.read();
        let from = data.samples.partition_point(|s| s.at < range.start);
        data.samples.get(from).is_some_and(|s| s.at <= range.end)
    }

    pub fn copy(&self, range: TimeRange) -> Vec<Sample> {
        let data = self.data.read();
        let from = data.samples.partition_point(|s| s.at < range.start);
        let to = data.samples.partition_point(|s| s.at <= range.end);
        data.samples.range(from..to.max(from)).copied().collect()
    }

    /// Drops samples before `cutoff`; how many, and whether any are left.
    pub fn drop_before(&self, cutoff: Timestamp) -> (usize, bool) {
        let mut data = self.data.write();
        let n_dropped = data.samples.partition_point(|s| s.at < cutoff);
        data.samples.drain(..n_dropped);
        if n_dropped > 0 {
            let n_kept = data.samples.len();
            data.samples.shrink_to(n_kept + n_kept / 8);
        }
        (n_dropped, !data.samples.is_empty())
    }

    pub fn len(&self) -> usize {
        self.data.read().samples.len()
    }
}

fn insert(samples: &mut VecDeque<Sample>, sample: Sample) -> Appended {
    let at_end = samples.back().is_none_or(|last| last.at < sample.at);
    if at_end {
        samples.push_back(sample);
        return Appended::Stored;
    }
    let idx = samples.partition_point(|s| s.at < sample.at);
    let there = samples[idx];
    if there.at != sample.at {
        samples.insert(idx, sample);
        Appended::Stored
    } else if there.value.to_bits() == sample.value.to_bits() {
        Appended::Repeated
    } else {
        Appended::Conflict
    }
}
