//! Remote write: samples go into a queue on disk, and from there to every receiver.
//!
//! [`RemoteWrites`] is the queue with its senders; as a [`MetricSink`] it acknowledges what is on
//! disk. Each receiver has a cursor of its own, which moves on when everything before it was taken or
//! refused for good, so that what was acknowledged here arrives there at least once, whatever ends in
//! between. Beyond [`RemoteOptions::queue_bytes_max`] the oldest are given up and counted.

mod frame;
mod queue;
mod request;
mod sender;
mod split;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_model::sink::{
    ColumnsOutcome, LogMark, MetricBatch, MetricSink, Outcome, RawRequest, SampleColumns, SeriesBatch, SeriesRef,
    SeriesSink, WriteError,
};
use weir_model::{Clock, Labels, TenantId};

pub use frame::read_frame;
pub use request::{Verdict, verdict};

use crate::config::{PrometheusConfig, RemoteWriteConfig};
use crate::http::Http;
use crate::metrics::RemoteMetrics;
use queue::{Cursor, Queue};

pub struct RemoteOptions {
    /// Holds the queue and the cursors; without it there can be no receiver.
    pub folder: Option<PathBuf>,
    pub clock: Arc<dyn Clock>,
    pub shutdown: CancellationToken,
    /// Of the queue on disk.
    pub queue_bytes_max: u64,
}

/// 8 GiB: a day at 4,000 samples a second.
pub const QUEUE_BYTES_DEFAULT: u64 = 8 << 30;

/// Forwards samples. Cheap to clone.
#[derive(Clone)]
pub struct RemoteWrites(Arc<Shared>);

struct Shared {
    options: RemoteOptions,
    /// Opened with the first receiver.
    queue: OnceLock<Arc<Queue>>,
    metrics: RemoteMetrics,
    tasks: TaskTracker,
    running: Mutex<Vec<Running>>,
}

struct Running {
    config: Arc<RemoteWriteConfig>,
    external: Labels,
    cursor: Arc<Cursor>,
    status: Arc<Mutex<Status>>,
    stop: CancellationToken,
}

#[derive(Clone, Debug, Default)]
struct Status {
    n_shards: usize,
    last_error: String,
}

/// A receiver and how sending to it goes.
#[derive(Clone, Debug)]
pub struct RemoteStatus {
    pub name: String,
    pub url: String,
    pub n_shards: usize,
    /// Whether everything queued was taken.
    pub is_idle: bool,
    /// Empty when the last request went well.
    pub last_error: String,
}

impl RemoteWrites {
    /// Touches no disk and sends nothing before [`Self::apply`] names a receiver.
    pub fn new(options: RemoteOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            queue: OnceLock::new(),
            metrics: RemoteMetrics::default(),
            tasks: TaskTracker::new(),
            running: Mutex::default(),
        }))
    }

    fn queue(&self) -> Result<Arc<Queue>, String> {
        if let Some(queue) = self.0.queue.get() {
            return Ok(queue.clone());
        }
        let folder = self.0.options.folder.as_ref();
        let folder = folder.ok_or("remote_write: its queue is kept on disk; give --data-dir")?;
        let queue = Arc::new(Queue::open(folder, self.0.options.queue_bytes_max)?);
        Ok(self.0.queue.get_or_init(|| queue).clone())
    }

    pub fn metrics(&self) -> &RemoteMetrics {
        &self.0.metrics
    }

    /// Takes the receivers over; those that stay the same go on. Nothing changes on an error.
    pub fn apply(&self, config: &PrometheusConfig) -> Result<(), String> {
        let mut wanted = Vec::new();
        for remote in &config.remote_write {
            let http = Http::new(&remote.http).map_err(|e| format!("remote_write `{}`: {e}", remote.url))?;
            wanted.push((Arc::new(remote.clone()), http));
        }
        if wanted.is_empty() && self.0.queue.get().is_none() {
            return Ok(());
        }
        let mut running = self.0.running.lock();
        let queue = self.queue()?;
        let names: Vec<&str> = wanted.iter().map(|(config, _)| config.name.as_str()).collect();
        queue.keep_cursors(&names)?;
        let mut before = std::mem::take(&mut *running);
        for (remote, http) in wanted {
            let is_same = |r: &Running| *r.config == *remote && r.external == config.external_labels;
            let next = match before.iter().position(is_same) {
                Some(idx) => before.swap_remove(idx),
                None => {
                    // Two must not move one cursor.
                    before.iter().filter(|r| r.config.name == remote.name).for_each(|r| r.stop.cancel());
                    self.start(&queue, remote, http, config.external_labels.clone())?
                }
            };
            running.push(next);
        }
        before.iter().for_each(|gone| gone.stop.cancel());
        queue.set_readers(running.iter().map(|r| r.cursor.clone()).collect());
        Ok(())
    }

    fn start(
        &self,
        queue: &Arc<Queue>,
        config: Arc<RemoteWriteConfig>,
        http: Http,
        external: Labels,
    ) -> Result<Running, String> {
        let cursor = queue.cursor(&config.name)?;
        let (status, stop) = (Arc::new(Mutex::new(Status::default())), self.0.options.shutdown.child_token());
        let sender = sender::Sender {
            config: config.clone(),
            http,
            external: external.clone(),
            queue: queue.clone(),
            cursor: cursor.clone(),
            clock: self.0.options.clock.clone(),
            metrics: self.0.metrics.clone(),
            status: status.clone(),
        };
        let token = stop.clone();
        self.0.tasks.spawn(async move { token.run_until_cancelled(sender.run()).await });
        Ok(Running { config, external, cursor, status, stop })
    }

    pub fn status(&self) -> Vec<RemoteStatus> {
        let end = self.0.queue.get().map(|queue| queue.written());
        let row = |r: &Running| {
            let status = r.status.lock().clone();
            RemoteStatus {
                name: r.config.name.clone(),
                url: r.config.url.clone(),
                n_shards: status.n_shards,
                is_idle: end.is_none_or(|end| r.cursor.get() >= end),
                last_error: status.last_error,
            }
        };
        self.0.running.lock().iter().map(row).collect()
    }
}

