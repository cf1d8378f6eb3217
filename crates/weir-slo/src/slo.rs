//! An objective, checked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::burn::{Burn, Severity};
use crate::period::Period;

/// What is measured. A window in a query is written `{{.window}}`.
#[derive(Clone, Debug, PartialEq)]
pub enum Sli {
    /// Two queries, each of events per second over a window: the bad ones and all.
    Events { bad: String, total: String },
    /// One query of the share of bad ones, 0 to 1. How many events that is, it does not say.
    Ratio { bad: String },
}

#[derive(Clone, Debug, PartialEq)]
pub struct Slo {
    /// Names it among all of a tenant: `service-name` for those of Sloth, whose names repeat between services.
    pub id: String,
    pub name: String,
    pub service: String,
    pub description: String,
    /// Share of good events, such as 0.999. Invariant: above 0 and below 1.
    pub objective: f64,
    pub period: Period,
    pub sli: Sli,
    /// `T1` wakes somebody within a minute.
    pub tier: String,
    /// Fewer bad events than this in the long window alert nobody; 0 without such a guard.
    pub bad_events_min: u32,
    /// Of all its series and alerts.
    pub labels: BTreeMap<String, String>,
    pub alerts: Alerts,
    pub file: String,
    pub line: u64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alerts {
    /// Of the alerts; the objective's when empty.
    pub name: String,
    pub annotations: BTreeMap<String, String>,
    pub page: Alert,
    pub ticket: Alert,
    /// With Sloth's rates instead of the standard ones.
    pub like_sloth: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Alert {
    pub disabled: bool,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

impl Slo {
    pub fn burns(&self) -> Vec<Burn> {
        let length = self.period.length();
        let mut burns = if self.alerts.like_sloth { Burn::sloth(length) } else { Burn::standard(length) };
        burns.retain(|burn| match burn.severity {
            Severity::Page => !self.alerts.page.disabled,
            Severity::Ticket | Severity::Notice => !self.alerts.ticket.disabled,
        });
        burns
    }

    /// Windows that alerts look at, without repetitions, ascending.
    pub fn windows(&self) -> Vec<Duration> {
        let mut windows: Vec<Duration> = self.burns().iter().flat_map(|b| [b.short, b.long]).collect();
        // What budgets and gates are read from.
        windows.extend([Duration::from_secs(300), Duration::from_secs(3600)]);
        windows.sort_unstable();
        windows.dedup();
        windows
    }
}
