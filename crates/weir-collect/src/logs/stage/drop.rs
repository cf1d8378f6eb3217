//! `drop`: lines that meet every condition of the stage go no further.

use serde::Deserialize;
use weir_model::Nanos;

use super::not_empty;
use crate::logs::entry::Entry;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DropFile {
    source: Option<OneOrMany>,
    separator: Option<String>,
    expression: Option<String>,
    value: Option<String>,
    older_than: Option<String>,
    longer_than: Option<Size>,
    drop_counter_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(usize),
    Text(String),
}

#[derive(Debug)]
pub struct Drop {
    sources: Vec<String>,
    separator: String,
    regex: Option<regex::Regex>,
    value: Option<String>,
    older_than_nanos: Option<i64>,
    longer_than: Option<usize>,
    pub(super) reason: String,
}

impl DropFile {
    pub fn check(self) -> Result<Drop, String> {
        let sources = match self.source {
            None => Vec::new(),
            Some(OneOrMany::One(name)) => vec![name],
            Some(OneOrMany::Many(names)) => names,
        };
        if sources.is_empty() && self.expression.is_none() && self.older_than.is_none() && self.longer_than.is_none() {
            return Err("give at least one of `source`, `expression`, `older_than` and `longer_than`".to_owned());
        }
        if self.value.is_some() && self.expression.is_some() {
            return Err("give `value` or `expression`, not both".to_owned());
        }
        if self.value.is_some() && sources.is_empty() {
            return Err("`value` needs a `source`".to_owned());
        }
        let longer_than = match self.longer_than {
            None => None,
            Some(Size::Bytes(bytes)) => Some(bytes),
            Some(Size::Text(text)) => Some(
                crate::config::parse_size(&text)
                    .ok_or_else(|| format!("longer_than: `{text}` is no size; write it as 8kb"))?,
            ),
        };
        let nanos = |text: String| weir_go::parse_go_duration(&text).map_err(|e| format!("older_than: {e}"));
        Ok(Drop {
            sources,
            separator: self.separator.filter(|s| !s.is_empty()).unwrap_or_else(|| ";".to_owned()),
            regex: self.expression.map(|text| weir_go::regex(&text)).transpose().map_err(|e| e.to_string())?,
            value: self.value,
            older_than_nanos: self.older_than.map(nanos).transpose()?,
            longer_than,
            reason: not_empty("drop_counter_reason", self.drop_counter_reason)?
                .unwrap_or_else(|| "drop_stage".to_owned()),
        })
    }
}

impl Drop {
    pub fn holds(&self, entry: &Entry, now: Nanos) -> bool {
        if self.longer_than.is_some_and(|limit| entry.line.len() <= limit) {
            return false;
        }
        if self.older_than_nanos.is_some_and(|age| entry.at.0 >= now.0.saturating_sub(age)) {
            return false;
        }
        if self.sources.is_empty() {
            return self.regex.as_ref().is_none_or(|regex| regex.is_match(&entry.line));
        }
        let found: Vec<_> = self.sources.iter().filter_map(|name| entry.text(name)).collect();
        if self.regex.is_none() && self.value.is_none() {
            return !found.is_empty();
        }
        // A text of several values exists only when each of them does.
        if found.len() < self.sources.len() {
            return false;
        }
        let text = found.join(&self.separator);
        self.regex.as_ref().is_none_or(|regex| regex.is_match(&text))
            && self.value.as_ref().is_none_or(|value| *value == text)
    }
}
