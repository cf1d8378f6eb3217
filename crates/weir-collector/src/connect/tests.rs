//! Connectors as a file has them, between pipelines, on what senders send.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data as MetricData, number_data_point::Value as Number};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use weir_model::sink::WriteError;
use weir_model::{Budget, Nanos, TenantId};
use weir_wal::{SimDir, SyncMode};

use crate::config::{CollectorConfig, ComponentId};
use crate::data::{Data, text_of};
use crate::pipeline::{Export, Pipelines, Surroundings};

/// What was exported, and whether the next batches are refused.
#[derive(Default)]
struct Exported {
    all: Mutex<Vec<Data>>,
    is_full: Mutex<bool>,
}

impl Export for Exported {
    fn export(&self, _: &ComponentId, _: &TenantId, data: Data) -> Result<(), WriteError> {
        if *self.is_full.lock() {
            return Err(WriteError::Full("test".to_owned()));
        }
        self.all.lock().push(data);
        Ok(())
    }
}

fn config(connector: &str, from: &str) -> Result<CollectorConfig, String> {
    let name = connector.split(':').next().unwrap_or_default();
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{nop: }}\nconnectors:\n  {connector}\n\
         service:\n  pipelines:\n    {from}/in: {{receivers: [otlp], exporters: [{name}]}}\n    \
         metrics/out: {{receivers: [{name}], exporters: [nop]}}\n"
    );
    CollectorConfig::parse(&text, &|_| None)
        .map_err(|problems| problems.iter().map(|p| format!("{p}\n")).collect::<String>())
}

struct Bench {
    pipelines: Pipelines,
    exported: Exported,
}

fn at(ms: i64) -> Nanos {
    Nanos(1_700_000_000_000_000_000 + ms * 1_000_000)
}

impl Bench {
    #[track_caller]
    fn of(connector: &str, from: &str) -> Self {
        let config = config(connector, from).unwrap_or_else(|problems| panic!("{connector}\n{problems}"));
        let budget = Budget::root(1 << 30);
        let around = Surroundings {
            dir: Arc::new(SimDir::new(1)),
            folder: "collector",
            sync: SyncMode::Always,
            budget: &budget,
            memory: budget.clone(),
            is_local: &|_, _| true,
        };
        let pipelines = Pipelines::open(&config, &around).unwrap();
        let bench = Self { pipelines, exported: Exported::default() };
        // Connectors begin to count their time.
        assert_eq!(bench.tick(0), [""; 0]);
        bench
    }
    fn put(&self, ms: i64, data: Data) {
        self.pipelines.receive((&TenantId::anonymous(), None), data, at(ms), &self.exported).unwrap();
    }
    /// What a tick gives.
    fn tick(&self, ms: i64) -> Vec<String> {
        let _ = self.pipelines.tick(at(ms), &self.exported);
        self.given()
    }
    fn given(&self) -> Vec<String> {
        let all = std::mem::take(&mut *self.exported.all.lock());
        all.iter().flat_map(lines).collect()
    }
    fn outcome(&self, name: &str) -> u64 {
        let outcomes = self.pipelines.connector_outcomes();
        outcomes[0].1.iter().find(|(known, _)| *known == name).map_or(u64::MAX, |(_, n)| *n)
    }
}

fn labels(attributes: &[KeyValue]) -> String {
    let text = |kv: &KeyValue| kv.value.as_ref().and_then(|v| v.value.as_ref()).map(text_of).unwrap_or_default();
    let mut pairs: Vec<String> = attributes.iter().map(|kv| format!("{}={}", kv.key, text(kv))).collect();
    pairs.sort();
    pairs.join(",")
}

/// Points as `name{labels} value @ms`, histograms with their counts, deltas marked, and exemplars counted.
fn lines(data: &Data) -> Vec<String> {
    let Data::Metrics(groups) = data else { panic!("not metrics") };
    let metrics = groups.iter().flat_map(|g| &g.scope_metrics).flat_map(|s| &s.metrics);
    metrics.flat_map(points).collect()
}

