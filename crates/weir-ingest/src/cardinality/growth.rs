//! Counts of the last hour, for how much each metric grew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use weir_model::Timestamp;

/// Counts are kept this far apart, and for so long.
const EVERY: Duration = Duration::from_secs(300);
const KEPT: usize = 13;
/// Metrics of a tenant with most series; of others growth is not told.
const METRICS_MAX: usize = 5_000;

/// Of one tenant. At most 13 × 5,000 counts of 24 bytes.
#[derive(Debug, Default)]
pub(super) struct Growth(VecDeque<(Timestamp, AHashMap<Arc<str>, u64>)>);

/// How many series came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    pub by: i64,
    pub since: Timestamp,
}

impl Growth {
    pub fn note(&mut self, metrics: &[(Arc<str>, u64)], now: Timestamp) {
        if self.0.back().is_some_and(|(at, _)| now.since(*at) < EVERY) {
            return;
        }
        let mut largest: Vec<(Arc<str>, u64)> = metrics.to_vec();
        if largest.len() > METRICS_MAX {
            largest.select_nth_unstable_by(METRICS_MAX, |a, b| b.1.cmp(&a.1));
            largest.truncate(METRICS_MAX);
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back((now, largest.into_iter().collect()));
    }

    /// Since the oldest count that is kept, an hour at most. A metric that was not there grew from nothing.
    pub fn of(&self, metric: &str, n_series: u64) -> Option<Grown> {
        let (since, counts) = self.0.front()?;
        let before = match counts.get(metric) {
            Some(before) => *before,
            None if counts.len() < METRICS_MAX => 0,
            None => return None,
        };
        Some(Grown { by: n_series.cast_signed() - before.cast_signed(), since: *since })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_over_an_hour() {
        let mut growth = Growth::default();
        assert_eq!(growth.of("a", 5), None);
        for minute in 0..100 {
            growth.note(&[("a".into(), 10 + minute)], Timestamp(minute.cast_signed() * 60_000));
        }
        assert_eq!(growth.of("a", 200), Some(Grown { by: 155, since: Timestamp(35 * 60_000) }));
        assert_eq!(growth.of("b", 3).map(|g| g.by), Some(3));
    }
}
