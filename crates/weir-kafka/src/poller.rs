//! The loop around the core: polls each cluster at its interval and writes what came out.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weir_ingest::{Ingest, Protocol, SenderRef};
use weir_model::sink::MetricBatch;
use weir_model::{Clock, TenantId, Timestamp};

use crate::cluster::Cluster;
use crate::metrics::{ClusterLabels, KafkaMetrics};
use crate::observed::ObservedPositions;
use crate::options::{ClusterOptions, LagOptions};
use crate::series::SeriesSet;
use crate::table::{LagTable, PartitionLag};

/// Between two tries of a cluster that is away the wait doubles up to this.
const BACKOFF_MAX: Duration = Duration::from_secs(15);

/// Where the series go.
pub trait LagSink: Send + Sync {
    fn write(&self, tenant: &TenantId, cluster: &str, batch: MetricBatch);
}

impl LagSink for Ingest {
    fn write(&self, tenant: &TenantId, cluster: &str, batch: MetricBatch) {
        let sender = SenderRef::new(Protocol::Internal, format!("kafka cluster {cluster}"), "weir lag poller");
        if let Err(error) = self.write_metrics(tenant, &sender, batch) {
            warn!(cluster, %error, "lag series were not stored");
        }
    }
}

/// Polls the clusters of its options. Hand [`LagPoller::observer`] to the commit feed.
pub struct LagPoller {
    options: LagOptions,
    sink: Arc<dyn LagSink>,
    clock: Arc<dyn Clock>,
    observed: Arc<ObservedPositions>,
    handle: LagHandle,
    metrics: KafkaMetrics,
}

/// The newest lag of every cluster; cheap to clone.
#[derive(Clone)]
pub struct LagHandle {
    tenant: TenantId,
    /// In the order of the options.
    clusters: Arc<[Slot]>,
}

struct Slot {
    name: String,
    lags: RwLock<Arc<Vec<PartitionLag>>>,
}

impl LagHandle {
    /// Cluster and lags, for the tenant that owns the clusters; nothing for others. A cluster that is
    /// away has none.
    pub fn clusters(&self, tenant: &TenantId) -> Vec<(&str, Arc<Vec<PartitionLag>>)> {
        if *tenant != self.tenant {
            return Vec::new();
        }
        self.clusters.iter().map(|slot| (slot.name.as_str(), Arc::clone(&slot.lags.read()))).collect()
    }
}

impl LagPoller {
    pub fn new(options: LagOptions, sink: Arc<dyn LagSink>, clock: Arc<dyn Clock>) -> Self {
        let slot = |cluster: &ClusterOptions| Slot { name: cluster.name.clone(), lags: RwLock::default() };
        let clusters = options.clusters.iter().map(slot).collect();
        Self {
            handle: LagHandle { tenant: options.tenant.clone(), clusters },
            observed: Arc::new(ObservedPositions::new(options.tenant.clone())),
            metrics: KafkaMetrics::default(),
            options,
            sink,
            clock,
        }
    }

    pub fn handle(&self) -> LagHandle {
        self.handle.clone()
    }
    pub fn observer(&self) -> Arc<ObservedPositions> {
        Arc::clone(&self.observed)
    }
    pub fn metrics(&self) -> &KafkaMetrics {
        &self.metrics
    }

    /// Runs until `shutdown`. Clusters do not wait for each other.
    pub async fn run(self, shutdown: CancellationToken) {
        let poller = Arc::new(self);
        let mut tasks = JoinSet::new();
        for idx in 0..poller.options.clusters.len() {
            let poller = Arc::clone(&poller);
            tasks.spawn(async move { poller.run_cluster(idx).await });
        }
        shutdown.cancelled().await;
        tasks.shutdown().await;
    }

    async fn run_cluster(&self, idx: usize) {
        let options = &self.options.clusters[idx];
        let labels = ClusterLabels { cluster: options.name.clone() };
        let mut state = State {
            cluster: Cluster::new(options.brokers.clone()),
            table: LagTable::new(self.options.budget.child("kafka-lag", self.options.budget.limit_bytes())),
            series: SeriesSet::new(&options.name),
            failures: 0,
        };
        let mut ticks = tokio::time::interval(options.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.metrics.polls.get_or_create(&labels).inc();
            let now = self.clock.now();
            match self.poll(&mut state, now, &labels).await {
                Ok((batch, lags)) => {
                    if state.failures > 0 {
                        info!(cluster = options.name, "cluster answers again");
                    }
                    state.failures = 0;
                    self.metrics.last_success_ms.get_or_create(&labels).set(now.0);
                    *self.handle.clusters[idx].lags.write() = Arc::new(lags);
                    self.write(&options.name, batch).await;
                }
                Err(error) => {
                    self.metrics.failed_polls.get_or_create(&labels).inc();
                    // The first failure and then ever rarer ones: the log stays readable.
                    if state.failures.is_power_of_two() || state.failures == 0 {
                        warn!(cluster = options.name, %error, failures = state.failures + 1, "cluster cannot be polled");
                    }
                    state.failures += 1;
                    *self.handle.clusters[idx].lags.write() = Arc::default();
                    let batch = state.series.down(now);
                    self.write(&options.name, batch).await;
                    tokio::time::sleep(backoff(options.interval, state.failures)).await;
                }
            }
        }
    }

    /// On a thread that may wait for the disk.
    async fn write(&self, cluster: &str, batch: MetricBatch) {
        let (sink, tenant, name) = (self.sink.clone(), self.options.tenant.clone(), cluster.to_owned());
        if let Err(error) = tokio::task::spawn_blocking(move || sink.write(&tenant, &name, batch)).await {
            warn!(cluster, %error, "writing lag series ended early");
        }
    }

    async fn poll(
        &self,
        state: &mut State,
        now: Timestamp,
        labels: &ClusterLabels,
    ) -> Result<(MetricBatch, Vec<PartitionLag>), crate::KafkaError> {
        let snapshot = state.cluster.poll(now).await?;
        // The ends were read after `now` was taken; ages count from here.
        let now = self.clock.now();
        let lookups = state.table.step(&snapshot, &self.observed.all(now), now);
        if !lookups.is_empty() {
            self.metrics.lookups.get_or_create(labels).inc_by(lookups.len() as u64);
            let times = state.cluster.record_times(&lookups).await?;
            for (lookup, time) in lookups.iter().zip(times) {
                state.table.learn(lookup, time);
            }
        }
        let lags = state.table.lags(now);
        let batch = state.series.up(&snapshot, &lags, &state.cluster.topic_partitions(), now);
        Ok((batch, lags))
    }
}

struct State {
    cluster: Cluster,
    table: LagTable,
    series: SeriesSet,
    failures: u32,
}

/// What is waited beyond the interval after so many failures in a row.
fn backoff(interval: Duration, failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        n => interval.saturating_mul(1 << (n - 2).min(10)).min(BACKOFF_MAX),
    }
}
