//! Reading a mapping key by key: what is not asked for is unknown, and every mistake has its place.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use super::node::{Entry, Node, Scalar};

/// One thing wrong with, or odd about, a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 where the whole file is meant.
    pub line: u64,
    /// Keys from the top, such as `processors.batch.timeout`.
    pub path: String,
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.line, &*self.path) {
            (0, "") => write!(f, "{}", self.reason),
            (0, path) => write!(f, "{path}: {}", self.reason),
            (line, "") => write!(f, "line {line}: {}", self.reason),
            (line, path) => write!(f, "line {line}: {path}: {}", self.reason),
        }
    }
}

/// What was found so far. Reading goes on after a mistake, so that one run shows all of them.
#[derive(Default)]
pub(crate) struct Findings {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
}

impl Findings {
    pub fn error(&self, line: u64, path: impl Into<String>, reason: impl Into<String>) {
        self.errors.borrow_mut().push(Problem { line, path: path.into(), reason: reason.into() });
    }
    pub fn warn(&self, line: u64, path: impl Into<String>, reason: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem { line, path: path.into(), reason: reason.into() });
    }
    /// Errors and warnings in the order of lines.
    pub fn into_sorted(self) -> (Vec<Problem>, Vec<Problem>) {
        let sorted = |list: RefCell<Vec<Problem>>| {
            let mut list = list.into_inner();
            list.sort_by_key(|p| p.line);
            list
        };
        (sorted(self.errors), sorted(self.warnings))
    }
}

/// A value with its place.
#[derive(Clone)]
pub(crate) struct Field<'a> {
    pub findings: &'a Findings,
    pub path: String,
    pub line: u64,
    pub node: &'a Node,
}

impl<'a> Field<'a> {
    pub fn error(&self, reason: impl Into<String>) {
        self.findings.error(self.line, &*self.path, reason);
    }
    pub fn warn(&self, reason: impl Into<String>) {
        self.findings.warn(self.line, &*self.path, reason);
    }
    fn wants(&self, what: &str) {
        self.error(format!("is {}, not {what}", self.node.kind()));
    }
    pub fn is_null(&self) -> bool {
        matches!(self.node, Node::Scalar(Scalar::Null))
    }

    /// Numbers and booleans count as the text that they print as, as upstream reads them.
    pub fn text(&self) -> Option<String> {
        match self.node {
            Node::Scalar(Scalar::Str(text)) => Some(text.clone()),
            Node::Scalar(Scalar::Int(v)) => Some(v.to_string()),
            Node::Scalar(Scalar::Float(v)) => Some(v.to_string()),
            Node::Scalar(Scalar::Bool(v)) => Some(v.to_string()),
            _ => {
                self.wants("a text");
                None
            }
        }
    }
    pub fn bool(&self) -> Option<bool> {
        match self.node {
            Node::Scalar(Scalar::Bool(v)) => Some(*v),
            Node::Scalar(Scalar::Str(text)) if text == "true" || text == "false" => Some(text == "true"),
            _ => {
                self.wants("true or false");
                None
            }
        }
    }
    pub fn int(&self) -> Option<i64> {
        match self.node {
            Node::Scalar(Scalar::Int(v)) => Some(*v),
            Node::Scalar(Scalar::Float(v)) if v.fract() == 0.0 && v.abs() < 9e15 => Some(*v as i64),
            Node::Scalar(Scalar::Str(text)) if text.parse::<i64>().is_ok() => text.parse().ok(),
            _ => {
                self.wants("a whole number");
                None
            }
        }
    }
    pub fn unsigned(&self) -> Option<u64> {
        let v = self.int()?;
        u64::try_from(v).ok().or_else(|| {
            self.error(format!("{v} is below zero"));
            None
        })
    }
    pub fn float(&self) -> Option<f64> {
        match self.node {
            Node::Scalar(Scalar::Int(v)) => Some(*v as f64),
            Node::Scalar(Scalar::Float(v)) if v.is_finite() => Some(*v),
            Node::Scalar(Scalar::Str(text)) if text.parse::<f64>().is_ok_and(f64::is_finite) => text.parse().ok(),
            _ => {
                self.wants("a number");
                None
            }
        }
    }
    /// Go's form, such as `1m30s`; a bare number is nanoseconds, as upstream decodes it.
    pub fn duration(&self) -> Option<Duration> {
        let nanos = match self.node {
            Node::Scalar(Scalar::Int(v)) => Ok(*v),
            Node::Scalar(Scalar::Str(text)) => weir_go::parse_go_duration(text).map_err(|e| e.to_string()),
            _ => {
                self.wants("a duration such as 10s");
                return None;
            }
        };
        match nanos.map(u64::try_from) {
            Ok(Ok(nanos)) => Some(Duration::from_nanos(nanos)),
            Ok(Err(_)) => {
                self.error("is below zero");
                None
            }
            Err(reason) => {
                self.error(reason);
                None
            }
        }
    }
    pub fn items(&self) -> Vec<Field<'a>> {
        match self.node {
            Node::Scalar(Scalar::Null) => Vec::new(),
            Node::Seq(items) => {
                let field = |(k, item): (usize, &'a super::node::Item)| Field {
                    findings: self.findings,
                    path: format!("{}[{k}]", self.path),
                    line: item.line,
                    node: &item.node,
                };
                items.iter().enumerate().map(field).collect()
            }
            _ => {
                self.wants("a list");
                Vec::new()
            }
        }
    }
    pub fn texts(&self) -> Vec<String> {
        self.items().iter().filter_map(Field::text).collect()
    }
    /// The mapping; nothing counts as an empty one.
    pub fn section(&self) -> Section<'a> {
        let entries: &'a [Entry] = match self.node {
            Node::Map(entries) => entries,
            Node::Scalar(Scalar::Null) => &[],
            _ => {
                self.wants("a mapping");
                &[]
            }
        };
        Section { at: self.clone(), entries, asked: RefCell::default() }
    }
}

