//! weir's own metrics about scraping.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Default)]
pub struct CollectMetrics {
    pub(crate) targets: Gauge,
    pub(crate) scrapes: Counter,
    pub(crate) failed_scrapes: Counter,
    pub(crate) late_scrapes: Counter,
}

impl CollectMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("weir_collect_targets", "Targets that are scraped", self.targets.clone());
        registry.register("weir_collect_scrapes", "Scrapes done", self.scrapes.clone());
        registry.register(
            "weir_collect_failed_scrapes",
            "Scrapes without a usable answer",
            self.failed_scrapes.clone(),
        );
        registry.register(
            "weir_collect_skipped_scrapes",
            "Scrapes left out because the one before took too long",
            self.late_scrapes.clone(),
        );
    }
}

/// Counts of remote write, over all receivers.
#[derive(Clone, Debug, Default)]
pub struct RemoteMetrics {
    pub(crate) sent_samples: Counter,
    pub(crate) retried_samples: Counter,
    pub(crate) refused_samples: Counter,
    pub(crate) dropped_samples: Counter,
    pub(crate) not_queued: Counter,
    pub(crate) lost_segments: Counter,
}

impl RemoteMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let all = [
            ("weir_remote_write_sent_samples", "Samples that a receiver took", &self.sent_samples),
            ("weir_remote_write_retried_samples", "Samples sent again after a failure", &self.retried_samples),
            ("weir_remote_write_refused_samples", "Samples that a receiver refused for good", &self.refused_samples),
            ("weir_remote_write_dropped_samples", "Samples older than sample_age_limit", &self.dropped_samples),
            ("weir_remote_write_not_queued_samples", "Samples that the queue on disk did not take", &self.not_queued),
            ("weir_remote_write_lost_segments", "Segments of a full queue given up unsent", &self.lost_segments),
        ];
        for (name, help, counter) in all {
            registry.register(name, help, counter.clone());
        }
    }
}
