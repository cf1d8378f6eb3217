//! Prometheus' Python client pushes as to the Pushgateway; what it pushed stays until it is deleted.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Server, client};
use crate::otel_python::python;

fn run(url: &str, action: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/push.py");
    let output = Command::new(python()).arg(script).args([url, action]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{action}: {out}{err}");
}

/// `name{what tells it apart} value` of every series of the job, sorted, without times.
async fn series(url: &str) -> Vec<String> {
    let params = [("query", "{job=\"nightly\", __name__!~\".*_created\"}")];
    let answer = client().get(format!("{url}/api/v1/query")).query(&params).send().await.unwrap();
    let answer: Value = answer.json().await.unwrap();
    let mut out = Vec::new();
    for row in answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{answer}")) {
        let label = |name: &str| row["metric"][name].as_str().unwrap_or_default().to_owned();
        assert_eq!(label("table"), "shop/orders", "{row}");
        let name = label("__name__");
        let value = if name == "push_time_seconds" { "now" } else { row["value"][1].as_str().unwrap() };
        out.push(format!("{name}{{{}{}}} {value}", label("kind"), label("le")));
    }
    out.sort();
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_groups_stay_until_they_are_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--data-dir", dir.path().to_str().unwrap()];
    let server = Server::start(&args);
    run(&server.url, "push");
    let pushed = [
        "job_last_success_unixtime{} 1234.5",
        "job_rows_total{new} 7",
        "job_took_seconds_bucket{+Inf} 1",
        "job_took_seconds_bucket{1.0} 0",
        "job_took_seconds_bucket{10.0} 1",
        "job_took_seconds_count{} 1",
        "job_took_seconds_sum{} 3",
        "push_failure_time_seconds{} 0",
        "push_time_seconds{} now",
    ];
    assert_eq!(series(&server.url).await, pushed);

    // The family is replaced, the others stay.
    run(&server.url, "add");
    let mut added = pushed;
    added[1] = "job_rows_total{late} 2";
    assert_eq!(series(&server.url).await, added);

    // A bad push keeps nothing and is told.
    let bad = client().post(format!("{}/metrics/job/nightly/table@base64/c2hvcC9vcmRlcnM", server.url));
    let answer = bad.body("job_rows_total 1 1700000000000\n").send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert!(answer.text().await.unwrap().contains("line 1: pushed metrics must not have timestamps"));

    // It outlives the process, and is written on: the failure is told only by what is written again.
    server.kill();
    let server = Server::start(&args);
    let stop = Instant::now() + Duration::from_secs(60);
    loop {
        let found = series(&server.url).await;
        if found.len() == added.len() && !found.contains(&"push_failure_time_seconds{} 0".to_owned()) {
            break;
        }
        assert!(Instant::now() < stop, "{found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    run(&server.url, "delete");
    assert_eq!(series(&server.url).await, [""; 0]);
}
