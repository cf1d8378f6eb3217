//! On-call: people and how to reach them, schedules, escalation chains, and which alerts start them.
//!
//! A configuration of its own, `oncall.yml` (`docs/oncall.md`). A channel is written like a receiver of
//! `alertmanager.yml`, with `${phone}` where a person's contact belongs, so that every kind of receiver can
//! reach people.

mod ical;
mod raw;
mod read;
pub mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use weir_model::{Labels, Matcher, Timestamp, matcher::all_match};

use crate::config::{Config, ConfigError, Integration, Secret};
use schedule::{Override, Schedule};

pub use ical::calendar;
pub use read::{parse_oncall, read_oncall};

#[derive(Clone, Debug)]
pub struct Person {
    pub name: String,
    /// For people to read; the name if nothing else is given.
    pub shown: String,
    /// By kind, such as `phone`; personal data, never shown.
    pub(crate) contacts: BTreeMap<String, Secret>,
}

impl Person {
    /// Kinds of contacts that are known.
    pub fn contact_kinds(&self) -> impl Iterator<Item = &str> {
        self.contacts.keys().map(String::as_str)
    }
}

/// Whom a step of a chain tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Whoever is on call then.
    Schedule(String),
    Person(String),
    /// A receiver of `alertmanager.yml`.
    Receiver(String),
}

#[derive(Clone, Debug)]
pub struct Step {
    pub notify: Vec<Target>,
    /// Instead of those of the tier.
    pub channels: Option<Vec<String>>,
    /// For an acknowledgement, before the next step. `None`, for the last step alone: none is expected.
    pub wait: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Chain {
    pub name: String,
    pub steps: Vec<Step>,
    /// Times that it begins anew after its last step.
    pub repeat: u32,
    line: u64,
}

/// How urgent: which channels, and which chain.
#[derive(Clone, Debug)]
pub struct Tier {
    pub name: String,
    /// Values of the label `tier`, or without one of `severity`, that mean this tier; its name among them.
    pub values: Vec<String>,
    pub channels: Vec<String>,
    /// Where no route says otherwise.
    pub chain: Option<String>,
    /// A receiver that is told when nobody of a step could be told.
    pub out_of_band: Option<String>,
    line: u64,
}

/// Alerts that start a chain whatever their tier says.
#[derive(Clone, Debug)]
pub struct PageRoute {
    /// Groups that this receiver of `alertmanager.yml` is told of.
    pub receiver: Option<String>,
    pub matchers: Vec<Matcher>,
    /// `None`: they page nobody.
    pub chain: Option<String>,
    pub tier: Option<String>,
    line: u64,
}

/// Told that weir lives, at an interval; its silence pages.
#[derive(Clone, Debug)]
pub struct Watchdog {
    pub interval: Duration,
    pub(crate) integration: Integration,
}

/// What an alert starts. Earlier tiers are more urgent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Plan {
    /// Index of the tier; past all of them without one.
    rank: usize,
    pub tier: Option<String>,
    pub chain: String,
}

/// A checked `oncall.yml`.
#[derive(Clone, Debug)]
pub struct OnCallConfig {
    pub people: Vec<Person>,
    pub schedules: Vec<Schedule>,
    pub chains: Vec<Chain>,
    /// Most urgent first.
    pub tiers: Vec<Tier>,
    pub routes: Vec<PageRoute>,
    pub zone_name: String,
    pub zone: TimeZone,
    /// How long a link in a page may acknowledge.
    pub link_life: Duration,
    /// Local hours that count as night: from, and to.
    pub night: (i8, i8),
    pub watchdog: Option<Watchdog>,
    pub warnings: Vec<String>,
    file: String,
    /// How to reach a person by a channel.
    reach: BTreeMap<(String, String), Arc<[Integration]>>,
}

