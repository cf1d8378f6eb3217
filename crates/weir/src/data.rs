//! Where data lies on disk, and what keeps it in order there.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio_util::sync::CancellationToken;
use weir_events::{Deletions, LogRetention, LogStore, LogStoreOptions, SpanRetention, SpanStore, SpanStoreOptions};
use weir_ingest::{Detector, Ingest, LogSampler, Pattern, Redactor, RemoteError, RemoteRequest, SamplingConfig};
use weir_model::source::Cancel;
use weir_model::{Budget, Clock};
use weir_state::State;
use weir_tsdb::block::{BlocksOptions, RollupOptions};
use weir_tsdb::{Logged, MetricStore, MetricStoreOptions, ReplayError};
use weir_wal::{Dir, OsDir};

use crate::log_retention;

#[derive(Args, Clone)]
pub struct DataArgs {
    /// Folder for what is stored, made if there is none: metrics, logs, traces, silences, what was
    /// notified, states of alerts and the queue of remote_write. One server at a time.
    #[arg(long, value_name = "DIR", default_value = "./weir-data")]
    data_dir: PathBuf,
    /// Answer /api/v1/admin/tsdb: deletion of series, and snapshots.
    #[arg(long = "web.enable-admin-api")]
    admin_api: bool,
    /// Object storage for blocks, such as s3://bucket/prefix; not supported yet and refused.
    #[arg(long, value_name = "URL")]
    storage: Option<String>,
    /// Age past which metrics are deleted, a block at a time, such as 15d; 0 keeps them for ever.
    #[arg(long = "metrics.retention", value_name = "DURATION", default_value = "7d", value_parser = retention)]
    metrics_retention: Duration,
    /// How long metrics are kept with one sample for each five minutes, from which rates, sums, minima and maxima are
    /// as before; 0 for none, what there is of them is deleted. Every sample stays until its day is rolled up.
    #[arg(long = "metrics.retention.5m", value_name = "DURATION", default_value = "30d", value_parser = retention)]
    metrics_retention_5m: Duration,
    /// The same with one sample for each hour; made of those of five minutes.
    #[arg(long = "metrics.retention.1h", value_name = "DURATION", default_value = "395d", value_parser = retention)]
    metrics_retention_1h: Duration,
    /// How long spans are kept, such as 14d; a block goes when its last span is older.
    #[arg(long = "traces.retention", value_name = "DURATION", default_value = "14d", value_parser = duration)]
    traces_retention: Duration,
    /// How long traces with a failed span are kept, if that is longer.
    #[arg(long = "traces.retention.errors", value_name = "DURATION", default_value = "90d", value_parser = duration)]
    traces_retention_errors: Duration,
    /// How long slow traces are kept, if that is longer: those above the 99th percentile of their operation, the
    /// service and name of the first span, and those of `--traces.slow`.
    #[arg(long = "traces.retention.slow", value_name = "DURATION", default_value = "30d", value_parser = duration)]
    traces_retention_slow: Duration,
    /// A trace that takes so long is slow, whatever its operation is used to; 0 for none.
    #[arg(long = "traces.slow", value_name = "DURATION", default_value = "0", value_parser = retention)]
    traces_slow: Duration,
    /// How often requests, errors and durations of spans, and the service graph, are stored as metrics; 0 for never.
    #[arg(long = "traces.metrics-interval", value_name = "DURATION", default_value = "15s", value_parser = retention)]
    traces_metrics_interval: Duration,
    /// Age past which logs are deleted, such as 30d; 0 keeps them for ever.
    #[arg(long = "logs.retention", value_name = "DURATION", default_value = "30d", value_parser = retention)]
    logs_retention: Duration,
    /// Other times for streams, namespaces and tenants: `retention_period` and `retention_stream` as Loki's `limits_config`
    /// and `overrides` have them, and `log_retention_days` by namespace.
    #[arg(long = "logs.retention-config", value_name = "FILE")]
    logs_retention_config: Option<PathBuf>,
    /// Take these out of lines, structured metadata and spans before anything is written: cards (numbers of payment
    /// cards), emails, tokens (bearer tokens, JSON web tokens), keys (access keys of AWS, private keys).
    #[arg(long, value_name = "DETECTORS", value_delimiter = ',', value_parser = Detector::parse)]
    redact: Vec<Detector>,
    /// Take out what matches as well, in the syntax of RE2; may be repeated.
    #[arg(long = "redact.pattern", value_name = "NAME=EXPRESSION", value_parser = Pattern::parse)]
    redact_patterns: Vec<Pattern>,
    /// Above which rate of a service which share of its log lines is kept, by level; those kept stand for the others
    /// in counts. Without the file every line is kept.
    #[arg(long = "logs.sampling-config", value_name = "FILE")]
    logs_sampling: Option<PathBuf>,
}

/// Shortest time that five minutes are kept where hours are made of them.
const FIVE_MIN: Duration = Duration::from_secs(8 * 86_400);

fn retention(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { duration(text) }
}

