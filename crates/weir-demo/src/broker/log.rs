//! One partition's log: batches in offset order, bounded in bytes and records.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::batch::{Batch, BatchError};
use super::producers::{Producers, SequenceError};

/// Leader epoch of every partition: a single broker never fails over.
pub const LEADER_EPOCH: i32 = 0;

/// How much a partition keeps; the oldest batches go first, the newest always stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    pub bytes: u64,
    pub records: u64,
}

/// Invariants: batches are adjacent (`last_offset() + 1` is the next `base_offset`), the first begins at
/// `start`, the last ends at `end`; without a batch, `start == end`.
#[derive(Debug)]
pub struct PartitionLog {
    batches: VecDeque<Batch>,
    start: i64,
    end: i64,
    size_bytes: u64,
    retention: Retention,
    producers: Producers,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// The same batch had been appended before; nothing was added now.
    pub duplicate: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub struct OutOfRange {
    pub start: i64,
    pub end: i64,
}

/// What a client asks when it looks for an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    Earliest,
    Latest,
    /// The record with the largest timestamp.
    MaxTimestamp,
    /// The first record at or after this time, in milliseconds.
    At(i64),
}

impl PartitionLog {
    pub fn new(retention: Retention) -> Self {
        Self { batches: VecDeque::new(), start: 0, end: 0, size_bytes: 0, retention, producers: Producers::default() }
    }
    pub fn start(&self) -> i64 {
        self.start
    }
    /// High watermark and last stable offset as well: there are neither replicas nor transactions.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Appends one batch, or finds it stored already (a producer's retry).
    pub fn append(&mut self, batch: &Batch) -> Result<Appended, SequenceError> {
        if let Some(base_offset) = self.producers.check(batch)? {
            return Ok(Appended { base_offset, duplicate: true });
        }
        let placed = batch.placed_at(self.end, LEADER_EPOCH);
        let base_offset = placed.base_offset;
        self.producers.record(&placed);
        self.end = placed.last_offset() + 1;
        self.size_bytes += placed.bytes.len() as u64;
        self.batches.push_back(placed);
        self.expire();
        Ok(Appended { base_offset, duplicate: false })
    }

    fn expire(&mut self) {
        while self.batches.len() > 1
            && (self.size_bytes > self.retention.bytes || (self.end - self.start) as u64 > self.retention.records)
            && let Some(oldest) = self.batches.pop_front()
        {
            self.size_bytes -= oldest.bytes.len() as u64;
            self.start = oldest.last_offset() + 1;
        }
    }

    /// Bytes that a read from `offset` could return, up to `limit`.
    pub fn readable(&self, offset: i64, limit: usize) -> usize {
        let mut sum = 0;
        for batch in self.batches.range(self.first_at(offset)..) {
            sum += batch.bytes.len();
            if sum >= limit {
                break;
            }
        }
        sum
    }

    /// Whole batches from the one that holds `offset`, at most `bytes_max`; with `at_least_one` the first
    /// is returned whatever its size. Empty at the end of the log.
    pub fn read(&self, offset: i64, bytes_max: usize, at_least_one: bool) -> Result<Bytes, OutOfRange> {
        if offset < self.start || offset > self.end {
            return Err(OutOfRange { start: self.start, end: self.end });
        }
        let first = self.first_at(offset);
        let (mut len, mut n) = (0, 0);
        for batch in self.batches.range(first..) {
            if len + batch.bytes.len() > bytes_max && !(n == 0 && at_least_one) {
                break;
            }
            len += batch.bytes.len();
            n += 1;
        }
        if n == 1 {
            return Ok(self.batches[first].bytes.clone());
        }
        let mut out = BytesMut::with_capacity(len);
        for batch in self.batches.range(first..first + n) {
            out.extend_from_slice(&batch.bytes);
        }
        Ok(out.freeze())
    }

    fn first_at(&self, offset: i64) -> usize {
        self.batches.partition_point(|b| b.last_offset() < offset)
    }

