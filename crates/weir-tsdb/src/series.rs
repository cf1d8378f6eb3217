//! Samples of one series in memory: the newest plain, older ones in sealed runs, late ones beside them.

use std::collections::VecDeque;

use weir_model::{Exemplar, HistogramSample, Sample, TimeRange, Timestamp};

use crate::open::{Open, Place};
use crate::run::{Buffers, Run};

/// Newest exemplars kept per series; a chart shows a handful.
const EXEMPLARS_MAX: usize = 16;
/// Samples of a sealed run: half an hour at a scrape every 15 seconds.
const RUN_SAMPLES: usize = 120;
/// Plain samples at most. The newest stay plain after sealing, so that a sample that was overtaken by a
/// few others still finds its place among them.
const OPEN_SAMPLES_MAX: usize = RUN_SAMPLES + 8;

/// What a late sample costs, with slack for growth.
const LATE_BYTES: u64 = 24;

#[derive(Debug, Default)]
pub(crate) struct Series {
    pub generation: u32,
    /// Says so without a look at `more`.
    has_histograms: bool,
    open: Open,
    /// What most series do not have for a while.
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    /// Ascending by first time; late samples make runs that overlap others.
    runs: Vec<Run>,
    /// Ascending by time; not after the end of the newest run.
    late: Vec<Sample>,
    /// Ascending by time, none at the time of a float.
    histograms: Vec<HistogramSample>,
    exemplars: VecDeque<Exemplar>,
    /// Of all the above.
    bytes: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    Stored,
    /// The very sample was there already.
    Repeated,
    /// Another value was there at the same time.
    Conflict,
}

/// What a read needs, taken under the lock and decoded without it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub runs: Vec<Run>,
    /// Ascending.
    pub late: Vec<Sample>,
    pub open: Vec<Sample>,
}

impl Found {
    /// All samples of the range, ascending, each time once.
    pub fn samples(self, range: TimeRange, buffers: &mut Buffers) -> Vec<Sample> {
        let is_simple = self.late.is_empty() && self.runs.windows(2).all(|w| w[0].max < w[1].min);
        if self.runs.is_empty() && self.late.is_empty() {
            return self.open;
        }
        let n: usize = self.runs.iter().map(|r| r.n_samples as usize).sum();
        let mut out = Vec::with_capacity(n + self.late.len() + self.open.len());
        for run in &self.runs {
            run.read(range, buffers, &mut out);
        }
        out.extend(self.late);
        out.extend(self.open);
        if !is_simple {
            // Stable: of equal times the one that was stored first stays; they are equal anyway.
            out.sort_by_key(|s| s.at);
            out.dedup_by_key(|s| s.at);
        }
        out
    }
}

impl Series {
    pub fn new(generation: u32) -> Self {
        Self { generation, ..Self::default() }
    }

    pub fn append(&mut self, at: i64, value: f64, buffers: &mut Buffers) -> Appended {
        if self.has_histograms && self.histogram_at(at).is_some() {
            return Appended::Conflict;
        }
        // The newest sample by far the most often.
        if (!self.open.is_empty() || self.more.is_none()) && self.open.push(at, value) {
            if self.open.len() == OPEN_SAMPLES_MAX {
                self.seal(RUN_SAMPLES, buffers);
            }
            return Appended::Stored;
        }
        self.append_late(at, value, buffers)
    }

    fn append_late(&mut self, at: i64, value: f64, buffers: &mut Buffers) -> Appended {
        let sealed_max = self.more.as_ref().and_then(|m| m.runs.iter().map(|r| r.max).max());
        if sealed_max.is_some_and(|max| at <= max) {
            return self.more.get_or_insert_default().append_late(at, value, buffers);
        }
        match self.open.find(at) {
            Place::There(known) if known.to_bits() == value.to_bits() => return Appended::Repeated,
            Place::There(_) => return Appended::Conflict,
            Place::Free(idx) => self.open.insert(idx, at, value),
            Place::Far if self.open.last().is_some_and(|last| last < at) => {
                self.seal(self.open.len(), buffers);
                self.open.push(at, value);
            }
            // Weeks before all others: a run of its own, so that the others stay where they are.
            Place::Far => {
                let run = Run::seal(std::iter::once(Sample::new(at, value)), buffers);
                self.more.get_or_insert_default().add_run(run);
            }
        }
        if self.open.len() >= OPEN_SAMPLES_MAX {
            self.seal(RUN_SAMPLES, buffers);
        }
        Appended::Stored
    }

    fn histogram_at(&self, at: i64) -> Option<&HistogramSample> {
        let all = &self.more.as_deref()?.histograms;
        all.binary_search_by_key(&at, |h| h.at.0).ok().map(|idx| &all[idx])
    }

