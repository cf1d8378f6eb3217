//! One tenant's series: the index, and the samples in shards.

use std::collections::BTreeMap;

use parking_lot::RwLock;
use roaring::RoaringBitmap;
use weir_model::sink::{Outcome, Refused, RefusedReason, SampleColumns, SampleRun, SeriesRef};
use weir_model::{Exemplar, HistogramSample, Labels, MetricMetadata, Sample, TimeRange, Timestamp};

use crate::index::{Index, generation_of, slot_of};
use crate::run::Buffers;
use crate::series::{Appended, Series};

/// Locks over the samples; a batch takes each at most once, so this bounds contention, not memory.
pub(super) const SHARDS: usize = 16;

/// Families whose metadata is kept; a sender of invented names must not fill the memory.
const METADATA_MAX: usize = 100_000;

/// Slot `s` of the index has its samples in shard `s % SHARDS` at `s / SHARDS`. Locks are taken in the
/// order index, shard; a shard's lock is never held while another one is taken.
#[derive(Default)]
pub(super) struct Tenant {
    index: RwLock<Index>,
    shards: [RwLock<Shard>; SHARDS],
    pub metadata: RwLock<BTreeMap<String, MetricMetadata>>,
}

#[derive(Default)]
struct Shard {
    series: Vec<Series>,
    /// For sealing.
    buffers: Buffers,
}

pub(super) struct Conflict {
    pub series: SeriesRef,
    pub at: Timestamp,
    pub count: u64,
}

#[derive(Default)]
pub(super) struct AppendedColumns {
    pub accepted: u64,
    /// The first sample whose time had another value, and how many there were.
    pub conflict: Option<Conflict>,
    /// Positions of runs whose series is dead.
    pub dead: Vec<u32>,
    pub taken_bytes: i64,
}

impl AppendedColumns {
    /// `labels`: of the series in conflict.
    pub fn outcome(&self, labels: &Labels) -> Outcome {
        let refused = self.conflict.iter().map(|conflict| Refused {
            reason: RefusedReason::DuplicateTimestamp,
            example: format!("{labels} has another value at {}", conflict.at.rfc3339()),
            count: conflict.count,
        });
        Outcome { accepted: self.accepted, refused: refused.collect() }
    }

    fn note(&mut self, series: SeriesRef, at: i64, got: Appended) {
        if got != Appended::Conflict {
            self.accepted += 1;
            return;
        }
        let conflict = self.conflict.get_or_insert(Conflict { series, at: Timestamp(at), count: 0 });
        conflict.count += 1;
    }
}

/// What setting everything aside came to.
#[derive(Default)]
pub(super) struct Freezing {
    /// Slots of series that had nothing.
    pub idle: RoaringBitmap,
    pub taken_bytes: i64,
}

fn place(slot: u32) -> (usize, usize) {
    (slot as usize % SHARDS, slot as usize / SHARDS)
}

/// Positions of the runs, those of shard `k` in `ends[k - 1]..ends[k]`.
fn by_shard(columns: &SampleColumns) -> (Vec<u32>, [usize; SHARDS + 1]) {
    let shard = |run: &SampleRun| place(slot_of(run.series)).0;
    let mut ends = [0; SHARDS + 1];
    for run in &columns.runs {
        ends[shard(run) + 1] += 1;
    }
    for k in 1..=SHARDS {
        ends[k] += ends[k - 1];
    }
    let mut next = ends;
    let mut order = vec![0u32; columns.runs.len()];
    for (idx, run) in columns.runs.iter().enumerate() {
        let place = &mut next[shard(run)];
        order[*place] = idx as u32;
        *place += 1;
    }
    (order, ends)
}

impl Tenant {
    pub fn n_series(&self) -> usize {
        self.index.read().len()
    }

