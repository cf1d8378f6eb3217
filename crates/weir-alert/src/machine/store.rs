//! Alerts as they come in, and as the API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_model::{Labels, Matcher, TenantId, Timestamp, matcher::all_match};

use super::inhibit::Inhibitor;
use super::{ALERTS_MAX, Machine, Record};
use crate::silence::{Silence, SilenceError, SilenceRequest, Silences};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    #[serde(deserialize_with = "super::persist::labels")]
    pub labels: Labels,
    #[serde(deserialize_with = "super::persist::labels")]
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
    /// Time intervals that mute the group it is shown in; empty where no group is shown.
    pub muted_by: Vec<String>,
}

/// A group as the API shows it.
#[derive(Clone, Debug)]
pub struct GroupView {
    pub labels: Labels,
    pub receiver: String,
    /// As written; templates are rendered for notifications only.
    pub route_labels: BTreeMap<String, String>,
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
            Some(old) => {
                let before = (old.annotations.clone(), old.starts_at, old.resolved(now));
                let merged = old.merged(alert, now);
                // That it still fires is not worth a write.
                if before != (merged.annotations.clone(), merged.starts_at, merged.resolved(now)) {
                    self.dirty.insert(Record::Alert(tenant.clone(), labels.clone()));
                }
                merged
            }
            None if state.alerts.len() >= ALERTS_MAX => return Err(PostError::TooMany),
            None => {
                self.dirty.insert(Record::Alert(tenant.clone(), labels.clone()));
                alert
            }
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
            muted_by: Vec::new(),
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
        let mut views: BTreeMap<(Labels, String), GroupView> = BTreeMap::new();
        for ((route, labels), group) in &state.groups {
            let members = group.members.iter().filter_map(|l| state.alerts.get(l));
            let shown = members.filter(|a| !a.resolved(now) && all_match(matchers, &a.labels));
            let config = &self.config.routes[*route];
            let muted_by = self.config.muted_by(config, now);
            let status =
                |a| AlertStatus { muted_by: muted_by.clone(), ..self.status(a, &state.silences, &inhibitor, now) };
            let alerts: Vec<_> = shown.map(status).collect();
            if !alerts.is_empty() {
                let receiver = self.receiver_of(*route).to_owned();
                let (labels, route_labels) = (labels.clone(), config.labels.clone());
                let new =
                    || GroupView { labels: labels.clone(), receiver: receiver.clone(), route_labels, alerts: vec![] };
                views.entry((labels.clone(), receiver.clone())).or_insert_with(new).alerts.extend(alerts);
            }
        }
        views.into_values().collect()
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
        let old = request.id.clone();
        let set = self.tenants.entry(tenant.clone()).or_default().silences.set(request, id, now)?;
        for id in old.into_iter().chain([set.clone()]) {
            self.dirty.insert(Record::Silence(tenant.clone(), id));
        }
        Ok(set)
    }

    /// Whether it was there.
    pub fn expire_silence(&mut self, tenant: &TenantId, id: &str, now: Timestamp) -> bool {
        self.dirty.insert(Record::Silence(tenant.clone(), id.to_owned()));
        self.tenants.get_mut(tenant).is_some_and(|t| t.silences.expire(id, now))
    }
}
