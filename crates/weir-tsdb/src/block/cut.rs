//! Cutting blocks off the head: all tenants' new blocks become visible in one swap.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{HistogramSample, Labels, TenantId};
use weir_wal::Position;

use super::write::BlockWriter;
use super::{BlockError, BlockMeta, Blocks, WINDOW_MS};

/// Blocks written at the same time; samples of still other windows share one block.
const WINDOWS_MAX: usize = 8;
/// Stands for all other windows.
const STRAYS: i64 = i64::MIN;

/// A cut being written. Dropping it removes what it wrote.
pub struct Cut<'a> {
    blocks: &'a Blocks,
    tenant: Option<TenantId>,
    writers: BTreeMap<i64, (u64, BlockWriter)>,
    done: Vec<BlockMeta>,
}

impl Drop for Cut<'_> {
    fn drop(&mut self) {
        self.blocks.discard(&self.done);
    }
}

impl<'a> Cut<'a> {
    pub(super) fn new(blocks: &'a Blocks) -> Self {
        Self { blocks, tenant: None, writers: BTreeMap::new(), done: Vec::new() }
    }

    /// Adds a series: floats as columns, and histograms. Tenants one after another, series of a tenant
    /// ascending by labels, times strictly ascending.
    pub fn add(
        &mut self,
        tenant: &TenantId,
        labels: &Labels,
        times: &[i64],
        values: &[f64],
        histograms: &[HistogramSample],
    ) -> Result<(), BlockError> {
        if self.tenant.as_ref() != Some(tenant) {
            self.end_tenant()?;
            self.tenant = Some(tenant.clone());
        }
        let window = |at: i64| at.div_euclid(WINDOW_MS);
        let of_both = times.iter().copied().chain(histograms.iter().map(|h| h.at.0)).map(window);
        let windows: BTreeSet<i64> = of_both.collect();
        let mut strays = (Vec::new(), Vec::new(), Vec::new());
        for of in windows {
            let floats = times.partition_point(|at| window(*at) < of)..times.partition_point(|at| window(*at) <= of);
            let from = histograms.partition_point(|h| window(h.at.0) < of);
            let part = &histograms[from..histograms.partition_point(|h| window(h.at.0) <= of)];
            let (times, values) = (&times[floats.clone()], &values[floats]);
            if self.writers.contains_key(&of) || self.writers.len() < WINDOWS_MAX {
                self.writer(tenant, of)?.add(labels, times, values, part)?;
            } else {
                strays.0.extend_from_slice(times);
                strays.1.extend_from_slice(values);
                strays.2.extend_from_slice(part);
            }
        }
        if !strays.0.is_empty() || !strays.2.is_empty() {
            self.writer(tenant, STRAYS)?.add(labels, &strays.0, &strays.1, &strays.2)?;
        }
        Ok(())
    }

    fn writer(&mut self, tenant: &TenantId, window: i64) -> Result<&mut BlockWriter, BlockError> {
        if !self.writers.contains_key(&window) {
            let (id, writer) = self.blocks.new_block(tenant)?;
            self.writers.insert(window, (id, writer));
        }
        Ok(&mut self.writers.get_mut(&window).expect("it is there now").1)
    }

    fn end_tenant(&mut self) -> Result<(), BlockError> {
        let Some(tenant) = self.tenant.take() else { return Ok(()) };
        for (id, writer) in std::mem::take(&mut self.writers).into_values() {
            self.done.extend(writer.finish()?.map(|written| super::store::meta(id, id, tenant.as_str(), written)));
        }
        Ok(())
    }

    /// Lists the new blocks and records that they hold everything of the log before `covered`. After
    /// an error the listing is as before, and the head must keep what it gave.
    pub fn commit(mut self, covered: Option<Position>) -> Result<Vec<BlockMeta>, BlockError> {
        self.end_tenant()?;
        // From here on the files stay: a swap that failed may still be what a crash leaves.
        let done = std::mem::take(&mut self.done);
        self.blocks.swap(|manifest| {
            manifest.blocks.extend(done.iter().cloned());
            if let Some(position) = covered {
                manifest.cover(position);
            }
            Ok(())
        })?;
        Ok(done)
    }
}
