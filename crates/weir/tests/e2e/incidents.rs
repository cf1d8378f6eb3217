//! Incidents, acknowledgements and changes over kill -9.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::alerting::wait_for;
use crate::harness::Server;

async fn get(client: &Client, server: &Server, path: &str) -> Value {
    let answer = client.get(format!("{}/api/weir/v1/{path}", server.url)).send().await.unwrap();
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_an_incident_survives_kill_9() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let write_rules = |alerts: &[&str]| {
        let rule =
            |name: &&str| format!("  - {{alert: {name}, expr: vector(3) > 1, labels: {{service: shop-{name}}}}}\n");
        let rules: String = alerts.iter().map(rule).collect();
        std::fs::write(path("rules.yml"), format!("groups:\n- name: g\n  interval: 1s\n  rules:\n{rules}")).unwrap();
    };
    write_rules(&["Slow", "Full"]);
    std::fs::write(path("prometheus.yml"), "rule_files: ['rules.yml']\n").unwrap();
    let (prometheus, data) = (path("prometheus.yml"), path("data"));
    let args = ["--prometheus-config", &prometheus, "--data-dir", &data];
    let client = Client::new();
    let server = Server::start(&args);
    let incidents = async |server: &Server| get(&client, server, "incidents").await["incidents"].clone();
    let states = async |server: &Server| {
        let all = incidents(server).await;
        let mut states: Vec<String> = all.as_array().unwrap().iter().map(|i| i["state"].to_string()).collect();
        states.sort();
        states
    };
    wait_for("two incidents", async || states(&server).await == ["\"firing\"", "\"firing\""]).await;
    let of_slow = |all: &Value| {
        let slow = |i: &&Value| i["alerts"][0]["labels"]["alertname"] == "Slow";
        all.as_array().unwrap().iter().find(slow).unwrap().clone()
    };
    let id = of_slow(&incidents(&server).await)["id"].as_str().unwrap().to_owned();
    let acknowledge = async |server: &Server, id: &str, body: Value| {
        let url = format!("{}/api/weir/v1/incidents/{id}/acknowledge", server.url);
        client.post(url).json(&body).send().await.unwrap()
    };
    let by = json!({"by": "ann", "comment": "on it"});
    assert_eq!(acknowledge(&server, "none", by.clone()).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(acknowledge(&server, &id, json!({"by": " "})).await.status(), StatusCode::BAD_REQUEST);
    assert_eq!(acknowledge(&server, &id, by).await.status(), StatusCode::OK);
    let change = json!({"kind": "flag", "entity": {"kind": "service", "name": "shop"}, "title": "dark mode on"});
    let told = client.post(format!("{}/api/weir/v1/changes", server.url)).json(&change).send().await.unwrap();
    assert_eq!(told.status(), StatusCode::NO_CONTENT);
    let before = of_slow(&incidents(&server).await);
    server.kill();

    let server = Server::start(&args);
    let after = of_slow(&incidents(&server).await);
    for field in ["id", "opened_at", "fired_at", "state", "acknowledged", "baseline"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(after["acknowledged"]["by"], "ann");
    let timeline = after["timeline"].as_array().unwrap();
    assert!(timeline.iter().any(|e| e["kind"] == "acknowledged" && e["text"] == "ann is on it: on it"), "{timeline:?}");
    let changes = get(&client, &server, "changes").await["changes"].clone();
    assert_eq!((changes.as_array().unwrap().len(), &changes[0]["title"]), (1, &json!("dark mode on")));
    // A rule that goes ends its incident, while weir runs and while it is down.
    write_rules(&["Full"]);
    client.post(format!("{}/-/reload", server.url)).send().await.unwrap();
    wait_for("the end of one", async || states(&server).await == ["\"firing\"", "\"resolved\""]).await;
    assert_eq!(acknowledge(&server, &id, json!({"by": "bob"})).await.status(), StatusCode::CONFLICT);
    // What is answered is on disk, and with it all that came before.
    let all = incidents(&server).await;
    let firing = all.as_array().unwrap().iter().find(|i| i["state"] == "firing").unwrap()["id"].clone();
    assert_eq!(acknowledge(&server, firing.as_str().unwrap(), json!({"by": "bob"})).await.status(), StatusCode::OK);
    server.kill();
    write_rules(&[]);
    let server = Server::start(&args);
    wait_for("the end of both", async || states(&server).await == ["\"resolved\"", "\"resolved\""]).await;
    server.kill();
    let server = Server::start(&args);
    assert_eq!(states(&server).await, ["\"resolved\"", "\"resolved\""]);
}
