use weir_model::{Labels, Timestamp};

use super::*;

pub(crate) const FILE: &str = r#"
time_zone: Europe/Berlin
people:
- name: ana
  shown: Ana Silva
  contacts: {phone: '+491', push: 'http://127.0.0.1:1/ana'}
- name: ben
  contacts: {phone: '+492', push: 'http://127.0.0.1:1/ben'}
- name: lead
  contacts: {phone: '+493'}
channels:
- name: call
  webhook_configs: [{url: 'http://127.0.0.1:1/call', payload: {to: '${phone}', who: '${name}', text: '{{ .Status }}'}}]
- name: push
  webhook_configs: [{url: '${push}'}]
schedules:
- name: primary
  layers:
  - {people: [ana, ben], start: 2026-01-05, handoff: '09:00', rotation: weekly}
- name: backup
  time_zone: UTC
  layers:
  - {people: [ben, ana], start: 2026-01-05, handoff: '09:00', rotation: weekly}
  overrides:
  - {person: lead, start: 2026-01-06 12:00, end: 2026-01-06T13:00:00Z}
chains:
- name: production
  repeat: 1
  steps:
  - {notify: [{schedule: primary}], wait: 5m}
  - {notify: [{schedule: backup}], wait: 5m}
  - {notify: [{person: lead}], channels: [call], wait: 10m}
- name: chat
  steps:
  - notify: [{receiver: slack}]
tiers:
- {name: T1, values: [critical], channels: [call, push], chain: production}
- {name: T2, channels: [push]}
- {name: T3, chain: chat}
routes:
- {receiver: quiet}
- {receiver: pager, chain: production, tier: T1}
- {matchers: ['team="data"'], chain: chat}
"#;

fn parse(text: &str) -> Result<OnCallConfig, ConfigError> {
    parse_oncall("oncall.yml", text, None)
}

#[test]
fn the_capstone_rotation_names_who_is_on_call_and_what_alerts_start() {
    let config = parse(FILE).unwrap();
    let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let on_call = |name: &str, t: &str| config.schedule(name).unwrap().on_call(&[], at(t)).map(|(p, _)| p.to_owned());
    assert_eq!(on_call("primary", "2026-01-05T07:59:59Z"), None);
    assert_eq!(on_call("primary", "2026-01-05T08:00:00Z").as_deref(), Some("ana"));
    assert_eq!(on_call("backup", "2026-01-06T11:59:59Z").as_deref(), Some("ben"));
    assert_eq!(on_call("backup", "2026-01-06T12:00:00Z").as_deref(), Some("lead"));
    assert_eq!(on_call("primary", "2026-07-06T07:00:00Z").as_deref(), Some("ana"));
    let plan = |receiver: &str, labels: &[(&str, &str)]| {
        let plan = config.plan(receiver, &Labels::from_pairs(labels.iter().copied()));
        plan.map(|p| format!("{} {}", p.chain, p.tier.unwrap_or_default()))
    };
    assert_eq!(plan("x", &[("severity", "critical")]).as_deref(), Some("production T1"));
    assert_eq!(plan("x", &[("tier", "t3"), ("severity", "critical")]).as_deref(), Some("chat T3"));
    assert_eq!(plan("x", &[("tier", "T2")]), None);
    assert_eq!(plan("x", &[]), None);
    assert_eq!(plan("quiet", &[("tier", "T1")]), None);
    assert_eq!(plan("pager", &[]).as_deref(), Some("production T1"));
    assert_eq!(plan("x", &[("team", "data"), ("tier", "T1")]).as_deref(), Some("chat T1"));
    assert!(config.reach("lead", "call").is_some() && config.reach("lead", "push").is_none());
}

#[test]
fn mistakes_are_named_with_their_line() {
    let check = |from: &str, to: &str, want: &str| {
        assert!(FILE.contains(from), "{from}");
        let error = parse(&FILE.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.starts_with("oncall.yml:") && error.contains(want), "{error} does not say {want}");
        let line: u64 = error.split(':').nth(1).unwrap().parse().unwrap();
        assert!(line > 0, "{error}");
    };
    check("  repeat: 1", "  repeats: 1", "repeats");
    check("webhook_configs: [{url: '${push}'}]", "webhook_configs: [{url: '${push}', nope: 1}]", "nope");
    check("{url: '${push}'}", "{url: '${fax}'}", "no person has a contact \"fax\"");
    check("http://127.0.0.1:1/ben", "not a url", "for ben: webhook url");
    check("text: '{{ .Status }}'", "text: '{{ .Status '", "channel \"call\"");
    check("people: [ana, ben]", "people: [ana, bob]", "person \"bob\"");
    check("{schedule: backup}", "{schedule: back}", "schedule \"back\"");
    check("rotation: weekly}\n- name: backup", "rotation: monthly}\n- name: backup", "monthly");
    check(
        "handoff: '09:00', rotation: weekly}\n- name: backup",
        "handoff: '9am', rotation: weekly}\n- name: backup",
        "9am",
    );
    check("time_zone: UTC", "time_zone: Mars/Olympus", "Mars/Olympus");
    check("channels: [call], wait: 10m", "channels: [call]", "needs `wait`");
    check("channels: [call], wait: 10m", "channels: [push], wait: 10m", "lead has no contact");
    check("chain: chat}\nroutes", "chain: chatter}\nroutes", "chatter");
    check("- {receiver: quiet}", "- {tier: T1}", "a route wants");
    check("end: 2026-01-06T13:00:00Z", "end: 2026-01-06T11:00:00Z", "ends before");
    check("[{person: lead}]", "[{person: lead, receiver: slack}]", "one of schedule, person and receiver");
    check("- name: ben", "- name: ana", "not unique");
}

#[test]
fn receivers_must_be_in_the_other_file() {
    let text = "route: {receiver: slack}\nreceivers: [{name: slack}, {name: quiet}, {name: pager}]\n";
    let with = crate::parse_config("am.yml", text, None).unwrap();
    let config = parse(FILE).unwrap();
    config.check_receivers(&with).unwrap();
    let without = crate::parse_config("am.yml", &text.replace("{name: pager}", "{name: p}"), None).unwrap();
    let error = config.check_receivers(&without).unwrap_err().to_string();
    assert!(error.contains("\"pager\" is not in the Alertmanager configuration"), "{error}");
}

#[test]
fn nothing_configured_is_valid() {
    assert!(OnCallConfig::none().is_empty());
}
