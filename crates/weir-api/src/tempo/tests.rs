use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::{Value, json};
use tower::ServiceExt;
use weir_events::{LogStore, MemSpans};
use weir_model::sink::SpanSink;
use weir_model::{
    AttrValue, Budget, Nanos, Resource, Scope, Span, SpanId, SpanKind, SpanStatus, StatusCode, TenantId, TraceId,
};

use crate::stores::Stores;

const NOW: i64 = 1_700_000_000;
const TRACE: &str = "000000000000000000000000000000ab";

fn span(id: u8, parent: u8, service: &str, name: &str, seconds_ago: i64, ms: i64) -> Span {
    let start = (NOW - seconds_ago) * 1_000_000_000;
    Span {
        trace_id: TraceId::parse_hex("ab").unwrap(),
        span_id: SpanId([id; 8]),
        parent: (parent > 0).then_some(SpanId([parent; 8])),
        name: name.into(),
        kind: SpanKind::Server,
        start: Nanos(start),
        end: Nanos(start + ms * 1_000_000),
        status: SpanStatus::default(),
        attributes: vec![("http.status_code".into(), AttrValue::Int(200 + i64::from(id)))],
        events: Vec::new(),
        links: Vec::new(),
        trace_state: "".into(),
        flags: 0,
        resource: Arc::new(Resource { attributes: vec![("service.name".into(), service.into())] }),
        scope: Arc::new(Scope { name: "lib".into(), ..Scope::default() }),
    }
}

struct Tempo(Router);

impl Tempo {
    fn new() -> Self {
        let spans = Arc::new(MemSpans::new(&Budget::unlimited()));
        let mut failed = span(2, 1, "db", "SELECT", 59, 200);
        failed.status = SpanStatus { code: StatusCode::Error, message: "boom".into() };
        let batch = [Arc::new(span(1, 0, "shop", "GET /", 60, 1500)), Arc::new(failed)];
        spans.append(&TenantId::anonymous(), &batch).unwrap();
        let logs = Arc::new(LogStore::new(&Budget::unlimited()));
        Self(super::router(&Stores::in_memory(logs, spans)))
    }

    async fn bytes(&self, path: &str, params: &[(&str, &str)], accept: &str) -> (u16, Vec<u8>) {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let request = Request::get(format!("{path}?{query}")).header("accept", accept).body(Body::empty()).unwrap();
        let response = self.0.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        (status, axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec())
    }

