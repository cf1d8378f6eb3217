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
    /// On its way into a block; read like the rest until the block is listed.
    frozen: Option<Box<Frozen>>,
}

/// What a cut took.
#[derive(Debug, Default)]
struct Frozen {
    runs: Vec<Run>,
    late: Vec<Sample>,
    open: Open,
    histograms: Vec<HistogramSample>,
}

impl Frozen {
    fn size_bytes(&self) -> u64 {
        let runs = self.runs.iter().map(Run::size_bytes).sum::<u64>();
        let histograms = self.histograms.iter().map(histogram_bytes).sum::<u64>();
        let plain = self.open.capacity_bytes() + LATE_BYTES * self.late.len() as u64;
        std::mem::size_of::<Self>() as u64 + runs + histograms + plain
    }

    fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.late.is_empty() && self.open.is_empty() && self.histograms.is_empty()
    }

    /// Besides its runs.
    fn has_plain_in(&self, range: TimeRange) -> bool {
        let idx = self.open.position(range.start.0);
        (idx < self.open.len() && self.open.get(idx).at <= range.end)
            || self.late.iter().any(|s| range.contains(s.at))
            || self.histograms.iter().any(|h| range.contains(h.at))
    }

    fn span(&self) -> Option<(i64, i64)> {
        let plain = || self.late.iter().map(|s| s.at.0).chain(self.histograms.iter().map(|h| h.at.0));
        let first = self.runs.iter().map(|r| r.min).chain(plain()).chain(self.open.first()).min()?;
        let last = self.runs.iter().map(|r| r.max).chain(plain()).chain(self.open.last()).max()?;
        Some((first, last))
    }
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
    /// Any order; of equal times the first was stored first.
    pub late: Vec<Sample>,
    pub open: Vec<Sample>,
}

impl Found {
    /// All samples of the range, ascending, each time once.
    pub fn samples(self, range: TimeRange, buffers: &mut Buffers) -> Vec<Sample> {
        let open_is_last = self.runs.last().zip(self.open.first()).is_none_or(|(run, open)| run.max < open.at.0);
        let is_simple = self.late.is_empty() && open_is_last && self.runs.windows(2).all(|w| w[0].max < w[1].min);
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
        let Some(more) = self.more.as_deref() else { return Vec::new() };
        let frozen = more.frozen.as_deref().map_or(&[][..], |f| &f.histograms);
        let mut found: Vec<_> =
            frozen.iter().chain(&more.histograms).filter(|h| range.contains(h.at)).cloned().collect();
        if !frozen.is_empty() {
            found.sort_by_key(|h| h.at);
            found.dedup_by_key(|h| h.at);
        }
        found
    }

    /// Everything that a block is to hold is set aside, to be read like before until [`Series::thaw`]; what an
    /// earlier cut that failed had set aside stays with it. Answers whether there is anything.
    pub fn freeze(&mut self) -> bool {
        if self.is_empty() {
            return false;
        }
        let more = self.more.get_or_insert_default();
        let mut new = Frozen {
            runs: std::mem::take(&mut more.runs),
            late: std::mem::take(&mut more.late),
            open: std::mem::take(&mut self.open),
            histograms: std::mem::take(&mut more.histograms),
        };
        self.has_histograms = false;
        if let Some(old) = more.frozen.take() {
            let plain = [&old.open, &new.open].into_iter().flat_map(|open| (0..open.len()).map(|idx| open.get(idx)));
            // Stable sorts below: what was stored first stays.
            let late = old.late.iter().copied().chain(plain).chain(std::mem::take(&mut new.late)).collect();
            let runs = old.runs.into_iter().chain(new.runs).collect();
            let histograms = old.histograms.into_iter().chain(new.histograms).collect();
            new = Frozen { runs, late, open: Open::default(), histograms };
            new.late.sort_by_key(|s: &Sample| s.at);
            new.late.dedup_by_key(|s| s.at);
            new.histograms.sort_by_key(|h: &HistogramSample| h.at);
            new.histograms.dedup_by_key(|h| h.at);
        }
        more.bytes = more.count_bytes();
        more.frozen = (!new.is_empty()).then(|| Box::new(new));
        true
    }

