//! promtool against the real program.

use std::process::Command;

use crate::harness::Server;
use crate::remote_write::{Series, send};

/// Standard output of `promtool`; a missing promtool or an exit code other than 0 fails the test.
#[track_caller]
fn promtool(args: &[&str]) -> String {
    let output = Command::new("promtool").args(args).output().expect("promtool is installed");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "promtool {args:?}: {out}{err}");
    out.into_owned()
}

const START: i64 = 1_700_000_010;

#[tokio::test(flavor = "multi_thread")]
async fn promtool_queries_and_checks() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start(&[]);
    let url = server.url.as_str();
    let series = |job: &str, step: f64| Series {
        labels: vec![("__name__", "http_requests_total".to_owned()), ("job", job.to_owned())],
        samples: (0..40).map(|n| ((START + n * 15) * 1000, n as f64 * step)).collect(),
    };
    send(&reqwest::Client::new(), url, &[series("api", 15.0), series("web", 30.0)]).await;

    let at = (START + 585).to_string();
    let query = |expr: &str| promtool(&["query", "instant", "--time", &at, url, expr]);
    assert_eq!(query("round(sum(rate(http_requests_total[5m])), 0.001)"), format!("{{}} => 3 @[{at}]\n"));
    assert_eq!(
        query("http_requests_total{job=\"web\"}"),
        format!("http_requests_total{{job=\"web\"}} => 1170 @[{at}]\n")
    );
    assert_eq!(query("1 + 1"), format!("scalar: 2 @[{at}]\n"));

    let (start, end) = ((START + 300).to_string(), (START + 330).to_string());
    let args = ["--start", &start, "--end", &end, "--step", "15s"];
    let range = [&["query", "range"], &args[..], &[url, "max(http_requests_total)"]].concat();
    let want: String = (20..23).map(|n| format!("{} @[{}]\n", n * 30, START + n * 15)).collect();
    assert_eq!(promtool(&range), format!("{{}} =>\n{want}"));

    let found = promtool(&["query", "series", "--match", "http_requests_total", "--start", &start, "--end", &end, url]);
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(found.contains("{__name__=\"http_requests_total\", job=\"api\"}"), "{found}");
    assert_eq!(promtool(&["query", "labels", "--start", &start, "--end", &end, url, "job"]), "api\nweb\n");

    // `promtool check healthy|ready` is newer than the promtool of some distributions; this is what it asks.
    for path in ["/-/healthy", "/-/ready"] {
        let response = reqwest::get(format!("{url}{path}")).await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
    }
    if promtool(&["check", "--help"]).contains("check healthy") {
        promtool(&["check", "healthy", "--url", url]);
        promtool(&["check", "ready", "--url", url]);
    }

    let wrong = Command::new("promtool").args(["query", "instant", url, "rate(x)"]).output().unwrap();
    let text = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(!wrong.status.success());
    assert!(text.contains("1:6: parse error: expected type range vector in call to function \"rate\""), "{text}");
}
