//! The store of logs and spans, and the log of changes.
//!
//! [`SpanStore`] keeps spans on disk: a write-ahead log, the newest in memory, the rest in blocks whose
//! indexes find traces by id, time, service, name, status, duration and attributes' texts. [`MemLogs`] and
//! [`MemSpans`] keep everything in memory, under a budget, oldest dropped first; [`ChangeLog`] keeps a
//! bounded number of changes. This crate parses no line and knows no query language.
//!
//! Invariants: entries of a stream ascend by time, equal times keep arrival order; a trace holds a
//! span (by id and kind) once.

mod changes;
mod mem_deletions;
mod mem_logs;
mod mem_spans;
mod spans;

pub use changes::ChangeLog;
pub use mem_deletions::MemDeletions;
pub use mem_logs::MemLogs;
pub use mem_spans::MemSpans;
pub use spans::{SpanStore, SpanStoreError, SpanStoreOptions, SpanStoreStats, decode_frame};
