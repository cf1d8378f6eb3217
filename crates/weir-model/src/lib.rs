//! The words every other crate speaks: labels, samples, log entries, spans, entities, tenants,
//! time, memory budget, and the traits through which engines read and services write.
//!
//! This crate is *not* a store and does no I/O; the only futures here are the return types of the
//! read traits, because opening a source may have to wait for a disk or a bucket.
//!
//! Read first: [`Labels`], [`TenantId`], [`source::MetricSource`].
//!
//! ```
//! use weir_model::{Labels, Matcher, MatchOp};
//! let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
//! let matcher = Matcher::new("job", MatchOp::Regex, "no.*").unwrap();
//! assert!(matcher.matches_labels(&labels));
//! assert_eq!(labels.to_string(), r#"up{job="node"}"#);
//! ```
//!
//! Invariants: label sets are sorted by name, have no duplicate name and no empty value; a
//! [`TenantId`] is the first argument of every read and write; every store, cache and queue draws
//! its memory from a [`Budget`].

pub mod admin;
pub mod alert;
pub mod budget;
pub mod census;
pub mod change;
pub mod columns;
pub mod commit;
pub mod deletion;
pub mod entity;
pub mod histogram;
pub mod labels;
pub mod log;
pub mod matcher;
pub mod metric;
pub mod sink;
pub mod source;
pub mod span;
#[cfg(feature = "suite")]
pub mod suite;
pub mod tenant;
pub mod time;
pub mod usage;

pub use alert::{AlertEvent, AlertListener, AlertPhase};
pub use budget::{Budget, BudgetExceeded, Reservation};
pub use census::{LabelCensus, MetricCensus, SeriesCensus, TargetCensus};
pub use change::{Change, ChangeKind, ChangeSink, ChangeSource};
pub use commit::{Commit, CommitFeed, CommitListener, SeriesNames};
pub use deletion::{LogDeletion, LogDeletions};
pub use entity::{Aliases, EntityId, EntityKind, EntityRefs, EntityTable};
pub use histogram::{FloatHistogram, Histogram, HistogramSample};
pub use labels::{Label, Labels, LabelsBuilder};
pub use log::LogEntry;
pub use matcher::{MatchOp, Matcher};
pub use metric::{Exemplar, MetricKind, MetricMetadata, STALE_NAN_BITS, Sample, is_stale};
pub use span::{
    AttrValue, Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, StatusCode, TraceId,
};
pub use tenant::TenantId;
pub use time::{Clock, Nanos, SimClock, SystemClock, TimeRange, Timestamp};
