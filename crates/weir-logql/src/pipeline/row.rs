//! One log entry on its way through a pipeline.

use std::borrow::Cow;
use std::ops::Range;

use weir_model::{Labels, LogEntry, Nanos};

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

/// Names by which a query asks for lines with errors.
pub const ERROR_LABEL: &str = "__error__";
pub const ERROR_DETAILS_LABEL: &str = "__error_details__";

struct Field {
    name: Range<usize>,
    value: Range<usize>,
    origin: Origin,
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
    error: Option<PipelineError>,
    /// Outlives an error that is dropped by its name alone, as in Loki.
    details: String,
    /// The query asked for errors, so a metric query counts the line instead of failing.
    error_wanted: bool,
    now: Nanos,
}

impl Scratch {
    /// `now`: when the query began, for templates.
    pub fn new(now: Nanos) -> Self {
        Self { now, ..Self::default() }
    }
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
        scratch.details.clear();
        scratch.error_wanted = false;
        let mut row = Self { stream, entry, scratch };
        for (name, value) in &entry.metadata {
            if stream.get(name).is_some() {
                row.push_field(&format!("{name}_extracted"), value, Origin::Metadata);
            }
        }
        row
    }

    pub fn now(&self) -> Nanos {
        self.scratch.now
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

    pub fn error(&self) -> Option<PipelineError> {
        self.scratch.error
    }
    /// Why the line has, or had, an error; empty if nobody said.
    pub fn error_details(&self) -> &str {
        &self.scratch.details
    }
    /// Replaces an error that was there before.
    pub fn set_error(&mut self, error: PipelineError, details: &str) {
        self.scratch.error = Some(error);
        if !details.is_empty() {
            self.scratch.details.clear();
            self.scratch.details.push_str(details);
        }
    }
    /// Keeps an error that was there before: it says more.
    pub fn set_first_error(&mut self, error: PipelineError, details: &str) {
        if self.scratch.error.is_none() {
            self.set_error(error, details);
        }
    }
    pub fn want_error(&mut self) {
        self.scratch.error_wanted = true;
    }
    /// An error that makes a metric query fail.
    pub fn fatal_error(&self) -> Option<PipelineError> {
        self.scratch.error.filter(|_| !self.scratch.error_wanted)
    }
    /// What a result shows of the error: `__error__` and `__error_details__`.
    pub fn error_labels(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let touched = !self.is_bare();
        let details = Some(self.error_details()).filter(|d| !d.is_empty() && (touched || self.error().is_some()));
        let error = self.error().map(|error| (ERROR_LABEL, error.as_str()));
        error.into_iter().chain(details.map(|d| (ERROR_DETAILS_LABEL, d)))
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
            ERROR_LABEL => return self.scratch.error.map(PipelineError::as_str),
            ERROR_DETAILS_LABEL => return Some(self.error_details()).filter(|d| !d.is_empty()),
            _ => {}
        }
        if self.is_hidden(name) {
            return None;
        }
        self.stream.get(name).or_else(|| self.entry.metadata(name))
    }

    /// Whether the sender used this name: for the stream, even if a stage dropped it since, or for
    /// metadata that is still there. As in Loki.
    fn is_taken(&self, name: &str) -> bool {
        self.stream.get(name).is_some()
            || (self.entry.metadata(name).is_some() && !self.is_hidden(name) && self.field(name).is_none())
    }

    /// Whether a parser, or a stage after it, gave this label.
    pub fn has_parsed(&self, name: &str) -> bool {
        self.field(name).is_some_and(|idx| self.scratch.fields[idx].origin == Origin::Parsed)
    }

    /// The name that a parser's label gets: `_extracted` is added to one that the sender used.
    pub fn parsed_name<'n>(&self, name: &'n str) -> Cow<'n, str> {
        if self.is_taken(name) { Cow::Owned(format!("{name}_extracted")) } else { Cow::Borrowed(name) }
    }

    /// A label found by a parser; a name found before keeps its first value. An empty value counts.
    pub fn add_parsed(&mut self, name: &str, value: &str) {
        if name.is_empty() {
            return;
        }
        let full = self.parsed_name(name);
        if self.field(&full).is_none() {
            self.push_field(&full, value, Origin::Parsed);
        }
    }

    fn push(&mut self, text: &str) -> Range<usize> {
        let start = self.scratch.text.len();
        self.scratch.text.push_str(text);
        start..self.scratch.text.len()
    }

    fn push_field(&mut self, name: &str, value: &str, origin: Origin) {
        let (name, value) = (self.push(name), self.push(value));
        self.scratch.fields.push(Field { name, value, origin });
    }

    /// Sets a label whatever it was before.
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.push_field(name, value, Origin::Parsed);
    }

    pub fn remove(&mut self, name: &str) {
        match name {
            ERROR_LABEL => self.scratch.error = None,
            ERROR_DETAILS_LABEL => self.scratch.details.clear(),
            _ => {
                if let Some(idx) = self.field(name) {
                    self.scratch.fields.remove(idx);
                }
                let is_there = self.stream.get(name).is_some() || self.entry.metadata(name).is_some();
                if is_there && !self.is_hidden(name) {
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
            visit(field.origin, self.text(&field.name), self.text(&field.value));
        }
        for (name, value) in &self.entry.metadata {
            if !value.is_empty() && !shadowed(name) && self.stream.get(name).is_none() {
                visit(Origin::Metadata, name, value);
            }
        }
        for label in self.stream {
            if !shadowed(&label.name) {
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
    }
}
