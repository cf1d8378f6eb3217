//! The series of some blocks, ascending by labels: found one after another, decoded by all cores.

use std::sync::Arc;

use rayon::prelude::*;
use weir_model::source::{Cancel, Coarse, MetricFragment, Projection, ReadError, Rollup};
use weir_model::{Labels, Reservation, Sample, TenantId};

use super::decode::Decoder;
use super::manifest::Deletion;
use super::merge::{BlockCursor, Samples, deleted_in, next_series};
use super::series::Entry;
use super::store::{Part, Snapshot};
use super::{BlockError, Blocks, Column};

/// Series decoded at a time, and the samples (16 MiB) from which on fewer are enough. Cores wait for each other
/// after each batch.
const BATCH: usize = 2048;
const BATCH_SAMPLES: usize = 1 << 20;
/// Samples below which one core is done before another one would have begun.
const SHARED_MIN: usize = 1 << 14;

pub(super) struct Walk {
    blocks: Arc<Blocks>,
    cursors: Vec<BlockCursor>,
    /// Of each cursor.
    parts: Vec<Part>,
    /// One for each cursor, for each thread that decodes.
    decoders: Vec<Vec<Decoder>>,
    deletions: Vec<Deletion>,
    projection: Projection,
    pub coarse: Vec<Coarse>,
}

/// One series of blocks.
pub(super) struct Found {
    pub labels: Labels,
    pub samples: Samples,
    /// How many samples a sum is of, by its time; where there is none, one.
    pub counts: Vec<Sample>,
}

/// A series, and which cursors stood at it.
struct Standing {
    labels: Labels,
    at: Vec<(usize, Entry)>,
}

pub(super) fn storage(error: BlockError) -> ReadError {
    ReadError::Storage(error.to_string())
}

impl Walk {
    pub fn new(blocks: &Arc<Blocks>, tenant: &TenantId, fragment: &MetricFragment) -> Result<Self, ReadError> {
        let rollup = match fragment.projection {
            Projection::Series => Rollup::Last,
            Projection::Samples => fragment.rollup,
        };
        let snapshot = blocks.snapshot(tenant, fragment.range, rollup, fragment.resolution);
        let Snapshot { parts: opened, deletions, coarse } = snapshot.map_err(storage)?;
        let mut cursors = Vec::with_capacity(opened.len());
        let mut parts = Vec::with_capacity(opened.len());
        for part in opened {
            let selected = part.index.select(&fragment.matchers);
            match selected.and_then(|found| BlockCursor::new(part.id, part.index.clone(), &found)) {
                Ok(cursor) => {
                    cursors.push(cursor);
                    parts.push(part);
                }
                Err(error) => Self::excuse(blocks, part.id, error)?,
            }
        }
        let (blocks, projection) = (blocks.clone(), fragment.projection);
        Ok(Self { blocks, cursors, parts, decoders: Vec::new(), deletions, projection, coarse })
    }

    /// Damage costs itself; anything else fails the read.
    pub fn excuse(blocks: &Blocks, id: u64, error: BlockError) -> Result<(), ReadError> {
        match error {
            BlockError::Damaged { .. } => {
                blocks.note_damage(id, &error);
                Ok(())
            }
            other => Err(storage(other)),
        }
    }

