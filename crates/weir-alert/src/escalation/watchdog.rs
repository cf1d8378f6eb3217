//! The dead man's switch: somebody outside is told at an interval that weir lives, and pages when the word stays away.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weir_model::{Labels, TenantId, Timestamp};

use super::runner::OnCall;
use crate::sender::Delivery;
use crate::template::{AlertData, Notification};

/// How often it is looked whether a configuration with a watchdog came.
const LOOK: Duration = Duration::from_secs(5);
/// Loops that page go round at least each minute.
const STILL: Duration = Duration::from_secs(150);

impl OnCall {
    /// Runs until `shutdown`. `stands_still`: why nothing can be expected of rules, if so; then nothing is sent, and the
    /// outside pages.
    pub async fn watch(self, stands_still: impl Fn(Timestamp) -> Option<String>, shutdown: CancellationToken) {
        let mut withheld = false;
        let mut last: Option<Timestamp> = None;
        while !shutdown.is_cancelled() {
            let (config, now) = (self.config(), self.now());
            let pause = match &config.watchdog {
                None => LOOK,
                Some(watchdog) => {
                    // Also when the clock went back.
                    let due = last.is_none_or(|at| now < at || now.since(at) >= watchdog.interval);
                    if due {
                        last = Some(now);
                        match stands_still(now).or_else(|| self.loops_stand_still(now)) {
                            Some(reason) => {
                                self.metrics().heartbeats_withheld.inc();
                                if !withheld {
                                    tracing::error!(reason, "the watchdog's heartbeat is withheld");
                                }
                                withheld = true;
                            }
                            None => {
                                withheld = false;
                                self.beat(&watchdog.integration, watchdog.interval, now).await;
                            }
                        }
                    }
                    let since = self.now().since(last.unwrap_or(now));
                    watchdog.interval.saturating_sub(since).min(LOOK)
                }
            };
            let _ = shutdown.run_until_cancelled(tokio::time::sleep(pause.max(Duration::from_millis(10)))).await;
        }
    }

    fn loops_stand_still(&self, now: Timestamp) -> Option<String> {
        let rounds = [("notifications", self.alerts().went_round()), ("pages", self.went_round())];
        let still = rounds.into_iter().find(|(_, at)| now.since(*at) > STILL)?;
        Some(format!("{} were not looked at for {} s", still.0, now.since(still.1).as_secs()))
    }

    async fn beat(&self, integration: &crate::config::Integration, interval: Duration, now: Timestamp) {
        let labels = Labels::from_pairs([("alertname", "Watchdog"), ("severity", "none")]);
        let summary = "weir lives: its rules are evaluated and its notifications go out";
        let notification = Notification {
            receiver: "watchdog".to_owned(),
            group_key: "watchdog".to_owned(),
            group_labels: labels.clone(),
            alerts: vec![AlertData {
                firing: true,
                fingerprint: format!("{:016x}", labels.fingerprint()),
                labels,
                annotations: Labels::from_pairs([("summary", summary)]),
                starts_at: now,
                ends_at: now,
                generator_url: String::new(),
                incident_url: String::new(),
            }],
            route_labels: Labels::empty(),
            external_url: self.external_url().to_owned(),
            reason: "heartbeat".to_owned(),
            incident_url: String::new(),
            cause: None,
        };
        let (tenant, config) = (TenantId::anonymous(), self.alerts().config());
        let deadline = now.plus(interval.clamp(Duration::from_secs(1), Duration::from_secs(30)));
        let delivery =
            Delivery { notification: &notification, tenant: &tenant, templates: &config.templates, kept: "", deadline };
        match self.sender().send(delivery, integration, &self.metrics().retries).await {
            Ok(_) => self.metrics().heartbeats.inc(),
            Err(error) => {
                tracing::error!(%error, "the watchdog's heartbeat was not delivered");
                self.metrics().heartbeats_failed.inc()
            }
        };
    }
}
