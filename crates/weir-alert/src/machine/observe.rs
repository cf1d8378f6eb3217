//! What escalation asks: which groups were notified, and how alerts stand.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{Labels, TenantId, Timestamp};

use super::flush::sort_alerts;
use super::inhibit::Inhibitor;
use super::{Alert, Machine};
use crate::CauseNote;
use crate::escalation::{Observed, Standing};
use crate::template::AlertData;

impl Machine {
    /// Whether notified groups are kept for [`Machine::take_observed`]. Groups that were notified before anybody asked
    /// are looked at again.
    pub fn observe(&mut self, observe: bool, now: Timestamp) {
        if !observe {
            self.observed = None;
        } else if self.observed.is_none() {
            self.observed = Some(BTreeMap::new());
            let groups = self.tenants.values_mut().flat_map(|t| t.groups.values_mut());
            groups.filter(|g| g.flushed).for_each(|g| g.next_flush = g.next_flush.min(now));
        }
    }

    pub fn has_observed(&self) -> bool {
        self.observed.as_ref().is_some_and(|o| !o.is_empty())
    }

    pub fn take_observed(&mut self) -> Vec<Observed> {
        self.observed.as_mut().map(std::mem::take).unwrap_or_default().into_values().collect()
    }

    /// `inhibition`: whether to look for alerts that inhibit these, which costs a look at all others.
    pub fn standing(
        &self,
        tenant: &TenantId,
        members: &BTreeSet<Labels>,
        inhibition: bool,
        now: Timestamp,
    ) -> Standing {
        let Some(state) = self.tenants.get(tenant) else { return Standing::Over };
        let firing: Vec<&Alert> =
            members.iter().filter_map(|l| state.alerts.get(l)).filter(|a| !a.resolved(now)).collect();
        if firing.is_empty() {
            return Standing::Over;
        }
        let mut heard = firing.into_iter().filter(|a| state.silences.muting(&a.labels, now).is_empty());
        let is_heard = match inhibition && !self.config.inhibit_rules.is_empty() {
            false => heard.next().is_some(),
            true => {
                let inhibitor = Inhibitor::new(&self.config, state.alerts.values(), now);
                heard.any(|a| inhibitor.inhibited_by(&a.labels).is_empty())
            }
        };
        if is_heard { Standing::Firing } else { Standing::Muted }
    }

    /// Alerts as a notification shows them; of one that is forgotten the labels are left.
    pub fn page_data(
        &self,
        tenant: &TenantId,
        members: &BTreeSet<Labels>,
        now: Timestamp,
    ) -> (Vec<AlertData>, Option<CauseNote>) {
        let known = |labels: &Labels| self.tenants.get(tenant).and_then(|t| t.alerts.get(labels)).cloned();
        let forgotten = |labels: &Labels| Alert {
            labels: labels.clone(),
            annotations: Labels::empty(),
            starts_at: now,
            ends_at: now,
            updated_at: now,
            timeout: false,
            generator_url: String::new(),
        };
        let mut alerts: Vec<Alert> = members.iter().map(|l| known(l).unwrap_or_else(|| forgotten(l))).collect();
        sort_alerts(&mut alerts);
        let data = alerts.iter().map(|a| self.alert_data(tenant, a, now)).collect();
        (data, self.cause(tenant, &alerts, now))
    }
}
