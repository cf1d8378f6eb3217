//! The store of logs and spans, and the log of changes.
//!
//! [`MemLogs`] and [`MemSpans`] keep everything in memory, under a budget, oldest dropped first;
//! [`ChangeLog`] keeps a bounded number of changes. Nothing survives a restart. This crate parses no
//! line and knows no query language.
//!
//! Invariants: entries of a stream ascend by time, equal times keep arrival order; a trace holds a
//! span (by id and kind) once.

mod changes;
mod mem_deletions;
mod mem_logs;
mod mem_spans;

pub use changes::ChangeLog;
pub use mem_deletions::MemDeletions;
pub use mem_logs::MemLogs;
pub use mem_spans::MemSpans;
