//! The executor: feeds the machine, sends what it decides, remembers what was sent.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_model::{AlertEvent, AlertListener, Clock, Labels, Matcher, TenantId, Timestamp};
use weir_state::State;

use crate::config::Config;
use crate::escalation::{Observed, Standing};
use crate::keeper::Keeper;
use crate::machine::{AlertStatus, GroupView, Job, Machine, PostError, PostedAlert};
use crate::metrics::{Kind, Metrics};
use crate::sender::{Delivery, Sender};
use crate::silence::{Silence, SilenceError, SilenceRequest};
use crate::template::AlertData;
use crate::{CauseNote, Enricher};

/// Notifications remembered, over all tenants; about 300 bytes each.
const SENT_MAX: usize = 10_000;
/// Requests to receivers at once; more wait their turn within their time.
const CONCURRENT_MAX: usize = 64;

/// A notification that was sent or given up.
#[derive(Clone, Debug)]
pub struct SentNotification {
    pub tenant: TenantId,
    pub at: Timestamp,
    pub receiver: String,
    pub integration: &'static str,
    /// `None`: delivered.
    pub error: Option<String>,
    pub group_key: String,
    pub n_alerts: usize,
    pub reason: String,
}

/// Handle to routing, silences and notification. Cheap to clone.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    machine: Mutex<Machine>,
    wake: Notify,
    /// Groups were notified that pages may begin with.
    flushed: Notify,
    sent: Mutex<VecDeque<SentNotification>>,
    sender: Sender,
    places: Semaphore,
    keeper: Keeper,
    metrics: Metrics,
    /// When the loop last went round.
    went_round: Mutex<Timestamp>,
}

impl Alerts {
    /// Goes on where an earlier run over the same `state` ended. `external_url`: base of links, without
    /// a slash at the end.
    pub fn new(clock: Arc<dyn Clock>, config: Config, external_url: String, state: State) -> Self {
        for warning in config.warnings.iter().chain(&config.link_warnings(&external_url)) {
            tracing::warn!("alertmanager configuration: {warning}");
        }
        let mut machine = Machine::new(Arc::new(config), external_url);
        machine.restore(&state, clock.now());
        let metrics = Metrics::default();
        Self(Arc::new(Inner {
            went_round: Mutex::new(clock.now()),
            sender: Sender::new(clock.clone()),
            clock,
            machine: Mutex::new(machine),
            wake: Notify::new(),
            flushed: Notify::new(),
            sent: Mutex::new(VecDeque::new()),
            places: Semaphore::new(CONCURRENT_MAX),
            keeper: Keeper::new(state, "silences and notifications", metrics.unwritten.clone()),
            metrics,
        }))
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Who knows causes; asked when a notification goes out and each second while alerts fire.
    pub fn set_enricher(&self, enricher: Arc<dyn Enricher>) {
        self.0.machine.lock().set_enricher(enricher);
        self.0.wake.notify_one();
    }

    pub fn reload(&self, config: Config) {
        self.0.sender.forget_connections();
        self.0.machine.lock().set_config(Arc::new(config), self.0.clock.now());
        self.0.wake.notify_one();
    }

    pub fn config(&self) -> Arc<Config> {
        self.0.machine.lock().config().clone()
    }

    pub fn post(&self, tenant: &TenantId, alert: PostedAlert) -> Result<(), PostError> {
        self.0.metrics.received.inc();
        let result = self.0.machine.lock().post(tenant, alert, self.0.clock.now());
        self.0.wake.notify_one();
        result
    }

    pub fn alerts(&self, tenant: &TenantId, matchers: &[Matcher]) -> Vec<AlertStatus> {
        self.0.machine.lock().alerts(tenant, matchers, self.0.clock.now())
    }

    pub fn groups(&self, tenant: &TenantId, matchers: &[Matcher]) -> Vec<GroupView> {
        self.0.machine.lock().groups(tenant, matchers, self.0.clock.now())
    }

    pub fn silences(&self, tenant: &TenantId) -> Vec<Silence> {
        self.0.machine.lock().silences(tenant)
    }

    /// Durable when it answers. `id`: of the silence, if it is a new one.
    pub async fn silence(
        &self,
        tenant: &TenantId,
        request: SilenceRequest,
        id: String,
    ) -> Result<String, SilenceError> {
        let id = self.0.machine.lock().silence(tenant, request, id, self.0.clock.now())?;
        self.persist().await;
        Ok(id)
    }

    /// Whether the silence is known.
    pub async fn expire_silence(&self, tenant: &TenantId, id: &str) -> bool {
        let known = self.0.machine.lock().expire_silence(tenant, id, self.0.clock.now());
        self.persist().await;
        known
    }

    /// Writes what changed. When the disk refuses, pages go out all the same, and the next write
    /// carries what this one could not.
    async fn persist(&self) {
        self.0.keeper.keep(|| self.0.machine.lock().take_batch()).await;
    }

    /// Newest first.
    pub fn notifications(&self, tenant: &TenantId, limit: usize) -> Vec<SentNotification> {
        let sent = self.0.sent.lock();
        sent.iter().rev().filter(|n| n.tenant == *tenant).take(limit).cloned().collect()
    }

    pub(crate) fn went_round(&self) -> Timestamp {
        *self.0.went_round.lock()
    }

    pub(crate) fn note_sent(&self, sent: SentNotification) {
        let mut log = self.0.sent.lock();
        if log.len() == SENT_MAX {
            log.pop_front();
        }
        log.push_back(sent);
    }

    /// Whether groups that are notified are kept for [`Alerts::take_observed`].
    pub(crate) fn observe(&self, observe: bool) {
        self.0.machine.lock().observe(observe, self.0.clock.now());
        self.0.wake.notify_one();
    }

    /// Until there is something for [`Alerts::take_observed`].
    pub(crate) async fn flushed(&self) {
        self.0.flushed.notified().await;
    }

    pub(crate) fn take_observed(&self) -> Vec<Observed> {
        self.0.machine.lock().take_observed()
    }

    pub(crate) fn standing(
        &self,
        tenant: &TenantId,
        members: &BTreeSet<Labels>,
        inhibition: bool,
        now: Timestamp,
    ) -> Standing {
        self.0.machine.lock().standing(tenant, members, inhibition, now)
    }

    pub(crate) fn page_data(
        &self,
        tenant: &TenantId,
        members: &BTreeSet<Labels>,
        now: Timestamp,
    ) -> (Vec<AlertData>, Option<CauseNote>) {
        self.0.machine.lock().page_data(tenant, members, now)
    }

    /// Runs until `shutdown`; what is being sent then is given up.
    pub async fn run(self, shutdown: CancellationToken) {
        let jobs = TaskTracker::new();
        while !shutdown.is_cancelled() {
            let now = self.0.clock.now();
            *self.0.went_round.lock() = now;
            let (due, next, observed) = {
                let mut machine = self.0.machine.lock();
                (machine.tick(now), machine.next_wake(), machine.has_observed())
            };
            if observed {
                self.0.flushed.notify_one();
            }
            for job in due {
                let (this, shutdown) = (self.clone(), shutdown.clone());
                jobs.spawn(async move { shutdown.run_until_cancelled(this.deliver(job)).await });
            }
            self.persist().await;
            let pause = next.map_or(Duration::from_secs(60), |at| at.since(self.0.clock.now()));
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.0.wake.notified() => {}
                // A wake-up at once would spin when the clock stands still within a millisecond.
                () = tokio::time::sleep(pause.max(Duration::from_millis(1))) => {}
            }
        }
        jobs.close();
        jobs.wait().await;
        self.persist().await;
    }

