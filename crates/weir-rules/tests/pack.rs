//! Rules, tests, samples and runbooks of the shipped packs belong together. `weir/tests/e2e/promtool.rs` runs the tests.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use weir_rules::pack::{PACKS, Pack};
use weir_rules::{Rule, RuleExpr, RuleKind};

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("pack").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn rules(pack: &Pack) -> Vec<Rule> {
    let groups = pack.groups().unwrap_or_else(|e| panic!("{}: {e:?}", pack.name));
    groups.into_iter().flat_map(|g| g.rules).collect()
}

fn alerts(rules: &[Rule]) -> impl Iterator<Item = (&str, &Rule, &BTreeMap<String, String>)> {
    rules.iter().filter_map(|rule| match &rule.kind {
        RuleKind::Alert { name, annotations, .. } => Some((name.as_str(), rule, annotations)),
        RuleKind::Record { .. } => None,
    })
}

/// Label names by metric, of the lines of a sample.
fn sample(source: &str) -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&format!("samples/{source}.prom"));
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.is_empty()) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{source}: {line}"));
        value.parse::<f64>().unwrap_or_else(|e| panic!("{source}: {line}: {e}"));
        let selector = weir_promql::parse_selector(series).unwrap_or_else(|e| panic!("{source}: {line}: {e}"));
        let name = selector.iter().find(|m| m.name == "__name__").unwrap().value.clone();
        found.entry(name).or_default().extend(selector.into_iter().map(|m| m.name));
    }
    found
}

#[test]
fn every_alert_has_tier_source_and_runbook() {
    for pack in &PACKS {
        let rules = rules(pack);
        for (name, rule, annotations) in alerts(&rules) {
            let severity = match rule.labels.get("tier").map(String::as_str) {
                Some("T1") => "critical",
                Some("T2") => "warning",
                Some("T3") => "info",
                other => panic!("{name}: tier {other:?}"),
            };
            assert_eq!(rule.labels.get("severity").map(String::as_str), Some(severity), "{name}");
            assert!(annotations.contains_key("summary"), "{name}");
            let url = format!("{{{{ $externalURL }}}}/api/weir/v1/runbooks/{}/{name}", pack.name);
            assert_eq!(annotations.get("runbook_url"), Some(&url), "{name}");
            let runbook = pack.runbook_of(name).unwrap_or_else(|| panic!("{name}: no section in the runbook"));
            for heading in ["### First commands", "### Failure modes", "### Roll back"] {
                assert!(runbook.contains(heading), "{name}: {heading}");
            }
            assert!((1..=3).all(|k| runbook.contains(&format!("\n{k}. "))), "{name}: three commands");
        }
        let known: BTreeSet<&str> = alerts(&rules).map(|(name, ..)| name).collect();
        let told: BTreeSet<&str> = pack.runbook.lines().filter_map(|l| l.strip_prefix("## ")).collect();
        assert_eq!(known, told, "{}: sections of the runbook", pack.name);
    }
}

/// A rule whose source says nothing of the kind would never fire.
#[test]
fn every_metric_of_a_rule_is_in_the_sample_of_its_source() {
    // Limits that their owners record; the rules say so.
    let by_owners = ["service:latency_limit:seconds", "budget:monthly_usd"];
    for pack in &PACKS {
        let rules = rules(pack);
        let of_records = rules.iter().filter(|rule| matches!(rule.kind, RuleKind::Record { .. }));
        let recorded: BTreeMap<&str, &Rule> = of_records.map(|rule| (rule.name(), rule)).collect();
        for (name, rule, annotations) in alerts(&rules) {
            let known = sample(&annotations["source"]);
            let mut to_see = vec![rule];
            while let Some(rule) = to_see.pop() {
                let RuleExpr::Promql(expr) = &rule.expr else { panic!("{name}: not PromQL") };
                for selector in weir_promql::selectors(expr, Duration::from_secs(300)) {
                    let metric = &selector.matchers.iter().find(|m| m.name == "__name__").unwrap().value;
                    if let Some(rule) = recorded.get(metric.as_str()) {
                        to_see.push(rule);
                    } else if !by_owners.contains(&metric.as_str()) {
                        let labels = known.get(metric).unwrap_or_else(|| panic!("{name}: {metric} is in no sample"));
                        for matcher in selector.matchers.iter().filter(|m| !m.matches_empty()) {
                            assert!(labels.contains(&matcher.name), "{name}: {metric} has no label {}", matcher.name);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn every_alert_is_tested_past_its_threshold_and_not_past_it() {
    for pack in &PACKS {
        let mut tests = read(&format!("tests/{}.yml", pack.name));
        if pack.name == "kafka" {
            tests.push_str(&read("tests/kafka-week.yml"));
        }
        for (name, rule, _) in alerts(&rules(pack)) {
            let fires = format!("alertname=\"{name}\", tier=\"{}\"", rule.labels["tier"]);
            assert!(tests.contains(&fires), "{name}: no case where it fires in tests/{}.yml", pack.name);
        }
        let (firing, silent) = (tests.matches("exp_samples:\n").count(), tests.matches("exp_samples: []").count());
        assert!(silent > 0 && silent * 2 >= firing, "{}: {silent} silent cases beside {firing} firing ones", pack.name);
    }
}
