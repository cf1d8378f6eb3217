//! The stages of a pipeline: each is a file with its keys, their check, and what it does to an entry.
//!
//! Source: the documentation of Promtail's pipeline stages.

mod container;
mod drop;
mod fields;
mod jmespath;
mod json;
mod limit;
mod matching;
pub(super) mod metrics;
mod multiline;
mod pack;
mod regex;
mod template;
pub(super) mod timestamp;

pub(super) use container::rfc3339;

use std::sync::Arc;

use serde::Deserialize;
use weir_model::Nanos;

use super::entry::Entry;
use super::pipeline::{Around, Held};
use crate::relabel::{RelabelConfig, relabel};

/// What becomes of an entry.
pub(crate) enum Next {
    One(Entry),
    /// Dropped or held back.
    None,
    Many(Vec<Entry>),
}

/// A checked stage.
#[derive(Debug)]
pub enum Stage {
    Cri(container::Cri),
    Docker,
    Regex(regex::Regex),
    Json(json::Json),
    Logfmt(json::Logfmt),
    Replace(template::Replace),
    Template(template::Template),
    Timestamp(timestamp::Timestamp),
    Labels(fields::Labels),
    LabelDrop(Vec<String>),
    LabelAllow(Vec<String>),
    StaticLabels(Vec<(String, String)>),
    StructuredMetadata(fields::Labels),
    Output(String),
    Tenant(pack::Tenant),
    Pack(pack::Pack),
    Decolorize,
    Drop(drop::Drop),
    Limit(limit::Limit),
    Sampling(limit::Sampling),
    Match(matching::Match),
    Metrics(Vec<metrics::Metric>),
    Multiline(multiline::Multiline),
    /// Steps over the labels of lines; only Alloy has it.
    Relabel(Vec<RelabelConfig>),
    /// Where another `loki.process` of Alloy begins: what was extracted before is not seen.
    Fresh,
}

/// A stage as it is written: one key, its name.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StageFile {
    Cri(Option<container::CriFile>),
    Docker(Option<container::DockerFile>),
    Regex(regex::RegexFile),
    Json(json::JsonFile),
    Logfmt(json::LogfmtFile),
    Replace(template::ReplaceFile),
    Template(template::TemplateFile),
    Timestamp(timestamp::TimestampFile),
    Labels(fields::LabelsFile),
    #[serde(rename = "labeldrop")]
    LabelDrop(Vec<String>),
    #[serde(rename = "labelallow")]
    LabelAllow(Vec<String>),
    StaticLabels(fields::LabelsFile),
    StructuredMetadata(fields::LabelsFile),
    Output(fields::OutputFile),
    Tenant(pack::TenantFile),
    Pack(pack::PackFile),
    Decolorize(Option<pack::DecolorizeFile>),
    Drop(drop::DropFile),
    Limit(limit::LimitFile),
    Sampling(limit::SamplingFile),
    Match(matching::MatchFile),
    Metrics(metrics::MetricsFile),
    Multiline(multiline::MultilineFile),
}

/// The checked stages, or which one is wrong and why.
pub(crate) fn check(files: Vec<StageFile>) -> Result<Vec<Arc<Stage>>, String> {
    check_at(files, 0).map_err(|e| format!("pipeline_stages: {e}"))
}

/// A stage by itself.
pub(crate) fn check_one(file: StageFile) -> Result<Arc<Stage>, String> {
    file.check(0).map(Arc::new)
}

fn check_at(files: Vec<StageFile>, depth: usize) -> Result<Vec<Arc<Stage>>, String> {
    let one = |(idx, file): (usize, StageFile)| {
        let name = file.name();
        file.check(depth).map(Arc::new).map_err(|e| format!("stage {} ({name}): {e}", idx + 1))
    };
    files.into_iter().enumerate().map(one).collect()
}

