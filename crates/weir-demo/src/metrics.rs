//! The `/metrics` of a pipeline process, under the names that the pipelines we learnt from use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Topic {
    pub topic: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Stage {
    pub stage: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Component {
    pub component: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Tenant {
    pub tenant: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct BuildInfo {
    pub version: String,
}

type FloatGauge = Gauge<f64, AtomicU64>;

/// Counters and histograms of one process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    ingest_latency_ms: Family<Topic, FloatGauge>,
    process_latency_ms: Family<Stage, FloatGauge>,
    throughput_rows_s: Family<Topic, FloatGauge>,
    pub stage_latency: Family<Stage, Histogram>,
    pub errors: Family<Component, Counter>,
    pub end_to_end: Family<Stage, Histogram>,
    pub produced: Family<Tenant, Counter>,
    pub deliveries: Family<Tenant, Counter>,
    pub fan_messages: Counter,
    pub fans: Gauge,
    pub rows_written: Counter,
    pub dead_letters: Counter,
    pub queue_depth: Family<Topic, Gauge>,
    recent: Arc<Mutex<Recent>>,
}

/// What happened since the last second, from which the gauges are set.
#[derive(Default)]
struct Recent {
    ingest: Mean,
    process: Mean,
    rows: u64,
}

#[derive(Default)]
struct Mean {
    sum: f64,
    n: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.n += 1;
    }
    fn take(&mut self) -> Option<f64> {
        let mean = (self.n > 0).then(|| self.sum / f64::from(self.n));
        *self = Self::default();
        mean
    }
}

fn stage_seconds() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5])
}

/// 0.2 is the objective and 0.5 what the latency alert looks at.
fn end_to_end_seconds() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
}

impl Metrics {
    pub fn new(version: &str) -> Self {
        let mut registry = Registry::default();
        let mut metrics = Self {
            registry: Arc::default(),
            ingest_latency_ms: Family::default(),
            process_latency_ms: Family::default(),
            throughput_rows_s: Family::default(),
            stage_latency: Family::new_with_constructor(stage_seconds),
            errors: Family::default(),
            end_to_end: Family::new_with_constructor(end_to_end_seconds),
            produced: Family::default(),
            deliveries: Family::default(),
            fan_messages: Counter::default(),
            fans: Gauge::default(),
            rows_written: Counter::default(),
            dead_letters: Counter::default(),
            queue_depth: Family::default(),
            recent: Arc::default(),
        };
        let build_info: Family<BuildInfo, Gauge> = Family::default();
        build_info.get_or_create(&BuildInfo { version: version.to_owned() }).set(1);
        let r = &mut registry;
        r.register("pipeline_build_info", "The running version", build_info);
        r.register(
            "pipeline_ingest_latency_ms",
            "Mean time from a record's timestamp to its processing, over the last second",
            metrics.ingest_latency_ms.clone(),
        );
        r.register(
            "pipeline_process_latency_ms",
            "Mean time that processing a record took, over the last second",
            metrics.process_latency_ms.clone(),
        );
        r.register("pipeline_throughput_rows_s", "Records in the last second", metrics.throughput_rows_s.clone());
        r.register("pipeline_stage_latency_seconds", "Time that processing took", metrics.stage_latency.clone());
        r.register("pipeline_error_count", "Records that could not be processed", metrics.errors.clone());
        r.register("stream_end_to_end_latency_seconds", "Time since the event happened", metrics.end_to_end.clone());
        r.register("pipeline_events_produced", "Events sent", metrics.produced.clone());
        r.register("pipeline_deliveries", "Events pushed to every subscriber", metrics.deliveries.clone());
        r.register("pipeline_fan_messages", "Messages written to fans", metrics.fan_messages.clone());
        r.register("pipeline_fans_connected", "Fans connected", metrics.fans.clone());
        r.register("pipeline_rows_written", "Rows written to the database", metrics.rows_written.clone());
        r.register("pipeline_dead_letters", "Records put aside", metrics.dead_letters.clone());
        r.register("pipeline_queue_depth", "Records fetched and not yet processed", metrics.queue_depth.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// One record processed: its age on arrival and the time its processing took.
    pub fn observe(&self, stage: &str, age: Duration, took: Duration) {
        self.stage_latency.get_or_create(&Stage { stage: stage.to_owned() }).observe(took.as_secs_f64());
        let mut recent = self.recent.lock();
        recent.ingest.add(age.as_secs_f64() * 1000.0);
        recent.process.add(took.as_secs_f64() * 1000.0);
        recent.rows += 1;
    }

    /// Sets the gauges of the last second; call once a second. A second without records keeps the latencies.
    pub fn roll_second(&self, topic: &str, stage: &str) {
        let mut recent = self.recent.lock();
        let topic = Topic { topic: topic.to_owned() };
        if let Some(mean) = recent.ingest.take() {
            self.ingest_latency_ms.get_or_create(&topic).set(mean);
        }
        if let Some(mean) = recent.process.take() {
            self.process_latency_ms.get_or_create(&Stage { stage: stage.to_owned() }).set(mean);
        }
        self.throughput_rows_s.get_or_create(&topic).set(std::mem::take(&mut recent.rows) as f64);
    }

    /// Shows the error counter at 0, so that the first error is seen as an increase.
    pub fn start_errors(&self, component: &str) {
        drop(self.errors.get_or_create(&Component { component: component.to_owned() }));
    }

    pub fn error(&self, component: &str) {
        self.errors.get_or_create(&Component { component: component.to_owned() }).inc();
    }

    pub fn end_to_end(&self, stage: &str, event_time_ms: i64) {
        let age_ms = (now_ms() - event_time_ms).max(0);
        self.end_to_end.get_or_create(&Stage { stage: stage.to_owned() }).observe(age_ms as f64 / 1000.0);
    }

    /// The exposition, OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a String does not fail");
        text
    }
}

/// Unix milliseconds.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// A counter for things done once in a while, such as every n-th log line.
#[derive(Debug, Default)]
pub struct Every(AtomicU64);

impl Every {
    /// True on the first call and on every `n`-th after it.
    pub fn nth(&self, n: u64) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exposition_has_the_names_that_rules_use() {
        let metrics = Metrics::new("1.2.3");
        metrics.observe("enrich", Duration::from_millis(20), Duration::from_millis(4));
        metrics.roll_second("events.raw", "enrich");
        metrics.error("enricher");
        metrics.end_to_end("delivered", now_ms());
        let text = metrics.encode();
        for line in [
            "pipeline_build_info{version=\"1.2.3\"} 1",
            "pipeline_ingest_latency_ms{topic=\"events.raw\"} 20.0",
            "pipeline_process_latency_ms{stage=\"enrich\"} 4.0",
            "pipeline_throughput_rows_s{topic=\"events.raw\"} 1.0",
            "pipeline_error_count_total{component=\"enricher\"} 1",
            "stream_end_to_end_latency_seconds_bucket{le=\"0.2\",stage=\"delivered\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no `{line}` in\n{text}");
        }
    }
}
