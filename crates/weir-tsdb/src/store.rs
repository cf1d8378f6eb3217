//! The metrics store that lasts: a write-ahead log before every acknowledgement, the head in memory, blocks on disk.
//!
//! A cut rolls the log at a moment when memory holds exactly what the log does, sets aside what the head has,
//! writes it to blocks, and swaps the manifest, which names the place in the log that the blocks cover; only then
//! memory and log forget it. A crash at any byte leaves the manifest before or the one after.

mod admin;
mod replay;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use weir_model::sink::{
    ColumnsOutcome, LogMark, MetricBatch, MetricSink, Outcome, RawRequest, SampleColumns, SeriesRef, SeriesSink,
    WriteError,
};
use weir_model::source::{BoxFuture, Cancel, MetricCursor, MetricFragment, MetricSource, ReadContext, ReadError};
use weir_model::{Budget, Clock, Exemplar, Labels, Matcher, MetricMetadata, TenantId, TimeRange, Timestamp};
use weir_wal::{Dir, Log, LogError, LogOptions, Position};

use crate::block::{BlockError, BlockMeta, Blocks, BlocksOptions, HeadAndBlocks};
use crate::frame::{self, BATCH};
use crate::head::{Frozen, Head, WhenFull};

pub use replay::{Logged, Recovered, ReplayError};

const WAL: &str = "metrics/wal";
const BLOCKS: &str = "metrics/blocks";
const SNAPSHOTS: &str = "metrics/snapshots";

/// A cut is due when series have so many samples each on the average: with fewer, a block is mostly labels.
const SAMPLES_PER_SERIES: u64 = 100;
/// So many are enough when memory is short.
const SAMPLES_PER_SERIES_PRESSED: u64 = 8;
/// But not for less than this in the log.
const LOG_BYTES_MIN: u64 = 16 << 20;
/// And when the oldest write that is in no block is as old as a window of blocks.
const AGE_MAX: Duration = Duration::from_secs(2 * 3600);
/// A series without a sample between two cuts is forgotten when they are so far apart.
const IDLE_AFTER: Duration = Duration::from_secs(600);
/// After a cut that failed, for want of room mostly.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Two cuts for want of memory are this far apart, as the second would find little.
const PRESSED_AFTER: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Default)]
pub struct MetricStoreOptions {
    pub wal: LogOptions,
    pub blocks: BlocksOptions,
    /// Raw blocks whose newest sample is older than this are deleted; `None` keeps all.
    pub retention: Option<Duration>,
}

#[derive(Debug, thiserror::Error)]
pub enum MetricStoreError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error("the metrics' write-ahead log is not read back yet")]
    NotReady,
    #[error("a query still reads what the last cut wrote to blocks; try again when it has ended")]
    Reading,
    #[error("what the metrics' write-ahead log holds cannot be taken back: {0}")]
    Replay(#[source] WriteError),
}

/// Metrics of all tenants. A write is on disk when it is acknowledged, and is there again after a restart.
///
/// It starts no thread and reads no clock but its own: call [`MetricStore::maintain`] and
/// [`MetricStore::compact_next`] every second or so.
pub struct MetricStore {
    /// What queries read.
    store: HeadAndBlocks,
    log: Log,
    clock: Arc<dyn Clock>,
    retention: Option<Duration>,
    /// Of the head's memory; beyond three quarters a cut is due.
    budget: Budget,
    /// Held shared while a frame and the memory it describes change, alone while a cut is placed.
    gate: RwLock<()>,
    /// One cut at a time.
    cutting: Mutex<Cutting>,
    unsaved: Unsaved,
    /// Set when the log was read back: before that, a cut would cover what is not in memory yet.
    is_ready: AtomicBool,
    n_snapshots: AtomicU64,
}

#[derive(Default)]
struct Cutting {
    n_cuts: u64,
    ended: Option<Timestamp>,
    failed: Option<Timestamp>,
    /// In blocks, and still in memory for those who began to read before.
    listed: Option<Listed>,
}

