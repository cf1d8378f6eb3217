//! On-call from a rule to a telephone: the real program, a scripted telephone company, and nobody who answers.

use std::collections::VecDeque;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse;
use reqwest::Client;
use serde_json::{Value, json};

use crate::alerting::wait_for;
use crate::harness::{Server, client};

#[derive(Clone, Debug)]
struct Call {
    path: String,
    authorization: String,
    form: Vec<(String, String)>,
    json: Value,
}

impl Call {
    fn of(&self, key: &str) -> &str {
        self.form.iter().find(|(k, _)| k == key).map_or("", |(_, v)| v)
    }
}

/// Takes whatever is posted; answers with the scripted statuses, then 201.
#[derive(Clone)]
struct Outside {
    url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    statuses: Arc<Mutex<VecDeque<u16>>>,
}

impl Outside {
    async fn start(statuses: &[u16]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let statuses = Arc::new(Mutex::new(statuses.iter().copied().collect()));
        let this = Self { url, calls: Arc::default(), statuses };
        let router = axum::Router::new().fallback(take).with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        this
    }

    fn calls(&self, path: &str) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|c| c.path.contains(path)).cloned().collect()
    }

    fn numbers(&self) -> Vec<String> {
        self.calls("/Calls.json").iter().map(|c| c.of("To").to_owned()).collect()
    }
}

async fn take(State(outside): State<Outside>, uri: Uri, headers: HeaderMap, body: Bytes) -> impl IntoResponse {
    let authorization = headers.get("authorization").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let form = url::form_urlencoded::parse(&body).into_owned().collect();
    let json = serde_json::from_slice(&body).unwrap_or_default();
    outside.calls.lock().unwrap().push(Call { path: uri.path().to_owned(), authorization, form, json });
    let status = outside.statuses.lock().unwrap().pop_front().unwrap_or(201);
    (StatusCode::from_u16(status).unwrap(), "{}")
}

/// A rule that fires at once, or never.
fn write_rules(dir: &Path, fires: bool) {
    let text = format!(
        "groups:\n- name: g\n  interval: 1s\n  rules:\n  - alert: CheckoutDown\n    expr: vector({}) > 0\n    \
         labels: {{severity: critical, service: checkout}}\n    annotations: {{summary: 'no orders <come> in'}}\n",
        u8::from(fires)
    );
    std::fs::write(dir.join("rules.yml"), text).unwrap();
}

/// Two people, of whom the first has the week; each step waits as long as it says.
fn write_oncall(dir: &Path, outside: &str, wait: &str, more: &str) {
    let twilio = |kind: &str| {
        format!(
            "twilio_configs: [{{type: {kind}, api_url: '{outside}', account_sid: AC1, auth_token: secret, from: '+100', to: '${{phone}}'}}]"
        )
    };
    let text = format!(
        "people:\n- {{name: ana, shown: Ana, contacts: {{phone: '+111'}}}}\n- {{name: ben, contacts: {{phone: '+222'}}}}\n\
         channels:\n- {{name: call, {}}}\n- {{name: sms, {}}}\n\
         schedules:\n- name: primary\n  time_zone: Europe/Berlin\n  layers:\n  - {{people: [ana], start: 2020-01-06, handoff: '09:00', rotation: weekly}}\n\
         - name: backup\n  layers:\n  - {{people: [ben], start: 2020-01-06, rotation: weekly}}\n\
         chains:\n- name: production\n  steps:\n  - {{notify: [{{schedule: primary}}], wait: {wait}}}\n  - {{notify: [{{schedule: backup}}], wait: {wait}}}\n\
         tiers:\n- {{name: T1, values: [critical], channels: [call, sms], chain: production}}\n{more}",
        twilio("call"),
        twilio("sms")
    );
    std::fs::write(dir.join("oncall.yml"), text).unwrap();
}

fn write(dir: &Path, outside: &str, wait: &str, more: &str) {
    write_rules(dir, true);
    std::fs::write(dir.join("prometheus.yml"), "rule_files: ['rules.yml']\n").unwrap();
    let alertmanager = "route: {receiver: none, group_by: [alertname], group_wait: 0s, group_interval: 1s}\nreceivers: [{name: none}]\n";
    std::fs::write(dir.join("alertmanager.yml"), alertmanager).unwrap();
    write_oncall(dir, outside, wait, more);
}