fn points(metric: &Metric) -> Vec<String> {
    let ms = |t: u64| (t as i64 - at(0).0) / 1_000_000;
    let name = if metric.unit.is_empty() { metric.name.clone() } else { format!("{}[{}]", metric.name, metric.unit) };
    let kind = |temporality: i32| if temporality == 1 { "+" } else { "" };
    match metric.data.as_ref().unwrap() {
        MetricData::Sum(sum) => {
            assert!(sum.is_monotonic);
            let mark = kind(sum.aggregation_temporality);
            let point = |p: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
                let Some(Number::AsInt(v)) = p.value else { panic!("an integer") };
                let with = if p.exemplars.is_empty() { String::new() } else { format!(" #{}", p.exemplars.len()) };
                format!("{name}{{{}}} {mark}{v} @{}{with}", labels(&p.attributes), ms(p.time_unix_nano))
            };
            sum.data_points.iter().map(point).collect()
        }
        MetricData::Histogram(histogram) => {
            let mark = kind(histogram.aggregation_temporality);
            let point = |p: &opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint| {
                let counts: Vec<String> = p.bucket_counts.iter().map(u64::to_string).collect();
                let sum = p.sum.unwrap_or_default();
                format!(
                    "{name}{{{}}} {mark}{}={sum} @{}",
                    labels(&p.attributes),
                    counts.join("/"),
                    ms(p.time_unix_nano)
                )
            };
            histogram.data_points.iter().map(point).collect()
        }
        MetricData::ExponentialHistogram(histogram) => {
            let point = |p: &opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint| {
                let buckets = p.positive.as_ref().unwrap();
                let (sum, zeros) = (p.sum.unwrap_or_default(), p.zero_count);
                let n: u64 = buckets.bucket_counts.iter().sum();
                format!("{name}{{{}}} {zeros}+{n}={sum} @{}", labels(&p.attributes), ms(p.time_unix_nano))
            };
            histogram.data_points.iter().map(point).collect()
        }
        _ => panic!("no other kind"),
    }
}

fn attributes(pairs: &[(&str, &str)]) -> Json {
    pairs.iter().map(|(k, v)| json!({"key": k, "value": {"stringValue": v}})).collect()
}

/// Spans of a resource: kind, name, id, parent, milliseconds, status, attributes.
fn spans(resource: &[(&str, &str)], spans: &[(i32, &str, u8, u8, u64, i32, &[(&str, &str)])]) -> Data {
    let id = |n: u8| if n == 0 { String::new() } else { format!("{n:016x}") };
    let span = |(kind, name, own, parent, ms, status, of): &(i32, &str, u8, u8, u64, i32, &[(&str, &str)])| {
        json!({"traceId": format!("{:032x}", 7), "spanId": id(*own), "parentSpanId": id(*parent), "name": name,
            "kind": kind, "startTimeUnixNano": "1000000000", "status": {"code": status},
            "endTimeUnixNano": (1_000_000_000 + ms * 1_000_000).to_string(), "attributes": attributes(of),
            "events": [{"name": "exception", "attributes": attributes(&[("exception.type", "Oops")])}]})
    };
    let spans: Vec<Json> = spans.iter().map(span).collect();
    let group = json!([{"resource": {"attributes": attributes(resource)}, "scopeSpans": [{"scope": {"name": "lib", "version": "1"},
        "spans": spans}]}]);
    Data::Traces(serde_json::from_value(group).unwrap())
}

const SHOP: &[(&str, &str)] = &[("service.name", "shop")];

