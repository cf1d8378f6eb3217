//! Grouping, deduplication and muting: a pure machine over a time that is handed in.
//!
//! Alerts come in, jobs (notifications to send) go out, results come back. Nothing here waits.
//! Source: Alertmanager `dispatch/dispatch.go`, `notify/notify.go` (`DedupStage.needsUpdate`),
//! `provider/mem`, `nflog`.

mod flush;
mod inhibit;
mod observe;
mod persist;
mod store;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_model::{AlertEvent, AlertPhase, Labels, TenantId, Timestamp};

use crate::Enricher;
use crate::config::Config;
use crate::escalation::Observed;
use crate::silence::Silences;
use crate::template::Notification;

pub use store::{Alert, AlertStatus, GroupView, PostError, PostedAlert};

/// Alerts of one tenant at once; an alert with its texts takes about a kilobyte.
const ALERTS_MAX: usize = 100_000;
/// A firing alert that its rule stops repeating (each minute) resolves after this long.
const RULE_ALERT_LIFE: Duration = Duration::from_secs(4 * 60);
/// A notification may at least take this long, whatever the group's interval.
const BUDGET_MIN: Duration = Duration::from_secs(10);
/// How often causes of notified alerts are asked for.
const CAUSE_CHECK: Duration = Duration::from_secs(1);
/// Updates about a changed cause, after which a group stays quiet until its next notification.
const CAUSE_UPDATES_MAX: u32 = 5;
const GC_INTERVAL: Duration = Duration::from_secs(60);
/// How long log entries and expired silences are kept.
const RETENTION: Duration = Duration::from_secs(120 * 3600);

/// A route and the values of its `group_by` labels.
type GroupId = (usize, Labels);

/// Group key, receiver, position of the integration in it.
type LogKey = (String, String, usize);

/// What was last told to one integration about one group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct LogEntry {
    /// Fingerprints.
    firing: BTreeSet<u64>,
    resolved: BTreeSet<u64>,
    at: Timestamp,
    expires_at: Timestamp,
    cause: Option<String>,
    cause_updates: u32,
    /// What the receiver wants to know at the next notification, such as the message to change.
    kept: String,
}

#[derive(Debug)]
struct Group {
    members: BTreeSet<Labels>,
    next_flush: Timestamp,
    flushed: bool,
    /// Jobs under way; no flush meanwhile.
    jobs: usize,
    failed: bool,
    /// Resolved alerts that leave when all jobs succeed, unless they change meanwhile.
    leaving: Vec<(Labels, Timestamp)>,
}

#[derive(Default)]
struct Tenant {
    alerts: BTreeMap<Labels, Alert>,
    groups: BTreeMap<GroupId, Group>,
    log: BTreeMap<LogKey, LogEntry>,
    silences: Silences,
}

/// A notification to send.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: u64,
    pub tenant: TenantId,
    /// Indexes into the configuration's receivers and the receiver's integrations.
    pub receiver: usize,
    pub integration: usize,
    pub config: Arc<Config>,
    pub notification: Notification,
    /// What the last delivery of this group to this integration kept.
    pub kept: String,
    /// No attempt starts later.
    pub deadline: Timestamp,
}

/// A job handed out, and what its success means.
struct InFlight {
    tenant: TenantId,
    group: GroupId,
    log_key: LogKey,
    entry: LogEntry,
}

pub struct Machine {
    config: Arc<Config>,
    external_url: String,
    enricher: Option<Arc<dyn Enricher>>,
    tenants: BTreeMap<TenantId, Tenant>,
    in_flight: HashMap<u64, InFlight>,
    next_job: u64,
    next_gc: Timestamp,
    next_cause_check: Timestamp,
    /// What changed since the last [`Machine::take_batch`].
    dirty: BTreeSet<Record>,
    /// Groups that were notified since the last [`Machine::take_observed`], by tenant, receiver and key; `None` while
    /// nobody asks.
    observed: Option<BTreeMap<(TenantId, String, String), Observed>>,
}

/// What outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Record {
    Silence(TenantId, String),
    Log(TenantId, LogKey),
    Alert(TenantId, Labels),
}

impl Machine {
    pub fn new(config: Arc<Config>, external_url: String) -> Self {
        Self {
            config,
            external_url,
            enricher: None,
            tenants: BTreeMap::new(),
            in_flight: HashMap::new(),
            next_job: 1,
            next_gc: Timestamp::MIN,
            next_cause_check: Timestamp::MIN,
            dirty: BTreeSet::new(),
            observed: None,
        }
    }

    pub fn set_enricher(&mut self, enricher: Arc<dyn Enricher>) {
        self.enricher = Some(enricher);
    }

    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Groups are formed anew; the log keeps what was said from being said twice.
    pub fn set_config(&mut self, config: Arc<Config>, now: Timestamp) {
        self.config = config;
        self.in_flight.clear();
        let tenants: Vec<TenantId> = self.tenants.keys().cloned().collect();
        for tenant in tenants {
            let state = self.tenants.entry(tenant.clone()).or_default();
            state.groups.clear();
            let alerts: Vec<Labels> = state.alerts.keys().cloned().collect();
            for labels in alerts {
                self.route(&tenant, &labels, now);
            }
        }
    }

