//! Stages that put extracted values where they count: labels, structured metadata, the line.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::logs::entry::Entry;

/// Name, and where its value comes from when that has another name.
pub(crate) type LabelsFile = BTreeMap<String, Option<String>>;

/// Names with their sources.
pub type Labels = Vec<(String, String)>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputFile {
    pub source: String,
}

pub(super) fn labels(file: LabelsFile) -> Result<Labels, String> {
    if file.is_empty() {
        return Err("it names no label".to_owned());
    }
    let pair = |(name, source): (String, Option<String>)| {
        check_name(&name)?;
        let source = source.filter(|s| !s.is_empty()).unwrap_or_else(|| name.clone());
        Ok((name, source))
    };
    file.into_iter().map(pair).collect()
}

/// Labels without a value are passed over.
pub(super) fn static_labels(file: LabelsFile) -> Result<Vec<(String, String)>, String> {
    let pairs: Vec<_> =
        file.into_iter().filter_map(|(name, value)| Some((name, value.filter(|v| !v.is_empty())?))).collect();
    if pairs.is_empty() {
        return Err("it names no label with a value".to_owned());
    }
    pairs.iter().try_for_each(|(name, _)| check_name(name))?;
    Ok(pairs)
}

fn check_name(name: &str) -> Result<(), String> {
    let is_name =
        name.bytes().enumerate().all(|(i, b)| b.is_ascii_alphabetic() || b == b'_' || i > 0 && b.is_ascii_digit());
    if is_name && !name.is_empty() {
        Ok(())
    } else {
        Err(format!("`{name}` is no label name; use letters, digits and `_`"))
    }
}

pub(super) fn set_labels(labels: &Labels, entry: &mut Entry) {
    for (name, source) in labels {
        if let Some(value) = entry.text(source) {
            entry.labels = entry.labels.with(name, &value);
        }
    }
}

pub(super) fn set_static(pairs: &[(String, String)], entry: &mut Entry) {
    for (name, value) in pairs {
        entry.labels = entry.labels.with(name, value);
    }
}

pub(super) fn add_metadata(pairs: &Labels, entry: &mut Entry) {
    for (name, source) in pairs {
        if let Some(value) = entry.text(source).map(|value| value.into_owned()) {
            entry.metadata.retain(|(known, _)| &**known != name);
            entry.metadata.push((name.as_str().into(), value.into()));
        }
    }
    entry.metadata.sort();
}

pub(super) fn output(source: &str, entry: &mut Entry) {
    if let Some(line) = entry.text(source).map(|line| line.into_owned()) {
        entry.line = line;
    }
}
