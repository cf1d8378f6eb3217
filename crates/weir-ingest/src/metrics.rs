//! weir's own metrics about ingest.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use weir_model::sink::Refused;
use weir_model::usage::{Amount, Signal};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignalLabels {
    signal: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    signal: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Default)]
pub struct IngestMetrics {
    accepted_items: Family<SignalLabels, Counter>,
    accepted_bytes: Family<SignalLabels, Counter>,
    refused_items: Family<RefusedLabels, Counter>,
    failed_requests: Family<SignalLabels, Counter>,
    sampled_out: Counter,
}

fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "metrics",
        Signal::Logs => "logs",
        Signal::Traces => "traces",
    }
}

impl IngestMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, family: &Family<SignalLabels, Counter>| {
            registry.register(name, help, family.clone());
        };
        add("weir_ingest_accepted_items", "Samples, log entries and spans stored", &self.accepted_items);
        add("weir_ingest_accepted_bytes", "Their bytes before compression", &self.accepted_bytes);
        add("weir_ingest_failed_requests", "Requests of which nothing was stored", &self.failed_requests);
        let help = "Log lines left out by sampling, for which others stand";
        registry.register("weir_ingest_sampled_out_lines", help, self.sampled_out.clone());
        registry.register("weir_ingest_refused_items", "Items not stored, by reason", self.refused_items.clone());
    }

    pub(crate) fn accepted(&self, signal: Signal, amount: Amount) {
        let labels = SignalLabels { signal: name(signal) };
        self.accepted_items.get_or_create(&labels).inc_by(amount.items);
        self.accepted_bytes.get_or_create(&labels).inc_by(amount.bytes);
    }

    pub(crate) fn refused(&self, signal: Signal, refused: &[Refused]) {
        for part in refused {
            let labels = RefusedLabels { signal: name(signal), reason: part.reason.as_str() };
            self.refused_items.get_or_create(&labels).inc_by(part.count);
        }
    }

    pub(crate) fn sampled_out(&self, lines: u64) {
        self.sampled_out.inc_by(lines);
    }

    pub(crate) fn failed(&self, signal: Signal) {
        self.failed_requests.get_or_create(&SignalLabels { signal: name(signal) }).inc();
    }
}
