//! Rules over logs and traces: from files to a page, and as Loki's API shows them.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::alerting::{wait_for, webhook};
use crate::harness::Server;
use crate::logs_traces::now_nanos;

#[tokio::test(flavor = "multi_thread")]
async fn lines_and_spans_page_through_rules_of_their_own_languages() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (url, got) = webhook().await;
    std::fs::create_dir_all(dir.path().join("loki/fake")).unwrap();
    let logql = r#"
namespace: shop
groups:
- name: shop
  interval: 1s
  rules:
  - record: shop:errors:count1m
    expr: sum by (app) (count_over_time({app="shop"} |= "error" [1m]))
  - alert: Errors
    expr: sum by (app) (count_over_time({app="shop"} |= "error" [1m])) > 2
    for: 1s
    labels: {severity: page}
    annotations:
      summary: "{{ $labels.app }}: {{ $value }} errors, {{ with query `sum(count_over_time({app=\"shop\"}[1m]))` }}{{ . | first | value }}{{ end }} lines"
"#;
    std::fs::write(path("loki/fake/shop.yaml"), logql).unwrap();
    let traceql = "groups:\n- name: spans\n  interval: 1s\n  window: 1m\n  rules:\n  - alert: Failures\n    \
                   expr: '{ status = error } | count_over_time() by (resource.service.name) > 1'\n";
    std::fs::write(path("spans.yml"), traceql).unwrap();
    let alertmanager = format!(
        "route: {{receiver: r, group_by: [alertname], group_wait: 0s, group_interval: 1s}}\n\
         receivers: [{{name: r, webhook_configs: [{{url: '{url}'}}]}}]\n"
    );
    std::fs::write(path("alertmanager.yml"), alertmanager).unwrap();
    let (loki, spans, alertmanager, data) = (path("loki"), path("spans.yml"), path("alertmanager.yml"), path("data"));
    let args = [
        ["--ruler.storage.local.directory", &loki],
        ["--rules.traceql", &spans],
        ["--alertmanager-config", &alertmanager],
        ["--data-dir", &data],
    ];
    let server = Server::start(args.as_flattened());
    let client = Client::new();
    let values: Vec<Value> = (0..3).map(|k| json!([(now_nanos() + k).to_string(), "an error"])).collect();
    let body = json!({"streams": [{"stream": {"app": "shop"}, "values": values}]});
    let pushed = client.post(format!("{}/loki/api/v1/push", server.url)).json(&body).send().await.unwrap();
    assert_eq!(pushed.status(), StatusCode::NO_CONTENT);
    let span = |k: u32| {
        json!({"traceId": format!("{k:032x}"), "spanId": format!("{k:016x}"), "name": "pay", "kind": 2,
            "startTimeUnixNano": now_nanos().to_string(), "endTimeUnixNano": (now_nanos() + 1000).to_string(),
            "status": {"code": 2}})
    };
    let resource = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]});
    let body = json!({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span(1), span(2)]}]}]});
    let pushed = client.post(format!("http://{}/v1/traces", server.otlp_http)).json(&body).send().await.unwrap();
    assert_eq!(pushed.status(), StatusCode::OK);

    let alert = |name: &str| {
        let got = got.lock().unwrap();
        got.iter().map(|body| body["alerts"][0].clone()).find(|a| a["labels"]["alertname"] == name)
    };
    wait_for("a page for lines", async || alert("Errors").is_some()).await;
    wait_for("a page for spans", async || alert("Failures").is_some()).await;
    let errors = alert("Errors").unwrap();
    assert_eq!(errors["labels"], json!({"alertname": "Errors", "app": "shop", "severity": "page"}));
    assert_eq!(errors["annotations"]["summary"], "shop: 3 errors, 3 lines");
    assert!(errors["generatorURL"].as_str().unwrap().contains("/explore/logs?q=%28sum+by"), "{errors}");
    assert_eq!(alert("Failures").unwrap()["labels"]["resource_service_name"], "shop");

    let text = async |path: &str| {
        let answer = client.get(format!("{}{path}", server.url)).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    };
    let json = async |path: &str| serde_json::from_str::<Value>(&text(path).await.1).unwrap();
    let recorded = json("/api/v1/query?query=shop:errors:count1m").await;
    assert_eq!(recorded["data"]["result"][0]["value"][1], "3");
    let incidents = json("/api/weir/v1/incidents").await;
    let incidents = incidents["incidents"].as_array().unwrap();
    let of = |name: &str| {
        incidents.iter().flat_map(|i| i["alerts"].as_array().unwrap()).any(|a| a["labels"]["alertname"] == name)
    };
    assert!(of("Errors") && of("Failures"), "{incidents:?}");

    // As Loki's ruler shows them.
    let namespaces = json("/loki/api/v1/rules").await;
    let group = &namespaces["shop.yaml"][0];
    assert_eq!((&group["name"], &group["interval"]), (&json!("shop"), &json!("1s")));
    assert_eq!(
        (&group["rules"][0]["record"], &group["rules"][1]["for"]),
        (&json!("shop:errors:count1m"), &json!("1s"))
    );
    assert_eq!(&json("/loki/api/v1/rules/shop.yaml/shop").await, group);
    assert_eq!(text("/loki/api/v1/rules/none").await, (StatusCode::NOT_FOUND, "no rule groups found\n".to_owned()));
    assert_eq!(text("/loki/api/v1/rules/shop.yaml/x").await.0, StatusCode::NOT_FOUND);
    let states = json("/prometheus/api/v1/rules").await;
    let groups = states["data"]["groups"].as_array().unwrap();
    assert_eq!((groups.len(), &groups[0]["rules"][1]["state"]), (1, &json!("firing")));
    let alerts = json("/prometheus/api/v1/alerts").await;
    assert_eq!(alerts["data"]["alerts"].as_array().unwrap().len(), 1);
    let written =
        client.post(format!("{}/loki/api/v1/rules/shop.yaml", server.url)).body("name: x").send().await.unwrap();
    assert_eq!(written.status(), StatusCode::METHOD_NOT_ALLOWED);

    // A bad file is refused with its line and changes nothing.
    std::fs::write(path("loki/fake/shop.yaml"), "groups:\n- name: a\n  rules:\n  - {alert: x, expr: 'up == 0'}\n")
        .unwrap();
    let refused = client.post(format!("{}/-/reload", server.url)).send().await.unwrap().text().await.unwrap();
    assert!(refused.contains("shop.yaml:4: "), "{refused}");
    assert_eq!(json("/loki/api/v1/rules").await, namespaces);
}