#[test]
fn calls_and_durations_begin_at_zero_and_add_up() {
    let bench = Bench::of(
        "spanmetrics: {histogram: {explicit: {buckets: [10ms, 1s]}}, metrics_flush_interval: 15s, \
         dimensions: [{name: http.method, default: GET}, {name: zone}]}",
        "traces",
    );
    bench.put(20, spans(SHOP, &[(2, "GET /", 1, 0, 10, 0, &[]), (2, "GET /", 2, 0, 30, 0, &[])]));
    bench.put(30, spans(SHOP, &[(3, "ask", 3, 1, 2000, 2, &[("http.method", "POST"), ("zone", "a")])]));
    assert_eq!(bench.tick(14_999), [""; 0], "the interval has not passed");
    let own =
        "http.method=GET,service.name=shop,span.kind=SPAN_KIND_SERVER,span.name=GET /,status.code=STATUS_CODE_UNSET";
    let other = "http.method=POST,service.name=shop,span.kind=SPAN_KIND_CLIENT,span.name=ask,status.code=STATUS_CODE_ERROR,zone=a";
    let n = "traces.span.metrics";
    assert_eq!(
        bench.tick(15_000),
        [
            format!("{n}.calls{{{other}}} 0 @0"),
            format!("{n}.calls{{{other}}} 1 @15000"),
            format!("{n}.calls{{{own}}} 0 @0"),
            format!("{n}.calls{{{own}}} 2 @15000"),
            format!("{n}.duration[ms]{{{other}}} 0/0/0=0 @0"),
            format!("{n}.duration[ms]{{{other}}} 0/0/1=2000 @15000"),
            format!("{n}.duration[ms]{{{own}}} 0/0/0=0 @0"),
            format!("{n}.duration[ms]{{{own}}} 1/1/0=40 @15000"),
        ]
    );
    bench.put(15_500, spans(SHOP, &[(2, "GET /", 4, 0, 1, 0, &[])]));
    let again = bench.tick(30_000);
    assert_eq!(again.len(), 4, "{again:#?}");
    assert!(again.contains(&format!("{n}.calls{{{own}}} 3 @30000")), "{again:#?}");
    assert_eq!(bench.outcome("counted"), 4);
    // What came last is not lost when the program ends.
    bench.put(31_000, spans(SHOP, &[(2, "GET /", 5, 0, 1, 0, &[])]));
    bench.pipelines.flush(at(31_500), &bench.exported).unwrap();
    assert!(bench.given().contains(&format!("{n}.calls{{{own}}} 4 @31500")));
}

#[test]
fn settings_of_spanmetrics() {
    let one = || spans(SHOP, &[(2, "GET /", 1, 0, 500, 0, &[("code", "5")])]);
    // The last points of a flush, without what begins at zero.
    let check = |settings: &str, wants: &[&str]| {
        let bench = Bench::of(&format!("span_metrics: {{metrics_flush_interval: 1s, {settings}}}"), "traces");
        bench.put(1, one());
        let mut got = bench.tick(1000);
        got.retain(|line| line.contains("@1000"));
        assert_eq!(got, wants, "{settings}");
    };
    let bare = "exclude_dimensions: [span.name, span.kind, status.code], ";
    let with = |rest: &str| format!("{bare}namespace: '', {rest}");
    check(&with("histogram: {disable: true}"), &["calls{service.name=shop} 1 @1000"]);
    check(
        &with("histogram: {unit: s, explicit: {buckets: [100ms, 500ms]}}"),
        &["calls{service.name=shop} 1 @1000", "duration[s]{service.name=shop} 0/1/0=0.5 @1000"],
    );
    check(
        &with("histogram: {exponential: {max_size: 10}}, aggregation_temporality: AGGREGATION_TEMPORALITY_CUMULATIVE"),
        &["calls{service.name=shop} 1 @1000", "duration[ms]{service.name=shop} 0+1=500 @1000"],
    );
    check(
        &with(
            "calls_dimensions: [{name: code}], histogram: {explicit: {buckets: [1s]}, dimensions: [{name: zone, default: z}]}",
        ),
        &["calls{code=5,service.name=shop} 1 @1000", "duration[ms]{service.name=shop,zone=z} 1/0=500 @1000"],
    );
    check(&with("histogram: {disable: true}, exemplars: {enabled: true}"), &["calls{service.name=shop} 1 @1000 #1"]);
    check(
        &with("histogram: {disable: true}, events: {enabled: true, dimensions: [{name: exception.type}]}"),
        &["calls{service.name=shop} 1 @1000", "events{exception.type=Oops,service.name=shop} 1 @1000"],
    );
    check(
        &with("histogram: {disable: true}, include_instrumentation_scope: [lib]"),
        &["calls{service.name=shop,span.instrumentation.scope.name=lib,span.instrumentation.scope.version=1} 1 @1000"],
    );
}

