//! Samples of one series.

use std::collections::VecDeque;

use parking_lot::RwLock;
use weir_model::{Exemplar, HistogramSample, Labels, Sample, TimeRange, Timestamp};

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
    /// Ascending by time, none at a time that `samples` has.
    histograms: VecDeque<HistogramSample>,
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
            let taken = has_time(&data.histograms, sample.at, |h| h.at);
            let got = if taken { Appended::Conflict } else { insert(&mut data.samples, *sample) };
            report(sample, got);
        }
    }

    pub fn append_histograms(
        &self,
        histograms: &[HistogramSample],
        mut report: impl FnMut(&HistogramSample, Appended),
    ) {
        if histograms.is_empty() {
            return;
        }
        let mut data = self.data.write();
        for sample in histograms {
            let list = &data.histograms;
            let idx = list.partition_point(|h| h.at < sample.at);
            let got = match list.get(idx).filter(|there| there.at == sample.at) {
                Some(there) if there.histogram.same_bits(&sample.histogram) => Appended::Repeated,
                Some(_) => Appended::Conflict,
                None if has_time(&data.samples, sample.at, |s| s.at) => Appended::Conflict,
                None => {
                    data.histograms.insert(idx, sample.clone());
                    Appended::Stored
                }
            };
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
        let ends = |front: Option<Timestamp>, back: Option<Timestamp>| Some(TimeRange::new(front?, back?));
        let floats = ends(data.samples.front().map(|s| s.at), data.samples.back().map(|s| s.at));
        let histograms = ends(data.histograms.front().map(|h| h.at), data.histograms.back().map(|h| h.at));
        match (floats, histograms) {
            (Some(a), Some(b)) => Some(TimeRange::new(a.start.min(b.start), a.end.max(b.end))),
            (one, other) => one.or(other),
        }
    }

    pub fn has_samples_in(&self, range: TimeRange) -> bool {
        let data = self.data.read();
        let from = data.samples.partition_point(|s| s.at < range.start);
        let from_histogram = data.histograms.partition_point(|h| h.at < range.start);
        data.samples.get(from).is_some_and(|s| s.at <= range.end)
            || data.histograms.get(from_histogram).is_some_and(|h| h.at <= range.end)
    }

    pub fn copy(&self, range: TimeRange) -> (Vec<Sample>, Vec<HistogramSample>) {
        let data = self.data.read();
        let from = data.samples.partition_point(|s| s.at < range.start);
        let to = data.samples.partition_point(|s| s.at <= range.end);
        let floats = data.samples.range(from..to.max(from)).copied().collect();
        let from = data.histograms.partition_point(|h| h.at < range.start);
        let to = data.histograms.partition_point(|h| h.at <= range.end);
        (floats, data.histograms.range(from..to.max(from)).cloned().collect())
    }

    /// Drops what is before `cutoff`: number of floats, bytes of histograms, and whether anything is left.
    pub fn drop_before(&self, cutoff: Timestamp) -> (usize, u64, bool) {
        let mut data = self.data.write();
        let n_dropped = data.samples.partition_point(|s| s.at < cutoff);
        data.samples.drain(..n_dropped);
        if n_dropped > 0 {
            let n_kept = data.samples.len();
            data.samples.shrink_to(n_kept + n_kept / 8);
        }
        let n_histograms = data.histograms.partition_point(|h| h.at < cutoff);
        let bytes = data.histograms.drain(..n_histograms).map(|h| histogram_bytes(&h)).sum();
        (n_dropped, bytes, !data.samples.is_empty() || !data.histograms.is_empty())
    }

    pub fn len(&self) -> usize {
        let data = self.data.read();
        data.samples.len() + data.histograms.len()
    }
}

/// What a histogram costs in the store.
pub(crate) fn histogram_bytes(sample: &HistogramSample) -> u64 {
    (size_of::<HistogramSample>() + sample.histogram.size_bytes()) as u64
}

fn has_time<T>(list: &VecDeque<T>, at: Timestamp, time: impl Fn(&T) -> Timestamp) -> bool {
    let idx = list.partition_point(|item| time(item) < at);
    list.get(idx).is_some_and(|item| time(item) == at)
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
