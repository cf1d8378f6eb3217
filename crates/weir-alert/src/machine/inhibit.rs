//! Which alerts are muted by others, computed once for all groups flushed at one instant.

use std::collections::HashMap;

use weir_model::{Labels, Timestamp, matcher::all_match};

use super::store::Alert;
use crate::config::{Config, InhibitRule};

/// A firing source, and one that does not match the rule's target side, if there is any.
#[derive(Default)]
struct Sources {
    any: Option<String>,
    one_sided: Option<String>,
}

/// Sources that fire, per rule and values of its `equal` labels.
pub(super) struct Inhibitor<'a> {
    rules: Vec<(&'a InhibitRule, HashMap<Vec<String>, Sources>)>,
}

fn equal_values(rule: &InhibitRule, labels: &Labels) -> Vec<String> {
    rule.equal.iter().map(|name| labels.value(name).to_owned()).collect()
}

impl<'a> Inhibitor<'a> {
    pub fn new<'b>(config: &'a Config, alerts: impl Iterator<Item = &'b Alert>, now: Timestamp) -> Self {
        let mut rules: Vec<_> = config.inhibit_rules.iter().map(|r| (r, HashMap::<_, Sources>::new())).collect();
        if rules.is_empty() {
            return Self { rules };
        }
        for alert in alerts.filter(|a| !a.resolved(now)) {
            for (rule, sources) in &mut rules {
                if all_match(&rule.source, &alert.labels) {
                    let entry = sources.entry(equal_values(rule, &alert.labels)).or_default();
                    entry.any.get_or_insert_with(|| alert.fingerprint());
                    if !all_match(&rule.target, &alert.labels) {
                        entry.one_sided.get_or_insert_with(|| alert.fingerprint());
                    }
                }
            }
        }
        Self { rules }
    }

    /// Fingerprints of alerts that mute these labels, one per rule.
    pub fn inhibited_by(&self, labels: &Labels) -> Vec<String> {
        let mut found = Vec::new();
        for (rule, sources) in &self.rules {
            if sources.is_empty() || !all_match(&rule.target, labels) {
                continue;
            }
            let Some(sources) = sources.get(&equal_values(rule, labels)) else { continue };
            // What matches both sides is not muted by what matches both sides, itself above all.
            let by = if all_match(&rule.source, labels) { &sources.one_sided } else { &sources.any };
            found.extend(by.clone());
        }
        found
    }
}
