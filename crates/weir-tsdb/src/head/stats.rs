//! Figures of a tenant's series in memory.

use std::collections::BTreeMap;

use weir_model::admin::MetricStats;
use weir_model::labels::METRIC_NAME;
use weir_model::{TenantId, TimeRange, Timestamp};

use super::Head;

impl Head {
    /// Of each list the `limit` largest.
    pub(crate) fn stats(&self, tenant: &TenantId, limit: usize) -> MetricStats {
        let mut stats = MetricStats::default();
        let Some(held) = self.tenant(tenant) else { return stats };
        stats.n_series = held.n_series() as u64;
        stats.n_chunks = held.n_chunks();
        stats.range = held.span().map(|(first, last)| TimeRange::new(Timestamp(first), Timestamp(last)));
        let mut by_label: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let index = held.index();
        for (name, value, n_series) in index.pairs() {
            stats.n_label_pairs += 1;
            if name == METRIC_NAME {
                stats.series_by_metric.push((value.to_owned(), n_series));
            }
            stats.series_by_pair.push((format!("{name}={value}"), n_series));
            let (n_values, n_bytes) = by_label.entry(name.to_owned()).or_default();
            *n_values += 1;
            *n_bytes += value.len() as u64 * n_series;
        }
        drop(index);
        stats.values_by_label = by_label.iter().map(|(name, (n, _))| (name.clone(), *n)).collect();
        stats.bytes_by_label = by_label.into_iter().map(|(name, (_, n))| (name, n)).collect();
        let lists = [
            &mut stats.series_by_metric,
            &mut stats.values_by_label,
            &mut stats.bytes_by_label,
            &mut stats.series_by_pair,
        ];
        for list in lists {
            list.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            list.truncate(limit);
        }
        stats
    }
}
