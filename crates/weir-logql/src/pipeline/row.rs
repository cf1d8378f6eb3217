//! One log entry on its way through a pipeline.

use std::borrow::Cow;
use std::ops::Range;

use weir_model::{Labels, LogEntry};

/// Where a label of a row comes from. Declared in the order in which a name is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    Parsed,
    Metadata,
    Stream,
}

/// The five ways in which a stage fails without losing the line. Source: Loki `pkg/logqlmodel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineError {
    Json,
    Logfmt,
    SampleExtraction,
    LabelFilter,
    Template,
}

impl PipelineError {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "JSONParserErr",
            Self::Logfmt => "LogfmtParserErr",
            Self::SampleExtraction => "SampleExtractionErr",
            Self::LabelFilter => "LabelFilterErr",
            Self::Template => "TemplateFormatErr",
        }
    }
}

pub const ERROR_LABEL: &str = "__error__";
pub const ERROR_DETAILS_LABEL: &str = "__error_details__";

struct Field {
    name: Range<usize>,
    value: Range<usize>,
}

/// Buffers that serve row after row, so that a line costs no allocation.
#[derive(Default)]
pub struct Scratch {
    /// Names and values of `fields` and names of `hidden`.
    text: String,
    fields: Vec<Field>,
    /// Stream labels and metadata that a stage removed or overrode.
    hidden: Vec<Range<usize>>,
    line: String,
    line_rewritten: bool,
    error: Option<(PipelineError, String)>,
}

/// An entry, its stream, and what the stages made of them.
pub struct Row<'a> {
    pub stream: &'a Labels,
    pub entry: &'a LogEntry,
    scratch: &'a mut Scratch,
}

impl<'a> Row<'a> {
    pub fn new(stream: &'a Labels, entry: &'a LogEntry, scratch: &'a mut Scratch) -> Self {
        scratch.text.clear();
        scratch.fields.clear();
        scratch.hidden.clear();
        scratch.line_rewritten = false;
        scratch.error = None;
        Self { stream, entry, scratch }
    }

    pub fn line(&self) -> &str {
        if self.scratch.line_rewritten { &self.scratch.line } else { &self.entry.line }
    }

    pub fn set_line(&mut self, line: &str) {
        self.scratch.line.clear();
        self.scratch.line.push_str(line);
        self.scratch.line_rewritten = true;
    }

    /// Hands the line to a parser that changes the row.
    pub fn with_line(&mut self, parse: impl FnOnce(&mut Self, &str)) {
        if self.scratch.line_rewritten {
            let line = std::mem::take(&mut self.scratch.line);
            parse(self, &line);
            // A parser that set a new line (unpack) wins.
            if self.scratch.line.is_empty() {
                self.scratch.line = line;
            }
        } else {
            let entry = self.entry;
            parse(self, &entry.line);
        }
    }

    pub fn error(&self) -> Option<(PipelineError, &str)> {
        self.scratch.error.as_ref().map(|(error, details)| (*error, details.as_str()))
    }
    /// The first error of a line stays.
    pub fn set_error(&mut self, error: PipelineError, details: impl Into<String>) {
        if self.scratch.error.is_none() {
            self.scratch.error = Some((error, details.into()));
        }
    }
    pub fn clear_error(&mut self) {
        self.scratch.error = None;
    }

    fn text(&self, range: &Range<usize>) -> &str {
        &self.scratch.text[range.clone()]
    }

    fn is_hidden(&self, name: &str) -> bool {
        self.scratch.hidden.iter().any(|range| self.text(range) == name)
    }

    fn field(&self, name: &str) -> Option<usize> {
        self.scratch.fields.iter().position(|f| self.text(&f.name) == name)
    }

    /// The value of a label: parsed, else metadata, else of the stream.
    pub fn get(&self, name: &str) -> Option<&str> {
        if let Some(idx) = self.field(name) {
            return Some(self.text(&self.scratch.fields[idx].value));
        }
        match name {
            ERROR_LABEL => return self.scratch.error.as_ref().map(|(error, _)| error.as_str()),
            ERROR_DETAILS_LABEL => return self.scratch.error.as_ref().map(|(_, details)| details.as_str()),
            _ => {}
        }
        if self.is_hidden(name) {
            return None;
        }
        self.entry.metadata(name).or_else(|| self.stream.get(name))
    }

