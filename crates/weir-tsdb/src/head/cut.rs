//! Cutting blocks off the head: what is set aside, what goes with it, what is kept.

use std::sync::Arc;

use roaring::RoaringBitmap;
use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{Exemplar, Labels, TenantId};

use super::Head;
use super::tenant::{Freezing, Tenant};
use crate::block::{BlockError, Cut};

/// Exemplars of a tenant that outlive a cut and then a restart, as many as Prometheus keeps at all.
const EXEMPLARS_KEPT: usize = 100_000;
/// Series with exemplars in one frame of the log.
const EXEMPLAR_SERIES: usize = 10_000;

/// What a cut that is listed lets the head forget.
pub(crate) struct Frozen(Vec<(Arc<Tenant>, RoaringBitmap)>);

impl Frozen {
    /// Series that brought nothing stay.
    pub(crate) fn keep_idle(&mut self) {
        self.0.iter_mut().for_each(|(_, idle)| idle.clear());
    }
}

impl Head {
    fn all_tenants(&self) -> Vec<(TenantId, Arc<Tenant>)> {
        let mut all: Vec<_> = self.tenants.read().iter().map(|(id, tenant)| (id.clone(), tenant.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Sets everything aside and adds it to `cut`. Writers go on meanwhile; readers see what is set aside until
    /// [`Head::thaw`], which is to wait for those who may not know of the blocks. After an error it stays aside, and the next cut takes it too.
    pub(crate) fn freeze_into(&self, cut: &mut Cut<'_>) -> Result<Frozen, BlockError> {
        let mut frozen = Vec::new();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        for (id, tenant) in self.all_tenants() {
            let mut done = Freezing::default();
            let added = tenant.freeze(&mut done, |labels, samples, histograms| {
                times.clear();
                values.clear();
                times.extend(samples.iter().map(|s| s.at.0));
                values.extend(samples.iter().map(|s| s.value));
                cut.add(&id, labels, &times, &values, &histograms)
            });
            self.account.lock().settle(0, done.taken_bytes);
            added?;
            frozen.push((tenant, done.idle));
        }
        Ok(Frozen(frozen))
    }

    /// To be called when the blocks of a cut are listed: who begins to read from here on finds them there. The
    /// answer has other owners for as long as somebody reads who began before.
    pub(crate) fn next_readers(&self) -> Arc<()> {
        std::mem::take(&mut *self.reading.write())
    }

    /// Forgets what is in blocks now, and series that brought nothing since the cut before.
    pub(crate) fn thaw(&self, frozen: Frozen) {
        for (tenant, idle) in frozen.0 {
            let freed = tenant.thaw(idle);
            self.account.lock().give_back(freed);
        }
    }

    /// Exemplars and metadata, which blocks do not hold, as batches of a tenant each.
    pub(crate) fn beside_samples(&self) -> Vec<(TenantId, MetricBatch)> {
        let mut batches = Vec::new();
        for (id, tenant) in self.all_tenants() {
            let metadata: Vec<_> = tenant.metadata.read().values().cloned().collect();
            if !metadata.is_empty() {
                batches.push((id.clone(), MetricBatch { series: Vec::new(), metadata }));
            }
            let exemplars = tenant.all_exemplars(EXEMPLARS_KEPT);
            for part in exemplars.chunks(EXEMPLAR_SERIES) {
                let of = |(labels, exemplars): &(Labels, Vec<Exemplar>)| SeriesBatch {
                    labels: labels.clone(),
                    exemplars: exemplars.clone(),
                    ..SeriesBatch::default()
                };
                let series = part.iter().map(of).collect();
                batches.push((id.clone(), MetricBatch { series, metadata: Vec::new() }));
            }
        }
        batches
    }
}
