//! Requests, errors and durations of all spans, counted as they are stored.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use parking_lot::Mutex;
use weir_model::sink::MetricBatch;
use weir_model::{
    AttrValue, Clock, Commit, CommitListener, MetricKind, MetricMetadata, Span, SpanKind, StatusCode, TenantId,
    Timestamp,
};

use crate::edges::Edges;
use crate::operation;
use crate::series::{At, Histogram, SPAN_BOUNDS, Samples, named};

#[derive(Clone, Copy, Debug)]
pub struct SpanMetricsOptions {
    /// Spans that ended longer ago are not counted, as they would count for now.
    pub slack_ms: i64,
    /// Series that got nothing for so long end.
    pub stale_ms: i64,
    /// Operations of one service, beyond which they count as `other`; the same for services.
    pub operations_max: usize,
    pub services_max: usize,
    /// Whether the service graph is counted; somebody else may do it under the same names.
    pub graph: bool,
}

impl Default for SpanMetricsOptions {
    fn default() -> Self {
        Self { slack_ms: 30_000, stale_ms: 900_000, operations_max: 300, services_max: 500, graph: true }
    }
}

/// What operations and services beyond the bound count as.
const OTHER: &str = "other";
const TENANTS_MAX: usize = 100;
const TOPICS_MAX: usize = 5_000;

/// Hears the spans of all tenants.
pub struct SpanMetrics {
    options: SpanMetricsOptions,
    clock: Arc<dyn Clock>,
    tenants: Mutex<AHashMap<TenantId, Tenant>>,
}

#[derive(Default)]
struct Tenant {
    services: AHashMap<Arc<str>, Service>,
    topics: AHashMap<TopicKey, Row>,
    edges: Edges,
    collected: Option<Timestamp>,
}

#[derive(Default)]
struct Service {
    /// What each span's name counts as: a name is looked at once.
    operations: AHashMap<Arc<str>, Arc<str>>,
    n_operations: usize,
    rows: AHashMap<(Arc<str>, SpanKind, StatusCode), Row>,
}

#[derive(PartialEq, Eq, Hash)]
struct TopicKey {
    service: Arc<str>,
    topic: Arc<str>,
    partition: String,
    kind: SpanKind,
    status: StatusCode,
}

struct Row {
    calls: u64,
    bytes: u64,
    latency: Histogram,
    touched: Timestamp,
    is_new: bool,
}

impl Row {
    fn new(now: Timestamp) -> Self {
        Self { calls: 0, bytes: 0, latency: Histogram::new(&SPAN_BOUNDS), touched: now, is_new: true }
    }

    fn add(&mut self, span: &Span, now: Timestamp) {
        self.calls += 1;
        self.bytes += span.size_bytes() as u64;
        self.latency.add(span.duration_nanos() as f64 / 1e9, span.trace_id, now);
        self.touched = now;
    }
}

fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

fn status_name(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Unset => "STATUS_CODE_UNSET",
        StatusCode::Ok => "STATUS_CODE_OK",
        StatusCode::Error => "STATUS_CODE_ERROR",
    }
}

impl SpanMetrics {
    pub fn new(options: SpanMetricsOptions, clock: Arc<dyn Clock>) -> Self {
        Self { options, clock, tenants: Mutex::default() }
    }

    /// The samples that are due at `now`, of each tenant.
    pub fn collect(&self, now: Timestamp) -> Vec<(TenantId, MetricBatch)> {
        let mut tenants = self.tenants.lock();
        tenants.iter_mut().map(|(id, tenant)| (id.clone(), tenant.collect(now, &self.options))).collect()
    }
}

impl CommitListener for SpanMetrics {
    fn on_commit(&self, tenant: &TenantId, commit: &Commit<'_>) {
        let Commit::Spans { spans } = commit else { return };
        let now = self.clock.now();
        let oldest = Timestamp(now.0.saturating_sub(self.options.slack_ms)).nanos();
        let mut tenants = self.tenants.lock();
        if tenants.len() >= TENANTS_MAX && !tenants.contains_key(tenant) {
            return;
        }
        let of = match tenants.get_mut(tenant) {
            Some(of) => of,
            None => tenants.entry(tenant.clone()).or_default(),
        };
        spans.iter().filter(|span| span.end >= oldest).for_each(|span| of.add(span, now, &self.options));
    }
}

