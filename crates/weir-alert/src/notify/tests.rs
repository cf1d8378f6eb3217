use serde_json::json;
use weir_model::{Labels, Timestamp};

use super::*;
use crate::CauseNote;
use crate::config::parse_config;
use crate::template::AlertData;

fn notification() -> Notification {
    let alert = |firing, instance: &str| AlertData {
        firing,
        labels: Labels::from_pairs([("alertname", "X"), ("instance", instance)]),
        annotations: Labels::from_pairs([("summary", "bad")]),
        starts_at: Timestamp(1_767_323_045_678),
        ends_at: Timestamp(1_767_323_100_000),
        generator_url: "http://w/graph".into(),
        fingerprint: "00000000000000ff".into(),
        incident_url: "http://w/incidents/00000000000000ff?tenant=anonymous".into(),
    };
    Notification {
        receiver: "r".into(),
        group_key: "{}/{severity=\"page\"}:{alertname=\"X\"}".into(),
        group_labels: Labels::from_pairs([("alertname", "X")]),
        alerts: vec![alert(true, "a"), alert(false, "b")],
        external_url: "http://w".into(),
        reason: "first notification".into(),
        incident_url: "http://w/incidents/00000000000000ff?tenant=anonymous".into(),
        cause: None,
    }
}

fn body(receiver: &str, notification: &Notification) -> Json {
    let text = format!("route: {{receiver: r}}\nreceivers:\n- name: r\n{receiver}\n");
    let config = parse_config("am.yml", &text, None).unwrap();
    let kind = &config.receivers[0].integrations[0].kind;
    let request = request(kind, notification, &TenantId::anonymous(), &config.templates).unwrap();
    serde_json::from_slice(&request.body).unwrap()
}

/// The example of the specification, with weir's own `incidentURL` beside it.
#[test]
fn the_webhook_body_is_upstreams() {
    let got = body("  webhook_configs: [{url: 'http://127.0.0.1/', max_alerts: 1}]", &notification());
    let want = json!({
        "version": "4", "groupKey": "{}/{severity=\"page\"}:{alertname=\"X\"}", "truncatedAlerts": 1,
        "status": "firing", "receiver": "r", "groupLabels": {"alertname": "X"}, "commonLabels": {"alertname": "X"},
        "commonAnnotations": {"summary": "bad"}, "routeLabels": {}, "externalURL": "http://w",
        "notification_reason": "first notification",
        "alerts": [{
            "status": "firing", "labels": {"alertname": "X", "instance": "a"}, "annotations": {"summary": "bad"},
            "startsAt": "2026-01-02T03:04:05.678Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://w/graph",
            "fingerprint": "00000000000000ff",
            "incidentURL": "http://w/incidents/00000000000000ff?tenant=anonymous",
        }],
    });
    assert_eq!(got, want);
}

#[test]
fn pagerduty_events_carry_key_link_and_cause() {
    let config = "  pagerduty_configs: [{routing_key: k, details: {shape: '{\"a\": [1]}', nested: {b: '{{ .Status }}'}}, \
                  links: [{href: 'http://run/book', text: runbook}, {text: none}], class: ''}]";
    let mut n = notification();
    n.cause = Some(CauseNote {
        key: "k".into(),
        title: "index dropped".into(),
        lines: vec!["rows scanned: 1 -> 9000".into()],
        confidence: 0.934,
        url: "http://w/i".into(),
    });
    let got = body(config, &n);
    // sha256 of the group key, made with sha256sum.
    assert_eq!(got["dedup_key"], "01ed6d4a0a4f4174ace6f583eefec0fd089ed8df3c01a61b628a346826f35180");
    assert_eq!(
        (&got["routing_key"], &got["event_action"], &got["client"]),
        (&json!("k"), &json!("trigger"), &json!("Alertmanager"))
    );
    let payload = &got["payload"];
    assert_eq!(payload["summary"], "[FIRING:1] X ");
    assert_eq!(
        (&payload["severity"], &payload["source"], payload.get("class")),
        (&json!("error"), &json!("Alertmanager"), None)
    );
    let details = &payload["custom_details"];
    assert_eq!((&details["num_firing"], &details["num_resolved"]), (&json!("1"), &json!("1")));
    assert_eq!((&details["shape"], &details["nested"]), (&json!({"a": [1]}), &json!({"b": "firing"})));
    assert_eq!((&details["cause"], &details["cause_confidence"]), (&json!("index dropped"), &json!("93%")));
    assert_eq!(details["cause_evidence"], json!(["rows scanned: 1 -> 9000"]));
    let incident = "http://w/incidents/00000000000000ff?tenant=anonymous";
    let links = json!([{"href": incident, "text": "incident in weir"}, {"href": "http://run/book", "text": "runbook"}]);
    assert_eq!(got["links"], links);
    assert!(got.get("images").is_none());
}

