//! Bringing back what the log holds.

use std::sync::atomic::Ordering;

use weir_model::TenantId;
use weir_model::sink::{MetricBatch, RawRequest, WriteError};
use weir_wal::{Frame, Position, Replayed};

use super::{MetricStore, MetricStoreError};
use crate::frame::{self, BATCH};

/// What a start found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub blocks: u64,
    /// Taken back from the log.
    pub writes: u64,
    /// Stretches of the log and writes that could not be read; each was reported.
    pub damaged: u64,
}

/// A write that the log held.
#[derive(Clone, Copy, Debug)]
pub enum Logged<'a> {
    /// A request as it came, to be decoded and appended by whoever knows its kind.
    Request(RawRequest<'a>),
    /// A batch that is back in memory already.
    Batch(&'a MetricBatch),
}

/// Why a write is not back.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{0}")]
    Unreadable(String),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Appends what is handed to it.
pub type Apply<'a> = &'a mut dyn FnMut(&TenantId, Logged<'_>) -> Result<(), ReplayError>;

impl MetricStore {
    /// Brings back everything that was acknowledged and is in no block, before anything is written. `apply` appends
    /// requests through [`weir_model::sink::SeriesSink::append_columns`] without their raw form.
    pub fn replay(&self, apply: Apply<'_>) -> Result<Recovered, MetricStoreError> {
        let blocks = self.store.blocks.manifest().blocks.len() as u64;
        let mut recovered = Recovered { blocks, ..Recovered::default() };
        let mut before = self.store.blocks.covered();
        for replayed in self.log.replay(before) {
            match replayed? {
                Replayed::Damage(damage) => {
                    tracing::error!(%damage, "a stretch of the metrics' write-ahead log is lost");
                    recovered.damaged += 1;
                }
                Replayed::Frame(found) => {
                    match self.take_back_with_room(&found, before, apply)? {
                        Ok(()) => recovered.writes += 1,
                        Err(error) => {
                            tracing::error!(%error, end = ?found.end, "a write in the metrics' log cannot be read");
                            recovered.damaged += 1;
                        }
                    }
                    before = found.end;
                }
            }
        }
        self.is_ready.store(true, Ordering::Release);
        Ok(recovered)
    }

    /// More than there is memory for was taken before the restart too, with cuts in between. Without room for them
    /// the start fails, and the log stays as it is.
    fn take_back_with_room(
        &self,
        found: &Frame,
        before: Position,
        apply: Apply<'_>,
    ) -> Result<Result<(), ReplayError>, MetricStoreError> {
        let first = self.take_back(found, apply);
        let taken = if let Err(ReplayError::Write(WriteError::Budget(_))) = first {
            self.cut_alone(&mut self.cutting.lock(), Some(before))?;
            self.take_back(found, apply)
        } else {
            first
        };
        match taken {
            Err(ReplayError::Write(error)) => Err(MetricStoreError::Replay(error)),
            other => Ok(other),
        }
    }

    fn take_back(&self, found: &Frame, apply: Apply<'_>) -> Result<(), ReplayError> {
        let unreadable = |error: crate::chunk::ChunkError| ReplayError::Unreadable(error.to_string());
        let (tenant, received, body) = frame::split(&found.payload).map_err(unreadable)?;
        if found.kind != BATCH {
            return apply(&tenant, Logged::Request(RawRequest { kind: found.kind, received, body }));
        }
        let batch = frame::decode_batch(body).map_err(unreadable)?;
        let n_samples: usize = batch.series.iter().map(|s| s.n_samples()).sum();
        self.head().restore_batch(&tenant, &batch)?;
        self.unsaved.add(n_samples as u64, self.clock.now());
        apply(&tenant, Logged::Batch(&batch))
    }
}
