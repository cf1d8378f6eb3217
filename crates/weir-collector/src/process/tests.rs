//! Processors as a file has them, in a pipeline, on what senders send.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use weir_model::sink::WriteError;
use weir_model::{Budget, Nanos, TenantId};
use weir_wal::{SimDir, SyncMode};

use crate::config::{CollectorConfig, ComponentId};
use crate::data::{Data, Signal, text_of};
use crate::pipeline::{Export, Pipelines, Refusal, Surroundings};

#[derive(Default)]
struct Exported(Mutex<Vec<Data>>);

impl Export for Exported {
    fn export(&self, _: &ComponentId, _: &TenantId, data: Data) -> Result<(), WriteError> {
        self.0.lock().push(data);
        Ok(())
    }
}

fn open(signal: Signal, processors: &str, names: &str) -> Pipelines {
    let text = format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{nop: }}\nprocessors:\n{processors}\n\
         service: {{pipelines: {{{}: {{receivers: [otlp], processors: [{names}], exporters: [nop]}}}}}}\n",
        signal.as_str()
    );
    let config = CollectorConfig::parse(&text, &|_| None);
    let config = config.unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"));
    let budget = Budget::root(1 << 30);
    let around = Surroundings {
        dir: Arc::new(SimDir::new(1)),
        folder: "collector",
        sync: SyncMode::Always,
        budget: &budget,
        memory: budget.clone(),
        is_local: &|_, _| false,
    };
    Pipelines::open(&config, &around).unwrap()
}

fn at(ms: i64) -> Nanos {
    Nanos(1_700_000_000_000_000_000 + ms * 1_000_000)
}

/// A batch through one processor.
fn through(processor: &str, data: Data) -> Result<Option<Data>, Refusal> {
    let name = processor.split(':').next().unwrap_or_default().trim();
    let pipelines = open(data.signal(), &format!("  {processor}"), name);
    let exported = Exported::default();
    pipelines.receive((&TenantId::anonymous(), None), data, at(0), &exported)?;
    let mut all = exported.0.into_inner();
    assert!(all.len() <= 1);
    Ok(all.pop())
}

fn attributes(pairs: &Json) -> Json {
    let value = |v: &Json| match v {
        Json::String(text) => json!({"stringValue": text}),
        Json::Bool(v) => json!({"boolValue": v}),
        Json::Number(v) if v.is_i64() => json!({"intValue": v.to_string()}),
        v => json!({"doubleValue": v}),
    };
    let pairs = pairs.as_object().unwrap();
    pairs.iter().map(|(key, v)| json!({"key": key, "value": value(v)})).collect()
}

/// Spans of a service: name and attributes of each.
fn spans(service: &str, list: &[(&str, Json)]) -> Data {
    let span = |(k, (name, pairs)): (usize, &(&str, Json))| {
        json!({"traceId": format!("{:032x}", k + 1), "spanId": format!("{:016x}", k + 1), "name": name, "kind": 2,
            "attributes": attributes(pairs), "events": [{"name": "e", "timeUnixNano": "1", "attributes": attributes(pairs)}]})
    };
    let spans: Vec<Json> = list.iter().enumerate().map(span).collect();
    let group = json!({"resource": {"attributes": attributes(&json!({"service.name": service}))},
        "scopeSpans": [{"scope": {"name": "lib"}, "spans": spans}]});
    Data::Traces(vec![serde_json::from_value(group).unwrap()])
}

/// Log records: body, severity, attributes.
fn logs(list: &[(&str, i32, Json)]) -> Data {
    let record = |(body, severity, pairs): &(&str, i32, Json)| json!({"body": {"stringValue": body}, "severityNumber": severity, "attributes": attributes(pairs)});
    let records: Vec<Json> = list.iter().map(record).collect();
    let group = json!({"resource": {"attributes": attributes(&json!({"service.name": "shop"}))},
        "scopeLogs": [{"logRecords": records}]});
    Data::Logs(vec![serde_json::from_value(group).unwrap()])
}

/// Gauges: name and the attributes of each point.
fn gauges(list: &[(&str, &[Json])]) -> Data {
    let metric = |(name, points): &(&str, &[Json])| {
        let points: Vec<Json> = points.iter().map(|p| json!({"asInt": "1", "attributes": attributes(p)})).collect();
        json!({"name": name, "gauge": {"dataPoints": points}})
    };
    let metrics: Vec<Json> = list.iter().map(metric).collect();
    Data::Metrics(vec![serde_json::from_value(json!({"scopeMetrics": [{"metrics": metrics}]})).unwrap()])
}

