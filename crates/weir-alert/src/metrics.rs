//! What this crate says about itself.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    pub integration: &'static str,
}

#[derive(Debug)]
pub struct Metrics {
    pub(crate) received: Counter,
    pub(crate) sent: Family<Kind, Counter>,
    pub(crate) failed: Family<Kind, Counter>,
    pub(crate) retries: Family<Kind, Counter>,
    pub(crate) under_way: Gauge<i64, AtomicI64>,
    pub(crate) seconds: Histogram,
    pub(crate) unwritten: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            received: Counter::default(),
            sent: Family::default(),
            failed: Family::default(),
            retries: Family::default(),
            under_way: Gauge::default(),
            seconds: Histogram::new([0.01, 0.05, 0.2, 1.0, 5.0, 30.0, 120.0]),
            unwritten: Counter::default(),
        }
    }
}

/// Of pages and escalation.
#[derive(Debug, Default)]
pub struct OnCallMetrics {
    pub(crate) pages: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) exhausted: Counter,
    pub(crate) refused: Counter,
    pub(crate) open: Gauge<i64, AtomicI64>,
    pub(crate) sent: Counter,
    pub(crate) failed: Counter,
    pub(crate) retries: Counter,
    pub(crate) unwritten: Counter,
    pub(crate) heartbeats: Counter,
    pub(crate) heartbeats_failed: Counter,
    pub(crate) heartbeats_withheld: Counter,
}

impl OnCallMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let mut counter =
            |name: &str, help: &str, counter: &Counter| registry.register(name.to_owned(), help, counter.clone());
        counter("weir_oncall_pages", "Pages that started an escalation chain", &self.pages);
        counter("weir_oncall_pages_acknowledged", "Pages that somebody acknowledged", &self.acknowledged);
        counter("weir_oncall_chains_exhausted", "Chains that ended without an acknowledgement", &self.exhausted);
        counter("weir_oncall_pages_refused", "Pages beyond the number that may be open at once", &self.refused);
        counter("weir_oncall_messages", "Messages of pages delivered", &self.sent);
        counter("weir_oncall_messages_failed", "Messages of pages given up", &self.failed);
        counter("weir_oncall_message_retries", "Attempts that were tried again", &self.retries);
        counter("weir_oncall_state_writes_failed", "Times that pages could not be written to disk", &self.unwritten);
        counter("weir_oncall_heartbeats", "Heartbeats of the watchdog delivered", &self.heartbeats);
        counter("weir_oncall_heartbeats_failed", "Heartbeats that were not delivered", &self.heartbeats_failed);
        counter(
            "weir_oncall_heartbeats_withheld",
            "Heartbeats not sent because rules or pages stood still",
            &self.heartbeats_withheld,
        );
        registry.register("weir_oncall_pages_open", "Pages that are not over", self.open.clone());
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("weir_alert_received", "Alerts from rules and from senders", self.received.clone());
        registry.register("weir_alert_notifications", "Notifications delivered", self.sent.clone());
        registry.register("weir_alert_notifications_failed", "Notifications given up", self.failed.clone());
        registry.register(
            "weir_alert_state_writes_failed",
            "Times that silences and notifications could not be written to disk",
            self.unwritten.clone(),
        );
        registry.register("weir_alert_notification_retries", "Attempts that were tried again", self.retries.clone());
        registry.register("weir_alert_notifications_under_way", "Notifications being sent", self.under_way.clone());
        registry.register(
            "weir_alert_notification_seconds",
            "From the decision to notify to the receiver's answer",
            self.seconds.clone(),
        );
    }
}
