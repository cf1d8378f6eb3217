//! `tail_sampling`: whole traces are kept or dropped once their spans had time to come.
//!
//! [`TailSampling::offer`] takes the spans of a request, [`TailSampling::tick`] gives the traces that are decided,
//! and [`TailSampling::settle`] says that those were handed on. What waits is in a write-ahead log before it is
//! acknowledged and leaves it after it was settled, so that a crash between loses none: a trace that was handed on
//! and not settled is handed on again.

mod bucket;
mod cache;
mod config;
mod journal;
mod machine;
mod policy;
mod trace;

pub use bucket::Bucket;
pub use config::TailSamplingConfig;
pub use journal::{Record, RecordError, decode as decode_record};
pub use machine::{TailStats, WEIGHT};
pub use policy::{Composite, Policy, Rule, Vote};

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use parking_lot::Mutex;
use weir_model::budget::BudgetExceeded;
use weir_model::sink::WriteError;
use weir_model::{Budget, Nanos, TenantId, TraceId};
use weir_wal::{Dir, LogError, SyncMode};

use journal::Journal;
use machine::{Decided, Machine};

/// Traces decided at one go, so that what waits to be handed on stays small.
const DECIDED_MAX: usize = 2_000;

#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    #[error("traces cannot wait for their decision: {0}")]
    Log(#[from] LogError),
}

impl From<TailError> for WriteError {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Budget(full) => Self::Budget(full),
            TailError::Log(error) if error.is_full() => Self::Full(error.to_string()),
            TailError::Log(error) => Self::Storage(error.to_string()),
        }
    }
}

/// Traces decided together, of one tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub tenant: TenantId,
    /// Of those that are kept.
    pub spans: Vec<ResourceSpans>,
    traces: Vec<(TraceId, bool)>,
    segment: u64,
}

impl Batch {
    pub fn n_traces(&self) -> usize {
        self.traces.len()
    }
}

/// One `tail_sampling` processor.
pub struct TailSampling {
    machine: Mutex<Machine>,
    journal: Journal,
    /// Segments of batches that were given out and not settled.
    unsettled: Mutex<Vec<u64>>,
    /// Batches that could not be handed on.
    later: Mutex<Vec<Batch>>,
}

impl TailSampling {
    /// With what waited before a restart. `folder`: of this processor alone.
    pub fn open(
        config: TailSamplingConfig,
        budget: &Budget,
        dir: Arc<dyn Dir>,
        folder: &str,
        sync: SyncMode,
    ) -> Result<Self, TailError> {
        let (journal, damage) = Journal::open(dir, folder, sync)?;
        for damage in damage {
            tracing::error!(%damage, "traces that wait for their decision: the log is damaged");
        }
        let mut machine = Machine::new(config, budget)?;
        for record in journal.records() {
            match record {
                Ok((segment, Record::Spans { tenant, received, groups })) => {
                    let grant = machine.reserve(&groups)?;
                    machine.hold(&tenant, groups, received, segment, grant);
                }
                Ok((_, Record::Decisions { tenant, traces })) => {
                    traces.iter().for_each(|(id, is_sampled)| machine.restore_decision(&tenant, *id, *is_sampled));
                }
                Err(error) => tracing::error!(error, "traces that wait for their decision: a record is lost"),
            }
        }
        Ok(Self { machine: Mutex::new(machine), journal, unsettled: Mutex::default(), later: Mutex::default() })
    }

    /// Holds spans whose trace is not decided, drops those of traces that are not kept, and answers those of traces
    /// that are. Not to be acknowledged before it returns: it waits for the disk.
    pub fn offer(
        &self,
        tenant: &TenantId,
        groups: Vec<ResourceSpans>,
        now: Nanos,
    ) -> Result<Vec<ResourceSpans>, TailError> {
        let mut machine = self.machine.lock();
        let sorted = machine.sort(tenant, groups);
        if sorted.hold.is_empty() {
            return Ok(sorted.forward);
        }
        let grant = machine.reserve(&sorted.hold)?;
        let end = match self.journal.append_spans(tenant, now, &sorted.hold) {
            Ok(end) => end,
            Err(error) => {
                machine.give_back(grant);
                return Err(error.into());
            }
        };
        // In memory before it is durable: a failed sync makes the sender try again, and the spans come twice.
        machine.hold(tenant, sorted.hold, now, end.segment, grant);
        drop(machine);
        self.journal.sync_to(end)?;
        Ok(sorted.forward)
    }

    /// Decides what is due, a part at a time: to be called again while it answers something.
    pub fn tick(&self, now: Nanos) -> Vec<Batch> {
        if let Err(error) = self.journal.tick(now) {
            tracing::warn!(%error, "traces that wait for their decision: the log could not be synced");
        }
        let later = std::mem::take(&mut *self.later.lock());
        if !later.is_empty() {
            return later;
        }
        let decided = self.machine.lock().tick(now, DECIDED_MAX);
        let mut batches: Vec<Batch> = Vec::new();
        for Decided { tenant, trace, is_sampled, spans, segment } in decided {
            let k = match batches.iter().position(|b| b.tenant == tenant) {
                Some(k) => k,
                None => {
                    batches.push(Batch { tenant, spans: Vec::new(), traces: Vec::new(), segment });
                    batches.len() - 1
                }
            };
            batches[k].spans.extend(spans);
            batches[k].traces.push((trace, is_sampled));
            batches[k].segment = batches[k].segment.min(segment);
        }
        self.unsettled.lock().extend(batches.iter().map(|b| b.segment));
        batches
    }

    /// A batch that could not be handed on: the next [`TailSampling::tick`] gives it again, and nothing else.
    pub fn keep_for_later(&self, batch: Batch) {
        self.later.lock().push(batch);
    }

    /// Notes that a batch was handed on, after which a restart does not decide it again.
    pub fn settle(&self, batch: &Batch) -> Result<(), TailError> {
        let noted = self.journal.append_decisions(&batch.tenant, &batch.traces);
        let mut unsettled = self.unsettled.lock();
        if let Some(k) = unsettled.iter().position(|segment| *segment == batch.segment) {
            unsettled.swap_remove(k);
        }
        let first = unsettled.iter().copied().min();
        drop(unsettled);
        noted?;
        // Under the lock, so that no frame is appended between the look and the cut.
        let machine = self.machine.lock();
        let first = first.into_iter().chain(machine.first_segment()).min();
        Ok(self.journal.truncate(first)?)
    }

    pub fn stats(&self) -> TailStats {
        self.machine.lock().stats()
    }
}

#[cfg(test)]
mod tests;