/// A mapping under way of being read.
pub(crate) struct Section<'a> {
    at: Field<'a>,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    pub fn at(&self) -> &Field<'a> {
        &self.at
    }
    pub fn error(&self, reason: impl Into<String>) {
        self.at.error(reason);
    }
    fn field_of(&self, entry: &'a Entry) -> Field<'a> {
        let path = if self.at.path.is_empty() { entry.key.clone() } else { format!("{}.{}", self.at.path, entry.key) };
        Field { findings: self.at.findings, path, line: entry.line, node: &entry.node }
    }
    /// All entries, by their keys, none of which is unknown.
    pub fn entries(&self) -> Vec<(&'a str, Field<'a>)> {
        self.entries.iter().map(|entry| (&*entry.key, self.field_of(entry))).collect()
    }
    /// The value of a key, also when it is nothing.
    pub fn written(&self, key: &'static str) -> Option<Field<'a>> {
        self.asked.borrow_mut().push(key);
        self.entries.iter().find(|e| e.key == key).map(|entry| self.field_of(entry))
    }
    pub fn get(&self, key: &'static str) -> Option<Field<'a>> {
        self.written(key).filter(|field| !field.is_null())
    }
    pub fn section(&self, key: &'static str) -> Option<Section<'a>> {
        self.written(key).map(|field| field.section())
    }
    pub fn text(&self, key: &'static str) -> Option<String> {
        self.get(key)?.text()
    }
    pub fn texts(&self, key: &'static str) -> Vec<String> {
        self.get(key).map(|field| field.texts()).unwrap_or_default()
    }
    pub fn items(&self, key: &'static str) -> Vec<Field<'a>> {
        self.get(key).map(|field| field.items()).unwrap_or_default()
    }
    pub fn bool_or(&self, key: &'static str, default: bool) -> bool {
        self.get(key).and_then(|field| field.bool()).unwrap_or(default)
    }
    pub fn int(&self, key: &'static str) -> Option<i64> {
        self.get(key)?.int()
    }
    pub fn unsigned_or(&self, key: &'static str, default: u64) -> u64 {
        self.get(key).and_then(|field| field.unsigned()).unwrap_or(default)
    }
    pub fn size_or(&self, key: &'static str, default: usize) -> usize {
        usize::try_from(self.unsigned_or(key, default as u64)).unwrap_or(usize::MAX)
    }
    pub fn float(&self, key: &'static str) -> Option<f64> {
        self.get(key)?.float()
    }
    pub fn duration_or(&self, key: &'static str, default: Duration) -> Duration {
        self.get(key).and_then(|field| field.duration()).unwrap_or(default)
    }
    /// A value that must be there.
    pub fn required(&self, key: &'static str) -> Option<Field<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.error(format!("`{key}` is missing"));
        }
        found
    }
    /// Keys that are read and change nothing here; `why` is said when one is written.
    pub fn without_effect(&self, keys: &[&'static str], why: &str) {
        for key in keys {
            if let Some(field) = self.get(key) {
                field.warn(format!("has no effect: {why}"));
            }
        }
    }
    /// Keys that would change behaviour and are not there yet.
    pub fn unsupported(&self, keys: &[&'static str]) {
        for key in keys {
            if let Some(field) = self.get(key) {
                field.error("is not supported");
            }
        }
    }
    /// Everything else is unknown.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for entry in self.entries.iter().filter(|e| !asked.contains(&&*e.key)) {
            let field = self.field_of(entry);
            let known: Vec<String> = asked.iter().map(|key| format!("`{key}`")).collect();
            let known = if known.is_empty() { "nothing is configured here".to_owned() } else { known.join(", ") };
            field.error(format!("unknown key `{}`; known are {known}", entry.key));
        }
    }
}
