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
    assert_eq!(config.warnings, ["global.smtp_smarthost has no effect"]);
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
    check(&with("  email_configs: []"), "am.yml:4: ");
    check(&with("  email_configs: []"), "email_configs");
    check(&with("  webhook_configs: [{send_resolved: true}]"), "am.yml:4: one of url or url_file");
    check(&with("  webhook_configs: [{url: 'ftp://x'}]"), "webhook url is not a valid http or https URL");
    check(&with("  slack_configs: [{channel: c}]"), "no global Slack API URL set");
    check(&with("  pagerduty_configs: [{}]"), "missing service or routing key");
    check(&with("  pagerduty_configs: [{routing_key: k, description: '{{ nope }}'}]"), "function \"nope\" not defined");
    check(&with("  pagerduty_configs: [{routing_key: k, routing_key_file: f}]"), "at most one of routing_key");
    check("route: {receiver: r, routes: [{matchers: ['a']}]}\nreceivers: [{name: r}]\n", "bad matcher format: a");
    check("time_intervals: []\nroute: {receiver: r}\nreceivers: [{name: r}]\n", "time_intervals");
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
