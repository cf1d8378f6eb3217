//! What a pipeline's labels are for all rows of a template at once: a parser is run over the template
//! with a digit in each variable's place, and what it finds there says which variable a label's value
//! is. Where the template does not decide that for all its rows, the answer is [`Source::Unknown`].

use std::ops::Range;

use weir_model::Labels;
use weir_model::columns::{LogColumns, LogTemplate};

use super::json;
use super::logfmt;
use super::row::{ERROR_DETAILS_LABEL, ERROR_LABEL, PipelineError};
use super::run::sanitised;
use crate::ast::Stage;

/// Where the value of a label comes from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    Absent,
    Const(String),
    /// A label of the stream that has it; streams differ in its value.
    Stream(String),
    Value {
        pieces: Vec<Piece>,
        form: Form,
    },
    /// The template does not tell.
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    Column(usize),
}

/// How the label's value follows from the text in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Verbatim,
    /// Of a JSON string: escapes are undone.
    JsonString,
    /// A JSON value that is no string: `null` is no label.
    JsonBare,
    /// The same under a path: `null` is an empty label.
    JsonBareAtPath,
    /// Of logfmt: an empty value is no label.
    NotEmpty,
}

struct Field {
    name: String,
    source: Source,
}

/// The labels of a template's rows while stages go by.
pub(crate) struct Symbols<'a> {
    pub(crate) columns: &'a dyn LogColumns,
    pub(crate) template: usize,
    streams: &'a [&'a Labels],
    fields: Vec<Field>,
    hidden: Vec<String>,
    pub(crate) error: Option<PipelineError>,
    /// An error was there, whose details differ from row to row.
    had_error: bool,
}

/// The template with a digit for each variable.
struct Skeleton {
    text: String,
    /// For each variable, where its digit stands; ascending.
    digits: Vec<usize>,
}

impl Skeleton {
    /// `None` where a variable may be half of an escape, so that a digit says nothing about it.
    fn of(template: &LogTemplate<'_>) -> Option<Self> {
        let before_vars = &template.literals[..template.literals.len() - 1];
        if before_vars.iter().any(|l| l.ends_with(b"\\")) {
            return None;
        }
        let (mut text, mut digits) = (String::new(), Vec::with_capacity(template.literals.len()));
        for (i, literal) in template.literals.iter().enumerate() {
            if i > 0 {
                digits.push(text.len());
                text.push('0');
            }
            text.push_str(std::str::from_utf8(literal).ok()?);
        }
        Some(Self { text, digits })
    }

    /// Where a text lies that a parser cut out of the skeleton; `None` when it made a new one.
    fn range(&self, part: &str) -> Option<Range<usize>> {
        let start = (part.as_ptr() as usize).checked_sub(self.text.as_ptr() as usize)?;
        let end = start + part.len();
        (end <= self.text.len()).then_some(start..end)
    }

    fn vars(&self, range: &Range<usize>) -> Range<usize> {
        let at = |place: usize| self.digits.partition_point(|d| *d < place);
        at(range.start)..at(range.end)
    }

    fn is_quoted(&self, range: &Range<usize>) -> bool {
        range.start > 0 && self.text.as_bytes()[range.start - 1] == b'"'
    }

    fn source(&self, range: Range<usize>, form: Form) -> Source {
        let (mut pieces, mut from) = (Vec::new(), range.start);
        for var in self.vars(&range) {
            let digit = self.digits[var];
            if from < digit {
                pieces.push(Piece::Text(self.text[from..digit].to_owned()));
            }
            pieces.push(Piece::Column(var));
            from = digit + 1;
        }
        if from < range.end {
            pieces.push(Piece::Text(self.text[from..range.end].to_owned()));
        }
        match pieces.as_slice() {
            [] => Source::Const(String::new()),
            // What a parser cut out as it stands holds no escape.
            [Piece::Text(text)] => Source::Const(text.clone()),
            _ => Source::Value { pieces, form },
        }
    }
}

impl<'a> Symbols<'a> {
    /// `streams`: of all rows that are looked at.
    pub(crate) fn new(columns: &'a dyn LogColumns, template: usize, streams: &'a [&'a Labels]) -> Self {
        let mut symbols =
            Self { columns, template, streams, fields: Vec::new(), hidden: Vec::new(), error: None, had_error: false };
        let names = columns.template(template).names;
        for (m, name) in names.iter().enumerate() {
            match symbols.in_streams(name) {
                Some(false) => {}
                Some(true) => symbols.add(format!("{name}_extracted"), symbols.metadata(m)),
                None => symbols.add(format!("{name}_extracted"), Source::Unknown),
            }
        }
        symbols
    }

    pub(crate) fn view(&self) -> LogTemplate<'a> {
        self.columns.template(self.template)
    }

