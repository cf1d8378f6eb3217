//! Idempotent producers: sequence numbers per producer id, so that a retry is stored once.
//!
//! The last five batches of each producer are remembered, as many as a client may have in flight.
//! Source: Apache Kafka `ProducerStateEntry` and KIP-98.

use std::collections::VecDeque;

use ahash::AHashMap;

use super::batch::{Batch, add_sequence};

const BATCHES_REMEMBERED: usize = 5;
/// Producers remembered per partition; the one silent for longest is forgotten first.
const PRODUCERS_MAX: usize = 4096;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SequenceError {
    #[error("producer {producer} sent sequence {found}, expected {expected}")]
    OutOfOrder { producer: i64, expected: i32, found: i32 },
    #[error("producer {producer} has epoch {current}, the batch has {found}")]
    OldEpoch { producer: i64, current: i16, found: i16 },
}

#[derive(Debug)]
struct Entry {
    epoch: i16,
    /// First and last sequence number and base offset, oldest first; never empty.
    batches: VecDeque<(i32, i32, i64)>,
}

#[derive(Debug, Default)]
pub struct Producers {
    entries: AHashMap<i64, Entry>,
}

impl Producers {
    /// The base offset when this very batch is already stored, `None` when it is the next one.
    pub fn check(&self, batch: &Batch) -> Result<Option<i64>, SequenceError> {
        let producer = batch.producer_id;
        if producer < 0 {
            return Ok(None);
        }
        // A producer unknown here may start anywhere: its older batches may have expired.
        let Some(entry) = self.entries.get(&producer) else { return Ok(None) };
        let found = batch.base_sequence;
        if batch.producer_epoch < entry.epoch {
            return Err(SequenceError::OldEpoch { producer, current: entry.epoch, found: batch.producer_epoch });
        }
        if batch.producer_epoch > entry.epoch {
            return if found == 0 { Ok(None) } else { Err(SequenceError::OutOfOrder { producer, expected: 0, found }) };
        }
        let same = |b: &&(i32, i32, i64)| b.0 == found && b.1 == batch.last_sequence();
        if let Some((_, _, offset)) = entry.batches.iter().find(same) {
            return Ok(Some(*offset));
        }
        let expected = entry.batches.back().map_or(0, |b| add_sequence(b.1, 1));
        if found == expected { Ok(None) } else { Err(SequenceError::OutOfOrder { producer, expected, found }) }
    }

    /// Remembers a batch that was appended.
    pub fn record(&mut self, batch: &Batch) {
        if batch.producer_id < 0 {
            return;
        }
        if self.entries.len() >= PRODUCERS_MAX && !self.entries.contains_key(&batch.producer_id) {
            let newest = |e: &Entry| e.batches.back().map_or(0, |b| b.2);
            if let Some(oldest) = self.entries.iter().min_by_key(|(_, e)| newest(e)).map(|(id, _)| *id) {
                self.entries.remove(&oldest);
            }
        }
        let fresh = || Entry { epoch: batch.producer_epoch, batches: VecDeque::new() };
        let entry = self.entries.entry(batch.producer_id).or_insert_with(fresh);
        if entry.epoch != batch.producer_epoch {
            *entry = fresh();
        }
        if entry.batches.len() == BATCHES_REMEMBERED {
            entry.batches.pop_front();
        }
        entry.batches.push_back((batch.base_sequence, batch.last_sequence(), batch.base_offset));
    }
}
