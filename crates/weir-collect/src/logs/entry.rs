//! A line on its way through the stages.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::{Labels, Nanos};

/// What stages found, for other stages.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Number(f64),
    Bool(bool),
    Null,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl Value {
    /// `None` for null, which is no text.
    pub fn text(&self) -> Option<Cow<'_, str>> {
        Some(match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => weir_go::format_f(*number).into(),
            Self::Bool(true) => "true".into(),
            Self::Bool(false) => "false".into(),
            Self::Null => return None,
        })
    }

    /// Numbers, numbers as text, and durations as seconds.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Bool(is_set) => Some(f64::from(u8::from(*is_set))),
            Self::Null => None,
            Self::Text(text) => {
                text.parse().ok().or_else(|| weir_go::parse_go_duration(text).ok().map(|nanos| nanos as f64 / 1e9))
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub labels: Labels,
    pub at: Nanos,
    pub line: String,
    pub metadata: Vec<(Arc<str>, Arc<str>)>,
    pub extracted: BTreeMap<String, Value>,
    /// As a stage set it.
    pub tenant: Option<String>,
    /// Where in the file its first byte stands.
    pub from: u64,
}

impl Entry {
    pub fn new(labels: Labels, at: Nanos, line: String, from: u64) -> Self {
        Self { labels, at, line, metadata: Vec::new(), extracted: BTreeMap::new(), tenant: None, from }
    }

    /// The extracted value as text.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.extracted.get(name)?.text()
    }

    /// What a stage with an optional `source` reads.
    pub fn source(&self, source: Option<&str>) -> Option<Cow<'_, str>> {
        match source {
            Some(name) => self.text(name),
            None => Some(Cow::Borrowed(&self.line)),
        }
    }

    /// Labels count as extracted.
    pub fn seed(&mut self) {
        for label in &self.labels {
            self.extracted.insert(label.name.to_string(), Value::from(&*label.value));
        }
    }

    pub fn extract(&mut self, name: &str, value: Value) {
        self.extracted.insert(name.to_owned(), value);
    }
}
