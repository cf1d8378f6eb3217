//! When each offset was written, as far as weir watched: a partition's end offset over time.

use weir_model::Timestamp;

/// Points kept per partition. At one a second the first 512 reach back 8 minutes exactly; older ones
/// are thinned, so that the reach doubles with every halving.
const POINTS_MAX: usize = 512;

/// Bytes that one full index takes.
pub(crate) const INDEX_BYTES: u64 = (POINTS_MAX * size_of::<Point>()) as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Point {
    at: Timestamp,
    end: i64,
}

/// End offsets seen over time. Invariant: times rise, end offsets never fall.
#[derive(Clone, Debug, Default)]
pub struct OffsetTimes {
    points: Vec<Point>,
}

/// When the record at an offset was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeOf {
    At(Timestamp),
    /// Before the index begins.
    Earlier,
    /// Not written yet.
    NotYet,
}

impl OffsetTimes {
    /// Notes a log's end. An end that fell (a topic made anew) starts the index again.
    pub fn push(&mut self, at: Timestamp, end: i64) {
        match self.points.as_mut_slice() {
            [.., last] if at <= last.at => return,
            [.., last] if end < last.end => self.points.clear(),
            // A standstill is two points: its beginning and its end.
            [.., before, last] if before.end == end && last.end == end => {
                last.at = at;
                return;
            }
            _ => {}
        }
        if self.points.len() == POINTS_MAX {
            self.thin();
        }
        self.points.push(Point { at, end });
    }

    /// Drops every other point of the older half.
    fn thin(&mut self) {
        let half = POINTS_MAX / 2;
        let mut idx = 0;
        self.points.retain(|_| {
            idx += 1;
            idx > half || idx % 2 == 1
        });
    }

    /// Between two points the log is taken to have grown evenly.
    pub fn time_of(&self, offset: i64) -> TimeOf {
        let after = self.points.partition_point(|p| p.end <= offset);
        let Some(upper) = self.points.get(after) else { return TimeOf::NotYet };
        let Some(lower) = after.checked_sub(1).map(|idx| self.points[idx]) else { return TimeOf::Earlier };
        let share = (offset + 1 - lower.end) as f64 / (upper.end - lower.end) as f64;
        let span = (upper.at.0 - lower.at.0) as f64;
        TimeOf::At(Timestamp(lower.at.0 + (span * share) as i64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(points: &[(i64, i64)], offset: i64, want: TimeOf) {
        let mut index = OffsetTimes::default();
        for (at, end) in points {
            index.push(Timestamp(*at), *end);
        }
        assert_eq!(index.time_of(offset), want, "{points:?} at {offset}");
    }

    #[test]
    fn times_are_between_the_polls_around_an_offset() {
        let grows = [(1000, 100), (2000, 200), (3000, 300)];
        check(&grows, 99, TimeOf::Earlier);
        check(&grows, 149, TimeOf::At(Timestamp(1500)));
        check(&grows, 199, TimeOf::At(Timestamp(2000)));
        check(&grows, 299, TimeOf::At(Timestamp(3000)));
        check(&grows, 300, TimeOf::NotYet);
        // Nothing for an hour, then one record: it is as old as the poll that saw it.
        check(&[(0, 5), (1000, 5), (2000, 5), (3_600_000, 5), (3_601_000, 6)], 5, TimeOf::At(Timestamp(3_601_000)));
        // Made anew.
        check(&[(1000, 100), (2000, 200), (3000, 4), (4000, 8)], 5, TimeOf::At(Timestamp(3500)));
    }

    proptest! {
        #[test]
        fn an_even_flow_is_dated_within_one_kept_step(n in 2usize..5000, back in 0usize..400) {
            let mut index = OffsetTimes::default();
            for i in 0..n as i64 {
                index.push(Timestamp(i * 1000), i * 10);
            }
            let back = back.min(n - 1);
            let offset = (n as i64 - 1) * 10 - 1 - back as i64 * 10;
            if offset >= 0 {
                let TimeOf::At(at) = index.time_of(offset) else { panic!("no time for {offset}") };
                prop_assert!((at.0 - (offset + 1) * 100).abs() <= 1);
            }
            prop_assert!(index.points.len() <= POINTS_MAX);
            prop_assert!(index.points.windows(2).all(|w| w[0].at < w[1].at && w[0].end <= w[1].end));
        }
    }
}