fn duration(text: &str) -> Result<Duration, String> {
    match weir_go::parse_prometheus_duration(text) {
        Ok(length) if !length.is_zero() => Ok(length),
        Ok(_) => Err("give a length above zero, such as 14d".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The data folder, taken by this process alone.
pub struct DataDir {
    pub dir: Arc<dyn Dir>,
    /// Where `remote_write` keeps what was not sent yet.
    pub remote_queue: PathBuf,
    pub metrics_retention: Duration,
    pub metrics_rollup: RollupOptions,
    pub traces_retention: SpanRetention,
    pub traces_slow: Duration,
    /// Zero for no metrics of spans.
    pub traces_metrics_interval: Duration,
    logs_retention: LogRetention,
    /// What is not to be kept.
    redact: (Vec<Detector>, Vec<Pattern>),
    sampling: Option<SamplingConfig>,
    /// Whether series may be deleted and snapshots made over HTTP.
    pub admin_api: bool,
    /// Held until the process ends.
    _lock: File,
}

impl DataArgs {
    fn rollup(&self) -> anyhow::Result<RollupOptions> {
        let kept = |length: Duration| (!length.is_zero()).then_some(length);
        let rollup = RollupOptions { five: kept(self.metrics_retention_5m), hour: kept(self.metrics_retention_1h) };
        if rollup.five.is_none() && rollup.hour.is_some() {
            anyhow::bail!(
                "--metrics.retention.5m 0: hours are made of five minutes; give --metrics.retention.1h 0 as well"
            );
        }
        // A week is rolled up once it is over and settled.
        if rollup.hour.is_some() && rollup.five.is_some_and(|five| five < FIVE_MIN) {
            anyhow::bail!(
                "--metrics.retention.5m is below 8d, in which a week's hours are made of it; keep it longer, or give \
                 --metrics.retention.1h 0"
            );
        }
        Ok(rollup)
    }

    pub fn open(&self) -> anyhow::Result<DataDir> {
        if let Some(url) = &self.storage {
            anyhow::bail!(
                "--storage {url}: blocks on object storage are not supported yet; leave the flag out, and they are kept in --data-dir"
            );
        }
        let path = &self.data_dir;
        let dir = OsDir::open(path).with_context(|| format!("--data-dir {}", path.display()))?;
        let lock_path = path.join("weir.lock");
        let lock = File::create(&lock_path).with_context(|| format!("create {}", lock_path.display()))?;
        let taken = || format!("--data-dir {} is in use by another weir: give each its own", path.display());
        lock.try_lock().with_context(taken)?;
        Ok(DataDir {
            dir: Arc::new(dir),
            remote_queue: path.join("remote-write"),
            metrics_retention: self.metrics_retention,
            metrics_rollup: self.rollup()?,
            traces_retention: SpanRetention {
                normal: self.traces_retention,
                slow: self.traces_retention_slow,
                errors: self.traces_retention_errors,
            },
            traces_slow: self.traces_slow,
            traces_metrics_interval: self.traces_metrics_interval,
            logs_retention: self.log_retention()?,
            redact: (self.redact.clone(), self.redact_patterns.clone()),
            sampling: self.logs_sampling.as_deref().map(sampling).transpose().context("--logs.sampling-config")?,
            admin_api: self.admin_api,
            _lock: lock,
        })
    }

    fn log_retention(&self) -> anyhow::Result<LogRetention> {
        let default = (!self.logs_retention.is_zero()).then_some(self.logs_retention);
        match &self.logs_retention_config {
            Some(path) => log_retention::read(path, default).context("--logs.retention-config"),
            None => Ok(default.into()),
        }
    }
}

/// What a file of `--logs.sampling-config` says.
pub fn sampling(path: &Path) -> anyhow::Result<SamplingConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    SamplingConfig::parse(&text).map_err(|e| anyhow::anyhow!("{}:{}: {}", path.display(), e.line, e.reason))
}

impl DataDir {
    /// `None`: every line is kept.
    pub fn sampler(&self) -> Option<LogSampler> {
        self.sampling.clone().map(LogSampler::new)
    }

    /// `None`: everything is kept as it comes.
    pub fn redactor(&self) -> Option<Redactor> {
        let (detectors, patterns) = &self.redact;
        Redactor::new(detectors, patterns.clone())
    }

    /// Small records.
    pub fn state(&self) -> anyhow::Result<State> {
        State::open(self.dir.clone()).context("open the state")
    }

    /// The log store, kept in shape until `shutdown`.
    pub fn logs(
        &self,
        budget: &Budget,
        clock: Arc<dyn Clock>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Arc<LogStore>> {
        let options = LogStoreOptions {
            retention: self.logs_retention.clone(),
            requests: Some(weir_ingest::loki::decode_logged),
            ..LogStoreOptions::default()
        };
        let (store, recovered) =
            LogStore::open(self.dir.clone(), budget, clock, options).context("open the log store")?;
        tracing::info!(?recovered, "logs are back");
        let store = Arc::new(store);
        let kept = store.clone();
        tokio::spawn(maintain("logs", move || kept.maintain(), shutdown.clone()));
        Ok(store)
    }

    /// The metric store; [`start_metrics`] brings back what it held.
    pub fn metrics(&self, budget: &Budget, clock: Arc<dyn Clock>) -> anyhow::Result<Arc<MetricStore>> {
        let defaults = BlocksOptions::default();
        // Indexes of blocks that queries use, beside what the head takes.
        let cache_bytes = defaults.cache_bytes.min(usize::try_from(budget.limit_bytes() / 8).unwrap_or(usize::MAX));
        let head = budget.child("head", budget.limit_bytes().saturating_sub(cache_bytes as u64));
        let options = MetricStoreOptions {
            blocks: BlocksOptions { cache_bytes, rollup: self.metrics_rollup, ..defaults },
            retention: (!self.metrics_retention.is_zero()).then_some(self.metrics_retention),
            ..MetricStoreOptions::default()
        };
        let store = MetricStore::open(self.dir.clone(), &head, clock, options).context("open the metric store")?;
        Ok(Arc::new(store))
    }

    /// Which lines are hidden.
    pub fn log_deletions(&self) -> anyhow::Result<Arc<Deletions>> {
        Ok(Arc::new(Deletions::open(self.dir.clone()).context("open the delete requests for logs")?))
    }

    /// The span store; new spans and indexes take their memory from `budget`.
    pub fn spans(&self, budget: &Budget) -> anyhow::Result<Arc<SpanStore>> {
        let defaults = SpanStoreOptions::default();
        let options = SpanStoreOptions {
            retention: self.traces_retention,
            slow: self.traces_slow,
            head_bytes: defaults.head_bytes.min(budget.limit_bytes() / 3),
            index_bytes: defaults.index_bytes.min(budget.limit_bytes() / 4),
            ..defaults
        };
        let spans = SpanStore::open(self.dir.clone(), budget, options).context("open the span store")?;
        Ok(Arc::new(spans))
    }
}

/// Brings back what was acknowledged before, then keeps the store in shape until `shutdown`. `ingest` writes
/// to the store, and so far nobody else does.
pub fn start_metrics(
    store: &Arc<MetricStore>,
    ingest: &Ingest,
    clock: &dyn Clock,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let started = clock.now();
    let recovered = store.replay(&mut |tenant, logged| match logged {
        Logged::Request(raw) => {
            let request = RemoteRequest::from_log(raw.kind, raw.body);
            let later = || ReplayError::Unreadable(format!("kind {} is of a later version", raw.kind));
            let done = ingest.replay_remote(tenant, raw.received, request.ok_or_else(later)?);
            done.map_err(|error| match error {
                RemoteError::Write(error) => ReplayError::Write(error),
                RemoteError::Decode(error) => ReplayError::Unreadable(error.to_string()),
            })
        }
        Logged::Batch(batch) => {
            ingest.note_replayed(tenant, batch);
            Ok(())
        }
    });
    let recovered = recovered.context("read the metrics' write-ahead log")?;
    let took = clock.now().since(started);
    tracing::info!(?recovered, series = store.n_series(), ?took, "metrics are back");
    let kept = store.clone();
    tokio::spawn(maintain("metrics", move || kept.maintain(), shutdown.clone()));
    tokio::spawn(compact(store.clone(), shutdown.clone()));
    Ok(())
}

const MAINTAIN_EVERY: Duration = Duration::from_secs(1);
const COMPACT_EVERY: Duration = Duration::from_secs(10);

/// Merges blocks one after another, beside cuts and queries, until `shutdown`.
async fn compact(store: Arc<MetricStore>, shutdown: CancellationToken) {
    let cancel = Cancel::default();
    let _stop = cancel.on_drop();
    let mut ticks = tokio::time::interval(COMPACT_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let (of_tick, stop) = (store.clone(), cancel.clone());
        let all = tokio::task::spawn_blocking(move || while_some(|| of_tick.compact_next(&stop)));
        let done = tokio::select! {
            done = all => done,
            () = shutdown.cancelled() => return,
        };
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "metric blocks are not merged; tried again"),
            Err(panicked) => tracing::error!(%panicked, "merging of metric blocks ended early"),
        }
    }
}

fn while_some<E>(mut next: impl FnMut() -> Result<bool, E>) -> Result<(), E> {
    while next()? {}
    Ok(())
}

/// Files are written and synced on a thread that may block.
async fn maintain<E: std::fmt::Display + Send + 'static>(
    what: &'static str,
    due: impl Fn() -> Result<(), E> + Clone + Send + 'static,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(MAINTAIN_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut was_failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return,
        }
        let error = match tokio::task::spawn_blocking(due.clone()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(panicked) => Some(panicked.to_string()),
        };
        // Once, not every second of a full disk.
        match &error {
            Some(error) if !was_failing => {
                tracing::error!(error, "{what} cannot be written to files; they stay in the write-ahead log")
            }
            None if was_failing => tracing::info!("{what} are written to files again"),
            _ => {}
        }
        was_failing = error.is_some();
    }
}
