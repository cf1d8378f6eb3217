use super::*;

const FULL: &str = r#"
global:
  resolve_timeout: 2m
  slack_api_url: https://hooks.slack.com/services/T0/B0/secret-slack
  pagerduty_url: http://127.0.0.1:1/v2/enqueue
  smtp_smarthost: mail:25
  http_config:
    basic_auth: {username: u, password: secret-password}
route:
  receiver: default
  group_by: [alertname, cluster]
  group_wait: 10s
  routes:
  - matchers: ['severity="page"', team=~"a|b"]
    receiver: pager
    group_by: ['...']
    continue: true
    routes:
    - match: {dc: x}
      repeat_interval: 1h
  - match_re: {team: "c.*"}
    receiver: chat
    group_wait: 0s
receivers:
- name: default
- name: pager
  pagerduty_configs:
  - routing_key: secret-routing
    details: {a: '{{ .Status }}', nested: {b: ['{{ .Receiver }}']}}
- name: chat
  slack_configs:
  - channel: '#c'
  webhook_configs:
  - url: http://localhost:9/hook
    send_resolved: false
    max_alerts: 2
    timeout: 5s
    http_config: {authorization: {credentials: secret-token}}
inhibit_rules:
- source_matchers: [severity="page"]
  target_match: {severity: low}
  equal: [cluster]
"#;

