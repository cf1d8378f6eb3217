//! Answers from blocks, and from a head and blocks as one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use weir_model::sink::{MetricBatch, MetricSink, Outcome, WriteError};
use weir_model::source::{
    BoxFuture, Coarse, MetricCursor, MetricFragment, MetricSource, Projection, ReadContext, ReadError, Rollup,
    SeriesData,
};
use weir_model::{Exemplar, Labels, Matcher, MetricMetadata, Reservation, Sample, TenantId, TimeRange, Timestamp};

use super::manifest::Deletion;
use super::merge::{BlockCursor, Samples, deleted_in, next_series};
use super::series::GROUP;
use super::store::{Part, Snapshot};
use super::{BlockError, Blocks, Column};
use crate::head::{Head, HeadCursor};

/// Series handed out at a time.
const BATCH: usize = 256;

/// A head and the blocks cut off it, as one store. A sample that is in both comes once.
pub struct HeadAndBlocks {
    pub head: Arc<Head>,
    pub blocks: Arc<Blocks>,
}

fn storage(error: BlockError) -> ReadError {
    ReadError::Storage(error.to_string())
}

/// The series of some blocks, ascending by labels.
struct Walk {
    blocks: Arc<Blocks>,
    cursors: Vec<BlockCursor>,
    /// Of each cursor.
    parts: Vec<Part>,
    deletions: Vec<Deletion>,
    projection: Projection,
    coarse: Vec<Coarse>,
}

/// One series of blocks.
struct Found {
    labels: Labels,
    samples: Samples,
    /// How many samples a sum is of, by its time; where there is none, one.
    counts: Vec<Sample>,
}

impl Walk {
    fn new(blocks: &Arc<Blocks>, tenant: &TenantId, fragment: &MetricFragment) -> Result<Self, ReadError> {
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
        Ok(Self { blocks: blocks.clone(), cursors, parts, deletions, projection: fragment.projection, coarse })
    }

    /// Damage costs itself; anything else fails the read.
    fn excuse(blocks: &Blocks, id: u64, error: BlockError) -> Result<(), ReadError> {
        match error {
            BlockError::Damaged { .. } => {
                blocks.note_damage(id, &error);
                Ok(())
            }
            other => Err(storage(other)),
        }
    }