struct Listed {
    frozen: Frozen,
    readers: Arc<()>,
}

/// What is in no block yet.
#[derive(Default)]
struct Unsaved {
    samples: AtomicU64,
    since: Mutex<Option<Timestamp>>,
}

impl Unsaved {
    fn add(&self, samples: u64, now: Timestamp) {
        if self.samples.fetch_add(samples, Ordering::Relaxed) == 0 {
            self.since.lock().get_or_insert(now);
        }
    }
}

fn write_error(error: &LogError) -> WriteError {
    if error.is_full() { WriteError::Full(error.to_string()) } else { WriteError::Storage(error.to_string()) }
}

impl MetricStore {
    /// Opens the store in `dir`, makes it if there is none; [`MetricStore::replay`] then brings back what its log
    /// holds.
    pub fn open(
        dir: Arc<dyn Dir>,
        budget: &Budget,
        clock: Arc<dyn Clock>,
        options: MetricStoreOptions,
    ) -> Result<Self, MetricStoreError> {
        let opened = Blocks::open(dir.clone(), BLOCKS, options.blocks)?;
        if opened.n_removed > 0 {
            tracing::info!(files = opened.n_removed, "metric blocks that a crash left unlisted were removed");
        }
        let (log, damage) = Log::open(dir.clone(), WAL, opened.blocks.covered(), options.wal)?;
        damage.iter().for_each(|d| tracing::warn!(damage = %d, "metrics' write-ahead log repaired"));
        let head = Head::with(budget, WhenFull::Refuse);
        Ok(Self {
            store: HeadAndBlocks { head: Arc::new(head), blocks: Arc::new(opened.blocks) },
            log,
            clock,
            retention: options.retention,
            budget: budget.clone(),
            gate: RwLock::new(()),
            cutting: Mutex::default(),
            unsaved: Unsaved::default(),
            is_ready: AtomicBool::new(false),
            n_snapshots: AtomicU64::new(0),
        })
    }

    fn head(&self) -> &Head {
        &self.store.head
    }

    /// What is due at this time: the log's interval and repair, a cut, deletion by age. Meant for every second; it
    /// may write for a while.
    pub fn maintain(&self) -> Result<(), MetricStoreError> {
        self.log.tick(self.clock.now_nanos())?;
        let now = self.clock.now();
        let mut cutting = self.cutting.lock();
        let rests = cutting.failed.is_some_and(|at| now.since(at) < RETRY_AFTER);
        let is_ready = self.is_ready.load(Ordering::Acquire);
        if self.forget_listed(&mut cutting) && is_ready && !rests && self.is_cut_due(now) {
            self.cut_alone(&mut cutting, None)?;
        }
        drop(cutting);
        self.store.blocks.expire(self.retention, now)?;
        Ok(())
    }

    fn is_cut_due(&self, now: Timestamp) -> bool {
        let samples = self.unsaved.samples.load(Ordering::Relaxed);
        let is_old = self.unsaved.since.lock().is_some_and(|since| now.since(since) >= AGE_MAX);
        let n_series = self.head().n_series() as u64;
        let is_dense = samples >= SAMPLES_PER_SERIES * n_series && self.log.stats().size_bytes >= LOG_BYTES_MIN;
        let is_large = samples >= SAMPLES_PER_SERIES_PRESSED * n_series && self.is_pressed();
        samples > 0 && (is_old || is_dense || is_large) || self.log.wants_cut()
    }

    fn is_pressed(&self) -> bool {
        self.budget.used_bytes() > self.budget.limit_bytes() / 4 * 3
    }

