//! [`Collector`]: pools of targets, a loop per target, started and ended as configuration and
//! discovery say.

mod pool;
mod run;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_ingest::Ingest;
use weir_model::{Labels, MetricMetadata, TenantId, Timestamp};

use crate::config::{PrometheusConfig, ScrapeConfig, SdConfig};
use crate::discover::{self, Found};
use crate::http::Http;
use crate::metrics::CollectMetrics;
use crate::relabel::RelabelConfig;
use crate::target::{DroppedTarget, Target};
use pool::Pool;

/// How long changes of discovery gather before loops follow them.
const GATHER: Duration = Duration::from_millis(200);

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
    /// Rung by discovery.
    changed: Arc<Notify>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pools: Vec<Pool>,
    providers: Vec<Provider>,
    is_following: bool,
}

/// One source of targets; scrape configurations with an equal one share it.
struct Provider {
    config: SdConfig,
    found: Arc<Found>,
    stop: CancellationToken,
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

/// Targets of a pool that relabelling took out.
#[derive(Clone, Debug)]
pub struct PoolDropped {
    pub pool: String,
    pub targets: Vec<DroppedTarget>,
    /// All of them; [`Self::targets`] may hold fewer.
    pub n_dropped: usize,
}

/// What a source of targets knows.
#[derive(Clone, Debug)]
pub struct DiscoveryStatus {
    pub pool: String,
    pub kind: &'static str,
    pub n_groups: usize,
    pub n_targets: usize,
    /// Empty when the last attempt went well.
    pub last_error: String,
}

impl Collector {
    pub fn new(options: CollectorOptions) -> Self {
        Self(Arc::new(Shared {
            options,
            metrics: CollectMetrics::default(),
            tasks: TaskTracker::new(),
            changed: Arc::default(),
            state: Mutex::default(),
        }))
    }

    pub fn metrics(&self) -> &CollectMetrics {
        &self.0.metrics
    }

    /// The tenant that owns the targets.
    pub fn tenant(&self) -> &TenantId {
        &self.0.options.tenant
    }

    /// Takes a configuration over: what stays the same keeps running. Nothing changes on an error.
    pub fn apply(&self, config: &PrometheusConfig) -> Result<(), String> {
        let mut wanted = Vec::new();
        for scrape in &config.scrape_configs {
            let fault = |e: String| format!("scrape config `{}`: {e}", scrape.job_name);
            // A bad static target is a mistake in the file; a discovered one is passed over later.
            if let Some(fault) = crate::target::targets(scrape, &[]).faults.into_iter().next() {
                return Err(fault);
            }
            wanted.push((Arc::new(scrape.clone()), Http::new(&scrape.http).map_err(fault)?));
        }
        let mut state = self.0.state.lock();
        let state = &mut *state;
        let mut providers = std::mem::take(&mut state.providers);
        let mut before = std::mem::take(&mut state.pools);
        for (config, http) in wanted {
            let found = config.sd.iter().map(|sd| self.provider(sd, &mut providers, &mut state.providers)).collect();
            let known = before.iter().position(|pool| pool.name() == config.job_name).map(|i| before.swap_remove(i));
            let pool = match known {
                Some(pool) => pool.changed(config, http, found),
                None => Pool::new(config, http, found),
            };
            state.pools.push(pool);
        }
        providers.iter().for_each(|gone| gone.stop.cancel());
        before.iter().for_each(Pool::stop);
        state.pools.iter_mut().for_each(|pool| pool.sync(&self.0));
        self.count(state);
        if !state.is_following {
            state.is_following = true;
            self.0.tasks.spawn(self.clone().follow());
        }
        Ok(())
    }

    /// The running provider of that configuration, or a new one.
    fn provider(&self, sd: &SdConfig, old: &mut Vec<Provider>, new: &mut Vec<Provider>) -> Arc<Found> {
        if let Some(idx) = old.iter().position(|p| p.config == *sd) {
            new.push(old.swap_remove(idx));
        }
        if let Some(known) = new.iter().find(|p| p.config == *sd) {
            return known.found.clone();
        }
        let (found, stop) = (Found::new(self.0.changed.clone()), self.0.options.shutdown.child_token());
        self.0.tasks.spawn(discover::run(sd.clone(), found.clone(), stop.clone()));
        new.push(Provider { config: sd.clone(), found: found.clone(), stop });
        found
    }

    /// Lets loops follow what discovery finds.
    async fn follow(self) {
        let shutdown = self.0.options.shutdown.clone();
        while shutdown.run_until_cancelled(self.0.changed.notified()).await.is_some() {
            tokio::time::sleep(GATHER).await;
            let mut state = self.0.state.lock();
            let state = &mut *state;
            let changed: Vec<Arc<Found>> =
                state.providers.iter().filter(|p| p.found.take_changed()).map(|p| p.found.clone()).collect();
            for pool in state.pools.iter_mut().filter(|pool| pool.reads(&changed)) {
                pool.sync(&self.0);
            }
            self.count(state);
        }
    }

    fn count(&self, state: &State) {
        let n: usize = state.pools.iter().map(|pool| pool.loops().count()).sum();
        self.0.metrics.targets.set(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// By pool, then URL.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let state = self.0.state.lock();
        let mut out: Vec<TargetStatus> = state.pools.iter().flat_map(Pool::loops).map(pool::Loop::status).collect();
        out.sort_by(|a, b| (&a.target.pool, &a.target.url).cmp(&(&b.target.pool, &b.target.url)));
        out
    }

    pub fn dropped(&self) -> Vec<PoolDropped> {
        self.0.state.lock().pools.iter().map(Pool::dropped).collect()
    }

    pub fn discovery(&self) -> Vec<DiscoveryStatus> {
        self.0.state.lock().pools.iter().flat_map(Pool::discovery).collect()
    }

    /// Names of the scrape configurations, in the file's order.
    pub fn pools(&self) -> Vec<String> {
        self.0.state.lock().pools.iter().map(|pool| pool.name().to_owned()).collect()
    }

    /// The steps that targets of a pool go through.
    pub fn relabel_configs(&self, pool: &str) -> Option<Vec<RelabelConfig>> {
        let state = self.0.state.lock();
        state.pools.iter().find(|p| p.name() == pool).map(|p| p.config().relabel_configs.clone())
    }
}

/// What a loop needs of its configuration: groups, discovery and relabelling are in the target
/// already, and a change there alone does not restart it.
fn of_loop(config: &ScrapeConfig) -> ScrapeConfig {
    ScrapeConfig { groups: Vec::new(), sd: Vec::new(), relabel_configs: Vec::new(), ..config.clone() }
}

/// A key that is the same for targets whose loop may go on.
type LoopKey = (Labels, String, Duration, Duration);

fn key(target: &Target) -> LoopKey {
    (target.labels.clone(), target.url.clone(), target.interval, target.timeout)
}