impl Tenant {
    fn add(&mut self, span: &Span, now: Timestamp, options: &SpanMetricsOptions) {
        let name = span.resource.service();
        let is_full = self.services.len() >= options.services_max && !self.services.contains_key(name);
        let name = if is_full { OTHER } else { name };
        if !self.services.contains_key(name) {
            self.services.insert(name.into(), Service::default());
        }
        let Some((known, _)) = self.services.get_key_value(name) else { return };
        let known = known.clone();
        if let Some(service) = self.services.get_mut(name) {
            service.add(span, now, options);
        }
        if options.graph {
            self.edges.add(span, &known, now);
        }
        self.add_message(span, &known, now);
    }

    /// Messages by topic and partition.
    fn add_message(&mut self, span: &Span, service: &Arc<str>, now: Timestamp) {
        if !matches!(span.kind, SpanKind::Producer | SpanKind::Consumer) {
            return;
        }
        let Some(topic) = span.get("messaging.destination.name").and_then(AttrValue::as_str) else { return };
        let partition = ["messaging.destination.partition.id", "messaging.kafka.destination.partition"];
        let partition = partition.iter().find_map(|name| span.get(name)).map_or_else(String::new, AttrValue::to_text);
        let key = TopicKey {
            service: service.clone(),
            topic: topic.into(),
            partition,
            kind: span.kind,
            status: span.status.code,
        };
        if self.topics.len() < TOPICS_MAX || self.topics.contains_key(&key) {
            self.topics.entry(key).or_insert_with(|| Row::new(now)).add(span, now);
        }
    }

    fn collect(&mut self, now: Timestamp, options: &SpanMetricsOptions) -> MetricBatch {
        let before = self.collected.unwrap_or(Timestamp(now.0 - 1000));
        self.collected = Some(now);
        let mut out = Samples { at: At { now, before }, series: Vec::new() };
        let is_live = |row: &Row| now.0.saturating_sub(row.touched.0) < options.stale_ms;
        for (name, service) in &mut self.services {
            service.rows.retain(|_, row| is_live(row));
            service.n_operations = service.rows.keys().map(|(name, ..)| name).collect::<AHashSet<_>>().len();
            for ((operation, kind, status), row) in &mut service.rows {
                let labels = [
                    ("service", &**name),
                    ("span_name", &**operation),
                    ("span_kind", kind_name(*kind)),
                    ("status_code", status_name(*status)),
                ];
                let is_new = std::mem::take(&mut row.is_new);
                out.push(named("traces_spanmetrics_calls_total", &labels), row.calls as f64, is_new, None);
                out.push(named("traces_spanmetrics_size_total", &labels), row.bytes as f64, is_new, None);
                row.latency.collect("traces_spanmetrics_latency", &labels, is_new, &mut out);
            }
        }
        self.services.retain(|_, service| !service.rows.is_empty());
        self.topics.retain(|_, row| is_live(row));
        for (key, row) in &mut self.topics {
            let labels = [
                ("service", &*key.service),
                ("topic", &*key.topic),
                ("partition", key.partition.as_str()),
                ("span_kind", kind_name(key.kind)),
                ("status_code", status_name(key.status)),
            ];
            let is_new = std::mem::take(&mut row.is_new);
            out.push(named("traces_messaging_calls_total", &labels), row.calls as f64, is_new, None);
            row.latency.collect("traces_messaging_latency", &labels, is_new, &mut out);
        }
        let mut metadata = metadata();
        if options.graph {
            self.edges.collect(&mut out);
        } else {
            metadata.retain(|of| !of.family.starts_with("traces_service_graph_"));
        }
        MetricBatch { series: out.series, metadata }
    }
}

impl Service {
    fn add(&mut self, span: &Span, now: Timestamp, options: &SpanMetricsOptions) {
        let operation = match self.operations.get(&span.name) {
            Some(known) => known.clone(),
            None => {
                let operation: Arc<str> = operation(&span.name).as_ref().into();
                let is_known = self.rows.keys().any(|(known, ..)| *known == operation);
                let operation = match is_known || self.n_operations < options.operations_max {
                    true => operation,
                    false => OTHER.into(),
                };
                self.n_operations += usize::from(!is_known);
                // Names that hold ids would fill it without end.
                if self.operations.len() >= 10 * options.operations_max {
                    self.operations.clear();
                }
                self.operations.insert(span.name.clone(), operation.clone());
                operation
            }
        };
        let key = (operation, span.kind, span.status.code);
        self.rows.entry(key).or_insert_with(|| Row::new(now)).add(span, now);
    }
}