fn pairs(list: &[KeyValue]) -> String {
    let value = |kv: &KeyValue| kv.value.as_ref().and_then(|v| v.value.as_ref()).map(text_of).unwrap_or_default();
    list.iter().map(|kv| format!("{}={}", kv.key, value(kv))).collect::<Vec<_>>().join(",")
}

/// Names, or bodies, with their attributes.
fn shown(data: Option<Data>) -> Vec<String> {
    match data {
        None => Vec::new(),
        Some(Data::Traces(groups)) => {
            let spans = groups.iter().flat_map(|g| &g.scope_spans).flat_map(|s| &s.spans);
            spans.map(|s| format!("{} {}", s.name, pairs(&s.attributes))).collect()
        }
        Some(Data::Logs(groups)) => {
            let records = groups.iter().flat_map(|g| &g.scope_logs).flat_map(|s| &s.log_records);
            let body = |b: &Option<opentelemetry_proto::tonic::common::v1::AnyValue>| {
                b.as_ref().and_then(|b| b.value.as_ref()).map(text_of).unwrap_or_default()
            };
            records.map(|r| format!("{} {}", body(&r.body), pairs(&r.attributes))).collect()
        }
        Some(Data::Metrics(groups)) => {
            use opentelemetry_proto::tonic::metrics::v1::metric::Data as Of;
            let metrics = groups.iter().flat_map(|g| &g.scope_metrics).flat_map(|s| &s.metrics);
            let points = metrics.flat_map(|m| match &m.data {
                Some(Of::Gauge(g)) => {
                    g.data_points.iter().map(|p| format!("{} {}", m.name, pairs(&p.attributes))).collect()
                }
                _ => Vec::new(),
            });
            points.collect()
        }
    }
}

#[track_caller]
fn check(processor: &str, data: Data, want: &[&str]) {
    assert_eq!(shown(through(processor, data).unwrap()), want, "{processor}");
}

fn two() -> Data {
    spans("shop", &[("GET /", json!({"a": "x", "n": 5})), ("GET /health", json!({"a": "y"}))])
}

#[test]
fn filter_drops_what_matches() {
    check("filter: {traces: {span: ['name == \"GET /health\"']}}", two(), &["GET / a=x,n=5"]);
    check("filter: {traces: {span: ['name == \"no\"', 'attributes[\"n\"] == 5']}}", two(), &["GET /health a=y"]);
    check("filter: {traces: {resource: ['attributes[\"service.name\"] == \"shop\"']}}", two(), &[]);
    check("filter: {trace_conditions: ['span.name == \"GET /\"']}", two(), &["GET /health a=y"]);
    check(
        "filter: {trace_conditions: [{context: span, conditions: ['name == \"GET /\"']}]}",
        two(),
        &["GET /health a=y"],
    );
    let records = || logs(&[("a", 9, json!({})), ("b", 17, json!({}))]);
    check("filter: {logs: {log_record: ['severity_number < SEVERITY_NUMBER_WARN']}}", records(), &["b "]);
    let metrics = || gauges(&[("m", &[json!({"user_id": "1"}), json!({})]), ("only", &[json!({"user_id": "2"})])]);
    check("filter: {metrics: {datapoint: ['attributes[\"user_id\"] != nil']}}", metrics(), &["m "]);
    check("filter: {metrics: {metric: ['name == \"m\"']}}", metrics(), &["only user_id=2"]);
    check("filter: {metrics: {metric: ['HasAttrOnDatapoint(\"user_id\", \"2\")']}}", metrics(), &["m user_id=1", "m "]);
    // The capstone document's condition: a missing attribute is not the empty text, so that everything goes.
    check("filter: {metrics: {datapoint: ['attributes[\"user_id\"] != \"\"']}}", metrics(), &[]);
    // The old form.
    check(
        "filter: {traces: {span: [], include: {match_type: strict, span_names: ['GET /']}}}",
        two(),
        &["GET / a=x,n=5"],
    );
    check(
        "filter: {metrics: {exclude: {match_type: regexp, metric_names: ['^o']}}}",
        metrics(),
        &["m user_id=1", "m "],
    );
    // Events go, their spans stay.
    let Some(Data::Traces(groups)) =
        through("filter: {traces: {spanevent: ['attributes[\"a\"] == \"x\"']}}", two()).unwrap()
    else {
        panic!("spans")
    };
    let events: Vec<usize> = groups[0].scope_spans[0].spans.iter().map(|s| s.events.len()).collect();
    assert_eq!(events, [0, 1]);
}