impl StageFile {
    fn name(&self) -> &'static str {
        match self {
            Self::Cri(_) => "cri",
            Self::Docker(_) => "docker",
            Self::Regex(_) => "regex",
            Self::Json(_) => "json",
            Self::Logfmt(_) => "logfmt",
            Self::Replace(_) => "replace",
            Self::Template(_) => "template",
            Self::Timestamp(_) => "timestamp",
            Self::Labels(_) => "labels",
            Self::LabelDrop(_) => "labeldrop",
            Self::LabelAllow(_) => "labelallow",
            Self::StaticLabels(_) => "static_labels",
            Self::StructuredMetadata(_) => "structured_metadata",
            Self::Output(_) => "output",
            Self::Tenant(_) => "tenant",
            Self::Pack(_) => "pack",
            Self::Decolorize(_) => "decolorize",
            Self::Drop(_) => "drop",
            Self::Limit(_) => "limit",
            Self::Sampling(_) => "sampling",
            Self::Match(_) => "match",
            Self::Metrics(_) => "metrics",
            Self::Multiline(_) => "multiline",
        }
    }

    fn check(self, depth: usize) -> Result<Stage, String> {
        Ok(match self {
            Self::Cri(file) => Stage::Cri(file.unwrap_or_default().check()),
            Self::Docker(None | Some(container::DockerFile {})) => Stage::Docker,
            Self::Regex(file) => Stage::Regex(file.check()?),
            Self::Json(file) => Stage::Json(file.check()?),
            Self::Logfmt(file) => Stage::Logfmt(file.check()?),
            Self::Replace(file) => Stage::Replace(file.check()?),
            Self::Template(file) => Stage::Template(file.check()?),
            Self::Timestamp(file) => Stage::Timestamp(file.check()?),
            Self::Labels(file) => Stage::Labels(fields::labels(file)?),
            Self::LabelDrop(names) => Stage::LabelDrop(some("label names", names)?),
            Self::LabelAllow(names) => Stage::LabelAllow(some("label names", names)?),
            Self::StaticLabels(file) => Stage::StaticLabels(fields::static_labels(file)?),
            Self::StructuredMetadata(file) => Stage::StructuredMetadata(fields::labels(file)?),
            Self::Output(file) => Stage::Output(required("source", Some(file.source))?),
            Self::Tenant(file) => Stage::Tenant(file.check()?),
            Self::Pack(file) => Stage::Pack(file.check()?),
            Self::Decolorize(None | Some(pack::DecolorizeFile {})) => Stage::Decolorize,
            Self::Drop(file) => Stage::Drop(file.check()?),
            Self::Limit(file) => Stage::Limit(file.check()?),
            Self::Sampling(file) => Stage::Sampling(file.check()?),
            Self::Match(file) => Stage::Match(file.check(depth)?),
            Self::Metrics(file) => Stage::Metrics(metrics::check(file)?),
            Self::Multiline(file) => Stage::Multiline(file.check()?),
        })
    }
}