impl MetricSink for RemoteWrites {
    /// Stored when it is on disk; without a receiver it goes nowhere.
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        let n: usize = batch.series.iter().map(SeriesBatch::n_samples).sum();
        let Some(queue) = self.0.queue.get() else {
            return Ok(Outcome { accepted: n as u64, refused: Vec::new() });
        };
        queue.append(tenant, batch, self.0.options.clock.now()).map_err(|error| {
            self.0.metrics.not_queued.inc_by(n as u64);
            WriteError::Storage(format!("remote write queue: {error}"))
        })?;
        let lost = queue.take_lost_segments();
        if lost > 0 {
            self.0.metrics.lost_segments.inc_by(lost);
            tracing::error!(lost, "the remote write queue is full: its oldest segments were given up unsent");
        }
        Ok(Outcome { accepted: n as u64, refused: Vec::new() })
    }
}

/// A store whose samples are forwarded too.
pub struct Tee {
    pub store: Arc<dyn SeriesSink>,
    pub remote: RemoteWrites,
}

impl Tee {
    /// What the store keeps is not refused because it could not be forwarded.
    fn forward(&self, tenant: &TenantId, batch: &MetricBatch) {
        if let Err(error) = self.remote.append(tenant, batch) {
            tracing::error!(%error, "samples were stored, but are not forwarded");
        }
    }
}

impl MetricSink for Tee {
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        let outcome = self.store.append(tenant, batch)?;
        self.forward(tenant, batch);
        Ok(outcome)
    }
}

impl SeriesSink for Tee {
    fn register(&self, tenant: &TenantId, labels: &[(&str, &str)]) -> Result<(SeriesRef, Labels), WriteError> {
        self.store.register(tenant, labels)
    }

    fn labels(&self, tenant: &TenantId, series: SeriesRef) -> Option<Labels> {
        self.store.labels(tenant, series)
    }

    fn append_columns(
        &self,
        tenant: &TenantId,
        raw: Option<RawRequest<'_>>,
        columns: &SampleColumns,
        rest: &MetricBatch,
    ) -> Result<ColumnsOutcome, WriteError> {
        let done = self.store.append_columns(tenant, raw, columns, rest)?;
        if self.remote.0.queue.get().is_some() {
            // Runs of dead series come again, with the number of a living one.
            let runs =
                columns.runs.iter().enumerate().filter(|(idx, _)| !done.dead.iter().any(|d| *d as usize == *idx));
            let named = runs.filter_map(|(_, run)| {
                let labels = self.store.labels(tenant, run.series)?;
                Some(SeriesBatch { labels, samples: columns.samples(*run).collect(), ..SeriesBatch::default() })
            });
            let series = named.chain(rest.series.iter().cloned()).collect();
            self.forward(tenant, &MetricBatch { series, metadata: rest.metadata.clone() });
        }
        Ok(done)
    }

    fn sync(&self, mark: LogMark) -> Result<(), WriteError> {
        self.store.sync(mark)
    }
}
