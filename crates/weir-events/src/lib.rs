//! The store of logs and spans, and the log of changes.
//!
//! [`LogStore`] keeps logs as columns, in memory alone or on disk behind a write-ahead log. [`SpanStore`]
//! keeps spans on disk: a write-ahead log, the newest in memory, the rest in blocks of columns that find traces
//! by id, time, service, name, status, duration and attributes' values, and are counted without making spans. [`MemSpans`] keeps spans in memory,
//! under a budget, oldest dropped first; [`ChangeLog`] a bounded number of changes. This crate parses no line
//! and knows no query language.
//!
//! Invariants: entries of a stream ascend by time, equal times keep arrival order; a trace holds a
//! span (by id and kind) once.

mod changes;
mod deletions;
mod logs;
mod mem_spans;
mod spans;

pub use changes::ChangeLog;
pub use deletions::{Deletions, DeletionsError, decode_deletions};
pub use logs::{
    DecodeRequest, LogRetention, LogStore, LogStoreError, LogStoreOptions, Recovered, RetentionLimits, RetentionRule,
};
pub use mem_spans::MemSpans;
pub use spans::{
    SpanRetention, SpanStore, SpanStoreError, SpanStoreOptions, SpanStoreStats, decode_frame, decode_tables,
};
