//! Relabelling, of targets and of scraped series.
//!
//! Source: Prometheus `model/relabel/relabel.go`.

use regex::Regex;
use serde::Deserialize;
use weir_model::{Labels, LabelsBuilder};

use crate::md5::md5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    #[default]
    Replace,
    Keep,
    Drop,
    KeepEqual,
    DropEqual,
    HashMod,
    LabelMap,
    LabelDrop,
    LabelKeep,
    Lowercase,
    Uppercase,
}

/// One step, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RelabelFile {
    source_labels: Vec<String>,
    separator: String,
    regex: Option<String>,
    modulus: u64,
    target_label: String,
    replacement: Option<String>,
    action: Action,
}

impl Default for RelabelFile {
    fn default() -> Self {
        Self {
            source_labels: Vec::new(),
            separator: ";".to_owned(),
            regex: None,
            modulus: 0,
            target_label: String::new(),
            replacement: None,
            action: Action::Replace,
        }
    }
}

/// One checked step.
#[derive(Clone, Debug)]
pub struct RelabelConfig {
    source_labels: Vec<String>,
    separator: String,
    /// As it was written.
    pattern: String,
    /// Anchored at both ends.
    regex: Regex,
    modulus: u64,
    target_label: String,
    replacement: String,
    action: Action,
}

/// Equal as written.
impl PartialEq for RelabelConfig {
    fn eq(&self, other: &Self) -> bool {
        let key = |c: &Self| {
            let regex = c.regex.as_str().to_owned();
            (
                c.source_labels.clone(),
                c.separator.clone(),
                regex,
                c.modulus,
                c.target_label.clone(),
                c.replacement.clone(),
            )
        };
        self.action == other.action && key(self) == key(other)
    }
}

impl RelabelFile {
    /// The checked form, or what is wrong with it.
    pub(crate) fn check(self) -> Result<RelabelConfig, String> {
        let needs_target = matches!(
            self.action,
            Action::Replace
                | Action::HashMod
                | Action::Lowercase
                | Action::Uppercase
                | Action::KeepEqual
                | Action::DropEqual
        );
        if needs_target && self.target_label.is_empty() {
            return Err(format!("relabel action {:?} needs `target_label`", self.action));
        }
        if self.action == Action::HashMod && self.modulus == 0 {
            return Err("relabel action HashMod needs a `modulus` above 0".to_owned());
        }
        if matches!(self.action, Action::LabelDrop | Action::LabelKeep)
            && (!self.source_labels.is_empty() || !self.target_label.is_empty() || self.replacement.is_some())
        {
            return Err(format!("relabel action {:?} takes only `regex`", self.action));
        }
        let regex = self.regex.unwrap_or_else(|| "(.*)".to_owned());
        Ok(RelabelConfig {
            regex: weir_go::regex_anchored(&regex).map_err(|e| e.to_string())?,
            source_labels: self.source_labels,
            separator: self.separator,
            pattern: regex,
            modulus: self.modulus,
            target_label: self.target_label,
            replacement: self.replacement.unwrap_or_else(|| "$1".to_owned()),
            action: self.action,
        })
    }
}

/// Steps in YAML, such as the value of `relabel_configs`.
pub fn parse_relabel(text: &str) -> Result<Vec<RelabelConfig>, String> {
    let files: Vec<RelabelFile> = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    files.into_iter().enumerate().map(|(n, f)| f.check().map_err(|e| format!("step {}: {e}", n + 1))).collect()
}

/// The labels after all steps; `None` when a step drops them.
pub fn relabel(labels: LabelsBuilder, configs: &[RelabelConfig]) -> Option<LabelsBuilder> {
    configs.iter().try_fold(labels, |labels, config| config.apply(labels))
}

/// What one step did.
#[derive(Clone, Debug)]
pub struct RelabelStep<'a> {
    pub config: &'a RelabelConfig,
    /// `None`: the step dropped everything, and no other follows.
    pub after: Option<Labels>,
}

/// [`relabel`], step by step.
pub fn explain<'a>(labels: &Labels, configs: &'a [RelabelConfig]) -> Vec<RelabelStep<'a>> {
    let mut now = labels.to_builder();
    let mut out = Vec::new();
    for config in configs {
        let after = config.apply(now);
        out.push(RelabelStep { config, after: after.clone().map(LabelsBuilder::build) });
        let Some(next) = after else { break };
        now = next;
    }
    out
}

