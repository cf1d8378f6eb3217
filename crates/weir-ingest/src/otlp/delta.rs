//! Delta temporality into cumulative: a running sum per series.

use std::collections::HashMap;

use parking_lot::Mutex;
use weir_model::{FloatHistogram, Histogram, Labels, TenantId, Timestamp};

/// Some 200 MB of labels at worst; series beyond are refused.
const SERIES_MAX: usize = 200_000;
/// Histograms are larger: some 2.5 kB with the SDKs' 160 buckets.
const HISTOGRAMS_MAX: usize = 50_000;
/// A series that was silent for so long starts again from zero, which `rate` reads as a reset.
const FORGET_AFTER: std::time::Duration = std::time::Duration::from_secs(3600);

/// Running sums of delta series, kept from request to request.
#[derive(Default)]
pub struct DeltaState {
    sums: Mutex<Sums<f64>>,
    histograms: Mutex<Sums<FloatHistogram>>,
}

type Sums<T> = HashMap<(TenantId, Labels), Running<T>, ahash::RandomState>;

struct Running<T> {
    sum: T,
    at: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Added<T> {
    /// The sum so far.
    Total(T),
    /// At or before the last point: adding it would count it twice.
    Old,
    Full,
}

impl DeltaState {
    pub(super) fn add(&self, tenant: &TenantId, labels: &Labels, at: Timestamp, delta: f64) -> Added<f64> {
        add(&mut self.sums.lock(), SERIES_MAX, (tenant.clone(), labels.clone()), at, delta, |sum, delta| *sum += delta)
    }

    pub(super) fn add_histogram(
        &self,
        tenant: &TenantId,
        labels: &Labels,
        at: Timestamp,
        delta: &Histogram,
    ) -> Added<Histogram> {
        let mut sums = self.histograms.lock();
        let key = (tenant.clone(), labels.clone());
        let join = |sum: &mut FloatHistogram, delta: FloatHistogram| {
            // All of them are exponential, so that they always fit.
            if sum.add(&delta).is_err() {
                *sum = delta;
            }
        };
        match add(&mut sums, HISTOGRAMS_MAX, key, at, delta.to_float(), join) {
            Added::Total(sum) => Added::Total(sum.to_integers().unwrap_or_else(|| sum.to_stored())),
            Added::Old => Added::Old,
            Added::Full => Added::Full,
        }
    }
}

fn add<T: Clone>(
    sums: &mut Sums<T>,
    max: usize,
    key: (TenantId, Labels),
    at: Timestamp,
    delta: T,
    join: impl Fn(&mut T, T),
) -> Added<T> {
    if let Some(running) = sums.get_mut(&key) {
        if at <= running.at {
            return Added::Old;
        }
        if at.since(running.at) > FORGET_AFTER {
            running.sum = delta;
        } else {
            join(&mut running.sum, delta);
        }
        running.at = at;
        return Added::Total(running.sum.clone());
    }
    if sums.len() >= max {
        sums.retain(|_, running| at.since(running.at) <= FORGET_AFTER);
        if sums.len() >= max {
            return Added::Full;
        }
    }
    sums.insert(key, Running { sum: delta.clone(), at });
    Added::Total(delta)
}
