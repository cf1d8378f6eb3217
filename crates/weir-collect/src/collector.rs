//! [`Collector`]: a loop per target, started and ended as the configuration says.

mod run;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_ingest::Ingest;
use weir_model::{MetricMetadata, TenantId, Timestamp};

use crate::config::{PrometheusConfig, ScrapeConfig};
use crate::http;
use crate::metrics::CollectMetrics;
use crate::target::{DroppedTarget, Target, targets};

pub struct CollectorOptions {
    pub ingest: Arc<Ingest>,
    /// Scraped series belong to this tenant.
    pub tenant: TenantId,
    /// Ends every loop.
    pub shutdown: CancellationToken,
}

/// Scrapes what the configuration names. Cheap to clone.
#[derive(Clone)]
pub struct Collector(Arc<Shared>);

struct Shared {
    options: CollectorOptions,
    metrics: CollectMetrics,
    tasks: TaskTracker,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    config: Option<PrometheusConfig>,
    loops: Vec<Loop>,
    dropped: Vec<DroppedTarget>,
}

struct Loop {
    target: Arc<Target>,
    config: Arc<ScrapeConfig>,
    status: Arc<Mutex<Status>>,
    stop: CancellationToken,
    /// Cancelled when another loop goes on with the same series.
    heir: CancellationToken,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Unknown,
    Up,
    Down,
}

#[derive(Default)]
struct Status {
    health: Health,
    last_error: String,
    last_scrape: Option<Timestamp>,
    last_duration: Duration,
    metadata: Arc<BTreeMap<String, MetricMetadata>>,
}

/// A target and how its last scrape went.
#[derive(Clone, Debug)]
pub struct TargetStatus {
    pub target: Arc<Target>,
    pub health: Health,
    /// Empty when the last scrape went well.
    pub last_error: String,
    pub last_scrape: Option<Timestamp>,
    pub last_duration: Duration,
    pub metadata: Arc<BTreeMap<String, MetricMetadata>>,
}

impl Collector {
    pub fn new(options: CollectorOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            metrics: CollectMetrics::default(),
            tasks: TaskTracker::new(),
            state: Mutex::default(),
        }))
    }

    pub fn tenant(&self) -> &TenantId {
        &self.0.options.tenant
    }
    pub fn metrics(&self) -> &CollectMetrics {
        &self.0.metrics
    }

    /// Takes a configuration over: loops of unchanged targets go on, others end or begin. On an error
    /// nothing changes. Must be called within a tokio runtime.
    pub fn apply(&self, config: PrometheusConfig) -> Result<(), String> {
        let mut wanted = Vec::new();
        let mut dropped = Vec::new();
        for scrape in &config.scrape_configs {
            let (found, gone) = targets(scrape)?;
            // Groups and rules of relabelling are already in the target: a change there alone
            // does not restart a loop.
            let scrape = Arc::new(ScrapeConfig { groups: Vec::new(), relabel_configs: Vec::new(), ..scrape.clone() });
            let client = http::client(&scrape).map_err(|e| format!("scrape config `{}`: {e}", scrape.job_name))?;
            wanted.extend(found.into_iter().map(|target| (Arc::new(target), scrape.clone(), client.clone())));
            dropped.extend(gone);
        }
        let mut state = self.0.state.lock();
        let mut before = std::mem::take(&mut state.loops);
        for (target, scrape, client) in wanted {
            let same = before.iter().position(|l| *l.target == *target && *l.config == *scrape);
            let next = match same {
                Some(idx) => before.swap_remove(idx),
                None => {
                    before.iter().filter(|l| l.target.labels == target.labels).for_each(|l| l.heir.cancel());
                    self.start(target, scrape, client)
                }
            };
            state.loops.push(next);
        }
        before.iter().for_each(|gone| gone.stop.cancel());
        self.0.metrics.targets.set(i64::try_from(state.loops.len()).unwrap_or(i64::MAX));
        state.dropped = dropped;
        state.config = Some(config);
        Ok(())
    }

    fn start(&self, target: Arc<Target>, config: Arc<ScrapeConfig>, client: reqwest::Client) -> Loop {
        let status = Arc::new(Mutex::new(Status::default()));
        let (stop, heir) = (self.0.options.shutdown.child_token(), CancellationToken::new());
        let run = run::Run {
            shared: self.0.clone(),
            target: target.clone(),
            config: config.clone(),
            client,
            status: status.clone(),
            stop: stop.clone(),
            heir: heir.clone(),
        };
        self.0.tasks.spawn(run.run());
        Loop { target, config, status, stop, heir }
    }

    /// By pool, then URL.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let state = self.0.state.lock();
        let mut out: Vec<TargetStatus> = state
            .loops
            .iter()
            .map(|l| {
                let status = l.status.lock();
                TargetStatus {
                    target: l.target.clone(),
                    health: status.health,
                    last_error: status.last_error.clone(),
                    last_scrape: status.last_scrape,
                    last_duration: status.last_duration,
                    metadata: status.metadata.clone(),
                }
            })
            .collect();
        out.sort_by(|a, b| (&a.target.pool, &a.target.url).cmp(&(&b.target.pool, &b.target.url)));
        out
    }

    pub fn dropped(&self) -> Vec<DroppedTarget> {
        self.0.state.lock().dropped.clone()
    }

    /// Names of the scrape configurations, in the file's order.
    pub fn pools(&self) -> Vec<String> {
        let state = self.0.state.lock();
        state.config.iter().flat_map(|c| &c.scrape_configs).map(|s| s.job_name.clone()).collect()
    }
}
