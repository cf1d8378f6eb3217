//! What a group says when its time has come.

use std::collections::BTreeSet;

use weir_model::{Labels, TenantId, Timestamp};

use super::inhibit::Inhibitor;
use super::store::Alert;
use super::{BUDGET_MIN, CAUSE_UPDATES_MAX, GroupId, InFlight, Job, LogEntry, Machine, RETENTION, Record};
use crate::CauseNote;
use crate::config::{Config, Route};
use crate::escalation::Observed;
use crate::template::{AlertData, Notification};

/// Why a notification goes out, in upstream's words.
pub(super) fn reason(
    entry: Option<&LogEntry>,
    firing: &BTreeSet<u64>,
    resolved: &BTreeSet<u64>,
    send_resolved: bool,
    repeats_at: impl Fn(Timestamp) -> Timestamp,
    now: Timestamp,
) -> Option<&'static str> {
    let Some(entry) = entry else { return (!firing.is_empty()).then_some("first notification") };
    if !firing.is_subset(&entry.firing) {
        return Some(if entry.firing.is_empty() { "first notification" } else { "new alerts added" });
    }
    if firing.is_empty() {
        return (!entry.firing.is_empty()).then_some("all alerts resolved");
    }
    if send_resolved && !resolved.is_subset(&entry.resolved) {
        return Some("some alerts resolved");
    }
    (repeats_at(entry.at) < now).then_some("repeat interval elapsed")
}

/// By job, instance, then all labels, as upstream sorts them.
pub(super) fn sort_alerts(alerts: &mut [Alert]) {
    alerts.sort_by(|a, b| {
        let key = |x: &Alert| (x.labels.value("job").to_owned(), x.labels.value("instance").to_owned());
        key(a).cmp(&key(b)).then_with(|| a.labels.cmp(&b.labels))
    });
}

impl Machine {
    pub(super) fn flush_due(&mut self, tenant: &TenantId, now: Timestamp, jobs: &mut Vec<Job>) {
        let Some(state) = self.tenants.get(tenant) else { return };
        let due: Vec<GroupId> =
            state.groups.iter().filter(|(_, g)| g.jobs == 0 && g.next_flush <= now).map(|(id, _)| id.clone()).collect();
        if due.is_empty() {
            return;
        }
        let config = self.config.clone();
        let inhibitor = Inhibitor::new(&config, state.alerts.values(), now);
        for id in due {
            self.flush(tenant, &id, &inhibitor, now, jobs);
        }
    }

    fn flush(
        &mut self,
        tenant: &TenantId,
        id: &GroupId,
        inhibitor: &Inhibitor<'_>,
        now: Timestamp,
        jobs: &mut Vec<Job>,
    ) {
        let config = self.config.clone();
        let route = &config.routes[id.0];
        let Some(state) = self.tenants.get_mut(tenant) else { return };
        let Some(group) = state.groups.get_mut(id) else { return };
        group.next_flush = now.plus(route.group_interval);
        group.flushed = true;
        group.failed = false;
        let members: Vec<Alert> = group.members.iter().filter_map(|l| state.alerts.get(l)).cloned().collect();
        let out_of_hours = !config.muted_by(route, now).is_empty();
        let (mut shown, muted): (Vec<Alert>, Vec<Alert>) = members.iter().cloned().partition(|a| {
            !out_of_hours
                && state.silences.muting(&a.labels, now).is_empty()
                && inhibitor.inhibited_by(&a.labels).is_empty()
        });
        sort_alerts(&mut shown);
        let leaving: Vec<_> =
            members.iter().filter(|a| a.resolved(now)).map(|a| (a.labels.clone(), a.updated_at)).collect();
        let group_key = format!("{}:{}", route.key, show_labels(&id.1));
        let receiver = &config.receivers[route.receiver];
        for alert in muted.iter().filter(|a| a.resolved(now)) {
            // Upstream leaves it in the log as firing, and stays quiet when it fires again unmuted
            // within repeat_interval: a missed page.
            for idx in 0..receiver.integrations.len() {
                let key = (group_key.clone(), receiver.name.clone(), idx);
                if let Some(entry) = state.log.get_mut(&key)
                    && entry.firing.remove(&alert.labels.fingerprint())
                {
                    self.dirty.insert(Record::Log(tenant.clone(), key));
                }
            }
        }
        if let Some(observed) = &mut self.observed {
            let alerts: Vec<Labels> = shown.iter().filter(|a| !a.resolved(now)).map(|a| a.labels.clone()).collect();
            if !alerts.is_empty() {
                let (receiver, group_key) = (receiver.name.clone(), group_key.clone());
                let key = (tenant.clone(), receiver.clone(), group_key.clone());
                observed.insert(key, Observed { tenant: tenant.clone(), receiver, group_key, alerts });
            }
        }
        let mut waiting = Vec::new();
        if !shown.is_empty() {
            for idx in 0..receiver.integrations.len() {
                if let Some(job) = self.consider(tenant, id, idx, &group_key, &shown, now) {
                    waiting.push(job);
                }
            }
        }
        let Some(state) = self.tenants.get_mut(tenant) else { return };
        let Some(group) = state.groups.get_mut(id) else { return };
        group.jobs = waiting.len();
        if waiting.is_empty() {
            for (labels, _) in leaving {
                group.members.remove(&labels);
            }
            if group.members.is_empty() {
                state.groups.remove(id);
            }
        } else {
            group.leaving = leaving;
            jobs.extend(waiting);
        }
    }

