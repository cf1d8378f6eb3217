//! The executor: hears of notified groups, sends pages, keeps what was decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_model::{Clock, Labels, TenantId, Timestamp};
use weir_state::{State, StateError};

use super::link::{Link, LinkError, Signer};
use super::{Effect, Escalations, Event, Input, Page, PageJob, Recipient, Which};
use crate::keeper::Keeper;
use crate::manager::{Alerts, SentNotification};
use crate::metrics::OnCallMetrics;
use crate::oncall::OnCallConfig;
use crate::oncall::schedule::Override;
use crate::sender::{Delivery, Sender};
use crate::template::Notification;

/// Between two looks at whether alerts of open pages are over.
const LOOK: Duration = Duration::from_secs(1);
/// Requests at once; pages are few, and none should wait for a slow receiver of another.
const CONCURRENT_MAX: usize = 256;
/// Overrides made over the API.
const OVERRIDES_MAX: usize = 10_000;
const OVERRIDE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    #[error("no schedule `{0}`")]
    NoSchedule(String),
    #[error("no person `{0}`")]
    NoPerson(String),
    #[error("an override ends after it starts, in the future, and takes a year at most")]
    Times,
    #[error("more than {OVERRIDES_MAX} overrides; delete some")]
    TooMany,
}

/// Handle to schedules, overrides and pages. Cheap to clone.
#[derive(Clone)]
pub struct OnCall(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    alerts: Alerts,
    machine: Mutex<Escalations>,
    wake: Notify,
    sender: Sender,
    places: Semaphore,
    signer: Signer,
    external_url: String,
    keeper: Keeper,
    /// Cancelled when messages of a page are not wanted any more.
    stops: Mutex<HashMap<(TenantId, String), CancellationToken>>,
    metrics: OnCallMetrics,
    /// When the loop last went round.
    went_round: Mutex<Timestamp>,
}

impl OnCall {
    /// Goes on where an earlier run over the same `state` ended. `external_url`: base of links, without a slash at
    /// the end.
    pub fn new(
        clock: Arc<dyn Clock>,
        config: OnCallConfig,
        alerts: Alerts,
        external_url: String,
        state: State,
    ) -> Result<Self, StateError> {
        let mut machine = Escalations::new(Arc::new(config));
        machine.restore(&state);
        let (now, metrics) = (clock.now(), OnCallMetrics::default());
        let this = Self(Arc::new(Inner {
            sender: Sender::new(clock.clone()),
            signer: Signer::open(&state)?,
            clock,
            alerts,
            machine: Mutex::new(machine),
            wake: Notify::new(),
            places: Semaphore::new(CONCURRENT_MAX),
            external_url,
            keeper: Keeper::new(state, "pages and overrides", metrics.unwritten.clone()),
            stops: Mutex::default(),
            metrics,
            went_round: Mutex::new(now),
        }));
        this.observe_or_not();
        Ok(this)
    }

    /// Without chains nobody needs to hear of groups.
    fn observe_or_not(&self) {
        let some = !self.0.machine.lock().config().chains.is_empty();
        self.0.alerts.observe(some);
    }

    pub fn metrics(&self) -> &OnCallMetrics {
        &self.0.metrics
    }

    pub fn reload(&self, config: OnCallConfig) {
        self.0.sender.forget_connections();
        self.0.machine.lock().set_config(Arc::new(config));
        self.observe_or_not();
        self.0.wake.notify_one();
    }

    pub fn config(&self) -> Arc<OnCallConfig> {
        self.0.machine.lock().config().clone()
    }

    pub fn overrides(&self) -> Vec<Override> {
        self.0.machine.lock().overrides()
    }

    /// Newest first.
    pub fn pages(&self, tenant: &TenantId) -> Vec<Page> {
        self.0.machine.lock().pages(tenant)
    }