#[test]
fn deltas_are_given_once_and_kept_when_nobody_takes_them() {
    let bench = Bench::of(
        "spanmetrics: {histogram: {disable: true}, metrics_flush_interval: 1s, exclude_dimensions: [span.kind, status.code, span.name], \
         namespace: n, aggregation_temporality: AGGREGATION_TEMPORALITY_DELTA}",
        "traces",
    );
    let two = || spans(SHOP, &[(2, "a", 1, 0, 1, 0, &[]), (2, "b", 2, 0, 1, 0, &[])]);
    bench.put(1, two());
    *bench.exported.is_full.lock() = true;
    assert_eq!(bench.tick(1000), [""; 0]);
    bench.put(1001, two());
    assert_eq!(bench.tick(2000), [""; 0]);
    *bench.exported.is_full.lock() = false;
    assert_eq!(bench.tick(2100), ["n.calls{service.name=shop} +2 @1000", "n.calls{service.name=shop} +2 @2000"]);
    assert_eq!(bench.tick(3200), [""; 0]);
}

#[test]
fn what_is_beyond_the_limit_is_one_series() {
    let bench = Bench::of(
        "spanmetrics: {histogram: {disable: true}, metrics_flush_interval: 1s, aggregation_cardinality_limit: 2, namespace: n, \
         exclude_dimensions: [service.name, span.kind, status.code]}",
        "traces",
    );
    let names: Vec<String> = (0..10).map(|n| format!("op {n}")).collect();
    let all: Vec<_> = names.iter().map(|name| (2, name.as_str(), 1, 0, 1, 0, &[][..])).collect();
    bench.put(1, spans(SHOP, &all));
    let mut got = bench.tick(1000);
    got.retain(|line| line.contains("@1000"));
    got.sort();
    assert_eq!(
        got,
        [
            "n.calls{otel.metric.overflow=true} 8 @1000",
            "n.calls{span.name=op 0} 1 @1000",
            "n.calls{span.name=op 1} 1 @1000"
        ]
    );
    assert_eq!(bench.outcome("folded"), 8);
    bench.put(1001, spans(&[], &all));
    assert_eq!(bench.outcome("without_service_name"), 10);
}

#[test]
fn resources_that_no_series_tells_apart_are_added_up() {
    let text = |more: &str| {
        format!(
            "spanmetrics: {{histogram: {{disable: true}}, metrics_flush_interval: 1s, namespace: n, resource_metrics_cache_size: 2, \
             exclude_dimensions: [span.name, span.kind, status.code]{more}}}"
        )
    };
    let pod = |name: &'static str| [("service.name", "shop"), ("zone", "a"), ("k8s.pod.name", name)];
    let one: &[(i32, &str, u8, u8, u64, i32, &[(&str, &str)])] = &[(2, "a", 1, 0, 1, 0, &[])];
    let resources = |bench: &Bench| -> Vec<String> {
        let _ = bench.pipelines.tick(at(1000), &bench.exported);
        let all = std::mem::take(&mut *bench.exported.all.lock());
        let Some(Data::Metrics(groups)) = all.into_iter().next() else { panic!("metrics") };
        let n = |g: &opentelemetry_proto::tonic::metrics::v1::ResourceMetrics| {
            g.scope_metrics[0].metrics.iter().flat_map(points).last()
        };
        let line = |g| (n(g).unwrap(), g.resource.as_ref().map(|r| labels(&r.attributes)).unwrap_or_default());
        groups.iter().map(line).map(|(points, of)| format!("[{of}] {points}")).collect()
    };
    let bench = Bench::of(&text(""), "traces");
    bench.put(1, spans(&pod("a"), one));
    bench.put(2, spans(&pod("b"), one));
    assert_eq!(resources(&bench), ["[service.name=shop,zone=a] n.calls{service.name=shop} 2 @1000"]);

    let bench = Bench::of(&text(", resource_metrics_key_attributes: [service.name, k8s.pod.name]"), "traces");
    for (ms, name) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
        bench.put(ms, spans(&pod(name), one));
    }
    let n = "n.calls{service.name=shop}";
    assert_eq!(
        resources(&bench),
        [
            format!("[k8s.pod.name=a,service.name=shop,zone=a] {n} 2 @1000"),
            format!("[k8s.pod.name=c,service.name=shop,zone=a] {n} 1 @1000"),
        ],
        "the one that was silent longest made room"
    );
    assert_eq!(bench.outcome("evicted_resources"), 1);
    let bench = Bench::of(&text(", add_resource_attributes: false"), "traces");
    bench.put(1, spans(&pod("a"), one));
    assert_eq!(resources(&bench), ["[] n.calls{service.name=shop} 1 @1000"]);
}

