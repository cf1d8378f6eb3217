//! Alertmanager's configuration in its checked form.

pub(crate) mod http;
pub(crate) mod interval;
pub(crate) mod raw;
pub(crate) mod read;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_go::template::Templates;
use weir_model::{Labels, Matcher, Timestamp, matcher::all_match};

use crate::notify::Receive;

pub use http::HttpConfig;
pub use interval::TimeInterval;
pub use read::{parse_config, read_config};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct ConfigError {
    pub file: String,
    /// From 1; 0 where the whole file is meant.
    pub line: u64,
    pub reason: String,
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    pub resolve_timeout: Duration,
    /// The root is route 0; children come after their parents.
    pub routes: Vec<Route>,
    pub receivers: Vec<Receiver>,
    pub inhibit_rules: Vec<InhibitRule>,
    pub time_intervals: Vec<TimeInterval>,
    /// Defaults of upstream's names plus the files of `templates`.
    pub templates: Templates,
    /// The file with secrets replaced, for the API.
    pub original: String,
    /// What is accepted but has no effect, or may surprise.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Route {
    /// Index into [`Config::receivers`].
    pub receiver: usize,
    pub group_by: GroupBy,
    pub matchers: Vec<Matcher>,
    pub continues: bool,
    pub group_wait: Duration,
    pub group_interval: Duration,
    pub repeat_interval: Duration,
    /// Indexes of children, in order.
    pub children: Vec<usize>,
    /// Matchers from the root to here, as group keys begin.
    pub key: String,
    /// Indexes into [`Config::time_intervals`]: muted inside any of these…
    pub mute_time_intervals: Vec<usize>,
    /// …and, if there are any, outside all of these.
    pub active_time_intervals: Vec<usize>,
    /// Templates, told to receivers; those of the parent are among them.
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// `['...']`: each label set its own group.
    All,
    Labels(Vec<String>),
}

impl GroupBy {
    pub fn of(&self, labels: &Labels) -> Labels {
        match self {
            Self::All => labels.clone(),
            Self::Labels(names) => labels.filter(|name| names.iter().any(|n| n == name)),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Receiver {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub integrations: Vec<Integration>,
}

impl Integration {
    /// Such as `pagerduty`.
    pub fn kind_name(&self) -> &'static str {
        self.kind.name()
    }
}

#[derive(Clone, Debug)]
pub struct Integration {
    pub send_resolved: bool,
    pub http: HttpConfig,
    /// Longest time for one attempt; `None`: what is left of the group's time.
    pub timeout: Option<Duration>,
    pub(crate) kind: Arc<dyn Receive>,
}

impl Integration {
    pub fn name(&self) -> &'static str {
        self.kind.name()
    }
}

#[derive(Clone, Debug)]
pub struct InhibitRule {
    pub source: Vec<Matcher>,
    pub target: Vec<Matcher>,
    pub equal: Vec<String>,
}

impl Config {
    /// What runs without a file: alerts are grouped and shown, nobody is told.
    pub fn silent() -> Self {
        let text = "route:\n  receiver: default\n  group_by: ['...']\nreceivers:\n- name: default\n";
        parse_config("(built in)", text, None).expect("the built-in configuration is valid")
    }

    /// The routes an alert reaches: depth first; a matching child ends the search unless it
    /// continues; a route none of whose children match takes the alert itself.
    pub fn routes_of(&self, labels: &Labels) -> Vec<usize> {
        let mut found = Vec::new();
        self.descend(0, labels, &mut found);
        found
    }

    fn descend(&self, idx: usize, labels: &Labels, found: &mut Vec<usize>) {
        let before = found.len();
        for child in &self.routes[idx].children {
            let route = &self.routes[*child];
            if all_match(&route.matchers, labels) {
                self.descend(*child, labels, found);
                if !route.continues {
                    break;
                }
            }
        }
        if found.len() == before {
            found.push(idx);
        }
    }

    /// Names of the time intervals that mute a route now; empty while it is not muted.
    pub fn muted_by(&self, route: &Route, now: Timestamp) -> Vec<String> {
        let name = |idx: &usize| self.time_intervals[*idx].name.clone();
        let within = |idx: &&usize| self.time_intervals[**idx].contains(now);
        let active = &route.active_time_intervals;
        if !active.is_empty() && !active.iter().any(|idx| within(&idx)) {
            return active.iter().map(name).collect();
        }
        route.mute_time_intervals.iter().filter(within).map(name).collect()
    }

    /// Warnings about a loopback `external_url` that receivers elsewhere cannot open.
    pub fn link_warnings(&self, external_url: &str) -> Vec<String> {
        if !is_loopback(external_url) {
            return Vec::new();
        }
        let far = self.receivers.iter().filter(|r| r.integrations.iter().any(|i| !is_loopback(i.kind.target())));
        far.map(|r| {
            format!(
                "receiver `{}` is on another machine, but links in its notifications lead to {external_url}; \
                 set --web.external-url to an address that can be opened from there",
                r.name
            )
        })
        .collect()
    }
}

fn is_loopback(text: &str) -> bool {
    let Ok(url) = url::Url::parse(text) else { return false };
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback() || ip.is_unspecified(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unspecified(),
        None => false,
    }
}

#[cfg(test)]
mod tests;
