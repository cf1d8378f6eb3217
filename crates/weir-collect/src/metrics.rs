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