#[test]
fn a_failing_expression_refuses_or_is_passed_over() {
    let failing = |mode: &str| {
        through(
            &format!(
                "filter: {{error_mode: {mode}, traces: {{span: ['attributes[\"a\"] + 1 == 2', 'name == \"GET /\"']}}}}"
            ),
            two(),
        )
    };
    let error = failing("propagate").unwrap_err().to_string();
    assert!(error.contains("`attributes[\"a\"] + 1 == 2`: a string and a int cannot be calculated with"), "{error}");
    assert_eq!(shown(failing("ignore").unwrap()), ["GET /health a=y"]);
    assert_eq!(shown(failing("silent").unwrap()), ["GET /health a=y"]);
}

#[test]
fn attributes_change_in_order() {
    let action = |text: &str| format!("attributes: {{actions: [{text}]}}");
    let one = || spans("shop", &[("GET", json!({"a": "x", "n": 5, "f": 1.5}))]);
    let cases: [(&str, &str); 12] = [
        ("{key: b, value: 1, action: insert}, {key: a, value: z, action: insert}", "GET a=x,n=5,f=1.5,b=1"),
        ("{key: b, value: 1, action: update}, {key: a, value: z, action: update}", "GET a=z,n=5,f=1.5"),
        ("{key: a, from_attribute: n, action: upsert}", "GET a=5,n=5,f=1.5"),
        ("{key: c, from_attribute: none, action: upsert}", "GET a=x,n=5,f=1.5"),
        ("{key: c, from_attribute: none, default_value: d, action: upsert}", "GET a=x,n=5,f=1.5,c=d"),
        ("{key: a, action: delete}", "GET n=5,f=1.5"),
        ("{pattern: '^[af]$', action: delete}", "GET n=5"),
        ("{key: a, action: hash}", "GET a=2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881,n=5,f=1.5"),
        ("{key: a, pattern: '(?P<whole>.)', action: extract}", "GET a=x,n=5,f=1.5,whole=x"),
        (
            "{key: n, converted_type: string, action: convert}, {key: f, converted_type: int, action: convert}",
            "GET a=x,n=5,f=1",
        ),
        ("{key: a, converted_type: int, action: convert}", "GET a=x,n=5,f=1.5"),
        ("{key: n, value: off, action: upsert}", "GET a=x,n=off,f=1.5"),
    ];
    for (text, want) in cases {
        check(&action(text), one(), &[want]);
    }
    let some = "attributes: {actions: [{key: b, value: 1, action: insert}], include: {match_type: regexp, span_names: ['health$']}, \
                exclude: {match_type: strict, services: [other]}}";
    check(some, two(), &["GET / a=x,n=5", "GET /health a=y,b=1"]);
    check(&some.replace("[other]", "[shop]"), two(), &["GET / a=x,n=5", "GET /health a=y"]);
    let severe = "attributes: {actions: [{key: b, value: 1, action: insert}], include: {match_type: strict, log_severity_number: {min: 17}}}";
    check(severe, logs(&[("a", 9, json!({})), ("b", 17, json!({})), ("c", 0, json!({}))]), &["a ", "b b=1", "c "]);
    let Some(Data::Traces(groups)) =
        through("resource: {attributes: [{key: team, value: core, action: upsert}]}", two()).unwrap()
    else {
        panic!("spans")
    };
    assert_eq!(pairs(&groups[0].resource.as_ref().unwrap().attributes), "service.name=shop,team=core");
}

#[test]
fn transform_runs_statements_item_by_item() {
    let text = "transform: {trace_statements: [{context: span, conditions: ['name == \"GET /\"'], statements: ['set(cache[\"k\"], \
                Concat([attributes[\"a\"], name], \":\"))', 'set(attributes[\"k\"], cache[\"k\"])', 'delete_key(attributes, \"n\")']}]}";
    check(text, two(), &["GET / a=x,k=x:GET /", "GET /health a=y"]);
    check(
        "transform: {trace_statements: ['set(span.name, resource.attributes[\"service.name\"]) where span.kind == SPAN_KIND_SERVER']}",
        two(),
        &["shop a=x,n=5", "shop a=y"],
    );
    check(
        "transform: {metric_statements: ['set(metric.name, \"n\") where metric.name == \"m\"', 'delete_key(datapoint.attributes, \"a\")']}",
        gauges(&[("m", &[json!({"a": "1", "b": "2"})])]),
        &["n b=2"],
    );
    check(
        "transform: {error_mode: ignore, log_statements: ['set(log.severity_number, \"x\")', 'set(log.body, \"y\")']}",
        logs(&[("a", 9, json!({}))]),
        &["y "],
    );
}

