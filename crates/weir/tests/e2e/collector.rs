//! An OpenTelemetry Collector's configuration: checked, and run in place of a Collector.

use std::process::Command;

use reqwest::Client;
use serde_json::{Value, json};

use crate::alerting::wait_for;
use crate::harness::{Server, client};

fn platform() -> String {
    format!("{}/../weir-collector/testdata/platform.yaml", env!("CARGO_MANIFEST_DIR"))
}

/// What `weir check collector` says of a file, and whether it is content.
fn check(file: &str) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_weir")).args(["check", "collector", file]).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_filter_in_no_pipeline_is_pointed_out_and_mistakes_have_their_lines() {
    let (good, said) = check(&platform());
    assert!(good, "{said}");
    assert!(said.contains("2 pipelines, 2 processors, 2 exporters"), "{said}");
    let unused = "platform.yaml: line 32: processors.filter/drop-high-cardinality: this processor is in no pipeline";
    assert!(said.contains(unused), "{said}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.yaml");
    let text = std::fs::read_to_string(platform()).unwrap();
    let text = text.replace("threshold_ms", "treshold_ms").replace("[tail_sampling, batch]", "[tail_samplin, batch]");
    std::fs::write(&file, text).unwrap();
    let (good, said) = check(file.to_str().unwrap());
    assert!(!good, "{said}");
    for want in [
        "bad.yaml: line 21: processors.tail_sampling.policies[1].latency.treshold_ms: unknown key `treshold_ms`",
        "bad.yaml: line 52: service.pipelines.traces.processors[0]: there is no processor `tail_samplin`",
    ] {
        assert!(said.contains(want), "{want}\n{said}");
    }
}

/// Errors and slow traces are kept, and a tenth of the rest; two seconds after a trace's first span.
const TAIL: &str = "\
receivers: {otlp: {protocols: {grpc: , http: }}}
exporters: {weir: }
processors:
  attributes/cut: {actions: [{key: secret, action: delete}]}
  filter/probes: {traces: {span: ['name == \"GET /health\"']}}
  tail_sampling:
    decision_wait: WAIT
    policies:
    - {name: errors, type: status_code, status_code: {status_codes: [ERROR]}}
    - {name: slow, type: latency, latency: {threshold_ms: 500}}
    - {name: rest, type: probabilistic, probabilistic: {sampling_percentage: 10}}
service:
  pipelines:
    traces: {receivers: [otlp], processors: [filter/probes, attributes/cut, tail_sampling], exporters: [weir]}
";

