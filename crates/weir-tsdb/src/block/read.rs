//! Answers from blocks, and from a head and blocks as one.

use std::collections::BTreeSet;
use std::sync::Arc;

use roaring::RoaringBitmap;
use weir_model::sink::{MetricBatch, MetricSink, Outcome, WriteError};
use weir_model::source::{
    BoxFuture, MetricCursor, MetricFragment, MetricSource, Projection, ReadContext, ReadError, SeriesData,
};
use weir_model::{Exemplar, Labels, Matcher, MetricMetadata, Reservation, TenantId, TimeRange};

use super::manifest::Deletion;
use super::merge::{BlockCursor, Samples, deleted_in, next_series};
use super::series::GROUP;
use super::store::Snapshot;
use super::{BlockError, Blocks};
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
    deletions: Vec<Deletion>,
    range: TimeRange,
    projection: Projection,
}

impl Walk {
    fn new(
        blocks: &Arc<Blocks>,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        projection: Projection,
    ) -> Result<Self, ReadError> {
        let Snapshot { blocks: opened, deletions } = blocks.snapshot(tenant, range).map_err(storage)?;
        let mut cursors = Vec::with_capacity(opened.len());
        for (id, index) in opened {
            let cursor = index.select(matchers).and_then(|found| BlockCursor::new(id, index.clone(), &found));
            match cursor {
                Ok(cursor) => cursors.push(cursor),
                Err(error) => Self::excuse(blocks, id, error)?,
            }
        }
        Ok(Self { blocks: blocks.clone(), cursors, deletions, range, projection })
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
    fn next(&mut self) -> Result<Option<(Labels, Samples)>, ReadError> {
        while let Some((labels, at)) = next_series(&self.cursors) {
            let mut samples = Samples::default();
            let mut is_live = false;
            for idx in at {
                let cursor = &mut self.cursors[idx];
                let id = cursor.id;
                let Some((_, entry)) = cursor.current.take() else { continue };
                let deleted = deleted_in(&self.deletions, id, &labels);
                let blocks = &self.blocks;
                let read = if self.projection == Projection::Series && deleted.is_empty() {
                    cursor.has_samples(&entry, self.range).map(|found| is_live |= found)
                } else {
                    let mut excuse = |error: BlockError| match error {
                        BlockError::Damaged { .. } => {
                            blocks.note_damage(id, &error);
                            Ok(())
                        }
                        other => Err(other),
                    };
                    cursor.read(&entry, self.range, &deleted, &mut samples, &mut excuse)
                };
                if let Err(error) = read.and_then(|()| cursor.advance()) {
                    Self::excuse(&self.blocks, id, error)?;
                }
            }
            is_live |= !samples.is_empty();
            if is_live {
                if self.projection == Projection::Series {
                    samples = Samples::default();
                }
                samples.settle();
                return Ok(Some((labels, samples)));
            }
        }
        Ok(None)
    }
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
}

impl Cursor {
    /// The next series that is in a block, with what the head has of it.
    fn next_of_blocks(&mut self) -> Result<Option<SeriesData>, ReadError> {
        let Some(walk) = &mut self.walk else { return Ok(None) };
        let Some((labels, mut samples)) = walk.next()? else {
            self.walk = None;
            return Ok(None);
        };
        self.held.grow(samples.size_bytes())?;
        if let Some(newer) = self.head.take(&labels)? {
            samples.floats.extend(newer.samples);
            samples.histograms.extend(newer.histograms);
            samples.settle();
        }
        Ok(Some(SeriesData {
            labels,
            samples: samples.floats,
            histograms: samples.histograms,
            ..SeriesData::default()
        }))
    }
}

impl MetricCursor for Cursor {
    fn next(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError> {
        self.context.cancel.check()?;
        if !self.is_begun {
            let MetricFragment { matchers, range, projection, .. } = &self.fragment;
            self.walk = Some(Walk::new(&self.blocks, &self.tenant, matchers, *range, *projection)?);
            self.is_begun = true;
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(series) = self.next_of_blocks()?
        {
            self.context.cancel.check()?;
            batch.push(series);
        }
        if batch.is_empty() { self.head.next() } else { Ok(Some(batch)) }
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
        let snapshot = self.snapshot(tenant, range).map_err(storage)?;
        let mut found = BTreeSet::new();
        let mut ask_series = !snapshot.deletions.is_empty();
        for (id, index) in &snapshot.blocks {
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
            let mut walk = Walk::new(self, tenant, matchers, range, Projection::Series)?;
            while let Some((labels, _)) = walk.next()? {
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