#[test]
fn expired_metrics_end() {
    let bench = Bench::of(
        "spanmetrics: {histogram: {disable: true}, metrics_flush_interval: 1s, metrics_expiration: 3s}",
        "traces",
    );
    bench.put(1, spans(SHOP, &[(2, "a", 1, 0, 1, 0, &[])]));
    assert_eq!(bench.tick(1000).len(), 2);
    assert_eq!(bench.tick(2000).len(), 1);
    assert_eq!(bench.tick(4000), [""; 0]);
}

#[test]
fn pairs_become_edges() {
    let bench = Bench::of(
        "servicegraph: {latency_histogram_buckets: [10ms, 100ms], metrics_flush_interval: 1s, dimensions: [zone], store: {ttl: 5s}}",
        "traces",
    );
    let bank: &[(&str, &str)] = &[("service.name", "bank"), ("zone", "b")];
    // The server's side comes before the client's, and fails.
    bench.put(1, spans(bank, &[(2, "pay", 2, 1, 40, 2, &[])]));
    bench.put(2, spans(SHOP, &[(3, "POST", 1, 0, 50, 0, &[("zone", "a")])]));
    // A message, and a question to a database.
    bench.put(3, spans(SHOP, &[(4, "send", 3, 0, 1, 0, &[]), (3, "SELECT", 5, 0, 5, 0, &[("db.name", "orders")])]));
    bench.put(4, spans(bank, &[(5, "process", 4, 3, 20, 0, &[]), (1, "inner", 9, 4, 1, 0, &[])]));
    let mut got = bench.tick(1000);
    got.retain(|line| line.contains("@1000"));
    let edge = |server: &str, kind: &str, failed: &str, more: &str| {
        format!("client=shop,{more}connection_type={kind},failed={failed},server={server}")
    };
    let request = "traces_service_graph_request";
    let pay = edge("bank", "", "true", "client_zone=a,").replace(",server=bank", ",server=bank,server_zone=b");
    let sent = edge("bank", "messaging_system", "false", "").replace(",server=bank", ",server=bank,server_zone=b");
    let asked = edge("orders", "database", "false", "");
    for want in [
        format!("{request}_total{{{pay}}} 1 @1000"),
        format!("{request}_total{{{sent}}} 1 @1000"),
        format!("{request}_total{{{asked}}} 1 @1000"),
        format!("{request}_failed_total{{{pay}}} 1 @1000"),
        format!("{request}_server[s]{{{pay}}} 0/1/0=0.04 @1000"),
        format!("{request}_client[s]{{{pay}}} 0/1/0=0.05 @1000"),
        format!("{request}_server[s]{{{asked}}} 1/0/0=0.005 @1000"),
    ] {
        assert!(got.contains(&want), "{want}\n{got:#?}");
    }
    assert_eq!(got.iter().filter(|line| line.starts_with(&format!("{request}_failed"))).count(), 1, "{got:#?}");
    assert_eq!(bench.outcome("paired"), 3);
}

