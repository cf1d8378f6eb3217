//! `--redact`: what it takes out is in no answer and in no file.

use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Server, client};
use crate::logs_traces::now_nanos;

const SECRETS: [&str; 5] =
    ["4111111111111111", "jane.doe@example.org", "c2VjcmV0LXRva2Vu", "AKIAIOSFODNN7EXAMPLE", "B-1234"];

/// Names of files below the folder that hold one of the secrets.
fn holding(folder: &Path) -> Vec<String> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            out.extend(holding(&path));
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let holds = |secret: &&str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        out.extend(SECRETS.iter().find(|secret| holds(secret)).map(|secret| format!("{} {secret}", path.display())));
    }
    out
}

async fn push(url: &str) {
    let client = client();
    let now = now_nanos();
    let [card, email, token, key, badge] = SECRETS;
    let lines = [
        format!("paid with {card}"),
        format!("{{\"user\":\"{email}\",\"auth\":\"Bearer {token}\"}}"),
        format!("using {key} of {badge}"),
    ];
    let values: Vec<Value> =
        (0_u64..).zip(&lines).map(|(n, line)| json!([(now + n).to_string(), line, {"mail": email}])).collect();
    let body = json!({"streams": [{"stream": {"app": "shop"}, "values": values}]});
    let answer = client.post(format!("{url}/loki/api/v1/push")).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let span = json!({
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174", "name": "pay", "kind": 1,
        "startTimeUnixNano": now.to_string(), "endTimeUnixNano": (now + 1).to_string(),
        "attributes": [text("db.statement", &format!("select '{email}', '{card}'"))],
        "events": [{"timeUnixNano": now.to_string(), "name": "e", "attributes": [text("key", key)]}],
    });
    let body = json!({"resourceSpans": [{
        "resource": {"attributes": [text("service.name", "shop")]},
        "scopeSpans": [{"spans": [span]}],
    }]});
    let answer = client.post(format!("{url}/v1/traces")).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

async fn get(url: &str, params: &[(&str, &str)]) -> String {
    let answer = client().get(url).query(params).send().await.unwrap();
    assert!(answer.status().is_success());
    answer.text().await.unwrap()
}

#[tokio::test]
async fn what_is_redacted_is_in_no_file_and_in_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let args = [
        "--data-dir",
        data.to_str().unwrap(),
        "--redact",
        "cards,emails,tokens,keys",
        "--redact.pattern",
        "badge=B-\\d{4}",
    ];
    let server = Server::start(&args);
    push(&server.url).await;
    let logs = get(&format!("{}/loki/api/v1/query_range", server.url), &[("query", "{app=\"shop\"}")]).await;
    let trace = get(&format!("{}/api/traces/5b8efff798038103d269b633813fc60c", server.url), &[]).await;
    let metrics = get(&format!("{}/metrics", server.url), &[]).await;
    for (what, answer) in [("logs", &logs), ("trace", &trace)] {
        assert!(!SECRETS.iter().any(|secret| answer.contains(secret)), "{what}: {answer}");
    }
    for detector in ["cards", "emails", "tokens", "keys", "badge"] {
        assert!(logs.contains(&format!("[redacted:{detector}]")), "{detector}: {logs}");
        assert!(metrics.contains(&format!("weir_ingest_redacted_total{{detector=\"{detector}\"}}")), "{detector}");
    }
    assert!(trace.contains("[redacted:cards]") && trace.contains("[redacted:keys]"), "{trace}");
    server.kill();
    assert_eq!(holding(&data), [""; 0]);
}

/// That the search of the test above sees anything at all.
#[tokio::test]
async fn what_is_not_redacted_is_kept_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&["--data-dir", data.to_str().unwrap()]);
    push(&server.url).await;
    let logs = get(&format!("{}/loki/api/v1/query_range", server.url), &[("query", "{app=\"shop\"}")]).await;
    assert!(logs.contains(SECRETS[0]), "{logs}");
    server.kill();
    assert!(!holding(&data).is_empty());
}