    async fn deliver(&self, job: Job) {
        let inner = &self.0;
        let began = inner.clock.now();
        let receiver = &job.config.receivers[job.receiver];
        let integration = &receiver.integrations[job.integration];
        let kind = Kind { integration: integration.name() };
        inner.metrics.under_way.inc();
        let place = inner.places.acquire().await;
        let retries = inner.metrics.retries.get_or_create(&kind).clone();
        let delivery = Delivery {
            notification: &job.notification,
            tenant: &job.tenant,
            templates: &job.config.templates,
            kept: &job.kept,
            deadline: job.deadline,
        };
        let result = inner.sender.send(delivery, integration, &retries).await;
        drop(place);
        inner.metrics.under_way.dec();
        let now = inner.clock.now();
        inner.metrics.seconds.observe(now.since(began).as_secs_f64());
        match &result {
            Ok(_) => inner.metrics.sent.get_or_create(&kind).inc(),
            Err(error) => {
                tracing::error!(receiver = %receiver.name, integration = kind.integration, %error, "notification failed");
                inner.metrics.failed.get_or_create(&kind).inc()
            }
        };
        {
            let mut machine = inner.machine.lock();
            if let Ok(kept) = &result {
                machine.keep(job.id, kept.clone());
            }
            machine.done(job.id, result.is_ok(), now);
        }
        self.persist().await;
        let sent = SentNotification {
            tenant: job.tenant,
            at: now,
            receiver: receiver.name.clone(),
            integration: kind.integration,
            error: result.err(),
            group_key: job.notification.group_key,
            n_alerts: job.notification.alerts.len(),
            reason: job.notification.reason,
        };
        self.note_sent(sent);
        inner.wake.notify_one();
    }
}

impl AlertListener for Alerts {
    fn on_alert(&self, event: &AlertEvent) {
        self.0.metrics.received.inc();
        self.0.machine.lock().on_event(event, self.0.clock.now());
        self.0.wake.notify_one();
    }
}
