use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use weir_model::sink::{LogSink, StreamBatch};
use weir_model::{Labels, LogEntry, Nanos, TenantId};

use tower::ServiceExt;
use weir_events::{LogStore, MemSpans};
use weir_model::Budget;

use crate::stores::Stores;

const NOW: i64 = 1_700_000_000;

fn entry(seconds_ago: i64, line: &str, metadata: &[(&str, &str)]) -> LogEntry {
    LogEntry {
        at: Nanos((NOW - seconds_ago) * 1_000_000_000),
        line: line.into(),
        metadata: metadata.iter().map(|(n, v)| (Arc::from(*n), Arc::from(*v))).collect(),
    }
}

struct Loki {
    router: Router,
}

impl Loki {
    fn new() -> Self {
        let logs = Arc::new(LogStore::new(&Budget::unlimited()));
        let batch = |labels: &[(&'static str, &'static str)], entries| StreamBatch {
            labels: Labels::from_pairs(labels.iter().copied()),
            entries,
        };
        let streams = [
            batch(
                &[("app", "a"), ("env", "prod")],
                vec![
                    entry(50, r#"{"level":"info","ms":10}"#, &[("trace_id", "t1")]),
                    entry(40, r#"{"level":"error","ms":900}"#, &[]),
                    entry(30, "not json", &[]),
                ],
            ),
            batch(&[("app", "b")], vec![entry(20, "level=warn took=1.5s", &[])]),
        ];
        logs.append(&TenantId::anonymous(), &streams).unwrap();
        let spans = Arc::new(MemSpans::new(&Budget::unlimited()));
        Self { router: super::router(&Stores::in_memory(logs, spans)) }
    }

    async fn get(&self, path: &str, params: &[(&str, &str)], headers: &[(&str, &str)]) -> (u16, String) {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let mut request = Request::get(format!("{path}?{query}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[track_caller]
    fn json(answer: (u16, String)) -> Value {
        assert_eq!(answer.0, 200, "{}", answer.1);
        serde_json::from_str(&answer.1).unwrap()
    }
}

const CATEGORIES: (&str, &str) = ("X-Loki-Response-Encoding-Flags", "categorize-labels");

#[tokio::test]
async fn log_queries_answer_streams() {
    let loki = Loki::new();
    let query = ("query", r#"{app="a"} | json | ms > 5 | __error__="" | drop ms"#);
    let answer = loki.get("/loki/api/v1/query_range", &[query], &[]).await;
    let body = Loki::json(answer);
    assert_eq!(body["data"]["resultType"], "streams");
    assert_eq!(body["data"]["encodingFlags"], Value::Null);
    assert_eq!(
        body["data"]["result"],
        json!([
            {"stream": {"app": "a", "env": "prod", "level": "error"},
             "values": [["1699999960000000000", r#"{"level":"error","ms":900}"#]]},
            {"stream": {"app": "a", "env": "prod", "level": "info", "trace_id": "t1"},
             "values": [["1699999950000000000", r#"{"level":"info","ms":10}"#]]},
        ])
    );
    assert_eq!(body["data"]["stats"]["summary"]["totalLinesProcessed"], 3);
    assert!(body["data"]["stats"]["querier"]["store"]["chunk"]["headChunkBytes"].is_number());
}

#[tokio::test]
async fn categories_keep_index_labels_apart() {
    let loki = Loki::new();
    let query = ("query", r#"{app="a"} | json | level="info""#);
    let body = Loki::json(loki.get("/loki/api/v1/query_range", &[query], &[CATEGORIES]).await);
    assert_eq!(body["data"]["encodingFlags"], json!(["categorize-labels"]));
    assert_eq!(
        body["data"]["result"],
        json!([{"stream": {"app": "a", "env": "prod"}, "values": [[
            "1699999950000000000", r#"{"level":"info","ms":10}"#,
            {"structuredMetadata": {"trace_id": "t1"}, "parsed": {"level": "info", "ms": "10"}}]]}])
    );
    let bare = Loki::json(loki.get("/loki/api/v1/query_range", &[("query", r#"{app="b"}"#)], &[CATEGORIES]).await);
    assert_eq!(bare["data"]["result"][0]["values"][0][2], json!({}));
}

#[tokio::test]
async fn limit_and_direction() {
    let loki = Loki::new();
    for (direction, want) in [("backward", "1699999970000000000"), ("FORWARD", "1699999950000000000")] {
        let params = [("query", r#"{app="a"}"#), ("limit", "1"), ("direction", direction)];
        let body = Loki::json(loki.get("/loki/api/v1/query_range", &params, &[]).await);
        assert_eq!(body["data"]["result"][0]["values"][0][0], want, "{direction}");
        assert_eq!(body["data"]["result"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn metric_queries_answer_matrix_and_vector() {
    let loki = Loki::new();
    let params = [
        ("query", r#"sum by (app) (count_over_time({app=~".+"}[30s]))"#),
        ("start", "1699999960"),
        ("end", "1699999990"),
        ("step", "15000ms"),
    ];
    let body = Loki::json(loki.get("/loki/api/v1/query_range", &params, &[]).await);
    assert_eq!(
        body["data"]["result"],
        json!([
            {"metric": {"app": "a"}, "values": [[1_699_999_960, "2"], [1_699_999_975, "3"], [1_699_999_990, "1"]]},
            {"metric": {"app": "b"}, "values": [[1_699_999_990, "1"]]},
        ])
    );
    let params = [("query", "vector(1)+vector(1)"), ("time", "4000000000")];
    let body = Loki::json(loki.get("/loki/api/v1/query", &params, &[]).await);
    assert_eq!(body["data"]["resultType"], "vector");
    assert_eq!(body["data"]["result"], json!([{"metric": {}, "value": [4_000_000_000_i64, "2"]}]));
    let body = Loki::json(loki.get("/loki/api/v1/query", &[("query", "1.5+1")], &[]).await);
    assert_eq!(body["data"]["result"], json!([NOW, "2.5"]));
    let body =
        Loki::json(loki.get("/loki/api/v1/query_range", &[("query", "5"), ("since", "2s"), ("step", "1")], &[]).await);
    assert_eq!(body["data"]["result"], json!([{"metric": {}, "values": [[NOW - 2, "5"], [NOW - 1, "5"], [NOW, "5"]]}]));
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let loki = Loki::new();
    let check = async |path: &str, params: &[(&str, &str)], want: &str| {
        let (status, body) = loki.get(path, params, &[]).await;
        assert_eq!(status, 400, "{path} {params:?}: {body}");
        assert!(body.contains(want), "{path} {params:?}: {body}");
    };
    let range = "/loki/api/v1/query_range";
    check(range, &[("query", "{app=\"x\"} |= 5")], "parse error at line 1, col 14: syntax error").await;
    check(range, &[], "`query` is missing").await;
    check(range, &[("query", "{a=\"b\"}"), ("start", "20"), ("end", "10")], "must not be before").await;
    check(range, &[("query", "{a=\"b\"}"), ("start", "x")], "could not parse 'start'").await;
    check(range, &[("query", "{a=\"b\"}"), ("limit", "5001")], "(5001 > 5000)").await;
    check(range, &[("query", "{a=\"b\"}"), ("limit", "0")], "positive").await;
    check(range, &[("query", "{a=\"b\"}"), ("direction", "up")], "invalid direction").await;
    check(range, &[("query", "vector(1)"), ("step", "0")], "zero or negative").await;
    check(range, &[("query", "vector(1)"), ("step", "1ms")], "11,000 points").await;
    check(range, &[("query", "{a=\"b\"}"), ("since", "800h")], "exceeds the limit").await;
    check("/loki/api/v1/query", &[("query", "{a=\"b\"}")], "not supported as an instant query").await;
    check(range, &[("query", r#"count_over_time({app="a"} | json [1m])"#)], "pipeline error: 'JSONParserErr'").await;
    check("/loki/api/v1/tail", &[("query", "{")], "parse error").await;
    check("/loki/api/v1/tail", &[("query", "{a=\"b\"}"), ("delay_for", "6")], "delay_for can't be greater than 5")
        .await;
    check("/loki/api/v1/format_query", &[("query", "{")], "invalid-query").await;
}

#[tokio::test]
async fn metadata_tells_what_there_is() {
    let loki = Loki::new();
    let check = async |path: &str, params: &[(&str, &str)], want: Value| {
        let body = Loki::json(loki.get(path, params, &[]).await);
        assert_eq!(body, want, "{path} {params:?}");
    };
    let success = |data: Value| json!({"status": "success", "data": data});
    check("/loki/api/v1/labels", &[], success(json!(["app", "env"]))).await;
    check("/loki/api/v1/label", &[("query", r#"{app="b"}"#)], success(json!(["app"]))).await;
    check("/loki/api/v1/label/app/values", &[], success(json!(["a", "b"]))).await;
    check("/api/prom/label/none/values", &[], success(json!([]))).await;
    check("/loki/api/v1/series", &[("match[]", r#"{app="b"}"#)], success(json!([{"app": "b"}]))).await;
    check("/loki/api/v1/series", &[], success(json!([{"app": "a", "env": "prod"}, {"app": "b"}]))).await;
    check(
        "/loki/api/v1/index/stats",
        &[("query", r#"{app="b"}"#)],
        json!({"streams": 1, "chunks": 1, "bytes": 20, "entries": 1}),
    )
    .await;
    let volume = |result: Value| success(json!({"resultType": "vector", "result": result}));
    check(
        "/loki/api/v1/index/volume",
        &[("query", r#"{app=~".+"}"#)],
        volume(json!([{"metric": {"app": "a"}, "value": [NOW, "58"]}, {"metric": {"app": "b"}, "value": [NOW, "20"]}])),
    )
    .await;
    check(
        "/loki/api/v1/index/volume",
        &[("query", r#"{app="b"}"#), ("aggregateBy", "labels")],
        volume(json!([{"metric": {"app": ""}, "value": [NOW, "20"]}])),
    )
    .await;
    check("/loki/api/v1/index/volume", &[("query", r#"{app="zz"}"#)], volume(json!([]))).await;
    check(
        "/loki/api/v1/index/volume_range",
        &[("query", r#"{app="b"}"#), ("since", "30s"), ("step", "15")],
        success(json!({"resultType": "matrix", "result": [{"metric": {"app": "b"}, "values": [[NOW - 15, "20"]]}]})),
    )
    .await;
    check(
        "/loki/api/v1/detected_labels",
        &[],
        json!({"detectedLabels": [{"label": "app", "cardinality": 2}, {"label": "env", "cardinality": 1}]}),
    )
    .await;
    check(
        "/loki/api/v1/detected_fields",
        &[("query", r#"{app="b"}"#)],
        json!({"limit": 1000, "fields": [
        {"label": "level", "type": "string", "cardinality": 1, "parsers": ["logfmt"]},
        {"label": "took", "type": "duration", "cardinality": 1, "parsers": ["logfmt"]}]}),
    )
    .await;
    check(
        "/loki/api/v1/detected_field/trace_id/values",
        &[("query", r#"{app="a"}"#)],
        json!({"values": ["t1"], "limit": 1000}),
    )
    .await;
    check("/loki/api/v1/format_query", &[("query", "{ app = `a` }|=`x`")], success(json!("{app=\"a\"} |= \"x\"")))
        .await;
}

#[tokio::test]
async fn fields_name_their_path() {
    let loki = Loki::new();
    let body = Loki::json(loki.get("/loki/api/v1/detected_fields", &[("query", r#"{app="a"} |= "ms""#)], &[]).await);
    assert_eq!(
        body["fields"],
        json!([
            {"label": "level", "type": "string", "cardinality": 2, "parsers": ["json"], "jsonPath": ["level"]},
            {"label": "ms", "type": "int", "cardinality": 2, "parsers": ["json"], "jsonPath": ["ms"]},
            {"label": "trace_id", "type": "string", "cardinality": 1, "parsers": null},
        ])
    );
}

#[tokio::test]
async fn patterns_count_lines_over_time() {
    let loki = Loki::new();
    let params = [("query", r#"{app="a"}"#), ("step", "60"), ("start", "1699999920"), ("end", "1700000000")];
    let body = Loki::json(loki.get("/loki/api/v1/patterns", &params, &[]).await);
    assert_eq!(
        body["data"],
        json!([
            {"pattern": r#"{"level":"<_>","ms":<_>}"#, "level": "unknown", "samples": [[1_699_999_920, 2]]},
            {"pattern": "not json", "level": "unknown", "samples": [[1_699_999_920, 1]]},
        ])
    );
}

impl Loki {
    async fn send(&self, method: &str, path: &str, params: &[(&str, &str)]) -> (u16, String) {
        let query: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(params).finish();
        let request = Request::builder().method(method).uri(format!("{path}?{query}")).body(Body::empty()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn lines(&self, query: &str) -> usize {
        let body = Self::json(self.get("/loki/api/v1/query_range", &[("query", query)], &[]).await);
        let streams = body["data"]["result"].as_array().unwrap();
        streams.iter().map(|s| s["values"].as_array().unwrap().len()).sum()
    }
}

#[tokio::test]
async fn deleted_lines_are_gone_at_once_and_come_back_when_it_is_cancelled() {
    let loki = Loki::new();
    let path = "/loki/api/v1/delete";
    let all = r#"{app=~".+"}"#;
    assert_eq!(loki.lines(all).await, 4);
    let request = [("query", r#"{app="a"} | json | level="error""#), ("start", "1699999000"), ("end", "1700000000")];
    assert_eq!(loki.send("POST", path, &request).await, (204, String::new()));
    assert_eq!(loki.lines(all).await, 3);
    let counted = [("query", r#"sum(count_over_time({app="a"}[5m]))"#)];
    let body = Loki::json(loki.get("/loki/api/v1/query", &counted, &[]).await);
    assert_eq!(body["data"]["result"][0]["value"][1], "2");

    let whole = [("query", r#"{app="b"}"#), ("start", "0")];
    assert_eq!(loki.send("PUT", path, &whole).await.0, 204);
    assert_eq!(loki.lines(all).await, 2);
    let values = Loki::json(loki.get("/loki/api/v1/label/app/values", &[], &[]).await);
    assert_eq!(values["data"], json!(["a"]));

    let listed = Loki::json(loki.send("GET", path, &[]).await);
    assert_eq!(listed[0]["query"], r#"{app="a"} | json | level="error""#);
    assert_eq!((&listed[0]["start_time"], &listed[0]["created_at"]), (&json!(1_699_999_000), &json!(NOW)));
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|d| d["request_id"].as_str().unwrap()).collect();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(loki.send("DELETE", path, &[("request_id", ids[0]), ("force", "true")]).await.0, 204);
    assert_eq!(loki.lines(all).await, 3);
    assert_eq!(loki.send("DELETE", path, &[("request_id", ids[0])]).await.0, 404);

    for (params, want) in [
        (vec![("start", "1")], "query not set"),
        (vec![("query", "{a=\"b\"}")], "start time not set"),
        (vec![("query", "{a=\"b\"}"), ("start", "x")], "invalid start time"),
        (vec![("query", "{a="), ("start", "1")], "parse error at line 1"),
        (vec![("query", "{a=\"b\"}"), ("start", "1"), ("end", "1800000000")], "future"),
        (vec![("query", "{a=\"b\"} | drop a"), ("start", "1")], "only a selector"),
    ] {
        let (status, body) = loki.send("POST", path, &params).await;
        assert!(status == 400 && body.contains(want), "{params:?}: {status} {body}");
    }
}
