//! Who sends how much: items and bytes per signal, tenant, namespace and service.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use serde::Serialize;

use crate::tenant::TenantId;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    Metrics,
    Logs,
    Traces,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    pub items: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct UsageKey {
    pub signal: Signal,
    pub tenant: String,
    pub namespace: String,
    pub service: String,
}

/// Bounded: past `ROWS_MAX` keys, new ones count under the service `other`.
#[derive(Default)]
pub struct Usage {
    rows: Mutex<BTreeMap<UsageKey, Amount>>,
}

const ROWS_MAX: usize = 10_000;

impl Usage {
    pub fn add(&self, signal: Signal, tenant: &TenantId, namespace: &str, service: &str, amount: Amount) {
        let mut key = UsageKey {
            signal,
            tenant: tenant.as_str().to_owned(),
            namespace: namespace.to_owned(),
            service: service.to_owned(),
        };
        let mut rows = self.rows.lock();
        if rows.len() >= ROWS_MAX && !rows.contains_key(&key) {
            key.namespace = String::new();
            key.service = "other".to_owned();
        }
        let row = rows.entry(key).or_default();
        row.items += amount.items;
        row.bytes += amount.bytes;
    }

    pub fn rows(&self) -> Vec<(UsageKey, Amount)> {
        self.rows.lock().iter().map(|(k, v)| (k.clone(), *v)).collect()
    }
}
