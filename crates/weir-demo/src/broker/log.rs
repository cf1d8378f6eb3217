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
