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

use crate::arrival::{Arrivals, Dirty, Watch, grows_with_data, may_be_looked_at_when_complete};
use crate::expand::{Element, Surroundings};
use crate::file::{Rule, RuleGroup, RuleKind};
use crate::group::{Feed, Group};
use crate::inputs::{Series, Watched, watched};
use crate::language::RuleExpr;
use crate::machine::Transition;
use crate::metrics::Metrics;
use crate::spread::Spread;
use crate::stored::Restored;
use crate::view::{AlertView, GroupView, HistoryEntry};

/// Transitions remembered, over all tenants; about a kilobyte each.
const HISTORY_MAX: usize = 10_000;

/// Answers an expression at one instant; a scalar is one element without labels.
pub trait Evaluate: Send + Sync {
    fn instant<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a RuleExpr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Element>, String>>;

    /// The same for a recording rule, which keeps histograms as they are.
    fn record<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a RuleExpr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Recorded)>, String>> {
        Box::pin(async move {
            let elements = self.instant(tenant, expr, at).await?;
            Ok(elements.into_iter().map(|(labels, value)| (labels, Recorded::Float(value))).collect())
        })
    }

    /// The series of each selector as they stand at `at`; `None` where nobody can say.
    fn inputs<'a>(
        &'a self,
        _tenant: &'a TenantId,
        _watched: &'a [Watched],
        _at: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Vec<Series>>, String>> {
        Box::pin(async { Ok(None) })
    }
}

/// What becomes of a firing alert whose input stops arriving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissingInput {
    /// Nobody knows, and nobody is told that it resolved.
    #[default]
    Unknown,
    /// It resolves, as in Prometheus.
    Resolve,
}

impl MissingInput {
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "unknown" => Ok(Self::Unknown),
            "resolve" => Ok(Self::Resolve),
            other => Err(format!("`{other}` is neither unknown nor resolve")),
        }
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
    /// For groups without a `missing_input`.
    pub missing_input: MissingInput,
    /// Where alerts stand, over restarts.
    pub state: State,
}