impl RelabelConfig {
    /// The step as a configuration writes it, with every key that counts for its action.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        let action = format!("{:?}", self.action).to_lowercase();
        let mut out = vec![("action", action)];
        if !self.source_labels.is_empty() {
            out.push(("source_labels", format!("[{}]", self.source_labels.join(", "))));
            out.push(("separator", self.separator.clone()));
        }
        out.push(("regex", self.pattern.clone()));
        if self.action == Action::HashMod {
            out.push(("modulus", self.modulus.to_string()));
        }
        if !self.target_label.is_empty() {
            out.push(("target_label", self.target_label.clone()));
        }
        if matches!(self.action, Action::Replace | Action::LabelMap) {
            out.push(("replacement", self.replacement.clone()));
        }
        out
    }

    fn apply(&self, mut labels: LabelsBuilder) -> Option<LabelsBuilder> {
        let parts: Vec<&str> = self.source_labels.iter().map(|name| labels.get(name).unwrap_or("")).collect();
        let value = parts.join(&self.separator);
        match self.action {
            Action::Keep if !self.regex.is_match(&value) => return None,
            Action::Drop if self.regex.is_match(&value) => return None,
            Action::KeepEqual if labels.get(&self.target_label).unwrap_or("") != value => return None,
            Action::DropEqual if labels.get(&self.target_label).unwrap_or("") == value => return None,
            Action::Keep | Action::Drop | Action::KeepEqual | Action::DropEqual => {}
            Action::Replace => self.replace(&mut labels, &value),
            Action::Lowercase => drop(labels.set(&*self.target_label, value.to_lowercase())),
            Action::Uppercase => drop(labels.set(&*self.target_label, value.to_uppercase())),
            Action::HashMod => {
                let digest = md5(value.as_bytes());
                let tail = u64::from_be_bytes(digest[8..].try_into().expect("half of sixteen bytes"));
                labels.set(&*self.target_label, (tail % self.modulus).to_string());
            }
            Action::LabelMap => self.map(&mut labels),
            Action::LabelDrop => drop(labels.retain(|label| !self.regex.is_match(&label.name))),
            Action::LabelKeep => drop(labels.retain(|label| self.regex.is_match(&label.name))),
        }
        Some(labels)
    }

    fn replace(&self, labels: &mut LabelsBuilder, value: &str) {
        let Some(found) = self.regex.captures(value) else { return };
        let (mut target, mut replacement) = (String::new(), String::new());
        found.expand(&self.target_label, &mut target);
        found.expand(&self.replacement, &mut replacement);
        if !target.is_empty() {
            // An empty value removes the label.
            labels.set(target, replacement);
        }
    }

    fn map(&self, labels: &mut LabelsBuilder) {
        let all: Labels = labels.clone().build();
        for label in &all {
            if let Some(found) = self.regex.captures(&label.name) {
                let mut name = String::new();
                found.expand(&self.replacement, &mut name);
                labels.set(name, label.value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(steps: &str, labels: &[(&str, &str)], want: &str) {
        let files: Vec<RelabelFile> = serde_saphyr::from_str(steps).unwrap();
        let configs: Vec<RelabelConfig> = files.into_iter().map(|f| f.check().unwrap()).collect();
        let got = relabel(Labels::from_pairs(labels.iter().copied()).to_builder(), &configs);
        assert_eq!(got.map_or("dropped".to_owned(), |l| l.build().to_string()), want, "{steps}");
    }

    /// Cases after upstream's `relabel_test.go`, for each action.
    #[test]
    fn actions() {
        let abc = [("a", "foo"), ("b", "bar"), ("c", "baz")];
        check(
            "[{source_labels: [a], regex: 'f(.*)', target_label: d, replacement: 'ch${1}-ch${1}'}]",
            &abc,
            r#"{a="foo", b="bar", c="baz", d="choo-choo"}"#,
        );
        check("[{source_labels: [a, b], regex: 'foo;bar', action: drop}]", &abc, "dropped");
        check("[{source_labels: [a], regex: 'fo', action: drop}]", &abc, r#"{a="foo", b="bar", c="baz"}"#);
        check("[{source_labels: [a], regex: 'no', action: keep}]", &abc, "dropped");
        check("[{source_labels: [a], regex: 'no-match', target_label: d}]", &abc, r#"{a="foo", b="bar", c="baz"}"#);
        check("[{source_labels: [a], target_label: b, replacement: ''}]", &abc, r#"{a="foo", c="baz"}"#);
        check(
            "[{regex: '(b.*)', action: labelmap, replacement: 'bar_${1}'}]",
            &abc,
            r#"{a="foo", b="bar", bar_b="bar", c="baz"}"#,
        );
        check("[{regex: '(b|c)', action: labeldrop}]", &abc, r#"{a="foo"}"#);
        check("[{regex: 'b', action: labelkeep}]", &abc, r#"{b="bar"}"#);
        check(
            "[{source_labels: [c], target_label: d, action: hashmod, modulus: 1000}]",
            &abc,
            r#"{a="foo", b="bar", c="baz", d="976"}"#,
        );
        check(
            "[{source_labels: [a], target_label: d, action: uppercase}]",
            &abc,
            r#"{a="foo", b="bar", c="baz", d="FOO"}"#,
        );
        check("[{source_labels: [a], target_label: b, action: keepequal}]", &abc, "dropped");
        check("[{source_labels: [a], target_label: b, action: dropequal}]", &abc, r#"{a="foo", b="bar", c="baz"}"#);
        check(
            "[{source_labels: [a], regex: '(f).*', target_label: 'x_${1}', replacement: v}]",
            &[("a", "foo")],
            r#"{a="foo", x_f="v"}"#,
        );
    }

    #[test]
    fn steps_are_explained_until_one_drops() {
        let steps = parse_relabel("[{source_labels: [a], target_label: b}, {source_labels: [b], regex: x, action: drop}, {regex: a, action: labeldrop}]").unwrap();
        let labels = Labels::from_pairs([("a", "x")]);
        let got: Vec<String> = explain(&labels, &steps)
            .iter()
            .map(|s| s.after.as_ref().map_or("dropped".into(), Labels::to_string))
            .collect();
        assert_eq!(got, [r#"{a="x", b="x"}"#, "dropped"]);
        assert_eq!(steps[1].describe()[0], ("action", "drop".to_owned()));
        assert!(parse_relabel("[{action: hashmod, target_label: x}]").unwrap_err().contains("step 1"));
    }

    #[test]
    fn steps_that_cannot_work_are_refused() {
        let check = |step: &str, want: &str| {
            let file: RelabelFile = serde_saphyr::from_str(step).unwrap();
            let text = file.check().unwrap_err();
            assert!(text.contains(want), "{text}");
        };
        check("{action: replace}", "target_label");
        check("{action: hashmod, target_label: x}", "modulus");
        check("{action: labeldrop, source_labels: [a]}", "only `regex`");
        check("{action: keep, regex: '('}", "regexp");
    }
}
