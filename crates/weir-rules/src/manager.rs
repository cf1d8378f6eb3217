//! The executor: a task per group that waits for its next grid point or the next ripe rule.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;
use weir_model::sink::MetricSink;
use weir_model::source::BoxFuture;
use weir_model::{
    AlertEvent, AlertListener, Clock, Commit, CommitListener, Histogram, Labels, Matcher, TenantId, TimeRange,
    Timestamp,
};
use weir_promql::Expr;
use weir_state::State;

use crate::arrival::{Arrivals, Dirty, grows_with_data};
use crate::expand::{Element, Surroundings};
use crate::file::{RuleGroup, RuleKind};
use crate::group::{Group, Restored};
use crate::machine::Transition;
use crate::metrics::Metrics;
use crate::view::{AlertView, GroupView, HistoryEntry};

/// Transitions remembered, over all tenants; about a kilobyte each.
const HISTORY_MAX: usize = 10_000;

/// Answers an expression at one instant; a scalar is one element without labels.
pub trait Evaluate: Send + Sync {
    fn instant<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a Expr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Element>, String>>;

    /// The same for a recording rule, which keeps histograms as they are.
    fn record<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a Expr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Recorded)>, String>> {
        Box::pin(async move {
            let elements = self.instant(tenant, expr, at).await?;
            Ok(elements.into_iter().map(|(labels, value)| (labels, Recorded::Float(value))).collect())
        })
    }
}

/// What a recording rule writes for one series.
#[derive(Clone, Debug)]
pub enum Recorded {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// What rules need to run.
pub struct Options {
    pub clock: Arc<dyn Clock>,
    pub evaluator: Arc<dyn Evaluate>,
    /// Where recorded series and `ALERTS` go.
    pub sink: Arc<dyn MetricSink>,
    pub surroundings: Surroundings,
    /// For groups without an `interval`; Prometheus' `evaluation_interval`.
    pub interval: Duration,
    /// For groups without a `query_offset`.
    pub query_offset: Duration,
    /// Where alerts stand, over restarts.
    pub state: State,
}

pub(crate) struct Shared {
    pub clock: Arc<dyn Clock>,
    pub evaluator: Arc<dyn Evaluate>,
    pub sink: Arc<dyn MetricSink>,
    pub surroundings: Surroundings,
    pub metrics: Metrics,
    pub state: State,
    restored: Mutex<Restored>,
    listeners: RwLock<Vec<Arc<dyn AlertListener>>>,
    history: Mutex<VecDeque<HistoryEntry>>,
}

impl Shared {
    pub fn new(options: Options) -> Self {
        let restored = Restored::read(&options.state, options.clock.now());
        Self {
            state: options.state,
            restored: Mutex::new(restored),
            clock: options.clock,
            evaluator: options.evaluator,
            sink: options.sink,
            surroundings: options.surroundings,
            metrics: Metrics::default(),
            listeners: RwLock::new(Vec::new()),
            history: Mutex::new(VecDeque::new()),
        }
    }

