//! Log templates: which kinds of lines a service writes more, less, newly or no longer.
//!
//! A line's template is its first words with everything masked that looks like a value. Lines are
//! read in slices, newest first, so that a window costs the same however much was written in it.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::entity::Aliases;
use weir_model::source::{Direction, LogFragment, LogSource, ReadContext, ReadError};
use weir_model::{Labels, LogEntry, Nanos, TenantId, TimeRange, Timestamp};

use crate::finding::{Aspect, Finding, weigh};
use crate::queries;
use crate::span_scan::{BASELINE, WINDOW};
use crate::stats::{Tally, count_shift};
use crate::types::{Signal, Thing};

const SLICES: usize = 12;
/// Words of a line that make its template, and bytes of it that are looked at.
const WORDS_MAX: usize = 12;
const LINE_BYTES_MAX: usize = 400;
const TEMPLATES_MAX: usize = 20_000;
/// What an error line weighs against any other line.
const ERROR_FACTOR: f64 = 1.3;
const CALM_FACTOR: f64 = 0.8;
/// Lines that no longer come say less than lines that newly come.
const GONE_FACTOR: f64 = 0.8;
const RATE_EFFECT: f64 = 0.01;

#[derive(Default)]
struct TemplateStat {
    counts: [[u32; SLICES]; 2],
    error: bool,
    /// The longest plain run of words, to search for.
    words: String,
}

#[derive(Default)]
struct ServiceLogs {
    templates: AHashMap<String, TemplateStat>,
    lines: [[u32; SLICES]; 2],
    stream: Labels,
    instance: Option<Arc<str>>,
}

#[derive(Default)]
pub struct LogTable {
    services: AHashMap<Arc<str>, ServiceLogs>,
    n_templates: usize,
    pub n_lines: usize,
    starts: [Vec<Timestamp>; 2],
}

