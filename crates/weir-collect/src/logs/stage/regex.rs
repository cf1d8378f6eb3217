//! `regex`: named groups become extracted values.

use serde::Deserialize;

use super::{not_empty, required};
use crate::logs::entry::{Entry, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegexFile {
    expression: Option<String>,
    source: Option<String>,
    #[serde(default)]
    labels_from_groups: bool,
}

#[derive(Debug)]
pub struct Regex {
    regex: regex::Regex,
    source: Option<String>,
    /// Whether groups become labels at once.
    labels_from_groups: bool,
}

impl RegexFile {
    pub fn check(self) -> Result<Regex, String> {
        let expression = required("expression", self.expression)?;
        Ok(Regex {
            regex: weir_go::regex(&expression).map_err(|e| e.to_string())?,
            source: not_empty("source", self.source)?,
            labels_from_groups: self.labels_from_groups,
        })
    }
}

impl Regex {
    pub fn run(&self, entry: &mut Entry) {
        let Some(text) = entry.source(self.source.as_deref()) else { return };
        let Some(found) = self.regex.captures(&text) else { return };
        // A group that took no part is empty, as Go has it.
        let group = |name: &str| found.name(name).map_or("", |m| m.as_str()).to_owned();
        let groups: Vec<(String, String)> =
            self.regex.capture_names().flatten().map(|name| (name.to_owned(), group(name))).collect();
        for (name, value) in groups {
            if self.labels_from_groups {
                entry.labels = entry.labels.with(&name, &value);
            }
            entry.extracted.insert(name, Value::Text(value));
        }
    }
}