fn write(dir: &std::path::Path, text: &str) -> String {
    let file = dir.join("collector.yaml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn nanos() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap()
}

/// Two spans of trace `n` with a status, sent by two services in a request each. Either alone is reason enough to keep
/// the trace, so that it does not matter if the second comes after the decision.
fn bodies(n: u32, status: u32, ms: u64) -> [Value; 2] {
    let start = nanos() - 10_000_000;
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    // Spread as random ids are, so that a draw sees no pattern.
    let id = format!("{:032x}", u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    let span = |k: u32, name: &str| {
        json!({"traceId": id, "spanId": format!("{:016x}", n * 2 + k), "name": name, "kind": 2,
            "parentSpanId": if k == 2 { format!("{:016x}", n * 2 + 1) } else { String::new() },
            "status": {"code": status}, "startTimeUnixNano": start.to_string(),
            "endTimeUnixNano": (start + ms * 1_000_000).to_string(), "attributes": [text("secret", "x")]})
    };
    let probe = json!({"traceId": format!("{:032x}", n + 1), "spanId": "00000000000000ff", "name": "GET /health",
        "status": {"code": 2}, "startTimeUnixNano": start.to_string(), "endTimeUnixNano": start.to_string()});
    let body = |service: &str, spans: &[Value]| {
        json!({"resourceSpans": [{"resource": {"attributes": [text("service.name", service)]},
            "scopeSpans": [{"spans": spans}]}]})
    };
    [body("shop", &[span(1, "GET /"), probe]), body("bank", &[span(2, "pay")])]
}

async fn send(client: &Client, server: &Server, body: &Value) {
    let answer = client.post(format!("http://{}/v1/traces", server.otlp_http)).json(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.text().await.unwrap(), "{}");
}

async fn search(client: &Client, server: &Server, q: &str) -> Vec<Value> {
    let url = format!("{}/api/search", server.url);
    let query = [("q", q), ("limit", "1000"), ("spss", "10")];
    let found: Value = client.get(url).query(&query).send().await.unwrap().json().await.unwrap();
    found["traces"].as_array().cloned().unwrap_or_default()
}

async fn metric(client: &Client, server: &Server, name: &str) -> f64 {
    let text = client.get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()).map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_slow_traces_are_kept_and_of_the_rest_a_share() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), &TAIL.replace("WAIT", "2s"));
    let server = Server::start(&["--collector-config", &config, "--traces.metrics-interval", "1s"]);
    let client = client();
    for n in 0..200 {
        let (status, ms) = if n % 20 == 0 { (2, 1) } else { (1, if n % 20 == 1 { 600 } else { 1 }) };
        for body in bodies(n, status, ms) {
            send(&client, &server, &body).await;
        }
    }
    let decided =
        "otelcol_processor_tail_sampling_global_count_traces_sampled_total{processor=\"tail_sampling\",sampled=";
    wait_for("every trace to be decided", async || {
        let yes = metric(&client, &server, &format!("{decided}\"true\"")).await;
        yes + metric(&client, &server, &format!("{decided}\"false\"")).await >= 200.0
    })
    .await;
    assert_eq!(search(&client, &server, "{ status = error }").await.len(), 10);
    assert_eq!(search(&client, &server, "{ duration > 500ms }").await.len(), 10);
    let all = search(&client, &server, "{}").await.len();
    assert!((24..=65).contains(&all), "{all}: 20 that matter and about 18 of the others");
    // Both halves of a trace, without what was taken out and without probes.
    let whole = search(&client, &server, r#"{ resource.service.name = "shop" } >> { resource.service.name = "bank" }"#);
    assert_eq!(whole.await.len(), all);
    assert_eq!(search(&client, &server, "{ span.secret = \"x\" }").await.len(), 0);
    assert_eq!(search(&client, &server, "{ name = \"GET /health\" }").await.len(), 0);
    // A trace that stands for others says for how many.
    let drawn = search(&client, &server, "{ span.weir.sampling.weight = 10 }").await.len();
    assert_eq!(drawn, all - 20);

    // Metrics count every span that came, once.
    let query = r#"sum(traces_spanmetrics_calls_total{service="bank"})"#;
    wait_for("every span to be counted, not only those that are kept", async || {
        let url = format!("{}/api/v1/query", server.url);
        let found: Value = client.get(url).query(&[("query", query)]).send().await.unwrap().json().await.unwrap();
        found["data"]["result"][0]["value"][1] == "200"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_file_a_percentage_is_kept_and_errors_do_not_wait() {
    let server = Server::start(&["--traces.sample", "25", "--traces.slow", "500ms", "--traces.metrics-interval", "1s"]);
    let client = client();
    for n in 0..120 {
        let (status, ms) = if n % 20 == 0 { (2, 1) } else { (1, if n % 20 == 1 { 600 } else { 1 }) };
        for body in bodies(n, status, ms) {
            send(&client, &server, &body).await;
        }
    }
    // Long before the ten seconds have passed.
    wait_for("errors and slow roots to be there", async || {
        search(&client, &server, r#"{ name = "pay" && status = error }"#).await.len() == 6
            && search(&client, &server, r#"{ name = "pay" && duration > 500ms }"#).await.len() == 6
    })
    .await;
    // Each failing probe is a trace of its own.
    let early = "weir_collector_tail_sampling_early_decisions_total";
    wait_for("each reason to decide early", async || metric(&client, &server, early).await == 12.0 + 120.0).await;
    let decided =
        "otelcol_processor_tail_sampling_global_count_traces_sampled_total{processor=\"tail_sampling\",sampled=";
    wait_for("the rest to be decided", async || {
        let yes = metric(&client, &server, &format!("{decided}\"true\"")).await;
        yes + metric(&client, &server, &format!("{decided}\"false\"")).await >= 240.0
    })
    .await;
    let kept = search(&client, &server, r#"{ name = "pay" }"#).await.len();
    assert!((15..90).contains(&kept), "{kept}");
    // What was kept says how many there were: an estimate, in whole traces.
    let ask = async || -> f64 {
        let query = [("q", r#"{ name = "pay" } | count_over_time()"#), ("since", "10m")];
        let url = format!("{}/api/metrics/query", server.url);
        let found: Value = client.get(url).query(&query).send().await.unwrap().json().await.unwrap();
        found["series"][0]["value"].as_f64().unwrap_or(0.0)
    };
    let estimated = ask().await;
    assert_eq!(estimated, 12.0 + 4.0 * (kept as f64 - 12.0), "{kept} traces were kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn undecided_traces_survive_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    let long = write(dir.path(), &TAIL.replace("WAIT", "1h"));
    let flags = ["--collector-config", &long, "--data-dir", data_dir.to_str().unwrap()];
    let client = client();
    // The halves of each trace come before and after a kill: none is decided, none is stored.
    for half in 0..2 {
        let server = Server::start(&flags);
        for n in 0..50 {
            send(&client, &server, &bodies(n, 2, 1)[half]).await;
        }
        assert_eq!(search(&client, &server, "{}").await.len(), 0);
        server.kill();
    }
    let short = write(dir.path(), &TAIL.replace("WAIT", "1s"));
    assert_eq!(short, long);
    let server = Server::start(&flags);
    let whole = r#"{ resource.service.name = "shop" } >> { resource.service.name = "bank" && status = error }"#;
    wait_for("every trace with both its halves", async || search(&client, &server, whole).await.len() == 50).await;
    server.kill();
    // Decided and stored once: a second start neither loses nor repeats one.
    let server = Server::start(&flags);
    assert_eq!(search(&client, &server, whole).await.len(), 50);
    let waiting = "otelcol_processor_tail_sampling_sampling_waiting_bytes";
    wait_for("nothing to wait any more", async || metric(&client, &server, waiting).await == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_metrics_go_through_and_on_to_other_servers() {
    let dir = tempfile::tempdir().unwrap();
    // One server that only stores, and one in front of it that edits, samples and forwards, as a Collector would.
    let store = Server::start(&[]);
    let text = format!(
        "receivers: {{otlp: {{protocols: {{http: }}}}}}\nprocessors:\n  batch: {{timeout: 200ms}}\n  resource: {{attributes: [{{key: \
         team, value: core, action: upsert}}]}}\n  transform: {{log_statements: ['set(log.severity_text, \"loud\") where \
         log.severity_number >= SEVERITY_NUMBER_ERROR']}}\n  filter: {{metrics: {{datapoint: ['attributes[\"user_id\"] != nil']}}}}\n\
         exporters:\n  otlp: {{endpoint: 'http://{grpc}'}}\n  otlphttp: {{endpoint: 'http://{http}', encoding: json}}\n  \
         loki: {{endpoint: '{url}/loki/api/v1/push'}}\n  prometheusremotewrite: {{endpoint: '{url}/api/v1/write', external_labels: {{via: rw}}}}\n\
         service:\n  pipelines:\n    traces: {{receivers: [otlp], processors: [batch], exporters: [otlp]}}\n    \
         metrics: {{receivers: [otlp], processors: [filter, resource], exporters: [prometheusremotewrite]}}\n    \
         logs: {{receivers: [otlp], processors: [transform, batch], exporters: [otlphttp, loki]}}\n",
        grpc = store.otlp_grpc,
        http = store.otlp_http,
        url = store.url,
    );
    let config = write(dir.path(), &text);
    let front = Server::start(&["--collector-config", &config]);
    let client = client();
    send(&client, &front, &bodies(1, 2, 1)[1]).await;
    let attributes = json!([{"key": "service.name", "value": {"stringValue": "shop"}}]);
    let record =
        json!({"timeUnixNano": nanos().to_string(), "severityNumber": 17, "body": {"stringValue": "it broke"}});
    let logs =
        json!({"resourceLogs": [{"resource": {"attributes": attributes}, "scopeLogs": [{"logRecords": [record]}]}]});
    let point = |user: Option<&str>| {
        let attributes = user.map(|u| json!([{"key": "user_id", "value": {"stringValue": u}}])).unwrap_or(json!([]));
        json!({"timeUnixNano": nanos().to_string(), "asInt": "7", "attributes": attributes})
    };
    let points = json!([point(None), point(Some("a")), point(Some("b"))]);
    let metrics = json!({"resourceMetrics": [{"resource": {"attributes": attributes}, "scopeMetrics": [{"metrics": [
        {"name": "queue_depth", "gauge": {"dataPoints": points}}]}]}]});
    for (path, body) in [("logs", &logs), ("metrics", &metrics)] {
        let url = format!("http://{}/v1/{path}", front.otlp_http);
        assert_eq!(client.post(url).json(body).send().await.unwrap().status(), 200, "{path}");
    }
    wait_for("the span over gRPC", async || search(&client, &store, "{ status = error }").await.len() == 1).await;
    assert_eq!(search(&client, &front, "{}").await.len(), 0, "it is only passed on");
    let ask = async |path: &str, query: &str| -> Value {
        let url = format!("{}{path}", store.url);
        client.get(url).query(&[("query", query)]).send().await.unwrap().json().await.unwrap()
    };
    wait_for("the metric by remote write, without those of users", async || {
        let found = ask("/api/v1/query", "queue_depth").await;
        let all = found["data"]["result"].as_array().unwrap().clone();
        all.len() == 1 && all[0]["metric"]["via"] == "rw" && all[0]["value"][1] == "7"
    })
    .await;
    wait_for("the record over OTLP in JSON", async || {
        let found = ask("/loki/api/v1/query_range", r#"{service_name="shop"} | severity_text="loud""#).await;
        found["data"]["result"][0]["values"][0][1] == "it broke"
    })
    .await;
    wait_for("the record by Loki's push", async || {
        let found = ask("/loki/api/v1/query_range", r#"{exporter="OTLP", job="shop", level="ERROR"}"#).await;
        let line = found["data"]["result"][0]["values"][0][1].as_str().unwrap_or_default();
        line.contains(r#""body":"it broke""#) && line.contains(r#""severity":"loud""#)
    })
    .await;
}

/// What connectors count goes into weir's own store, to be asked for like any other metric.
const CONNECTORS: &str = "\
receivers: {otlp: {protocols: {grpc: , http: }}}
exporters: {weir: }
connectors:
  spanmetrics: {metrics_flush_interval: 1s, exemplars: {enabled: true}, histogram: {unit: s, explicit: {buckets: [10ms, 1s]}}}
  span_metrics/native: {metrics_flush_interval: 1s, namespace: native, histogram: {exponential: {max_size: 40}}}
  servicegraph: {metrics_flush_interval: 1s}
  count: {spans: {orders: {conditions: ['name == \"pay\"']}}, spanevents: {}, logs: {loud.lines: {conditions: [severity_number > 12]}}}
service:
  pipelines:
    traces: {receivers: [otlp], exporters: [spanmetrics, span_metrics/native, servicegraph, count, weir]}
    logs: {receivers: [otlp], exporters: [count, weir]}
    metrics: {receivers: [spanmetrics, span_metrics/native, servicegraph, count], exporters: [weir]}
";

#[tokio::test(flavor = "multi_thread")]
async fn connectors_count_into_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), CONNECTORS);
    let (good, said) = check(&config);
    assert!(good && said.contains("4 connectors"), "{said}");
    let server = Server::start(&["--collector-config", &config, "--traces.metrics-interval", "1s"]);
    let client = client();
    let service = |name: &str| json!([{"key": "service.name", "value": {"stringValue": name}}]);
    for n in 0..20u64 {
        let start = nanos() - 600_000_000;
        let span = |k: u64, parent: u64, name: &str, kind: u32, ms: u64| {
            json!({"traceId": format!("{:032x}", n + 1), "spanId": format!("{:016x}", 2 * n + k), "name": name, "kind": kind,
                "parentSpanId": if parent == 0 { String::new() } else { format!("{:016x}", 2 * n + parent) },
                "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + ms * 1_000_000).to_string()})
        };
        let group = |name: &str, span: Value| json!({"resource": {"attributes": service(name)}, "scopeSpans": [{"spans": [span]}]});
        let body = json!({"resourceSpans": [group("shop", span(1, 0, "POST pay", 3, 500)), group("bank", span(2, 1, "pay", 2, 400))]});
        send(&client, &server, &body).await;
    }
    let record = json!({"timeUnixNano": nanos().to_string(), "severityNumber": 17, "body": {"stringValue": "no"}});
    let logs = json!({"resourceLogs": [{"resource": {"attributes": service("bank")}, "scopeLogs": [{"logRecords": [record]}]}]});
    let url = format!("http://{}/v1/logs", server.otlp_http);
    assert_eq!(client.post(url).json(&logs).send().await.unwrap().status(), 200);

    let ask = async |query: &str| -> String {
        let url = format!("{}/api/v1/query", server.url);
        let found: Value = client.get(url).query(&[("query", query)]).send().await.unwrap().json().await.unwrap();
        found["data"]["result"][0]["value"][1].as_str().unwrap_or_default().to_owned()
    };
    for (query, want) in [
        (r#"traces_span_metrics_calls_total{job="bank", span_name="pay", span_kind="SPAN_KIND_SERVER"}"#, "20"),
        (r#"traces_span_metrics_duration_seconds_bucket{service_name="shop", le="1"}"#, "20"),
        (r#"histogram_count(native_duration_milliseconds{service_name="shop"})"#, "20"),
        (r#"round(histogram_quantile(0.5, native_duration_milliseconds{service_name="shop"}), 100)"#, "500"),
        (r#"sum(traces_service_graph_request_total{client="shop", server="bank"})"#, "20"),
        (r#"sum(traces_service_graph_request_server_seconds_count{client="shop"})"#, "20"),
        (r#"orders_total{job="bank"}"#, "20"),
        (r#"loud_lines_total{job="bank"}"#, "1"),
        // A counter begins at zero before its first count.
        (r#"min_over_time(orders_total[5m])"#, "0"),
    ] {
        wait_for(&format!("{query} to be {want}"), async || ask(query).await == want).await;
    }
    let url = format!("{}/api/v1/query_exemplars", server.url);
    let asked = [("query", "traces_span_metrics_calls_total"), ("start", "0"), ("end", "4000000000")];
    let found: Value = client.get(url).query(&asked).send().await.unwrap().json().await.unwrap();
    assert!(found["data"][0]["exemplars"][0]["labels"]["trace_id"].is_string(), "{found}");
    let counted =
        metric(&client, &server, "weir_collector_connector_items_total{connector=\"servicegraph\",outcome=\"paired\"}");
    assert_eq!(counted.await, 20.0);
}

const PODS: &str = "\
receivers: {otlp: {protocols: {http: }}}
exporters: {weir: }
processors:
  k8sattributes:
    auth_type: kubeConfig
    wait_for_metadata: true
    filter: {node: n1}
    extract: {metadata: [k8s.pod.name, k8s.deployment.name], labels: [{key: team, from: pod, tag_name: team}, {key: area, from: namespace}]}
    pod_association: [{sources: [{from: resource_attribute, name: k8s.pod.uid}]}, {sources: [{from: connection}]}]
service: {pipelines: {traces: {receivers: [otlp], processors: [k8sattributes], exporters: [weir]}}}
";

/// An API server with a pod at the tests' own address and its namespace, whose watches never end.
async fn api_server() -> String {
    use axum::Json;
    use axum::body::Body;
    use axum::extract::{OriginalUri, Query};
    use axum::response::IntoResponse as _;
    let answer = async |OriginalUri(uri): OriginalUri,
                        Query(query): Query<std::collections::BTreeMap<String, String>>| {
        if query.contains_key("watch") {
            let silence = futures_util::stream::pending::<Result<String, std::io::Error>>();
            return Body::from_stream(silence).into_response();
        }
        let items = match uri.path() {
            "/api/v1/namespaces" => json!([{"metadata": {"name": "shop", "labels": {"area": "eu"}}}]),
            _ => {
                assert_eq!(query["fieldSelector"], "spec.nodeName=n1");
                json!([{"metadata": {"name": "web-7d9f-x", "namespace": "shop", "uid": "u1",
                            "labels": {"team": "core", "pod-template-hash": "7d9f"},
                            "ownerReferences": [{"kind": "ReplicaSet", "name": "web-7d9f", "uid": "r"}]},
                        "spec": {"nodeName": "n1", "containers": [{"name": "app", "image": "web:1"}]},
                        "status": {"podIP": "127.0.0.1"}}])
            }
        };
        Json(json!({"metadata": {"resourceVersion": "5"}, "items": items})).into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await.unwrap() });
    address.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_learn_of_their_pods() {
    let dir = tempfile::tempdir().unwrap();
    let config = write(dir.path(), &PODS.replace("[k8s.pod.name,", "[k8s.namespace.name, k8s.pod.name,"));
    let kubeconfig = dir.path().join("kubeconfig");
    let text = format!(
        "current-context: c\ncontexts: [{{name: c, context: {{cluster: l}}}}]\nclusters: [{{name: l, cluster: {{server: 'http://{}'}}}}]\n",
        api_server().await
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let server = Server::start_with(&["--collector-config", &config], &[("KUBECONFIG", kubeconfig.to_str().unwrap())]);
    let client = client();
    // Until the pods are known, senders are asked to come again.
    let url = format!("http://{}/v1/traces", server.otlp_http);
    let body = bodies(1, 2, 1)[1].clone();
    wait_for("the span to be taken", async || client.post(&url).json(&body).send().await.unwrap().status() == 200)
        .await;
    let of_pod = r#"{ resource.k8s.pod.name = "web-7d9f-x" && resource.k8s.deployment.name = "web" && resource.team = "core"
        && resource.k8s.namespace.labels.area = "eu" }"#;
    wait_for("the span with its pod", async || search(&client, &server, of_pod).await.len() == 1).await;
    let mut of_other = bodies(2, 2, 1)[1].clone();
    let uid = json!({"key": "k8s.pod.uid", "value": {"stringValue": "somebody-else"}});
    of_other["resourceSpans"][0]["resource"]["attributes"].as_array_mut().unwrap().push(uid);
    send(&client, &server, &of_other).await;
    // Not known by its uid, it is known by who sent it.
    wait_for("the other one", async || search(&client, &server, of_pod).await.len() == 2).await;
}
