//! Delta temporality into cumulative: a running sum per series.

use std::collections::HashMap;

use parking_lot::Mutex;
use weir_model::{Labels, TenantId, Timestamp};

/// Some 200 MB of labels at worst; series beyond are refused.
const SERIES_MAX: usize = 200_000;
/// A series that was silent for so long starts again from zero, which `rate` reads as a reset.
const FORGET_AFTER: std::time::Duration = std::time::Duration::from_secs(3600);

/// Running sums of delta series, kept from request to request.
#[derive(Default)]
pub struct DeltaState {
    sums: Mutex<HashMap<(TenantId, Labels), Running, ahash::RandomState>>,
}

struct Running {
    sum: f64,
    at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Added {
    /// The sum so far.
    Total(f64),
    /// At or before the last point: adding it would count it twice.
    Old,
    Full,
}

impl DeltaState {
    pub(super) fn add(&self, tenant: &TenantId, labels: &Labels, at: Timestamp, delta: f64) -> Added {
        let mut sums = self.sums.lock();
        let key = (tenant.clone(), labels.clone());
        if let Some(running) = sums.get_mut(&key) {
            if at <= running.at {
                return Added::Old;
            }
            if at.since(running.at) > FORGET_AFTER {
                running.sum = 0.0;
            }
            running.sum += delta;
            running.at = at;
            return Added::Total(running.sum);
        }
        if sums.len() >= SERIES_MAX {
            sums.retain(|_, running| at.since(running.at) <= FORGET_AFTER);
            if sums.len() >= SERIES_MAX {
                return Added::Full;
            }
        }
        sums.insert(key, Running { sum: delta, at });
        Added::Total(delta)
    }
}
