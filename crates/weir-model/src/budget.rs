//! Memory accounts: a tree from the process through classes and tenants to single items.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An account. A reservation counts in it and in all its ancestors.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    name: String,
    limit_bytes: u64,
    used_bytes: AtomicU64,
    parent: Option<Budget>,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "memory budget `{account}` is used up: {used_bytes} of {limit_bytes} bytes taken, {asked_bytes} more asked; raise it with --memory-limit or narrow the request"
)]
pub struct BudgetExceeded {
    pub account: String,
    pub used_bytes: u64,
    pub limit_bytes: u64,
    pub asked_bytes: u64,
}

impl Budget {
    pub fn root(limit_bytes: u64) -> Self {
        Self(Arc::new(Account { name: "process".into(), limit_bytes, used_bytes: AtomicU64::new(0), parent: None }))
    }

    /// No limit of its own, as tests want it.
    pub fn unlimited() -> Self {
        Self::root(u64::MAX)
    }

    /// A child account; its name is the parent's, a slash, and `name`.
    pub fn child(&self, name: &str, limit_bytes: u64) -> Self {
        Self(Arc::new(Account {
            name: format!("{}/{name}", self.0.name),
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            parent: Some(self.clone()),
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }
    pub fn used_bytes(&self) -> u64 {
        self.0.used_bytes.load(Ordering::Relaxed)
    }
    pub fn limit_bytes(&self) -> u64 {
        self.0.limit_bytes
    }

    /// Takes `bytes` here and in every ancestor, or nothing and the name of the account that is full.
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, BudgetExceeded> {
        self.take(bytes)?;
        Ok(Reservation { budget: self.clone(), bytes })
    }

    fn take(&self, bytes: u64) -> Result<(), BudgetExceeded> {
        let account = &self.0;
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= account.limit_bytes);
        account.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|used_bytes| {
            BudgetExceeded {
                account: account.name.clone(),
                used_bytes,
                limit_bytes: account.limit_bytes,
                asked_bytes: bytes,
            }
        })?;
        if let Some(parent) = &account.parent
            && let Err(full) = parent.take(bytes)
        {
            account.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(full);
        }
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        self.0.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(parent) = &self.0.parent {
            parent.give_back(bytes);
        }
    }
}

/// Bytes taken from a [`Budget`]; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: u64,
}

impl Reservation {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
    pub fn grow(&mut self, bytes: u64) -> Result<(), BudgetExceeded> {
        self.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
    /// Gives back part; more than was taken gives back all.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.budget.give_back(bytes);
        self.bytes -= bytes;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_parent_refuses_by_name_and_leaves_the_child_as_it_was() {
        let root = Budget::root(100);
        let child = root.child("queries", 1000);
        let held = child.try_reserve(80).unwrap();
        let full = child.try_reserve(30).unwrap_err();
        assert_eq!(full.account, "process");
        assert_eq!(child.used_bytes(), 80);
        drop(held);
        assert_eq!((root.used_bytes(), child.used_bytes()), (0, 0));
    }
}