#[test]
fn sides_without_another_become_virtual_nodes_and_the_store_is_bounded() {
    let bench = Bench::of(
        "service_graph: {store: {ttl: 2s, max_items: 3}, metrics_flush_interval: 10s, virtual_node_extra_label: true, \
         exponential_histogram_max_size: 20}",
        "traces",
    );
    bench.put(
        0,
        spans(
            SHOP,
            &[(3, "a", 1, 0, 1, 0, &[("peer.service", "ads")]), (2, "b", 2, 0, 1, 0, &[]), (2, "c", 3, 9, 1, 0, &[])],
        ),
    );
    bench.put(1, spans(SHOP, &[(3, "d", 4, 0, 1, 0, &[])]));
    assert_eq!(bench.outcome("dropped"), 1, "three wait already");
    assert_eq!(bench.tick(1000), [""; 0]);
    bench.put(3000, spans(SHOP, &[(3, "e", 5, 0, 1, 0, &[])]));
    assert_eq!(bench.outcome("expired"), 3);
    let mut got = bench.tick(10_000);
    got.retain(|line| line.starts_with("traces_service_graph_request_total") && line.contains("@10000"));
    let node = |client: &str, server: &str, side: &str| {
        format!(
            "traces_service_graph_request_total{{client={client},connection_type=virtual_node,failed=false,server={server},virtual_node={side}}} 1 @10000"
        )
    };
    assert_eq!(
        got,
        [node("shop", "unknown", "server"), node("user", "shop", "client"), node("shop", "ads", "server")]
            .map(|l| l)
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .cloned()
            .collect::<Vec<_>>()
    );
}

#[test]
fn items_are_counted_by_condition_and_attribute() {
    let bench = Bench::of("count: ", "traces");
    let data = || spans(SHOP, &[(2, "a", 1, 0, 1, 0, &[("env", "prod")]), (3, "b", 2, 0, 1, 2, &[])]);
    bench.put(1, data());
    bench.put(2, data());
    assert_eq!(
        bench.tick(1000),
        [
            "trace.span.count{} +0 @0",
            "trace.span.count{} +4 @1000",
            "trace.span.event.count{} +0 @0",
            "trace.span.event.count{} +4 @1000"
        ]
    );
    bench.put(1500, data());
    assert_eq!(bench.tick(2000), ["trace.span.count{} +2 @2000", "trace.span.event.count{} +2 @2000"]);
    assert_eq!(bench.tick(3000), [""; 0]);

    let bench = Bench::of(
        "count: {spanevents: {}, spans: {bad: {description: no, conditions: ['status.code == STATUS_CODE_ERROR', 'name == \"z\"']}, \
         by: {attributes: [{key: env, default_value: none}, {key: service.name}]}, never: {attributes: [{key: gone}]}}}",
        "traces",
    );
    bench.put(1, data());
    let mut got = bench.tick(1000);
    got.retain(|line| line.contains("@1000"));
    assert_eq!(
        got,
        ["bad{} +1 @1000", "by{env=none,service.name=shop} +1 @1000", "by{env=prod,service.name=shop} +1 @1000"]
    );
}

#[test]
fn logs_and_points_are_counted_and_errors_told() {
    let bench = Bench::of(
        "count: {logs: {loud: {conditions: ['severity_number >= SEVERITY_NUMBER_ERROR']}, odd: {conditions: ['Len(body) > 1']}}}",
        "logs",
    );
    let record = |severity: i32| json!({"severityNumber": severity, "body": {"intValue": "1"}});
    let group = json!([{"scopeLogs": [{"logRecords": [record(17), record(9), record(21)]}]}]);
    bench.put(1, Data::Logs(serde_json::from_value(group).unwrap()));
    assert_eq!(bench.tick(1000).last().unwrap(), "loud{} +2 @1000");
    assert_eq!((bench.outcome("failed"), bench.outcome("counted")), (3, 2));

    let bench = Bench::of("count: {datapoints: {of: {attributes: [{key: q}]}}}", "metrics");
    let point = |q: &str| json!({"asInt": "1", "timeUnixNano": "1", "attributes": attributes(&[("q", q)])});
    let metric = json!({"name": "m", "gauge": {"dataPoints": [point("a"), point("b"), point("a")]}});
    let group = json!([{"scopeMetrics": [{"metrics": [metric]}]}]);
    bench.put(1, Data::Metrics(serde_json::from_value(group).unwrap()));
    let mut got = bench.tick(1000);
    got.retain(|line| line.contains("@1000"));
    assert_eq!(got, ["metric.count{} +1 @1000", "of{q=a} +2 @1000", "of{q=b} +1 @1000"]);
}

