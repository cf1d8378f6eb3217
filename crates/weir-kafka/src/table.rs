//! The pure core: from what a poll read to each group's lag.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use serde::Serialize;
use weir_model::{Budget, Reservation, Timestamp};

use crate::offset_times::{INDEX_BYTES, OffsetTimes, TimeOf};

/// Commits are seen up to a poll late and spans arrive in batches: within this they count as together.
const GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    pub topic: Arc<str>,
    pub partition: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionOffsets {
    pub id: PartitionId,
    /// Offset of the oldest record there is.
    pub start: i64,
    /// Offset of the next record to be written.
    pub end: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffsets {
    pub group: Arc<str>,
    /// `None` when the cluster did not tell.
    pub n_members: Option<usize>,
    pub committed: Vec<(PartitionId, i64)>,
}

/// What one poll of one cluster read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub partitions: Vec<PartitionOffsets>,
    pub groups: Vec<GroupOffsets>,
}

/// A position seen in a consumer's span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub group: Arc<str>,
    pub partition: PartitionId,
    /// Offset of the next record it will work on.
    pub position: i64,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Committed,
    Observed,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionLag {
    pub group: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
    /// Records written and not worked on.
    pub lag: i64,
    /// Age of the oldest of them; `None` while it is being looked up.
    pub lag_seconds: Option<f64>,
    pub position: i64,
    pub end_offset: i64,
    pub source: Source,
}

/// A record whose time the index does not reach back to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lookup {
    pub partition: PartitionId,
    pub offset: i64,
}

#[derive(Default)]
struct PartitionState {
    start: i64,
    end: i64,
    /// `None` when the budget has no room: seconds then come from look-ups alone.
    times: Option<(OffsetTimes, Reservation)>,
}

struct GroupState {
    committed: Option<i64>,
    committed_changed_at: Timestamp,
    observed: Option<(i64, Timestamp)>,
    /// The last look-up and its answer, kept while the position stands still.
    looked_up: Option<(i64, Option<Timestamp>)>,
}

/// Lag of one cluster over time. Feed it by [`Self::step`], answer its look-ups by [`Self::learn`], read
/// [`Self::lags`].
pub struct LagTable {
    budget: Budget,
    partitions: AHashMap<PartitionId, PartitionState>,
    groups: AHashMap<(Arc<str>, PartitionId), GroupState>,
}

impl LagTable {
    pub fn new(budget: Budget) -> Self {
        Self { budget, partitions: AHashMap::new(), groups: AHashMap::new() }
    }

    /// Takes in one poll; answers which records' own times are needed.
    pub fn step(&mut self, snapshot: &Snapshot, observed: &[Observed], now: Timestamp) -> Vec<Lookup> {
        self.take_partitions(snapshot, now);
        self.take_positions(snapshot, observed, now);
        let mut lookups = Vec::new();
        for ((_, id), group) in &mut self.groups {
            let (Some((position, _)), Some(partition)) = (group.position(), self.partitions.get(id)) else { continue };
            // What retention removed cannot be looked up: the oldest record there is stands for it.
            let offset = position.max(partition.start);
            let needed = offset < partition.end && partition.time_of(offset) == TimeOf::Earlier;
            match &group.looked_up {
                _ if !needed => group.looked_up = None,
                Some((known, Some(_))) if *known == offset => {}
                _ => {
                    group.looked_up = Some((offset, None));
                    lookups.push(Lookup { partition: id.clone(), offset });
                }
            }
        }
        lookups.sort_unstable();
        lookups.dedup();
        lookups
    }

    fn take_partitions(&mut self, snapshot: &Snapshot, now: Timestamp) {
        let mut seen: AHashMap<&PartitionId, ()> = AHashMap::with_capacity(snapshot.partitions.len());
        for offsets in &snapshot.partitions {
            seen.insert(&offsets.id, ());
            let state = self.partitions.entry(offsets.id.clone()).or_insert_with(|| {
                let reserved = self.budget.try_reserve(INDEX_BYTES).ok();
                PartitionState { times: reserved.map(|r| (OffsetTimes::default(), r)), ..PartitionState::default() }
            });
            (state.start, state.end) = (offsets.start, offsets.end);
            if let Some((times, _)) = &mut state.times {
                times.push(now, offsets.end);
            }
        }
        self.partitions.retain(|id, _| seen.contains_key(id));
    }

