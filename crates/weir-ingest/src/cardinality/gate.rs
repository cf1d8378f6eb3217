//! [`Gate`]: what becomes of a new series whose budget is used up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ahash::{AHashMap, AHashSet};
use parking_lot::{Mutex, RwLock};
use weir_model::labels::METRIC_NAME;
use weir_model::sink::{MetricBatch, RefusedReason, SeriesBatch};
use weir_model::{Labels, MetricKind, MetricMetadata, SeriesCensus, TenantId, Timestamp};

use super::config::{Action, CardinalityConfig, NEVER_FOLDED, SeriesBudget};
use super::fold::{Changes, Fold, Meaning};
use super::growth::Growth;
use super::survey::Standing;
use crate::Decoded;

/// Metrics of a tenant that accounts are kept of; those beyond are dropped under one name.
const METRICS_MAX: usize = 1_000;
const BEYOND: &str = "(others)";
/// Families whose kind is remembered, of a tenant.
const KINDS_MAX: usize = 100_000;
/// A folded series that is followed by nothing for so long is told once more.
const SETTLE_AFTER: Duration = Duration::from_secs(15);
/// A hidden series without a sample for so long has ended.
const HIDDEN_FOR: Duration = Duration::from_secs(3600);
/// Labels of a metric that are looked at for one to fold.
const CANDIDATES_MAX: usize = 20;
/// Series that are looked at for it, of the store and of a request.
const SEEN_MAX: usize = 10_000;
const EXAMPLE_CHARS: usize = 300;
/// weir's own series about budgets are in none.
const OWN: &str = "weir_cardinality_";

/// Holds new series against their budgets. All of it is memory: after a restart a budget is what the store has.
pub struct Gate {
    pub(super) census: Arc<dyn SeriesCensus>,
    config: RwLock<Arc<CardinalityConfig>>,
    /// Labels that rules and objectives look at.
    used_labels: RwLock<Arc<BTreeSet<String>>>,
    tenants: Mutex<AHashMap<TenantId, Arc<Mutex<Held>>>>,
    pub(super) surveyed: RwLock<Arc<Vec<Standing>>>,
}

/// Of one tenant.
#[derive(Default)]
pub(super) struct Held {
    pub metrics: BTreeMap<Arc<str>, HeldMetric>,
    kinds: AHashMap<String, MetricKind>,
    pub growth: Growth,
}

/// A metric that had more series than its budget.
#[derive(Default)]
pub(super) struct HeldMetric {
    pub fold: Option<Fold>,
    pub account: Account,
}

/// Samples that budgets kept out, since the start.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub n_folded: u64,
    pub n_dropped: u64,
    pub n_refused: u64,
    /// The newest series that was kept out.
    pub example: String,
}

impl Account {
    pub fn is_empty(&self) -> bool {
        self.n_folded + self.n_dropped + self.n_refused == 0
    }
}

/// Series of one request that are new and were let in, before the store counts them.
#[derive(Default)]
struct Fresh {
    by_metric: AHashMap<Arc<str>, AHashSet<u64>>,
    n: u64,
}

impl Fresh {
    fn of(&self, metric: &str) -> u64 {
        self.by_metric.get(metric).map_or(0, |set| set.len() as u64)
    }

    fn add(&mut self, metric: &str, series: u64) {
        if !self.by_metric.contains_key(metric) {
            self.by_metric.insert(metric.into(), AHashSet::new());
        }
        self.n += u64::from(self.by_metric.get_mut(metric).is_some_and(|set| set.insert(series)));
    }
}

impl Gate {
    pub fn new(census: Arc<dyn SeriesCensus>, config: CardinalityConfig) -> Self {
        Self {
            census,
            config: RwLock::new(Arc::new(config)),
            used_labels: RwLock::default(),
            tenants: Mutex::default(),
            surveyed: RwLock::default(),
        }
    }

    pub fn config(&self) -> Arc<CardinalityConfig> {
        self.config.read().clone()
    }

    /// Budgets of a file that was read again; what is folded stays so.
    pub fn set_config(&self, config: CardinalityConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// Labels that rules and objectives look at: never folded from now on.
    pub fn set_used_labels(&self, labels: BTreeSet<String>) {
        *self.used_labels.write() = Arc::new(labels);
    }

    pub fn is_enforcing(&self) -> bool {
        self.config.read().is_enforcing()
    }

    /// Whether all these new series fit into their budgets. `series`: labels sorted by name, as checked.
    pub(crate) fn admits<'a>(&self, tenant: &TenantId, series: impl Iterator<Item = &'a [(&'a str, &'a str)]>) -> bool {
        let config = self.config();
        let mut fresh = Fresh::default();
        for labels in series {
            let metric = labels.iter().find(|(name, _)| *name == METRIC_NAME).map_or("", |(_, value)| value);
            if self.exceeded(&config, tenant, metric, &fresh).is_some() && !self.census.knows(tenant, labels) {
                return false;
            }
            fresh.add(metric, fresh.n);
        }
        true
    }

