//! Which metrics queries asked for, and when last.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use weir_model::{TenantId, Timestamp};
use weir_promql::Expr;

/// Names kept; a sender of queries for invented names must not fill the memory.
const NAMES_MAX: usize = 100_000;

/// Since the start; a metric that only patterns over names find counts as not asked for.
#[derive(Default)]
pub struct AskedMetrics(Mutex<BTreeMap<TenantId, BTreeMap<String, Timestamp>>>);

impl AskedMetrics {
    pub fn note(&self, tenant: &TenantId, expr: &Expr, now: Timestamp) {
        let names = expr.metrics_used();
        if names.is_empty() {
            return;
        }
        let mut all = self.0.lock();
        let n: usize = all.values().map(BTreeMap::len).sum();
        let of_tenant = all.entry(tenant.clone()).or_default();
        for name in names {
            match of_tenant.get_mut(name) {
                Some(last) => *last = now,
                None if n < NAMES_MAX => {
                    of_tenant.insert(name.to_owned(), now);
                }
                None => {}
            }
        }
    }

    pub fn last(&self, tenant: &TenantId, metric: &str) -> Option<Timestamp> {
        self.0.lock().get(tenant)?.get(metric).copied()
    }
}
