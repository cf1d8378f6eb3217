//! weir's own metrics about polling.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ClusterLabels {
    pub cluster: String,
}

#[derive(Clone, Debug, Default)]
pub struct KafkaMetrics {
    pub(crate) polls: Family<ClusterLabels, Counter>,
    pub(crate) failed_polls: Family<ClusterLabels, Counter>,
    pub(crate) last_success_ms: Family<ClusterLabels, Gauge>,
    pub(crate) lookups: Family<ClusterLabels, Counter>,
}

impl KafkaMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("weir_kafka_polls", "Polls of a cluster", self.polls.clone());
        registry.register("weir_kafka_failed_polls", "Polls that an error ended", self.failed_polls.clone());
        registry.register(
            "weir_kafka_last_success_timestamp_milliseconds",
            "When a cluster was last read in full",
            self.last_success_ms.clone(),
        );
        registry.register(
            "weir_kafka_record_lookups",
            "Records fetched because the offset-to-time index does not reach back",
            self.lookups.clone(),
        );
    }
}
