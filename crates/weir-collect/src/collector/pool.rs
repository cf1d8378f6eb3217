//! The targets of one scrape configuration.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use weir_model::Labels;

use super::{DiscoveryStatus, LoopKey, PoolDropped, Shared, Status, TargetStatus, key, of_loop, run};
use crate::config::ScrapeConfig;
use crate::discover::{Found, TargetGroup};
use crate::http::Http;
use crate::target::{DroppedTarget, Target, targets};

pub(super) struct Pool {
    config: Arc<ScrapeConfig>,
    http: Http,
    found: Vec<Arc<Found>>,
    loops: HashMap<LoopKey, Loop>,
    /// Labels and heirs of ended loops that have yet to end their series.
    ending: Vec<(Labels, CancellationToken)>,
    dropped: Vec<DroppedTarget>,
    n_dropped: usize,
    /// Why every scrape fails, when there are more targets than `target_limit`.
    verdict: Arc<Mutex<Option<String>>>,
}

pub(super) struct Loop {
    /// As last discovered; the loop itself knows it as it was at the start.
    target: Arc<Target>,
    status: Arc<Mutex<Status>>,
    stop: CancellationToken,
    /// Cancelled when another loop goes on with the same series.
    heir: CancellationToken,
}

impl Loop {
    pub fn status(&self) -> TargetStatus {
        let status = self.status.lock();
        TargetStatus {
            target: self.target.clone(),
            health: status.health,
            last_error: status.last_error.clone(),
            last_scrape: status.last_scrape,
            last_duration: status.last_duration,
            metadata: status.metadata.clone(),
        }
    }
}

impl Pool {
    pub fn new(config: Arc<ScrapeConfig>, http: Http, found: Vec<Arc<Found>>) -> Self {
        Self {
            config,
            http,
            found,
            loops: HashMap::new(),
            ending: Vec::new(),
            dropped: Vec::new(),
            n_dropped: 0,
            verdict: Arc::default(),
        }
    }

    /// The pool under another configuration; its loops stay where that makes no difference to them.
    pub fn changed(mut self, config: Arc<ScrapeConfig>, http: Http, found: Vec<Arc<Found>>) -> Self {
        if of_loop(&self.config) == of_loop(&config) {
            // Certificates may have changed in their files all the same, but a running client
            // reads them at its next start only, as upstream's reload has it too.
            self.config = config;
            self.found = found;
            return self;
        }
        // Ended loops stay listed until `sync` starts their heirs: series of a target that stays
        // are not ended in between.
        self.stop();
        Self { loops: self.loops, ending: self.ending, ..Self::new(config, http, found) }
    }

    pub fn name(&self) -> &str {
        &self.config.job_name
    }

    pub fn config(&self) -> &ScrapeConfig {
        &self.config
    }

    pub fn loops(&self) -> impl Iterator<Item = &Loop> {
        self.loops.values()
    }

    pub fn stop(&self) {
        self.loops.values().for_each(|l| l.stop.cancel());
    }

    /// Whether one of these is among its sources.
    pub fn reads(&self, changed: &[Arc<Found>]) -> bool {
        self.found.iter().any(|own| changed.iter().any(|other| Arc::ptr_eq(own, other)))
    }

    /// Starts and ends loops after what is known now.
    pub fn sync(&mut self, shared: &Arc<Shared>) {
        let groups: Vec<Arc<TargetGroup>> = self.found.iter().flat_map(|found| found.groups()).collect();
        let now = targets(&self.config, &groups);
        for fault in &now.faults {
            tracing::warn!(%fault, "a discovered target cannot be scraped");
        }
        let verdict = now.over_limit(&self.config);
        if let Some(text) = &verdict {
            tracing::warn!(pool = %self.config.job_name, "{text}");
        }
        *self.verdict.lock() = verdict;
        (self.dropped, self.n_dropped) = (now.dropped, now.n_dropped);
        let config = Arc::new(of_loop(&self.config));
        let mut before = std::mem::take(&mut self.loops);
        let mut fresh = Vec::new();
        for target in now.active {
            let (key, target) = (key(&target), Arc::new(target));
            match before.remove(&key) {
                Some(old) if !old.stop.is_cancelled() => drop(self.loops.insert(key, Loop { target, ..old })),
                Some(old) => {
                    old.heir.cancel();
                    fresh.push((key, target));
                }
                None => fresh.push((key, target)),
            }
        }
        for (key, target) in fresh {
            before.values().filter(|old| old.target.labels == target.labels).for_each(|old| old.heir.cancel());
            // One that comes back before its series were ended goes on with them.
            self.ending.iter().filter(|(labels, _)| *labels == target.labels).for_each(|(_, heir)| heir.cancel());
            self.loops.insert(key, self.start(shared, target, config.clone()));
        }
        before.values().for_each(|gone| gone.stop.cancel());
        self.ending.extend(before.into_values().map(|gone| (gone.target.labels.clone(), gone.heir)));
        self.ending.retain(|(_, heir)| !heir.is_cancelled());
    }

    fn start(&self, shared: &Arc<Shared>, target: Arc<Target>, config: Arc<ScrapeConfig>) -> Loop {
        let status = Arc::new(Mutex::new(Status::default()));
        let (stop, heir) = (shared.options.shutdown.child_token(), CancellationToken::new());
        let run = run::Run {
            shared: shared.clone(),
            target: target.clone(),
            config,
            http: self.http.clone(),
            status: status.clone(),
            verdict: self.verdict.clone(),
            stop: stop.clone(),
            heir: heir.clone(),
        };
        shared.tasks.spawn(run.run());
        Loop { target, status, stop, heir }
    }

    pub fn dropped(&self) -> PoolDropped {
        PoolDropped { pool: self.config.job_name.clone(), targets: self.dropped.clone(), n_dropped: self.n_dropped }
    }

    pub fn discovery(&self) -> Vec<DiscoveryStatus> {
        let row = |(sd, found): (&crate::config::SdConfig, &Arc<Found>)| {
            let groups = found.groups();
            DiscoveryStatus {
                pool: self.config.job_name.clone(),
                kind: sd.kind(),
                n_groups: groups.len(),
                n_targets: groups.iter().map(|group| group.targets.len()).sum(),
                last_error: found.error(),
            }
        };
        self.config.sd.iter().zip(&self.found).map(row).collect()
    }
}