impl Stage {
    pub(crate) fn run(
        &self,
        mut entry: Entry,
        held: &mut Held,
        last_time: &mut Option<Nanos>,
        around: &Around<'_>,
    ) -> Next {
        if let Some(reason) = self.drops(&mut entry, around.now) {
            around.metrics.drop_line(reason);
            return Next::None;
        }
        match self {
            Self::Cri(cri) => return cri.run(entry, held, around),
            Self::Multiline(multiline) => return multiline.run(entry, held, around.now),
            Self::Docker => container::docker(&mut entry),
            Self::Regex(regex) => regex.run(&mut entry),
            Self::Logfmt(logfmt) => logfmt.run(&mut entry),
            Self::Replace(replace) => replace.run(&mut entry),
            Self::Template(template) => template.run(&mut entry),
            Self::Timestamp(timestamp) => timestamp.run(&mut entry, last_time, around.now),
            Self::Labels(labels) => fields::set_labels(labels, &mut entry),
            Self::LabelDrop(names) => entry.labels = entry.labels.filter(|name| !names.iter().any(|n| n == name)),
            Self::LabelAllow(names) => entry.labels = entry.labels.filter(|name| names.iter().any(|n| n == name)),
            Self::StaticLabels(pairs) => fields::set_static(pairs, &mut entry),
            Self::StructuredMetadata(pairs) => fields::add_metadata(pairs, &mut entry),
            Self::Output(source) => fields::output(source, &mut entry),
            Self::Tenant(tenant) => tenant.run(&mut entry),
            Self::Pack(pack) => pack.run(&mut entry, around.now),
            Self::Decolorize => pack::decolorize(&mut entry),
            Self::Relabel(steps) => match relabel(entry.labels.to_builder(), steps) {
                Some(labels) => entry.labels = labels.build(),
                None => {
                    around.metrics.drop_line("relabelled");
                    return Next::None;
                }
            },
            Self::Fresh => {
                entry.extracted.clear();
                entry.seed();
            }
            Self::Metrics(metrics) => around.metrics.custom.count(metrics, &entry, around.now),
            // Decided above, or by whoever runs the stages within.
            Self::Json(_) | Self::Drop(_) | Self::Limit(_) | Self::Sampling(_) | Self::Match(_) => {}
        }
        Next::One(entry)
    }

    /// Why the entry goes no further.
    fn drops<'a>(&'a self, entry: &mut Entry, now: Nanos) -> Option<&'a str> {
        let (drops, reason) = match self {
            Self::Json(json) => (!json.run(entry) && json.drops_malformed, "malformed_json"),
            Self::Drop(drop) => (drop.holds(entry, now), &*drop.reason),
            Self::Limit(limit) => (!limit.lets_pass(entry, now), "ratelimit_drop_stage"),
            Self::Sampling(sampling) => (!sampling.keeps(entry), &*sampling.reason),
            Self::Match(matching) => (matching.drops() && matching.selects(entry, now), &*matching.reason),
            _ => return None,
        };
        drops.then_some(reason)
    }

    /// Whether labels have to be among the extracted values before it.
    pub(crate) fn reads_extracted(&self) -> bool {
        match self {
            Self::Cri(_)
            | Self::Docker
            | Self::LabelDrop(_)
            | Self::LabelAllow(_)
            | Self::StaticLabels(_)
            | Self::Decolorize
            | Self::Limit(_)
            | Self::Sampling(_)
            | Self::Multiline(_)
            | Self::Relabel(_)
            | Self::Fresh => false,
            // Its stages see to it themselves.
            Self::Match(_) => false,
            _ => true,
        }
    }

    /// The stages that a `match` holds for lines that it selects.
    pub(crate) fn nested(&self) -> Option<&[Arc<Stage>]> {
        match self {
            Self::Match(matching) if !matching.drops() => Some(&matching.stages),
            _ => None,
        }
    }

    /// Whether a `match` lets this entry through its stages.
    pub(crate) fn selects(&self, entry: &Entry, now: Nanos) -> bool {
        matches!(self, Self::Match(matching) if matching.selects(entry, now))
    }

    /// Whether more lines have passed than a `limit` that drops none allows so far: files wait.
    pub(crate) fn is_throttled(&self, now: Nanos) -> bool {
        match self {
            Self::Limit(limit) => limit.is_throttled(now),
            Self::Match(matching) => matching.stages.iter().any(|stage| stage.is_throttled(now)),
            _ => false,
        }
    }
}

fn required(key: &str, value: Option<String>) -> Result<String, String> {
    value.filter(|text| !text.is_empty()).ok_or_else(|| format!("`{key}` is missing or empty"))
}

fn not_empty(key: &str, value: Option<String>) -> Result<Option<String>, String> {
    if value.as_deref() == Some("") { Err(format!("`{key}` is empty; leave it out")) } else { Ok(value) }
}

fn some<T>(what: &str, list: Vec<T>) -> Result<Vec<T>, String> {
    if list.is_empty() { Err(format!("{what} are missing")) } else { Ok(list) }
}

#[cfg(test)]
mod tests;
