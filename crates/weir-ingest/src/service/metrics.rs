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
        self.drop_future_samples(&mut decoded);
        let batch = decoded.batch;
        let is_empty = batch.series.is_empty() && batch.metadata.is_empty();
        let stored = if is_empty { Ok(Outcome::default()) } else { self.to.metrics.append(tenant, &batch) };
        let mut bytes = 0;
        if stored.is_ok() {
            bytes = self.after_metrics(tenant, &batch);
        }
        self.settle(Signal::Metrics, tenant, sender, stored, decoded.refused, bytes)
    }

    fn drop_future_samples(&self, decoded: &mut Decoded<MetricBatch>) {
        let newest_allowed = self.newest_allowed();
        let mut n_empty = 0;
        let Decoded { batch, refused } = decoded;
        for series in &mut batch.series {
            let before = series.samples.len();
            if series.samples.iter().all(|s| s.at <= newest_allowed) {
                continue;
            }
            let example = series.samples.iter().map(|s| s.at).max().unwrap_or_default();
            series.samples.retain(|s| s.at <= newest_allowed);
            let n = (before - series.samples.len()) as u64;
            crate::decoded::refuse(refused, RefusedReason::TooFarInFuture, n, || {
                format!("{} at {}: later than {}", series.labels, example.rfc3339(), newest_allowed.rfc3339())
            });
            n_empty += usize::from(series.samples.is_empty() && series.exemplars.is_empty());
        }
        if n_empty > 0 {
            batch.series.retain(|s| !s.samples.is_empty() || !s.exemplars.is_empty());
        }
    }

    /// Entities, usage and the commit; answers the bytes.
    fn after_metrics(&self, tenant: &TenantId, batch: &MetricBatch) -> u64 {
        let mut rows = Vec::new();
        let mut newest = Timestamp::MIN;
        let mut total = 0;
        let mut labels: Vec<Labels> = Vec::with_capacity(batch.series.len());
        for series in &batch.series {
            let Some(at) = series.samples.iter().map(|s| s.at).max() else { continue };
            newest = newest.max(at);
            let refs = self.known.labels(tenant, &series.labels, at, &self.to.aliases, &self.to.entities);
            let items = series.samples.len() as u64;
            let bytes = series.labels.size_bytes() as u64 + items * SAMPLE_BYTES;
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
