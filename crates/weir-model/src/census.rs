//! How many series there are, and of what: what budgets of cardinality are held against.

use std::sync::Arc;

use crate::tenant::TenantId;

/// Names the labels of a series whose values beyond a budget were folded into one; commas between them. A query that
/// reads such a series says so.
pub const FOLDED_LABEL: &str = "weir_folded";

/// Counts of the series that a store has in memory: those that brought samples lately.
pub trait SeriesCensus: Send + Sync {
    /// Whether there is a series with these labels. `labels`: sorted by name, each name once, no empty value.
    fn knows(&self, tenant: &TenantId, labels: &[(&str, &str)]) -> bool;

    /// Series of a tenant, or of one metric of it. Cheap: asked for every new series.
    fn count(&self, tenant: &TenantId, metric: Option<&str>) -> u64;

    fn tenants(&self) -> Vec<TenantId>;

    /// Metrics with the number of their series, by name.
    fn metrics(&self, tenant: &TenantId) -> Vec<(Arc<str>, u64)>;

    /// What the series of a metric differ by, looking at about `seen_max` of them. Of each list the `limit` largest.
    fn metric(&self, tenant: &TenantId, metric: &str, seen_max: u64, limit: usize) -> MetricCensus;
}

/// Counts of one metric.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricCensus {
    pub n_series: u64,
    /// Series that were looked at, evenly drawn when they are not all; values that only others have do not count.
    pub n_seen: u64,
    /// Without the metric's name; those with most values first.
    pub labels: Vec<LabelCensus>,
    /// Where they come from; those with most series first.
    pub targets: Vec<TargetCensus>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelCensus {
    pub name: Arc<str>,
    /// Different values.
    pub n_values: u64,
    /// Values with the number of series that have them, the most frequent first.
    pub values: Vec<(Arc<str>, u64)>,
}

/// Series of one `job` and `instance`; empty where a series has no such label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetCensus {
    pub job: Arc<str>,
    pub instance: Arc<str>,
    pub n_series: u64,
}