fn start(dir: &Path) -> Server {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let files = [path("prometheus.yml"), path("alertmanager.yml"), path("oncall.yml"), path("data")];
    let [prometheus, alertmanager, oncall, data] = &files;
    Server::start(&[
        "--prometheus-config",
        prometheus,
        "--alertmanager-config",
        alertmanager,
        "--oncall-config",
        oncall,
        "--data-dir",
        data,
    ])
}

async fn get(client: &Client, url: &str) -> Value {
    let answer = client.get(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{url}: {}", answer.status());
    answer.json().await.unwrap()
}

async fn pages(client: &Client, server: &Server) -> Vec<Value> {
    let found = get(client, &format!("{}/api/weir/v1/escalations", server.url)).await;
    found["escalations"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acknowledges_so_the_second_is_called_and_the_signed_link_stops_it() {
    let (client, dir, outside) = (client(), tempfile::tempdir().unwrap(), Outside::start(&[]).await);
    write(dir.path(), &outside.url, "3s", "");
    let server = start(dir.path());
    wait_for("a call to the second", async || outside.numbers().len() >= 2).await;
    assert_eq!(outside.numbers()[..2], ["+111", "+222"]);
    let call = &outside.calls("/2010-04-01/Accounts/AC1/Calls.json")[0];
    assert_eq!(call.authorization, "Basic QUMxOnNlY3JldA==");
    assert_eq!(call.of("From"), "+100");
    assert!(call.of("Twiml").contains("CheckoutDown is firing. no orders &lt;come&gt; in"), "{}", call.of("Twiml"));
    wait_for("a text message to each", async || outside.calls("/Messages.json").len() >= 2).await;
    let text = outside.calls("/Messages.json")[0].of("Body").to_owned();
    let link = text.split_whitespace().find(|w| w.contains("/link/")).unwrap_or_else(|| panic!("{text}")).to_owned();
    assert!(link.starts_with(&server.url), "{link}");

    // To look does not acknowledge.
    let shown = client.get(&link).send().await.unwrap();
    assert_eq!((shown.status(), shown.headers()["referrer-policy"].to_str().unwrap()), (StatusCode::OK, "no-referrer"));
    let html = shown.text().await.unwrap();
    assert!(html.contains("no orders &lt;come&gt; in") && html.contains("value=\"Ana\""), "{html}");
    assert_eq!(pages(&client, &server).await[0].get("acknowledged"), None);
    let (before, after) = (&link[..link.len() - 9], &link[link.len() - 8..]);
    let forged = format!("{before}{}{after}", if link[before.len()..].starts_with('x') { 'y' } else { 'x' });
    assert_eq!(client.get(forged).send().await.unwrap().status(), StatusCode::NOT_FOUND);

    let form = "by=Ana+S.";
    let kind = "application/x-www-form-urlencoded";
    let answer = client.post(&link).header("content-type", kind).body(form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().contains("<b>Ana S. is on it</b>"));
    let page = pages(&client, &server).await[0].clone();
    assert_eq!((&page["state"], &page["acknowledged"]["by"]), (&json!("acknowledged"), &json!("Ana S.")));
    let incidents = get(&client, &format!("{}/api/weir/v1/incidents", server.url)).await;
    assert_eq!(incidents["incidents"][0]["acknowledged"]["by"], "Ana S.");

    // A crash forgets neither the page nor that somebody is on it.
    let n_calls = outside.numbers().len();
    server.kill();
    let server = start(dir.path());
    assert_eq!(pages(&client, &server).await[0]["state"], "acknowledged");
    write_rules(dir.path(), false);
    client.post(format!("{}/-/reload", server.url)).send().await.unwrap();
    wait_for("the end of the page", async || pages(&client, &server).await[0]["state"] == "resolved").await;
    assert_eq!(outside.numbers().len(), n_calls, "called although somebody was on it");
    let figures = get(&client, &format!("{}/api/weir/v1/escalations/figures", server.url)).await;
    assert_eq!((&figures["all"]["pages"], &figures["all"]["acted_upon"]), (&json!(1), &json!(1.0)));
    assert!(figures["all"]["mtta_seconds"].as_f64().unwrap() > 0.0, "{figures}");
    assert_eq!(figures["by_rule"][0]["name"], "CheckoutDown");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledging_the_incident_stops_the_chain_and_a_crash_repeats_nothing() {
    let (client, dir, outside) = (client(), tempfile::tempdir().unwrap(), Outside::start(&[500, 503]).await);
    write(dir.path(), &outside.url, "8s", "");
    let server = start(dir.path());
    // Refused twice for now: tried again, to the same person.
    wait_for("the first step delivered", async || {
        let pages = pages(&client, &server).await;
        pages.first().is_some_and(|p| p["told"].as_array().unwrap().iter().all(|t| t["state"] == "sent"))
    })
    .await;
    assert!(outside.numbers().iter().all(|n| n == "+111"), "{:?}", outside.numbers());
    let n_calls = outside.numbers().len();
    server.kill();
    let server = start(dir.path());
    wait_for("the incident", async || {
        let found = get(&client, &format!("{}/api/weir/v1/incidents?state=firing", server.url)).await;
        !found["incidents"].as_array().unwrap().is_empty()
    })
    .await;
    assert!(outside.numbers()[n_calls..].iter().all(|n| n != "+111"), "called again: {:?}", outside.numbers());
    let id = get(&client, &format!("{}/api/weir/v1/incidents", server.url)).await["incidents"][0]["id"].clone();
    let url = format!("{}/api/weir/v1/incidents/{}/acknowledge", server.url, id.as_str().unwrap());
    let answer = client.post(url).json(&json!({"by": "ana"})).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let page = pages(&client, &server).await[0].clone();
    assert_eq!((&page["state"], &page["acknowledged"]["by"]), (&json!("acknowledged"), &json!("ana")));
    assert_eq!(page.get("next_at"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_and_calendars_over_the_api_and_files_read_again() {
    let (client, dir, outside) = (client(), tempfile::tempdir().unwrap(), Outside::start(&[]).await);
    let watchdog = format!("watchdog: {{interval: 1s, webhook: {{url: '{}/alive'}}}}\n", outside.url);
    write(dir.path(), &outside.url, "1h", &watchdog);
    write_rules(dir.path(), false);
    let server = start(dir.path());
    let api = format!("{}/api/weir/v1/oncall", server.url);
    wait_for("two heartbeats", async || outside.calls("/alive").len() >= 2).await;
    let heartbeat = outside.calls("/alive")[0].json.clone();
    assert_eq!(heartbeat["alerts"][0]["labels"]["alertname"], "Watchdog");

    let range = "start=2026-10-19T00:00:00Z&end=2026-11-09T00:00:00Z";
    let found = get(&client, &format!("{api}?{range}")).await;
    assert_eq!((&found["schedules"][0]["now"], &found["configured"]), (&json!("ana"), &json!(true)));
    assert_eq!(found["people"][0]["contacts"], json!(["phone"]));
    assert!(!found.to_string().contains("+111"), "a contact is shown: {found}");
    let over = json!({"schedule": "primary", "person": "ben", "start": "2026-10-25T00:00:00+02:00", "end": "2199-01-01T00:00:00Z", "by": "me"});
    let refused = client.post(format!("{api}/overrides")).json(&over).send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    let over = json!({"schedule": "primary", "person": "ben", "start": "2099-10-25T00:00:00+02:00", "end": "2099-10-26T00:00:00+01:00", "by": "me"});
    let answer = client.post(format!("{api}/overrides")).json(&over).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    let id = answer.json::<Value>().await.unwrap()["id"].as_str().unwrap().to_owned();
    server.kill();

    let server = start(dir.path());
    let api = format!("{}/api/weir/v1/oncall", server.url);
    let found = get(&client, &format!("{api}?start=2099-10-24T22:00:00Z&end=2099-10-26T12:00:00Z")).await;
    let shifts: Vec<(&Value, &Value)> =
        found["schedules"][0]["shifts"].as_array().unwrap().iter().map(|s| (&s["start"], &s["person"])).collect();
    assert_eq!(
        shifts,
        [(&json!("2099-10-24T22:00:00.000Z"), &json!("ben")), (&json!("2099-10-25T23:00:00.000Z"), &json!("ana")),],
        "a day of 25 hours"
    );
    let calendar = client.get(format!("{api}/schedules/primary.ics")).send().await.unwrap();
    assert!(calendar.headers()["content-type"].to_str().unwrap().starts_with("text/calendar"));
    let text = calendar.text().await.unwrap();
    assert!(text.starts_with("BEGIN:VCALENDAR\r\n") && text.contains("SUMMARY:Ana on call (primary)"), "{text}");
    assert_eq!(client.get(format!("{api}/people/nobody.ics")).send().await.unwrap().status(), StatusCode::NOT_FOUND);
    let delete = async || client.delete(format!("{api}/overrides/{id}")).send().await.unwrap().status();
    assert_eq!((delete().await, delete().await), (StatusCode::NO_CONTENT, StatusCode::NOT_FOUND));

    // A bad file changes nothing; a good one counts at once.
    let reload = async || client.post(format!("{}/-/reload", server.url)).send().await.unwrap();
    write_oncall(dir.path(), &outside.url, "1h", "nonsense: 1\n");
    let refused = reload().await;
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let text = refused.text().await.unwrap();
    assert!(text.contains("oncall.yml") && text.contains("nonsense"), "{text}");
    assert_eq!(get(&client, &api).await["schedules"][0]["now"], "ana");
    let file = std::fs::read_to_string(dir.path().join("oncall.yml")).unwrap();
    let swapped = file.replace("nonsense: 1\n", "").replace("people: [ana]", "people: [ben]");
    std::fs::write(dir.path().join("oncall.yml"), swapped).unwrap();
    assert_eq!(reload().await.status(), StatusCode::OK);
    assert_eq!(get(&client, &api).await["schedules"][0]["now"], "ben");
}

#[test]
fn files_are_checked_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "http://127.0.0.1:1", "5m", "");
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(args).current_dir(dir.path()).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (ok, text) = run(&["check", "oncall", "oncall.yml", "--alertmanager-config", "alertmanager.yml"]);
    assert!(ok && text.contains("oncall.yml: 2 people, 2 schedules, 1 chain, 1 tier"), "{text}");
    write_oncall(dir.path(), "http://127.0.0.1:1", "5m", "routes: [{receiver: gone, chain: production, tier: T1}]\n");
    let (ok, text) = run(&["check", "oncall", "oncall.yml", "--alertmanager-config", "alertmanager.yml"]);
    assert!(!ok && text.contains("receiver \"gone\" is not in the Alertmanager configuration"), "{text}");

    write_oncall(dir.path(), "http://127.0.0.1:1", "5m", "");
    let tests = "alertmanager_config: alertmanager.yml\noncall_config: oncall.yml\ntests:\n\
        - name: the second is called\n  for: 6m\n  start: 2026-01-06T02:00:00Z\n  \
        alerts: [{labels: {alertname: Down, severity: critical}}]\n  expect:\n  \
        - {at: 0s, person: ana, channel: call}\n  - {at: 0s, person: ana, channel: sms}\n  \
        - {at: 5m, person: ben, channel: call}\n";
    std::fs::write(dir.path().join("tests.yml"), tests).unwrap();
    let (ok, text) = run(&["test", "routes", "tests.yml"]);
    assert!(!ok && text.contains("+ 5m ben (sms)") && text.contains("0 of 1 passed"), "{text}");
    let whole = format!("{tests}  - {{at: 5m, person: ben, channel: sms}}\n");
    std::fs::write(dir.path().join("tests.yml"), whole).unwrap();
    let (ok, text) = run(&["test", "routes", "tests.yml"]);
    assert!(ok && text.contains("tests.yml: 1 of 1 passed"), "{text}");
}
