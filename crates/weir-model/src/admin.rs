//! What an operator asks of a metric store.

use crate::matcher::Matcher;
use crate::tenant::TenantId;
use crate::time::TimeRange;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// It can be done in a moment.
    #[error("{0}")]
    Busy(String),
    #[error("{0}")]
    Failed(String),
}

pub trait MetricAdmin: Send + Sync {
    /// Deletes the samples of the series that match: for readers at once, from the disk later.
    fn delete(&self, tenant: &TenantId, matchers: &[Matcher], range: TimeRange) -> Result<(), AdminError>;

    /// Removes what was deleted from the disk now.
    fn clean_tombstones(&self) -> Result<(), AdminError>;

    /// Copies everything into a folder of its own, and answers its name. `skip_head`: but for what is in no
    /// block yet.
    fn snapshot(&self, skip_head: bool) -> Result<String, AdminError>;

    /// Puts everything accepted so far into blocks.
    fn flush(&self) -> Result<(), AdminError>;

    /// Of each list the `limit` largest.
    fn stats(&self, tenant: &TenantId, limit: usize) -> MetricStats;
}

/// Figures of one tenant's series that are in memory: those that brought samples lately.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricStats {
    pub n_series: u64,
    pub n_label_pairs: u64,
    pub n_chunks: u64,
    /// Of the samples in memory, or of all when there are none.
    pub range: Option<TimeRange>,
    pub series_by_metric: Vec<(String, u64)>,
    pub values_by_label: Vec<(String, u64)>,
    /// Lengths of a label's values, each as often as series have it.
    pub bytes_by_label: Vec<(String, u64)>,
    /// By `name=value`.
    pub series_by_pair: Vec<(String, u64)>,
}