fn metadata() -> Vec<MetricMetadata> {
    use MetricKind::{Counter, Histogram};
    let of = |family: &str, kind: MetricKind, unit: &str, help: &str| MetricMetadata {
        family: family.to_owned(),
        kind,
        help: help.to_owned(),
        unit: unit.to_owned(),
    };
    vec![
        of("traces_spanmetrics_calls_total", Counter, "", "Spans by service and operation."),
        of("traces_spanmetrics_size_total", Counter, "bytes", "Size of the spans."),
        of("traces_spanmetrics_latency", Histogram, "seconds", "Duration of the spans."),
        of(
            "traces_messaging_calls_total",
            Counter,
            "",
            "Spans that send or process a message, by topic and partition.",
        ),
        of("traces_messaging_latency", Histogram, "seconds", "Duration of those spans."),
        of("traces_service_graph_request_total", Counter, "", "Requests between two nodes of the service graph."),
        of("traces_service_graph_request_failed_total", Counter, "", "Requests of which one side failed."),
        of("traces_service_graph_request_client_seconds", Histogram, "seconds", "Requests as their client sees them."),
        of("traces_service_graph_request_server_seconds", Histogram, "seconds", "Requests as their server sees them."),
        of(
            "traces_service_graph_request_messaging_system_seconds",
            Histogram,
            "seconds",
            "Time from the end of sending to the begin of processing.",
        ),
        of("traces_service_graph_unpaired_spans_total", Counter, "", "Sides of a request that found no other."),
        of("traces_service_graph_dropped_spans_total", Counter, "", "Spans beyond what the service graph holds."),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weir_model::{Nanos, Resource, SimClock, SpanId, SpanStatus, TraceId};

    use super::*;

    const NOW: i64 = 1_000_000;

    fn span(service: &str, name: &str, kind: SpanKind, id: u8, parent: u8) -> Span {
        Span {
            trace_id: TraceId([7; 16]),
            span_id: SpanId([id; 8]),
            parent: (parent > 0).then_some(SpanId([parent; 8])),
            name: name.into(),
            kind,
            start: Nanos(NOW * 1_000_000),
            end: Nanos(NOW * 1_000_000 + 300_000_000),
            resource: Arc::new(Resource { attributes: vec![("service.name".into(), service.into())] }),
            ..Span::default()
        }
    }

    fn metrics(spans: &[Vec<Span>]) -> (SpanMetrics, MetricBatch) {
        let metrics = SpanMetrics::new(SpanMetricsOptions::default(), Arc::new(SimClock::at(Timestamp(NOW))));
        for batch in spans {
            let batch: Vec<Arc<Span>> = batch.iter().cloned().map(Arc::new).collect();
            metrics.on_commit(&TenantId::anonymous(), &Commit::Spans { spans: &batch });
        }
        let batch = metrics.collect(Timestamp(NOW)).pop().map(|(_, batch)| batch).unwrap_or_default();
        (metrics, batch)
    }

    /// The newest value of each series whose name begins so, by its labels.
    fn values(batch: &MetricBatch, name: &str) -> BTreeMap<String, f64> {
        let of = |series: &&weir_model::sink::SeriesBatch| series.labels.metric_name().starts_with(name);
        let newest = |series: &weir_model::sink::SeriesBatch| {
            (series.labels.to_string(), series.samples.iter().max_by_key(|s| s.at).map_or(f64::NAN, |s| s.value))
        };
        batch.series.iter().filter(of).map(newest).collect()
    }

    #[test]
    fn requests_errors_and_durations_with_an_exemplar() {
        let mut bad = span("shop", "GET /users/8813", SpanKind::Server, 2, 0);
        bad.status = SpanStatus { code: StatusCode::Error, message: "no".into() };
        let good = |id: u8| span("shop", &format!("GET /users/{id}{id}"), SpanKind::Server, id, 0);
        let (_, batch) = metrics(&[vec![good(1), good(3)], vec![bad]]);
        let calls = values(&batch, "traces_spanmetrics_calls_total");
        assert_eq!(calls.values().copied().collect::<Vec<_>>(), [1.0, 2.0], "{calls:?}");
        assert!(calls.keys().all(|labels| labels.contains(r#"span_name="GET /users/{id}""#)), "{calls:?}");
        let buckets = values(&batch, "traces_spanmetrics_latency_bucket");
        assert_eq!(buckets.len(), 30);
        assert_eq!(buckets.iter().filter(|(l, _)| l.contains(r#"le="0.256""#)).map(|(_, v)| *v).sum::<f64>(), 0.0);
        assert_eq!(buckets.iter().filter(|(l, _)| l.contains(r#"le="0.512""#)).map(|(_, v)| *v).sum::<f64>(), 3.0);
        let exemplars: Vec<_> = batch.series.iter().flat_map(|s| &s.exemplars).collect();
        assert!(exemplars.iter().any(|e| e.labels.get("traceID") == Some("07070707070707070707070707070707")));
        // From zero, so that the first requests are in a rate.
        assert!(batch.series.iter().filter(|s| s.labels.get("span_name").is_some()).all(|s| s.samples.len() == 2));
    }

    #[test]
    fn a_second_collection_goes_on_from_the_first() {
        let (metrics, _) = metrics(&[vec![span("shop", "a", SpanKind::Server, 1, 0)]]);
        let again = Arc::new(span("shop", "a", SpanKind::Server, 2, 0));
        metrics.on_commit(&TenantId::anonymous(), &Commit::Spans { spans: &[again] });
        let (_, batch) = metrics.collect(Timestamp(NOW + 15_000)).pop().unwrap();
        assert_eq!(values(&batch, "traces_spanmetrics_calls_total").into_values().collect::<Vec<_>>(), [2.0]);
        let is_old = |s: &weir_model::sink::SeriesBatch| s.samples.len() == 1;
        assert!(batch.series.iter().all(is_old));
        // Nothing came for a quarter of an hour.
        let (_, batch) = metrics.collect(Timestamp(NOW + 900_001)).pop().unwrap();
        assert!(values(&batch, "traces_spanmetrics").is_empty());
    }

    #[test]
    fn edges_of_calls_messages_and_databases() {
        let mut send = span("shop", "orders publish", SpanKind::Producer, 2, 1);
        send.attributes = vec![("messaging.destination.name".into(), "orders".into())];
        let mut ask = span("store", "SELECT", SpanKind::Client, 5, 4);
        ask.attributes = vec![("db.system".into(), "postgresql".into())];
        let (_, batch) = metrics(&[
            vec![span("gate", "GET", SpanKind::Client, 1, 0), send],
            // The server before or after its client, two consumers of one message.
            vec![
                span("shop", "GET /", SpanKind::Server, 3, 1),
                span("store", "orders process", SpanKind::Consumer, 4, 2),
            ],
            vec![span("mail", "orders process", SpanKind::Consumer, 6, 2), ask],
            vec![span("late", "x", SpanKind::Server, 8, 7)],
        ]);
        let edges: Vec<String> = values(&batch, "traces_service_graph_request_total").into_keys().collect();
        let has = |client: &str, server: &str, connection: &str| {
            let is = |edge: &&String| {
                edge.contains(&format!(r#"client="{client}""#))
                    && edge.contains(&format!(r#"server="{server}""#))
                    && edge.contains(connection)
            };
            assert_eq!(edges.iter().filter(is).count(), 1, "{client} {server}: {edges:?}");
        };
        has("gate", "shop", "");
        has("shop", "store", r#"connection_type="messaging_system""#);
        has("shop", "mail", r#"connection_type="messaging_system""#);
        has("store", "postgresql", r#"connection_type="database""#);
        assert_eq!(edges.len(), 4);
        let topics = values(&batch, "traces_messaging_calls_total");
        assert!(topics.keys().any(|labels| labels.contains(r#"topic="orders""#)), "{topics:?}");
    }

    #[test]
    fn sides_that_find_no_other_are_counted_when_their_time_is_over() {
        let (metrics, batch) = metrics(&[vec![span("late", "x", SpanKind::Server, 8, 7)]]);
        assert!(values(&batch, "traces_service_graph_unpaired").is_empty());
        let (_, batch) = metrics.collect(Timestamp(NOW + 10_000)).pop().unwrap();
        assert_eq!(values(&batch, "traces_service_graph_unpaired").into_values().collect::<Vec<_>>(), [1.0]);
    }

    #[test]
    fn names_without_end_make_series_with_an_end() {
        let word = |k: usize| {
            let letter = |d: usize| char::from(b'a' + (k / 26_usize.pow(d as u32) % 26) as u8);
            (0..4).map(letter).collect::<String>()
        };
        let spans = (0..5000).map(|k| span("shop", &word(k), SpanKind::Server, 1, 0)).collect();
        let (_, batch) = metrics(&[spans]);
        let calls = values(&batch, "traces_spanmetrics_calls_total");
        assert!(calls.len() <= 301, "{}", calls.len());
        assert_eq!(calls.values().sum::<f64>(), 5000.0);
        let services = (0..2000).map(|k| span(&word(k), "a", SpanKind::Server, 1, 0)).collect();
        let (_, batch) = metrics(&[services]);
        assert!(values(&batch, "traces_spanmetrics_calls_total").len() <= 501);
    }

    #[test]
    fn what_is_long_over_does_not_count_for_now() {
        let mut old = span("shop", "a", SpanKind::Server, 1, 0);
        (old.start, old.end) = (Nanos(0), Nanos(1));
        let (_, batch) = metrics(&[vec![old]]);
        assert!(values(&batch, "traces_spanmetrics").is_empty());
    }
}