    async fn json(&self, path: &str, params: &[(&str, &str)]) -> Value {
        let (status, body) = self.bytes(path, params, "application/json").await;
        assert_eq!(status, 200, "{path} {params:?}: {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).unwrap()
    }
}

#[tokio::test]
async fn a_trace_by_id_is_proto_json() {
    let tempo = Tempo::new();
    let v1 = tempo.json("/api/traces/ab", &[]).await;
    let v2 = tempo.json(&format!("/api/v2/traces/{TRACE}"), &[]).await;
    assert_eq!(v1["batches"], v2["trace"]["resourceSpans"]);
    assert_eq!(v1["batches"].as_array().unwrap().len(), 2);
    assert_eq!(
        v1["batches"][1],
        json!({"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "db"}}]},
            "scopeSpans": [{"scope": {"name": "lib"}, "spans": [{
                "traceId": "AAAAAAAAAAAAAAAAAAAAqw==", "spanId": "AgICAgICAgI=", "parentSpanId": "AQEBAQEBAQE=",
                "name": "SELECT", "kind": "SPAN_KIND_SERVER",
                "startTimeUnixNano": "1699999941000000000", "endTimeUnixNano": "1699999941200000000",
                "attributes": [{"key": "http.status_code", "value": {"intValue": "202"}}],
                "status": {"code": "STATUS_CODE_ERROR", "message": "boom"}}]}]})
    );
}

#[tokio::test]
async fn protobuf_is_given_when_asked_for() {
    let tempo = Tempo::new();
    let (status, body) = tempo.bytes("/api/traces/ab", &[], "application/protobuf").await;
    assert_eq!(status, 200);
    assert_eq!(TracesData::decode(body.as_slice()).unwrap().resource_spans.len(), 2);
    let (_, body) = tempo.bytes("/api/v2/traces/ab", &[], "application/protobuf").await;
    // Field 1, length-delimited: the trace inside TraceByIDResponse.
    assert_eq!(body[0], 0x0a);
}

#[tokio::test]
async fn unknown_and_malformed_ids() {
    let tempo = Tempo::new();
    assert_eq!(tempo.bytes("/api/traces/ff", &[], "*/*").await, (404, Vec::new()));
    assert_eq!(tempo.json("/api/v2/traces/ff", &[]).await["trace"], json!({"resourceSpans": []}));
    for path in ["/api/traces/xyz", "/api/v2/traces/0123456789abcdef0123456789abcdef0"] {
        assert_eq!(tempo.bytes(path, &[], "*/*").await.0, 400, "{path}");
    }
}

#[tokio::test]
async fn searches_answer_traces() {
    let tempo = Tempo::new();
    let body = tempo.json("/api/search", &[("q", "{ status = error && span.http.status_code > 0 }")]).await;
    let want = json!({"spanID": "0202020202020202", "name": "SELECT", "startTimeUnixNano": "1699999941000000000",
        "durationNanos": "200000000", "attributes": [
            {"key": "status", "value": {"stringValue": "error"}},
            {"key": "http.status_code", "value": {"intValue": "202"}}]});
    assert_eq!(
        body["traces"],
        json!([{"traceID": TRACE, "rootServiceName": "shop", "rootTraceName": "GET /",
            "startTimeUnixNano": "1699999940000000000", "durationMs": 1500,
            "spanSet": {"spans": [want], "matched": 1}, "spanSets": [{"spans": [want], "matched": 1}],
            "serviceStats": {"db": {"spanCount": 1, "errorCount": 1}, "shop": {"spanCount": 1}}}])
    );
    let count = async |params: &[(&str, &str)], want: usize| {
        let body = tempo.json("/api/search", params).await;
        assert_eq!(body["traces"].as_array().unwrap().len(), want, "{params:?}");
    };
    count(&[], 1).await;
    count(&[("tags", "service.name=sho")], 1).await;
    count(&[("tags", "service.name=shop http.status_code=202")], 1).await;
    count(&[("tags", "http.status_code=500")], 0).await;
    count(&[("tags", "name=\"GET /\"")], 1).await;
    count(&[("minDuration", "1s"), ("maxDuration", "2s")], 1).await;
    count(&[("minDuration", "2s")], 0).await;
    count(&[("start", "1699999930"), ("end", "1699999950")], 1).await;
    count(&[("start", "1699999950"), ("end", "1699999960")], 0).await;
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let tempo = Tempo::new();
    let check = async |path: &str, params: &[(&str, &str)], want: &str| {
        let (status, body) = tempo.bytes(path, params, "*/*").await;
        let body = String::from_utf8_lossy(&body);
        assert_eq!(status, 400, "{path} {params:?}: {body}");
        assert!(body.contains(want), "{path} {params:?}: {body}");
    };
    check("/api/search", &[("q", "{ duration > }")], "parse error at line 1, col 14").await;
    check("/api/search", &[("q", "{}"), ("tags", "a=b")], "can't specify tags and q").await;
    check("/api/search", &[("limit", "0")], "positive").await;
    check("/api/search", &[("start", "20"), ("end", "10")], "before end").await;
    check("/api/search", &[("start", "20")], "non-zero values").await;
    check("/api/search", &[("start", "1600000000"), ("end", "1700000000")], "exceeds 168h").await;
    check("/api/search", &[("spss", "101")], "spss").await;
    check("/api/search", &[("tags", "a=\"b")], "invalid tags").await;
    check("/api/search", &[("minDuration", "x")], "minDuration").await;
    check("/api/v2/search/tags", &[("scope", "what")], "invalid scope").await;
    check("/api/v2/search/tag/what/values", &[], "unexpected `what`").await;
    check("/api/metrics/query_range", &[("q", "{}")], "not a metrics query").await;
    check("/api/metrics/query_range", &[("q", "{} | rate()"), ("since", "25h")], "24h").await;
    check("/api/metrics/query_range", &[("q", "{} | rate()"), ("step", "1ms")], "intervals").await;
}

#[tokio::test]
async fn tags_and_values() {
    let tempo = Tempo::new();
    let tags = tempo.json("/api/v2/search/tags", &[("scope", "resource"), ("limit", "5000")]).await;
    assert_eq!(tags["scopes"], json!([{"name": "resource", "tags": ["service.name"]}]));
    let tags = tempo.json("/api/v2/search/tags", &[]).await;
    let scopes: Vec<&str> = tags["scopes"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap()).collect();
    assert_eq!(scopes, ["resource", "span", "intrinsic"]);
    let tags = tempo.json("/api/search/tags", &[("scope", "span")]).await;
    assert_eq!(tags["tagNames"], json!(["http.status_code"]));
    let values = async |path: &str, q: &str, want: Value| {
        assert_eq!(tempo.json(path, &[("q", q)]).await["tagValues"], want, "{path} {q}");
    };
    let text = |v: &str| json!({"type": "string", "value": v});
    let service = "/api/v2/search/tag/resource.service.name/values";
    values(service, "", json!([text("db"), text("shop")])).await;
    values("/api/v2/search/tag/resource%252Eservice.name/values", "", json!([text("db"), text("shop")])).await;
    // Half-typed: the readable condition counts.
    values(service, "{ status = error && span.x = }", json!([text("db"), text("shop")])).await;
    values(service, "{ name = \"none\" && span.x = }", json!([])).await;
    values(
        "/api/v2/search/tag/.http.status_code/values",
        "",
        json!([
        {"type": "int", "value": "201"}, {"type": "int", "value": "202"}]),
    )
    .await;
    values(
        "/api/v2/search/tag/duration/values",
        "",
        json!([
        {"type": "duration", "value": "1.5s"}, {"type": "duration", "value": "200ms"}]),
    )
    .await;
    values("/api/v2/search/tag/status/values", "", json!([
        {"type": "keyword", "value": "error"}, {"type": "keyword", "value": "ok"}, {"type": "keyword", "value": "unset"}])).await;
    values("/api/search/tag/service.name/values", "", json!(["db", "shop"])).await;
    values("/api/search/tag/name/values", "", json!(["GET /", "SELECT"])).await;
}

#[tokio::test]
async fn metrics_from_spans() {
    let tempo = Tempo::new();
    let params = [
        ("q", "{} | count_over_time() by (resource.service.name)"),
        ("start", "1699999930"),
        ("end", "1699999950"),
        ("step", "10s"),
        ("exemplars", "1"),
    ];
    let body = tempo.json("/api/metrics/query_range", &params).await;
    let series = body["series"].as_array().unwrap();
    assert_eq!(series.len(), 2);
    assert_eq!(series[0]["labels"], json!([{"key": "resource.service.name", "value": {"stringValue": "db"}}]));
    assert_eq!(
        series[0]["samples"],
        json!([{"timestampMs": "1699999930000"}, {"timestampMs": "1699999940000"},
            {"timestampMs": "1699999950000", "value": 1.0}])
    );
    assert_eq!(series[1]["exemplars"][0]["labels"][0]["value"]["stringValue"], TRACE);
    assert_eq!(series[1]["exemplars"][0]["value"], 1.5);
    let body = tempo.json("/api/metrics/query", &[("q", "{} | max_over_time(duration)")]).await;
    assert_eq!(
        body["series"],
        json!([{"labels": [{"key": "__name__", "value": {"stringValue": "max_over_time"}}], "value": 1.5}])
    );
    let (_, echo) = tempo.bytes("/api/echo", &[], "*/*").await;
    assert_eq!(echo, b"echo");
    assert!(tempo.json("/api/status/buildinfo", &[]).await["version"].is_string());
}
