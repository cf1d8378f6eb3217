//! What pipelines say of themselves, under upstream's names.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::pipeline::Pipelines;
use crate::tail::TailStats;

/// Reads the counts at each scrape.
pub struct CollectorMetrics(pub Arc<Pipelines>);

impl fmt::Debug for CollectorMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectorMetrics")
    }
}

type Figure = fn(&TailStats) -> u64;

const COUNTERS: [(&str, &str, Figure); 4] = [
    ("otelcol_processor_tail_sampling_new_trace_id_received", "Traces that were seen for the first time", |s| {
        s.new_traces
    }),
    (
        "otelcol_processor_tail_sampling_sampling_trace_dropped_too_early",
        "Traces that went before their decision, as num_traces were waiting",
        |s| s.dropped_too_early,
    ),
    (
        "otelcol_processor_tail_sampling_sampling_late_spans",
        "Spans that came after the decision about their trace",
        |s| s.late_spans,
    ),
    ("weir_collector_tail_sampling_early_decisions", "Traces that were kept before their time had come", |s| s.early),
];

const GAUGES: [(&str, &str, Figure); 2] = [
    ("otelcol_processor_tail_sampling_sampling_traces_on_memory", "Traces in memory, decided ones included", |s| {
        s.traces_in_memory
    }),
    ("otelcol_processor_tail_sampling_sampling_waiting_bytes", "Memory of the spans that wait for a decision", |s| {
        s.waiting_bytes
    }),
];

impl Collector for CollectorMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let outcomes = self.0.connector_outcomes();
        if !outcomes.is_empty() {
            let mut family = encoder.encode_descriptor(
                "weir_collector_connector_items",
                "What became of what connectors were given",
                None,
                MetricType::Counter,
            )?;
            for (id, outcomes) in &outcomes {
                for (outcome, n) in outcomes {
                    let labels = [("connector", id.as_str()), ("outcome", *outcome)];
                    ConstCounter::new(*n).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        let stats = self.0.tail_stats();
        if stats.is_empty() {
            return Ok(());
        }
        for (what, help, figure) in COUNTERS {
            let mut family = encoder.encode_descriptor(what, help, None, MetricType::Counter)?;
            for (id, stats) in &stats {
                let labels = [("processor", id.as_str())];
                ConstCounter::new(figure(stats)).encode(family.encode_family(&labels)?)?;
            }
        }
        for (what, help, figure) in GAUGES {
            let mut family = encoder.encode_descriptor(what, help, None, MetricType::Gauge)?;
            for (id, stats) in &stats {
                let labels = [("processor", id.as_str())];
                ConstGauge::new(figure(stats) as f64).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Traces that were decided";
        let mut family = encoder.encode_descriptor(
            "otelcol_processor_tail_sampling_global_count_traces_sampled",
            help,
            None,
            MetricType::Counter,
        )?;
        for (id, stats) in &stats {
            for (sampled, n) in [("true", stats.sampled), ("false", stats.not_sampled)] {
                let labels = [("processor", id.as_str()), ("sampled", sampled)];
                ConstCounter::new(n).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "Votes of a policy";
        let mut family = encoder.encode_descriptor(
            "otelcol_processor_tail_sampling_count_traces_sampled",
            help,
            None,
            MetricType::Counter,
        )?;
        for (id, stats) in &stats {
            for (policy, yes, no) in &stats.policies {
                for (sampled, n) in [("true", *yes), ("false", *no)] {
                    let labels = [("processor", id.as_str()), ("policy", policy.as_str()), ("sampled", sampled)];
                    ConstCounter::new(n).encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}