    /// A job for one integration, if the log says that it has something new to hear.
    fn consider(
        &mut self,
        tenant: &TenantId,
        id: &GroupId,
        idx: usize,
        group_key: &str,
        shown: &[Alert],
        now: Timestamp,
    ) -> Option<Job> {
        let config = self.config.clone();
        let route = &config.routes[id.0];
        let receiver = &config.receivers[route.receiver];
        let send_resolved = receiver.integrations[idx].send_resolved;
        let log_key = (group_key.to_owned(), receiver.name.clone(), idx);
        let of = |resolved: bool| -> BTreeSet<u64> {
            shown.iter().filter(|a| a.resolved(now) == resolved).map(|a| a.labels.fingerprint()).collect()
        };
        let (firing, resolved) = (of(false), of(true));
        let cause = self.cause(tenant, shown, now);
        let state = self.tenants.get_mut(tenant)?;
        let known = state.log.get(&log_key);
        let reason = reason(known, &firing, &resolved, send_resolved, |at| at.plus(route.repeat_interval), now)?;
        let entry = LogEntry {
            firing,
            resolved,
            at: now,
            expires_at: now.plus(RETENTION.min(route.repeat_interval * 2)),
            cause: cause.as_ref().map(|c| c.key.clone()),
            cause_updates: known.filter(|_| reason != "first notification").map_or(0, |e| e.cause_updates),
            kept: known.map(|e| e.kept.clone()).unwrap_or_default(),
        };
        let told: Vec<Alert> = shown.iter().filter(|a| send_resolved || !a.resolved(now)).cloned().collect();
        if told.is_empty() {
            // Only resolved alerts for somebody who does not want them: counts as sent.
            self.dirty.insert(Record::Log(tenant.clone(), log_key.clone()));
            state.log.insert(log_key, entry);
            return None;
        }
        let in_flight = InFlight { tenant: tenant.clone(), group: id.clone(), log_key, entry };
        Some(self.job(in_flight, idx, &told, reason, cause, now))
    }

    fn job(
        &mut self,
        in_flight: InFlight,
        integration: usize,
        alerts: &[Alert],
        reason: &str,
        cause: Option<CauseNote>,
        now: Timestamp,
    ) -> Job {
        let route = &self.config.routes[in_flight.group.0];
        let tenant = in_flight.tenant.clone();
        let data: Vec<AlertData> = alerts.iter().map(|a| self.alert_data(&tenant, a, now)).collect();
        let first = data.iter().find(|a| a.firing).or(data.first());
        let mut notification = Notification {
            receiver: in_flight.log_key.1.clone(),
            group_key: in_flight.log_key.0.clone(),
            group_labels: in_flight.group.1.clone(),
            incident_url: first.map(|a| a.incident_url.clone()).unwrap_or_default(),
            alerts: data,
            route_labels: Labels::empty(),
            external_url: self.external_url.clone(),
            reason: reason.to_owned(),
            cause,
        };
        notification.route_labels = route_labels(&self.config, route, &notification, now);
        let id = self.next_job;
        self.next_job += 1;
        let deadline = now.plus(route.group_interval.max(BUDGET_MIN));
        let (receiver, kept) = (route.receiver, in_flight.entry.kept.clone());
        self.in_flight.insert(id, in_flight);
        Job { id, tenant, receiver, integration, config: self.config.clone(), notification, kept, deadline }
    }