    /// Whether the streams have the label; `None`: some do.
    fn in_streams(&self, name: &str) -> Option<bool> {
        let n = self.streams.iter().filter(|labels| labels.get(name).is_some()).count();
        if n == 0 { Some(false) } else { (n == self.streams.len()).then_some(true) }
    }

    fn metadata(&self, m: usize) -> Source {
        let column = self.view().n_line_columns() + m;
        Source::Value { pieces: vec![Piece::Column(column)], form: Form::Verbatim }
    }

    /// What senders, or weir at the door, gave the lines under this name, whatever stages did since.
    pub(crate) fn metadata_of(&self, name: &str) -> Source {
        self.view().names.iter().position(|n| **n == *name).map_or(Source::Absent, |m| self.metadata(m))
    }

    fn has_metadata(&self, name: &str) -> bool {
        self.view().names.iter().any(|n| **n == *name)
    }

    /// A name that is there already has a value that depends on the row.
    fn add(&mut self, name: String, source: Source) {
        let is_taken = self.in_streams(&name) != Some(false) || self.has_metadata(&name);
        match self.fields.iter_mut().find(|f| f.name == name) {
            Some(field) => field.source = Source::Unknown,
            None => self.fields.push(Field { name, source: if is_taken { Source::Unknown } else { source } }),
        }
    }

    /// A label found by a parser: `_extracted` is added to a name that the sender used.
    fn add_parsed(&mut self, name: &str, source: Source) {
        if name.is_empty() {
            return;
        }
        match self.in_streams(name) {
            Some(false) if !self.has_metadata(name) => self.add(name.to_owned(), source),
            Some(_) => self.add(format!("{name}_extracted"), source),
            None => {
                self.add(name.to_owned(), Source::Unknown);
                self.add(format!("{name}_extracted"), Source::Unknown);
            }
        }
    }

    pub(crate) fn resolve(&self, name: &str) -> Source {
        if self.hidden.iter().any(|h| h == name) {
            return Source::Absent;
        }
        if let Some(field) = self.fields.iter().find(|f| f.name == name) {
            return field.source.clone();
        }
        match name {
            ERROR_LABEL => return self.error.map_or(Source::Absent, |e| Source::Const(e.as_str().to_owned())),
            ERROR_DETAILS_LABEL if self.had_error => return Source::Unknown,
            _ => {}
        }
        match self.in_streams(name) {
            None => Source::Unknown,
            Some(true) => {
                let mut values = self.streams.iter().map(|labels| labels.value(name));
                let first = values.next().unwrap_or_default();
                if values.all(|value| value == first) {
                    Source::Const(first.to_owned())
                } else {
                    Source::Stream(name.to_owned())
                }
            }
            Some(false) => {
                self.view().names.iter().position(|n| **n == *name).map_or(Source::Absent, |m| self.metadata(m))
            }
        }
    }

