//! Prometheus rule files: what was written, then a checked form.
//!
//! Source: Prometheus `model/rulefmt/rulefmt.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_saphyr::Spanned;
use weir_go::parse_prometheus_duration;

use crate::expand;
use crate::language::{Language, RuleExpr};
use crate::manager::MissingInput;

/// How far back a TraceQL rule looks unless its group says.
const TRACES_WINDOW: Duration = Duration::from_secs(300);

/// One thing wrong with a rule file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct RuleFileError {
    pub file: String,
    /// From 1; 0 where the whole file is meant.
    pub line: u64,
    pub reason: String,
}

#[derive(Clone, Debug)]
pub struct RuleGroup {
    pub name: String,
    pub file: String,
    /// `None`: the global `evaluation_interval`.
    pub interval: Option<Duration>,
    /// Most alerts or series of one rule; 0 is no limit.
    pub limit: usize,
    /// `None`: the global `rule_query_offset`.
    pub query_offset: Option<Duration>,
    /// `None`: as the program is told.
    pub missing_input: Option<MissingInput>,
    pub language: Language,
    /// In evaluation order; labels of the group are already among the rules' own.
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub kind: RuleKind,
    pub expr: RuleExpr,
    /// The expression in canonical form.
    pub query: Arc<str>,
    /// Templates for alerts, plain text for recorded series.
    pub labels: BTreeMap<String, String>,
    pub line: u64,
}

#[derive(Clone, Debug)]
pub enum RuleKind {
    Record { metric: String },
    Alert { name: String, hold: Duration, keep_firing_for: Duration, annotations: BTreeMap<String, String> },
}

impl Rule {
    pub fn name(&self) -> &str {
        match &self.kind {
            RuleKind::Record { metric } => metric,
            RuleKind::Alert { name, .. } => name,
        }
    }

    /// Whether state may be carried from one to the other when files are read again.
    pub(crate) fn same_as(&self, other: &Rule) -> bool {
        let hold = |r: &Rule| match &r.kind {
            RuleKind::Record { .. } => None,
            RuleKind::Alert { hold, keep_firing_for, .. } => Some((*hold, *keep_firing_for)),
        };
        (self.name(), &self.query, &self.labels, hold(self)) == (other.name(), &other.query, &other.labels, hold(other))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    /// Of Loki's files, as its tools write them.
    #[serde(default)]
    namespace: Option<Spanned<String>>,
    #[serde(default)]
    groups: Option<Vec<Spanned<RawGroup>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGroup {
    #[serde(default)]
    name: String,
    #[serde(default)]
    interval: Option<Spanned<String>>,
    #[serde(default)]
    query_offset: Option<Spanned<String>>,
    #[serde(default)]
    limit: usize,
    /// weir's own: what becomes of a firing alert whose input stops, `unknown` or `resolve`.
    #[serde(default)]
    missing_input: Option<Spanned<String>>,
    /// weir's own, of TraceQL: how far back each evaluation looks.
    #[serde(default)]
    window: Option<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    rules: Option<Vec<Spanned<RawRule>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    #[serde(default)]
    record: Option<String>,
    #[serde(default)]
    alert: Option<String>,
    #[serde(default)]
    expr: Option<Spanned<String>>,
    #[serde(default, rename = "for")]
    hold: Option<Spanned<String>>,
    #[serde(default)]
    keep_firing_for: Option<Spanned<String>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Reads one file of PromQL; `file` is its name in errors and in the API.
pub fn parse_rule_file(file: &str, text: &str) -> Result<Vec<RuleGroup>, Vec<RuleFileError>> {
    parse_rules(file, text, Language::Promql)
}

/// Reads one file of any language.
pub fn parse_rules(file: &str, text: &str, language: Language) -> Result<Vec<RuleGroup>, Vec<RuleFileError>> {
    // An empty file is valid: no groups.
    if text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    let raw: RawFile = serde_saphyr::from_str(text).map_err(|e| {
        let (line, reason) = yaml_error(&e);
        vec![RuleFileError { file: file.to_owned(), line, reason }]
    })?;
    let mut check = Check { file, language, errors: Vec::new() };
    if let Some(namespace) = raw.namespace.filter(|_| language != Language::Logql) {
        check.fail(namespace.referenced.line(), "unknown field `namespace`: rule files of Loki have it");
    }
    let mut names = BTreeSet::new();
    let mut groups = Vec::new();
    for raw in raw.groups.unwrap_or_default() {
        let line = raw.referenced.line();
        if raw.value.name.is_empty() {
            check.fail(line, "group name must not be empty");
        } else if !names.insert(raw.value.name.clone()) {
            check.fail(line, format!("group name `{}` is repeated in the same file", raw.value.name));
        }
        groups.push(check.group(raw.value));
    }
    if check.errors.is_empty() { Ok(groups) } else { Err(check.errors) }
}

/// Line and plain text of a YAML error, without the picture of the source.
pub(crate) fn yaml_error(error: &serde_saphyr::Error) -> (u64, String) {
    let line = error.location().map_or(0, |l| l.line());
    let text = error.without_snippet().to_string();
    (line, text.lines().next().unwrap_or_default().to_owned())
}

/// Reads the files that a glob of `rule_files` names: `*`, `?` and `[…]` in the last part of the path.
pub fn read_rule_files(pattern: &str, base: &Path) -> Result<Vec<RuleGroup>, Vec<RuleFileError>> {
    read_rules(pattern, base, Language::Promql)
}

/// The same of any language.
pub fn read_rules(pattern: &str, base: &Path, language: Language) -> Result<Vec<RuleGroup>, Vec<RuleFileError>> {
    let fail = |reason: String| vec![RuleFileError { file: pattern.to_owned(), line: 0, reason }];
    let path = base.join(pattern);
    let last = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
    // The parent of a bare name is the empty path, which nobody can list.
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files = Vec::new();
    if last.contains(['*', '?', '[']) {
        let re = glob_of(&last).map_err(&fail)?;
        // A folder that is not there matches nothing, as upstream has it.
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|n| re.is_match(n)) {
                files.push(entry.path());
            }
        }
        files.sort();
    } else {
        files.push(path);
    }
    let (mut groups, mut errors) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.display().to_string();
        match std::fs::read_to_string(&file) {
            Ok(text) => match parse_rules(&name, &text, language) {
                Ok(found) => groups.extend(found),
                Err(found) => errors.extend(found),
            },
            Err(e) => errors.push(RuleFileError { file: name, line: 0, reason: format!("cannot read rule file: {e}") }),
        }
    }
    if errors.is_empty() { Ok(groups) } else { Err(errors) }
}

