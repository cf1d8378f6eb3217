//! Answers from blocks, and from a head and blocks as one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use weir_model::sink::{MetricBatch, MetricSink, Outcome, WriteError};
use weir_model::source::{
    BoxFuture, Cancel, Coarse, MetricCursor, MetricFragment, MetricSource, Projection, ReadContext, ReadError, Rollup,
    SeriesData,
};
use weir_model::{Budget, Exemplar, Labels, Matcher, MetricMetadata, Reservation, TenantId, TimeRange, Timestamp};

use super::series::GROUP;
use super::store::Part;
use super::walk::{Found, Walk, storage, weights};
use super::{BlockError, Blocks};
use crate::head::{Head, HeadCursor};

/// A head and the blocks cut off it, as one store. A sample that is in both comes once.
pub struct HeadAndBlocks {
    pub head: Arc<Head>,
    pub blocks: Arc<Blocks>,
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
    /// The next series that are in a block, each with what the head has of it.
    fn next_of_blocks(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError> {
        let Some(walk) = &mut self.walk else { return Ok(None) };
        let Some(found) = walk.batch(&mut self.held, &self.context.cancel)? else {
            self.walk = None;
            return Ok(None);
        };
        found.into_iter().map(|found| self.with_head(found)).collect::<Result<_, _>>().map(Some)
    }

    fn with_head(&mut self, found: Found) -> Result<SeriesData, ReadError> {
        let Found { labels, mut samples, counts } = found;
        if let Some(newer) = self.head.take(&labels)? {
            let newer = self.outside_buckets(newer);
            samples.floats.extend(newer.samples);
            samples.histograms.extend(newer.histograms);
            samples.settle();
        }
        let weights = weights(&samples.floats, counts);
        Ok(SeriesData { labels, samples: samples.floats, histograms: samples.histograms, weights })
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
        if let Some(batch) = self.next_of_blocks()? {
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
            let mut held = Budget::unlimited().try_reserve(0)?;
            while let Some(batch) = walk.batch(&mut held, &Cancel::default())? {
                for Found { labels, .. } in batch {
                    match name {
                        Some(name) => found.extend(labels.get(name).map(str::to_owned)),
                        None => found.extend(labels.iter().map(|l| l.name.to_string())),
                    }
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
