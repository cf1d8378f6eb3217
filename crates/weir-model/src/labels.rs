//! Label sets: identity of series and log streams.

use std::fmt;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeMap, Serializer};

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label {
    pub name: Arc<str>,
    pub value: Arc<str>,
}

/// A sorted set of labels without duplicates or empty values. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Arc<[Label]>);

/// Name of the label that holds a metric's name.
pub const METRIC_NAME: &str = "__name__";

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LabelError {
    #[error("label name `{name}` occurs twice")]
    Duplicate { name: String },
}

impl Default for Labels {
    fn default() -> Self {
        Self(Arc::from(Vec::new()))
    }
}

impl Labels {
    pub fn empty() -> Self {
        Self::default()
    }

    /// From pairs in any order. Empty values are dropped; of equal names the last one stays.
    pub fn from_pairs<N: Into<Arc<str>>, V: Into<Arc<str>>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut builder = LabelsBuilder::default();
        for (name, value) in pairs {
            builder.set(name, value);
        }
        builder.build()
    }

    /// From a foreign sender: empty values are dropped, a repeated name is an error.
    pub fn try_from_vec(mut labels: Vec<Label>) -> Result<Self, LabelError> {
        labels.retain(|l| !l.value.is_empty());
        if !labels.is_sorted_by(|a, b| a.name < b.name) {
            labels.sort();
            if let Some(pair) = labels.windows(2).find(|pair| pair[0].name == pair[1].name) {
                return Err(LabelError::Duplicate { name: pair[0].name.to_string() });
            }
        }
        Ok(Self(labels.into()))
    }

    /// From labels that are sorted by name, each name once, without empty values: a store's own.
    pub fn from_sorted(labels: Vec<Label>) -> Self {
        debug_assert!(labels.is_sorted_by(|a, b| a.name < b.name) && labels.iter().all(|l| !l.value.is_empty()));
        Self(labels.into())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.binary_search_by(|l| (*l.name).cmp(name)).ok().map(|idx| &*self.0[idx].value)
    }
    /// The value, or the empty string: to a matcher an absent label is an empty one.
    pub fn value(&self, name: &str) -> &str {
        self.get(name).unwrap_or("")
    }
    pub fn metric_name(&self) -> &str {
        self.value(METRIC_NAME)
    }
    pub fn iter(&self) -> std::slice::Iter<'_, Label> {
        self.0.iter()
    }
    pub fn len(&self) -> usize {
        self.0.len()
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn to_builder(&self) -> LabelsBuilder {
        LabelsBuilder { labels: self.0.to_vec() }
    }
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut builder = self.to_builder();
        builder.set(name, value);
        builder.build()
    }
    pub fn without(&self, name: &str) -> Self {
        if self.get(name).is_none() {
            return self.clone();
        }
        Self(self.0.iter().filter(|l| &*l.name != name).cloned().collect())
    }
    pub fn without_name(&self) -> Self {
        self.without(METRIC_NAME)
    }
    /// Only the labels that `keep` accepts.
    pub fn filter(&self, mut keep: impl FnMut(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|l| keep(&l.name)).cloned().collect())
    }
    /// Bytes of names and values, for accounting.
    pub fn size_bytes(&self) -> usize {
        self.0.iter().map(|l| l.name.len() + l.value.len()).sum()
    }
    /// FNV-1a 64 over name, 0xFF, value, 0xFF: the fingerprint of Prometheus and Alertmanager.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut eat = |bytes: &[u8]| {
            for b in bytes {
                hash = (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for label in self.iter() {
            eat(label.name.as_bytes());
            eat(&[0xff]);
            eat(label.value.as_bytes());
            eat(&[0xff]);
        }
        hash
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Label;
    type IntoIter = std::slice::Iter<'a, Label>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn is_legacy_name(name: &str) -> bool {
    !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

/// As PromQL writes a series: `name{label="value"}`; UTF-8 names are quoted inside the braces.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.metric_name();
        let bare = is_legacy_name(name);
        if bare {
            f.write_str(name)?;
            if self.len() == 1 {
                return Ok(());
            }
        }
        f.write_str("{")?;
        let mut first = true;
        if !name.is_empty() && !bare {
            write_quoted(f, name)?;
            first = false;
        }
        for label in self.iter().filter(|l| &*l.name != METRIC_NAME) {
            if !first {
                f.write_str(", ")?;
            }
            first = false;
            if is_legacy_name(&label.name) {
                f.write_str(&label.name)?;
            } else {
                write_quoted(f, &label.name)?;
            }
            f.write_str("=")?;
            write_quoted(f, &label.value)?;
        }
        f.write_str("}")
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for label in self {
            map.serialize_entry(&*label.name, &*label.value)?;
        }
        map.end()
    }
}

#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    /// Sorted by name at all times.
    labels: Vec<Label>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: impl Into<Arc<str>>, value: impl Into<Arc<str>>) -> &mut Self {
        let (name, value) = (name.into(), value.into());
        match self.labels.binary_search_by(|l| (*l.name).cmp(&*name)) {
            Ok(idx) if value.is_empty() => drop(self.labels.remove(idx)),
            Ok(idx) => self.labels[idx].value = value,
            Err(_) if value.is_empty() => {}
            Err(idx) => self.labels.insert(idx, Label { name, value }),
        }
        self
    }
    pub fn remove(&mut self, name: &str) -> &mut Self {
        if let Ok(idx) = self.labels.binary_search_by(|l| (*l.name).cmp(name)) {
            self.labels.remove(idx);
        }
        self
    }
    pub fn get(&self, name: &str) -> Option<&str> {
        self.labels.binary_search_by(|l| (*l.name).cmp(name)).ok().map(|idx| &*self.labels[idx].value)
    }
    pub fn retain(&mut self, mut keep: impl FnMut(&Label) -> bool) -> &mut Self {
        self.labels.retain(|l| keep(l));
        self
    }
    pub fn build(self) -> Labels {
        Labels(self.labels.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_sorted_and_hold_no_empty_value() {
        let labels = Labels::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(labels.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!(labels.without("a").to_string(), r#"{b="3"}"#);
    }

    #[test]
    fn a_repeated_name_from_a_sender_is_an_error() {
        let label = |n: &str, v: &str| Label { name: n.into(), value: v.into() };
        let got = Labels::try_from_vec(vec![label("b", "1"), label("a", "1"), label("b", "2")]);
        assert_eq!(got, Err(LabelError::Duplicate { name: "b".into() }));
    }

    #[test]
    fn names_in_utf8_are_quoted() {
        let labels = Labels::from_pairs([("__name__", "my.metric"), ("a b", "x\"y")]);
        assert_eq!(labels.to_string(), r#"{"my.metric", "a b"="x\"y"}"#);
        assert_eq!(Labels::from_pairs([("__name__", "up")]).to_string(), "up");
    }
}
