//! Series into the metric store.

use weir_model::sink::{MetricBatch, Outcome, RefusedReason, WriteError};
use weir_model::usage::{Amount, Signal};
use weir_model::{Commit, Labels, TenantId, Timestamp};

use super::{Ingest, add_amount};
use crate::Decoded;
use crate::sender::SenderRef;

/// A sample is a time and a value.
const SAMPLE_BYTES: u64 = 16;

impl Ingest {
    pub fn write_metrics(
        &self,
        tenant: &TenantId,
        sender: &SenderRef,
        decoded: impl Into<Decoded<MetricBatch>>,
    ) -> Result<Outcome, WriteError> {
        let mut decoded = decoded.into();
        drop_future_samples(&mut decoded, self.newest_allowed());
        if let Some(gate) = self.gate() {
            gate.apply(tenant, &mut decoded, self.to.clock.now());
        }
        let batch = decoded.batch;
        let is_empty = batch.series.is_empty() && batch.metadata.is_empty();
        let stored = if is_empty { Ok(Outcome::default()) } else { self.to.metrics.append(tenant, &batch) };
        let mut bytes = 0;
        if stored.is_ok() {
            bytes = self.after_metrics(tenant, &batch);
        }
        self.settle(Signal::Metrics, tenant, sender, stored, decoded.refused, bytes)
    }

    /// Entities alone, for what comes back from a log.
    pub(super) fn touch_entities(&self, tenant: &TenantId, batch: &MetricBatch) {
        for series in &batch.series {
            let Some(at) = series.newest() else { continue };
            self.known.labels(tenant, &series.labels, at, &self.to.aliases, &self.to.entities);
        }
    }

    /// Entities, usage and the commit; answers the bytes.
    pub(super) fn after_metrics(&self, tenant: &TenantId, batch: &MetricBatch) -> u64 {
        let mut rows = Vec::new();
        let mut newest = Timestamp::MIN;
        let mut total = 0;
        let mut labels: Vec<Labels> = Vec::with_capacity(batch.series.len());
        for series in &batch.series {
            let Some(at) = series.newest() else { continue };
            newest = newest.max(at);
            let refs = self.known.labels(tenant, &series.labels, at, &self.to.aliases, &self.to.entities);
            let items = series.n_samples() as u64;
            let histograms: usize = series.histograms.iter().map(|h| h.histogram.size_bytes()).sum();
            let bytes =
                series.labels.size_bytes() as u64 + series.samples.len() as u64 * SAMPLE_BYTES + histograms as u64;
            total += bytes;
            add_amount(&mut rows, &refs, Amount { items, bytes });
            labels.push(series.labels.clone());
        }
        self.count_usage(Signal::Metrics, tenant, &rows);
        if !labels.is_empty() {
            self.to.feed.publish(tenant, &Commit::Metrics { series: &labels, newest });
        }
        total
    }
}

pub(super) fn drop_future_samples(decoded: &mut Decoded<MetricBatch>, newest_allowed: Timestamp) {
    let mut n_empty = 0;
    let Decoded { batch, refused } = decoded;
    for series in &mut batch.series {
        let Some(example) = series.newest().filter(|at| *at > newest_allowed) else { continue };
        let before = series.n_samples();
        series.samples.retain(|s| s.at <= newest_allowed);
        series.histograms.retain(|h| h.at <= newest_allowed);
        let n = (before - series.n_samples()) as u64;
        crate::decoded::refuse(refused, RefusedReason::TooFarInFuture, n, || {
            format!("{} at {}: later than {}", series.labels, example.rfc3339(), newest_allowed.rfc3339())
        });
        n_empty += usize::from(series.n_samples() == 0 && series.exemplars.is_empty());
    }
    if n_empty > 0 {
        batch.series.retain(|s| s.n_samples() > 0 || !s.exemplars.is_empty());
    }
}
