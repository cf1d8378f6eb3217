//! `--cardinality.config`: budgets of series.

use std::collections::BTreeSet;
use std::sync::Arc;

use regex::Regex;
use serde::Deserialize;
use serde_saphyr::Spanned;
use weir_model::TenantId;

/// Told, not enforced, where no other budget is given: what a metric, and a tenant, seldom have in good order.
const METRIC_SERIES: u64 = 100_000;
const TENANT_SERIES: u64 = 1_000_000;

/// What happens to a new series once its budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is stored, and the budget shows as exceeded.
    #[default]
    Warn,
    /// Its values are added to a series where the label with most values says `other`.
    Fold,
    /// It is left out and counted; the sender is told that all went well.
    Drop,
    /// It is left out and the sender is told.
    Refuse,
}

impl Action {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Fold => "fold",
            Self::Drop => "drop",
            Self::Refuse => "refuse",
        }
    }
}

/// How many series there may be.
#[derive(Clone, Debug)]
pub struct SeriesBudget {
    pub name: Arc<str>,
    /// Of these tenants; of every one without.
    tenant: Option<Regex>,
    /// Of each metric with such a name; of the tenant's metrics together without.
    metric: Option<Regex>,
    pub series_max: u64,
    pub action: Action,
    /// What is folded first; drawn from the data when empty.
    pub fold_labels: Vec<Arc<str>>,
}

impl SeriesBudget {
    fn is_for(&self, tenant: &TenantId) -> bool {
        self.tenant.as_ref().is_none_or(|re| re.is_match(tenant.as_str()))
    }
}

/// Every budget, and what no budget touches.
#[derive(Clone, Debug)]
pub struct CardinalityConfig {
    budgets: Vec<SeriesBudget>,
    /// Never folded.
    pub protected_labels: BTreeSet<String>,
    /// Whether an alert of weir's own says which budget is used up.
    pub alert: bool,
}

/// One thing wrong with the file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct CardinalityError {
    /// From 1; 0 where the whole file is meant.
    pub line: u64,
    pub reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    budgets: Vec<Spanned<RawBudget>>,
    #[serde(default)]
    protected_labels: Vec<String>,
    #[serde(default = "yes")]
    alert: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBudget {
    name: Option<String>,
    tenant: Option<String>,
    metric: Option<String>,
    max_series: u64,
    #[serde(default)]
    action: Action,
    #[serde(default)]
    fold_labels: Vec<String>,
}

/// Labels that queries, joins and `up` live on.
pub(crate) const NEVER_FOLDED: [&str; 5] = ["__name__", "job", "instance", "le", "quantile"];

impl Default for CardinalityConfig {
    fn default() -> Self {
        Self { budgets: defaults(), protected_labels: BTreeSet::new(), alert: true }
    }
}

fn defaults() -> Vec<SeriesBudget> {
    let any = weir_go::regex_anchored(".*").expect("a constant");
    let budget = |name: &str, metric: Option<Regex>, series_max| SeriesBudget {
        name: name.into(),
        tenant: None,
        metric,
        series_max,
        action: Action::Warn,
        fold_labels: Vec::new(),
    };
    vec![budget("any metric", Some(any), METRIC_SERIES), budget("any tenant", None, TENANT_SERIES)]
}

impl CardinalityConfig {
    /// Budgets of a file in its order, then those that hold where it says nothing.
    pub fn parse(text: &str) -> Result<Self, CardinalityError> {
        let raw: RawFile = serde_saphyr::from_str(text).map_err(|e| {
            let reason = e.without_snippet().to_string();
            let line = e.location().map_or(0, |l| l.line());
            CardinalityError { line, reason: reason.lines().next().unwrap_or_default().to_owned() }
        })?;
        let mut budgets = Vec::with_capacity(raw.budgets.len() + 2);
        for (k, budget) in raw.budgets.into_iter().enumerate() {
            let line = budget.referenced.line();
            let budget = check(k, budget.value).map_err(|reason| CardinalityError { line, reason })?;
            if budgets.iter().any(|b: &SeriesBudget| b.name == budget.name) {
                return Err(CardinalityError { line, reason: format!("two budgets are called `{}`", budget.name) });
            }
            budgets.push(budget);
        }
        budgets.extend(defaults());
        Ok(Self { budgets, protected_labels: raw.protected_labels.into_iter().collect(), alert: raw.alert })
    }

