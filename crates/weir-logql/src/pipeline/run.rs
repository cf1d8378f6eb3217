//! Running stages, and what a source may know of them beforehand.

use std::borrow::Cow;

use ahash::AHashSet;
use weir_model::source::LinePredicate;

use super::filter::{label_passes, line_passes};
use super::json;
use super::logfmt;
use super::row::{ERROR_DETAILS_LABEL, ERROR_LABEL, PipelineError, Row};
use crate::ast::{Conversion, LabelFilter, LabelFormat, LabelPick, LineOp, Needle, Stage, Unwrap};
use crate::units::{parse_bytes, parse_duration};

/// The labels that anything after a parser looks at; parsers leave the others out.
#[derive(Clone, Debug, Default)]
pub(crate) enum Needed {
    #[default]
    All,
    Only(AHashSet<String>),
}

impl Needed {
    /// What the stages use, plus what `used` names afterwards. A stage that may look at any label
    /// makes it all of them.
    pub(crate) fn of(stages: &[Stage], unwrap: Option<&Unwrap>, used: &[String]) -> Self {
        let mut names: AHashSet<String> = used.iter().cloned().collect();
        for stage in stages {
            match stage {
                Stage::Label(filter) => filter_names(filter, &mut names),
                Stage::LabelFormat(formats) => {
                    for format in formats {
                        match format {
                            LabelFormat::Rename { to, from } => names.extend([to.clone(), from.clone()]),
                            LabelFormat::Template { .. } => return Self::All,
                        }
                    }
                }
                Stage::Drop(picks) | Stage::Keep(picks) => names.extend(picks.iter().map(|p| p.name.clone())),
                Stage::Unpack | Stage::LineFormat(_) => return Self::All,
                _ => {}
            }
        }
        if let Some(unwrap) = unwrap {
            names.insert(unwrap.label.clone());
            unwrap.filters.iter().for_each(|f| filter_names(f, &mut names));
        }
        // `x_extracted` comes from the field `x`.
        let plain: Vec<String> = names.iter().filter_map(|n| n.strip_suffix("_extracted")).map(str::to_owned).collect();
        names.extend(plain);
        Self::Only(names)
    }

    fn wants(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(name),
        }
    }
}

fn filter_names(filter: &LabelFilter, names: &mut AHashSet<String>) {
    match filter {
        LabelFilter::And(a, b) | LabelFilter::Or(a, b) => {
            filter_names(a, names);
            filter_names(b, names);
        }
        LabelFilter::Text(matcher) => drop(names.insert(matcher.name.clone())),
        LabelFilter::Number { name, .. }
        | LabelFilter::Duration { name, .. }
        | LabelFilter::Bytes { name, .. }
        | LabelFilter::Ip { name, .. } => drop(names.insert(name.clone())),
    }
}

/// Conditions on the stored line that a source may use to skip entries: only filters that stand
/// before any stage that rewrites the line.
pub(crate) fn predicates(stages: &[Stage]) -> Vec<LinePredicate> {
    let mut out = Vec::new();
    for stage in stages {
        match stage {
            Stage::Line(filter) => {
                let texts = || {
                    filter.needles.iter().filter_map(|n| match n {
                        Needle::Text(text) if !text.is_empty() => Some(text.clone()),
                        _ => None,
                    })
                };
                match filter.op {
                    LineOp::Contains if filter.needles.len() == 1 => out.extend(texts().map(LinePredicate::Contains)),
                    LineOp::NotContains => out.extend(texts().map(LinePredicate::NotContains)),
                    _ => {}
                }
            }
            Stage::Unpack | Stage::Decolorize | Stage::LineFormat(_) => break,
            _ => {}
        }
    }
    out
}

/// Whether the row passes all stages.
pub(crate) fn apply(stages: &[Stage], needed: &Needed, row: &mut Row<'_>) -> bool {
    stages.iter().all(|stage| apply_stage(stage, needed, row))
}