    /// The next series that has a sample in the range.
    fn next(&mut self) -> Result<Option<Found>, ReadError> {
        while let Some((labels, at)) = next_series(&self.cursors) {
            let mut found = Found { labels, samples: Samples::default(), counts: Vec::new() };
            let mut is_live = false;
            // Stretches whose last samples another column takes the place of.
            let instead = at.iter().map(|idx| &self.parts[*idx]);
            let instead = instead.filter(|part| !matches!(part.column, Column::Last | Column::Count));
            let instead: Vec<u64> = instead.map(|part| part.version).collect();
            for idx in at {
                let id = self.cursors[idx].id;
                let read = self.read(idx, &instead, &mut found).map(|live| is_live |= live);
                if let Err(error) = read.and_then(|()| self.cursors[idx].advance()) {
                    Self::excuse(&self.blocks, id, error)?;
                }
            }
            if is_live || !found.samples.is_empty() {
                if self.projection == Projection::Series {
                    found.samples = Samples::default();
                }
                found.samples.settle();
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Adds what the block has of the series that its cursor stands at; whether it is known to have any.
    fn read(&mut self, idx: usize, instead: &[u64], found: &mut Found) -> Result<bool, BlockError> {
        let (cursor, part, blocks) = (&mut self.cursors[idx], &self.parts[idx], &self.blocks);
        let Some((_, mut entry)) = cursor.current.take() else { return Ok(false) };
        let deleted = deleted_in(&self.deletions, part.id, &found.labels);
        if self.projection == Projection::Series && deleted.is_empty() {
            for clip in &part.clips {
                if cursor.has_samples(&entry, *clip)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        if part.column == Column::Last && instead.contains(&part.version) {
            // Histograms are in this column alone.
            entry.chunks.clear();
        }
        let mut excuse = |error: BlockError| match error {
            BlockError::Damaged { .. } => {
                blocks.note_damage(part.id, &error);
                Ok(())
            }
            other => Err(other),
        };
        let mut counts = Samples::default();
        let into = if part.column == Column::Count { &mut counts } else { &mut found.samples };
        for clip in &part.clips {
            cursor.read(&entry, *clip, &deleted, into, &mut excuse)?;
        }
        found.counts.append(&mut counts.floats);
        Ok(false)
    }
}

/// How many samples each stands for; nothing when it is one everywhere.
fn weights(samples: &[Sample], mut counts: Vec<Sample>) -> Vec<f64> {
    if counts.is_empty() {
        return Vec::new();
    }
    counts.sort_by_key(|c| c.at);
    let count = |s: &Sample| counts.binary_search_by_key(&s.at, |c| c.at).map_or(1.0, |idx| counts[idx].value);
    samples.iter().map(count).collect()
}

struct Cursor {
    /// Of the head, which keeps what a cut writes to blocks for as long as this cursor lives.
    head: HeadCursor,
    /// Series of blocks; `None` when they are through, and before the first.
    walk: Option<Walk>,
    is_begun: bool,
    blocks: Arc<Blocks>,
    tenant: TenantId,
    fragment: MetricFragment,
    context: ReadContext,
    held: Reservation,
    /// Where rolled blocks answer; late samples in memory count there once they are rolled up, too.
    coarse: Vec<Coarse>,
}

impl Cursor {
    /// The next series that is in a block, with what the head has of it.
    fn next_of_blocks(&mut self) -> Result<Option<SeriesData>, ReadError> {
        let Some(walk) = &mut self.walk else { return Ok(None) };
        let Some(Found { labels, mut samples, counts }) = walk.next()? else {
            self.walk = None;
            return Ok(None);
        };
        self.held.grow(samples.size_bytes() + (counts.len() * size_of::<Sample>()) as u64)?;
        if let Some(newer) = self.head.take(&labels)? {
            let newer = self.outside_buckets(newer);
            samples.floats.extend(newer.samples);
            samples.histograms.extend(newer.histograms);
            samples.settle();
        }
        let weights = weights(&samples.floats, counts);
        Ok(Some(SeriesData { labels, samples: samples.floats, histograms: samples.histograms, weights }))
    }

    fn outside_buckets(&self, mut data: SeriesData) -> SeriesData {
        if !self.coarse.is_empty() {
            let is_outside = |at: Timestamp| !self.coarse.iter().any(|c| c.range.contains(at));
            data.samples.retain(|s| is_outside(s.at));
            data.histograms.retain(|h| is_outside(h.at));
        }
        data
    }
}

impl MetricCursor for Cursor {
    fn next(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError> {
        self.context.cancel.check()?;
        if !self.is_begun {
            let walk = Walk::new(&self.blocks, &self.tenant, &self.fragment)?;
            self.coarse.clone_from(&walk.coarse);
            self.walk = Some(walk);
            self.is_begun = true;
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(series) = self.next_of_blocks()?
        {
            self.context.cancel.check()?;
            batch.push(series);
        }
        if !batch.is_empty() {
            return Ok(Some(batch));
        }
        let Some(mut batch) = self.head.next()? else { return Ok(None) };
        if !self.coarse.is_empty() && self.fragment.projection == Projection::Samples {
            let mut left: Vec<SeriesData> = batch.drain(..).map(|data| self.outside_buckets(data)).collect();
            left.retain(|data| !data.is_empty());
            batch = left;
        }
        Ok(Some(batch))
    }

    fn coarse(&self) -> Vec<Coarse> {
        self.coarse.clone()
    }
}

impl Blocks {
    /// Values of `name`, or all names, among the series that match and have a sample in the range.
    fn listing(
        self: &Arc<Self>,
        tenant: &TenantId,
        name: Option<&str>,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<BTreeSet<String>, ReadError> {
        let snapshot = self.snapshot(tenant, range, Rollup::Last, None).map_err(storage)?;
        let mut found = BTreeSet::new();
        let mut ask_series = !snapshot.deletions.is_empty();
        for Part { id, index, .. } in &snapshot.parts {
            // A block inside the range answers from its index alone; each of its series has a sample.
            let inside = range.contains(index.range().start) && range.contains(index.range().end);
            ask_series |= !inside;
            if inside && let Err(error) = list_index(index, name, matchers, &mut found) {
                Walk::excuse(self, *id, error)?;
            }
        }
        if ask_series {
            if !snapshot.deletions.is_empty() {
                found.clear();
            }
            let projection = Projection::Series;
            let fragment =
                MetricFragment { matchers: matchers.to_vec(), range, projection, ..MetricFragment::default() };
            let mut walk = Walk::new(self, tenant, &fragment)?;
            while let Some(Found { labels, .. }) = walk.next()? {
                match name {
                    Some(name) => found.extend(labels.get(name).map(str::to_owned)),
                    None => found.extend(labels.iter().map(|l| l.name.to_string())),
                }
            }
        }
        Ok(found)
    }
}

fn list_index(
    index: &super::BlockIndex,
    name: Option<&str>,
    matchers: &[Matcher],
    found: &mut BTreeSet<String>,
) -> Result<(), BlockError> {
    if matchers.is_empty() {
        match name {
            Some(name) => found.extend(index.values(name).map(|(value, _)| value.to_string())),
            None => found.extend(index.names().map(ToString::to_string)),
        }
        return Ok(());
    }
    let selected = index.select(matchers)?;
    if let Some(name) = name {
        for (value, idx) in index.values(name) {
            let mut having = RoaringBitmap::new();
            index.add_postings(idx, &mut having)?;
            if !having.is_disjoint(&selected) {
                found.insert(value.to_string());
            }
        }
        return Ok(());
    }
    let mut group = None;
    for position in &selected {
        let (at, within) = (position as usize / GROUP, position as usize % GROUP);
        if group.as_ref().is_none_or(|(known, _)| *known != at) {
            group = Some((at, index.group(at)?));
        }
        if let Some(entry) = group.as_ref().and_then(|(_, entries)| entries.get(within)) {
            found.extend(index.labels(entry)?.iter().map(|l| l.name.to_string()));
        }
    }
    Ok(())
}

impl MetricSink for HeadAndBlocks {
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        self.head.append(tenant, batch)
    }
}

impl MetricSource for HeadAndBlocks {
    fn coarsest(&self, tenant: &TenantId, range: TimeRange, accepted: Option<Duration>) -> Duration {
        self.blocks.coarsest(tenant, range, accepted)
    }

    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        Box::pin(async move {
            Ok(Box::new(Cursor {
                head: self.head.cursor(tenant, fragment, context)?,
                walk: None,
                is_begun: false,
                blocks: self.blocks.clone(),
                tenant: tenant.clone(),
                fragment: fragment.clone(),
                context: context.clone(),
                held: context.budget.try_reserve(0)?,
                coarse: Vec::new(),
            }) as Box<dyn MetricCursor>)
        })
    }

    fn label_names<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(async move {
            let mut all: BTreeSet<String> = self.head.label_names(tenant, matchers, range).await?.into_iter().collect();
            all.extend(self.blocks.listing(tenant, None, matchers, range)?);
            Ok(all.into_iter().collect())
        })
    }

    fn label_values<'a>(
        &'a self,
        tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(async move {
            let of_head = self.head.label_values(tenant, name, matchers, range).await?;
            let mut all: BTreeSet<String> = of_head.into_iter().collect();
            all.extend(self.blocks.listing(tenant, Some(name), matchers, range)?);
            Ok(all.into_iter().collect())
        })
    }

    /// Of the head, which keeps it.
    fn metadata<'a>(
        &'a self,
        tenant: &'a TenantId,
        family: &'a str,
    ) -> BoxFuture<'a, Result<Vec<MetricMetadata>, ReadError>> {
        self.head.metadata(tenant, family)
    }

    /// Of the head: blocks hold samples alone.
    fn exemplars<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Vec<Exemplar>)>, ReadError>> {
        self.head.exemplars(tenant, matchers, range)
    }
}
