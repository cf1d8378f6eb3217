//! `pack`, `decolorize`, `tenant`: the line in another shape, and whose it is.

use std::sync::LazyLock;

use serde::Deserialize;
use weir_model::Nanos;

use crate::logs::entry::Entry;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackFile {
    #[serde(default)]
    labels: Vec<String>,
    ingest_timestamp: Option<bool>,
}

/// Values go into the line, which becomes JSON with the text under `_entry`.
#[derive(Debug)]
pub struct Pack {
    labels: Vec<String>,
    /// Whether the entry's time becomes the time of packing, so that streams that are joined stay in order.
    sets_time: bool,
}

impl PackFile {
    pub fn check(self) -> Result<Pack, String> {
        let mut labels = super::some("`labels`", self.labels)?;
        labels.sort();
        labels.dedup();
        Ok(Pack { labels, sets_time: self.ingest_timestamp.unwrap_or(true) })
    }
}

impl Pack {
    pub fn run(&self, entry: &mut Entry, now: Nanos) {
        let mut packed = serde_json::Map::new();
        for name in &self.labels {
            if let Some(value) = entry.text(name) {
                packed.insert(name.clone(), value.into_owned().into());
            }
        }
        entry.labels = entry.labels.filter(|name| !packed.contains_key(name));
        packed.insert("_entry".to_owned(), std::mem::take(&mut entry.line).into());
        entry.line = serde_json::Value::Object(packed).to_string();
        if self.sets_time {
            entry.at = now;
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DecolorizeFile {}

/// ANSI control sequences.
static COLORS: LazyLock<regex::Regex> =
    LazyLock::new(|| regex::Regex::new("\u{1b}\\[[0-9;:<=>?]*[ -/]*[@-~]").expect("a constant expression"));

pub(super) fn decolorize(entry: &mut Entry) {
    if entry.line.contains('\u{1b}') {
        entry.line = COLORS.replace_all(&entry.line, "").into_owned();
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantFile {
    label: Option<String>,
    source: Option<String>,
    value: Option<String>,
}

#[derive(Debug)]
pub enum Tenant {
    Label(String),
    Source(String),
    Value(String),
}

impl TenantFile {
    pub fn check(self) -> Result<Tenant, String> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        match (given(self.label), given(self.source), given(self.value)) {
            (Some(name), None, None) => Ok(Tenant::Label(name)),
            (None, Some(name), None) => Ok(Tenant::Source(name)),
            (None, None, Some(name)) => match weir_model::TenantId::parse(&name) {
                Ok(_) => Ok(Tenant::Value(name)),
                Err(error) => Err(error.to_string()),
            },
            _ => Err("give one of `label`, `source` and `value`".to_owned()),
        }
    }
}

impl Tenant {
    /// Without a value the tenant stays.
    pub fn run(&self, entry: &mut Entry) {
        let found = match self {
            Self::Label(name) => entry.labels.get(name).map(str::to_owned),
            Self::Source(name) => entry.text(name).map(|text| text.into_owned()),
            Self::Value(name) => Some(name.clone()),
        };
        if let Some(tenant) = found.filter(|tenant| !tenant.is_empty()) {
            entry.tenant = Some(tenant);
        }
    }
}
