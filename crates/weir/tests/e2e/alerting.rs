//! Rules and alerts from files to the real `amtool`, and the files read again while weir runs.

use std::path::Path;
use std::process::Command;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::harness::Server;

fn write_rules(dir: &Path, alert: &str) {
    let text = format!("groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: {alert}\n    expr: vector(1) > 0\n");
    std::fs::write(dir.join("rules.yml"), text).unwrap();
}

async fn alert_names(client: &Client, url: &str) -> Vec<String> {
    let rules: Value = client.get(format!("{url}/api/v1/rules")).send().await.unwrap().json().await.unwrap();
    let groups = rules["data"]["groups"].as_array().unwrap();
    let rules = groups.iter().flat_map(|g| g["rules"].as_array().unwrap());
    rules.map(|r| r["name"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn files_are_read_again_on_request_and_a_bad_one_changes_nothing() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    write_rules(dir.path(), "First");
    let config = dir.path().join("prometheus.yml");
    std::fs::write(&config, "rule_files: ['rules.yml']\n").unwrap();
    let server = Server::start(&["--prometheus-config", config.to_str().unwrap()]);
    let client = Client::new();
    let reload = async || client.post(format!("{}/-/reload", server.url)).send().await.unwrap();
    assert_eq!(alert_names(&client, &server.url).await, ["First"]);

    write_rules(dir.path(), "Second");
    assert_eq!(reload().await.status(), StatusCode::OK);
    assert_eq!(alert_names(&client, &server.url).await, ["Second"]);

    std::fs::write(dir.path().join("rules.yml"), "groups:\n- name: g\n  rulez: []\n").unwrap();
    let refused = reload().await;
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let text = refused.text().await.unwrap();
    assert!(text.contains("rulez") && text.contains("rules.yml"), "{text}");
    assert_eq!(alert_names(&client, &server.url).await, ["Second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn amtool_sees_alerts_and_silences_them() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = Server::start(&[]);
    let client = Client::new();
    let alerts = json!([{"labels": {"alertname": "DiskFull", "host": "db-1"}, "annotations": {"summary": "99 %"}}]);
    let posted = client.post(format!("{}/api/v2/alerts", server.url)).json(&alerts).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::OK);
    let amtool = |args: &[&str]| {
        let mut command = Command::new("amtool");
        command.args(args).arg(format!("--alertmanager.url={}", server.url));
        let output = command.output().unwrap_or_else(|e| panic!("cannot run amtool: {e}; run `make setup`"));
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let found: Value = serde_json::from_str(&amtool(&["alert", "query", "DiskFull", "--output=json"])).unwrap();
    assert_eq!(found[0]["labels"], json!({"alertname": "DiskFull", "host": "db-1"}));

    let silence = amtool(&["silence", "add", "host=db-1", "--comment=disk is on its way", "--author=ops"]);
    let listed = amtool(&["silence", "query"]);
    assert!(listed.contains(silence.trim()), "{listed}");
    let silenced: Value = serde_json::from_str(&amtool(&["alert", "query", "--silenced", "--output=json"])).unwrap();
    assert_eq!(silenced[0]["status"]["silencedBy"], json!([silence.trim()]));
}

/// A receiver that answers 200 and keeps what it is sent.
pub async fn webhook() -> (String, std::sync::Arc<std::sync::Mutex<Vec<Value>>>) {
    use axum::routing::post;
    let got = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = got.clone();
    let take = move |axum::Json(body): axum::Json<Value>| async move { kept.lock().unwrap().push(body) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/", post(take))).await });
    (url, got)
}

pub async fn wait_for(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{what} within 30 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_silences_and_pages_nobody_twice() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (url, got) = webhook().await;
    write_rules(dir.path(), "Always");
    std::fs::write(path("prometheus.yml"), "rule_files: ['rules.yml']\n").unwrap();
    let alertmanager = format!(
        "route: {{receiver: r, group_by: [alertname], group_wait: 0s, group_interval: 1s}}\n\
         receivers: [{{name: r, webhook_configs: [{{url: '{url}'}}]}}]\n"
    );
    std::fs::write(path("alertmanager.yml"), alertmanager).unwrap();
    let (prometheus, alertmanager, data) = (path("prometheus.yml"), path("alertmanager.yml"), path("data"));
    let args = ["--prometheus-config", &prometheus, "--alertmanager-config", &alertmanager, "--data-dir", &data];
    let client = Client::new();
    let server = Server::start(&args);
    wait_for("a page", async || !got.lock().unwrap().is_empty()).await;
    let silence = json!({
        "matchers": [{"name": "host", "value": "db.*", "isRegex": true, "isEqual": true}],
        "startsAt": "2026-01-01T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "me", "comment": "c",
    });
    let posted = client.post(format!("{}/api/v2/silences", server.url)).json(&silence).send().await.unwrap();
    let id = posted.json::<Value>().await.unwrap()["silenceID"].clone();
    // The log of what was sent is written after the answer; the list shows it when it is.
    wait_for("the notification in the list", async || {
        let answer = client.get(format!("{}/api/weir/v1/notifications", server.url)).send().await.unwrap();
        !answer.json::<Value>().await.unwrap()["notifications"].as_array().unwrap().is_empty()
    })
    .await;
    // Ends the process with SIGKILL.
    drop(server);

    let server = Server::start(&args);
    let silences: Value =
        client.get(format!("{}/api/v2/silences", server.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!((silences.as_array().unwrap().len(), &silences[0]["id"]), (1, &id));
    let rule = async || {
        let answer = client.get(format!("{}/api/v1/rules", server.url)).send().await.unwrap();
        answer.json::<Value>().await.unwrap()["data"]["groups"][0]["rules"][0].clone()
    };
    let mut evaluations = std::collections::BTreeSet::new();
    wait_for("four evaluations", async || {
        let rule = rule().await;
        evaluations.insert(rule["lastEvaluation"].to_string());
        evaluations.len() > 4 && rule["state"] == "firing"
    })
    .await;
    assert_eq!(got.lock().unwrap().len(), 1, "paged again: {:?}", got.lock().unwrap());
    // The page is still known: its end is told.
    write_rules(dir.path(), "Other");
    client.post(format!("{}/-/reload", server.url)).send().await.unwrap();
    let resolved = |body: &Value| body["status"] == "resolved" && body["groupLabels"]["alertname"] == "Always";
    wait_for("the resolve", async || got.lock().unwrap().iter().any(resolved)).await;
}

/// `weir check`, with promtool and amtool as the judges of what is right.
#[test]
fn files_are_checked_as_upstreams_tools_check_them() {
    let dir = tempfile::tempdir().unwrap();
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("cannot run {program}: {e}"));
        (
            output.status.success(),
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
        )
    };
    let weir = env!("CARGO_BIN_EXE_weir");
    let check = |kind: &str, text: &str, want: Result<&str, &str>| {
        let file = dir.path().join(format!("{kind}.yml"));
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let (good, said) = run(weir, &["check", kind, file]);
        let theirs = match kind {
            "rules" => run("promtool", &["check", "rules", file]),
            "config" => run("promtool", &["check", "config", file]),
            _ => run("amtool", &["check-config", file]),
        };
        assert_eq!(good, theirs.0, "{text}\nweir: {said}\nupstream: {}", theirs.1);
        assert_eq!(good, want.is_ok(), "{text}: {said}");
        let want = want.unwrap_or_else(|e| e);
        assert!(said.contains(want), "{text}: {said}");
    };
    let group = |rule: &str| format!("groups:\n- name: g\n  rules:\n  - {rule}\n");
    check("rules", &group("{alert: A, expr: up == 0, for: 5m}"), Ok("1 rule in 1 group"));
    check("rules", &group("{alert: A, expr: up ==}"), Err("rules.yml:4: "));
    check("rules", &group("{record: 'a b', expr: up, for: 1m}"), Err("rules.yml:4: "));
    check("rules", "groups:\n- name: g\n  rulez: []\n", Err("rules.yml:3: "));
    check(
        "config",
        "scrape_configs:\n- job_name: a\n  static_configs: [{targets: ['h:1']}]\n",
        Ok("1 scrape config, 0 rules"),
    );
    check("config", "scrape_configs:\n- job_name: a\n  nope: 1\n", Err("nope"));
    check("alertmanager", "route: {receiver: r}\nreceivers: [{name: r}]\n", Ok("1 route, 1 receiver"));
    check(
        "alertmanager",
        "route: {receiver: x}\nreceivers: [{name: r}]\n",
        Err("alertmanager.yml:1: undefined receiver"),
    );
}

/// `weir test rules` beside `promtool test rules` on the same files, good and bad.
#[test]
fn unit_tests_of_rules_end_as_promtool_ends_them() {
    let dir = tempfile::tempdir().unwrap();
    let rules = r#"
groups:
- name: g
  rules:
  - record: job:errors:rate5m
    expr: sum by (job) (rate(errors_total[5m]))
  - alert: Errors
    expr: job:errors:rate5m > 0.5
    for: 2m
    keep_firing_for: 1m
    labels: {severity: page}
    annotations: {summary: "{{ $labels.job }} fails {{ $value | humanize }} times a second in {{ $externalLabels.dc }}"}
  - alert: Gone
    expr: absent(up{job="a"})
    for: 1m
"#;
    std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
    let case = |body: &str| {
        format!(
            "rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n- interval: 1m\n  external_labels: {{dc: x}}\n  \
             input_series:\n  - {{series: 'errors_total{{job=\"a\",i=\"1\"}}', values: '0+60x10 660x20'}}\n  \
             - {{series: 'up{{job=\"a\"}}', values: '1x5 stale _x5 1x9'}}\n{body}\n"
        )
    };
    let alerts = |at: &str, name: &str, expected: &str| {
        case(&format!("  alert_rule_test:\n  - {{eval_time: {at}, alertname: {name}, exp_alerts: [{expected}]}}"))
    };
    let errors =
        r#"{exp_labels: {job: a, severity: page}, exp_annotations: {summary: "a fails 1 times a second in x"}}"#;
    let files = [
        ("pending", alerts("2m", "Errors", ""), true),
        ("firing", alerts("5m", "Errors", errors), true),
        ("firing between two evaluations", alerts("5m30s", "Errors", errors), true),
        ("not at all", alerts("5m", "Errors", ""), false),
        ("other labels", alerts("5m", "Errors", "{exp_labels: {job: b}}"), false),
        ("resolved", alerts("25m", "Errors", ""), true),
        ("absent for a while", alerts("10m", "Gone", "{exp_labels: {job: a}}"), true),
        ("back again", alerts("14m", "Gone", ""), true),
        (
            "a number",
            case(
                "  promql_expr_test:\n  - {expr: 'job:errors:rate5m', eval_time: 4m, exp_samples: [{labels: 'job:errors:rate5m{job=\"a\"}', value: 0.8}]}",
            ),
            true,
        ),
        (
            "another number",
            case("  promql_expr_test:\n  - {expr: 'count(up)', eval_time: 4m, exp_samples: [{value: 2}]}"),
            false,
        ),
        ("no samples", case("  promql_expr_test:\n  - {expr: 'nothing_here', eval_time: 4m}"), true),
        (
            "series of alerts",
            case(
                "  promql_expr_test:\n  - {expr: 'count(ALERTS{alertstate=\"pending\"})', eval_time: 3m, exp_samples: [{labels: '{}', value: 1}]}",
            ),
            true,
        ),
        ("a typo", case("  alert_rule_tests: []"), false),
        ("a wrong series", case("  promql_expr_test: []").replace("0+60x10", "0+60y10"), false),
    ];
    for (name, text, want) in files {
        let file = dir.path().join("test.yml");
        std::fs::write(&file, &text).unwrap();
        let run = |program: &str| Command::new(program).args(["test", "rules"]).arg(&file).output().unwrap();
        let (ours, theirs) = (run(env!("CARGO_BIN_EXE_weir")), run("promtool"));
        let said = |o: &std::process::Output| {
            format!("{}{}", String::from_utf8_lossy(&o.stdout), String::from_utf8_lossy(&o.stderr))
        };
        assert_eq!(
            ours.status.success(),
            theirs.status.success(),
            "{name}: {}\npromtool: {}",
            said(&ours),
            said(&theirs)
        );
        assert_eq!(ours.status.success(), want, "{name}: {}", said(&ours));
    }
}

#[test]
fn routes_are_tested_as_amtool_tests_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("am.yml");
    let text = "route:\n  receiver: d\n  routes:\n  - {matchers: [a=b], receiver: x, continue: true}\n  \
                - {match_re: {a: 'b|c'}, receiver: y}\nreceivers: [{name: d}, {name: x}, {name: y}]\n";
    std::fs::write(&file, text).unwrap();
    for labels in [["a=b"], ["a=c"], ["z=z"]] {
        let ours = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["test", "routes", "--config"])
            .arg(&file)
            .args(labels)
            .output();
        let theirs =
            Command::new("amtool").args(["config", "routes", "test", "--config.file"]).arg(&file).args(labels).output();
        let text =
            |o: std::io::Result<std::process::Output>| String::from_utf8(o.unwrap().stdout).unwrap().trim().to_owned();
        assert_eq!(text(ours), text(theirs), "{labels:?}");
    }
}