    pub fn announce(&self, event: AlertEvent, repeated: bool) {
        if !repeated {
            self.metrics.transitions.inc();
            let mut history = self.history.lock();
            if history.len() == HISTORY_MAX {
                history.pop_front();
            }
            history.push_back(HistoryEntry {
                tenant: event.tenant.clone(),
                at: event.at,
                phase: event.phase,
                labels: event.labels.clone(),
                annotations: event.annotations.clone(),
                value: event.value,
            });
        }
        for listener in self.listeners.read().iter() {
            listener.on_alert(&event);
        }
    }
}

#[derive(Default)]
struct TenantRules {
    groups: Vec<Arc<Group>>,
    arrivals: Arc<Arrivals>,
}

/// Handle to all rules of all tenants. Cheap to clone.
#[derive(Clone)]
pub struct Rules(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    interval: Duration,
    query_offset: Duration,
    tenants: RwLock<HashMap<TenantId, TenantRules>>,
    loading: Mutex<()>,
    tasks: TaskTracker,
}

impl Rules {
    pub fn new(options: Options) -> Self {
        let (interval, query_offset) = (options.interval, options.query_offset);
        let shared = Shared::new(options);
        Self(Arc::new(Inner {
            shared: Arc::new(shared),
            interval,
            query_offset,
            tenants: RwLock::new(HashMap::new()),
            loading: Mutex::new(()),
            tasks: TaskTracker::new(),
        }))
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    /// Listeners added later do not hear what was said before, but each firing alert is repeated
    /// every minute.
    pub fn add_listener(&self, listener: Arc<dyn AlertListener>) {
        self.0.shared.listeners.write().push(listener);
    }

    /// Replaces the rules of one tenant and starts them. Alerts of rules that stay as they are keep
    /// their state; alerts of rules that go are resolved. Must be called within a tokio runtime.
    pub fn load(&self, tenant: &TenantId, configs: Vec<RuleGroup>) {
        let inner = &self.0;
        // Not the lock of `tenants`: what is retired writes samples, whose commit comes back to `on_commit`.
        let _one_at_a_time = inner.loading.lock();
        let old = inner.tenants.read().get(tenant).map(|t| t.groups.clone()).unwrap_or_default();
        let (mut groups, mut watches) = (Vec::new(), Vec::new());
        let mut restored = inner.shared.restored.lock();
        for config in configs {
            let same = |g: &&Arc<Group>| g.config.name == config.name && g.config.file == config.file;
            let before = old.iter().find(same).map(|g| &**g);
            let (wake, mut dirty) = (Arc::new(Notify::new()), Vec::new());
            for rule in &config.rules {
                let early = matches!(rule.kind, RuleKind::Alert { .. }) && grows_with_data(&rule.expr);
                let mark = early.then(|| Dirty::new(wake.clone()));
                if let Some(mark) = &mark {
                    watches.push((selectors(&rule.expr), mark.clone()));
                }
                dirty.push(mark);
            }
            let interval = config.interval.unwrap_or(inner.interval);
            let group =
                Group::new(tenant.clone(), config, interval, inner.query_offset, dirty, wake, before, &mut restored);
            groups.push(Arc::new(group));
        }
        let (forgotten, ended) = restored.forget(tenant);
        drop(restored);
        // Rules that went while weir was down: whoever was told that they fire is told that they ended.
        for t in ended {
            inner.shared.announce(ended_event(tenant, t), false);
        }
        if let Err(error) = inner.shared.state.commit(forgotten) {
            tracing::error!(%error, "alert states of rules that are gone are still on disk");
        }
        let now = inner.shared.clock.now();
        for group in &old {
            group.retire(&inner.shared, now);
        }
        for group in &groups {
            inner.tasks.spawn(run(group.clone(), inner.shared.clone()));
        }
        inner
            .tenants
            .write()
            .insert(tenant.clone(), TenantRules { groups, arrivals: Arc::new(Arrivals::new(watches)) });
    }

    /// In the order of the files.
    pub fn groups(&self, tenant: &TenantId) -> Vec<GroupView> {
        let groups = self.0.tenants.read().get(tenant).map(|t| t.groups.clone()).unwrap_or_default();
        groups.iter().map(|g| g.view()).collect()
    }

    /// Pending and firing alerts.
    pub fn alerts(&self, tenant: &TenantId) -> Vec<AlertView> {
        let groups = self.groups(tenant);
        groups.iter().flat_map(|g| g.rules.iter().flat_map(|r| r.alerts().to_vec())).collect()
    }

    /// Newest first.
    pub fn history(&self, tenant: &TenantId, range: TimeRange, limit: usize) -> Vec<HistoryEntry> {
        let history = self.0.shared.history.lock();
        let wanted = history.iter().rev().filter(|e| e.tenant == *tenant && range.contains(e.at));
        wanted.take(limit).cloned().collect()
    }

    /// Stops all groups; alerts stay as they are for listeners.
    pub async fn shutdown(&self) {
        for tenant in self.0.tenants.read().values() {
            tenant.groups.iter().for_each(|g| g.cancel.cancel());
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

/// Of a rule whose expression nobody knows any more.
fn ended_event(tenant: &TenantId, t: Transition) -> AlertEvent {
    AlertEvent {
        tenant: tenant.clone(),
        labels: t.labels,
        annotations: t.annotations,
        phase: t.phase,
        active_at: t.active_at,
        at: t.at,
        value: t.value,
        expr: Arc::default(),
        generator_url: String::new(),
    }
}

fn selectors(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut found = Vec::new();
    expr.walk(&mut |e| match &e.kind {
        weir_promql::ExprKind::Vector(s) | weir_promql::ExprKind::Matrix(s, _) => found.push(s.matchers.clone()),
        _ => {}
    });
    found
}

impl CommitListener for Rules {
    fn on_commit(&self, tenant: &TenantId, commit: &Commit<'_>) {
        if !matches!(commit, Commit::Metrics { .. } | Commit::Series { .. }) {
            return;
        }
        let arrivals = self.0.tenants.read().get(tenant).map(|t| t.arrivals.clone());
        let Some(arrivals) = arrivals else { return };
        let now = self.0.shared.clock.now();
        match commit {
            Commit::Metrics { series, .. } => arrivals.touch(series as &[Labels], now),
            Commit::Series { series, names, .. } => arrivals.touch_known(series.iter().map(|r| r.series), *names, now),
            _ => {}
        }
    }
}

/// The life of one group.
async fn run(group: Arc<Group>, shared: Arc<Shared>) {
    let mut grid = group.next_grid_point(shared.clock.now());
    loop {
        let now = shared.clock.now();
        let arrival = group.next_arrival();
        let next = arrival.map_or(grid, |at| at.min(grid));
        if next > now {
            tokio::select! {
                () = group.cancel.cancelled() => return,
                () = tokio::time::sleep(next.since(now)) => {}
                // Only a first touch wakes: at most once per evaluation.
                () = group.wake.notified() => {}
            }
            continue;
        }
        if group.cancel.is_cancelled() {
            return;
        }
        if grid <= now {
            group.evaluate_grid(&shared, grid).await;
            let next = group.next_grid_point(grid).max(group.next_grid_point(shared.clock.now()));
            let missed = next.since(grid).as_millis() / group.interval.as_millis().max(1);
            shared.metrics.missed.inc_by(u64::try_from(missed.saturating_sub(1)).unwrap_or(0));
            grid = next;
        } else {
            group.evaluate_arrivals(&shared, now).await;
        }
    }
}