    /// The next series that have a sample in the range; `held` grows by their memory. `None` at the end.
    pub fn batch(&mut self, held: &mut Reservation, cancel: &Cancel) -> Result<Option<Vec<Found>>, ReadError> {
        loop {
            let (standing, n_samples) = self.gather()?;
            if standing.is_empty() {
                return Ok(None);
            }
            let expected = (n_samples * size_of::<Sample>()) as u64;
            held.grow(expected)?;
            let found = self.decode(&standing, n_samples, cancel)?;
            let size = |f: &Found| f.samples.size_bytes() + (f.counts.len() * size_of::<Sample>()) as u64;
            let taken: u64 = found.iter().map(size).sum();
            if taken > expected {
                held.grow(taken - expected)?
            } else {
                held.shrink(expected - taken)
            }
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
    }

    /// The next few series, and about how many samples they have.
    fn gather(&mut self) -> Result<(Vec<Standing>, usize), ReadError> {
        let (mut standing, mut n_samples) = (Vec::new(), 0);
        while standing.len() < BATCH
            && n_samples < BATCH_SAMPLES
            && let Some((labels, at)) = next_series(&self.cursors)
        {
            let mut entries = Vec::with_capacity(at.len());
            for idx in at {
                let (cursor, part) = (&mut self.cursors[idx], &self.parts[idx]);
                let Some((_, entry)) = cursor.current.take() else { continue };
                let mut counted = Ok(());
                if self.projection == Projection::Samples {
                    for clip in &part.clips {
                        counted = counted.and(cursor.decoder.n_samples(&entry, *clip).map(|n| n_samples += n));
                    }
                }
                if let Err(error) = counted.and_then(|()| cursor.advance()) {
                    Self::excuse(&self.blocks, part.id, error)?;
                }
                entries.push((idx, entry));
            }
            standing.push(Standing { labels, at: entries });
        }
        Ok((standing, n_samples))
    }

    fn decode(&mut self, standing: &[Standing], n_samples: usize, cancel: &Cancel) -> Result<Vec<Found>, ReadError> {
        let n_threads = if n_samples < SHARED_MIN { 1 } else { rayon::current_num_threads().min(standing.len()) };
        let mut decoders = std::mem::take(&mut self.decoders);
        while decoders.len() < n_threads {
            decoders.push(self.parts.iter().map(|part| Decoder::new(part.index.clone())).collect());
        }
        let part = |decoders: &mut Vec<Decoder>, standing: &[Standing]| {
            let mut found = Vec::with_capacity(standing.len());
            for one in standing {
                cancel.check()?;
                found.extend(self.one(one, decoders)?);
            }
            Ok::<_, ReadError>(found)
        };
        let found = match n_threads {
            1 => part(&mut decoders[0], standing)?,
            _ => {
                let shares = standing.par_chunks(standing.len().div_ceil(n_threads));
                let each = decoders.par_iter_mut().zip(shares).map(|(decoders, share)| part(decoders, share));
                each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect()
            }
        };
        self.decoders = decoders;
        Ok(found)
    }

    /// `None` when it has no sample in the range.
    fn one(&self, standing: &Standing, decoders: &mut [Decoder]) -> Result<Option<Found>, ReadError> {
        let mut found = Found { labels: standing.labels.clone(), samples: Samples::default(), counts: Vec::new() };
        let mut is_live = false;
        // Stretches whose last samples another column takes the place of.
        let instead = standing.at.iter().map(|(idx, _)| &self.parts[*idx]);
        let instead = instead.filter(|part| !matches!(part.column, Column::Last | Column::Count));
        let instead: Vec<u64> = instead.map(|part| part.version).collect();
        for (idx, entry) in &standing.at {
            match self.read(&self.parts[*idx], entry, &mut decoders[*idx], &instead, &mut found) {
                Ok(live) => is_live |= live,
                Err(error) => Self::excuse(&self.blocks, self.parts[*idx].id, error)?,
            }
        }
        if !is_live && found.samples.is_empty() {
            return Ok(None);
        }
        if self.projection == Projection::Series {
            found.samples = Samples::default();
        }
        found.samples.settle();
        Ok(Some(found))
    }

    /// Adds what the block has of the series; whether it is known to have any.
    fn read(
        &self,
        part: &Part,
        entry: &Entry,
        decoder: &mut Decoder,
        instead: &[u64],
        found: &mut Found,
    ) -> Result<bool, BlockError> {
        let deleted = deleted_in(&self.deletions, part.id, &found.labels);
        if self.projection == Projection::Series && deleted.is_empty() {
            for clip in &part.clips {
                if decoder.has_samples(entry, *clip)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        // Histograms are in this column alone.
        let only_histograms = part.column == Column::Last && instead.contains(&part.version);
        let mut excuse = |error: BlockError| match error {
            BlockError::Damaged { .. } => {
                self.blocks.note_damage(part.id, &error);
                Ok(())
            }
            other => Err(other),
        };
        let mut counts = Samples::default();
        let into = if part.column == Column::Count { &mut counts } else { &mut found.samples };
        let without = only_histograms.then(|| Entry { chunks: Vec::new(), ..entry.clone() });
        for clip in &part.clips {
            decoder.read(without.as_ref().unwrap_or(entry), *clip, &deleted, into, &mut excuse)?;
        }
        found.counts.append(&mut counts.floats);
        Ok(false)
    }
}

/// How many samples each stands for; nothing when it is one everywhere.
pub(super) fn weights(samples: &[Sample], mut counts: Vec<Sample>) -> Vec<f64> {
    if counts.is_empty() {
        return Vec::new();
    }
    counts.sort_by_key(|c| c.at);
    let count = |s: &Sample| counts.binary_search_by_key(&s.at, |c| c.at).map_or(1.0, |idx| counts[idx].value);
    samples.iter().map(count).collect()
}