fn glob_of(pattern: &str) -> Result<glob::Glob, String> {
    glob::Glob::new(pattern)
}

/// Shell patterns of one path element, matched in time linear in pattern times name.
mod glob {
    pub struct Glob(Vec<Part>);
    enum Part {
        Star,
        Any,
        Set { negated: bool, ranges: Vec<(char, char)> },
        Char(char),
    }

    impl Glob {
        pub fn new(text: &str) -> Result<Self, String> {
            let mut parts = Vec::new();
            let mut chars = text.chars().peekable();
            while let Some(c) = chars.next() {
                parts.push(match c {
                    '*' => Part::Star,
                    '?' => Part::Any,
                    '[' => {
                        let negated = chars.next_if(|c| matches!(c, '^' | '!')).is_some();
                        let mut ranges = Vec::new();
                        loop {
                            let low = chars.next().ok_or_else(|| format!("unclosed `[` in pattern {text:?}"))?;
                            if low == ']' && !ranges.is_empty() {
                                break;
                            }
                            let high = if chars.next_if_eq(&'-').is_some() { chars.next().unwrap_or(low) } else { low };
                            ranges.push((low, high));
                        }
                        Part::Set { negated, ranges }
                    }
                    c => Part::Char(c),
                });
            }
            Ok(Self(parts))
        }

        pub fn is_match(&self, name: &str) -> bool {
            let name: Vec<char> = name.chars().collect();
            // Which prefixes of the name the parts so far can match.
            let mut reached = vec![false; name.len() + 1];
            reached[0] = true;
            for part in &self.0 {
                let mut next = vec![false; name.len() + 1];
                for at in 0..=name.len() {
                    match part {
                        Part::Star => next[at] = reached[at] || (at > 0 && next[at - 1]),
                        _ if at == 0 => {}
                        Part::Any => next[at] = reached[at - 1],
                        Part::Char(c) => next[at] = reached[at - 1] && name[at - 1] == *c,
                        Part::Set { negated, ranges } => {
                            let inside = ranges.iter().any(|(l, h)| (*l..=*h).contains(&name[at - 1]));
                            next[at] = reached[at - 1] && inside != *negated;
                        }
                    }
                }
                reached = next;
            }
            reached[name.len()]
        }
    }
}

struct Check<'a> {
    file: &'a str,
    language: Language,
    errors: Vec<RuleFileError>,
}