    /// Merges the blocks that are to be merged next, or else rolls up the stretch that is to be next; whether there
    /// was any. Cancelling changes nothing.
    pub fn compact_next(&self, cancel: &Cancel) -> Result<bool, MetricStoreError> {
        let (blocks, now) = (&self.store.blocks, self.clock.now());
        if let Some(plan) = blocks.plan(now) {
            blocks.compact(&plan, cancel)?;
        } else if let Some(plan) = blocks.plan_rollup(now) {
            blocks.roll(&plan, cancel)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Everything accepted so far into blocks; the write-ahead log forgets it.
    pub fn cut(&self) -> Result<(), MetricStoreError> {
        self.cut_in(&mut self.cutting.lock())
    }

    fn cut_in(&self, cutting: &mut Cutting) -> Result<(), MetricStoreError> {
        if !self.is_ready.load(Ordering::Acquire) {
            return Err(MetricStoreError::NotReady);
        }
        self.cut_alone(cutting, None)
    }

    /// `replayed`: how far the log was read, at the start.
    fn cut_alone(&self, cutting: &mut Cutting, replayed: Option<Position>) -> Result<(), MetricStoreError> {
        if !self.forget_listed(cutting) {
            return Err(MetricStoreError::Reading);
        }
        let done = self.cut_now(replayed);
        let (now, before) = (Some(self.clock.now()), cutting.ended);
        match done {
            Ok(mut frozen) => {
                // Of two cuts soon after each other, the second finds series without samples that live.
                if before.zip(now).is_some_and(|(before, now)| now.since(before) < IDLE_AFTER) && !self.is_pressed() {
                    frozen.keep_idle();
                }
                let listed = Some(Listed { frozen, readers: self.head().next_readers() });
                *cutting = Cutting { n_cuts: cutting.n_cuts + 1, ended: now, failed: None, listed };
                self.forget_listed(cutting);
                Ok(())
            }
            Err(error) => {
                cutting.failed = now;
                Err(error)
            }
        }
    }

    /// Forgets what is in blocks, if nobody reads any more who does not know of them; whether nothing is left.
    fn forget_listed(&self, cutting: &mut Cutting) -> bool {
        let unread = cutting.listed.take_if(|listed| Arc::strong_count(&listed.readers) == 1);
        if let Some(Listed { frozen, .. }) = unread {
            self.head().thaw(frozen);
        }
        cutting.listed.is_none()
    }

    fn cut_now(&self, replayed: Option<Position>) -> Result<Frozen, MetricStoreError> {
        let (position, samples, since) = {
            let _alone = self.gate.write();
            let position = replayed.unwrap_or_else(|| self.log.roll());
            (position, self.unsaved.samples.swap(0, Ordering::Relaxed), self.unsaved.since.lock().take())
        };
        let done = self.write_blocks(position);
        if done.is_err() {
            self.unsaved.samples.fetch_add(samples, Ordering::Relaxed);
            let mut now = self.unsaved.since.lock();
            *now = since.or(*now);
            return done;
        }
        // The log may keep more than it must.
        if let Err(error) = self.log.truncate_before(position) {
            tracing::warn!(%error, "the metrics' write-ahead log is not truncated");
        }
        done
    }

    fn write_blocks(&self, position: Position) -> Result<Frozen, MetricStoreError> {
        // After the place that blocks cover, as they hold samples alone.
        let mut end = position;
        for (tenant, batch) in self.head().beside_samples() {
            end = end.max(self.log_batch(&tenant, &batch)?);
        }
        let mut cut = self.store.blocks.cut();
        let frozen = self.head().freeze_into(&mut cut)?;
        self.log.sync_to(end)?;
        let written = cut.commit(Some(position))?;
        let sum = |of: fn(&BlockMeta) -> u64| written.iter().map(of).sum::<u64>();
        let (n_samples, n_bytes) = (sum(|b| b.n_samples), sum(|b| b.n_bytes));
        tracing::info!(blocks = written.len(), n_samples, n_bytes, "metrics written to blocks");
        Ok(frozen)
    }

    fn log_batch(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Position, LogError> {
        let mut bytes = frame::head(tenant, self.clock.now());
        frame::encode_batch(batch, &mut bytes);
        self.log.append(BATCH, &[&bytes])
    }

    /// Writes; when memory is used up, after a cut once more.
    fn with_room<T>(&self, write: impl Fn() -> Result<T, WriteError>) -> Result<T, WriteError> {
        let n_cuts = self.cutting.try_lock().map(|cutting| cutting.n_cuts);
        let full = match write() {
            Err(WriteError::Budget(full)) => full,
            other => return other,
        };
        if !self.is_ready.load(Ordering::Acquire) {
            return Err(full.into());
        }
        let mut cutting = self.cutting.lock();
        // Somebody else may have made room while this one waited.
        if n_cuts == Some(cutting.n_cuts) {
            let now = self.clock.now();
            if cutting.ended.is_some_and(|at| now.since(at) < PRESSED_AFTER) {
                return Err(full.into());
            }
            if let Err(error) = self.cut_alone(&mut cutting, None) {
                tracing::warn!(%error, "memory for metrics is used up and no block can be written");
                return Err(full.into());
            }
        }
        drop(cutting);
        write()
    }

    fn note(&self, outcome: &Outcome) {
        self.unsaved.add(outcome.accepted, self.clock.now());
    }

    /// Number of series held in memory, over all tenants.
    pub fn n_series(&self) -> usize {
        self.head().n_series()
    }
}

impl MetricSink for MetricStore {
    /// Returns when the batch is on disk.
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        let mut bytes = frame::head(tenant, self.clock.now());
        frame::encode_batch(batch, &mut bytes);
        let (outcome, end) = self.with_room(|| {
            let _shared = self.gate.read();
            let end = self.log.append(BATCH, &[&bytes]).map_err(|e| write_error(&e))?;
            let outcome = self.head().append_batch(tenant, batch)?;
            self.note(&outcome);
            Ok((outcome, end))
        })?;
        self.log.sync_to(end).map_err(|e| write_error(&e))?;
        Ok(outcome)
    }
}

impl SeriesSink for MetricStore {
    fn register(&self, tenant: &TenantId, labels: &[(&str, &str)]) -> Result<(SeriesRef, Labels), WriteError> {
        self.with_room(|| self.head().register(tenant, labels))
    }

    fn labels(&self, tenant: &TenantId, series: SeriesRef) -> Option<Labels> {
        self.head().labels(tenant, series)
    }

    fn append_columns(
        &self,
        tenant: &TenantId,
        raw: Option<RawRequest<'_>>,
        columns: &SampleColumns,
        rest: &MetricBatch,
    ) -> Result<ColumnsOutcome, WriteError> {
        let Some(raw) = raw else {
            let done = self.head().append_columns(tenant, None, columns, rest)?;
            self.note(&done.outcome);
            return Ok(done);
        };
        let head = frame::head(tenant, raw.received);
        self.with_room(|| {
            let _shared = self.gate.read();
            let end = self.log.append(raw.kind, &[&head, raw.body]).map_err(|e| write_error(&e))?;
            let done = self.head().append_columns(tenant, None, columns, rest)?;
            self.note(&done.outcome);
            Ok(ColumnsOutcome { mark: Some(LogMark(end.segment, end.offset)), ..done })
        })
    }

    fn sync(&self, mark: LogMark) -> Result<(), WriteError> {
        self.log.sync_to(Position { segment: mark.0, offset: mark.1 }).map_err(|e| write_error(&e))
    }
}

impl MetricSource for MetricStore {
    fn coarsest(&self, tenant: &TenantId, range: TimeRange, accepted: Option<Duration>) -> Duration {
        self.store.coarsest(tenant, range, accepted)
    }

    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        self.store.open(tenant, fragment, context)
    }

    fn label_names<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        self.store.label_names(tenant, matchers, range)
    }

    fn label_values<'a>(
        &'a self,
        tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        self.store.label_values(tenant, name, matchers, range)
    }

    fn metadata<'a>(
        &'a self,
        tenant: &'a TenantId,
        family: &'a str,
    ) -> BoxFuture<'a, Result<Vec<MetricMetadata>, ReadError>> {
        self.store.metadata(tenant, family)
    }

    fn exemplars<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Vec<Exemplar>)>, ReadError>> {
        self.store.exemplars(tenant, matchers, range)
    }
}
