//! Windows over samples that stand for buckets, as a store has them of times long past.
//!
//! Such a window is moved back to the edges of the buckets that it begins and ends in, and is one bucket long at
//! least: then it covers whole buckets, and what a function makes of them is what it would have made of the samples.

use weir_model::source::Coarse;

use crate::plan::millis;

/// Where the samples of one read stand for buckets, ascending; nowhere for most.
#[derive(Default)]
pub(super) struct Buckets(Vec<Stretch>);

struct Stretch {
    first: i64,
    last: i64,
    length: i64,
}

pub(super) static NONE: Buckets = Buckets(Vec::new());

impl Buckets {
    pub fn new(coarse: &[Coarse]) -> Self {
        let stretch =
            |c: &Coarse| Stretch { first: c.range.start.0, last: c.range.end.0, length: millis(c.resolution) };
        Self(coarse.iter().map(stretch).filter(|s| s.length > 0).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length of the bucket around a time; 0 where each sample stands for itself.
    pub fn length_at(&self, at: i64) -> i64 {
        self.0.iter().find(|s| s.first <= at && at <= s.last).map_or(0, |s| s.length)
    }

    pub fn longest(&self) -> i64 {
        self.0.iter().map(|s| s.length).max().unwrap_or(0)
    }

    /// The last edge at or before a time.
    fn edge(&self, at: i64) -> i64 {
        // An edge belongs to the bucket that it ends.
        match self.length_at(at) {
            0 => match self.length_at(at.saturating_add(1)) {
                0 => at,
                length => at.div_euclid(length).saturating_mul(length),
            },
            length => at.div_euclid(length).saturating_mul(length),
        }
    }

    /// The window that stands for (start, end].
    pub fn window(&self, (start, end): (i64, i64)) -> (i64, i64) {
        if self.is_empty() {
            return (start, end);
        }
        let to = self.edge(end);
        let from = self.edge(start).min(to.saturating_sub(self.length_at(to)));
        (from, to)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_model::{TimeRange, Timestamp};

    use super::*;

    const M: i64 = 60_000;

    #[test]
    fn windows_are_moved_to_edges() {
        let stretch = |from: i64, to: i64, minutes: u64| Coarse {
            range: TimeRange::new(Timestamp(from * M + 1), Timestamp(to * M)),
            resolution: Duration::from_secs(60 * minutes),
        };
        // Hours until 02:00, five minutes until 03:00, samples from there.
        let buckets = Buckets::new(&[stretch(0, 120, 60), stretch(120, 180, 5)]);
        for (from, to, want) in [
            (60, 120, (60, 120)),
            (59, 119, (0, 60)),
            (100, 110, (0, 60)),
            (115, 120, (60, 120)),
            (121, 126, (120, 125)),
            // An hour, as it ends at the edge between hours and five minutes.
            (123, 124, (60, 120)),
            (110, 130, (60, 130)),
            (174, 179, (170, 175)),
            (178, 182, (175, 182)),
            (180, 185, (180, 185)),
            (179, 180, (175, 180)),
            (200, 201, (200, 201)),
        ] {
            let got = buckets.window((from * M, to * M));
            assert_eq!((got.0 / M, got.1 / M), want, "({from}, {to}]");
        }
        assert_eq!(NONE.window((3, 4)), (3, 4));
        assert_eq!(
            (buckets.length_at(120 * M), buckets.length_at(120 * M + 1), buckets.longest()),
            (60 * M, 5 * M, 60 * M)
        );
    }
}