    /// The budget that has no room for one more series of this metric.
    fn exceeded<'a>(
        &self,
        config: &'a CardinalityConfig,
        tenant: &TenantId,
        metric: &str,
        fresh: &Fresh,
    ) -> Option<&'a SeriesBudget> {
        if metric.starts_with(OWN) {
            return None;
        }
        let acts = |budget: &&SeriesBudget| budget.action != Action::Warn;
        let of_metric = config.of_metric(tenant, metric).filter(acts);
        let n_of_metric = || self.census.count(tenant, Some(metric)) + fresh.of(metric);
        if let Some(budget) = of_metric.filter(|b| n_of_metric() >= b.series_max) {
            return Some(budget);
        }
        let of_tenant = config.of_tenant(tenant).filter(acts);
        of_tenant.filter(|b| self.census.count(tenant, None) + fresh.n >= b.series_max)
    }

    /// Takes out of a batch what its budgets have no room for, and puts in what folding makes of it.
    pub(crate) fn apply(&self, tenant: &TenantId, decoded: &mut Decoded<MetricBatch>, now: Timestamp) {
        let config = self.config();
        if !config.is_enforcing() {
            return;
        }
        self.learn(tenant, &decoded.batch.metadata);
        let mut fresh = Fresh::default();
        let mut out: Vec<(SeriesBatch, &SeriesBudget)> = Vec::new();
        let all = std::mem::take(&mut decoded.batch.series);
        decoded.batch.series.reserve(all.len());
        for series in all {
            if series.n_samples() == 0 || self.is_known(tenant, &series.labels) {
                decoded.batch.series.push(series);
                continue;
            }
            let metric = series.labels.metric_name();
            match self.exceeded(&config, tenant, metric, &fresh) {
                Some(budget) => out.push((series, budget)),
                None => {
                    fresh.add(metric, series.labels.fingerprint());
                    decoded.batch.series.push(series);
                }
            }
        }
        if out.is_empty() {
            return;
        }
        let held = self.held(tenant);
        let mut held = held.lock();
        let mut changes: BTreeMap<Arc<str>, Changes> = BTreeMap::new();
        self.begin_folds(tenant, &mut held, &out);
        for (series, budget) in out {
            keep_out(&mut held, series, budget, &mut changes, decoded);
        }
        for (metric, changes) in changes {
            if let Some(fold) = held.metrics.get_mut(&metric).and_then(|m| m.fold.as_mut()) {
                decoded.batch.series.extend(fold.take(changes, now));
            }
        }
    }

    /// A fold for each metric that is to have one and has none yet.
    fn begin_folds(&self, tenant: &TenantId, held: &mut Held, out: &[(SeriesBatch, &SeriesBudget)]) {
        for (series, budget) in out.iter().filter(|(_, budget)| budget.action == Action::Fold) {
            let name = series.labels.metric_name();
            let is_begun = held.metrics.get(name).is_some_and(|m| m.fold.is_some());
            if is_begun || held.metrics.len() >= METRICS_MAX && !held.metrics.contains_key(name) {
                continue;
            }
            let own = out.iter().map(|(s, _)| &s.labels).filter(|l| l.metric_name() == name);
            let candidates = self.candidates(tenant, name, budget, own);
            let fold = Fold::new(held.meaning(name), candidates, budget.series_max);
            held.metrics.entry(name.into()).or_default().fold = Some(fold);
        }
    }

    /// Labels to fold, the most rewarding first: by the values that the store has, and those of the series at hand, as
    /// the first request of a metric may bring too many.
    fn candidates<'a>(
        &self,
        tenant: &TenantId,
        metric: &str,
        budget: &SeriesBudget,
        series: impl Iterator<Item = &'a Labels>,
    ) -> Vec<Arc<str>> {
        let (config, used) = (self.config(), self.used_labels.read().clone());
        let may_go = |name: &str| {
            !NEVER_FOLDED.contains(&name) && !config.protected_labels.contains(name) && !used.contains(name)
        };
        let mut values: BTreeMap<Arc<str>, AHashSet<&'a str>> = BTreeMap::new();
        for label in series.take(SEEN_MAX).flat_map(Labels::iter) {
            values.entry(label.name.clone()).or_default().insert(&label.value);
        }
        let mut counts: BTreeMap<Arc<str>, u64> =
            values.into_iter().map(|(name, of)| (name, of.len() as u64)).collect();
        for label in self.census.metric(tenant, metric, SEEN_MAX as u64, CANDIDATES_MAX).labels {
            *counts.entry(label.name).or_default() += label.n_values;
        }
        let mut drawn: Vec<(Arc<str>, u64)> = counts.into_iter().filter(|(_, n)| *n > 1).collect();
        drawn.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        let mut out: Vec<Arc<str>> = Vec::new();
        for name in budget.fold_labels.iter().cloned().chain(drawn.into_iter().map(|(name, _)| name)) {
            if may_go(&name) && !out.contains(&name) {
                out.push(name);
            }
        }
        out
    }

    fn is_known(&self, tenant: &TenantId, labels: &Labels) -> bool {
        let pairs: Vec<(&str, &str)> = labels.iter().map(|l| (&*l.name, &*l.value)).collect();
        self.census.knows(tenant, &pairs)
    }

    pub(super) fn held(&self, tenant: &TenantId) -> Arc<Mutex<Held>> {
        self.tenants.lock().entry(tenant.clone()).or_default().clone()
    }

    pub(super) fn all_held(&self) -> Vec<(TenantId, Arc<Mutex<Held>>)> {
        self.tenants.lock().iter().map(|(tenant, held)| (tenant.clone(), held.clone())).collect()
    }

    /// Remembers which families are counters.
    pub(crate) fn learn(&self, tenant: &TenantId, metadata: &[MetricMetadata]) {
        if metadata.is_empty() {
            return;
        }
        let held = self.held(tenant);
        let kinds = &mut held.lock().kinds;
        for entry in metadata {
            if kinds.len() < KINDS_MAX || kinds.contains_key(&entry.family) {
                kinds.insert(entry.family.clone(), entry.kind);
            }
        }
    }

    /// What folding still has to tell: late parts of sums, and the end of series that are gone.
    pub fn settle(&self, now: Timestamp) -> Vec<(TenantId, MetricBatch)> {
        let (late, ended) = (now.minus(SETTLE_AFTER), now.minus(HIDDEN_FOR));
        let mut out = Vec::new();
        for (tenant, held) in self.all_held() {
            let mut series = Vec::new();
            for fold in held.lock().metrics.values_mut().filter_map(|m| m.fold.as_mut()) {
                series.extend(fold.forget_before(ended, now));
                series.extend(fold.settle(late));
            }
            if !series.is_empty() {
                out.push((tenant, MetricBatch { series, metadata: Vec::new() }));
            }
        }
        out
    }
}

