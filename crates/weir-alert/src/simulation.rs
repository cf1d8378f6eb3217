//! Alerts in, notifications and pages out, over a time that is only counted: what `weir test routes` runs.
//!
//! The machines are those that run in earnest; every receiver takes what it is sent at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{Labels, Matcher, TenantId, Timestamp, matcher::all_match};

use crate::config::Config;
use crate::escalation::{Effect, Escalations, Input, Recipient, Which};
use crate::machine::{Machine, PostedAlert};
use crate::oncall::OnCallConfig;
use crate::silence::SilenceRequest;

/// Instants at which something happens, in one run.
const INSTANTS_MAX: usize = 200_000;

#[derive(Clone, Debug)]
pub struct SimAlert {
    pub labels: Labels,
    pub annotations: Labels,
    pub from: Duration,
    /// `None`: fires to the end.
    pub to: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct SimSilence {
    pub matchers: Vec<Matcher>,
    pub from: Duration,
    pub to: Duration,
}

/// Somebody acknowledges the pages of alerts.
#[derive(Clone, Debug)]
pub struct SimAcknowledgement {
    pub at: Duration,
    pub matchers: Vec<Matcher>,
    pub by: String,
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub start: Timestamp,
    pub length: Duration,
    pub alerts: Vec<SimAlert>,
    pub silences: Vec<SimSilence>,
    pub acknowledgements: Vec<SimAcknowledgement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaidTo {
    Receiver(String),
    Person { person: String, channel: String },
}

/// One notification to a receiver, whatever its number of integrations, or one message of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Since the start.
    pub at: Duration,
    pub to: SaidTo,
    pub firing: Vec<Labels>,
    pub resolved: Vec<Labels>,
    pub reason: String,
}

struct Run {
    tenant: TenantId,
    machine: Machine,
    pages: Escalations,
    start: Timestamp,
    said: Vec<Said>,
}

/// What was said, in order. An error names what of the scenario cannot be.
pub fn simulate(config: Config, oncall: OnCallConfig, scenario: &Scenario) -> Result<Vec<Said>, String> {
    let start = scenario.start;
    let mut machine = Machine::new(Arc::new(config), "http://weir".to_owned());
    machine.observe(!oncall.chains.is_empty(), start);
    let pages = Escalations::new(Arc::new(oncall));
    let mut run = Run { tenant: TenantId::anonymous(), machine, pages, start, said: Vec::new() };
    let end = start.plus(scenario.length);
    let mut instants: BTreeSet<Timestamp> = BTreeSet::from([start]);
    for alert in &scenario.alerts {
        instants.insert(start.plus(alert.from));
        instants.extend(alert.to.map(|to| start.plus(to)));
    }
    instants.extend(scenario.silences.iter().flat_map(|s| [start.plus(s.from), start.plus(s.to)]));
    instants.extend(scenario.acknowledgements.iter().map(|a| start.plus(a.at)));
    let mut n_instants = 0;
    while let Some(now) = instants.pop_first().filter(|now| *now <= end) {
        n_instants += 1;
        if n_instants > INSTANTS_MAX {
            return Err(format!("more than {INSTANTS_MAX} instants at which something happens; make the test shorter"));
        }
        run.begin(scenario, end, now)?;
        run.tick(now);
        let next = run.machine.next_wake().into_iter().chain(run.pages.next_wake()).min();
        // A flush may be due that nothing comes of.
        instants.extend(next.map(|at| at.max(now.plus(Duration::from_millis(1)))));
    }
    Ok(run.said)
}

impl Run {
    /// What the scenario says of this instant.
    fn begin(&mut self, scenario: &Scenario, end: Timestamp, now: Timestamp) -> Result<(), String> {
        let at = |d: Duration| self.start.plus(d);
        for (idx, silence) in scenario.silences.iter().enumerate().filter(|(_, s)| at(s.from) == now) {
            let request = SilenceRequest {
                id: None,
                matchers: silence.matchers.clone(),
                starts_at: now,
                ends_at: at(silence.to),
                created_by: "test".to_owned(),
                comment: "test".to_owned(),
            };
            let made = self.machine.silence(&self.tenant, request, format!("silence-{idx}"), now);
            made.map_err(|e| format!("silence {}: {e}", idx + 1))?;
        }
        for (idx, alert) in scenario.alerts.iter().enumerate().filter(|(_, a)| at(a.from) == now) {
            let posted = PostedAlert {
                labels: alert.labels.clone(),
                annotations: alert.annotations.clone(),
                starts_at: Some(now),
                ends_at: Some(alert.to.map_or(end.plus(Duration::from_secs(1)), at)),
                generator_url: String::new(),
            };
            self.machine.post(&self.tenant, posted, now).map_err(|e| format!("alert {}: {e}", idx + 1))?;
        }
        for ack in scenario.acknowledgements.iter().filter(|a| at(a.at) == now) {
            let meant = self.machine.alerts(&self.tenant, &[], now);
            let meant = meant.iter().map(|a| &a.alert.labels).filter(|l| all_match(&ack.matchers, l));
            let which = Which::Alerts(meant.map(Labels::fingerprint).collect());
            let (tenant, by) = (self.tenant.clone(), ack.by.clone());
            self.pages.step(Input::Acknowledge { tenant, which, by, comment: String::new() }, now);
        }
        Ok(())
    }

    fn tick(&mut self, now: Timestamp) {
        for job in self.machine.tick(now) {
            let notification = &job.notification;
            let of = |firing: bool| {
                let alerts = notification.alerts.iter().filter(|a| a.firing == firing);
                alerts.map(|a| a.labels.clone()).collect()
            };
            let said = Said {
                at: now.since(self.start),
                to: SaidTo::Receiver(notification.receiver.clone()),
                firing: of(true),
                resolved: of(false),
                reason: notification.reason.clone(),
            };
            // The integrations of a receiver hear the same.
            if job.integration == 0 || self.said.last() != Some(&said) {
                self.said.push(said);
            }
            self.machine.done(job.id, true, now);
        }
        for observed in self.machine.take_observed() {
            self.pages.step(Input::Observed(observed), now);
        }
        let machine = &self.machine;
        let standing = |tenant: &TenantId, members: &BTreeSet<Labels>, inhibition| {
            machine.standing(tenant, members, inhibition, now)
        };
        let alertmanager = machine.config().clone();
        let effects = self.pages.step(Input::Tick { standing: &standing, alertmanager: &alertmanager }, now);
        for effect in effects {
            let Effect::Send(job) = effect else { continue };
            let members: Vec<Labels> = job.members.iter().cloned().collect();
            let said = Said {
                at: now.since(self.start),
                to: match job.to {
                    Recipient::Person { person, channel } => SaidTo::Person { person, channel },
                    Recipient::Receiver(name) => SaidTo::Receiver(name),
                },
                firing: if job.resolve { Vec::new() } else { members.clone() },
                resolved: if job.resolve { members } else { Vec::new() },
                reason: job.reason,
            };
            if self.said.last() != Some(&said) {
                self.said.push(said);
            }
            self.pages.step(Input::Answered { job: job.id, result: Ok(String::new()) }, now);
        }
    }
}
