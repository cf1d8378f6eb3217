//! Bad bodies and files against the real program: the right status, a text that names the place,
//! nothing lost and nothing crashed.

use std::io::Write;

use reqwest::{Client, Response};
use serde_json::Value;

use crate::harness::{Server, serve_command};

struct Case {
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: Vec<u8>,
    status: u16,
    text: &'static str,
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const PROTOBUF: (&str, &str) = ("Content-Type", "application/x-protobuf");
const GZIP: (&str, &str) = ("Content-Encoding", "gzip");

fn snappy(plain: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(plain).unwrap()
}

/// 100 MiB of zeros, which is over every limit, in 100 KiB.
fn gzip_bomb() -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0; 1 << 20];
    (0..100).for_each(|_| out.write_all(&zeros).unwrap());
    out.finish().unwrap()
}

fn cases() -> Vec<Case> {
    let case = |path, headers, body: &[u8], status, text| Case { path, headers, body: body.to_vec(), status, text };
    let zeros = vec![0; 100 << 20];
    vec![
        // Remote write.
        case(
            "/api/v1/write",
            &[PROTOBUF],
            &snappy(&[0x0a, 0x50, 0x0a]),
            400,
            "remote write 1.0: byte 2: a field of 80 bytes",
        ),
        case("/api/v1/write", &[PROTOBUF], b"\xff\xff\xff\xff\x0f\x00", 413, "larger than"),
        case("/api/v1/write", &[PROTOBUF], &snappy(&zeros), 413, "larger than"),
        case("/api/v1/write", &[PROTOBUF], b"no snappy", 400, "snappy block"),
        case("/api/v1/write", &[("Content-Type", "text/plain")], b"x", 415, "application/x-protobuf"),
        case("/api/v1/write", &[("Content-Type", "application/x-protobuf;proto=foo.Bar")], b"x", 415, "proto=foo.Bar"),
        case("/api/v1/write", &[PROTOBUF, ("Content-Encoding", "br")], b"x", 415, "use snappy or zstd"),
        // Loki.
        case("/loki/api/v1/push", &[JSON], b"{\"streams\":\n[5]}", 400, "line 2 column"),
        case("/loki/api/v1/push", &[JSON], b"{\"streams\":[]}", 422, "no streams"),
        case("/loki/api/v1/push", &[JSON, GZIP], &gzip_bomb(), 413, "larger than"),
        case("/loki/api/v1/push", &[PROTOBUF], &snappy(&[0x0a, 0x05, 1]), 400, "Loki push: byte"),
        case(
            "/loki/api/v1/push",
            &[JSON],
            b"{\"streams\":[{\"stream\":{},\"values\":[[\"1\",\"x\"]]}]}",
            400,
            "at least one label pair",
        ),
        // OTLP.
        case("/v1/traces", &[PROTOBUF], &[0x0a, 0x7f, 1], 400, "OTLP protobuf"),
        case("/v1/traces", &[JSON], b"{\"resourceSpans\": {}}", 400, "expected a sequence"),
        case("/v1/logs", &[JSON], b"{\"resourceLogs\": [", 400, "line 1 column"),
        case("/v1/metrics", &[JSON, GZIP], &gzip_bomb(), 413, "larger than"),
        case("/v1/metrics", &[("Content-Type", "text/csv")], b"x", 415, "text/csv"),
        case("/v1/metrics", &[PROTOBUF, ("Content-Encoding", "br")], b"x", 415, "`br`"),
        case("/v1/traces", &[JSON, GZIP], b"not gzip", 400, "gzip"),
        // A tenant that cannot be.
        case("/v1/traces", &[JSON, ("X-Scope-OrgID", "a/b")], b"{}", 400, "invalid tenant"),
        // More on the wire than is read at all.
        case("/api/v1/write", &[PROTOBUF], &zeros[..40 << 20], 413, "larger than"),
    ]
}

async fn post(client: &Client, url: &str, case: &Case) -> Response {
    let mut request = client.post(format!("{url}{}", case.path)).body(case.body.clone());
    for (name, value) in case.headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_answered_and_good_ones_still_stored() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start(&[]);
    let (url, client) = (server.url.as_str(), Client::new());
    for case in cases() {
        let response = post(&client, url, &case).await;
        let status = response.status().as_u16();
        let text = String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned();
        assert_eq!(status, case.status, "{} {:?}: {text}", case.path, case.headers);
        assert!(text.contains(case.text), "{} {:?}: `{text}` lacks `{}`", case.path, case.headers, case.text);
    }
    for path in ["/api/v1/write", "/v1/traces", "/loki/api/v1/push"] {
        assert_eq!(client.get(format!("{url}{path}")).send().await.unwrap().status(), 405, "GET {path}");
    }

    // A good entry beside a bad one is stored.
    let now = jiff::Timestamp::now().as_nanosecond();
    let body =
        format!(r#"{{"streams":[{{"stream":{{"app":"good"}},"values":[["{now}","kept"],["1","much too old"]]}}]}}"#);
    let case = Case { path: "/loki/api/v1/push", headers: &[JSON], body: body.into_bytes(), status: 400, text: "" };
    let response = post(&client, url, &case).await;
    assert_eq!(response.status(), 400);
    assert!(response.text().await.unwrap().contains("timestamp too old"));
    let found = client.get(format!("{url}/loki/api/v1/query_range")).query(&[("query", "{app=\"good\"}")]).send().await;
    let found: Value = found.unwrap().json().await.unwrap();
    assert_eq!(found["data"]["result"][0]["values"][0][1], "kept", "{found}");
    assert_eq!(found["data"]["result"][0]["values"].as_array().map(Vec::len), Some(1));

    // Whoever sent it finds it on the page.
    let senders: Value = client.get(format!("{url}/api/weir/v1/senders")).send().await.unwrap().json().await.unwrap();
    let write = senders["senders"].as_array().unwrap().iter().find(|s| s["protocol"] == "remote_write").unwrap();
    let reasons: Vec<&str> =
        write["refused"].as_array().unwrap().iter().map(|r| r["reason"].as_str().unwrap()).collect();
    assert!(reasons.contains(&"malformed") && reasons.contains(&"too_large"), "{senders}");
}

#[test]
fn unknown_configuration_is_refused_by_name_and_line() {
    let check = |text: &str, wants: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("prometheus.yml");
        std::fs::write(&path, text).unwrap();
        let output = serve_command(&["--prometheus-config", path.to_str().unwrap()]).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{text}: started");
        for want in wants {
            assert!(error.contains(want), "{text}: {error}");
        }
    };
    check(
        "scrape_configs:\n- job_name: a\n  scrape_intervall: 5s\n",
        &["prometheus.yml", "scrape_intervall", "line 3"],
    );
    check("scrape_configs:\n- job_name: a\n  ec2_sd_configs: []\n", &["ec2_sd_configs", "static_configs"]);
    check("remote_read:\n- url: http://127.0.0.1:1\n", &["remote_read", "line 1"]);
    check("scrape_configs: [\n", &["prometheus.yml", "line"]);
}
