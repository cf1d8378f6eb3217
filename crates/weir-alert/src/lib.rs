//! Alertmanager's work: routing, grouping, deduplication, inhibition, silences, notification.
//!
//! This crate evaluates nothing: alerts come from rules ([`weir_model::AlertListener`]) or by
//! [`Alerts::post`]. Read first: [`Alerts`] (handle and executor), [`Machine`] (the pure decisions),
//! [`Config`]; for people on call [`OnCall`] and [`oncall::OnCallConfig`].
//!
//! Invariants: everything but [`Alerts`] and its sender is a function of its input and the time it is
//! handed; one notification per group and integration at a time, each within the group's interval;
//! what was said is said again only after `repeat_interval`, and an update about the cause goes out
//! under the key of the page it belongs to; secrets are in no log, error or API.

mod base64;
mod config;
mod escalation;
mod hmac;
mod keeper;
mod machine;
mod manager;
mod matchers;
mod md5;
mod metrics;
mod notify;
pub mod oncall;
mod sender;
mod silence;
pub mod simulation;
mod smtp;
mod template;
mod tls;

use weir_model::TenantId;

pub use config::{Config, ConfigError, Receiver, Route, parse_config, read_config};
pub use escalation::{
    Acknowledged, Counted, Figures, Link, LinkError, OnCall, Outcome, OverrideError, Page, PageState, Recipient, Told,
    Which, figures,
};
pub use machine::{Alert, AlertStatus, GroupView, Job, Machine, PostError, PostedAlert};
pub use manager::{Alerts, SentNotification};
pub use matchers::{MatcherError, parse_matcher, parse_matchers};
pub use metrics::{Metrics, OnCallMetrics};
pub use silence::{Silence, SilenceError, SilenceRequest, SilenceState};
pub use template::{AlertData, Notification};

/// What is known of the cause of an alert, for the person who is paged.
#[derive(Clone, Debug, PartialEq)]
pub struct CauseNote {
    /// Names the cause itself, without numbers that move; a new one is worth an update.
    pub key: String,
    /// One sentence.
    pub title: String,
    /// Evidence, most telling first.
    pub lines: Vec<String>,
    /// 0 to 1.
    pub confidence: f64,
    /// Page of the incident.
    pub url: String,
}

/// Knows causes. Must be quick: it is asked while groups are flushed.
pub trait Enricher: Send + Sync {
    /// `fingerprint`: [`weir_model::Labels::fingerprint`] of the alert. `None` while nothing is known.
    fn lines(&self, tenant: &TenantId, fingerprint: u64) -> Option<CauseNote>;
}