    pub fn index(&self) -> parking_lot::RwLockReadGuard<'_, Index> {
        self.index.read()
    }

    pub fn find(&self, labels: &[(&str, &str)]) -> Option<SeriesRef> {
        self.index.read().find(labels)
    }

    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        self.index.read().labels(series)
    }

    /// The series with these labels, and how many bytes it took to make it.
    pub fn register(&self, labels: &[(&str, &str)]) -> (SeriesRef, u64) {
        let mut index = self.index.write();
        let (series, mut taken) = index.register(labels);
        if taken > 0 {
            let (shard, at) = place(slot_of(series));
            let mut shard = self.shards[shard].write();
            if shard.series.len() <= at {
                shard.series.resize_with(at + 1, Series::default);
            }
            taken += std::mem::size_of::<Series>() as u64;
        }
        (series, taken)
    }

    pub fn append(&self, columns: &SampleColumns) -> AppendedColumns {
        let mut out = AppendedColumns::default();
        let (order, ends) = by_shard(columns);
        for shard in 0..SHARDS {
            let runs = &order[ends[shard]..ends[shard + 1]];
            if runs.is_empty() {
                continue;
            }
            let mut shard = self.shards[shard].write();
            let Shard { series: all, buffers } = &mut *shard;
            for idx in runs {
                let run = columns.runs[*idx as usize];
                let number = run.series;
                let series = all.get_mut(place(slot_of(number)).1);
                let Some(series) = series.filter(|s| s.generation == generation_of(number)) else {
                    out.dead.push(*idx);
                    continue;
                };
                let before = series.size_bytes();
                for k in run.range() {
                    let got = series.append(columns.times[k], columns.values[k], buffers);
                    out.note(number, columns.times[k], got);
                }
                out.taken_bytes += series.size_bytes().cast_signed() - before.cast_signed();
            }
        }
        out
    }

    /// `None` when the series is dead.
    pub fn append_more(
        &self,
        number: SeriesRef,
        histograms: &[HistogramSample],
        exemplars: &[Exemplar],
    ) -> Option<AppendedColumns> {
        self.with_mut(number, |series, buffers| {
            let mut out = AppendedColumns::default();
            let before = series.size_bytes();
            for sample in histograms {
                out.note(number, sample.at.0, series.append_histogram(sample, buffers));
            }
            series.add_exemplars(exemplars);
            out.taken_bytes = series.size_bytes().cast_signed() - before.cast_signed();
            out
        })
    }

    /// Sets everything aside for a cut, series by series ascending by labels, and hands it to `take`.
    pub fn freeze<E>(
        &self,
        done: &mut Freezing,
        mut take: impl FnMut(&Labels, Vec<Sample>, Vec<HistogramSample>) -> Result<(), E>,
    ) -> Result<(), E> {
        let order = self.index.read().label_order();
        let mut buffers = Buffers::default();
        for series in order.sorted() {
            let frozen = self.with_mut(series, |series, _| {
                let before = series.size_bytes();
                let frozen = if series.freeze() { series.frozen() } else { None };
                done.taken_bytes += series.size_bytes().cast_signed() - before.cast_signed();
                frozen
            });
            let Some((found, histograms)) = frozen.flatten() else {
                done.idle.insert(slot_of(series));
                continue;
            };
            let Some(labels) = self.labels(series) else { continue };
            take(&labels, found.samples(TimeRange::ALL, &mut buffers), histograms)?;
        }
        Ok(())
    }

    /// Forgets what a cut set aside, and series that were `idle` at that time and still are; bytes freed.
    pub fn thaw(&self, idle: RoaringBitmap) -> u64 {
        let mut freed = 0;
        for shard in &self.shards {
            for series in shard.write().series.iter_mut() {
                let before = series.size_bytes();
                series.thaw();
                freed += before - series.size_bytes();
            }
        }
        freed + self.forget_empty_of(idle.into_iter())
    }

    /// Exemplars of all series, up to about `max`.
    pub fn all_exemplars(&self, max: usize) -> Vec<(Labels, Vec<Exemplar>)> {
        let all = self.index.read().all().clone();
        let mut n = 0;
        let of = |slot| {
            let series = self.index.read().series(slot);
            let found = self.with(series, |s| s.all_exemplars().cloned().collect::<Vec<_>>())?;
            if found.is_empty() { None } else { Some((self.labels(series)?, found)) }
        };
        let is_wanted = |found: &(Labels, Vec<Exemplar>)| {
            n += found.1.len();
            n <= max
        };
        all.into_iter().filter_map(of).take_while(is_wanted).collect()
    }

    pub fn add_metadata(&self, entries: &[MetricMetadata]) {
        if entries.is_empty() {
            return;
        }
        let mut known = self.metadata.write();
        for entry in entries {
            let is_room = known.len() < METADATA_MAX || known.contains_key(&entry.family);
            if is_room && known.get(&entry.family) != Some(entry) {
                known.insert(entry.family.clone(), entry.clone());
            }
        }
    }

    /// `None` when the series is dead.
    pub fn with<T>(&self, series: SeriesRef, read: impl FnOnce(&Series) -> T) -> Option<T> {
        let (shard, at) = place(slot_of(series));
        let shard = self.shards[shard].read();
        shard.series.get(at).filter(|s| s.generation == generation_of(series)).map(read)
    }

    fn with_mut<T>(&self, series: SeriesRef, change: impl FnOnce(&mut Series, &mut Buffers) -> T) -> Option<T> {
        let (shard, at) = place(slot_of(series));
        let mut shard = self.shards[shard].write();
        let Shard { series: all, buffers } = &mut *shard;
        all.get_mut(at).filter(|s| s.generation == generation_of(series)).map(|series| change(series, buffers))
    }

    /// Runs, and open ends with samples.
    pub fn n_chunks(&self) -> u64 {
        self.shards.iter().map(|shard| shard.read().series.iter().map(Series::n_chunks).sum::<u64>()).sum()
    }

    /// First and last sample times.
    pub fn span(&self) -> Option<(i64, i64)> {
        let of_shard = |shard: &RwLock<Shard>| {
            let spans = shard.read().series.iter().filter_map(Series::span).collect::<Vec<_>>();
            Some((spans.iter().map(|s| s.0).min()?, spans.iter().map(|s| s.1).max()?))
        };
        let spans: Vec<_> = self.shards.iter().filter_map(of_shard).collect();
        Some((spans.iter().map(|s| s.0).min()?, spans.iter().map(|s| s.1).max()?))
    }

    /// Drops runs and plain samples before `cutoff`, and series that are left without any; bytes freed.
    pub fn drop_before(&self, cutoff: i64) -> u64 {
        let mut freed = 0;
        for shard in &self.shards {
            for series in shard.write().series.iter_mut() {
                let before = series.size_bytes();
                series.drop_before(cutoff);
                freed += before - series.size_bytes();
            }
        }
        freed + self.forget_empty()
    }

    /// Forgets series without samples; bytes freed. A writer that has just found one sees it dead.
    pub fn forget_empty(&self) -> u64 {
        let all = self.index.read().all().clone();
        self.forget_empty_of(all.into_iter())
    }

    fn forget_empty_of(&self, slots: impl Iterator<Item = u32>) -> u64 {
        let mut index = self.index.write();
        let mut freed = 0;
        for slot in slots {
            let (shard, at) = place(slot);
            let mut shard = self.shards[shard].write();
            let series = &mut shard.series[at];
            if index.all().contains(slot) && series.is_empty() {
                freed += series.size_bytes() + std::mem::size_of::<Series>() as u64 + index.remove(slot);
                *series = Series::new(generation_of(index.series(slot)));
            }
        }
        freed
    }
}
