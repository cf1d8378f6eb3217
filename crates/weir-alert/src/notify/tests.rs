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
        route_labels: Labels::from_pairs([("tier", "1")]),
        external_url: "http://w".into(),
        reason: "first notification".into(),
        incident_url: "http://w/incidents/00000000000000ff?tenant=anonymous".into(),
        cause: None,
    }
}

fn config(receiver: &str) -> Config {
    let text = format!("route: {{receiver: r}}\nreceivers:\n- name: r\n{receiver}\n");
    parse_config("am.yml", &text, None).unwrap()
}

fn step(config: &Config, notification: &Notification, kept: &str, answers: &[Answer]) -> Step {
    let tenant = TenantId::anonymous();
    let say = Say::new(notification, &tenant, &config.templates, kept, Timestamp(1_767_323_045_678));
    config.receivers[0].integrations[0].kind.step(&say, answers).unwrap()
}

/// What is sent next; its body as JSON where it is JSON.
#[track_caller]
fn next(config: &Config, notification: &Notification, answers: &[(u16, &str)]) -> (Request, Json) {
    let answers: Vec<Answer> = answers.iter().map(|(status, body)| answer(*status, body)).collect();
    match step(config, notification, "", &answers) {
        Step::Http(request) => {
            let body = serde_json::from_slice(&request.body).unwrap_or_default();
            (request, body)
        }
        other => panic!("{other:?}"),
    }
}

fn answer(status: u16, body: &str) -> Answer {
    Answer { status, body: body.to_owned(), retry_after: None }
}

fn body(receiver: &str, notification: &Notification) -> Json {
    next(&config(receiver), notification, &[]).1
}

fn resolved() -> Notification {
    let mut n = notification();
    n.alerts.remove(0);
    n.reason = "all alerts resolved".into();
    n
}

/// Of the group key, made with sha256sum.
const KEY: &str = "01ed6d4a0a4f4174ace6f583eefec0fd089ed8df3c01a61b628a346826f35180";