    /// Offset and timestamp; a timestamp of -1 stands for none. `None` when no record fits.
    pub fn lookup(&self, lookup: Lookup) -> Result<Option<(i64, i64)>, BatchError> {
        match lookup {
            Lookup::Earliest => Ok(Some((self.start, -1))),
            Lookup::Latest => Ok(Some((self.end, -1))),
            Lookup::At(time) => {
                let Some(batch) = self.batches.iter().find(|b| b.max_timestamp >= time) else { return Ok(None) };
                Ok(batch.record_times()?.into_iter().find(|(_, t)| *t >= time))
            }
            Lookup::MaxTimestamp => {
                let Some(newest) = self.batches.iter().map(|b| b.max_timestamp).max() else { return Ok(None) };
                let Some(batch) = self.batches.iter().find(|b| b.max_timestamp == newest) else { return Ok(None) };
                Ok(batch.record_times()?.into_iter().find(|(_, t)| *t == newest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::broker::batch::testing::batch;
    use crate::broker::batch::{HEADER_BYTES, read_first};

    const ROOMY: Retention = Retention { bytes: u64::MAX, records: u64::MAX };

    /// Base offsets and record counts of adjacent batches.
    fn bases(mut bytes: Bytes) -> Vec<(i64, i32)> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let batch = read_first(&bytes).unwrap();
            let _taken = bytes.split_to(batch.bytes.len());
            all.push((batch.base_offset, batch.n_records));
        }
        all
    }

    #[test]
    fn reads_begin_with_the_batch_that_holds_the_offset() {
        let mut log = PartitionLog::new(ROOMY);
        for n in [3, 1, 4] {
            log.append(&batch(&vec![0; n])).unwrap();
        }
        for (offset, want) in
            [(0, vec![(0, 3), (3, 1), (4, 4)]), (2, vec![(0, 3), (3, 1), (4, 4)]), (5, vec![(4, 4)]), (8, vec![])]
        {
            assert_eq!(bases(log.read(offset, usize::MAX, false).unwrap()), want, "from {offset}");
        }
        assert_eq!(log.read(9, 100, true), Err(OutOfRange { start: 0, end: 8 }));
        assert_eq!(log.read(-1, 100, true), Err(OutOfRange { start: 0, end: 8 }));
        assert_eq!(bases(log.read(0, 1, true).unwrap()), [(0, 3)], "a batch over the limit still makes progress");
        assert!(log.read(0, 1, false).unwrap().is_empty());
    }

    #[test]
    fn retention_drops_whole_batches_and_keeps_the_newest() {
        let mut log = PartitionLog::new(Retention { bytes: u64::MAX, records: 5 });
        for _ in 0..4 {
            log.append(&batch(&[0, 0])).unwrap();
        }
        assert_eq!((log.start(), log.end()), (4, 8));
        log.append(&batch(&[0; 9])).unwrap();
        assert_eq!((log.start(), log.end()), (8, 17));
        assert!(log.read(4, 100, true).is_err());
    }

    #[test]
    fn a_retried_batch_is_stored_once() {
        let mut log = PartitionLog::new(ROOMY);
        let with = |sequence: i32, epoch: i16, n: usize| {
            let mut made = batch(&vec![0; n]);
            (made.producer_id, made.producer_epoch, made.base_sequence) = (7, epoch, sequence);
            made
        };
        let stored = |base_offset, duplicate| Ok(Appended { base_offset, duplicate });
        assert_eq!(log.append(&with(0, 0, 2)), stored(0, false));
        assert_eq!(log.append(&with(2, 0, 3)), stored(2, false));
        assert_eq!(log.append(&with(0, 0, 2)), stored(0, true));
        assert_eq!(log.append(&with(2, 0, 3)), stored(2, true));
        let gap = SequenceError::OutOfOrder { producer: 7, expected: 5, found: 6 };
        assert_eq!(log.append(&with(6, 0, 1)), Err(gap));
        assert_eq!(log.append(&with(0, 1, 1)), stored(5, false));
        let old = SequenceError::OldEpoch { producer: 7, current: 1, found: 0 };
        assert_eq!(log.append(&with(5, 0, 1)), Err(old));
        assert_eq!(log.end(), 6);
    }

    #[test]
    fn times_are_found_inside_batches() {
        let mut log = PartitionLog::new(ROOMY);
        log.append(&batch(&[100, 90, 110])).unwrap();
        log.append(&batch(&[300, 200])).unwrap();
        for (at, want) in [(0, Some((0, 100))), (101, Some((2, 110))), (111, Some((3, 300))), (301, None)] {
            assert_eq!(log.lookup(Lookup::At(at)).unwrap(), want, "at {at}");
        }
        assert_eq!(log.lookup(Lookup::MaxTimestamp).unwrap(), Some((3, 300)));
        assert_eq!(log.lookup(Lookup::Earliest).unwrap(), Some((0, -1)));
        assert_eq!(log.lookup(Lookup::Latest).unwrap(), Some((5, -1)));
        assert_eq!(PartitionLog::new(ROOMY).lookup(Lookup::MaxTimestamp).unwrap(), None);
    }

    proptest! {
        /// Against a plain list of records: offsets are dense, reads are exact, time look-ups agree.
        #[test]
        fn the_log_agrees_with_a_list(
            batches in proptest::collection::vec(proptest::collection::vec(0i64..1000, 1..6), 1..40),
            keep in 1u64..60,
            asked in 0i64..1000,
        ) {
            let mut log = PartitionLog::new(Retention { bytes: u64::MAX, records: keep });
            let mut list: Vec<i64> = Vec::new();
            for times in &batches {
                let appended = log.append(&batch(times)).unwrap();
                prop_assert_eq!(appended, Appended { base_offset: list.len() as i64, duplicate: false });
                list.extend(times);
                prop_assert_eq!(log.end(), list.len() as i64);
                let kept = (log.end() - log.start()) as u64;
                prop_assert!(kept <= keep || kept == times.len() as u64);
            }
            let start = log.start() as usize;
            let found = list.iter().enumerate().skip(start).find(|(_, t)| **t >= asked);
            prop_assert_eq!(log.lookup(Lookup::At(asked)).unwrap(), found.map(|(o, t)| (o as i64, *t)));
            for offset in log.start()..=log.end() {
                let read = bases(log.read(offset, usize::MAX, true).unwrap());
                let mut next = read.first().map_or(log.end(), |b| b.0);
                prop_assert!(next <= offset && read.first().is_none_or(|b| offset < b.0 + i64::from(b.1)));
                for (base, n) in read {
                    prop_assert_eq!(base, next);
                    next += i64::from(n);
                }
                prop_assert_eq!(next, log.end());
                let limit = HEADER_BYTES * 3;
                let some = log.read(offset, limit, false).unwrap();
                prop_assert!(some.len() <= limit);
                prop_assert!(log.readable(offset, limit) >= some.len());
            }
        }
    }
}
