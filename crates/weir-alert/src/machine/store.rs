//! Alerts as they come in, and as the API shows them.

use std::collections::BTreeMap;

use weir_model::{Labels, Matcher, TenantId, Timestamp, matcher::all_match};

use super::inhibit::Inhibitor;
use super::{ALERTS_MAX, Machine};
use crate::silence::{Silence, SilenceError, SilenceRequest, Silences};

#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub updated_at: Timestamp,
    /// `ends_at` is a guess that a later post moves.
    pub timeout: bool,
    pub generator_url: String,
}

impl Alert {
    pub fn resolved(&self, now: Timestamp) -> bool {
        self.ends_at <= now
    }
    /// 16 hex digits.
    pub fn fingerprint(&self) -> String {
        format!("{:016x}", self.labels.fingerprint())
    }

    /// This alert after a newer post of the same labels.
    fn merged(self, newer: Alert, now: Timestamp) -> Alert {
        let inside = |t: Timestamp| t > self.starts_at && t < self.ends_at;
        if !inside(newer.ends_at) && !inside(newer.starts_at) {
            return newer;
        }
        let mut out = newer;
        out.starts_at = out.starts_at.min(self.starts_at);
        let keep_end = if out.resolved(now) { self.resolved(now) } else { !self.timeout };
        if keep_end && self.ends_at > out.ends_at {
            out.ends_at = self.ends_at;
        }
        out
    }
}

/// An alert as a foreign sender posts it.
#[derive(Clone, Debug, Default)]
pub struct PostedAlert {
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at: Option<Timestamp>,
    pub ends_at: Option<Timestamp>,
    pub generator_url: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    #[error("at least one label pair required")]
    NoLabels,
    #[error("start time must be before end time")]
    EndsBeforeStart,
    #[error("more than {ALERTS_MAX} alerts; resolve some or group them in the rule")]
    TooMany,
}

/// How an alert stands, as the API shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertStatus {
    pub alert: Alert,
    /// Names of the receivers it reaches.
    pub receivers: Vec<String>,
    pub silenced_by: Vec<String>,
    pub inhibited_by: Vec<String>,
}

/// A group as the API shows it.
#[derive(Clone, Debug)]
pub struct GroupView {
    pub labels: Labels,
    pub receiver: String,
    pub alerts: Vec<AlertStatus>,
}

impl Machine {
    pub fn post(&mut self, tenant: &TenantId, posted: PostedAlert, now: Timestamp) -> Result<(), PostError> {
        if posted.labels.is_empty() {
            return Err(PostError::NoLabels);
        }
        let starts_at = posted.starts_at.or(posted.ends_at).unwrap_or(now);
        let ends_at = posted.ends_at.unwrap_or_else(|| now.plus(self.config.resolve_timeout));
        if ends_at < starts_at {
            return Err(PostError::EndsBeforeStart);
        }
        let alert = Alert {
            labels: posted.labels,
            annotations: posted.annotations,
            starts_at,
            ends_at,
            updated_at: now,
            timeout: posted.ends_at.is_none(),
            generator_url: posted.generator_url,
        };
        self.insert(tenant, alert, now)
    }

    pub(super) fn insert(&mut self, tenant: &TenantId, alert: Alert, now: Timestamp) -> Result<(), PostError> {
        let state = self.tenants.entry(tenant.clone()).or_default();
        let labels = alert.labels.clone();
        let merged = match state.alerts.remove(&labels) {
            Some(old) => old.merged(alert, now),
            None if state.alerts.len() >= ALERTS_MAX => return Err(PostError::TooMany),
            None => alert,
        };
        state.alerts.insert(labels.clone(), merged);
        self.route(tenant, &labels, now);
        Ok(())
    }

    /// Unresolved alerts, by fingerprint.
    pub fn alerts(&self, tenant: &TenantId, matchers: &[Matcher], now: Timestamp) -> Vec<AlertStatus> {
        let Some(state) = self.tenants.get(tenant) else { return Vec::new() };
        let inhibitor = Inhibitor::new(&self.config, state.alerts.values(), now);
        let shown = state.alerts.values().filter(|a| !a.resolved(now) && all_match(matchers, &a.labels));
        let mut out: Vec<(String, AlertStatus)> =
            shown.map(|a| (a.fingerprint(), self.status(a, &state.silences, &inhibitor, now))).collect();
        out.sort_by(|a, b| a.0.cmp(&b.0));
        out.into_iter().map(|(_, status)| status).collect()
    }

    fn status(&self, alert: &Alert, silences: &Silences, inhibitor: &Inhibitor<'_>, now: Timestamp) -> AlertStatus {
        let routes = self.config.routes_of(&alert.labels);
        AlertStatus {
            alert: alert.clone(),
            receivers: routes.iter().map(|r| self.receiver_of(*r).to_owned()).collect(),
            silenced_by: silences.muting(&alert.labels, now),
            inhibited_by: inhibitor.inhibited_by(&alert.labels),
        }
    }

    fn receiver_of(&self, route: usize) -> &str {
        &self.config.receivers[self.config.routes[route].receiver].name
    }

    /// Groups with their unresolved alerts, by labels, then receiver.
    pub fn groups(&self, tenant: &TenantId, matchers: &[Matcher], now: Timestamp) -> Vec<GroupView> {
        let Some(state) = self.tenants.get(tenant) else { return Vec::new() };
        let inhibitor = Inhibitor::new(&self.config, state.alerts.values(), now);
        // Routes with the same receiver and labels are one group to the reader.
        let mut views: BTreeMap<(Labels, String), Vec<AlertStatus>> = BTreeMap::new();
        for ((route, labels), group) in &state.groups {
            let members = group.members.iter().filter_map(|l| state.alerts.get(l));
            let shown = members.filter(|a| !a.resolved(now) && all_match(matchers, &a.labels));
            let alerts: Vec<_> = shown.map(|a| self.status(a, &state.silences, &inhibitor, now)).collect();
            if !alerts.is_empty() {
                views.entry((labels.clone(), self.receiver_of(*route).to_owned())).or_default().extend(alerts);
            }
        }
        views.into_iter().map(|((labels, receiver), alerts)| GroupView { labels, receiver, alerts }).collect()
    }

    pub fn silences(&self, tenant: &TenantId) -> Vec<Silence> {
        self.tenants.get(tenant).map(|t| t.silences.all()).unwrap_or_default()
    }

    /// Creates or changes a silence; gives its id.
    pub fn silence(
        &mut self,
        tenant: &TenantId,
        request: SilenceRequest,
        id: String,
        now: Timestamp,
    ) -> Result<String, SilenceError> {
        self.tenants.entry(tenant.clone()).or_default().silences.set(request, id, now)
    }

    /// Whether it was there.
    pub fn expire_silence(&mut self, tenant: &TenantId, id: &str, now: Timestamp) -> bool {
        self.tenants.get_mut(tenant).is_some_and(|t| t.silences.expire(id, now))
    }
}
