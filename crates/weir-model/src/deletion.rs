//! Requests to delete log lines.

use std::sync::Arc;

use crate::sink::WriteError;
use crate::tenant::TenantId;
use crate::time::Nanos;

/// Lines that a log query selects within a time are to go. They are hidden from every read at once;
/// when their bytes go is the store's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDeletion {
    /// Unique for the tenant.
    pub id: Arc<str>,
    /// A LogQL log query: a selector and filters.
    pub query: Arc<str>,
    /// Both included.
    pub start: Nanos,
    pub end: Nanos,
    pub created_at: Nanos,
}

/// Where a log store keeps them. They must last as long as the lines that they hide.
pub trait LogDeletions: Send + Sync {
    /// Refused with [`WriteError`] when there are too many, or when it cannot be kept.
    fn add(&self, tenant: &TenantId, deletion: LogDeletion) -> Result<(), WriteError>;
    /// In the order of their creation. Cheap: asked by every read.
    fn list(&self, tenant: &TenantId) -> Arc<[LogDeletion]>;
    /// Shows the lines again that are still stored. `false`: there is no such request.
    fn cancel(&self, tenant: &TenantId, id: &str) -> Result<bool, WriteError>;
}
