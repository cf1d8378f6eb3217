//! Questions and answers of a diagnosis.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use weir_model::{Change, TenantId, TimeRange, Timestamp};

/// What a diagnosis is asked.
#[derive(Clone, Debug)]
pub struct Question {
    pub tenant: TenantId,
    /// The incident, as an alert would give it.
    pub window: TimeRange,
    /// A time known, or believed, to be healthy.
    pub baseline: TimeRange,
    /// Causes wanted at most.
    pub limit: usize,
    /// The present: traces younger than a few seconds may be incomplete and are left out.
    pub now: Timestamp,
}

/// What is wrong with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CauseKind {
    Cpu,
    Memory,
    Disk,
    Network,
    /// An error path, an exception, a wrong or early return.
    Code,
    Latency,
    Error,
    Traffic,
    Other,
}

/// Where something showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Signal {
    Metrics,
    Spans,
    Logs,
    Changes,
    Lag,
}

/// The thing itself, more precise than the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Thing {
    #[default]
    None,
    Statement {
        statement: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        database: Option<String>,
    },
    Partition {
        group: String,
        topic: String,
        /// `None`: all partitions of the topic.
        #[serde(skip_serializing_if = "Option::is_none")]
        partition: Option<i32>,
    },
    Version {
        version: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        previous: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chart {
    /// `promql`, `logql` or `traceql`.
    pub language: Cow<'static, str>,
    pub query: String,
    /// Of what the query gives, which need not be the unit of the finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Cow<'static, str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub title: String,
    /// A path of the page.
    pub url: String,
}

/// One finding, for people: what moved, from where to where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    pub text: String,
    pub signal: Signal,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub during: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chart: Option<Chart>,
    pub links: Vec<Link>,
}

/// A possible cause.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    pub service: Arc<str>,
    /// Empty when not known or all instances alike.
    pub instance: Arc<str>,
    pub kind: CauseKind,
    /// What showed it best.
    pub signal: Signal,
    /// How sure, 0 to 1.
    pub score: f64,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "rfc3339",
        deserialize_with = "parse_rfc3339"
    )]
    pub since: Option<Timestamp>,
    /// A clause without a full stop: what is wrong and with what.
    pub summary: String,
    pub thing: Thing,
    pub evidence: Vec<Evidence>,
}

pub(crate) fn rfc3339<S: serde::Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.serialize_str(&at.rfc3339()),
        None => serializer.serialize_none(),
    }
}

fn parse_rfc3339<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    let parse = |t: String| t.parse::<jiff::Timestamp>().map(|at| Timestamp(at.as_millisecond()));
    text.map(parse).transpose().map_err(serde::de::Error::custom)
}

/// The answer: causes, best first, and what was looked at in vain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub causes: Vec<Cause>,
    /// Whether the first cause stands out enough to be named.
    pub known: bool,
    /// Score of the first cause; 0 without one.
    pub confidence: f64,
    /// Changes shortly before and in the window.
    pub changes: Vec<Change>,
    /// What was checked and found unchanged.
    pub ruled_out: Vec<String>,
    /// Services that show symptoms, the worst first.
    pub affected: Vec<Arc<str>>,
    /// What was read, for weir's own figures.
    #[serde(skip)]
    pub stats: ReadStats,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ReadStats {
    pub n_series: usize,
    pub n_spans: usize,
    pub n_log_lines: usize,
}