    /// Whether the stream or the metadata has this name and no stage took it away.
    pub fn is_taken(&self, name: &str) -> bool {
        (self.stream.get(name).is_some() || self.entry.metadata(name).is_some()) && !self.is_hidden(name)
    }

    /// A label found by a parser: a name that the sender used gets `_extracted`, a name found
    /// before keeps its first value, an empty value is no label.
    pub fn add_parsed(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.add_kept(name, value);
        }
    }

    /// As [`Row::add_parsed`], but an empty value counts (`logfmt --keep-empty`).
    pub fn add_kept(&mut self, name: &str, value: &str) {
        if name.is_empty() {
            return;
        }
        let taken = self.is_taken(name);
        let full: Cow<'_, str> = if taken { Cow::Owned(format!("{name}_extracted")) } else { Cow::Borrowed(name) };
        if self.field(&full).is_none() {
            self.push_field(&full, value);
        }
    }

    fn push(&mut self, text: &str) -> Range<usize> {
        let start = self.scratch.text.len();
        self.scratch.text.push_str(text);
        start..self.scratch.text.len()
    }

    fn push_field(&mut self, name: &str, value: &str) {
        let (name, value) = (self.push(name), self.push(value));
        self.scratch.fields.push(Field { name, value });
    }

    /// Sets a label whatever it was before; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        if !value.is_empty() {
            self.push_field(name, value);
        }
    }

    pub fn remove(&mut self, name: &str) {
        match name {
            ERROR_LABEL => self.scratch.error = None,
            ERROR_DETAILS_LABEL => {
                if let Some((_, details)) = &mut self.scratch.error {
                    details.clear();
                }
            }
            _ => {
                if let Some(idx) = self.field(name) {
                    self.scratch.fields.remove(idx);
                }
                if self.is_taken(name) {
                    let range = self.push(name);
                    self.scratch.hidden.push(range);
                }
            }
        }
    }

    /// Removes the labels that `keep` refuses; never the error.
    pub fn retain(&mut self, keep: impl Fn(&str, &str) -> bool) {
        let mut gone: Vec<String> = Vec::new();
        self.for_each(|_, name, value| {
            if !keep(name, value) {
                gone.push(name.to_owned());
            }
        });
        for name in &gone {
            self.remove(name);
        }
    }

    /// Every label with its origin, the error excepted, in no particular order, each name once.
    pub fn for_each<'r>(&'r self, mut visit: impl FnMut(Origin, &'r str, &'r str)) {
        let touched = !self.scratch.fields.is_empty() || !self.scratch.hidden.is_empty();
        let shadowed = |name: &str| touched && (self.is_hidden(name) || self.field(name).is_some());
        for field in &self.scratch.fields {
            visit(Origin::Parsed, self.text(&field.name), self.text(&field.value));
        }
        for (name, value) in &self.entry.metadata {
            if !value.is_empty() && !shadowed(name) {
                visit(Origin::Metadata, name, value);
            }
        }
        for label in self.stream {
            if !shadowed(&label.name) && self.entry.metadata(&label.name).is_none() {
                visit(Origin::Stream, &label.name, &label.value);
            }
        }
    }

    /// Whether the row's labels are those of its stream and nothing else.
    pub fn is_bare(&self) -> bool {
        self.scratch.fields.is_empty() && self.scratch.hidden.is_empty() && self.entry.metadata.is_empty()
    }

    /// Whether the stream's own labels are all visible and unchanged.
    pub fn keeps_stream(&self) -> bool {
        self.scratch.hidden.is_empty()
            && self.scratch.fields.iter().all(|f| self.stream.get(self.text(&f.name)).is_none())
            && self.entry.metadata.iter().all(|(name, _)| self.stream.get(name).is_none())
    }
}
