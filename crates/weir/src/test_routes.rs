//! `weir test routes FILE`: alerts in, notifications and pages out over simulated time. The format: `docs/oncall.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_saphyr::Spanned;
use weir_alert::oncall::OnCallConfig;
use weir_alert::simulation::{Said, SaidTo, Scenario, SimAcknowledgement, SimAlert, SimSilence, simulate};
use weir_alert::{Config, parse_matchers};
use weir_model::{Labels, Matcher, Timestamp};

const LENGTH: Duration = Duration::from_secs(3600);
/// Alerts, silences and expectations of one test, each.
const ENTRIES_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFile {
    alertmanager_config: PathBuf,
    oncall_config: Option<PathBuf>,
    tests: Vec<Spanned<Test>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    #[serde(default)]
    name: String,
    start: Option<String>,
    #[serde(rename = "for")]
    length: Option<String>,
    #[serde(default)]
    alerts: Vec<Spanned<TestAlert>>,
    #[serde(default)]
    silences: Vec<Spanned<TestSilence>>,
    #[serde(default)]
    acknowledge: Vec<Spanned<TestAcknowledgement>>,
    #[serde(default)]
    expect: Vec<Spanned<Expected>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestAlert {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestSilence {
    matchers: Vec<String>,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestAcknowledgement {
    at: String,
    #[serde(default)]
    matchers: Vec<String>,
    #[serde(default)]
    by: String,
}

/// One notification; what is left out may be anything.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    at: String,
    receiver: Option<String>,
    person: Option<String>,
    channel: Option<String>,
    /// Label sets; each must be part of the labels of one alert.
    firing: Option<Vec<BTreeMap<String, String>>>,
    resolved: Option<Vec<BTreeMap<String, String>>>,
    reason: Option<String>,
}

/// A test that failed: its name and the difference.
pub struct Failure {
    pub line: u64,
    pub name: String,
    pub diff: Vec<String>,
}

/// Number of tests, and those that failed.
pub fn run(file: &Path) -> anyhow::Result<(usize, Vec<Failure>)> {
    let name = file.display();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let tests: TestFile = serde_saphyr::from_str(&text).map_err(|e| {
        let line = e.location().map_or(0, |l| l.line());
        anyhow::anyhow!("{name}:{line}: {}", e.without_snippet().to_string().lines().next().unwrap_or_default())
    })?;
    let beside = |path: &Path| file.parent().unwrap_or(Path::new(".")).join(path);
    let config = weir_alert::read_config(&beside(&tests.alertmanager_config))?;
    let oncall = match &tests.oncall_config {
        Some(path) => weir_alert::oncall::read_oncall(&beside(path))?,
        None => OnCallConfig::none(),
    };
    oncall.check_receivers(&config)?;
    let mut failures = Vec::new();
    for test in &tests.tests {
        let (line, test) = (test.referenced.line(), &test.value);
        let diff = one(test, &config, &oncall).with_context(|| format!("{name}:{line}: test {:?}", test.name))?;
        if !diff.is_empty() {
            failures.push(Failure { line, name: test.name.clone(), diff });
        }
    }
    Ok((tests.tests.len(), failures))
}

fn duration(line: u64, key: &str, text: &str) -> anyhow::Result<Duration> {
    let parsed = if text == "0" { Ok(Duration::ZERO) } else { weir_go::parse_prometheus_duration(text) };
    parsed.map_err(|e| anyhow::anyhow!("line {line}: {key}: {e}"))
}

fn or_zero(line: u64, key: &str, text: &Option<String>) -> anyhow::Result<Duration> {
    text.as_ref().map_or(Ok(Duration::ZERO), |text| duration(line, key, text))
}

fn matchers(line: u64, texts: &[String]) -> anyhow::Result<Vec<Matcher>> {
    let mut out = Vec::new();
    for text in texts {
        out.extend(parse_matchers(text).map_err(|e| anyhow::anyhow!("line {line}: {e}"))?);
    }
    Ok(out)
}

fn scenario(test: &Test) -> anyhow::Result<Scenario> {
    let counts = [test.alerts.len(), test.silences.len(), test.acknowledge.len(), test.expect.len()];
    if counts.into_iter().any(|n| n > ENTRIES_MAX) {
        bail!("more than {ENTRIES_MAX} entries");
    }
    let start = match &test.start {
        Some(text) => text.parse::<jiff::Timestamp>().with_context(|| format!("start: {text:?} is not RFC 3339"))?,
        None => jiff::Timestamp::UNIX_EPOCH,
    };
    let length = test.length.as_ref().map_or(Ok(LENGTH), |text| duration(0, "for", text))?;
    let mut out = Scenario {
        start: Timestamp(start.as_millisecond()),
        length,
        alerts: Vec::new(),
        silences: Vec::new(),
        acknowledgements: Vec::new(),
    };
    for alert in &test.alerts {
        let (line, alert) = (alert.referenced.line(), &alert.value);
        let from = or_zero(line, "from", &alert.from)?;
        let to = alert.to.as_ref().map(|text| duration(line, "to", text)).transpose()?;
        if to.is_some_and(|to| to <= from) {
            bail!("line {line}: an alert ends before it begins");
        }
        let labels = Labels::from_pairs(alert.labels.iter().map(|(k, v)| (&**k, &**v)));
        let annotations = Labels::from_pairs(alert.annotations.iter().map(|(k, v)| (&**k, &**v)));
        out.alerts.push(SimAlert { labels, annotations, from, to });
    }
    for silence in &test.silences {
        let (line, silence) = (silence.referenced.line(), &silence.value);
        let to = silence.to.as_ref().map_or(Ok(length + Duration::from_secs(1)), |text| duration(line, "to", text))?;
        let from = or_zero(line, "from", &silence.from)?;
        out.silences.push(SimSilence { matchers: matchers(line, &silence.matchers)?, from, to });
    }
    for ack in &test.acknowledge {
        let (line, ack) = (ack.referenced.line(), &ack.value);
        let (at, matchers) = (duration(line, "at", &ack.at)?, matchers(line, &ack.matchers)?);
        out.acknowledgements.push(SimAcknowledgement { at, matchers, by: ack.by.clone() });
    }
    Ok(out)
}

/// The difference between what was said and what should have been; empty where there is none.
fn one(test: &Test, config: &Config, oncall: &OnCallConfig) -> anyhow::Result<Vec<String>> {
    let said = simulate(config.clone(), oncall.clone(), &scenario(test)?).map_err(anyhow::Error::msg)?;
    let mut expected = Vec::new();
    for entry in &test.expect {
        let (line, entry) = (entry.referenced.line(), &entry.value);
        expected.push((duration(line, "at", &entry.at)?, line, entry));
    }
    expected.sort_by_key(|(at, line, _)| (*at, *line));
    let mut left: Vec<Option<&Said>> = said.iter().map(Some).collect();
    // Each line with its time, what is as it should be among them.
    let mut lines: Vec<(Duration, String)> = Vec::new();
    let mut differs = false;
    for (at, line, entry) in &expected {
        let found = left.iter_mut().find(|s| s.is_some_and(|s| s.at == *at && entry.matches(s)));
        match found.and_then(Option::take) {
            Some(said) => lines.push((*at, format!("  {}", Shown(said)))),
            None => {
                differs = true;
                lines.push((*at, format!("- {} (expected by line {line})", entry.show(*at))));
            }
        }
    }
    for said in left.into_iter().flatten() {
        differs = true;
        lines.push((said.at, format!("+ {}", Shown(said))));
    }
    lines.sort_by_key(|(at, _)| *at);
    Ok(if differs { lines.into_iter().map(|(_, line)| line).collect() } else { Vec::new() })
}

impl Expected {
    fn matches(&self, said: &Said) -> bool {
        let is = |wanted: &Option<String>, got: Option<&str>| wanted.as_deref().is_none_or(|w| Some(w) == got);
        let (receiver, person, channel) = match &said.to {
            SaidTo::Receiver(name) => (Some(&**name), None, None),
            SaidTo::Person { person, channel } => (None, Some(&**person), Some(&**channel)),
        };
        is(&self.receiver, receiver)
            && is(&self.person, person)
            && is(&self.channel, channel)
            && is(&self.reason, Some(&said.reason))
            && self.firing.as_ref().is_none_or(|wanted| same(wanted, &said.firing))
            && self.resolved.as_ref().is_none_or(|wanted| same(wanted, &said.resolved))
    }

    fn show(&self, at: Duration) -> String {
        let mut out = format!("{} ", weir_go::format_prometheus_duration(at));
        match (&self.receiver, &self.person) {
            (Some(receiver), _) => out.push_str(receiver),
            (None, Some(person)) => out.push_str(person),
            (None, None) => out.push_str("anybody"),
        }
        out.extend(self.channel.iter().map(|channel| format!(" ({channel})")));
        for (word, sets) in [("firing", &self.firing), ("resolved", &self.resolved)] {
            for set in sets.iter().flatten() {
                out.push_str(&format!(" {word}{}", Labels::from_pairs(set.iter().map(|(k, v)| (&**k, &**v)))));
            }
        }
        out.extend(self.reason.iter().map(|reason| format!(": {reason}")));
        out
    }
}

/// Whether each set is part of one alert's labels, and no alert is left.
fn same(wanted: &[BTreeMap<String, String>], got: &[Labels]) -> bool {
    let mut left: Vec<&Labels> = got.iter().collect();
    // The sets that say most first, so that one that says little does not take their alert.
    let mut wanted: Vec<_> = wanted.iter().collect();
    wanted.sort_by_key(|set| std::cmp::Reverse(set.len()));
    wanted.len() == left.len()
        && wanted.into_iter().all(|set| {
            let found = left.iter().position(|labels| set.iter().all(|(k, v)| labels.get(k) == Some(v)));
            found.map(|idx| left.swap_remove(idx)).is_some()
        })
}

/// One notification as a line.
struct Shown<'a>(&'a Said);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.0;
        write!(f, "{} ", weir_go::format_prometheus_duration(said.at))?;
        match &said.to {
            SaidTo::Receiver(name) => f.write_str(name)?,
            SaidTo::Person { person, channel } => write!(f, "{person} ({channel})")?,
        }
        for (word, sets) in [("firing", &said.firing), ("resolved", &said.resolved)] {
            for labels in sets {
                write!(f, " {word}{labels}")?;
            }
        }
        write!(f, ": {}", said.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALERTMANAGER: &str = "
route:
  receiver: chat
  group_by: [alertname]
  group_wait: 30s
  group_interval: 5m
  repeat_interval: 4h
  routes:
  - {receiver: pager, matchers: ['severity=\"critical\"'], group_wait: 0s}
  - {receiver: office, matchers: ['severity=\"info\"'], active_time_intervals: [hours]}
receivers:
- {name: chat, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}
- {name: pager, webhook_configs: [{url: 'http://127.0.0.1:1/'}, {url: 'http://127.0.0.1:1/second'}]}
- {name: office, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}
inhibit_rules:
- {source_matchers: ['severity=\"critical\"'], target_matchers: ['severity=\"warning\"'], equal: [job]}
time_intervals:
- {name: hours, time_intervals: [{times: [{start_time: '09:00', end_time: '17:00'}]}]}
";
    const ONCALL: &str = "
people: [{name: ana, contacts: {phone: '1'}}, {name: ben, contacts: {phone: '2'}}]
channels: [{name: call, webhook_configs: [{url: 'http://127.0.0.1:1/', send_resolved: false, payload: {to: '${phone}'}}]}]
schedules: [{name: primary, layers: [{people: [ana], start: 2026-01-05, rotation: weekly}]}]
chains:
- name: production
  steps: [{notify: [{schedule: primary}], wait: 5m}, {notify: [{person: ben}], wait: 5m}]
tiers: [{name: T1, values: [critical], channels: [call], chain: production}]
";

    /// Tests over these configurations; gives the difference of the first that fails.
    fn check(tests: &str) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("alertmanager.yml"), ALERTMANAGER).unwrap();
        std::fs::write(dir.path().join("oncall.yml"), ONCALL).unwrap();
        let file = dir.path().join("tests.yml");
        let head = "alertmanager_config: alertmanager.yml\noncall_config: oncall.yml\ntests:\n";
        std::fs::write(&file, format!("{head}{tests}")).unwrap();
        match run(&file) {
            Ok((_, failures)) => failures.first().map_or(Ok(()), |f| Err(f.diff.join("\n"))),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn inhibition_silences_hours_and_pages_are_simulated() {
        let tests = "
- name: a page inhibits the warning, escalates until it is acknowledged, and ends
  for: 30m
  start: 2026-01-06T02:00:00Z
  alerts:
  - {labels: {alertname: Down, severity: critical, job: db}, to: 12m}
  - {labels: {alertname: Slow, severity: warning, job: db}}
  - {labels: {alertname: Slow, severity: warning, job: web}, from: 1m}
  acknowledge: [{at: 7m, matchers: ['alertname=\"Down\"'], by: ana}]
  expect:
  - {at: 0s, receiver: pager, firing: [{alertname: Down}], resolved: []}
  - {at: 0s, person: ana, channel: call}
  - {at: 5m, person: ben}
  - {at: 5m30s, receiver: chat, firing: [{job: web}]}
  - {at: 15m, receiver: pager, firing: [], resolved: [{alertname: Down, job: db}]}
  - {at: 15m30s, receiver: chat, firing: [{job: web}, {job: db}]}
- name: silenced, then not
  for: 30m
  start: 2026-01-06T02:00:00Z
  alerts: [{labels: {alertname: Down, severity: critical}}]
  silences: [{matchers: ['alertname=~\"Do.*\"'], to: 12m}]
  expect:
  - {at: 15m, receiver: pager, reason: first notification}
  - {at: 15m}
  - {at: 20m, person: ben}
- name: out of hours
  start: 2026-01-06T08:52:00Z
  for: 20m
  alerts: [{labels: {alertname: Note, severity: info}}]
  expect: [{at: 10m30s, receiver: office}]
";
        check(tests).unwrap();
    }

    #[test]
    fn a_difference_shows_what_was_said_beside_what_was_expected() {
        let tests = "
- for: 6m
  start: 2026-01-06T02:00:00Z
  alerts: [{labels: {alertname: Down, severity: critical}}]
  expect:
  - {at: 0s, receiver: chat}
  - {at: 0s, person: ana}
";
        let diff = check(tests).unwrap_err();
        assert_eq!(
            diff,
            "- 0s chat (expected by line 9)\n  \
             0s ana (call) firing{alertname=\"Down\", severity=\"critical\"}: on call, step 1 of 2\n\
             + 0s pager firing{alertname=\"Down\", severity=\"critical\"}: first notification\n\
             + 5m ben (call) firing{alertname=\"Down\", severity=\"critical\"}: on call, step 2 of 2"
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, want) in [
            ("- {alerts: [{labels: {a: b}, from: 5}]}\n", "line 4: from"),
            ("- {alerts: [{labels: {}}]}\n", "alert 1: at least one label"),
            ("- {alerts: [{labels: {a: b}, from: 2m, to: 1m}]}\n", "ends before it begins"),
            ("- {silences: [{matchers: ['a=~\"(\"']}]}\n", "line 4"),
            ("- {alert: []}\n", "unknown field"),
            ("- {start: yesterday}\n", "yesterday"),
        ] {
            let error = check(text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
