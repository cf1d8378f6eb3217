//! An OpenTelemetry Collector's configuration: what was written, then a checked form.
//!
//! Reading does not stop at the first mistake. What would change behaviour and is not supported is refused by name
//! and line; what has no effect here is a warning.

mod components;
mod env;
mod exporters;
mod graph;
mod node;
mod receivers;
mod section;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use crate::batch::BatchConfig;
use crate::connect::ConnectorConfig;
use crate::data::Signal;
use crate::kube::KubeConfig;
use crate::limiter::LimiterConfig;
use crate::process::{AttributesConfig, FilterConfig, RedactionConfig, SamplerConfig, TransformConfig};
use crate::tail::TailSamplingConfig;

pub use exporters::{Common, ExporterConfig, LokiLabels, Queue, Retry, Tls, Url};
pub use graph::{PipelineConfig, Target};
pub use section::Problem;

pub(crate) use node::{Node, Scalar};
pub(crate) use section::{Field, Findings, Section};

/// `type` or `type/name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId(String);

impl ComponentId {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let kind = text.split('/').next().unwrap_or_default();
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if kind.is_empty() || !kind.starts_with(|c: char| c.is_ascii_alphabetic()) || !kind.chars().all(legal) {
            return Err(format!("`{text}` is no id: type, or type/name"));
        }
        match text.split_once('/') {
            Some((_, name)) if name.trim().is_empty() => Err(format!("`{text}`: the name after `/` is empty")),
            _ => Ok(Self(text.to_owned())),
        }
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The part before `/`.
    pub fn kind(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug)]
pub enum ProcessorConfig {
    Attributes(AttributesConfig),
    Batch(BatchConfig),
    Filter(FilterConfig),
    Kube(Box<KubeConfig>),
    MemoryLimiter(LimiterConfig),
    ProbabilisticSampler(SamplerConfig),
    Redaction(RedactionConfig),
    TailSampling(TailSamplingConfig),
    Transform(TransformConfig),
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct CollectorConfig {
    /// What the pipelines use; the rest is in [`CollectorConfig::warnings`].
    pub processors: BTreeMap<ComponentId, ProcessorConfig>,
    /// Those between two signals.
    pub connectors: BTreeMap<ComponentId, ConnectorConfig>,
    pub exporters: BTreeMap<ComponentId, ExporterConfig>,
    pub pipelines: Vec<PipelineConfig>,
    pub warnings: Vec<Problem>,
}

/// Why a configuration cannot be used: every mistake that was found.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error("{}", problems.iter().map(|p| format!("{path}: {p}")).collect::<Vec<_>>().join("\n"))]
    Invalid { path: String, problems: Vec<Problem> },
}

/// Larger files are no configuration.
const BYTES_MAX: usize = 4 << 20;
/// Reading recurses with the depth of the file.
const DEPTH_MAX: usize = 64;

impl CollectorConfig {
    /// Reads and checks a file; `env` gives environment variables.
    pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: shown.clone(), source })?;
        Self::parse(&text, env).map_err(|problems| ConfigError::Invalid { path: shown, problems })
    }

    pub fn parse(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Vec<Problem>> {
        let root = read_yaml(text).map_err(|problem| vec![problem])?;
        let findings = Findings::default();
        let root = expanded(root, env, &findings);
        let read = graph::read(&root, &findings);
        let (errors, warnings) = findings.into_sorted();
        if errors.is_empty() { Ok(Self { warnings, ..read }) } else { Err(errors) }
    }

    /// Exporters to which the service graph of a `servicegraph` goes.
    pub fn takes_service_graph(&self) -> BTreeSet<&ComponentId> {
        let is_graph = |id| matches!(self.connectors.get(id), Some(ConnectorConfig::ServiceGraph(_)));
        let mut ahead: Vec<usize> = Vec::new();
        for target in self.pipelines.iter().flat_map(|pipeline| &pipeline.targets) {
            if let Target::Connector(id, to) = target
                && is_graph(id)
            {
                ahead.extend(to);
            }
        }
        let mut found = BTreeSet::new();
        // There are no circles.
        while let Some(pipeline) = ahead.pop().and_then(|k| self.pipelines.get(k)) {
            for target in &pipeline.targets {
                match target {
                    Target::Exporter(id) => drop(found.insert(id)),
                    Target::Pipelines(to) => ahead.extend(to),
                    // What it gives are other metrics.
                    Target::Connector(..) => {}
                }
            }
        }
        found
    }

    /// Pipelines of a signal that a receiver of OTLP feeds.
    pub fn receives(&self, signal: Signal) -> bool {
        self.pipelines.iter().any(|p| p.signal == signal && p.has_receiver)
    }
}

/// The file as a tree. Only `true` and `false` are booleans: an attribute may be called `n`, and a value `off`.
pub(crate) fn read_yaml(text: &str) -> Result<Node, Problem> {
    let whole = |reason: String| Problem { line: 0, path: String::new(), reason };
    if text.len() > BYTES_MAX {
        return Err(whole(format!("{} bytes; at most {BYTES_MAX} are read", text.len())));
    }
    let options = serde_saphyr::options! {
        strict_booleans: true,
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX },
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|e| {
        let line = e.location().map_or(0, |l| l.line());
        let reason = e.without_snippet().to_string();
        Problem { line, path: String::new(), reason: reason.lines().next().unwrap_or_default().to_owned() }
    })
}

fn expanded(mut root: Node, env: &dyn Fn(&str) -> Option<String>, findings: &Findings) -> Node {
    root.map_scalars(1, &mut |line, text| {
        env::expand(text, env).unwrap_or_else(|reason| {
            findings.error(line, "", reason);
            None
        })
    });
    root
}

#[cfg(test)]
mod tests;