    pub fn page(&self, tenant: &TenantId, id: &str) -> Option<Page> {
        self.0.machine.lock().page(tenant, id).cloned()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    pub(super) fn alerts(&self) -> &Alerts {
        &self.0.alerts
    }

    pub(super) fn sender(&self) -> &Sender {
        &self.0.sender
    }

    pub(super) fn external_url(&self) -> &str {
        &self.0.external_url
    }

    /// When the loop last went round.
    pub(super) fn went_round(&self) -> Timestamp {
        *self.0.went_round.lock()
    }

    /// Stops the chains of the pages that are meant; those that are open, acknowledged. Durable when it answers.
    pub async fn acknowledge(&self, tenant: &TenantId, which: Which, by: &str, comment: &str) {
        let (by, comment) = (by.to_owned(), comment.to_owned());
        let input = Input::Acknowledge { tenant: tenant.clone(), which, by, comment };
        let effects = self.0.machine.lock().step(input, self.0.clock.now());
        self.stop_and_count(effects);
        self.persist().await;
    }

    /// Durable when it answers. `id`: of the override.
    pub async fn add_override(&self, over: Override) -> Result<(), OverrideError> {
        {
            let mut machine = self.0.machine.lock();
            let (config, now) = (machine.config().clone(), self.0.clock.now());
            if config.schedule(&over.schedule).is_none() {
                return Err(OverrideError::NoSchedule(over.schedule));
            }
            if config.person(&over.person).is_none() {
                return Err(OverrideError::NoPerson(over.person));
            }
            if over.end <= over.start || over.end <= now || over.end.since(over.start) > OVERRIDE_MAX {
                return Err(OverrideError::Times);
            }
            if machine.overrides().len() >= OVERRIDES_MAX {
                return Err(OverrideError::TooMany);
            }
            machine.add_override(over);
        }
        self.persist().await;
        Ok(())
    }

    /// Whether it was there.
    pub async fn remove_override(&self, id: &str) -> bool {
        let known = self.0.machine.lock().remove_override(id);
        self.persist().await;
        known
    }

    /// What a link in a page is good for.
    pub fn read_link(&self, token: &str) -> Result<Link, LinkError> {
        self.0.signer.read(token, self.0.clock.now())
    }

    fn link(&self, job: &PageJob) -> String {
        let person = match &job.to {
            Recipient::Person { person, .. } => person.clone(),
            Recipient::Receiver(_) => String::new(),
        };
        let link = Link { tenant: job.tenant.clone(), page: job.page.clone(), person, until: job.link_until };
        format!("{}/link/{}", self.0.external_url, self.0.signer.sign(&link))
    }

    /// When the disk refuses, pages go out all the same, and the next write carries what this one could not.
    async fn persist(&self) {
        self.0.keeper.keep(|| self.0.machine.lock().take_batch()).await;
    }

    /// Runs until `shutdown`; what is being sent then is sent again at the next start.
    pub async fn run(self, shutdown: CancellationToken) {
        let jobs = TaskTracker::new();
        while !shutdown.is_cancelled() {
            let (due, next) = self.decide();
            // Begun on disk first: a crash from here on sends it again.
            self.persist().await;
            for job in due {
                let stop = self.stop_token(&job);
                // In this order: whoever acknowledges now finds the token, and who did before is found here.
                if !self.0.machine.lock().wants(job.id) {
                    continue;
                }
                let (this, shutdown) = (self.clone(), shutdown.clone());
                jobs.spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        // Acknowledged, or over, before it was sent.
                        () = stop.cancelled() => {}
                        () = this.deliver(job) => {}
                    }
                });
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.0.wake.notified() => {}
                () = self.0.alerts.flushed() => {}
                () = tokio::time::sleep(next) => {}
            }
        }
        jobs.close();
        jobs.wait().await;
        self.persist().await;
    }

    /// One round: what is to be sent, and how long until the next.
    fn decide(&self) -> (Vec<PageJob>, Duration) {
        let inner = &self.0;
        let now = inner.clock.now();
        *inner.went_round.lock() = now;
        let observed = inner.alerts.take_observed();
        let alertmanager = inner.alerts.config();
        let mut machine = inner.machine.lock();
        let mut effects = Vec::new();
        for one in observed {
            effects.extend(machine.step(Input::Observed(one), now));
        }
        let standing =
            |tenant: &TenantId, members: &_, inhibition| inner.alerts.standing(tenant, members, inhibition, now);
        effects.extend(machine.step(Input::Tick { standing: &standing, alertmanager: &alertmanager }, now));
        let n_open = machine.n_open();
        inner.metrics.open.set(i64::try_from(n_open).unwrap_or(i64::MAX));
        let wake = machine.next_wake().map(|at| at.since(now));
        drop(machine);
        let due = self.stop_and_count(effects);
        let look = if n_open > 0 { LOOK } else { Duration::from_secs(60) };
        (due, wake.unwrap_or(look).min(look).max(Duration::from_millis(1)))
    }

    /// Does what is quick; gives what is to be sent.
    fn stop_and_count(&self, effects: Vec<Effect>) -> Vec<PageJob> {
        let metrics = &self.0.metrics;
        let mut due = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send(job) => due.push(*job),
                Effect::Stop(tenant, page) => {
                    if let Some(token) = self.0.stops.lock().remove(&(tenant, page)) {
                        token.cancel();
                    }
                }
                Effect::Count(Event::Started) => drop(metrics.pages.inc()),
                Effect::Count(Event::Exhausted) => drop(metrics.exhausted.inc()),
                Effect::Count(Event::Acknowledged) => drop(metrics.acknowledged.inc()),
                Effect::Count(Event::Refused) => {
                    metrics.refused.inc();
                    tracing::error!("too many pages are open: one more is not escalated");
                }
            }
        }
        due
    }

    /// Of the page, unless the message says that it is over.
    fn stop_token(&self, job: &PageJob) -> CancellationToken {
        if job.resolve {
            return CancellationToken::new();
        }
        self.0.stops.lock().entry((job.tenant.clone(), job.page.clone())).or_default().clone()
    }

    async fn deliver(&self, job: PageJob) {
        let inner = &self.0;
        let began = inner.clock.now();
        let (alerts, cause) = inner.alerts.page_data(&job.tenant, &job.members, began);
        let link = self.link(&job);
        let shown = match &job.to {
            Recipient::Person { person, channel } => format!("{person} ({channel})"),
            Recipient::Receiver(name) => name.clone(),
        };
        let n_alerts = alerts.len();
        let mut notification = Notification {
            receiver: shown.clone(),
            group_key: format!("page {}", job.page),
            group_labels: Labels::empty(),
            alerts,
            route_labels: Labels::empty(),
            external_url: inner.external_url.clone(),
            reason: job.reason.clone(),
            incident_url: link.clone(),
            cause,
        };
        for alert in &mut notification.alerts {
            alert.incident_url = link.clone();
            // Some of the alerts may be over before the page is.
            alert.firing &= !job.resolve;
        }
        if let Some(cause) = &mut notification.cause {
            cause.url = link.clone();
        }
        notification.group_labels = notification.common_labels().filter(|name| name == "alertname");
        let place = inner.places.acquire().await;
        let config = inner.alerts.config();
        let delivery = Delivery {
            notification: &notification,
            tenant: &job.tenant,
            templates: &config.templates,
            kept: &job.kept,
            deadline: job.deadline,
        };
        let result = inner.sender.send(delivery, &job.integration, &inner.metrics.retries).await;
        drop(place);
        let now = inner.clock.now();
        match &result {
            Ok(_) => inner.metrics.sent.inc(),
            Err(error) => {
                tracing::error!(to = %shown, integration = job.integration.kind_name(), %error, "page failed");
                inner.metrics.failed.inc()
            }
        };
        inner.alerts.note_sent(SentNotification {
            tenant: job.tenant.clone(),
            at: now,
            receiver: shown,
            integration: job.integration.kind_name(),
            error: result.clone().err(),
            group_key: notification.group_key,
            n_alerts,
            reason: job.reason,
        });
        let effects = inner.machine.lock().step(Input::Answered { job: job.id, result }, now);
        self.stop_and_count(effects);
        self.persist().await;
        inner.wake.notify_one();
    }
}