impl Check<'_> {
    fn fail(&mut self, line: u64, reason: impl Into<String>) {
        self.errors.push(RuleFileError { file: self.file.to_owned(), line, reason: reason.into() });
    }

    fn duration(&mut self, key: &str, raw: Option<Spanned<String>>) -> Option<Duration> {
        let raw = raw?;
        parse_prometheus_duration(&raw.value).map_err(|e| self.fail(raw.referenced.line(), format!("{key}: {e}"))).ok()
    }

    fn group(&mut self, raw: RawGroup) -> RuleGroup {
        let interval = self.duration("interval", raw.interval).filter(|d| !d.is_zero());
        let query_offset = self.duration("query_offset", raw.query_offset);
        let missing_input = raw.missing_input.and_then(|raw| {
            let parsed = MissingInput::parse(&raw.value);
            parsed.map_err(|e| self.fail(raw.referenced.line(), format!("missing_input: {e}"))).ok()
        });
        let line = raw.window.as_ref().map_or(0, |w| w.referenced.line());
        let window = self.duration("window", raw.window);
        if window.is_some() && self.language != Language::Traceql {
            self.fail(line, "unknown field `window`: rule files of TraceQL have it");
        }
        let window = window.filter(|w| !w.is_zero()).unwrap_or(TRACES_WINDOW);
        let rules = raw.rules.unwrap_or_default();
        let rules = rules.into_iter().filter_map(|rule| self.rule(&raw.name, &raw.labels, window, rule)).collect();
        let language = self.language;
        let (name, file) = (raw.name, self.file.to_owned());
        RuleGroup { name, file, interval, limit: raw.limit, query_offset, missing_input, language, rules }
    }

    fn rule(
        &mut self,
        group: &str,
        labels: &BTreeMap<String, String>,
        window: Duration,
        raw: Spanned<RawRule>,
    ) -> Option<Rule> {
        let line = raw.referenced.line();
        let raw = raw.value;
        let n_errors = self.errors.len();
        let what = raw.record.as_deref().or(raw.alert.as_deref()).unwrap_or_default().to_owned();
        let place = format!("group {group:?}, rule {what:?}: ");
        let Some(expr_text) = raw.expr.filter(|e| !e.value.trim().is_empty()) else {
            self.fail(line, format!("{place}field 'expr' must be set in rule"));
            return None;
        };
        let expr = RuleExpr::parse(&expr_text.value, self.language, window)
            .map_err(|e| self.fail(expr_text.referenced.line(), format!("{place}could not parse expression: {e}")))
            .ok();
        let hold = self.duration("for", raw.hold);
        let keep = self.duration("keep_firing_for", raw.keep_firing_for);
        let kind = match (raw.record, raw.alert) {
            (Some(_), Some(_)) => {
                self.fail(line, format!("{place}only one of 'record' and 'alert' must be set"));
                return None;
            }
            (None, None) => {
                self.fail(line, format!("{place}one of 'record' or 'alert' must be set"));
                return None;
            }
            (Some(metric), None) => {
                for (key, set) in [
                    ("for", hold.is_some()),
                    ("keep_firing_for", keep.is_some()),
                    ("annotations", !raw.annotations.is_empty()),
                ] {
                    if set {
                        self.fail(line, format!("{place}invalid field '{key}' in recording rule"));
                    }
                }
                if metric.is_empty() || metric.contains(['{', '}']) {
                    self.fail(line, format!("{place}invalid recording rule name: {metric:?}"));
                }
                RuleKind::Record { metric }
            }
            (None, Some(name)) => RuleKind::Alert {
                name,
                hold: hold.unwrap_or_default(),
                keep_firing_for: keep.unwrap_or_default(),
                annotations: raw.annotations,
            },
        };
        let mut merged = labels.clone();
        merged.extend(raw.labels);
        for name in merged.keys() {
            if name.is_empty() || name == "__name__" {
                self.fail(line, format!("{place}invalid label name: {name:?}"));
            }
        }
        if let RuleKind::Alert { annotations, .. } = &kind {
            for (name, text) in merged.iter().chain(annotations) {
                if let Err(e) = expand::check(name, text) {
                    self.fail(line, format!("{place}{e}"));
                }
            }
        }
        let expr = expr.filter(|_| self.errors.len() == n_errors)?;
        Some(Rule { kind, query: expr.to_string().into(), expr, labels: merged, line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_written() {
        let text = r#"
groups:
- name: node
  interval: 30s
  limit: 5
  query_offset: 1s
  missing_input: resolve
  labels: {team: infra, severity: low}
  rules:
  - record: job:up:sum
    expr: sum by (job) (up)
    labels: {kind: 1}
  - alert: Down
    expr: up == 0
    for: 1h30m
    keep_firing_for: 5m
    labels: {severity: page}
    annotations:
      summary: "{{ $labels.instance }} is down"
- name: empty
"#;
        let groups = parse_rule_file("a.yml", text).unwrap();
        assert_eq!(groups.len(), 2);
        let group = &groups[0];
        assert_eq!((group.interval, group.limit), (Some(Duration::from_secs(30)), 5));
        assert_eq!(group.rules[0].name(), "job:up:sum");
        assert_eq!(group.rules[0].labels["kind"], "1");
        let alert = &group.rules[1];
        assert_eq!(group.missing_input, Some(MissingInput::Resolve));
        assert_eq!((alert.line, &*alert.query), (13, "up == 0"));
        assert_eq!((&*alert.labels["severity"], &*alert.labels["team"]), ("page", "infra"));
        let RuleKind::Alert { hold, keep_firing_for, .. } = &alert.kind else { panic!() };
        assert_eq!((hold.as_secs(), keep_firing_for.as_secs()), (5400, 300));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let check = |text: &str, want: &str| {
            let got = parse_rule_file("r.yml", text).unwrap_err()[0].to_string();
            assert!(got.contains(want), "{text:?}: {got}");
        };
        let rule = |body: &str| format!("groups:\n- name: a\n  rules:\n  - {body}\n");
        check("groups:\n- name: a\n  rulez: []\n", "r.yml:3: ");
        check("groups:\n- name: a\n  rulez: []\n", "rulez");
        check("groups:\n- name: a\n- name: a\n", "r.yml:3: group name `a` is repeated");
        check("groups:\n- name: a\n  missing_input: x\n", "r.yml:3: missing_input: `x` is neither unknown nor resolve");
        check(&rule("expr: up"), "one of 'record' or 'alert' must be set");
        check(&rule("{alert: a, record: b, expr: up}"), "only one of");
        check(&rule("alert: a"), "field 'expr' must be set");
        check(&rule("{alert: a, expr: 'sum('}"), "r.yml:4: group \"a\", rule \"a\": could not parse expression: 1:5");
        check(&rule("{alert: a, expr: up, for: 5x}"), "for: not a valid duration string: \"5x\"");
        check(&rule("{record: a, expr: up, for: 5m}"), "invalid field 'for' in recording rule");
        check(&rule("{alert: a, expr: up, labels: {x: '{{ $lab }}'}}"), "undefined variable \"$lab\"");
        check(&rule("{alert: a, expr: up, annotations: {x: '{{ nope }}'}}"), "function \"nope\" not defined");
        check("groups: [", "r.yml:");
    }

    #[test]
    fn files_of_other_languages_have_their_own_keys() {
        let rule = |expr: &str| format!("groups:\n- name: a\n  rules:\n  - {{alert: x, expr: '{expr}'}}\n");
        let logql = |text: &str| parse_rules("r.yml", text, Language::Logql);
        let traceql = |text: &str| parse_rules("r.yml", text, Language::Traceql);
        let lines = r#"sum by (app) (count_over_time({app="x"} |= "error" [1m])) > 3"#;
        let groups = logql(&format!("namespace: n\n{}", rule(lines))).unwrap();
        assert!(matches!(groups[0].rules[0].expr, RuleExpr::Logql(_)));
        let spans = rule("{ status = error } | rate() by (resource.service.name) > 2");
        let groups = traceql(&spans.replace("  rules", "  window: 1m\n  rules")).unwrap();
        let RuleExpr::Traceql(expr) = &groups[0].rules[0].expr else { panic!() };
        assert_eq!(expr.window, Duration::from_secs(60));
        let check = |got: Result<Vec<RuleGroup>, Vec<RuleFileError>>, want: &str| {
            let got = got.unwrap_err()[0].to_string();
            assert!(got.contains(want), "{got}");
        };
        check(logql(&rule("up == 0")), "r.yml:4: group \"a\", rule \"x\": could not parse expression");
        check(logql(&rule("{app=\"x\"}")), "a log query gives lines, and a rule needs numbers");
        check(traceql(&rule("{ }")), "add a stage such as `| rate()`");
        check(parse_rule_file("r.yml", &format!("namespace: n\n{}", rule("up"))), "r.yml:1: unknown field `namespace`");
        check(
            parse_rule_file("r.yml", &rule("up").replace("  rules", "  window: 1m\n  rules")),
            "r.yml:3: unknown field `window`",
        );
    }

    #[test]
    fn globs_name_files_of_a_folder() {
        let check = |glob: &str, name: &str, want: bool| {
            assert_eq!(glob_of(glob).unwrap().is_match(name), want, "{glob} {name}");
        };
        check("*.yml", "a.yml", true);
        check("*.yml", "a.yaml", false);
        check("a?[0-9].y*ml", "ab7.yaml", true);
        check("[!a]*", "abc", false);
        check("***", "", true);
    }
}
