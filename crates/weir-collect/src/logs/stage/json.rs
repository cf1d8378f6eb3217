//! `json` and `logfmt`: fields become extracted values.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::jmespath::Path;
use super::not_empty;
use crate::logs::entry::{Entry, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonFile {
    #[serde(default)]
    expressions: BTreeMap<String, Option<String>>,
    source: Option<String>,
    #[serde(default)]
    drop_malformed: bool,
}

#[derive(Debug)]
pub struct Json {
    expressions: Vec<(String, Path)>,
    source: Option<String>,
    pub(super) drops_malformed: bool,
}

impl JsonFile {
    pub fn check(self) -> Result<Json, String> {
        if self.expressions.is_empty() {
            return Err("`expressions` is missing or empty".to_owned());
        }
        let one = |(name, path): (String, Option<String>)| {
            let path = path.filter(|p| !p.is_empty()).unwrap_or_else(|| name.clone());
            Ok((name, Path::parse(&path)?))
        };
        Ok(Json {
            expressions: self.expressions.into_iter().map(one).collect::<Result<_, String>>()?,
            source: not_empty("source", self.source)?,
            drops_malformed: self.drop_malformed,
        })
    }
}

impl Json {
    /// Whether it was a JSON object, if there was anything to read.
    pub fn run(&self, entry: &mut Entry) -> bool {
        let Some(text) = entry.source(self.source.as_deref()) else { return true };
        let Ok(data @ serde_json::Value::Object(_)) = serde_json::from_str(&text) else { return false };
        for (name, path) in &self.expressions {
            entry.extracted.insert(name.clone(), value(path.search(&data)));
        }
        true
    }
}

/// Lists and objects as JSON text.
fn value(found: Option<serde_json::Value>) -> Value {
    match found {
        None | Some(serde_json::Value::Null) => Value::Null,
        Some(serde_json::Value::Bool(is_set)) => Value::Bool(is_set),
        Some(serde_json::Value::String(text)) => Value::Text(text),
        // A number beyond 2^53 would lose digits as one: it stays as it was written.
        Some(serde_json::Value::Number(number)) => match number.as_f64() {
            Some(float) if !is_large_integer(&number) => Value::Number(float),
            _ => Value::Text(number.to_string()),
        },
        Some(other) => Value::Text(other.to_string()),
    }
}

fn is_large_integer(number: &serde_json::Number) -> bool {
    const EXACT_MAX: u64 = 1 << 53;
    let size = number.as_i64().map(i64::unsigned_abs).or_else(|| number.as_u64());
    size.is_some_and(|size| size > EXACT_MAX)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogfmtFile {
    #[serde(default)]
    mapping: BTreeMap<String, Option<String>>,
    source: Option<String>,
}

#[derive(Debug)]
pub struct Logfmt {
    /// Field, and the name that its value gets.
    mapping: Vec<(String, String)>,
    source: Option<String>,
}

impl LogfmtFile {
    pub fn check(self) -> Result<Logfmt, String> {
        if self.mapping.is_empty() {
            return Err("`mapping` is missing or empty".to_owned());
        }
        let pair = |(name, field): (String, Option<String>)| {
            (field.filter(|f| !f.is_empty()).unwrap_or_else(|| name.clone()), name)
        };
        Ok(Logfmt { mapping: self.mapping.into_iter().map(pair).collect(), source: not_empty("source", self.source)? })
    }
}

impl Logfmt {
    pub fn run(&self, entry: &mut Entry) {
        let Some(text) = entry.source(self.source.as_deref()) else { return };
        let mut found = Vec::new();
        // What stands before a mistake counts, as upstream has it.
        let _ = weir_logql::logfmt::pairs(&text, true, |key, value| {
            found.extend(
                self.mapping.iter().filter(|(field, _)| field == key).map(|(_, name)| (name, value.to_string())),
            );
        });
        let found: Vec<(String, String)> = found.into_iter().map(|(name, value)| (name.clone(), value)).collect();
        for (name, value) in found {
            entry.extracted.insert(name, Value::Text(value));
        }
    }
}