    /// An alert of our own rules. Pending alerts notify nobody; one that resolves without ever having
    /// fired is not known here.
    pub fn on_event(&mut self, event: &AlertEvent, now: Timestamp) {
        let known = self.tenants.get(&event.tenant).is_some_and(|t| t.alerts.contains_key(&event.labels));
        let ends_at = match event.phase {
            AlertPhase::Pending => return,
            // Nobody knows whether it still holds: who was told that it fires is not told that it ended.
            AlertPhase::Unknown if !known => return,
            AlertPhase::Firing | AlertPhase::Unknown => now.plus(RULE_ALERT_LIFE),
            AlertPhase::Resolved if known => event.at,
            AlertPhase::Resolved => return,
        };
        let alert = Alert {
            labels: event.labels.clone(),
            annotations: event.annotations.clone(),
            starts_at: if event.phase == AlertPhase::Resolved { Timestamp(event.at.0 - 1) } else { event.at },
            ends_at,
            updated_at: now,
            timeout: event.phase != AlertPhase::Resolved,
            generator_url: event.generator_url.clone(),
        };
        if let Err(error) = self.insert(&event.tenant, alert, now) {
            tracing::warn!(%error, alert = %event.labels, "alert is not notified");
        }
    }

    /// Puts an alert into the groups of the routes it reaches.
    fn route(&mut self, tenant: &TenantId, labels: &Labels, now: Timestamp) {
        let config = self.config.clone();
        let Some(state) = self.tenants.get_mut(tenant) else { return };
        let Some(alert) = state.alerts.get(labels) else { return };
        for idx in config.routes_of(labels) {
            let route = &config.routes[idx];
            let id = (idx, route.group_by.of(labels));
            let waited = alert.starts_at.plus(route.group_wait) < now;
            match state.groups.get_mut(&id) {
                Some(group) => {
                    group.members.insert(labels.clone());
                    if !group.flushed && waited {
                        group.next_flush = group.next_flush.min(now);
                    }
                }
                // Its end is to be told when its beginning was: a new configuration made the groups anew.
                None if alert.resolved(now)
                    && !state.log.values().any(|e| e.firing.contains(&labels.fingerprint())) => {}
                None => {
                    let next_flush = if waited { now } else { now.plus(route.group_wait) };
                    let members = BTreeSet::from([labels.clone()]);
                    let group =
                        Group { members, next_flush, flushed: false, jobs: 0, failed: false, leaving: Vec::new() };
                    state.groups.insert(id, group);
                }
            }
        }
    }

    /// Flushes what is due, asks for causes, forgets what is over.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Job> {
        let mut jobs = Vec::new();
        let tenants: Vec<TenantId> = self.tenants.keys().cloned().collect();
        let causes = self.enricher.is_some() && self.next_cause_check <= now;
        for tenant in &tenants {
            self.flush_due(tenant, now, &mut jobs);
            if causes {
                self.tell_causes(tenant, now, &mut jobs);
            }
        }
        if causes {
            self.next_cause_check = now.plus(CAUSE_CHECK);
        }
        if self.next_gc <= now {
            self.next_gc = now.plus(GC_INTERVAL);
            self.collect_garbage(now);
        }
        jobs
    }

    /// When [`Machine::tick`] has something to do again.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let groups = self.tenants.values().flat_map(|t| t.groups.values());
        let flush = groups.filter(|g| g.jobs == 0).map(|g| g.next_flush).min();
        let told = || self.tenants.values().any(|t| t.log.values().any(|e| !e.firing.is_empty()));
        let cause = (self.enricher.is_some() && told()).then_some(self.next_cause_check);
        flush.into_iter().chain(cause).min()
    }

    /// What the delivery of a job keeps for the next one; before [`Machine::done`].
    pub fn keep(&mut self, job: u64, kept: String) {
        if let Some(in_flight) = self.in_flight.get_mut(&job) {
            in_flight.entry.kept = kept;
        }
    }

    /// The result of a job.
    pub fn done(&mut self, job: u64, delivered: bool, now: Timestamp) {
        let Some(in_flight) = self.in_flight.remove(&job) else { return };
        let Some(state) = self.tenants.get_mut(&in_flight.tenant) else { return };
        if delivered {
            let mut entry = in_flight.entry;
            entry.at = entry.at.max(now);
            self.dirty.insert(Record::Log(in_flight.tenant.clone(), in_flight.log_key.clone()));
            state.log.insert(in_flight.log_key, entry);
        }
        let Some(group) = state.groups.get_mut(&in_flight.group) else { return };
        group.failed |= !delivered;
        group.jobs = group.jobs.saturating_sub(1);
        if group.jobs > 0 {
            return;
        }
        let leaving = std::mem::take(&mut group.leaving);
        if !group.failed {
            for (labels, updated_at) in leaving {
                if state.alerts.get(&labels).is_none_or(|a| a.updated_at == updated_at) {
                    group.members.remove(&labels);
                }
            }
        }
        if group.members.is_empty() {
            state.groups.remove(&in_flight.group);
        }
    }

    fn collect_garbage(&mut self, now: Timestamp) {
        for (id, tenant) in &mut self.tenants {
            let grouped: BTreeSet<&Labels> = tenant.groups.values().flat_map(|g| &g.members).collect();
            let gone: Vec<Labels> = tenant
                .alerts
                .values()
                .filter(|a| a.resolved(now) && !grouped.contains(&a.labels))
                .map(|a| a.labels.clone())
                .collect();
            for labels in gone {
                tenant.alerts.remove(&labels);
                self.dirty.insert(Record::Alert(id.clone(), labels));
            }
            let over: Vec<LogKey> =
                tenant.log.iter().filter(|(_, entry)| entry.expires_at <= now).map(|(key, _)| key.clone()).collect();
            for key in over {
                tenant.log.remove(&key);
                self.dirty.insert(Record::Log(id.clone(), key));
            }
            for silence in tenant.silences.collect_garbage(now, RETENTION) {
                self.dirty.insert(Record::Silence(id.clone(), silence));
            }
        }
        self.tenants.retain(|_, t| !(t.alerts.is_empty() && t.log.is_empty() && t.silences.is_empty()));
    }
}

#[cfg(test)]
mod tests;
