//! `metrics`: counters, gauges and histograms of what lines hold, shown on `/metrics`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use serde::Deserialize;
use weir_model::Nanos;

use super::Stage;
use crate::logs::entry::Entry;
use crate::logs::pipeline::after;

/// Label sets of one metric; further ones are not counted.
const SERIES_MAX: usize = 10_000;

pub(crate) type MetricsFile = BTreeMap<String, MetricFile>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetricFile {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    description: String,
    source: Option<String>,
    prefix: Option<String>,
    max_idle_duration: Option<String>,
    #[serde(default)]
    config: MetricConfig,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct MetricConfig {
    value: Option<String>,
    action: Option<String>,
    match_all: bool,
    count_entry_bytes: bool,
    buckets: Vec<f64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Counter {
        adds: bool,
        counts_all: bool,
        counts_bytes: bool,
    },
    Gauge(GaugeAction),
    /// Upper bounds, ascending.
    Histogram(Vec<f64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GaugeAction {
    Set,
    Inc,
    Dec,
    Add,
    Sub,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    name: String,
    help: String,
    source: String,
    value: Option<String>,
    kind: Kind,
    idle: Duration,
}

pub(super) fn check(file: MetricsFile) -> Result<Vec<Metric>, String> {
    let one = |(name, file): (String, MetricFile)| file.check(&name).map_err(|e| format!("metric `{name}`: {e}"));
    file.into_iter().map(one).collect()
}

impl MetricFile {
    fn check(self, name: &str) -> Result<Metric, String> {
        let config = self.config;
        let action = config.action.as_deref().unwrap_or_default().to_ascii_lowercase();
        let kind = match self.kind.to_ascii_lowercase().as_str() {
            "counter" => {
                let adds = match action.as_str() {
                    "inc" => false,
                    "add" => true,
                    _ => return Err("a counter's `action` is inc or add".to_owned()),
                };
                if config.match_all && config.value.is_some() {
                    return Err("`match_all` goes without `value`".to_owned());
                }
                if config.count_entry_bytes && !(config.match_all && adds) {
                    return Err("`count_entry_bytes` needs `match_all: true` and `action: add`".to_owned());
                }
                Kind::Counter { adds, counts_all: config.match_all, counts_bytes: config.count_entry_bytes }
            }
            "gauge" => Kind::Gauge(match action.as_str() {
                "set" => GaugeAction::Set,
                "inc" => GaugeAction::Inc,
                "dec" => GaugeAction::Dec,
                "add" => GaugeAction::Add,
                "sub" => GaugeAction::Sub,
                _ => return Err("a gauge's `action` is set, inc, dec, add or sub".to_owned()),
            }),
            "histogram" => {
                let mut buckets = config.buckets;
                if buckets.is_empty() || !buckets.is_sorted_by(|a, b| a < b) {
                    return Err("a histogram's `buckets` must be given, ascending".to_owned());
                }
                buckets.retain(|bound| bound.is_finite());
                Kind::Histogram(buckets)
            }
            other => return Err(format!("type `{other}`; use counter, gauge or histogram")),
        };
        let idle = match self.max_idle_duration {
            None => Duration::from_secs(300),
            Some(text) => {
                let nanos = weir_go::parse_go_duration(&text).map_err(|e| format!("max_idle_duration: {e}"))?;
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
            }
        };
        if idle < Duration::from_secs(1) {
            return Err("max_idle_duration is below 1s".to_owned());
        }
        let prefix = self.prefix.filter(|p| !p.is_empty()).unwrap_or_else(|| "promtail_custom_".to_owned());
        let full = format!("{prefix}{name}");
        if full != safe(&full) || full.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("`{full}` is no name of a metric; it has letters, digits and `_`"));
        }
        Ok(Metric {
            name: full,
            help: self.description.replace(['\n', '\r'], " "),
            source: self.source.filter(|s| !s.is_empty()).unwrap_or_else(|| name.to_owned()),
            value: config.value,
            kind,
            idle,
        })
    }
}

/// Refuses a name that two pipelines use for different things.
pub(crate) fn check_names<'a>(stages: impl Iterator<Item = &'a Arc<Stage>>) -> Result<(), String> {
    let mut known: BTreeMap<&str, &Metric> = BTreeMap::new();
    let mut waiting: Vec<&Arc<Stage>> = stages.collect();
    while let Some(stage) = waiting.pop() {
        waiting.extend(stage.nested().unwrap_or_default());
        let Stage::Metrics(metrics) = &**stage else { continue };
        for metric in metrics {
            let other = known.insert(metric.base(), metric);
            if other.is_some_and(|other| other.kind != metric.kind) {
                return Err(format!(
                    "metric `{}`: another pipeline has it with another `type` or `config`",
                    metric.name
                ));
            }
        }
    }
    Ok(())
}