    pub fn append_histogram(&mut self, sample: &HistogramSample, buffers: &mut Buffers) -> Appended {
        if let Some(known) = self.histogram_at(sample.at.0) {
            let is_same = known.histogram.same_bits(&sample.histogram);
            return if is_same { Appended::Repeated } else { Appended::Conflict };
        }
        let at = TimeRange::new(sample.at, sample.at);
        if !self.find(at).samples(at, buffers).is_empty() {
            return Appended::Conflict;
        }
        self.has_histograms = true;
        let more = self.more.get_or_insert_default();
        let idx = more.histograms.partition_point(|h| h.at < sample.at);
        more.bytes += histogram_bytes(sample);
        more.histograms.insert(idx, sample.clone());
        Appended::Stored
    }

    pub fn histograms(&self, range: TimeRange) -> Vec<HistogramSample> {
        let all = self.more.as_deref().map_or(&[][..], |m| &m.histograms);
        all.iter().filter(|h| range.contains(h.at)).cloned().collect()
    }

    /// The first `n` plain samples become a run.
    fn seal(&mut self, n: usize, buffers: &mut Buffers) {
        let run = Run::seal((0..n).map(|idx| self.open.get(idx)), buffers);
        self.more.get_or_insert_default().add_run(run);
        self.open.remove_first(n);
    }

    pub fn add_exemplars(&mut self, exemplars: &[Exemplar]) {
        if exemplars.is_empty() {
            return;
        }
        let more = self.more.get_or_insert_default();
        for exemplar in exemplars {
            if more.exemplars.contains(exemplar) {
                continue;
            }
            if more.exemplars.len() == EXEMPLARS_MAX {
                more.bytes -= more.exemplars.pop_front().map_or(0, |e| exemplar_bytes(&e));
            }
            more.bytes += exemplar_bytes(exemplar);
            more.exemplars.push_back(exemplar.clone());
        }
    }

    pub fn exemplars(&self, range: TimeRange) -> Vec<Exemplar> {
        let all = self.more.iter().flat_map(|m| &m.exemplars);
        let mut found: Vec<_> = all.filter(|e| range.contains(e.at)).cloned().collect();
        found.sort_by_key(|e| e.at);
        found
    }

    /// First and last sample times.
    pub fn span(&self) -> Option<(i64, i64)> {
        let more = self.more.as_deref();
        let runs = || more.into_iter().flat_map(|m| &m.runs);
        let late = || more.into_iter().flat_map(|m| &m.late).map(|s| s.at.0);
        let histograms = || more.into_iter().flat_map(|m| &m.histograms).map(|h| h.at.0);
        let first = runs().map(|r| r.min).chain(late()).chain(histograms()).chain(self.open.first()).min()?;
        let last = runs().map(|r| r.max).chain(late()).chain(histograms()).chain(self.open.last()).max()?;
        Some((first, last))
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
            && self.more.as_ref().is_none_or(|m| m.runs.is_empty() && m.late.is_empty() && m.histograms.is_empty())
    }

    pub fn has_samples_in(&self, range: TimeRange) -> bool {
        let (start, end) = (range.start.0, range.end.0);
        let idx = self.open.position(start);
        if idx < self.open.len() && self.open.get(idx).at.0 <= end {
            return true;
        }
        let Some(more) = self.more.as_deref() else { return false };
        if more.late.iter().any(|s| range.contains(s.at)) || more.histograms.iter().any(|h| range.contains(h.at)) {
            return true;
        }
        let mut overlapping = more.runs.iter().filter(|r| r.min <= end && start <= r.max);
        // A run with an end inside the range has a sample there; one that spans it must be looked into.
        overlapping.any(|run| {
            (start <= run.min || run.max <= end) || {
                let mut found = Vec::new();
                run.read(range, &mut Buffers::default(), &mut found);
                !found.is_empty()
            }
        })
    }

    pub fn find(&self, range: TimeRange) -> Found {
        let mut found = Found::default();
        self.open.read(range.start.0, range.end.0, &mut found.open);
        if let Some(more) = self.more.as_deref() {
            let overlaps = |r: &&Run| r.min <= range.end.0 && range.start.0 <= r.max;
            found.runs = more.runs.iter().filter(overlaps).cloned().collect();
            found.late = more.late.iter().filter(|s| range.contains(s.at)).copied().collect();
        }
        found
    }

    /// Drops whole runs and plain samples before `cutoff`.
    pub fn drop_before(&mut self, cutoff: i64) {
        if let Some(more) = &mut self.more {
            more.runs.retain(|r| r.max >= cutoff);
            more.late.retain(|s| s.at.0 >= cutoff);
            more.late.shrink_to_fit();
            more.histograms.retain(|h| h.at.0 >= cutoff);
            self.has_histograms = !more.histograms.is_empty();
            more.bytes = more.count_bytes();
        }
        let n = self.open.position(cutoff);
        self.open.remove_first(n);
        if n > 0 {
            self.open.shrink();
        }
    }

    /// Memory beside the struct itself.
    pub fn size_bytes(&self) -> u64 {
        let more = self.more.as_deref().map_or(0, |m| m.bytes + std::mem::size_of::<More>() as u64);
        self.open.capacity_bytes() + more
    }
}