    /// What was set aside.
    pub fn frozen(&self) -> Option<(Found, Vec<HistogramSample>)> {
        let frozen = self.more.as_deref()?.frozen.as_deref()?;
        let mut found = Found { runs: frozen.runs.clone(), late: frozen.late.clone(), open: Vec::new() };
        frozen.open.read(i64::MIN, i64::MAX, &mut found.open);
        Some((found, frozen.histograms.clone()))
    }

    /// Forgets what was set aside: a block holds it.
    pub fn thaw(&mut self) {
        if let Some(more) = &mut self.more {
            more.frozen = None;
            if more.runs.is_empty() && more.late.is_empty() && more.histograms.is_empty() && more.exemplars.is_empty() {
                self.more = None;
            }
        }
    }

    pub fn all_exemplars(&self) -> impl Iterator<Item = &Exemplar> {
        self.more.iter().flat_map(|m| &m.exemplars)
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
        let frozen = more.and_then(|m| m.frozen.as_deref()).and_then(Frozen::span);
        let first = runs().map(|r| r.min).chain(late()).chain(histograms()).chain(self.open.first());
        let last = runs().map(|r| r.max).chain(late()).chain(histograms()).chain(self.open.last());
        Some((first.chain(frozen.map(|f| f.0)).min()?, last.chain(frozen.map(|f| f.1)).max()?))
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
            && self
                .more
                .as_ref()
                .is_none_or(|m| m.frozen.is_none() && m.runs.is_empty() && m.late.is_empty() && m.histograms.is_empty())
    }

    pub fn n_chunks(&self) -> u64 {
        let more = self.more.as_deref();
        let runs = more.map_or(0, |m| m.runs.len() + m.frozen.as_deref().map_or(0, |f| f.runs.len()));
        runs as u64 + u64::from(!self.open.is_empty())
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
        let frozen = more.frozen.as_deref();
        if frozen.is_some_and(|f| f.has_plain_in(range)) {
            return true;
        }
        let runs = more.runs.iter().chain(frozen.into_iter().flat_map(|f| &f.runs));
        let mut overlapping = runs.filter(|r| r.min <= end && start <= r.max);
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
        if let Some(more) = self.more.as_deref() {
            let overlaps = |r: &&Run| r.min <= range.end.0 && range.start.0 <= r.max;
            if let Some(frozen) = more.frozen.as_deref() {
                found.runs = frozen.runs.iter().filter(overlaps).cloned().collect();
                found.late = frozen.late.iter().filter(|s| range.contains(s.at)).copied().collect();
                frozen.open.read(range.start.0, range.end.0, &mut found.late);
            }
            found.runs.extend(more.runs.iter().filter(overlaps).cloned());
            found.late.extend(more.late.iter().filter(|s| range.contains(s.at)));
        }
        self.open.read(range.start.0, range.end.0, &mut found.open);
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
        let frozen = |m: &More| m.frozen.as_deref().map_or(0, Frozen::size_bytes);
        let more = self.more.as_deref().map_or(0, |m| m.bytes + frozen(m) + std::mem::size_of::<More>() as u64);
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
            // Set aside once, and again after more came, as when a cut fails.
            let all = range(i64::MIN, i64::MAX);
            prop_assert!(series.freeze());
            let span = series.span();
            for extra in [last.saturating_add(5), first.saturating_sub(5), last.saturating_add(9)] {
                series.append(extra, 7.0, &mut buffers);
                model.entry(extra).or_insert(7.0);
                let want: Vec<_> = model.iter().map(|(at, v)| Sample::new(*at, *v)).collect();
                prop_assert_eq!(series.find(all).samples(all, &mut buffers), want.clone());
                prop_assert!(series.span() != Some((0, 0)) && span.is_some());
                prop_assert!(series.has_samples_in(range(middle, middle)));
                series.freeze();
                prop_assert_eq!(series.find(all).samples(all, &mut buffers), want.clone());
                let (found, _) = series.frozen().unwrap();
                prop_assert_eq!(found.samples(all, &mut buffers), want);
            }
            series.thaw();
            prop_assert!(series.is_empty() && series.span().is_none() && series.size_bytes() == 0);
            for (at, value) in &model {
                series.append(*at, *value, &mut buffers);
            }
            series.drop_before(middle);
            let left = series.find(TimeRange::ALL).samples(TimeRange::ALL, &mut buffers);
            let want: Vec<_> = model.range(middle..).map(|(at, v)| Sample::new(*at, *v)).collect();
            prop_assert!(left.ends_with(&want), "nothing newer than the cut is dropped");
        }
    }
}
