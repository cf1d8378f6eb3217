//! Runs the incidents: hears alerts, diagnoses while an incident is open, tells what it knows.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashMap;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use weir_model::entity::Aliases;
use weir_model::source::{Cancel, ReadContext};
use weir_model::{AlertEvent, AlertListener, AlertPhase, Budget, Clock, TenantId, Timestamp};
use weir_state::{Batch, State, StateError};

use crate::diagnose::{Sources, diagnose};
use crate::graph::Graph;
use crate::incident::{Acknowledgement, Book, CAUSES_MAX, Incident, IncidentAlert, IncidentState};
use crate::metrics::DiagnoseMetrics;
use crate::narrative;
use crate::stored;
use crate::types::Question;

/// Alert transitions that wait to be heard.
const QUEUE_MAX: usize = 10_000;
const TENANTS_MAX: usize = 1_000;
/// Between two diagnoses of an incident whose cause may still change, and of one that is settled.
const EVERY: Duration = Duration::from_secs(3);
const EVERY_SETTLED: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_millis(500);
/// Of diagnoses that say the same, every so many is written down for its newer figures.
const WRITTEN_EVERY: u32 = 5;

pub struct IncidentOptions {
    pub clock: Arc<dyn Clock>,
    pub sources: Sources,
    /// What diagnoses draw from.
    pub budget: Budget,
    pub graph: Arc<Graph>,
    pub aliases: Aliases,
    /// Base of the links to the page, without a slash at the end.
    pub external_url: String,
    pub metrics: DiagnoseMetrics,
    /// Where incidents outlive a restart.
    pub state: State,
}

/// What a notification says of the cause.
#[derive(Clone, Debug, PartialEq)]
pub struct CauseNote {
    /// Id of the incident.
    pub incident: String,
    /// One sentence.
    pub title: String,
    /// Evidence and changes, each a line.
    pub lines: Vec<String>,
    pub known: bool,
    pub confidence: f64,
    pub url: String,
}

struct Shared {
    options: IncidentOptions,
    books: Mutex<AHashMap<TenantId, Book>>,
    queue: mpsc::Sender<AlertEvent>,
    /// One writer at a time, so that an older state of an incident never follows a newer one.
    writing: Mutex<()>,
}

/// Cheap to clone; listens to alerts and answers questions about incidents.
#[derive(Clone)]
pub struct Incidents(Arc<Shared>);

/// The loop behind [`Incidents`].
pub struct IncidentRunner {
    shared: Arc<Shared>,
    events: mpsc::Receiver<AlertEvent>,
}

impl AlertListener for Incidents {
    fn on_alert(&self, event: &AlertEvent) {
        if self.0.queue.try_send(event.clone()).is_err() {
            self.0.options.metrics.alerts_dropped.inc();
        }
    }
}

impl Incidents {
    pub fn new(options: IncidentOptions) -> (Self, IncidentRunner) {
        let (queue, events) = mpsc::channel(QUEUE_MAX);
        let books = Mutex::new(stored::read(&options.state));
        let shared = Arc::new(Shared { options, books, queue, writing: Mutex::new(()) });
        (Self(shared.clone()), IncidentRunner { shared, events })
    }

    fn read<T: Default>(&self, tenant: &TenantId, read: impl FnOnce(&Book) -> T) -> T {
        self.0.books.lock().get(tenant).map(read).unwrap_or_default()
    }

    /// Newest first.
    pub fn list(&self, tenant: &TenantId, state: Option<IncidentState>, limit: usize) -> Vec<Incident> {
        self.read(tenant, |book| {
            book.iter().filter(|i| state.is_none_or(|s| s == i.state())).take(limit).cloned().collect()
        })
    }

    /// By the incident's id, or an alert's fingerprint (16 hexadecimal digits).
    pub fn get(&self, tenant: &TenantId, id: &str) -> Option<Incident> {
        self.read(tenant, |book| book.get(id).cloned())
    }

    /// Alerts of open incidents.
    pub fn active_alerts(&self, tenant: &TenantId) -> Vec<IncidentAlert> {
        self.read(tenant, |book| {
            let open = book.iter().filter(|i| i.resolved_at.is_none());
            open.flat_map(|i| i.alerts.iter()).filter(|a| a.phase != AlertPhase::Resolved).cloned().collect()
        })
    }

    /// Somebody is on it; `None` without such an open incident. Durable after [`Incidents::flush`].
    pub fn acknowledge(&self, tenant: &TenantId, id: &str, by: String, comment: String) -> Option<Incident> {
        let at = self.0.options.clock.now();
        self.0.books.lock().get_mut(tenant)?.acknowledge(id, Acknowledgement { by, at, comment })
    }

    /// Writes down what changed. Blocks; what fails goes to the disk with the next one.
    pub fn flush(&self) -> Result<(), StateError> {
        self.0.flush()
    }