fn apply_stage(stage: &Stage, needed: &Needed, row: &mut Row<'_>) -> bool {
    match stage {
        Stage::Line(filter) => return line_passes(filter, row.line()),
        Stage::Label(filter) => return label_passes(filter, row),
        Stage::Json(fields) if fields.is_empty() => row.with_line(|row, line| {
            let result = json::flatten(line, |name, value| {
                if needed.wants(name) {
                    row.add_parsed(name, value);
                }
            });
            json_error(row, result);
        }),
        Stage::Json(fields) => row.with_line(|row, line| {
            for (label, path, _) in fields {
                match json::at_path(line, path) {
                    Ok(value) => row.add_parsed(label, value.as_deref().unwrap_or("")),
                    Err(error) => return json_error(row, Err(error)),
                }
            }
        }),
        Stage::Logfmt { strict, keep_empty, fields } => row.with_line(|row, line| {
            let mut add = |name: &str, value: &str| {
                if !value.is_empty() || *keep_empty {
                    row.add_kept(name, value);
                }
            };
            let result = logfmt::pairs(line, *strict, |key, value| {
                if fields.is_empty() {
                    let name = sanitised(key);
                    if needed.wants(&name) {
                        add(&name, &value);
                    }
                } else {
                    fields.iter().filter(|(_, wanted)| wanted == key).for_each(|(label, _)| add(label, &value));
                }
            });
            if let Err(error) = result {
                let details = format!("logfmt syntax error at pos {}: {}", error.at + 1, error.reason);
                row.set_error(PipelineError::Logfmt, details);
            }
        }),
        Stage::Pattern(pattern) => row.with_line(|row, line| {
            pattern.extract(line, |name, value| row.add_parsed(name, value));
        }),
        Stage::Regexp(regex) => row.with_line(|row, line| {
            let Some(captures) = regex.captures(line) else { return };
            for name in regex.capture_names().flatten() {
                if let Some(value) = captures.name(name) {
                    row.add_parsed(name, value.as_str());
                }
            }
        }),
        Stage::Unpack => unpack(row),
        Stage::LineFormat(template) => match template.render(row) {
            Ok(line) => row.set_line(&line),
            Err(error) => row.set_error(PipelineError::Template, error),
        },
        Stage::LabelFormat(formats) => formats.iter().for_each(|format| format_label(format, row)),
        Stage::Decolorize => {
            if memchr::memchr(0x1b, row.line().as_bytes()).is_some() {
                let plain = decolorize(row.line());
                row.set_line(&plain);
            }
        }
        Stage::Drop(picks) => drop_labels(picks, row),
        Stage::Keep(picks) => row.retain(|name, value| picks.iter().any(|p| p.picks(name, value))),
    }
    true
}

fn format_label(format: &LabelFormat, row: &mut Row<'_>) {
    match format {
        LabelFormat::Rename { to, from } => {
            if let Some(value) = row.get(from).map(str::to_owned) {
                row.remove(from);
                row.set(to, &value);
            }
        }
        LabelFormat::Template { to, template } => match template.render(row) {
            Ok(value) => row.set(to, &value),
            Err(error) => row.set_error(PipelineError::Template, error),
        },
    }
}

fn json_error(row: &mut Row<'_>, result: Result<(), json::JsonError>) {
    if let Err(error) = result {
        row.set_error(PipelineError::Json, error.as_str());
    }
}

fn sanitised(key: &str) -> Cow<'_, str> {
    let clean =
        !key.starts_with(|c: char| c.is_ascii_digit()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if clean {
        return Cow::Borrowed(key);
    }
    let mut name = String::with_capacity(key.len() + 1);
    json::push_sanitised(&mut name, key);
    Cow::Owned(name)
}

fn unpack(row: &mut Row<'_>) {
    let mut new_line = None;
    row.with_line(|row, line| {
        let result = json::top_level_strings(line, |key, value| {
            if key == "_entry" {
                new_line = Some(value.into_owned());
            } else {
                row.add_parsed(&sanitised(key), &value);
            }
        });
        json_error(row, result);
    });
    if let Some(line) = new_line {
        row.set_line(&line);
    }
}

fn drop_labels(picks: &[LabelPick], row: &mut Row<'_>) {
    for pick in picks {
        let hit = row.get(&pick.name).is_some_and(|value| pick.picks(&pick.name, value));
        if !hit {
            continue;
        }
        row.remove(&pick.name);
        if pick.name == ERROR_LABEL {
            row.clear_error();
        } else if pick.name == ERROR_DETAILS_LABEL {
            row.remove(ERROR_DETAILS_LABEL);
        }
    }
}

/// Without ANSI colour sequences (`ESC [ … letter`).
fn decolorize(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        let body = &rest[at + 2..];
        let end = body.find(|c: char| !c.is_ascii_digit() && c != ';');
        out.push_str(&rest[..at]);
        match end.map(|n| (n, body.as_bytes()[n])) {
            Some((n, b)) if b.is_ascii_alphabetic() => rest = &body[n + 1..],
            _ => {
                out.push_str("\u{1b}[");
                rest = body;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The number under the unwrapped label; `None` when the row has no such label or a filter after
/// the unwrap refuses it. A value that is no number marks the row with an error and counts as 0.
pub(crate) fn apply_unwrap(unwrap: &Unwrap, row: &mut Row<'_>) -> Option<f64> {
    let text = row.get(&unwrap.label)?;
    let value = match unwrap.conversion {
        Conversion::Number => text.trim().parse().ok(),
        Conversion::Duration => parse_duration(text).map(|d| d as f64 / 1e9).or_else(|| text.trim().parse().ok()),
        Conversion::Bytes => parse_bytes(text),
    };
    if value.is_none() {
        let details = format!("cannot convert `{text}` of label {}", unwrap.label);
        row.set_error(PipelineError::SampleExtraction, details);
    }
    let passes = unwrap.filters.iter().all(|filter| label_passes(filter, row));
    passes.then(|| value.unwrap_or(0.0))
}