impl Metric {
    /// A counter gets its suffix from the encoder.
    fn base(&self) -> &str {
        match self.kind {
            Kind::Counter { .. } => self.name.strip_suffix("_total").unwrap_or(&self.name),
            _ => &self.name,
        }
    }
}

fn safe(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// All metrics of all pipelines. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct CustomMetrics(Arc<Mutex<BTreeMap<String, Family>>>);

#[derive(Debug)]
struct Family {
    metric: Metric,
    series: BTreeMap<LabelPairs, Series>,
    prune_due: Nanos,
}

/// In the order of their names.
type LabelPairs = Vec<(String, String)>;

#[derive(Debug, Default)]
struct Series {
    value: f64,
    count: u64,
    /// By bound, not added up.
    buckets: Vec<u64>,
    seen: Nanos,
}

impl CustomMetrics {
    /// Counts the entry in every metric of a stage.
    pub fn count(&self, metrics: &[Metric], entry: &Entry, now: Nanos) {
        let mut families = self.0.lock();
        for metric in metrics {
            let Some(value) = measured(metric, entry) else { continue };
            let family = families.entry(metric.name.clone()).or_insert_with(|| Family {
                metric: metric.clone(),
                series: BTreeMap::new(),
                prune_due: after(now, metric.idle),
            });
            if now >= family.prune_due {
                family.series.retain(|_, series| after(series.seen, metric.idle) > now);
                family.prune_due = after(now, Duration::from_secs(1));
            }
            // A reload may have given the name to something else.
            if family.metric.kind != metric.kind {
                (family.metric, family.series) = (metric.clone(), BTreeMap::new());
            }
            let labels = entry.labels.iter().map(|l| (safe(&l.name), l.value.to_string())).collect();
            if family.series.len() >= SERIES_MAX && !family.series.contains_key(&labels) {
                continue;
            }
            let series = family.series.entry(labels).or_default();
            series.seen = now;
            series.add(&metric.kind, value);
        }
    }
}

/// What a metric takes from the entry; `None`: it is not about this one.
fn measured(metric: &Metric, entry: &Entry) -> Option<f64> {
    if let Kind::Counter { counts_all: true, counts_bytes, adds } = metric.kind {
        // There is no value to add up but the line itself.
        return if counts_bytes { Some(entry.line.len() as f64) } else { (!adds).then_some(1.0) };
    }
    let found = entry.extracted.get(&metric.source)?;
    if let Some(wanted) = &metric.value
        && found.text()?.as_ref() != wanted
    {
        return None;
    }
    match metric.kind {
        Kind::Counter { adds: false, .. } | Kind::Gauge(GaugeAction::Inc | GaugeAction::Dec) => Some(1.0),
        Kind::Counter { .. } => found.number().filter(|number| *number >= 0.0),
        Kind::Gauge(_) | Kind::Histogram(_) => found.number(),
    }
}

impl Series {
    fn add(&mut self, kind: &Kind, value: f64) {
        match kind {
            Kind::Counter { .. } | Kind::Gauge(GaugeAction::Inc | GaugeAction::Add) => self.value += value,
            Kind::Gauge(GaugeAction::Set) => self.value = value,
            Kind::Gauge(GaugeAction::Dec | GaugeAction::Sub) => self.value -= value,
            Kind::Histogram(bounds) => {
                self.buckets.resize(bounds.len() + 1, 0);
                let idx = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
                self.buckets[idx] += 1;
                self.value += value;
                self.count += 1;
            }
        }
    }
}

impl Collector for CustomMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in self.0.lock().values() {
            let Metric { help, kind, .. } = &family.metric;
            let type_ = match kind {
                Kind::Counter { .. } => MetricType::Counter,
                Kind::Gauge(_) => MetricType::Gauge,
                Kind::Histogram(_) => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.metric.base(), help, None, type_)?;
            for (labels, series) in &family.series {
                let mut one = metric.encode_family(labels)?;
                match kind {
                    Kind::Counter { .. } => one.encode_counter::<NoLabelSet, f64, f64>(&series.value, None)?,
                    Kind::Gauge(_) => one.encode_gauge(&series.value)?,
                    Kind::Histogram(bounds) => {
                        let bounds = bounds.iter().copied().chain([f64::INFINITY]);
                        let buckets: Vec<(f64, u64)> = bounds.zip(series.buckets.iter().copied()).collect();
                        one.encode_histogram::<NoLabelSet>(series.value, series.count, &buckets, None)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{refused, stages};
    use crate::logs::LogMetrics;
    use crate::logs::entry::Entry;
    use crate::logs::pipeline::{Around, Pipeline};
    use prometheus_client::registry::Registry;
    use weir_model::{Labels, Nanos};

    #[test]
    fn lines_are_counted() {
        let yaml = r"
- regex: {expression: 'order=(?P<order>\w+) took=(?P<took>\S+) retries=(?P<retries>\d+)'}
- metrics:
    lines_total: {type: Counter, description: all lines, prefix: my_, config: {match_all: true, action: inc}}
    bytes: {type: Counter, config: {match_all: true, count_entry_bytes: true, action: add}}
    failed: {type: Counter, source: order, config: {value: failed, action: inc}}
    retries: {type: Gauge, config: {action: set}}
    took: {type: Histogram, config: {buckets: [0.01, 1, 10]}}
";
        let metrics = LogMetrics::default();
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut pipeline = Pipeline::new(&stages(yaml).unwrap());
        let mut out = Vec::new();
        for line in ["order=ok took=500ms retries=2", "order=failed took=20 retries=1", "else"] {
            let entry = Entry::new(Labels::from_pairs([("a", "b")]), Nanos(0), line.to_owned(), 0);
            pipeline.push(entry, &Around { now: Nanos(1), metrics: &metrics }, &mut out);
        }
        assert_eq!(out.len(), 3);
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        for want in [
            "my_lines_total{a=\"b\"} 3",
            "promtail_custom_bytes_total{a=\"b\"} 63",
            "promtail_custom_failed_total{a=\"b\"} 1",
            "promtail_custom_retries{a=\"b\"} 1",
            "promtail_custom_took_bucket{le=\"0.01\",a=\"b\"} 0",
            "promtail_custom_took_bucket{le=\"1.0\",a=\"b\"} 1",
            "promtail_custom_took_bucket{le=\"+Inf\",a=\"b\"} 2",
            "promtail_custom_took_sum{a=\"b\"} 20.5",
        ] {
            assert!(page.contains(want), "{want} is not in\n{page}");
        }
    }

    #[test]
    fn metrics_that_cannot_work_are_refused() {
        refused("[{metrics: {x: {type: Summary}}}]", &["stage 1 (metrics)", "metric `x`", "`summary`"]);
        refused("[{metrics: {x: {type: Counter, config: {action: set}}}}]", &["inc or add"]);
        refused("[{metrics: {x: {type: Histogram, config: {buckets: [2, 1]}}}}]", &["ascending"]);
        refused("[{metrics: {a-b: {type: Gauge, config: {action: inc}}}}]", &["promtail_custom_a-b"]);
        refused("[{metrics: {x: {type: Gauge, config: {action: inc}, max_idle_duration: 1ms}}}]", &["below 1s"]);
    }
}