    /// What is known of the cause of an alert, for its notification. `None` when the alert belongs
    /// to no incident, or nothing was read yet.
    pub fn note(&self, tenant: &TenantId, fingerprint: &str) -> Option<CauseNote> {
        let incident = self.get(tenant, fingerprint)?;
        incident.diagnosed_at?;
        let url = format!("{}/incidents/{}?tenant={}", self.0.options.external_url, incident.id, tenant);
        Some(CauseNote {
            title: narrative::summary(&incident),
            lines: narrative::lines(&incident),
            known: incident.diagnosis.known,
            confidence: incident.diagnosis.confidence,
            incident: incident.id,
            url,
        })
    }
}

impl IncidentRunner {
    /// Until `shutdown`.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // What was open when weir stopped is looked into again.
        let mut due = self.shared.open();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let cancel = Cancel::default();
        let _guard = cancel.on_drop();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                event = self.events.recv() => {
                    let Some(event) = event else { return };
                    let now = self.shared.options.clock.now();
                    if let Some(id) = self.shared.hear(&event, now) {
                        due.insert((event.tenant.clone(), id), now);
                    }
                    // More may be waiting: hear them all before reading telemetry.
                    if !self.events.is_empty() {
                        continue;
                    }
                }
                _ = tick.tick() => self.shared.expire(),
            }
            self.shared.write().await;
            let now = self.shared.options.clock.now();
            let ready: Vec<_> = due.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
            for (tenant, id) in ready {
                match self.shared.diagnose(&tenant, &id, &cancel).await {
                    Some(next) => due.insert((tenant, id), self.shared.options.clock.now().plus(next)),
                    None => due.remove(&(tenant, id)),
                };
            }
        }
    }
}

impl Shared {
    fn open(&self) -> AHashMap<(TenantId, String), Timestamp> {
        let (books, now) = (self.books.lock(), self.options.clock.now());
        let open = |(tenant, book): (&TenantId, &Book)| {
            let open = book.iter().filter(|i| i.resolved_at.is_none());
            open.map(|i| ((tenant.clone(), i.id.clone()), now)).collect::<Vec<_>>()
        };
        books.iter().flat_map(open).collect()
    }

    fn flush(&self) -> Result<(), StateError> {
        let _one_at_a_time = self.writing.lock();
        let mut batch = Batch::default();
        for (tenant, book) in self.books.lock().iter_mut() {
            book.take_changed().into_iter().for_each(|(id, incident)| stored::put(&mut batch, tenant, id, incident));
        }
        if batch.is_empty() { Ok(()) } else { self.options.state.commit(batch) }
    }

    /// Writes on a thread that may block.
    async fn write(self: &Arc<Self>) {
        if !self.books.lock().values().any(Book::has_changed) {
            return;
        }
        let shared = self.clone();
        match tokio::task::spawn_blocking(move || shared.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "incidents are not on disk"),
            Err(error) => tracing::error!(%error, "writing incidents stopped"),
        }
    }

    fn hear(&self, event: &AlertEvent, now: Timestamp) -> Option<String> {
        let mut books = self.books.lock();
        if books.len() >= TENANTS_MAX && !books.contains_key(&event.tenant) {
            self.options.metrics.alerts_dropped.inc();
            return None;
        }
        let graph = &self.options.graph;
        let linked = |a: &_, b: &_| graph.connected(&event.tenant, a, b);
        books.entry(event.tenant.clone()).or_default().hear(event, &self.options.aliases, linked, now)
    }

    fn expire(&self) {
        let now = self.options.clock.now();
        let mut books = self.books.lock();
        books.values_mut().for_each(|book| book.expire(now));
        let open = books.values().flat_map(Book::iter).filter(|i| i.resolved_at.is_none()).count();
        self.options.metrics.incidents_open.set(open as i64);
    }

    /// One diagnosis of an open incident; when to do the next, `None` when it is over.
    async fn diagnose(&self, tenant: &TenantId, id: &str, cancel: &Cancel) -> Option<Duration> {
        let now = self.options.clock.now();
        let (window, baseline) = self.books.lock().get_mut(tenant)?.ranges(id, now)?;
        let question = Question { tenant: tenant.clone(), window, baseline, limit: CAUSES_MAX, now };
        let context = ReadContext { budget: self.options.budget.clone(), cancel: cancel.clone() };
        let answer = diagnose(&self.options.sources, &question, &context).await;
        let after = self.options.clock.now();
        let metrics = &self.options.metrics;
        metrics.diagnoses.inc();
        metrics.diagnosis_seconds.observe(after.since(now).as_secs_f64());
        let diagnosis = match answer {
            Ok(diagnosis) => diagnosis,
            Err(error) => {
                metrics.diagnoses_failed.inc();
                tracing::warn!(%error, %tenant, incident = id, "diagnosis failed");
                return Some(EVERY);
            }
        };
        let mut books = self.books.lock();
        let book = books.get_mut(tenant)?;
        let incident = book.get_mut(id)?;
        let changed = incident.learn(diagnosis, after);
        if changed {
            tracing::info!(%tenant, incident = id, summary = narrative::summary(incident), "cause changed");
        }
        let worth_writing = changed || incident.n_same % WRITTEN_EVERY == 1;
        let every = if incident.is_settled() { EVERY_SETTLED } else { EVERY };
        let next = incident.resolved_at.is_none().then_some(every);
        if worth_writing {
            book.note_changed(id);
        }
        next
    }
}
