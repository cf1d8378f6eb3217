//! How late a rule's data come: what has to be waited for so that an evaluation sees all of an instant.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use weir_model::Timestamp;

/// Later data are late data: they are not waited for.
pub const SPREAD_MAX: Duration = Duration::from_secs(10);
/// Assumed of a rule that has not been fed for long.
const UNLEARNED: Duration = Duration::from_secs(2);
const LEARNED_AFTER: Duration = Duration::from_secs(60);
/// What was seen is remembered for one to two times as long.
const REMEMBERED: Duration = Duration::from_secs(300);

/// The longest delay, from a sample's time to its commit, of the last minutes. Written by the threads that
/// commit, without a lock; read by the group's task.
#[derive(Debug)]
pub struct Spread {
    born: Timestamp,
    turned_at: AtomicI64,
    recent_ms: AtomicI64,
    before_ms: AtomicI64,
}

impl Spread {
    pub fn new(now: Timestamp) -> Self {
        Self { born: now, turned_at: AtomicI64::new(now.0), recent_ms: AtomicI64::new(0), before_ms: AtomicI64::new(0) }
    }

    /// A commit whose newest sample is of the time `newest`. A sender whose clock runs ahead is not late, and a
    /// backlog that is sent again says nothing of what comes now.
    pub fn note(&self, newest: Timestamp, now: Timestamp) {
        let delay = now.since(newest);
        if !delay.is_zero() && delay <= SPREAD_MAX {
            self.recent_ms.fetch_max(delay.as_millis() as i64, Ordering::Relaxed);
        }
    }

    /// How long after an instant its data are there, with a quarter to spare.
    pub fn wait(&self, now: Timestamp) -> Duration {
        if now.since(Timestamp(self.turned_at.load(Ordering::Relaxed))) >= REMEMBERED {
            self.turned_at.store(now.0, Ordering::Relaxed);
            self.before_ms.store(self.recent_ms.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        let longest = self.recent_ms.load(Ordering::Relaxed).max(self.before_ms.load(Ordering::Relaxed));
        let learned = Duration::from_millis(longest.unsigned_abs() * 5 / 4);
        if now.since(self.born) < LEARNED_AFTER { learned.max(UNLEARNED) } else { learned }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_follows_the_latest_of_what_comes() {
        let spread = Spread::new(Timestamp(0));
        let at = |s: i64| Timestamp(s * 1000);
        let check = |now: i64, want_ms: u64| assert_eq!(spread.wait(at(now)), Duration::from_millis(want_ms), "{now}");
        check(0, 2000);
        spread.note(at(4), at(8));
        check(8, 5000);
        check(70, 5000);
        // Ahead of time, and ten minutes of backlog.
        spread.note(at(130), at(100));
        spread.note(at(0), at(600));
        check(100, 5000);
        check(400, 5000);
        check(701, 0);
        spread.note(Timestamp(700_600), at(701));
        check(702, 500);
    }
}
