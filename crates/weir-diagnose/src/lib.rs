//! Change detection, cause ranking, incidents, the service and topic graph.
//!
//! [`diagnose()`] answers a [`Question`] by reading two windows through the read traits of
//! `weir-model` and ranking what moved: it is pure but for the reading, keeps nothing, and knows no
//! name of any service, rule or metric beyond public conventions. [`Graph`] learns who calls whom
//! from the commit feed. [`Incidents`] turns alerts into incidents and keeps their diagnosis fresh.
//!
//! This crate is *not* a store, speaks no protocol, and never sends a notification.
//!
//! Read first: [`Question`], [`Diagnosis`], [`Incident`].
//!
//! Invariants: what is read of a window is bounded whatever the load; a listener never blocks its
//! caller; a cause once named in an incident is replaced by another, never unsaid.

mod causes;
mod diagnose;
mod finding;
mod graph;
mod incident;
mod incidents;
mod lag;
mod log_scan;
mod metric_scan;
mod metric_words;
mod metrics;
pub mod narrative;
mod network;
mod queries;
mod rank;
mod span_findings;
mod span_scan;
mod stats;
mod stored;
mod topology;
mod types;

pub use diagnose::{Sources, diagnose};
pub use graph::{EdgeKey, EdgeKind, FlowStat, Graph, GraphView};
pub use incident::{Acknowledgement, Incident, IncidentAlert, IncidentState, TimelineEntry};
pub use incidents::{CauseNote, IncidentOptions, IncidentRunner, Incidents};
pub use metric_scan::is_counted_from_spans;
pub use metrics::DiagnoseMetrics;
pub use stats::LogHistogram;
pub use types::{Cause, CauseKind, Chart, Diagnosis, Evidence, Link, Question, ReadStats, Signal, Thing};