#[test]
fn a_batch_that_is_sent_again_is_counted_once() {
    let text = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {nop: }\nconnectors: {spanmetrics: {histogram: {disable: true}, \
                metrics_flush_interval: 1s}}\nservice:\n  pipelines:\n    traces: {receivers: [otlp], exporters: [spanmetrics, nop]}\n    \
                metrics: {receivers: [spanmetrics], exporters: [nop]}\n";
    let config = CollectorConfig::parse(text, &|_| None).unwrap();
    let budget = Budget::root(1 << 30);
    let around = Surroundings {
        dir: Arc::new(SimDir::new(1)),
        folder: "collector",
        sync: SyncMode::Always,
        budget: &budget,
        memory: budget.clone(),
        is_local: &|_, _| true,
    };
    let bench = Bench { pipelines: Pipelines::open(&config, &around).unwrap(), exported: Exported::default() };
    let one = || spans(SHOP, &[(2, "a", 1, 0, 1, 0, &[])]);
    *bench.exported.is_full.lock() = true;
    let refused = bench.pipelines.receive((&TenantId::anonymous(), None), one(), at(1), &bench.exported);
    assert!(refused.is_err());
    *bench.exported.is_full.lock() = false;
    bench.put(2, one());
    assert_eq!(bench.outcome("counted"), 1);
}

#[test]
fn mistakes_have_their_places() {
    let check = |connector: &str, from: &str, want: &str| {
        let said = config(connector, from).map(|c| format!("loads as {c:?}")).unwrap_err();
        assert!(said.contains(want), "{connector}: {said}");
    };
    check(
        "spanmetrics: {dimension: []}",
        "traces",
        "line 4: connectors.spanmetrics.dimension: unknown key `dimension`",
    );
    check(
        "spanmetrics: {dimensions: [{name: span.kind}]}",
        "traces",
        "dimensions[0]: the dimension `span.kind` is there already",
    );
    check("spanmetrics: {histogram: {unit: h}}", "traces", "histogram.unit: `h` is no unit");
    check("spanmetrics: {histogram: {explicit: {buckets: [2s, 1s]}}}", "traces", "buckets[1]: is not above");
    check("spanmetrics: {histogram: {explicit: {}, exponential: {}}}", "traces", "give one of them");
    check("spanmetrics: {metrics_flush_interval: 0s}", "traces", "metrics_flush_interval is zero");
    check("spanmetrics: {aggregation_temporality: delta}", "traces", "`delta` is neither");
    check("spanmetrics: {events: {enabled: true}}", "traces", "events: has no dimension");
    check("spanmetrics: ", "logs", "`spanmetrics` is not for logs");
    check("servicegraph: {store: {max_items: 0}}", "traces", "store: max_items 0; from 1");
    check(
        "count: {spans: {a: {conditions: ['nam == 1']}}}",
        "traces",
        "line 4: connectors.count.spans.a.conditions[0]",
    );
    check("count: {metrics: {a: {attributes: [{key: k}]}}}", "traces", "metrics have no attributes");
    // Both ends must be there, each of its signal.
    let text = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {nop: }\nconnectors: {spanmetrics: , count: }\nservice:\n  pipelines:\n    \
                traces: {receivers: [otlp, count], exporters: [spanmetrics]}\n    metrics: {receivers: [count], exporters: [count]}\n";
    let said = CollectorConfig::parse(text, &|_| None).unwrap_err();
    let said: String = said.iter().map(|p| format!("{p}\n")).collect();
    for want in [
        "`spanmetrics` is a receiver of no pipeline of metrics",
        "traces.receivers[1]: `count` is not for traces",
        "the pipelines feed each other: metrics -> metrics",
    ] {
        assert!(said.contains(want), "{want}\n{said}");
    }
}
