//! What the API and the page see of rules and alerts: plain copies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{AlertPhase, Labels, TenantId, Timestamp};

use crate::language::Language;
use crate::machine::Alert;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Not evaluated yet.
    Unknown,
    Ok,
    Failed(String),
}

#[derive(Clone, Debug)]
pub struct GroupView {
    pub name: String,
    pub file: String,
    pub interval: Duration,
    pub limit: usize,
    pub language: Language,
    pub evaluation_time: Duration,
    pub last_evaluation: Option<Timestamp>,
    pub rules: Vec<RuleView>,
}

#[derive(Clone, Debug)]
pub struct RuleView {
    pub name: String,
    pub query: Arc<str>,
    pub labels: BTreeMap<String, String>,
    pub health: Health,
    pub last_evaluation: Option<Timestamp>,
    pub evaluation_time: Duration,
    pub kind: RuleKindView,
}

#[derive(Clone, Debug)]
pub enum RuleKindView {
    Recording,
    Alerting {
        hold: Duration,
        keep_firing_for: Duration,
        /// Templates as written.
        annotations: BTreeMap<String, String>,
        alerts: Vec<AlertView>,
    },
}

impl RuleView {
    pub fn alerts(&self) -> &[AlertView] {
        match &self.kind {
            RuleKindView::Recording => &[],
            RuleKindView::Alerting { alerts, .. } => alerts,
        }
    }

    /// The furthest of its alerts; `None` is inactive.
    pub fn phase(&self) -> Option<AlertPhase> {
        let rank = |phase: &AlertPhase| match phase {
            AlertPhase::Firing => 2,
            AlertPhase::Unknown => 1,
            AlertPhase::Pending | AlertPhase::Resolved => 0,
        };
        self.alerts().iter().map(|a| a.phase).max_by_key(rank)
    }
}

/// A pending or firing alert.
#[derive(Clone, Debug)]
pub struct AlertView {
    pub labels: Labels,
    pub annotations: Labels,
    pub phase: AlertPhase,
    pub active_at: Timestamp,
    pub keep_firing_since: Option<Timestamp>,
    pub value: f64,
}

impl AlertView {
    pub(crate) fn of(alert: &Alert) -> Self {
        Self {
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            phase: alert.phase().unwrap_or(AlertPhase::Pending),
            active_at: alert.active_at().unwrap_or_default(),
            keep_firing_since: alert.keep_firing_since(),
            value: alert.value,
        }
    }
}

/// A transition that happened.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    pub tenant: TenantId,
    pub at: Timestamp,
    pub phase: AlertPhase,
    pub labels: Labels,
    pub annotations: Labels,
    pub value: f64,
}