#[test]
fn a_full_configuration_reads_with_inheritance() {
    let config = parse_config("am.yml", FULL, None).unwrap();
    assert_eq!(config.routes.len(), 4);
    let leaf = &config.routes[2];
    assert_eq!(leaf.key, r#"{}/{severity="page",team=~"a|b"}/{dc="x"}"#);
    assert_eq!((leaf.group_wait.as_secs(), leaf.repeat_interval.as_secs()), (10, 3600));
    assert_eq!((&leaf.group_by, leaf.continues, leaf.receiver), (&GroupBy::All, false, 1));
    assert_eq!(config.resolve_timeout.as_secs(), 120);
    assert_eq!(config.warnings, [""; 0]);
    let webhook = &config.receivers[2].integrations[0];
    assert_eq!((webhook.send_resolved, webhook.timeout), (false, Some(Duration::from_secs(5))));
    assert!(webhook.http.authorization.is_some() && webhook.http.basic_auth.is_none());
    let slack = &config.receivers[2].integrations[1];
    assert!(!slack.send_resolved && slack.http.basic_auth.is_some());
}

#[test]
fn secrets_are_neither_shown_nor_printed() {
    let config = parse_config("am.yml", FULL, None).unwrap();
    assert!(!format!("{config:?}").contains("secret-"), "printed");
    for key in ["slack_api_url: <secret>", "password: <secret>", "routing_key: <secret>", "credentials: <secret>"] {
        assert!(config.original.contains(key), "{key} in {}", config.original);
    }
    let escaped = FULL.replace("routing_key: secret-routing", r#"routing_key: "secret\x2drouting""#);
    let hidden = parse_config("am.yml", &escaped, None).unwrap().original;
    assert!(hidden.starts_with("# not shown"), "{hidden}");
}

#[test]
fn alerts_reach_routes_as_upstream_walks_them() {
    let config = parse_config("am.yml", FULL, None).unwrap();
    let check = |labels: &[(&'static str, &'static str)], want: &[usize]| {
        assert_eq!(config.routes_of(&Labels::from_pairs(labels.to_vec())), want, "{labels:?}");
    };
    check(&[], &[0]);
    check(&[("severity", "page"), ("team", "a")], &[1]);
    check(&[("severity", "page"), ("team", "a"), ("dc", "x")], &[2]);
    check(&[("team", "cc")], &[3]);
    check(&[("severity", "page"), ("team", "c")], &[3]);
}

#[test]
fn mistakes_are_named_with_their_line() {
    let check = |text: &str, want: &str| {
        let got = parse_config("am.yml", text, None).unwrap_err().to_string();
        assert!(got.contains(want), "{text:?}: {got}");
    };
    let with = |receiver: &str| format!("route: {{receiver: r}}\nreceivers:\n- name: r\n{receiver}\n");
    check("receivers: []\n", "no routes provided");
    check("route: {receiver: x}\nreceivers: []\n", "am.yml:1: undefined receiver \"x\"");
    check("route: {receiver: r, matchers: [a=b]}\nreceivers: [{name: r}]\n", "root route must not have any matchers");
    check("route: {receiver: r, group_interval: 0s}\nreceivers: [{name: r}]\n", "group_interval cannot be zero");
    check("route: {receiver: r, group_by: ['...', a]}\nreceivers: [{name: r}]\n", "cannot have wildcard group_by");
    check("route: {receiver: r}\nreceivers: [{name: r}, {name: r}]\n", "is not unique");
    check(&with("  pager_configs: []"), "am.yml:4: ");
    check(&with("  pager_configs: []"), "pager_configs");
    check(&with("  webhook_configs: [{send_resolved: true}]"), "am.yml:4: one of url or url_file");
    check(&with("  webhook_configs: [{url: 'ftp://x'}]"), "webhook url is not a valid http or https URL");
    check(&with("  slack_configs: [{channel: c}]"), "no global Slack API URL set");
    check(&with("  pagerduty_configs: [{}]"), "missing service or routing key");
    check(&with("  pagerduty_configs: [{routing_key: k, description: '{{ nope }}'}]"), "function \"nope\" not defined");
    check(&with("  pagerduty_configs: [{routing_key: k, routing_key_file: f}]"), "at most one of routing_key");
    check("route: {receiver: r, routes: [{matchers: ['a']}]}\nreceivers: [{name: r}]\n", "bad matcher format: a");
    let timed = |names: &str| {
        format!(
            "time_intervals: [{{name: a, time_intervals: [{{weekdays: [sunday]}}]}}]\n\
             route: {{receiver: r, routes: [{{mute_time_intervals: [{names}]}}]}}\nreceivers: [{{name: r}}]\n"
        )
    };
    assert!(parse_config("am.yml", &timed("a"), None).is_ok());
    check(&timed("b"), "am.yml:2: undefined time interval \"b\" used in route");
    check(&timed("a").replace("[sunday]", "[sun]"), "am.yml:1: time interval \"a\": sun is not a valid weekday");
    check(
        "route: {receiver: r, active_time_intervals: [a]}\nreceivers: [{name: r}]\n",
        "must not have any active time",
    );
    check(&with("  email_configs: [{to: a@b}]"), "am.yml:4: no global SMTP from set");
    check(&with("  telegram_configs: [{bot_token: t}]"), "missing chat_id");
    check(&with("  webex_configs: [{room_id: r}]"), "http_config.authorization");
    check(&with("  slack_configs: [{api_url: 'http://h', update_message: true}]"), "update_message needs an app_token");
    check(&with("  webhook_configs: [{url: 'http://h', http_config: {tls_config: {ca: x}}}]"), "no certificate");
    check(&with("  webhook_configs: [{url: 'http://h', http_config: {tls: {}}}]"), "tls");
    check(&with("  webhook_configs: [{url: 'http://h', http_config: {no_proxy: x}}]"), "need proxy_url");
    check(
        &with("  webhook_configs: [{url: 'http://h', http_config: {bearer_token: a, basic_auth: {username: u}}}]"),
        "at most one of basic_auth, authorization and oauth2",
    );
}

#[test]
fn links_that_nobody_can_open_are_warned_about() {
    let config = |url: &str| {
        let text = format!("route: {{receiver: r}}\nreceivers:\n- name: r\n  webhook_configs: [{{url: '{url}'}}]\n");
        parse_config("am.yml", &text, None).unwrap()
    };
    assert_eq!(config("http://10.0.0.1/x").link_warnings("http://127.0.0.1:9090").len(), 1);
    assert_eq!(config("http://10.0.0.1/x").link_warnings("https://weir.example.org").len(), 0);
    assert_eq!(config("http://localhost:1/x").link_warnings("http://127.0.0.1:9090").len(), 0);
}

/// The configuration of the capstone document, as it stands there.
#[test]
fn the_capstone_configuration_loads() {
    const CAPSTONE: &str = r#"
global:
  resolve_timeout: 5m
  pagerduty_url: https://events.pagerduty.com/v2/enqueue
route:
  group_by: [alertname, cluster, slo]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 4h
  receiver: slack-warnings
  routes:
    - match:
        severity: critical
      receiver: pagerduty-critical
      continue: false
    - match:
        severity: high
      receiver: slack-oncall
      group_interval: 2m
      repeat_interval: 1h
inhibit_rules:
  - source_match:
      severity: critical
    target_match:
      severity: high
    equal: [cluster, slo]
receivers:
  - name: pagerduty-critical
    pagerduty_configs:
      - routing_key: <PD_INTEGRATION_KEY>
        description: '{{ .GroupLabels.alertname }} on {{ .GroupLabels.cluster }}'
        details:
          runbook: '{{ (index .Alerts 0).Annotations.runbook_url }}'
          firing: '{{ .Alerts.Firing | len }}'
  - name: slack-oncall
    slack_configs:
      - api_url: <SLACK_WEBHOOK_URL>
        channel: '#oncall-alerts'
        title: '[{{ .Status | toUpper }}] {{ .GroupLabels.alertname }}'
        text: '{{ range .Alerts }}{{ .Annotations.description }}{{ end }}'
  - name: slack-warnings
    slack_configs:
      - api_url: <SLACK_WEBHOOK_URL>
        channel: '#platform-noise'
        send_resolved: true
"#;
    let config = parse_config("am.yml", CAPSTONE, None).unwrap();
    assert_eq!((config.routes.len(), config.receivers.len(), config.inhibit_rules.len()), (3, 3, 1));
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("am.yml:37: slack api_url is a placeholder"), "{}", config.warnings[0]);
    let high = &config.routes[2];
    assert_eq!(
        (high.group_wait.as_secs(), high.group_interval.as_secs(), high.repeat_interval.as_secs()),
        (30, 120, 3600)
    );
}

#[test]
fn time_intervals_mute_routes() {
    let text = "
time_intervals:
- {name: nights, time_intervals: [{times: [{start_time: '00:00', end_time: '06:00'}]}]}
- {name: weekdays, time_intervals: [{weekdays: ['monday:friday']}]}
route:
  receiver: r
  routes:
  - {matchers: [a=b], mute_time_intervals: [nights], active_time_intervals: [weekdays], labels: {x: '{{ .Status }}'}}
receivers: [{name: r, labels: {team: one}}]
";
    let config = parse_config("am.yml", text, None).unwrap();
    let check = |at: &str, want: &[&str]| {
        let at: jiff::Timestamp = at.parse().unwrap();
        let at = Timestamp(at.as_millisecond());
        assert_eq!(config.muted_by(&config.routes[1], at), want, "{at:?}");
        assert!(config.muted_by(&config.routes[0], at).is_empty());
    };
    check("2026-03-04T03:00:00Z", &["nights"]);
    check("2026-03-04T12:00:00Z", &[]);
    check("2026-03-01T12:00:00Z", &["weekdays"]);
    assert_eq!(config.receivers[0].labels["team"], "one");
}