impl OnCallConfig {
    /// What runs without a file: nobody is on call, and nothing starts a chain.
    pub fn none() -> Self {
        parse_oncall("(built in)", "", None).expect("an empty configuration is valid")
    }

    pub fn is_empty(&self) -> bool {
        self.people.is_empty() && self.schedules.is_empty() && self.chains.is_empty() && self.watchdog.is_none()
    }

    pub fn person(&self, name: &str) -> Option<&Person> {
        self.people.iter().find(|p| p.name == name)
    }

    pub fn schedule(&self, name: &str) -> Option<&Schedule> {
        self.schedules.iter().find(|s| s.name == name)
    }

    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|c| c.name == name)
    }

    pub fn tier(&self, name: &str) -> Option<&Tier> {
        self.tiers.iter().find(|t| t.name == name)
    }

    pub(crate) fn reach(&self, person: &str, channel: &str) -> Option<&Arc<[Integration]>> {
        self.reach.get(&(person.to_owned(), channel.to_owned()))
    }

    /// The tier that the labels of an alert mean.
    pub fn tier_of(&self, labels: &Labels) -> Option<&Tier> {
        let given = labels.get("tier").or_else(|| labels.get("severity"))?;
        self.tiers.iter().find(|t| t.values.iter().any(|v| v.eq_ignore_ascii_case(given)))
    }

    /// What an alert starts that `receiver` is told of.
    pub fn plan(&self, receiver: &str, labels: &Labels) -> Option<Plan> {
        let route = self
            .routes
            .iter()
            .find(|r| r.receiver.as_ref().is_none_or(|name| name == receiver) && all_match(&r.matchers, labels));
        let by_labels = self.tier_of(labels);
        let (tier, chain) = match route {
            Some(route) => {
                let named = route.tier.as_ref().and_then(|name| self.tier(name));
                (named.or(by_labels), route.chain.clone()?)
            }
            None => (by_labels, by_labels?.chain.clone()?),
        };
        let rank = tier.and_then(|t| self.tiers.iter().position(|x| x.name == t.name)).unwrap_or(self.tiers.len());
        Some(Plan { rank, tier: tier.map(|t| t.name.clone()), chain })
    }

    /// Who is meant right now.
    pub(crate) fn person_of(&self, target: &Target, made: &[Override], at: Timestamp) -> Option<String> {
        match target {
            Target::Schedule(name) => {
                let on_call = self.schedule(name).and_then(|s| s.on_call(made, at));
                on_call.map(|(person, _)| person.to_owned())
            }
            Target::Person(name) => Some(name.clone()),
            Target::Receiver(_) => None,
        }
    }

    /// Every channel that reaches a person.
    pub(crate) fn any_reach(&self, person: &str) -> impl Iterator<Item = (&String, usize)> {
        self.reach.iter().filter(move |((name, _), _)| name == person).map(|((_, channel), all)| (channel, all.len()))
    }

    /// Names of receivers that `alertmanager.yml` does not have.
    pub fn check_receivers(&self, alertmanager: &Config) -> Result<(), ConfigError> {
        let known = |name: &str| alertmanager.receivers.iter().any(|r| r.name == name);
        let fail = |line: u64, what: &str, name: &str| {
            let reason = format!("{what}: receiver {name:?} is not in the Alertmanager configuration");
            Err(ConfigError { file: self.file.clone(), line, reason })
        };
        for chain in &self.chains {
            for target in chain.steps.iter().flat_map(|s| &s.notify) {
                if let Target::Receiver(name) = target
                    && !known(name)
                {
                    return fail(chain.line, &format!("chain {:?}", chain.name), name);
                }
            }
        }
        for tier in &self.tiers {
            if let Some(name) = tier.out_of_band.as_ref().filter(|name| !known(name)) {
                return fail(tier.line, "out_of_band", name);
            }
        }
        for route in &self.routes {
            if let Some(name) = route.receiver.as_ref().filter(|name| !known(name)) {
                return fail(route.line, "route", name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
