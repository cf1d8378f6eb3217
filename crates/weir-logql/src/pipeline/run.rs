//! Running stages, and what a source may know of them beforehand.

use std::borrow::Cow;
use std::sync::LazyLock;

use ahash::AHashSet;
use weir_model::columns::EXACT_TEXT_BYTES_MAX;
use weir_model::source::LinePredicate;

use super::filter::{label_passes, line_passes};
use super::json;
use super::logfmt;
use super::row::{ERROR_LABEL, PipelineError, Row};
use super::template::LineTemplate;
use crate::ast::{Conversion, LabelFilter, LabelFormat, LabelPick, LineFilter, LineOp, Needle, Stage, Unwrap};
use crate::units::parse_bytes;

/// The labels that anything after a parser looks at. Parsers leave the others out and stop once they
/// have found all of these, so that a fault further on in the line does not count. As in Loki.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed {
    /// `None`: all of them.
    names: Option<AHashSet<String>>,
    /// `__error__` is one of them: a metric query keeps lines that parsers mark with it.
    error_wanted: bool,
}

impl Needed {
    pub(crate) const ALL: &Self = &Self { names: None, error_wanted: false };

    /// What the stages use, plus what `used` names afterwards. A stage that may look at any label
    /// makes it all of them.
    pub(crate) fn of(stages: &[Stage], unwrap: Option<&Unwrap>, used: &[String]) -> Self {
        let mut names: AHashSet<String> = used.iter().cloned().collect();
        let mut is_any = false;
        for stage in stages {
            match stage {
                Stage::Label(filter) => filter_names(filter, &mut names),
                Stage::LabelFormat(formats) => {
                    for format in formats {
                        match format {
                            LabelFormat::Rename { from, .. } => drop(names.insert(from.clone())),
                            LabelFormat::Template { .. } => is_any = true,
                        }
                    }
                }
                Stage::LineFormat(_) => is_any = true,
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
        Self { error_wanted: names.contains(ERROR_LABEL), names: (!is_any).then_some(names) }
    }

    /// Whether nothing is looked for, so that parsers do nothing.
    pub(crate) fn is_nothing(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.is_empty())
    }

    pub(crate) fn wants_error(&self) -> bool {
        self.error_wanted
    }

    fn wants(&self, name: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }

    /// Whether there is nothing left to look for in the row.
    fn is_found(&self, row: &Row<'_>) -> bool {
        self.names.as_ref().is_some_and(|names| names.iter().all(|name| row.has_parsed(name)))
    }

    fn fail(&self, row: &mut Row<'_>, error: PipelineError, details: &str) {
        row.set_error(error, details);
        if self.error_wanted {
            row.want_error();
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

/// Whether [`predicates`] say all that the filter does.
pub(crate) fn is_predicate(filter: &LineFilter) -> bool {
    let is_exact = |n: &Needle| match n {
        Needle::Text(text) => !text.is_empty() && text.len() <= EXACT_TEXT_BYTES_MAX,
        _ => false,
    };
    let is_one = filter.op == LineOp::Contains && filter.needles.len() == 1;
    (is_one || filter.op == LineOp::NotContains) && filter.needles.iter().all(is_exact)
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
        Stage::Json(_) | Stage::Logfmt { .. } | Stage::Pattern(_) | Stage::Regexp(_) | Stage::Unpack => {
            if !needed.is_found(row) {
                parse(stage, needed, row);
            }
        }
        Stage::LineFormat(template) => match template.render(row) {
            Ok(line) => row.set_line(&line),
            Err(error) => row.set_error(PipelineError::Template, &error),
        },
        Stage::LabelFormat(formats) => format_labels(formats, row),
        Stage::Decolorize => {
            if let Cow::Owned(plain) = decolorize(row.line()) {
                row.set_line(&plain);
            }
        }
        Stage::Drop(picks) => drop_labels(picks, row),
        Stage::Keep(picks) => row.retain(|name, value| picks.iter().any(|p| p.picks(name, value))),
    }
    true
}

fn parse(stage: &Stage, needed: &Needed, row: &mut Row<'_>) {
    match stage {
        Stage::Json(fields) if fields.is_empty() => row.with_line(|row, line| {
            let result = json::flatten_while(line, |found| {
                if needed.wants(found.name) {
                    row.add_parsed(found.name, found.value);
                    !needed.is_found(row)
                } else {
                    true
                }
            });
            if let Err(error) = result {
                needed.fail(row, PipelineError::Json, error.as_str());
            }
        }),
        Stage::Json(fields) => row.with_line(|row, line| {
            match line.as_bytes().first() {
                None => return,
                Some(b'{' | b'[' | b'"') => {}
                Some(_) => return needed.fail(row, PipelineError::Json, ""),
            }
            for (label, path, _) in fields {
                // What stands before a fault in the line counts; a path without a value gives an empty label.
                let value = json::at_path(line, path);
                row.add_parsed(label, value.as_deref().unwrap_or(""));
            }
        }),
        Stage::Logfmt { strict, keep_empty, fields } if fields.is_empty() => row.with_line(|row, line| {
            let result = logfmt::pairs_while(line, *strict, |key, value| {
                let name = sanitised(key);
                if (!value.is_empty() || *keep_empty) && needed.wants(&name) {
                    row.add_parsed(&name, &value);
                    !needed.is_found(row)
                } else {
                    true
                }
            });
            logfmt_error(row, needed, result);
        }),
        Stage::Logfmt { strict, fields, .. } => row.with_line(|row, line| {
            let names: Vec<String> = fields.iter().map(|(label, _)| row.parsed_name(label).into_owned()).collect();
            for ((label, _), name) in fields.iter().zip(&names) {
                if label == name {
                    row.set(name, "");
                }
            }
            // Of a key that stands twice the last value counts here, as in Loki.
            let result = logfmt::pairs_while(line, *strict, |key, value| {
                let clean = sanitised(key);
                let by_key = fields.iter().position(|(_, wanted)| wanted == key || *wanted == *clean);
                let hit = by_key.or_else(|| fields.iter().position(|(label, _)| *label == *clean));
                if let Some(idx) = hit {
                    row.set(&names[idx], &value);
                }
                true
            });
            logfmt_error(row, needed, result);
        }),
        Stage::Pattern(pattern) => row.with_line(|row, line| {
            pattern.extract(line, |name, value| row.add_parsed(name, value));
        }),
        Stage::Regexp(regex) => row.with_line(|row, line| {
            let Some(captures) = regex.captures(line) else { return };
            for name in regex.capture_names().flatten() {
                row.add_parsed(&sanitised(name), captures.name(name).map_or("", |m| m.as_str()));
            }
        }),
        Stage::Unpack => unpack(needed, row),
        _ => {}
    }
}

fn logfmt_error(row: &mut Row<'_>, needed: &Needed, result: Result<(), logfmt::LogfmtError>) {
    if let Err(error) = result {
        needed.fail(row, PipelineError::Logfmt, &error.to_string());
    }
}

/// The templates of one stage see the labels as they were at the first of them.
fn format_labels(formats: &[LabelFormat], row: &mut Row<'_>) {
    let mut data = None;
    for format in formats {
        match format {
            LabelFormat::Rename { to, from } => {
                if let Some(value) = row.get(from).map(str::to_owned) {
                    row.set(to, &value);
                    row.remove(from);
                }
            }
            LabelFormat::Template { to, template } => {
                let data = data.get_or_insert_with(|| LineTemplate::data(row));
                match template.render_with(row, data) {
                    Ok(value) => row.set(to, &value),
                    Err(error) => row.set_error(PipelineError::Template, &error),
                }
            }
        }
    }
}

pub(super) fn sanitised(key: &str) -> Cow<'_, str> {
    let clean =
        !key.starts_with(|c: char| c.is_ascii_digit()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if clean {
        return Cow::Borrowed(key);
    }
    let mut name = String::with_capacity(key.len() + 1);
    json::push_sanitised(&mut name, key);
    Cow::Owned(name)
}

/// Labels count only where a packed line stands beside them, as in Loki.
fn unpack(needed: &Needed, row: &mut Row<'_>) {
    let mut new_line = None;
    let mut labels: Vec<(String, String)> = Vec::new();
    row.with_line(|row, line| {
        let result = match line.as_bytes().first() {
            None => return,
            Some(b'{') => json::top_level_strings(line, |key, value| {
                if key == "_entry" {
                    new_line = Some(value.into_owned());
                } else {
                    labels.push((sanitised(key).into_owned(), value.into_owned()));
                }
            }),
            Some(_) => Err(json::JsonError::NotAnObject),
        };
        if let Err(error) = result {
            new_line = None;
            needed.fail(row, PipelineError::Json, error.as_str());
        }
    });
    if let Some(line) = new_line {
        for (name, value) in &labels {
            if needed.wants(name) {
                row.add_parsed(name, value);
            }
        }
        row.set_line(&line);
    }
}

fn drop_labels(picks: &[LabelPick], row: &mut Row<'_>) {
    for pick in picks {
        if row.get(&pick.name).is_some_and(|value| pick.picks(&pick.name, value)) {
            row.remove(&pick.name);
        }
    }
}

/// A terminal's control sequences: `ESC [ … letter` and its kin, and `ESC ] … BEL`.
static ANSI: LazyLock<regex::Regex> = LazyLock::new(|| {
    let text = r"(?:[0-9A-Za-z]*(?:;[0-9A-Za-z]*)*)?\x07";
    let code = r"(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-PR-TZcf-nqrty=><~]";
    regex::Regex::new(&format!(r"[\x1b\x{{9b}}][\[\]()#;?]*(?:{text}|{code})")).expect("a constant pattern")
});

fn decolorize(line: &str) -> Cow<'_, str> {
    ANSI.replace_all(line, "")
}

/// `None` when the text cannot be read so.
pub(crate) fn convert(conversion: Conversion, text: &str) -> Option<f64> {
    match conversion {
        Conversion::Number => text.parse().ok(),
        Conversion::Duration => weir_go::parse_go_duration(text).ok().map(|d| d as f64 / 1e9),
        Conversion::Bytes => parse_bytes(text),
    }
}

/// The number under the unwrapped label; `None` when the row has no such label or a filter after
/// the unwrap refuses it. A value that is no number marks the row with an error and counts as 0.
pub(crate) fn apply_unwrap(unwrap: &Unwrap, row: &mut Row<'_>) -> Option<f64> {
    let text = row.get(&unwrap.label).filter(|text| !text.is_empty())?;
    let value = convert(unwrap.conversion, text);
    if value.is_none() {
        let details = format!("cannot convert `{text}` of label {}", unwrap.label);
        row.set_error(PipelineError::SampleExtraction, &details);
    }
    let passes = unwrap.filters.iter().all(|filter| label_passes(filter, row));
    passes.then(|| value.unwrap_or(0.0))
}
