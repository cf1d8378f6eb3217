//! Deletion, snapshots, figures, counts.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use weir_model::admin::{AdminError, MetricAdmin, MetricStats};
use weir_model::source::Cancel;
use weir_model::{Matcher, MetricCensus, SeriesCensus, TenantId, TimeRange};

use super::{MetricStore, MetricStoreError, SNAPSHOTS};

impl From<MetricStoreError> for AdminError {
    fn from(error: MetricStoreError) -> Self {
        match error {
            MetricStoreError::Reading => Self::Busy(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl MetricAdmin for MetricStore {
    /// Blocks alone have deletions, so what is in memory goes there first. A sample that arrives meanwhile stays.
    fn delete(&self, tenant: &TenantId, matchers: &[Matcher], range: TimeRange) -> Result<(), AdminError> {
        let mut cutting = self.cutting.lock();
        self.cut_in(&mut cutting)?;
        if !self.forget_listed(&mut cutting) {
            return Err(MetricStoreError::Reading.into());
        }
        Ok(self.store.blocks.delete(tenant, matchers, range).map_err(MetricStoreError::from)?)
    }

    fn clean_tombstones(&self) -> Result<(), AdminError> {
        Ok(self.store.blocks.clean_tombstones(&Cancel::default()).map_err(MetricStoreError::from)?)
    }

    fn snapshot(&self, skip_head: bool) -> Result<String, AdminError> {
        if !skip_head {
            self.cut()?;
        }
        // Named by its time, as Prometheus has it; a number keeps two of one second apart.
        let n = self.n_snapshots.fetch_add(1, Ordering::Relaxed);
        let time: String = self.clock.now().rfc3339().chars().take(19).filter(|c| *c != '-' && *c != ':').collect();
        let name = format!("{time}Z-{:016x}", self.clock.now_nanos().0.cast_unsigned().wrapping_add(n));
        self.store.blocks.snapshot_to(&format!("{SNAPSHOTS}/{name}")).map_err(MetricStoreError::from)?;
        Ok(name)
    }

    fn flush(&self) -> Result<(), AdminError> {
        Ok(self.cut()?)
    }

    fn stats(&self, tenant: &TenantId, limit: usize) -> MetricStats {
        let mut stats = self.head().stats(tenant, limit);
        let manifest = self.store.blocks.manifest();
        let own = || manifest.blocks.iter().filter(|b| b.tenant == tenant.as_str()).map(|b| b.range());
        let of_blocks = own().map(|r| r.start).min().zip(own().map(|r| r.end).max());
        stats.range = stats.range.or(of_blocks.map(|(start, end)| TimeRange::new(start, end)));
        stats
    }
}

impl SeriesCensus for MetricStore {
    fn knows(&self, tenant: &TenantId, labels: &[(&str, &str)]) -> bool {
        self.head().knows(tenant, labels)
    }
    fn count(&self, tenant: &TenantId, metric: Option<&str>) -> u64 {
        self.head().count(tenant, metric)
    }
    fn tenants(&self) -> Vec<TenantId> {
        self.head().tenants()
    }
    fn metrics(&self, tenant: &TenantId) -> Vec<(Arc<str>, u64)> {
        self.head().metrics(tenant)
    }
    fn metric(&self, tenant: &TenantId, metric: &str, seen_max: u64, limit: usize) -> MetricCensus {
        self.head().metric(tenant, metric, seen_max, limit)
    }
}