    /// The budget of one metric: the first that names it.
    pub fn of_metric(&self, tenant: &TenantId, metric: &str) -> Option<&SeriesBudget> {
        self.budgets.iter().find(|b| b.metric.as_ref().is_some_and(|re| re.is_match(metric)) && b.is_for(tenant))
    }

    /// The budget of a tenant's metrics together.
    pub fn of_tenant(&self, tenant: &TenantId) -> Option<&SeriesBudget> {
        self.budgets.iter().find(|b| b.metric.is_none() && b.is_for(tenant))
    }

    /// Those of the file.
    pub fn n_budgets(&self) -> usize {
        self.budgets.len() - defaults().len()
    }

    /// Whether anything is ever done to a series.
    pub fn is_enforcing(&self) -> bool {
        self.budgets.iter().any(|b| b.action != Action::Warn)
    }
}

fn check(k: usize, raw: RawBudget) -> Result<SeriesBudget, String> {
    let regex = |key: &str, pattern: Option<String>| {
        let compile = |p: String| weir_go::regex_anchored(&p).map_err(|e| format!("{key} `{p}`: {e}"));
        pattern.map(compile).transpose()
    };
    if raw.max_series == 0 {
        return Err("max_series: 0 leaves room for no series at all; give at least 1".to_owned());
    }
    if let Some(label) = raw.fold_labels.iter().find(|l| NEVER_FOLDED.contains(&l.as_str())) {
        return Err(format!("fold_labels: `{label}` is never folded"));
    }
    if !raw.fold_labels.is_empty() && raw.action != Action::Fold {
        return Err(format!("fold_labels have no meaning with `action: {}`", raw.action.as_str()));
    }
    let (tenant, metric) = (regex("tenant", raw.tenant)?, regex("metric", raw.metric)?);
    let name = raw.name.unwrap_or_else(|| format!("budget {}", k + 1));
    Ok(SeriesBudget {
        name: name.into(),
        tenant,
        metric,
        series_max: raw.max_series,
        action: raw.action,
        fold_labels: raw.fold_labels.iter().map(|l| l.as_str().into()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
protected_labels: [tier]
budgets:
  - name: logins
    metric: login_.*
    max_series: 500
    action: fold
    fold_labels: [user_id]
  - tenant: team-a|team-b
    max_series: 20000
    action: refuse
";

    #[test]
    fn the_first_budget_that_fits_holds_and_the_defaults_come_last() {
        let config = CardinalityConfig::parse(FILE).unwrap();
        let (a, c) = (TenantId::parse("team-a").unwrap(), TenantId::parse("team-c").unwrap());
        let metric = |name| config.of_metric(&a, name).map(|b| (&*b.name, b.series_max, b.action)).unwrap();
        assert_eq!(metric("login_attempts_total"), ("logins", 500, Action::Fold));
        assert_eq!(metric("logins"), ("any metric", METRIC_SERIES, Action::Warn));
        assert_eq!(config.of_tenant(&a).unwrap().series_max, 20_000);
        assert_eq!(&*config.of_tenant(&a).unwrap().name, "budget 2");
        assert_eq!(&*config.of_tenant(&c).unwrap().name, "any tenant");
        assert!(config.is_enforcing() && config.protected_labels.contains("tier") && config.alert);
        assert!(!CardinalityConfig::default().is_enforcing());
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line() {
        for (file, line, want) in [
            ("budgets:\n  - metric: a(\n    max_series: 5", 2, "metric `a(`"),
            ("budgets:\n  - max_series: 0", 2, "no series at all"),
            ("budgets:\n  - max_series: 5\n    action: fold\n    fold_labels: [le]", 2, "`le` is never folded"),
            ("budgets:\n  - max_series: 5\n    fold_labels: [a]", 2, "no meaning with `action: warn`"),
            ("budgets:\n  - max_series: 5\n    action: shrug", 3, "shrug"),
            ("budgets:\n  - max: 5", 2, "max"),
            ("budgets:\n  - {name: a, max_series: 1}\n  - {name: a, max_series: 2}", 3, "two budgets are called `a`"),
        ] {
            let error = CardinalityConfig::parse(file).unwrap_err();
            assert!(error.reason.contains(want) && error.line == line, "{file}\n{error}");
        }
    }
}