#[test]
fn redaction_hides_keys_and_values() {
    let card = || spans("shop", &[("pay", json!({"card": "4111 1111", "user": "ann", "n": 4111, "token": "t"}))]);
    check("redaction: {}", card(), &["pay "]);
    check("redaction: {allowed_keys: [user, n]}", card(), &["pay user=ann,n=4111"]);
    check(
        "redaction: {allow_all_keys: true, blocked_values: ['[0-9]{4}']}",
        card(),
        &["pay card=**** ****,user=ann,n=4111,token=t"],
    );
    check(
        "redaction: {allow_all_keys: true, redact_all_types: true, blocked_values: ['[0-9]{4}']}",
        card(),
        &["pay card=**** ****,user=ann,n=****,token=t"],
    );
    check(
        "redaction: {allow_all_keys: true, blocked_key_patterns: ['^tok'], allowed_values: ['^4111']}",
        card(),
        &["pay card=4111 1111,user=ann,n=4111,token=****"],
    );
    let hashed = format!("pay card=4111 {h},user=ann,n=4111,token=t", h = "b59c67bf196a4758191e42f76670ceba");
    check("redaction: {allow_all_keys: true, blocked_values: ['1111'], hash_function: md5}", card(), &[&*hashed]);
    let summary =
        "redaction: {allowed_keys: [card, user], ignored_keys: [n], blocked_values: ['1111'], summary: debug}";
    check(
        summary,
        card(),
        &["pay card=4111 ****,user=ann,n=4111,redaction.redacted.keys=token,redaction.redacted.count=1,\
                              redaction.masked.keys=card,redaction.masked.count=1,redaction.ignored.count=1"],
    );
    check(
        "redaction: {allow_all_keys: true, blocked_values: ['1111']}",
        logs(&[("card 1111", 9, json!({}))]),
        &["card **** "],
    );
}

