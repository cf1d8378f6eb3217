//! [`Ingest`]: from decoded batches to the stores, with accounts kept on the way.

mod known;
mod logs;
mod metrics;
mod remote;
mod spans;

pub use remote::{RemoteCounts, RemoteError, RemoteRequest, RemoteWritten};

use std::sync::{Arc, OnceLock};

use weir_model::entity::{Aliases, EntityTable};
use weir_model::sink::{LogSink, MetricSink, Outcome, Refused, SeriesSink, SpanSink, WriteError};
use weir_model::usage::{Amount, Signal, Usage};
use weir_model::{Clock, CommitFeed, EntityRefs, TenantId, Timestamp};

use crate::cache::LabelCache;
use crate::cardinality::Gate;
use crate::contract::LogContracts;
use crate::decoded::refuse;
use crate::known_series::SeriesTable;
use crate::limits::Limits;
use crate::metrics::IngestMetrics;
use crate::otlp::{DeltaState, SpanCache};
use crate::pipelines::OtlpPipelines;
use crate::redact::Redactor;
use crate::sampling::LogSampler;
use crate::sender::{SenderRef, SenderTable};
use known::Known;

/// Everything that [`Ingest`] writes to and reads from.
pub struct IngestOptions {
    pub clock: Arc<dyn Clock>,
    pub metrics: Arc<dyn MetricSink>,
    /// The same store where it knows series by number. Without it remote write is refused.
    pub series: Option<Arc<dyn SeriesSink>>,
    pub logs: Arc<dyn LogSink>,
    pub spans: Arc<dyn SpanSink>,
    pub feed: Arc<CommitFeed>,
    pub usage: Arc<Usage>,
    pub entities: Arc<EntityTable>,
    pub aliases: Aliases,
    pub limits: Limits,
}

/// The way in for every signal, whatever the protocol.
///
/// Each `write_*` drops what breaks a limit, appends the rest, notes entities, usage and the sender,
/// and publishes the commit. An error means that nothing was stored and the sender should try again.
pub struct Ingest {
    to: IngestOptions,
    known: Known,
    subjects: spans::Subjects,
    /// Series seen before, by the raw bytes of their labels.
    series: SeriesTable,
    scratch: remote::ScratchPool,
    senders: SenderTable,
    own: IngestMetrics,
    pipelines: OnceLock<Arc<dyn OtlpPipelines>>,
    redactor: OnceLock<Redactor>,
    gate: OnceLock<Arc<Gate>>,
    sampler: OnceLock<LogSampler>,
    contracts: LogContracts,
    /// Label sets of series seen before.
    pub series_cache: LabelCache,
    /// Label sets of log streams seen before.
    pub stream_cache: LabelCache,
    /// Texts of spans seen before.
    pub span_cache: SpanCache,
    /// Running sums of OTLP's delta series.
    pub deltas: DeltaState,
}

impl Ingest {
    pub fn new(to: IngestOptions) -> Self {
        Self {
            series_cache: LabelCache::new(to.limits.series_labels),
            stream_cache: LabelCache::new(to.limits.stream_labels),
            span_cache: SpanCache::default(),
            deltas: DeltaState::default(),
            known: Known::default(),
            subjects: spans::Subjects::new(&to.aliases),
            series: SeriesTable::default(),
            scratch: remote::ScratchPool::default(),
            senders: SenderTable::default(),
            own: IngestMetrics::default(),
            pipelines: OnceLock::new(),
            redactor: OnceLock::new(),
            gate: OnceLock::new(),
            sampler: OnceLock::new(),
            contracts: LogContracts::default(),
            to,
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.to.limits
    }
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.to.clock
    }
    pub fn senders(&self) -> &SenderTable {
        &self.senders
    }
    pub fn entities(&self) -> &Arc<EntityTable> {
        &self.to.entities
    }
    pub fn aliases(&self) -> &Aliases {
        &self.to.aliases
    }
    /// What log lines carry, by service.
    pub fn log_contracts(&self) -> &LogContracts {
        &self.contracts
    }
    pub fn metrics(&self) -> &IngestMetrics {
        &self.own
    }