    pub(super) fn alert_data(&self, tenant: &TenantId, alert: &Alert, now: Timestamp) -> AlertData {
        let fingerprint = alert.fingerprint();
        AlertData {
            firing: !alert.resolved(now),
            labels: alert.labels.clone(),
            annotations: alert.annotations.clone(),
            starts_at: alert.starts_at,
            ends_at: alert.ends_at,
            generator_url: alert.generator_url.clone(),
            incident_url: format!("{}/incidents/{fingerprint}?tenant={tenant}", self.external_url),
            fingerprint,
        }
    }

    /// What is known of the cause of the first firing alert that has one.
    pub(super) fn cause(&self, tenant: &TenantId, alerts: &[Alert], now: Timestamp) -> Option<CauseNote> {
        let enricher = self.enricher.as_ref()?;
        alerts.iter().filter(|a| !a.resolved(now)).find_map(|a| enricher.lines(tenant, a.labels.fingerprint()))
    }

    /// Updates for groups that were told of alerts before their cause was known, or when it changed.
    pub(super) fn tell_causes(&mut self, tenant: &TenantId, now: Timestamp, jobs: &mut Vec<Job>) {
        let config = self.config.clone();
        let Some(state) = self.tenants.get(tenant) else { return };
        let quiet: Vec<GroupId> =
            state.groups.iter().filter(|(_, g)| g.jobs == 0 && g.flushed).map(|(id, _)| id.clone()).collect();
        for id in quiet {
            let route = &config.routes[id.0];
            let receiver = &config.receivers[route.receiver];
            let group_key = format!("{}:{}", route.key, show_labels(&id.1));
            let mut waiting = Vec::new();
            for idx in 0..receiver.integrations.len() {
                let log_key = (group_key.clone(), receiver.name.clone(), idx);
                let Some(state) = self.tenants.get(tenant) else { return };
                let Some(entry) = state.log.get(&log_key).filter(|e| !e.firing.is_empty()) else { continue };
                if entry.cause_updates >= CAUSE_UPDATES_MAX {
                    continue;
                }
                // Only alerts that were told of: a new one waits for its flush.
                let members = state.groups.get(&id).into_iter().flat_map(|g| &g.members);
                let mut told: Vec<Alert> = members
                    .filter(|l| entry.firing.contains(&l.fingerprint()))
                    .filter_map(|l| state.alerts.get(l))
                    .filter(|a| !a.resolved(now))
                    .cloned()
                    .collect();
                let mut entry = entry.clone();
                sort_alerts(&mut told);
                let Some(cause) = self.cause(tenant, &told, now) else { continue };
                if entry.cause.as_ref() == Some(&cause.key) {
                    continue;
                }
                entry.cause = Some(cause.key.clone());
                entry.cause_updates += 1;
                let in_flight = InFlight { tenant: tenant.clone(), group: id.clone(), log_key, entry };
                waiting.push(self.job(in_flight, idx, &told, "cause known", Some(cause), now));
            }
            if let Some(group) = self.tenants.get_mut(tenant).and_then(|s| s.groups.get_mut(&id)) {
                group.jobs = waiting.len();
                group.failed = false;
                jobs.extend(waiting);
            }
        }
    }
}

/// Labels of a route; a template that fails shows its error rather than holding up the page.
fn route_labels(config: &Config, route: &Route, notification: &Notification, now: Timestamp) -> Labels {
    if route.labels.is_empty() {
        return Labels::empty();
    }
    let data = notification.value();
    let render = |text: &str| {
        let template = config.templates.parse("route label", text)?;
        config.templates.render_with(&template, &data, &now)
    };
    let pairs = route.labels.iter().map(|(name, text)| {
        (name.clone(), render(text).unwrap_or_else(|e| format!("<error expanding template: {e}>")))
    });
    Labels::from_pairs(pairs)
}

/// As Alertmanager prints a label set: `{a="b", c="d"}`.
fn show_labels(labels: &Labels) -> String {
    let parts: Vec<String> = labels.iter().map(|l| format!("{}={:?}", l.name, l.value)).collect();
    format!("{{{}}}", parts.join(", "))
}