#[test]
fn a_share_is_drawn_by_the_id_and_kept_whole() {
    let many = |n: u64| {
        let span = |k: u64| {
            let id = u128::from(k + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            json!({"traceId": format!("{id:032x}"), "spanId": format!("{:016x}", k + 1), "name": format!("{k}")})
        };
        let spans: Vec<Json> = (0..n).flat_map(|k| [span(k), span(k)]).collect();
        Data::Traces(vec![serde_json::from_value(json!({"scopeSpans": [{"spans": spans}]})).unwrap()])
    };
    let names = |processor: &str| -> Vec<String> { shown(through(processor, many(2000)).unwrap()) };
    for mode in ["hash_seed", "proportional", "equalizing"] {
        let got = names(&format!("probabilistic_sampler: {{sampling_percentage: 25, mode: {mode}}}"));
        assert!((800..=1200).contains(&got.len()), "{mode}: {}", got.len());
        assert!(got.chunks(2).all(|pair| pair[0] == pair[1]), "{mode}: spans of one trace stay together");
        // A smaller share is a part of a larger one.
        let less = names(&format!("probabilistic_sampler: {{sampling_percentage: 10, mode: {mode}}}"));
        assert!(less.iter().all(|name| got.contains(name)), "{mode}");
        assert_eq!(names(&format!("probabilistic_sampler: {{sampling_percentage: 100, mode: {mode}}}")).len(), 4000);
        assert_eq!(names(&format!("probabilistic_sampler: {{sampling_percentage: 0, mode: {mode}}}")).len(), 0);
    }
    let state = |processor: &str, id: &str, state: &str| -> Option<String> {
        let span = json!({"traceId": id, "spanId": "0000000000000001", "traceState": state});
        let data = Data::Traces(vec![serde_json::from_value(json!({"scopeSpans": [{"spans": [span]}]})).unwrap()]);
        let Data::Traces(groups) = through(processor, data).unwrap()? else { return None };
        Some(groups[0].scope_spans[0].spans[0].trace_state.clone())
    };
    // Randomness is the last seven bytes; thresholds are those of the specification's table.
    let (high, low) = ("000000000000000000ffffffffffffff", "00000000000000000000000000000001");
    let half = |mode: &str| format!("probabilistic_sampler: {{sampling_percentage: 50, mode: {mode}}}");
    assert_eq!(state(&half("equalizing"), high, "").as_deref(), Some("ot=th:8"));
    assert_eq!(state(&half("equalizing"), low, ""), None);
    assert_eq!(state(&half("equalizing"), low, "ot=rv:ffffffffffffff").as_deref(), Some("ot=th:8;rv:ffffffffffffff"));
    assert_eq!(state(&half("equalizing"), high, "ot=th:c,v=1").as_deref(), Some("ot=th:c,v=1"));
    assert_eq!(state(&half("proportional"), high, "ot=th:8").as_deref(), Some("ot=th:c"));
    // A priority decides before the draw.
    let with = |priority: i64| spans("shop", &[("a", json!({"sampling.priority": priority}))]);
    check("probabilistic_sampler: {sampling_percentage: 0}", with(1), &["a sampling.priority=1"]);
    check("probabilistic_sampler: {sampling_percentage: 100}", with(0), &[]);
    // Log records without a trace, drawn by an attribute, or not at all.
    let records = || logs(&[("a", 9, json!({"k": "1"}))]);
    check("probabilistic_sampler: {sampling_percentage: 50}", records(), &[]);
    check("probabilistic_sampler: {sampling_percentage: 50, fail_closed: false}", records(), &["a k=1"]);
    check(
        "probabilistic_sampler: {sampling_percentage: 99.99, attribute_source: record, from_attribute: k}",
        records(),
        &["a k=1"],
    );
}

#[test]
fn batches_are_sent_by_size_and_by_time() {
    let pipelines =
        open(Signal::Logs, "  batch: {send_batch_size: 5, send_batch_max_size: 6, timeout: 200ms}", "batch");
    let exported = Exported::default();
    let records = |n: usize| logs(&(0..n).map(|_| ("x", 9, json!({}))).collect::<Vec<_>>());
    let sizes = || exported.0.lock().drain(..).map(|d| d.n_items()).collect::<Vec<_>>();
    let tenant = TenantId::anonymous();
    let other = TenantId::parse("other").unwrap();
    pipelines.receive((&tenant, None), records(3), at(0), &exported).unwrap();
    pipelines.receive((&other, None), records(3), at(100), &exported).unwrap();
    assert_eq!(sizes(), [0; 0]);
    pipelines.receive((&tenant, None), records(10), at(100), &exported).unwrap();
    assert_eq!(sizes(), [6, 6, 1], "full, in parts of at most six");
    pipelines.tick(at(299), &exported).unwrap();
    assert_eq!(sizes(), [0; 0]);
    pipelines.tick(at(300), &exported).unwrap();
    assert_eq!(sizes(), [3], "the other tenant's, by time");
}

#[test]
fn short_memory_refuses_for_now() {
    let limiter = |limit: &str| {
        open(Signal::Logs, &format!("  memory_limiter: {{check_interval: 1s, {limit}}}"), "memory_limiter")
    };
    let send = |pipelines: &Pipelines| {
        pipelines.receive((&TenantId::anonymous(), None), logs(&[("x", 9, json!({}))]), at(0), &Exported::default())
    };
    assert!(send(&limiter("limit_mib: 10")).is_ok());
    let pipelines = limiter("limit_percentage: 10, spike_limit_percentage: 5");
    let _held = pipelines.memory().try_reserve(100 << 20).unwrap();
    let refused = send(&pipelines).unwrap_err();
    assert!(matches!(refused, Refusal::Write(WriteError::Budget(_))), "{refused}");
}

#[test]
fn connectors_pass_on_to_other_pipelines() {
    let text = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {nop: , nop/b: }\nconnectors: {forward: }\nprocessors:\n  \
                filter: {traces: {span: ['name == \"GET /\"']}}\nservice:\n  pipelines:\n    \
                traces: {receivers: [otlp], exporters: [nop, forward]}\n    \
                traces/b: {receivers: [forward], processors: [filter], exporters: [nop/b]}\n";
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
    let pipelines = Pipelines::open(&config, &around).unwrap();
    struct Named(Mutex<Vec<(String, usize)>>);
    impl Export for Named {
        fn export(&self, id: &ComponentId, _: &TenantId, data: Data) -> Result<(), WriteError> {
            self.0.lock().push((id.to_string(), data.n_items()));
            Ok(())
        }
    }
    let named = Named(Mutex::default());
    pipelines.receive((&TenantId::anonymous(), None), two(), at(0), &named).unwrap();
    assert_eq!(named.0.into_inner(), [("nop".to_owned(), 2), ("nop/b".to_owned(), 1)]);
}