/// Leaves a series out of a batch as its budget says.
fn keep_out(
    held: &mut Held,
    series: SeriesBatch,
    budget: &SeriesBudget,
    changes: &mut BTreeMap<Arc<str>, Changes>,
    decoded: &mut Decoded<MetricBatch>,
) {
    let n = series.n_samples() as u64;
    let name: Arc<str> = series.labels.metric_name().into();
    let is_room = held.metrics.len() < METRICS_MAX || held.metrics.contains_key(&name);
    let name: Arc<str> = if is_room { name } else { BEYOND.into() };
    let HeldMetric { fold, account } = held.metrics.entry(name.clone()).or_default();
    account.example = series.labels.to_string().chars().take(EXAMPLE_CHARS).collect();
    match (budget.action, fold) {
        (Action::Fold, Some(fold)) if series.histograms.is_empty() => {
            if fold.add(&series, changes.entry(name).or_default()) {
                account.n_folded += n;
            } else {
                account.n_dropped += n;
            }
        }
        (Action::Refuse, _) => {
            account.n_refused += n;
            decoded.refuse(RefusedReason::Limit, n, || {
                let way_out = "leave out a label of many values at the sender, or raise max_series";
                let (budget, series_max) = (&budget.name, budget.series_max);
                format!("{}: budget `{budget}` of {series_max} series is used up: {way_out}", series.labels)
            });
        }
        _ => account.n_dropped += n,
    }
}

impl Held {
    /// By the name where it says so, by the metadata otherwise.
    fn meaning(&self, metric: &str) -> Meaning {
        let sums = ["_total", "_count", "_sum", "_bucket"];
        let family = sums.iter().find_map(|suffix| metric.strip_suffix(suffix));
        let kind = self.kinds.get(metric).or_else(|| self.kinds.get(family?));
        match kind {
            Some(MetricKind::Gauge | MetricKind::GaugeHistogram | MetricKind::Info | MetricKind::Stateset) => {
                Meaning::Gauge
            }
            Some(MetricKind::Counter | MetricKind::Histogram) => Meaning::Counter,
            Some(MetricKind::Summary) if family.is_some() => Meaning::Counter,
            _ if family.is_some() => Meaning::Counter,
            _ => Meaning::Gauge,
        }
    }
}