    fn take_positions(&mut self, snapshot: &Snapshot, observed: &[Observed], now: Timestamp) {
        let mut previous = std::mem::take(&mut self.groups);
        let mut carry = |key: &(Arc<str>, PartitionId)| {
            previous.remove(key).unwrap_or(GroupState {
                committed: None,
                // A commit found at the first poll may be of any age: spans decide.
                committed_changed_at: Timestamp(0),
                observed: None,
                looked_up: None,
            })
        };
        let mut groups: AHashMap<(Arc<str>, PartitionId), GroupState> = AHashMap::new();
        for group in &snapshot.groups {
            for (id, offset) in group.committed.iter().filter(|(id, _)| self.partitions.contains_key(id)) {
                let key = (Arc::clone(&group.group), id.clone());
                let mut state = carry(&key);
                if state.committed.is_some_and(|known| known != *offset) {
                    state.committed_changed_at = now;
                }
                (state.committed, state.observed) = (Some(*offset), None);
                groups.insert(key, state);
            }
        }
        for seen in observed.iter().filter(|o| self.partitions.contains_key(&o.partition)) {
            let key = (Arc::clone(&seen.group), seen.partition.clone());
            let state = groups.entry(key).or_insert_with_key(|key| GroupState { committed: None, ..carry(key) });
            state.observed = Some((seen.position, seen.at));
        }
        self.groups = groups;
    }

    /// Tells the time of a record that [`Self::step`] asked for; `None` when it could not be read.
    pub fn learn(&mut self, lookup: &Lookup, time: Option<Timestamp>) {
        for ((_, id), group) in &mut self.groups {
            if *id == lookup.partition && group.looked_up.is_some_and(|(offset, _)| offset == lookup.offset) {
                group.looked_up = Some((lookup.offset, time));
            }
        }
    }

    /// The lag of each group and partition, sorted.
    pub fn lags(&self, now: Timestamp) -> Vec<PartitionLag> {
        let mut lags: Vec<PartitionLag> = self
            .groups
            .iter()
            .filter_map(|((group, id), state)| {
                let partition = self.partitions.get(id)?;
                let (position, source) = state.position()?;
                let lag = (partition.end - position).max(0);
                let written_at = match partition.time_of(position.max(partition.start)) {
                    TimeOf::At(at) => Some(at),
                    TimeOf::NotYet => Some(now),
                    TimeOf::Earlier => state.looked_up.and_then(|(_, time)| time),
                };
                let age = written_at.map(|at| now.since(at).as_secs_f64());
                Some(PartitionLag {
                    group: Arc::clone(group),
                    topic: Arc::clone(&id.topic),
                    partition: id.partition,
                    lag,
                    lag_seconds: if lag == 0 { Some(0.0) } else { age },
                    position,
                    end_offset: partition.end,
                    source,
                })
            })
            .collect();
        lags.sort_by(|a, b| (&a.group, &a.topic, a.partition).cmp(&(&b.group, &b.topic, b.partition)));
        lags
    }
}

impl PartitionState {
    fn time_of(&self, offset: i64) -> TimeOf {
        match &self.times {
            Some((times, _)) => times.time_of(offset),
            None if offset >= self.end => TimeOf::NotYet,
            None => TimeOf::Earlier,
        }
    }
}