    /// Every name that a row may have; `None` when streams differ in theirs.
    pub(crate) fn names(&self) -> Option<Vec<String>> {
        let first = self.streams.first()?;
        if !self.streams.iter().all(|s| s.iter().map(|l| &l.name).eq(first.iter().map(|l| &l.name))) {
            return None;
        }
        let stream = first.iter().map(|l| l.name.to_string());
        let metadata = self.view().names.iter().map(|n| n.to_string());
        let mut names: Vec<String> = self.fields.iter().map(|f| f.name.clone()).chain(stream).chain(metadata).collect();
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    pub(crate) fn hide(&mut self, name: &str) {
        if name == ERROR_LABEL {
            self.error = None;
        } else {
            self.hidden.push(name.to_owned());
        }
    }

    /// Whether the stage's effect is known for all rows.
    pub(crate) fn parse(&mut self, stage: &Stage) -> bool {
        let Some(skeleton) = Skeleton::of(&self.view()) else { return false };
        match stage {
            Stage::Json(fields) => self.parse_json(&skeleton, fields),
            Stage::Logfmt { strict, keep_empty, fields } if fields.is_empty() => {
                self.parse_logfmt(&skeleton, *strict, *keep_empty)
            }
            _ => false,
        }
    }

    /// Escapes stand in variables that are a whole string, where they belong to it.
    fn has_whole_escapes(&self) -> bool {
        let literals = self.view().literals;
        literals.windows(2).enumerate().all(|(var, around)| {
            let is_whole = around[0].ends_with(b"\"") && around[1].starts_with(b"\"");
            is_whole || !self.columns.may_hold(self.template, var, b'\\')
        })
    }

    fn parse_json(&mut self, skeleton: &Skeleton, fields: &[(String, json::JsonPath, String)]) -> bool {
        if !self.view().is_json {
            // What a line begins with decides: a text, or a variable that is always a number.
            let begin = &self.view().literals[0];
            let is_space = |b: &&u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r');
            let first = if fields.is_empty() { begin.iter().find(|b| !is_space(b)) } else { begin.first() };
            let may_be_json: &[u8] = if fields.is_empty() { b"{" } else { b"{[\"" };
            let may_be_json = match first {
                Some(byte) => may_be_json.contains(byte),
                None => self.view().literals.len() == 1 || self.columns.range(self.template, 0).is_none(),
            };
            if may_be_json {
                return false;
            }
            (self.error, self.had_error) = (Some(PipelineError::Json), true);
            return true;
        }
        if !self.has_whole_escapes() {
            return false;
        }
        if !fields.is_empty() {
            for (label, path, _) in fields {
                let source = match json::at_path(&skeleton.text, path) {
                    None => Source::Const(String::new()),
                    Some(value) => self.json_source(skeleton, &value, Form::JsonBareAtPath),
                };
                self.add_parsed(label, source);
            }
            return true;
        }
        json::flatten(&skeleton.text, |name, value| {
            let source = self.json_source(skeleton, value, Form::JsonBare);
            self.add_parsed(name, source);
        })
        .is_ok()
    }

    fn json_source(&self, skeleton: &Skeleton, value: &str, bare: Form) -> Source {
        let Some(range) = skeleton.range(value) else { return Source::Unknown };
        let is_nested = value.starts_with(['{', '[']) && !skeleton.is_quoted(&range);
        let form = match () {
            () if is_nested => Form::Verbatim,
            () if skeleton.is_quoted(&range) => Form::JsonString,
            () => bare,
        };
        // An empty string cannot be told from what ends where it stands.
        if range.is_empty() { Source::Const(String::new()) } else { skeleton.source(range, form) }
    }

    fn parse_logfmt(&mut self, skeleton: &Skeleton, strict: bool, keep_empty: bool) -> bool {
        let n_vars = skeleton.digits.len();
        // Variables inside of quotes, where a space means nothing.
        let mut quoted = vec![false; n_vars];
        let (mut found, mut is_known) = (Vec::new(), true);
        let result = logfmt::pairs(&skeleton.text, strict, |key, value| {
            let (Some(key_at), Some(value_at)) = (skeleton.range(key), skeleton.range(&value)) else {
                // Only escapes and lone keys give texts that are not cut out; a lone key has no value.
                let is_lone = value.is_empty() && skeleton.range(key).is_some_and(|r| !skeleton.followed_by_equals(&r));
                is_known &= is_lone && !keep_empty;
                return;
            };
            let has_value = !value.is_empty() || skeleton.followed_by_equals(&key_at);
            let key_varies = !skeleton.vars(&key_at).is_empty();
            if key_varies {
                is_known &= !has_value && !keep_empty;
                return;
            }
            if skeleton.is_quoted(&value_at) {
                skeleton.vars(&value_at).for_each(|var| quoted[var] = true);
            }
            found.push((sanitised(key).into_owned(), value_at, has_value));
        });
        if result.is_err() || !is_known {
            return false;
        }
        let breaks_word: Vec<u8> = (0..=b' ').chain([b'"', b'=']).collect();
        let is_safe = |var: usize| {
            let bytes: &[u8] = if quoted[var] { b"\"\\" } else { &breaks_word };
            bytes.iter().all(|byte| !self.columns.may_hold(self.template, var, *byte))
        };
        if !(0..n_vars).all(is_safe) {
            return false;
        }
        for (name, range, has_value) in found {
            if !has_value && !keep_empty {
                continue;
            }
            let form = if keep_empty { Form::Verbatim } else { Form::NotEmpty };
            match skeleton.source(range, form) {
                Source::Const(text) if text.is_empty() && !keep_empty => {}
                source => self.add_parsed(&name, source),
            }
        }
        true
    }
}

impl Skeleton {
    fn followed_by_equals(&self, range: &Range<usize>) -> bool {
        self.text.as_bytes().get(range.end) == Some(&b'=')
    }
}
