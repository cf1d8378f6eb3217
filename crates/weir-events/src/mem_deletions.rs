//! Requests to delete log lines, in memory beside the lines themselves.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::RwLock;
use weir_model::sink::WriteError;
use weir_model::{LogDeletion, LogDeletions, TenantId};

/// Requests of one tenant; every read looks at each of them.
const DELETIONS_MAX: usize = 1000;

/// Bounded by a constant per tenant; lost with the lines at a restart.
#[derive(Default)]
pub struct MemDeletions(RwLock<AHashMap<TenantId, Arc<[LogDeletion]>>>);

impl LogDeletions for MemDeletions {
    fn add(&self, tenant: &TenantId, deletion: LogDeletion) -> Result<(), WriteError> {
        let mut all = self.0.write();
        let known = all.entry(tenant.clone()).or_default();
        if known.len() >= DELETIONS_MAX {
            let text = format!("{DELETIONS_MAX} delete requests exist; cancel some or delete with fewer, wider ones");
            return Err(WriteError::Storage(text));
        }
        *known = known.iter().cloned().chain([deletion]).collect();
        Ok(())
    }

    fn list(&self, tenant: &TenantId) -> Arc<[LogDeletion]> {
        self.0.read().get(tenant).cloned().unwrap_or_default()
    }

    fn cancel(&self, tenant: &TenantId, id: &str) -> Result<bool, WriteError> {
        let mut all = self.0.write();
        let Some(known) = all.get_mut(tenant) else { return Ok(false) };
        let before = known.len();
        *known = known.iter().filter(|d| &*d.id != id).cloned().collect();
        Ok(known.len() < before)
    }
}

#[cfg(test)]
mod tests {
    use weir_model::Nanos;

    use super::*;

    fn deletion(id: &str) -> LogDeletion {
        let at = Nanos(0);
        LogDeletion { id: id.into(), query: "{a=\"b\"}".into(), start: at, end: at, created_at: at }
    }

    #[test]
    fn requests_belong_to_a_tenant_and_are_bounded() {
        let all = MemDeletions::default();
        let (a, b) = (TenantId::anonymous(), TenantId::parse("b").unwrap());
        all.add(&a, deletion("1")).unwrap();
        assert_eq!((all.list(&a).len(), all.list(&b).len()), (1, 0));
        assert!(!all.cancel(&b, "1").unwrap());
        assert!(all.cancel(&a, "1").unwrap());
        assert!(all.list(&a).is_empty());
        (0..DELETIONS_MAX).for_each(|n| all.add(&a, deletion(&n.to_string())).unwrap());
        assert!(all.add(&a, deletion("more")).unwrap_err().to_string().contains("1000 delete requests"));
    }
}