/// The example of the specification, with weir's own `incidentURL` beside it.
#[test]
fn the_webhook_body_is_upstreams() {
    let got = body("  webhook_configs: [{url: 'http://127.0.0.1/', max_alerts: 1}]", &notification());
    let want = json!({
        "version": "4", "groupKey": "{}/{severity=\"page\"}:{alertname=\"X\"}", "truncatedAlerts": 1,
        "status": "firing", "receiver": "r", "groupLabels": {"alertname": "X"}, "commonLabels": {"alertname": "X"},
        "commonAnnotations": {"summary": "bad"}, "routeLabels": {"tier": "1"}, "externalURL": "http://w",
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
    assert_eq!(got["dedup_key"], KEY);
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
    let later = resolved();
    let last = body(config, &later);
    assert_eq!(first["dedup_key"], last["dedup_key"]);
    assert_eq!((&first["event_action"], &last["event_action"]), (&json!("trigger"), &json!("resolve")));
    let other = dedup_key(&TenantId::parse("t").unwrap(), &later.group_key);
    assert_ne!(first["dedup_key"], json!(other), "tenants share no incident");
}

#[test]
fn pagerduty_version_one_and_events_that_are_too_large() {
    let old = body("  pagerduty_configs: [{service_key: s}]", &notification());
    assert_eq!((&old["service_key"], &old["event_type"]), (&json!("s"), &json!("trigger")));
    assert_eq!(old["incident_key"], dedup_key(&TenantId::anonymous(), &notification().group_key));
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
    let webhook = config("  webhook_configs: [{url: 'http://127.0.0.1:1/'}]");
    let slack = config("  slack_configs: [{api_url: 'http://127.0.0.1:1/'}]");
    let v2 = config("  pagerduty_configs: [{routing_key: k}]");
    let v1 = config("  pagerduty_configs: [{service_key: k}]");
    let check = |config: &Config, status: u16, text: &str, want: &str| {
        let got = match step(config, &notification(), "", &[answer(status, text)]) {
            Step::End(Verdict::Delivered { .. }) => "delivered",
            Step::End(Verdict::Retry { .. }) => "retry",
            Step::End(Verdict::Refused(_)) => "refused",
            other => panic!("{other:?}"),
        };
        assert_eq!(got, want, "{} {status} {text}", config.receivers[0].integrations[0].name());
    };
    check(&webhook, 204, "", "delivered");
    check(&webhook, 500, "", "retry");
    check(&webhook, 429, "", "retry");
    check(&webhook, 404, "", "refused");
    check(&slack, 200, "ok", "delivered");
    check(&slack, 200, "{\"ok\":true}", "delivered");
    check(&slack, 200, "{\"ok\":false,\"error\":\"channel_not_found\"}", "refused");
    check(&slack, 200, "{\"ok\":false,\"error\":\"ratelimited\"}", "retry");
    check(&slack, 200, "<html>", "refused");
    check(&slack, 503, "", "retry");
    check(&v2, 202, "", "delivered");
    check(&v2, 429, "", "retry");
    check(&v2, 400, "", "refused");
    check(&v1, 403, "", "retry");
    check(&v1, 400, "", "refused");
}

#[test]
fn a_webhook_payload_of_ones_own_replaces_the_usual_one() {
    let receiver = "  webhook_configs: [{url: 'http://127.0.0.1:1/', payload: {state: '{{ .Status }}', n: 3, \
                    all: ['{{ toJson .GroupLabels }}']}}]";
    assert_eq!(body(receiver, &notification()), json!({"state": "firing", "n": 3, "all": [{"alertname": "X"}]}));
}

#[test]
fn a_slack_app_changes_its_message_or_replies_in_its_thread() {
    let app = |more: &str| {
        config(&format!(
            "  slack_configs: [{{app_token: xoxb, app_url: 'http://s/api/chat.postMessage', channel: '#a'{more}}}]"
        ))
    };
    let ask = |config: &Config, reason: &str| {
        let n = Notification { reason: reason.into(), ..notification() };
        let Step::Http(request) = step(config, &n, "C1 17.5", &[]) else { panic!() };
        let body: Json = serde_json::from_slice(&request.body).unwrap();
        assert_eq!(request.headers, [("authorization", "Bearer xoxb".to_owned())]);
        (request.url, body["channel"].clone(), body["ts"].clone(), body["thread_ts"].clone())
    };
    let (post, update) = ("http://s/api/chat.postMessage".to_owned(), "http://s/api/chat.update".to_owned());
    let changing = app(", update_message: true");
    assert_eq!(ask(&changing, "new alerts added"), (update.clone(), json!("C1"), json!("17.5"), Json::Null));
    assert_eq!(ask(&changing, "cause known"), (update, json!("C1"), json!("17.5"), Json::Null));
    assert_eq!(ask(&changing, "first notification"), (post.clone(), json!("#a"), Json::Null, Json::Null));
    let plain = app("");
    assert_eq!(ask(&plain, "cause known"), (post.clone(), json!("C1"), Json::Null, json!("17.5")));
    assert_eq!(ask(&plain, "new alerts added"), (post, json!("#a"), Json::Null, Json::Null));
    let said = step(&plain, &notification(), "", &[answer(200, r#"{"ok":true,"channel":"C9","ts":"1.2"}"#)]);
    assert!(matches!(said, Step::End(Verdict::Delivered { kept }) if kept == "C9 1.2"));
}

#[test]
fn opsgenie_alerts_are_created_changed_and_closed_by_alias() {
    let config = config(
        "  opsgenie_configs: [{api_key: og, api_url: 'http://o', tags: 'a, b,', priority: P1, update_alerts: true, \
         details: {k: '{{ .Status }}'}, responders: [{name: 'x,y', type: teams}, {id: '7', type: User}]}]",
    );
    let (request, got) = next(&config, &notification(), &[]);
    assert_eq!(request.url, "http://o/v2/alerts");
    assert_eq!(request.headers, [("authorization", "GenieKey og".to_owned())]);
    assert_eq!((&got["alias"], &got["message"]), (&json!(KEY), &json!("[FIRING:1] X ")));
    assert_eq!(
        (&got["details"], &got["tags"], &got["priority"]),
        (&json!({"alertname": "X", "k": "firing"}), &json!(["a", "b"]), &json!("P1"))
    );
    let people = json!([{"name": "x", "type": "team"}, {"name": "y", "type": "team"}, {"id": "7", "type": "user"}]);
    assert_eq!(got["responders"], people);
    let (request, _) = next(&config, &notification(), &[(202, "")]);
    assert_eq!(
        (request.method, request.url),
        (Method::PUT, format!("http://o/v2/alerts/{KEY}/message?identifierType=alias"))
    );
    let (request, _) = next(&config, &notification(), &[(202, ""), (202, "")]);
    assert!(request.url.contains("/description?"));
    let (request, _) = next(&config, &resolved(), &[]);
    assert_eq!(request.url, format!("http://o/v2/alerts/{KEY}/close?identifierType=alias"));
    assert!(matches!(step(&config, &resolved(), "", &[answer(202, "")]), Step::End(Verdict::Delivered { .. })));
}

#[test]
fn chats_get_their_own_shapes() {
    let n = notification();
    let got = body("  discord_configs: [{webhook_url: 'http://d/', content: hi}]", &n);
    assert_eq!(
        (&got["content"], &got["embeds"][0]["title"], &got["embeds"][0]["color"]),
        (&json!("hi"), &json!("[FIRING:1] X "), &json!(10_038_562))
    );
    assert_eq!(body("  discord_configs: [{webhook_url: 'http://d/'}]", &resolved())["embeds"][0]["color"], 3_066_993);

    let got = body("  msteams_configs: [{webhook_url: 'http://t/', text: hello}]", &n);
    assert_eq!(
        (&got["@type"], &got["themeColor"], &got["text"]),
        (&json!("MessageCard"), &json!("8C1A1A"), &json!("hello"))
    );
    let card = body("  msteamsv2_configs: [{webhook_url: 'http://t/', text: hello}]", &resolved());
    let content = &card["attachments"][0]["content"];
    assert_eq!((&content["type"], &content["version"]), (&json!("AdaptiveCard"), &json!("1.2")));
    assert_eq!((&content["body"][0]["color"], &content["body"][1]["text"]), (&json!("Good"), &json!("hello")));

    let telegram = config(
        "  telegram_configs: [{bot_token: b0t, api_url: 'http://t', chat_id: -5, message: '<b>{{ .Receiver }}</b> {{ .ExternalURL }}', message_thread_id: 3}]",
    );
    let mut hostile = n.clone();
    hostile.receiver = "<i>".into();
    let (request, got) = next(&telegram, &hostile, &[]);
    assert_eq!(request.url, "http://t/botb0t/sendMessage");
    assert_eq!(
        got,
        json!({"chat_id": "-5", "text": "<b>&lt;i&gt;</b> http://w", "disable_web_page_preview": true, "parse_mode": "HTML", "message_thread_id": 3})
    );

    let webex = config(
        "  webex_configs: [{room_id: r00m, message: '{{ .Status }}', http_config: {authorization: {credentials: t}}}]",
    );
    assert_eq!(next(&webex, &n, &[]).1, json!({"markdown": "firing", "roomId": "r00m"}));

    let rocket = config(
        "  rocketchat_configs: [{api_url: 'http://rc', token: t, token_id: i, channel: '#c', title: T, fields: [{title: a, value: b}]}]",
    );
    let (request, got) = next(&rocket, &n, &[]);
    assert_eq!(request.url, "http://rc/api/v1/chat.postMessage");
    assert_eq!(request.headers, [("x-user-id", "i".to_owned()), ("x-auth-token", "t".to_owned())]);
    assert_eq!((&got["channel"], &got["attachments"][0]["fields"][0]["value"]), (&json!("#c"), &json!("b")));
    let refused = step(&rocket, &n, "", &[answer(200, r#"{"success":false,"error":"no such room"}"#)]);
    assert!(matches!(refused, Step::End(Verdict::Refused(reason)) if reason.contains("no such room")));

    let got = body(
        "  mattermost_configs: [{webhook_url: 'http://m/', channel: c, text: t, props: {card: '{{ .Status }}'}}]",
        &n,
    );
    assert_eq!(got, json!({"channel": "c", "username": "Alertmanager", "text": "t", "props": {"card": "firing"}}));

    let wechat = config(
        "  wechat_configs: [{api_url: 'http://wx', api_secret: s, corp_id: c, to_user: u, agent_id: '1', message: m}]",
    );
    let (request, _) = next(&wechat, &n, &[]);
    assert_eq!((request.method, &*request.url), (Method::GET, "http://wx/gettoken?corpsecret=s&corpid=c"));
    let (request, got) = next(&wechat, &n, &[(200, r#"{"access_token":"tk"}"#)]);
    assert_eq!(request.url, "http://wx/message/send?access_token=tk");
    assert_eq!((&got["touser"], &got["text"], got.get("toparty")), (&json!("u"), &json!({"content": "m"}), None));
    let answers = [answer(200, r#"{"access_token":"tk"}"#), answer(200, r#"{"errcode":42001}"#)];
    assert!(matches!(step(&wechat, &n, "", &answers), Step::End(Verdict::Retry { .. })));
}

#[test]
fn pagers_get_their_own_shapes() {
    let victorops = config(
        "  victorops_configs: [{api_key: k, api_url: 'http://v', routing_key: team, custom_fields: {f: '{{ .Status }}'}}]",
    );
    let (request, got) = next(&victorops, &notification(), &[]);
    assert_eq!(request.url, "http://v/k/team");
    assert_eq!(
        (&got["message_type"], &got["entity_id"], &got["f"]),
        (&json!("CRITICAL"), &json!(KEY), &json!("firing"))
    );
    assert_eq!(next(&victorops, &resolved(), &[]).1["message_type"], "RECOVERY");

    let pushover = config("  pushover_configs: [{user_key: u, token: t, message: '', sound: siren}]");
    let (request, _) = next(&pushover, &notification(), &[]);
    let form: BTreeMap<String, String> = url::form_urlencoded::parse(&request.body).into_owned().collect();
    let get = |key: &str| form.get(key).map_or("", String::as_str);
    assert_eq!(
        (get("token"), get("user"), get("priority"), get("retry"), get("expire")),
        ("t", "u", "2", "60", "3600")
    );
    assert_eq!((get("message"), get("sound"), form.contains_key("ttl")), ("(no details)", "siren", false));

    let io = config("  incidentio_configs: [{url: 'http://i/', alert_source_token: t}]");
    let (request, got) = next(&io, &notification(), &[]);
    assert_eq!(request.headers, [("authorization", "Bearer t".to_owned())]);
    assert_eq!((&got["version"], got["alerts"].as_array().unwrap().len()), (&json!("1"), 2));
    let mut large = notification();
    large.alerts = (0..20)
        .map(|_| AlertData { annotations: Labels::from_pairs([("t", "x".repeat(60_000))]), ..large.alerts[0].clone() })
        .collect();
    let got = next(&io, &large, &[]).1;
    assert_eq!((got["alerts"].as_array().unwrap().len(), &got["truncatedAlerts"]), (5, &json!(15)));
}

/// The signature was made by botocore 1.43 for the same request.
#[test]
fn sns_requests_are_signed() {
    let sns = config(
        "  sns_configs: [{api_url: 'https://sns.eu-central-1.amazonaws.com/', topic_arn: 'arn:aws:sns:eu-central-1:1:t', \
         subject: S, message: 'm {{ .Status }}', attributes: {a: b}, \
         sigv4: {region: eu-central-1, access_key: AKIDEXAMPLE, secret_key: wJalrXUtnFEMI}}]",
    );
    let (request, _) = next(&sns, &notification(), &[]);
    let want = "Action=Publish&Version=2010-03-31&Message=m+firing&TopicArn=arn%3Aaws%3Asns%3Aeu-central-1%3A1%3At&Subject=S\
                &MessageAttributes.entry.1.Name=a&MessageAttributes.entry.1.Value.DataType=String\
                &MessageAttributes.entry.1.Value.StringValue=b";
    assert_eq!(String::from_utf8(request.body).unwrap(), want);
    let header = |name: &str| request.headers.iter().find(|(n, _)| *n == name).unwrap().1.clone();
    assert_eq!(header("x-amz-date"), "20260102T030405Z");
    assert_eq!(header("authorization"), SNS_AUTHORIZATION);
}

const SNS_AUTHORIZATION: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/eu-central-1/sns/aws4_request, SignedHeaders=host;x-amz-date, Signature=ca0adf799928b8ceb098e5b9c280449e888decb791580dc934cda5937fad6a7d";

#[test]
fn jira_issues_are_found_changed_and_moved() {
    let jira = config(
        "  jira_configs: [{api_url: 'http://j/rest/api/2', project: OPS, issue_type: Bug, labels: [x], summary: s, \
         description: d, priority: '', reopen_transition: Reopen, resolve_transition: Done, reopen_duration: 2h, \
         fields: {customfield_1: '{{ .Status }}'}}]",
    );
    let n = notification();
    let (request, got) = next(&jira, &n, &[]);
    assert_eq!(request.url, "http://j/rest/api/2/search");
    let want = format!(
        "(resolutiondate is EMPTY OR resolutiondate >= -120m) and project=\"OPS\" and labels=\"ALERT{{{KEY}}}\" \
         order by status ASC,resolutiondate DESC"
    );
    assert_eq!(got["jql"], want);
    let (request, got) = next(&jira, &n, &[(200, r#"{"issues":[]}"#)]);
    assert_eq!((request.method, &*request.url), (Method::POST, "http://j/rest/api/2/issue"));
    assert_eq!(
        got["fields"],
        json!({"customfield_1": "firing", "project": {"key": "OPS"}, "issuetype": {"name": "Bug"}, "summary": "s",
               "description": "d", "labels": [format!("ALERT{{{KEY}}}"), "x"]})
    );
    let open = r#"{"issues":[{"key":"OPS-1","fields":{"status":{"statusCategory":{"key":"new"}}}}]}"#;
    let (request, _) = next(&jira, &resolved(), &[(200, open)]);
    assert_eq!((request.method, &*request.url), (Method::PUT, "http://j/rest/api/2/issue/OPS-1"));
    let (request, _) = next(&jira, &resolved(), &[(200, open), (204, "")]);
    assert_eq!((request.method, &*request.url), (Method::GET, "http://j/rest/api/2/issue/OPS-1/transitions"));
    let moves = r#"{"transitions":[{"id":"11","name":"Start"},{"id":"31","name":"Done"}]}"#;
    let (_, got) = next(&jira, &resolved(), &[(200, open), (204, ""), (200, moves)]);
    assert_eq!(got, json!({"transition": {"id": "31"}}));
    let end = |n: &Notification, answers: &[Answer]| {
        matches!(step(&jira, n, "", answers), Step::End(Verdict::Delivered { .. }))
    };
    assert!(end(&n, &[answer(200, open), answer(204, "")]), "an open issue is not reopened");
    assert!(end(&resolved(), &[answer(200, r#"{"issues":[]}"#)]), "nothing is created for what is over");
}

#[test]
fn mails_hold_text_and_html_and_no_foreign_headers() {
    let email = config(
        "  email_configs: [{to: 'Ops <ops@x.org>, b@y.org', from: w@z.org, smarthost: 'm:25', text: 'Grüße', \
         headers: {subject: '{{ .Receiver }}', x-Tier: '1'}, threading: {enabled: true}}]",
    );
    let mut n = notification();
    n.receiver = "a\r\nBcc: evil@x".into();
    n.alerts[0].labels = Labels::from_pairs([("alertname", "<script>")]);
    let Step::Mail(mail) = step(&email, &n, "", &[]) else { panic!() };
    assert_eq!((&*mail.from, &mail.to[..]), ("w@z.org", &["ops@x.org".to_owned(), "b@y.org".to_owned()][..]));
    let (head, body) = mail.message.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("Subject: a  Bcc: evil@x\r\n") && !head.contains("\nBcc"), "{head}");
    assert!(head.contains("X-Tier: 1\r\n") && head.contains("Date: Fri, 02 Jan 2026 03:04:05 +0000"), "{head}");
    assert!(head.contains(&format!("References: <alert.2026-01-02.{}@alertmanager>", &KEY[..24])), "{head}");
    assert!(body.contains("text/plain") && body.contains("Gr=C3=BC=C3=9Fe") && body.contains("text/html"), "{body}");
    let whole = body.replace("=\r\n", "");
    assert!(whole.contains("&lt;script&gt;") && !whole.contains("<script>"), "{whole}");
    assert!(body.lines().all(|l| l.len() <= 76), "lines are short");
}

/// Every kind renders its default texts without an error, firing and resolved.
#[test]
fn default_texts_render() {
    for receiver in [
        "  webhook_configs: [{url: 'http://h/'}]",
        "  email_configs: [{to: a@b, from: c@d, smarthost: 'm:25'}]",
        "  pagerduty_configs: [{routing_key: k}]",
        "  opsgenie_configs: [{api_key: k}]",
        "  wechat_configs: [{api_secret: k, corp_id: c}]",
        "  slack_configs: [{api_url: 'http://h/'}]",
        "  victorops_configs: [{api_key: k, routing_key: r}]",
        "  pushover_configs: [{user_key: u, token: t, html: true}]",
        "  sns_configs: [{topic_arn: t, sigv4: {region: r, access_key: a, secret_key: b}}]",
        "  telegram_configs: [{bot_token: b, chat_id: 1}]",
        "  discord_configs: [{webhook_url: 'http://h/'}]",
        "  webex_configs: [{room_id: r, http_config: {authorization: {credentials: c}}}]",
        "  msteams_configs: [{webhook_url: 'http://h/'}]",
        "  msteamsv2_configs: [{webhook_url: 'http://h/'}]",
        "  jira_configs: [{api_url: 'http://h/', project: p, issue_type: i}]",
        "  rocketchat_configs: [{token: t, token_id: i}]",
        "  mattermost_configs: [{webhook_url: 'http://h/'}]",
        "  incidentio_configs: [{url: 'http://h/', alert_source_token: t}]",
    ] {
        let config = config(receiver);
        let found = r#"{"issues":[],"access_token":"t"}"#;
        for n in [notification(), resolved()] {
            step(&config, &n, "", &[]);
            if matches!(config.receivers[0].integrations[0].name(), "jira" | "wechat") {
                step(&config, &n, "", &[answer(200, found)]);
            }
        }
    }
}

#[test]
fn placeholders_are_named_when_something_should_be_sent() {
    let config = config("  slack_configs: [{api_url: <SLACK_WEBHOOK_URL>}]");
    let tenant = TenantId::anonymous();
    let n = notification();
    let say = Say::new(&n, &tenant, &config.templates, "", Timestamp(0));
    let error = config.receivers[0].integrations[0].kind.step(&say, &[]).unwrap_err();
    assert!(error.contains("placeholder"), "{error}");
}