impl GroupState {
    /// The committed offset, unless spans tell of a newer position.
    fn position(&self) -> Option<(i64, Source)> {
        match (self.committed, self.observed) {
            (None, None) => None,
            (Some(committed), None) => Some((committed, Source::Committed)),
            (None, Some((position, _))) => Some((position, Source::Observed)),
            (Some(committed), Some((position, at))) => {
                let changed = self.committed_changed_at;
                let ahead = position > committed && at >= changed.minus(GRACE);
                // Behind its own commit: it replays, which only clearly newer spans may say.
                let replays = position < committed && changed != Timestamp(0) && at > changed.plus(GRACE);
                if ahead || replays { Some((position, Source::Observed)) } else { Some((committed, Source::Committed)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(partition: i32) -> PartitionId {
        PartitionId { topic: "t".into(), partition }
    }

    fn poll(end: i64, committed: Option<i64>) -> Snapshot {
        let committed = committed.map(|offset| (id(0), offset)).into_iter().collect();
        Snapshot {
            partitions: vec![PartitionOffsets { id: id(0), start: 0, end }],
            groups: vec![GroupOffsets { group: "g".into(), n_members: Some(1), committed }],
        }
    }

    fn seen(position: i64, at: i64) -> Observed {
        Observed { group: "g".into(), partition: id(0), position, at: Timestamp(at) }
    }

    /// Polls of (time in s, end, committed), spans before the last, and the wanted
    /// (lag, seconds, source).
    #[track_caller]
    fn check(polls: &[(i64, i64, Option<i64>)], spans: &[Observed], want: Option<(i64, Option<f64>, Source)>) {
        let mut table = LagTable::new(Budget::unlimited());
        for (at, end, committed) in polls {
            let at = Timestamp(at * 1000);
            table.step(&poll(*end, *committed), spans, at);
        }
        let now = Timestamp(polls.last().unwrap().0 * 1000);
        let lags = table.lags(now);
        let got = lags.first().map(|l| (l.lag, l.lag_seconds.map(f64::round), l.source));
        assert_eq!(got, want, "{polls:?} {spans:?}");
    }

    #[test]
    fn a_stopped_consumer_ages_and_an_idle_topic_does_not() {
        use Source::Committed;
        // 10 records a second, stopped at offset 20: the record there was written in second 2 to 3.
        let stopped: Vec<_> = (0..=60).map(|s| (s, s * 10, Some((s * 10).min(20)))).collect();
        check(&stopped, &[], Some((580, Some(58.0), Committed)));
        let idle: Vec<_> = (0..=60).map(|s| (s, 100, Some(100))).collect();
        check(&idle, &[], Some((0, Some(0.0), Committed)));
        // Stopped, then the topic falls silent: what waits goes on ageing.
        let silent: Vec<_> = (0..=60).map(|s| (s, (s * 10).min(50), Some((s * 10).min(20)))).collect();
        check(&silent, &[], Some((30, Some(58.0), Committed)));
        check(&[(0, 10, None)], &[], None);
    }

    #[test]
    fn spans_stand_in_for_commits() {
        use Source::{Committed, Observed};
        let flow = |committed: Option<i64>| (0..=10).map(|s| (s, s * 10, committed)).collect::<Vec<_>>();
        check(&flow(None), &[seen(95, 9500)], Some((5, Some(0.0), Observed)));
        check(&flow(Some(0)), &[seen(95, 9500)], Some((5, Some(0.0), Observed)));
        // Older spans behind the commit say nothing new.
        check(&flow(Some(90)), &[seen(40, 4500)], Some((10, Some(1.0), Committed)));
    }

    #[test]
    fn a_replay_counts_once_spans_are_clearly_newer_than_the_commit() {
        use Source::{Committed, Observed};
        let polls: Vec<_> = (0..=30).map(|s| (s, s * 10, Some((s * 10).min(50)))).collect();
        check(&polls, &[seen(20, 8_000)], Some((250, Some(25.0), Committed)));
        check(&polls, &[seen(20, 29_000)], Some((280, Some(28.0), Observed)));
    }

    #[test]
    fn what_was_written_before_the_first_poll_is_looked_up_once() {
        let mut table = LagTable::new(Budget::unlimited());
        let now = Timestamp(1_000_000);
        let lookups = table.step(&poll(500, Some(100)), &[], now);
        assert_eq!(lookups, [Lookup { partition: id(0), offset: 100 }]);
        assert_eq!(table.lags(now)[0].lag_seconds, None);
        table.learn(&lookups[0], Some(Timestamp(940_000)));
        assert_eq!(table.lags(now)[0].lag_seconds, Some(60.0));
        let later = Timestamp(1_010_000);
        assert!(table.step(&poll(500, Some(100)), &[], later).is_empty(), "known while the position stands");
        assert_eq!(table.lags(later)[0].lag_seconds, Some(70.0));
        assert_eq!(table.step(&poll(500, Some(101)), &[], later).len(), 1);
    }

    #[test]
    fn without_room_for_an_index_every_time_is_looked_up() {
        let mut table = LagTable::new(Budget::root(10));
        for s in 0..5 {
            let lookups = table.step(&poll(10 * s, Some(10)), &[], Timestamp(s * 1000));
            assert_eq!(lookups.len(), usize::from(s > 1));
        }
    }

    #[test]
    fn a_deleted_topic_takes_its_lag_along() {
        let mut table = LagTable::new(Budget::unlimited());
        table.step(&poll(10, Some(1)), &[], Timestamp(1000));
        assert_eq!(table.lags(Timestamp(1000)).len(), 1);
        let gone = Snapshot { partitions: Vec::new(), ..poll(10, Some(1)) };
        table.step(&gone, &[], Timestamp(2000));
        assert!(table.lags(Timestamp(2000)).is_empty());
    }
}
