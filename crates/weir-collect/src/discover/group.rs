//! Groups of targets as every kind of discovery gives them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Targets that share labels and a place where they came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetGroup {
    pub source: String,
    pub labels: BTreeMap<String, String>,
    /// Each holds at least `__address__`; its labels win over the group's.
    pub targets: Vec<BTreeMap<String, String>>,
}

/// As files and HTTP endpoints write them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    targets: Vec<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The groups of a document in YAML, of which JSON is a part; `null` groups are passed over.
pub(super) fn read(text: &str, source: &str, extra: (&str, &str)) -> Result<Vec<TargetGroup>, String> {
    let is_blank = text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let groups: Vec<Option<Written>> =
        if is_blank { Vec::new() } else { serde_saphyr::from_str(text).map_err(|e| e.to_string())? };
    let group = |(idx, written): (usize, Option<Written>)| {
        let mut written = written?;
        written.labels.insert(extra.0.to_owned(), extra.1.to_owned());
        Some(TargetGroup {
            source: format!("{source}:{idx}"),
            labels: written.labels,
            targets: written.targets.into_iter().map(|t| BTreeMap::from([("__address__".to_owned(), t)])).collect(),
        })
    };
    Ok(groups.into_iter().enumerate().filter_map(group).collect())
}

/// Joins host and port; IPv6 gets its brackets.
pub(super) fn host_port(host: &str, port: impl std::fmt::Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