impl LogTable {
    /// Reads one side, at most `lines_max` lines of it.
    pub async fn read(
        &mut self,
        source: &dyn LogSource,
        tenant: &TenantId,
        side: usize,
        range: TimeRange,
        lines_max: usize,
        context: &ReadContext,
    ) -> Result<(), ReadError> {
        let aliases = Aliases::default();
        let (start, length) = (range.start.0, (range.end.0 - range.start.0).max(SLICES as i64));
        let bound = |k: usize| Timestamp(start + length * k as i64 / SLICES as i64);
        self.starts[side] = (0..SLICES).map(bound).collect();
        for slice in 0..SLICES {
            let fragment = LogFragment {
                matchers: Vec::new(),
                start: bound(slice).nanos(),
                end: Nanos(bound(slice + 1).nanos().0),
                direction: Direction::Backward,
                predicates: Vec::new(),
            };
            let mut cursor = source.open(tenant, &fragment, context).await?;
            let mut left = lines_max / SLICES;
            while let Some(data) = cursor.next(None)? {
                context.cancel.check()?;
                let refs = aliases.resolve_labels(&data.labels);
                let Some(service) = refs.emitter else { continue };
                let logs = self.services.entry(service).or_default();
                if logs.stream.is_empty() {
                    logs.stream = data.labels.clone();
                    logs.instance = refs.instance;
                }
                for entry in data.entries.iter().take(left) {
                    logs.lines[side][slice] += 1;
                    self.n_lines += 1;
                    let template = template(&entry.line);
                    if self.n_templates >= TEMPLATES_MAX && !logs.templates.contains_key(&template) {
                        continue;
                    }
                    let n_before = logs.templates.len();
                    let stat = logs.templates.entry(template).or_default();
                    stat.counts[side][slice] += 1;
                    stat.error |= is_error(entry);
                    if stat.words.is_empty() {
                        stat.words = plain_run(&entry.line).to_owned();
                    }
                    self.n_templates += logs.templates.len() - n_before;
                }
                left = left.saturating_sub(data.entries.len());
                if left == 0 {
                    break;
                }
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Templates whose share of their service's lines changed.
    pub fn findings(&self) -> Vec<Finding> {
        let mut out = Vec::new();
        for (service, logs) in &self.services {
            for (template, stat) in &logs.templates {
                out.extend(self.judge(service, logs, template, stat));
            }
        }
        out
    }

    fn judge(&self, service: &Arc<str>, logs: &ServiceLogs, template: &str, stat: &TemplateStat) -> Option<Finding> {
        let tallies = |side: usize| -> Vec<Tally> {
            let starts = self.starts[side].iter().enumerate();
            starts.map(|(k, at)| (*at, stat.counts[side][k], logs.lines[side][k])).collect()
        };
        let shift = count_shift(&tallies(BASELINE), &tallies(WINDOW))?;
        let n = |side: usize| stat.counts[side].iter().sum::<u32>();
        if n(BASELINE).max(n(WINDOW)) < 4 {
            return None;
        }
        let up = shift.during > shift.before;
        let factor = match (up, stat.error) {
            (true, true) => ERROR_FACTOR,
            (true, false) => CALM_FACTOR,
            (false, _) => GONE_FACTOR,
        };
        let weight = weigh(&shift, RATE_EFFECT) * factor * 0.8;
        let level = if stat.error { "error line" } else { "line" };
        (weight > 0.0).then(|| Finding {
            service: service.clone(),
            instance: logs.instance.clone(),
            aspect: Aspect::Logs,
            signal: Signal::Logs,
            weight,
            before: shift.before * 100.0,
            during: shift.during * 100.0,
            unit: "%",
            since: shift.since,
            subject: format!("share of {level} `{template}` in the log of {service}"),
            chart: Some(queries::lines(&logs.stream, &stat.words)),
            thing: Thing::None,
            callee: None,
            work_grew: false,
        })
    }
}

fn is_error(entry: &LogEntry) -> bool {
    const LEVELS: [&str; 5] = ["detected_level", "severity_text", "severity", "level", "SeverityText"];
    let bad = |level: &str| {
        let level = level.to_ascii_lowercase();
        level.starts_with("err") || level.starts_with("fatal") || level.starts_with("crit")
    };
    match LEVELS.iter().find_map(|name| entry.metadata(name)) {
        Some(level) => bad(level),
        None => clip(&entry.line).split(|c: char| !c.is_ascii_alphabetic()).take(12).any(bad),
    }
}

fn clip(line: &str) -> &str {
    let mut end = line.len().min(LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// Words joined by spaces; `*` for whatever holds a digit, once for a run of them.
///
/// Of a JSON object the text of its message stands for the line, as the order of its fields and
/// their values say nothing.
fn template(line: &str) -> String {
    let line = message_of(line).unwrap_or(line);
    let mut out = String::with_capacity(64);
    let mut n_words = 0;
    let mut starred = false;
    let breaks = |c: char| c.is_whitespace() || matches!(c, '"' | ',' | ';' | '=' | '(' | ')' | '[' | ']' | '{' | '}');
    for word in clip(line).split(breaks).filter(|w| !w.is_empty()) {
        // A place in the source such as `Service#31` names a line of code, not a value.
        let place = word.split_once('#').is_some_and(|(file, at)| {
            file.contains(|c: char| c.is_ascii_alphabetic()) && at.bytes().all(|b| b.is_ascii_digit())
        });
        if word.contains(|c: char| c.is_ascii_digit()) && !place {
            if !starred {
                out.push_str(if out.is_empty() { "*" } else { " *" });
            }
            starred = true;
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(word);
        starred = false;
        n_words += 1;
        if n_words >= WORDS_MAX {
            break;
        }
    }
    out
}

/// The text of the first message-like field of a JSON line.
fn message_of(line: &str) -> Option<&str> {
    if !line.starts_with('{') {
        return None;
    }
    ["\"message\":", "\"msg\":", "\"body\":", "\"event\":"].iter().find_map(|key| {
        let rest = line[line.find(key)? + key.len()..].trim_start().strip_prefix('"')?;
        let end = rest.find(['"', '\\'])?;
        (end > 0).then(|| &rest[..end])
    })
}

/// The longest run of letters and spaces in the message: what a search for such lines asks.
fn plain_run(line: &str) -> &str {
    let text = clip(message_of(line).unwrap_or(line));
    let runs = text.split(|c: char| !(c.is_ascii_alphabetic() || c == ' '));
    runs.map(str::trim).max_by_key(|run| run.len()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_and_words_stay() {
        let check = |line: &str, want: &str| assert_eq!(template(line), want, "{line}");
        check("12:00:01.5 ERROR cannot reach 10.0.0.1:5432 after 3 tries", "* ERROR cannot reach * after * tries");
        check(r#"{"level":"info","message":"wrote 12 rows","took_ms":4}"#, "wrote * rows");
        check("x.Service#31 id: 8a533bf9-bd12 done", "x.Service#31 id: * done");
        check("", "");
    }

    proptest::proptest! {
        #[test]
        fn any_line_has_a_template(line in ".{0,600}") {
            let got = template(&line);
            proptest::prop_assert!(got.len() <= 3 * line.len() + 8);
            plain_run(&line);
        }
    }
}