pub(crate) struct Shared {
    pub clock: Arc<dyn Clock>,
    pub evaluator: Arc<dyn Evaluate>,
    pub sink: Arc<dyn MetricSink>,
    pub surroundings: Surroundings,
    pub metrics: Metrics,
    pub missing_input: MissingInput,
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
            missing_input: options.missing_input,
            metrics: Metrics::default(),
            listeners: RwLock::new(Vec::new()),
            history: Mutex::new(VecDeque::new()),
        }
    }

    pub fn listen(&self, listener: Arc<dyn AlertListener>) {
        self.listeners.write().push(listener);
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
        self.0.shared.listen(listener);
    }

    /// Replaces the rules of one tenant and starts them. Alerts of rules that stay as they are keep
    /// their state; alerts of rules that go are resolved. Must be called within a tokio runtime.
    pub fn load(&self, tenant: &TenantId, configs: Vec<RuleGroup>) {
        let inner = &self.0;
        // Not the lock of `tenants`: what is retired writes samples, whose commit comes back to `on_commit`.
        let _one_at_a_time = inner.loading.lock();
        let old = inner.tenants.read().get(tenant).map(|t| t.groups.clone()).unwrap_or_default();
        let now = inner.shared.clock.now();
        let (mut groups, mut watches) = (Vec::new(), Vec::new());
        let recorded_rules: Vec<Rule> = configs.iter().flat_map(|g| g.rules.iter().cloned()).collect();
        let recorded = recorded_by(&recorded_rules);
        let mut restored = inner.shared.restored.lock();
        for config in configs {
            let same = |g: &&Arc<Group>| g.config.name == config.name && g.config.file == config.file;
            let before = old.iter().find(same).map(|g| &**g);
            let wake = Arc::new(Notify::new());
            let mut feed = |rule: &Rule| {
                let known = before.and_then(|g| g.spread_of(rule));
                let feed = feed_of(rule, &recorded, known, &wake, now);
                watches.extend(watches_of(rule, &feed));
                feed
            };
            let feeds = config.rules.iter().map(&mut feed).collect();
            let interval = config.interval.unwrap_or(inner.interval);
            let group =
                Group::new(tenant.clone(), config, interval, inner.query_offset, feeds, wake, before, &mut restored);
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

    /// With rules now, or with alerts of rules that they had before a restart.
    pub fn tenants(&self) -> Vec<TenantId> {
        let mut all: Vec<TenantId> = self.0.tenants.read().keys().cloned().collect();
        all.extend(self.0.shared.restored.lock().tenants());
        all.sort();
        all.dedup();
        all
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

/// The expressions behind recorded metrics; one that several rules record stands for itself.
pub(crate) fn recorded_by(rules: &[Rule]) -> HashMap<&str, &Expr> {
    let mut found: HashMap<&str, Option<&Expr>> = HashMap::new();
    for rule in rules {
        if let RuleKind::Record { metric } = &rule.kind {
            let expr = rule.expr.promql().map(|e| &**e);
            found.entry(metric).and_modify(|e| *e = None).or_insert(expr);
        }
    }
    found.into_iter().filter_map(|(name, expr)| Some((name, expr?))).collect()
}

pub(crate) fn feed_of(
    rule: &Rule,
    recorded: &HashMap<&str, &Expr>,
    spread: Option<Arc<Spread>>,
    wake: &Arc<Notify>,
    now: Timestamp,
) -> Feed {
    // Rules over logs and traces are evaluated on the grid.
    let RuleExpr::Promql(expr) = &rule.expr else { return Feed::default() };
    let alert = matches!(rule.kind, RuleKind::Alert { .. });
    let spread = (!selectors(expr).is_empty()).then(|| spread.unwrap_or_else(|| Arc::new(Spread::new(now))));
    let dirty = match &spread {
        _ if alert && grows_with_data(expr) => Some(Dirty::new(wake.clone(), None)),
        Some(spread) if alert && may_be_looked_at_when_complete(expr) => {
            Some(Dirty::new(wake.clone(), Some(spread.clone())))
        }
        _ => None,
    };
    let watched = watched(expr, recorded);
    Feed { dirty, spread, watched }
}

/// A rule is marked by what it reads. Its wait is learned from what is behind that: what weir records itself
/// is as late as weir makes it.
pub(crate) fn watches_of(rule: &Rule, feed: &Feed) -> [Watch; 2] {
    let own = rule.expr.promql().map_or(Vec::new(), |expr| selectors(expr));
    let behind = feed.watched.iter().map(|w| w.matchers.clone()).collect();
    [
        Watch { selectors: own, dirty: feed.dirty.clone(), spread: None },
        Watch { selectors: behind, dirty: None, spread: feed.spread.clone() },
    ]
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
            Commit::Metrics { series, newest } => arrivals.touch(series as &[Labels], *newest, now),
            Commit::Series { series, names, newest } => {
                arrivals.touch_known(series.iter().map(|r| r.series), *names, *newest, now);
            }
            _ => {}
        }
    }
}

/// The life of one group. A grid point is evaluated when its data have had the time that they are known to
/// need.
async fn run(group: Arc<Group>, shared: Arc<Shared>) {
    let mut grid = group.next_grid_point(shared.clock.now());
    loop {
        let now = shared.clock.now();
        let arrival = group.next_arrival();
        let wait = group.wait(now);
        let next = arrival.map_or(grid.plus(wait), |at| at.min(grid.plus(wait)));
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
        if grid.plus(wait) <= now {
            group.evaluate_grid(&shared, grid).await;
            let next = group.next_grid_point(grid).max(group.next_grid_point(shared.clock.now().minus(wait)));
            let missed = next.since(grid).as_millis() / group.interval.as_millis().max(1);
            shared.metrics.missed.inc_by(u64::try_from(missed.saturating_sub(1)).unwrap_or(0));
            grid = next;
        } else {
            group.evaluate_arrivals(&shared, now).await;
        }
    }
}
