//! What flows through pipelines: OTLP's own messages, so that nothing is lost between a receiver and an exporter.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, metric::Data as MetricData};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Signal {
    Traces,
    Metrics,
    Logs,
}

impl Signal {
    pub const ALL: [Self; 3] = [Self::Traces, Self::Metrics, Self::Logs];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }
}

/// A batch of one signal.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Traces(Vec<ResourceSpans>),
    Metrics(Vec<ResourceMetrics>),
    Logs(Vec<ResourceLogs>),
}

impl Data {
    pub fn signal(&self) -> Signal {
        match self {
            Self::Traces(_) => Signal::Traces,
            Self::Metrics(_) => Signal::Metrics,
            Self::Logs(_) => Signal::Logs,
        }
    }

    pub fn empty(signal: Signal) -> Self {
        match signal {
            Signal::Traces => Self::Traces(Vec::new()),
            Signal::Metrics => Self::Metrics(Vec::new()),
            Signal::Logs => Self::Logs(Vec::new()),
        }
    }

    /// Spans, data points or log records.
    pub fn n_items(&self) -> usize {
        match self {
            Self::Traces(groups) => groups.iter().flat_map(|g| &g.scope_spans).map(|s| s.spans.len()).sum(),
            Self::Logs(groups) => groups.iter().flat_map(|g| &g.scope_logs).map(|s| s.log_records.len()).sum(),
            Self::Metrics(groups) => {
                groups.iter().flat_map(|g| &g.scope_metrics).flat_map(|s| &s.metrics).map(|m| n_points(&m.data)).sum()
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.n_items() == 0
    }

    /// Adds a batch of the same signal; one of another is left out, which the graph's check rules out.
    pub fn append(&mut self, other: Self) {
        match (self, other) {
            (Self::Traces(all), Self::Traces(more)) => all.extend(more),
            (Self::Metrics(all), Self::Metrics(more)) => all.extend(more),
            (Self::Logs(all), Self::Logs(more)) => all.extend(more),
            _ => debug_assert!(false, "batches of one pipeline have one signal"),
        }
    }

    /// Drops groups without items.
    pub fn prune(&mut self) {
        match self {
            Self::Traces(groups) => groups.retain_mut(|group| {
                group.scope_spans.retain(|scope| !scope.spans.is_empty());
                !group.scope_spans.is_empty()
            }),
            Self::Logs(groups) => groups.retain_mut(|group| {
                group.scope_logs.retain(|scope| !scope.log_records.is_empty());
                !group.scope_logs.is_empty()
            }),
            Self::Metrics(groups) => groups.retain_mut(|group| {
                group.scope_metrics.retain_mut(|scope| {
                    scope.metrics.retain(|metric| n_points(&metric.data) > 0);
                    !scope.metrics.is_empty()
                });
                !group.scope_metrics.is_empty()
            }),
        }
    }
}

pub(crate) fn n_points(data: &Option<MetricData>) -> usize {
    match data {
        None => 0,
        Some(MetricData::Gauge(m)) => m.data_points.len(),
        Some(MetricData::Sum(m)) => m.data_points.len(),
        Some(MetricData::Histogram(m)) => m.data_points.len(),
        Some(MetricData::ExponentialHistogram(m)) => m.data_points.len(),
        Some(MetricData::Summary(m)) => m.data_points.len(),
    }
}

pub(crate) fn get<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a Any> {
    attributes.iter().find(|kv| kv.key == key)?.value.as_ref()?.value.as_ref()
}

pub(crate) fn set(attributes: &mut Vec<KeyValue>, key: &str, value: Any) {
    let value = Some(AnyValue { value: Some(value) });
    match attributes.iter_mut().find(|kv| kv.key == key) {
        Some(known) => known.value = value,
        None => attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() }),
    }
}

/// As upstream turns a value into text: strings bare, lists and maps as JSON.
pub(crate) fn text_of(value: &Any) -> String {
    match value {
        Any::StringValue(text) => text.clone(),
        other => json_of(other).to_string(),
    }
}

pub(crate) fn json_of(value: &Any) -> serde_json::Value {
    use serde_json::Value as Json;
    let inner = |v: &AnyValue| v.value.as_ref().map_or(Json::Null, json_of);
    match value {
        Any::StringValue(text) => Json::String(text.clone()),
        Any::BoolValue(v) => (*v).into(),
        Any::IntValue(v) => (*v).into(),
        Any::DoubleValue(v) => serde_json::Number::from_f64(*v).map_or(Json::Null, Into::into),
        Any::ArrayValue(list) => list.values.iter().map(inner).collect(),
        Any::KvlistValue(map) => Json::Object(
            map.values.iter().map(|kv| (kv.key.clone(), kv.value.as_ref().map_or(Json::Null, inner))).collect(),
        ),
        Any::BytesValue(bytes) => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes).into(),
        Any::StringValueStrindex(_) => Json::Null,
    }
}
