use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;
use weir_model::sink::{MetricBatch, MetricSink, SeriesBatch};
use weir_model::{Budget, Exemplar, Labels, MetricKind, MetricMetadata, Sample, SimClock, TenantId, Timestamp};
use weir_tsdb::Head;

use super::{Prometheus, router};

fn labels(pairs: &[(&'static str, &'static str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

fn app() -> Router {
    let budget = Budget::unlimited();
    let store = Head::new(&budget);
    let series = |pairs: &[(&'static str, &'static str)], step: f64| SeriesBatch {
        labels: labels(pairs),
        samples: (0..11).map(|n| Sample::new(n * 60_000, n as f64 * step)).collect(),
        ..SeriesBatch::default()
    };
    let mut web = series(&[("__name__", "http_requests_total"), ("job", "web")], 60.0);
    let exemplar = Exemplar { labels: labels(&[("trace_id", "abc")]), at: Timestamp(60_500), value: 6.0 };
    web.exemplars.push(exemplar);
    let batch = MetricBatch {
        series: vec![
            web,
            series(&[("__name__", "http_requests_total"), ("job", "api")], 30.0),
            series(&[("__name__", "up"), ("job", "api"), ("a.b", "x")], 1.0),
        ],
        metadata: vec![MetricMetadata {
            family: "http_requests".to_owned(),
            kind: MetricKind::Counter,
            help: "Requests.".to_owned(),
            unit: String::new(),
        }],
    };
    store.append(&TenantId::anonymous(), &batch).unwrap();
    let clock = Arc::new(SimClock::at(Timestamp(600_000)));
    router(Arc::new(Prometheus::new(
        clock,
        Arc::new(store),
        budget,
        "http://127.0.0.1:9090".to_owned(),
        super::ShownConfig::default(),
    )))
}

async fn send(request: Request<Body>) -> (StatusCode, String) {
    let response = app().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[track_caller]
fn check(path: &str, status: u16, want: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let got = runtime.block_on(send(Request::get(path).body(Body::empty()).unwrap()));
    assert_eq!(got, (StatusCode::from_u16(status).unwrap(), want.to_owned()), "{path}");
}

fn success(data: &str) -> String {
    format!("{{\"status\":\"success\",\"data\":{data}}}")
}
fn failure(kind: &str, text: &str) -> String {
    format!("{{\"status\":\"error\",\"errorType\":\"{kind}\",\"error\":{}}}", serde_json::Value::from(text))
}

#[test]
fn instant_queries() {
    for (path, data) in [
        ("query=1%2B1&time=4", r#"{"resultType":"scalar","result":[4,"2"]}"#),
        (
            "query=up",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","a.b":"x","job":"api"},"value":[600,"10"]}]}"#,
        ),
        (
            "query=up&time=61.5",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","a.b":"x","job":"api"},"value":[61.500,"1"]}]}"#,
        ),
        (
            "query=up&time=1970-01-01T00:01:00Z",
            r#"{"resultType":"vector","result":[{"metric":{"__name__":"up","a.b":"x","job":"api"},"value":[60,"1"]}]}"#,
        ),
        ("query=nothing", r#"{"resultType":"vector","result":[]}"#),
        ("query=%22text%22", r#"{"resultType":"string","result":[600,"text"]}"#),
        (
            "query=up[2m]",
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","a.b":"x","job":"api"},"values":[[540,"9"],[600,"10"]]}]}"#,
        ),
        (
            "query=sum(rate(http_requests_total[5m]))",
            r#"{"resultType":"vector","result":[{"metric":{},"value":[600,"1.5"]}]}"#,
        ),
        ("query=up&time=700&lookback_delta=1m", r#"{"resultType":"vector","result":[]}"#),
        ("query=nothing&max_source_resolution=auto", r#"{"resultType":"vector","result":[]}"#),
        ("query=nothing&max_source_resolution=5m", r#"{"resultType":"vector","result":[]}"#),
    ] {
        check(&format!("/api/v1/query?{path}"), 200, &success(data));
    }
    check(
        "/api/v1/query?query=http_requests_total&limit=1",
        200,
        r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"http_requests_total","job":"api"},"value":[600,"300"]}]},"warnings":["results truncated due to limit"]}"#,
    );
}

#[test]
fn federation_shows_the_newest_sample_of_each_series() {
    check(
        "/federate?match[]=up&match[]=http_requests_total%7Bjob%3D%22web%22%7D",
        200,
        "# TYPE http_requests_total untyped\nhttp_requests_total{job=\"web\",instance=\"\"} 600 600000\n\
         # TYPE up untyped\nup{a_b=\"x\",job=\"api\",instance=\"\"} 10 600000\n",
    );
    check("/federate", 200, "");
    check(
        "/federate?match[]=%7B%7D",
        400,
        &failure("bad_data", "invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"),
    );
}

#[test]
fn samples_are_counted_per_step_when_asked() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let request = "/api/v1/query_range?query=up&start=0&end=120&step=60&stats=all";
    let (_, body) = runtime.block_on(send(Request::get(request).body(Body::empty()).unwrap()));
    assert!(body.contains("\"totalQueryableSamplesPerStep\":[[0.0,1],[60.0,1],[120.0,1]]"), "{body}");
}

#[test]
fn range_queries() {
    for (path, data) in [
        (
            "query=up&start=0&end=130&step=60",
            r#"{"resultType":"matrix","result":[{"metric":{"__name__":"up","a.b":"x","job":"api"},"values":[[0,"0"],[60,"1"],[120,"2"]]}]}"#,
        ),
        (
            "query=3&start=0&end=60&step=1m",
            r#"{"resultType":"matrix","result":[{"metric":{},"values":[[0,"3"],[60,"3"]]}]}"#,
        ),
        ("query=nothing&start=0&end=60&step=1m", r#"{"resultType":"matrix","result":[]}"#),
    ] {
        check(&format!("/api/v1/query_range?{path}"), 200, &success(data));
    }
}

#[test]
fn refusals_name_the_parameter() {
    let bad = |text: &str| failure("bad_data", text);
    for (path, status, want) in [
        ("query", 400, bad("invalid parameter \"query\": unknown position: parse error: no expression found in input")),
        (
            "query?query=up{",
            400,
            bad("invalid parameter \"query\": 1:4: parse error: unexpected end of input inside braces"),
        ),
        (
            "query?query=up&time=x",
            400,
            bad("invalid parameter \"time\": Invalid time value for 'time': cannot parse \"x\" to a valid timestamp"),
        ),
        ("query?query=up&limit=-1", 400, bad("invalid parameter \"limit\": limit must be non-negative")),
        (
            "query_range?query=up&end=1&step=1",
            400,
            bad("invalid parameter \"start\": cannot parse \"\" to a valid timestamp"),
        ),
        (
            "query_range?query=up&start=2&end=1&step=1",
            400,
            bad("invalid parameter \"end\": end timestamp must not be before start time"),
        ),
        (
            "query_range?query=up&start=0&end=1&step=0",
            400,
            bad(
                "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. Try a positive integer",
            ),
        ),
        (
            "query_range?query=up&start=0&end=1&step=x",
            400,
            bad("invalid parameter \"step\": cannot parse \"x\" to a valid duration"),
        ),
        (
            "query_range?query=up&start=0&end=12000&step=1",
            400,
            bad(
                "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)",
            ),
        ),
        (
            "query_range?query=up[5m]&start=0&end=12&step=1",
            400,
            bad(
                "invalid parameter \"query\": invalid expression type \"range vector\" for range query, must be Scalar or instant Vector",
            ),
        ),
        ("series", 400, bad("no match[] parameter provided")),
        (
            "series?match[]={job=~\".*\"}".replace('"', "%22").as_str(),
            400,
            bad("invalid parameter \"match[]\": match[] must contain at least one non-empty matcher"),
        ),
        (
            "query?query=http_requests_total*on()http_requests_total",
            422,
            failure(
                "execution",
                "found duplicate series for the match group {} on the right hand-side of the operation: [{__name__=\"http_requests_total\", job=\"api\"}, {__name__=\"http_requests_total\", job=\"web\"}];many-to-many matching not allowed: matching labels must be unique on one side",
            ),
        ),
    ] {
        check(&format!("/api/v1/{path}"), status, &want);
    }
}

#[test]
fn series_and_labels() {
    for (path, data) in [
        ("series?match[]=up", r#"[{"__name__":"up","a.b":"x","job":"api"}]"#),
        (
            "series?match[]=up&match[]={job=%22web%22}",
            r#"[{"__name__":"http_requests_total","job":"web"},{"__name__":"up","a.b":"x","job":"api"}]"#,
        ),
        ("series?match[]=up&start=700", "[]"),
        ("labels", r#"["__name__","a.b","job"]"#),
        ("labels?match[]=http_requests_total", r#"["__name__","job"]"#),
        ("label/job/values", r#"["api","web"]"#),
        ("label/__name__/values?match[]={__name__!=%22%22}&limit=40000", r#"["http_requests_total","up"]"#),
        ("label/U__a_2e_b/values", r#"["x"]"#),
        ("label/nothing/values", "[]"),
        ("metadata", r#"{"http_requests":[{"type":"counter","help":"Requests.","unit":""}]}"#),
        ("metadata?metric=other", "{}"),
        (
            "query_exemplars?query=rate(http_requests_total[5m])&start=0&end=600",
            r#"[{"seriesLabels":{"__name__":"http_requests_total","job":"web"},"exemplars":[{"labels":{"trace_id":"abc"},"value":"6","timestamp":60.5}]}]"#,
        ),
        ("query_exemplars?query=test&start=1600000000000&end=1600000000001", "[]"),
    ] {
        check(&format!("/api/v1/{path}"), 200, &success(data));
    }
}

#[test]
fn syntax() {
    for (path, data) in [
        ("format_query?query=foo%2Bbar", r#""foo + bar""#),
        (
            "parse_query?query=-foo[5m]%20offset%201m".replace("-foo", "foo").as_str(),
            r#"{"type":"matrixSelector","name":"foo","range":300000,"offset":60000,"matchers":[{"name":"__name__","value":"foo","type":"="}],"timestamp":null,"startOrEnd":null}"#,
        ),
        (
            "parse_query?query=sum(1)".replace("sum(1)", "abs(vector(1))").as_str(),
            r#"{"type":"call","func":{"name":"abs","argTypes":["vector"],"variadic":0,"returnType":"vector"},"args":[{"type":"call","func":{"name":"vector","argTypes":["scalar"],"variadic":0,"returnType":"vector"},"args":[{"type":"numberLiteral","val":"1"}]}]}"#,
        ),
    ] {
        check(&format!("/api/v1/{path}"), 200, &success(data));
    }
}

#[test]
fn health() {
    check("/-/healthy", 200, "Prometheus Server is Healthy.\n");
    check("/-/ready", 200, "Prometheus Server is Ready.\n");
}

#[tokio::test]
async fn forms_and_urls_both_count_and_tenants_see_their_own() {
    let post = |uri: &str, body: &str, tenant: &str| {
        Request::post(uri)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("x-scope-orgid", tenant)
            .body(Body::from(body.to_owned()))
            .unwrap()
    };
    let (status, body) = send(post("/api/v1/query?time=60", "query=up", "anonymous")).await;
    assert_eq!(status, 200);
    assert!(body.contains("[60,\"1\"]"), "{body}");
    let (_, body) = send(post("/api/v1/query?time=60", "query=up", "other")).await;
    assert_eq!(body, success(r#"{"resultType":"vector","result":[]}"#));
    let (status, body) = send(post("/api/v1/query", "query=up", "a/b")).await;
    assert_eq!(status, 400);
    assert!(body.contains("\"errorType\":\"bad_data\""), "{body}");
    let (_, body) = send(post("/api/v1/query", "query=up&stats=true", "anonymous")).await;
    assert!(body.contains("\"totalQueryableSamples\":1"), "{body}");
}

#[tokio::test]
async fn status_answers_what_grafana_asks() {
    let get = |uri: &str| Request::get(uri).body(Body::empty()).unwrap();
    let (_, body) = send(get("/api/v1/status/buildinfo")).await;
    assert!(body.contains("\"version\":\"3.") && !body.contains("features"), "{body}");
    let (_, body) = send(get("/api/v1/status/runtimeinfo")).await;
    assert!(body.contains("\"startTime\":\"1970-01-01T00:10:00.000Z\""), "{body}");
    let (_, body) = send(get("/api/v1/status/config")).await;
    assert_eq!(body, success(r#"{"yaml":""}"#));
    let (_, body) = send(get("/api/v1/status/flags")).await;
    assert!(body.contains("\"query.lookback-delta\":\"5m\""), "{body}");
}
