//! Change detection, cause ranking, incidents, the service and topic graph.

mod diagnose;
mod finding;
mod graph;
mod lag;
mod metric_scan;
mod metric_words;
mod network;
mod queries;
mod rank;
mod span_findings;
mod span_scan;
mod stats;
mod topology;
mod types;

pub use diagnose::{Sources, diagnose};
pub use graph::{EdgeKey, EdgeKind, FlowStat, Graph, GraphView};
pub use types::{Cause, CauseKind, Chart, Diagnosis, Evidence, Link, Question, ReadStats, Signal, Thing};