    /// From now on requests of OTLP go through these. The first that are given stay.
    pub fn use_pipelines(&self, pipelines: Arc<dyn OtlpPipelines>) {
        let _ = self.pipelines.set(pipelines);
    }

    /// From now on this is taken out of logs and spans. The first that is given stays.
    pub fn use_redactor(&self, redactor: Redactor) {
        let _ = self.redactor.set(redactor);
    }

    /// For requests that go elsewhere before they come back to `write_*`.
    pub fn redactor(&self) -> Option<&Redactor> {
        self.redactor.get()
    }

    /// From now on lines of chatty services are thinned out. The first sampler that is given stays.
    pub fn use_sampler(&self, sampler: LogSampler) {
        let _ = self.sampler.set(sampler);
    }

    /// From now on new series are held against budgets. The first gate that is given stays.
    pub fn use_gate(&self, gate: Arc<Gate>) {
        let _ = self.gate.set(gate);
    }

    /// The gate, while it does anything to a series.
    fn gate(&self) -> Option<&Gate> {
        self.gate.get().map(|gate| &**gate).filter(|gate| gate.is_enforcing())
    }

    /// Where requests of OTLP with this signal go instead of being stored at once.
    pub fn pipelines(&self, signal: Signal) -> Option<&dyn OtlpPipelines> {
        self.pipelines.get().map(|p| &**p).filter(|p| p.takes(signal))
    }

    /// Counts a request that could not be read at all.
    pub fn note_undecodable(&self, tenant: &TenantId, sender: &SenderRef, refused: Refused) {
        self.senders.note(tenant, sender, self.to.clock.now(), Amount::default(), &[refused]);
    }

    /// What can be neither earlier nor later: the newest time that is taken.
    fn newest_allowed(&self) -> Timestamp {
        self.to.clock.now().plus(self.to.limits.future)
    }

    fn settle(
        &self,
        signal: Signal,
        tenant: &TenantId,
        sender: &SenderRef,
        stored: Result<Outcome, WriteError>,
        refused: Vec<Refused>,
        bytes: u64,
    ) -> Result<Outcome, WriteError> {
        let mut outcome = match stored {
            Ok(outcome) => outcome,
            Err(error) => {
                self.own.failed(signal);
                let failed =
                    Refused { reason: weir_model::sink::RefusedReason::Limit, example: error.to_string(), count: 1 };
                self.senders.note(tenant, sender, self.to.clock.now(), Amount::default(), &[failed]);
                return Err(error);
            }
        };
        for part in refused {
            refuse(&mut outcome.refused, part.reason, part.count, || part.example);
        }
        let accepted = Amount { items: outcome.accepted, bytes };
        self.own.accepted(signal, accepted);
        self.own.refused(signal, &outcome.refused);
        self.senders.note(tenant, sender, self.to.clock.now(), accepted, &outcome.refused);
        Ok(outcome)
    }

    fn count_usage(&self, signal: Signal, tenant: &TenantId, rows: &[(Arc<EntityRefs>, Amount)]) {
        for (refs, amount) in rows {
            let namespace = refs.namespace.as_deref().unwrap_or("");
            self.to.usage.add(signal, tenant, namespace, refs.emitter.as_deref().unwrap_or(""), *amount);
        }
    }
}

/// Adds to the row of `refs`; batches hold few different ones, mostly in runs.
fn add_amount(rows: &mut Vec<(Arc<EntityRefs>, Amount)>, refs: &Arc<EntityRefs>, amount: Amount) {
    let same = |known: &EntityRefs| known.emitter == refs.emitter && known.namespace == refs.namespace;
    let row = match rows.iter().rposition(|(known, _)| Arc::ptr_eq(known, refs) || same(known)) {
        Some(idx) => &mut rows[idx].1,
        None => {
            rows.push((refs.clone(), Amount::default()));
            &mut rows.last_mut().expect("just pushed").1
        }
    };
    row.items += amount.items;
    row.bytes += amount.bytes;
}