/// What one native histogram costs, with its place in the list.
fn histogram_bytes(sample: &HistogramSample) -> u64 {
    (std::mem::size_of::<HistogramSample>() + sample.histogram.size_bytes()) as u64
}

fn exemplar_bytes(exemplar: &Exemplar) -> u64 {
    (64 + 32 * exemplar.labels.len() + exemplar.labels.size_bytes()) as u64
}

impl More {
    fn count_bytes(&self) -> u64 {
        let runs = self.runs.iter().map(Run::size_bytes).sum::<u64>();
        let exemplars = self.exemplars.iter().map(exemplar_bytes).sum::<u64>();
        let histograms = self.histograms.iter().map(histogram_bytes).sum::<u64>();
        runs + exemplars + histograms + LATE_BYTES * self.late.len() as u64
    }

    fn add_run(&mut self, run: Run) {
        let idx = self.runs.partition_point(|r| r.min <= run.min);
        if self.runs.len() == self.runs.capacity() {
            self.runs.reserve_exact(1 + self.runs.len() / 2);
        }
        self.bytes += run.size_bytes();
        self.runs.insert(idx, run);
    }

    /// A sample that is not after the newest run.
    fn append_late(&mut self, at: i64, value: f64, buffers: &mut Buffers) -> Appended {
        let settle =
            |known: f64| if known.to_bits() == value.to_bits() { Appended::Repeated } else { Appended::Conflict };
        let mut there = Vec::new();
        for run in self.runs.iter().filter(|r| r.min <= at && at <= r.max) {
            run.read(TimeRange::new(Timestamp(at), Timestamp(at)), buffers, &mut there);
        }
        if let Some(known) = there.first() {
            return settle(known.value);
        }
        let idx = self.late.partition_point(|s| s.at.0 < at);
        if let Some(known) = self.late.get(idx).filter(|s| s.at.0 == at) {
            return settle(known.value);
        }
        self.late.insert(idx, Sample::new(at, value));
        self.bytes += LATE_BYTES;
        if self.late.len() == RUN_SAMPLES {
            let late = std::mem::take(&mut self.late);
            self.bytes -= LATE_BYTES * late.len() as u64;
            self.add_run(Run::seal(late.into_iter(), buffers));
        }
        Appended::Stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn range(start: i64, end: i64) -> TimeRange {
        TimeRange::new(Timestamp(start), Timestamp(end))
    }

    fn times() -> impl Strategy<Value = Vec<i64>> {
        // Mostly ascending, with late ones, repeats, leaps of years and the ends of time.
        let step = prop_oneof![
            20 => 1i64..30_000,
            4 => -40_000i64..0,
            1 => Just(0i64),
            1 => -4_000_000_000_000i64..4_000_000_000_000,
        ];
        let odd = prop_oneof![1 => Just(i64::MIN), 1 => Just(i64::MAX), 60 => Just(0i64)];
        proptest::collection::vec((step, odd), 1..700).prop_map(|steps| {
            let mut at = 1_700_000_000_000i64;
            steps
                .iter()
                .map(|(step, odd)| {
                    at += step;
                    if *odd == 0 { at } else { *odd }
                })
                .collect()
        })
    }

    proptest! {
        /// Whatever the order of arrival, a series answers like a map from time to the first value.
        #[test]
        fn a_series_agrees_with_a_map(times in times(), cut in any::<proptest::sample::Index>()) {
            let mut series = Series::default();
            let (mut model, mut buffers) = (BTreeMap::new(), Buffers::default());
            for (k, at) in times.iter().enumerate() {
                let value = (k % 3) as f64;
                let want = match model.get(at) {
                    None => Appended::Stored,
                    Some(known) if *known == value => Appended::Repeated,
                    Some(_) => Appended::Conflict,
                };
                prop_assert_eq!(series.append(*at, value, &mut buffers), want);
                model.entry(*at).or_insert(value);
            }
            let (first, last) = (*model.keys().next().unwrap(), *model.keys().last().unwrap());
            prop_assert_eq!(series.span(), Some((first, last)));
            let middle = times[cut.index(times.len())];
            for (start, end) in [(i64::MIN, i64::MAX), (middle, middle), (i64::MIN, middle), (middle, i64::MAX),
                (middle.saturating_add(1), middle.saturating_add(60_000))] {
                let want: Vec<_> = model.range(start..=end).map(|(at, v)| Sample::new(*at, *v)).collect();
                prop_assert_eq!(series.has_samples_in(range(start, end)), !want.is_empty());
                prop_assert_eq!(series.find(range(start, end)).samples(range(start, end), &mut buffers), want);
            }
            series.drop_before(middle);
            let left = series.find(TimeRange::ALL).samples(TimeRange::ALL, &mut buffers);
            let want: Vec<_> = model.range(middle..).map(|(at, v)| Sample::new(*at, *v)).collect();
            prop_assert!(left.ends_with(&want), "nothing newer than the cut is dropped");
        }
    }
}