#[test]
fn a_resolve_and_a_changed_cause_keep_the_key() {
    let config = "  pagerduty_configs: [{routing_key: k}]";
    let first = body(config, &notification());
    let mut later = notification();
    later.alerts.remove(0);
    later.reason = "all alerts resolved".into();
    let last = body(config, &later);
    assert_eq!(first["dedup_key"], last["dedup_key"]);
    assert_eq!((&first["event_action"], &last["event_action"]), (&json!("trigger"), &json!("resolve")));
    let other = pagerduty::dedup_key(&TenantId::parse("t").unwrap(), &later.group_key);
    assert_ne!(first["dedup_key"], json!(other), "tenants share no incident");
}

#[test]
fn pagerduty_version_one_and_events_that_are_too_large() {
    let old = body("  pagerduty_configs: [{service_key: s}]", &notification());
    assert_eq!((&old["service_key"], &old["event_type"]), (&json!("s"), &json!("trigger")));
    assert_eq!(old["incident_key"], pagerduty::dedup_key(&TenantId::anonymous(), &notification().group_key));
    let mut large = notification();
    large.alerts[0].annotations = Labels::from_pairs([("text", "x".repeat(600_000))]);
    let got = body("  pagerduty_configs: [{routing_key: k}]", &large);
    assert!(got["payload"]["custom_details"]["error"].as_str().unwrap().contains("left out"));
}

#[test]
fn slack_gets_one_attachment() {
    let config = "  slack_configs: [{api_url: 'http://127.0.0.1/', channel: '#ops', send_resolved: true, \
                  fields: [{title: T, value: '{{ .Status }}'}], short_fields: true, \
                  actions: [{type: button, text: Open, url: '{{ .IncidentURL }}'}]}]";
    let incident = "http://w/incidents/00000000000000ff?tenant=anonymous";
    let want = json!({
        "channel": "#ops", "username": "Alertmanager",
        "attachments": [{
            "title": "[FIRING:1] X ", "title_link": incident, "text": "",
            "fallback": format!("[FIRING:1] X  | {incident}"), "callback_id": "", "footer": "", "color": "danger",
            "fields": [{"title": "T", "value": "firing", "short": true}],
            "actions": [{"text": "Open", "type": "button", "url": incident}],
            "mrkdwn_in": ["fallback", "pretext", "text"],
        }],
    });
    assert_eq!(body(config, &notification()), want);
}

#[test]
fn answers_mean_what_upstream_takes_them_for() {
    let kind = |receiver: &str| {
        let text = format!("route: {{receiver: r}}\nreceivers:\n- name: r\n{receiver}\n");
        parse_config("am.yml", &text, None).unwrap().receivers[0].integrations[0].kind.clone()
    };
    let webhook = kind("  webhook_configs: [{url: 'http://127.0.0.1/'}]");
    let slack = kind("  slack_configs: [{api_url: 'http://127.0.0.1/'}]");
    let v2 = kind("  pagerduty_configs: [{routing_key: k}]");
    let v1 = kind("  pagerduty_configs: [{service_key: k}]");
    let check = |kind: &IntegrationKind, status: u16, text: &str, want: &str| {
        let got = match judge(kind, status, text) {
            Verdict::Delivered => "delivered",
            Verdict::Retry(_) => "retry",
            Verdict::Refused(_) => "refused",
        };
        assert_eq!(got, want, "{} {status} {text}", kind.name());
    };
    check(&webhook, 204, "", "delivered");
    check(&webhook, 500, "", "retry");
    check(&webhook, 429, "", "refused");
    check(&webhook, 404, "", "refused");
    check(&slack, 200, "ok", "delivered");
    check(&slack, 200, "{\"ok\":true}", "delivered");
    check(&slack, 200, "{\"ok\":false,\"error\":\"channel_not_found\"}", "refused");
    check(&slack, 200, "<html>", "refused");
    check(&slack, 503, "", "retry");
    check(&v2, 202, "", "delivered");
    check(&v2, 429, "", "retry");
    check(&v2, 400, "", "refused");
    check(&v1, 403, "", "retry");
    check(&v1, 429, "", "refused");
}
