//! Who uses budgets up: metric, label and target by name.

use std::sync::Arc;

use weir_model::{LabelCensus, SeriesCensus, TargetCensus, TenantId, Timestamp};

use super::config::{Action, NEVER_FOLDED, SeriesBudget};
use super::gate::{Gate, Held};
use super::growth::Grown;

/// Budgets used less than this are in good order.
const SHOWN_FROM: f64 = 0.8;
/// Standings of one tenant.
const SHOWN_MAX: usize = 100;
/// Counting goes on all the time and must cost next to nothing.
const SERIES_SEEN: u64 = 10_000;
const LABELS_SEEN: usize = 10;
/// Values of a label that are named.
const VALUES_NAMED: usize = 5;

/// Where a budget stands that is nearly used up, or was.
#[derive(Clone, Debug)]
pub struct Standing {
    pub tenant: TenantId,
    pub budget: Arc<str>,
    pub action: Action,
    /// `None`: the budget of all metrics of the tenant.
    pub metric: Option<Arc<str>>,
    pub n_series: u64,
    pub series_max: u64,
    pub culprit: Culprit,
    /// Labels that are folded, and how many series that hides.
    pub folded_labels: Vec<Arc<str>>,
    pub n_hidden: u64,
    /// Samples since the start.
    pub n_folded: u64,
    pub n_dropped: u64,
    pub n_refused: u64,
    /// The newest series that was kept out; empty when none was.
    pub example: String,
}

impl Standing {
    /// Series that there would be, as a part of those that may be.
    pub fn used_ratio(&self) -> f64 {
        (self.n_series + self.n_hidden) as f64 / self.series_max as f64
    }
}

/// Where the series come from.
#[derive(Clone, Debug, Default)]
pub struct Culprit {
    pub metric: Arc<str>,
    /// The label with most values, but for those that name the target.
    pub label: Option<LabelCensus>,
    /// The target with most series.
    pub target: Option<TargetCensus>,
}

impl Gate {
    /// Counts again. Looks at every metric's count, and at the series of those that are nearly over.
    pub fn survey(&self, now: Timestamp) -> Arc<Vec<Standing>> {
        let mut all = Vec::new();
        for tenant in self.census.tenants() {
            let held = self.held(&tenant);
            let metrics = self.census.metrics(&tenant);
            held.lock().growth.note(&metrics, now);
            let mut of_tenant = self.survey_tenant(&tenant, &held.lock(), metrics);
            of_tenant.sort_by(|a, b| b.used_ratio().total_cmp(&a.used_ratio()));
            of_tenant.truncate(SHOWN_MAX);
            all.extend(of_tenant);
        }
        let all = Arc::new(all);
        *self.surveyed.write() = all.clone();
        all
    }

    /// What the last survey found.
    pub fn standings(&self) -> Arc<Vec<Standing>> {
        self.surveyed.read().clone()
    }

    /// Every metric of a tenant with its series, most first, and how much that grew.
    pub fn metrics(&self, tenant: &TenantId) -> Vec<(Arc<str>, u64, Option<Grown>)> {
        let mut metrics = self.census.metrics(tenant);
        metrics.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let held = self.held(tenant);
        let held = held.lock();
        let with_growth = |(name, n): (Arc<str>, u64)| {
            let grown = held.growth.of(&name, n);
            (name, n, grown)
        };
        metrics.into_iter().map(with_growth).collect()
    }

    /// What a metric's series differ by.
    pub fn census(&self) -> &dyn SeriesCensus {
        &*self.census
    }

    fn survey_tenant(&self, tenant: &TenantId, held: &Held, metrics: Vec<(Arc<str>, u64)>) -> Vec<Standing> {
        let config = self.config();
        let mut out = Vec::new();
        if let Some(budget) = config.of_tenant(tenant) {
            let n_series = self.census.count(tenant, None);
            if let Some((largest, _)) = metrics.iter().max_by_key(|(_, n)| *n)
                && is_shown(n_series, budget)
            {
                let culprit = self.culprit(tenant, largest);
                out.push(standing(tenant, budget, None, n_series, culprit));
            }
        }
        for (metric, n_series) in metrics {
            let Some(budget) = config.of_metric(tenant, &metric) else { continue };
            let kept = held.metrics.get(&metric).filter(|m| !m.account.is_empty());
            if kept.is_none() && !is_shown(n_series, budget) {
                continue;
            }
            let culprit = self.culprit(tenant, &metric);
            let mut one = standing(tenant, budget, Some(metric), n_series, culprit);
            if let Some(kept) = kept {
                let account = &kept.account;
                (one.n_folded, one.n_dropped, one.n_refused) = (account.n_folded, account.n_dropped, account.n_refused);
                one.example.clone_from(&account.example);
                if let Some(fold) = &kept.fold {
                    one.folded_labels = fold.labels().to_vec();
                    one.n_hidden = fold.n_hidden() as u64;
                }
            }
            out.push(one);
        }
        out
    }

    fn culprit(&self, tenant: &TenantId, metric: &Arc<str>) -> Culprit {
        let census = self.census.metric(tenant, metric, SERIES_SEEN, LABELS_SEEN);
        let names_no_target = |l: &LabelCensus| l.n_values > 1 && !NEVER_FOLDED.contains(&&*l.name);
        let mut label = census.labels.into_iter().find(names_no_target);
        if let Some(label) = &mut label {
            label.values.truncate(VALUES_NAMED);
        }
        Culprit { metric: metric.clone(), label, target: census.targets.into_iter().next() }
    }
}

fn is_shown(n_series: u64, budget: &SeriesBudget) -> bool {
    n_series as f64 >= SHOWN_FROM * budget.series_max as f64
}

fn standing(
    tenant: &TenantId,
    budget: &SeriesBudget,
    metric: Option<Arc<str>>,
    n_series: u64,
    culprit: Culprit,
) -> Standing {
    Standing {
        tenant: tenant.clone(),
        budget: budget.name.clone(),
        action: budget.action,
        metric,
        n_series,
        series_max: budget.series_max,
        culprit,
        folded_labels: Vec::new(),
        n_hidden: 0,
        n_folded: 0,
        n_dropped: 0,
        n_refused: 0,
        example: String::new(),
    }
}
