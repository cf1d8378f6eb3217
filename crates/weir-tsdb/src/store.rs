//! The metrics store that lasts: a write-ahead log before every acknowledgement, the head in memory.

use std::sync::Arc;

use weir_model::sink::{
    ColumnsOutcome, LogMark, MetricBatch, MetricSink, Outcome, RawRequest, SampleColumns, SeriesRef, SeriesSink,
    WriteError,
};
use weir_model::source::{BoxFuture, MetricCursor, MetricFragment, MetricSource, ReadContext, ReadError};
use weir_model::{Budget, Clock, Exemplar, Labels, Matcher, MetricMetadata, TenantId, TimeRange};
use weir_wal::{Dir, Log, LogError, LogOptions, LogStats, Position, Replayed};

use crate::Head;
use crate::frame::{self, BATCH};

const WAL: &str = "metrics/wal";

#[derive(Clone, Debug, Default)]
pub struct MetricStoreOptions {
    /// At its cap, the oldest segments are dropped.
    pub wal: LogOptions,
}

/// Metrics of all tenants. A write is on disk when it is acknowledged, and is there again after a restart.
///
/// It starts no thread and reads no clock but its own: call [`MetricStore::maintain`] every second or so.
pub struct MetricStore {
    head: Head,
    log: Log,
    clock: Arc<dyn Clock>,
}

/// What a start found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
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

fn write_error(error: &LogError) -> WriteError {
    if error.is_full() { WriteError::Full(error.to_string()) } else { WriteError::Storage(error.to_string()) }
}

impl MetricStore {
    /// Opens the store in `dir`, makes it if there is none; [`MetricStore::replay`] then brings back what it held.
    pub fn open(
        dir: Arc<dyn Dir>,
        budget: &Budget,
        clock: Arc<dyn Clock>,
        options: MetricStoreOptions,
    ) -> Result<Self, LogError> {
        let (log, damage) = Log::open(dir, WAL, Position::START, options.wal)?;
        damage.iter().for_each(|d| tracing::warn!(damage = %d, "metrics' write-ahead log repaired"));
        Ok(Self { head: Head::new(budget), log, clock })
    }

    /// Brings back everything that was acknowledged, before anything is written. `apply` appends requests
    /// through [`SeriesSink::append_columns`] without their raw form; an error of it tells why one cannot be read.
    pub fn replay(
        &self,
        apply: &mut dyn FnMut(&TenantId, Logged<'_>) -> Result<(), String>,
    ) -> Result<Recovered, LogError> {
        let mut recovered = Recovered::default();
        for replayed in self.log.replay(Position::START) {
            match replayed? {
                Replayed::Damage(damage) => {
                    tracing::error!(%damage, "a stretch of the metrics' write-ahead log is lost");
                    recovered.damaged += 1;
                }
                Replayed::Frame(found) => match self.take_back(found.kind, &found.payload, apply) {
                    Ok(()) => recovered.writes += 1,
                    Err(error) => {
                        tracing::error!(error, end = ?found.end, "a write in the metrics' log cannot be read");
                        recovered.damaged += 1;
                    }
                },
            }
        }
        Ok(recovered)
    }

    fn take_back(
        &self,
        kind: u8,
        payload: &[u8],
        apply: &mut dyn FnMut(&TenantId, Logged<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let (tenant, received, body) = frame::split(payload).map_err(|e| e.to_string())?;
        if kind != BATCH {
            return apply(&tenant, Logged::Request(RawRequest { kind, received, body }));
        }
        let batch = frame::decode_batch(body).map_err(|e| e.to_string())?;
        self.head.append_batch(&tenant, &batch).map_err(|e| e.to_string())?;
        apply(&tenant, Logged::Batch(&batch))
    }

    /// What is due at this time: the log's interval and repair, its cap. Meant for every second.
    pub fn maintain(&self) -> Result<(), LogError> {
        self.log.tick(self.clock.now_nanos())?;
        if !self.log.wants_cut() {
            return Ok(());
        }
        // Segments from the oldest on; the newest is being written to.
        let (last, n_segments) = (self.log.end().segment, self.log.stats().segments);
        for kept in (1..n_segments).rev() {
            self.log.truncate_before(Position { segment: last.saturating_sub(kept), offset: 0 })?;
            if !self.log.wants_cut() {
                break;
            }
        }
        Ok(())
    }

    /// Number of series held, over all tenants.
    pub fn n_series(&self) -> usize {
        self.head.n_series()
    }

    pub fn log_stats(&self) -> LogStats {
        self.log.stats()
    }
}

impl MetricSink for MetricStore {
    /// Returns when the batch is on disk.
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        let mut bytes = frame::head(tenant, self.clock.now());
        frame::encode_batch(batch, &mut bytes);
        let end = self.log.append(BATCH, &[&bytes]).map_err(|e| write_error(&e))?;
        let outcome = self.head.append_batch(tenant, batch)?;
        self.log.sync_to(end).map_err(|e| write_error(&e))?;
        Ok(outcome)
    }
}

impl SeriesSink for MetricStore {
    fn register(&self, tenant: &TenantId, labels: &[(&str, &str)]) -> Result<(SeriesRef, Labels), WriteError> {
        self.head.register(tenant, labels)
    }

    fn labels(&self, tenant: &TenantId, series: SeriesRef) -> Option<Labels> {
        self.head.labels(tenant, series)
    }

    fn append_columns(
        &self,
        tenant: &TenantId,
        raw: Option<RawRequest<'_>>,
        columns: &SampleColumns,
        rest: &MetricBatch,
    ) -> Result<ColumnsOutcome, WriteError> {
        let Some(raw) = raw else { return self.head.append_columns(tenant, None, columns, rest) };
        let head = frame::head(tenant, raw.received);
        let end = self.log.append(raw.kind, &[&head, raw.body]).map_err(|e| write_error(&e))?;
        let done = self.head.append_columns(tenant, None, columns, rest)?;
        Ok(ColumnsOutcome { mark: Some(LogMark(end.segment, end.offset)), ..done })
    }

    fn sync(&self, mark: LogMark) -> Result<(), WriteError> {
        self.log.sync_to(Position { segment: mark.0, offset: mark.1 }).map_err(|e| write_error(&e))
    }
}

impl MetricSource for MetricStore {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        self.head.open(tenant, fragment, context)
    }

    fn label_names<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        self.head.label_names(tenant, matchers, range)
    }

    fn label_values<'a>(
        &'a self,
        tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        self.head.label_values(tenant, name, matchers, range)
    }

    fn metadata<'a>(
        &'a self,
        tenant: &'a TenantId,
        family: &'a str,
    ) -> BoxFuture<'a, Result<Vec<MetricMetadata>, ReadError>> {
        self.head.metadata(tenant, family)
    }

    fn exemplars<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Vec<Exemplar>)>, ReadError>> {
        self.head.exemplars(tenant, matchers, range)
    }
}
