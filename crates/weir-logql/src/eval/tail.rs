//! A log query applied to entries as they are committed.

use weir_model::matcher::all_match;
use weir_model::{Labels, LogEntry, Nanos};

use super::LogEntryResult;
use crate::ast::LogExpr;

/// Decides about single entries; holds no state between them.
#[derive(Clone, Debug)]
pub struct TailFilter {
    expr: LogExpr,
}

impl TailFilter {
    pub fn new(expr: LogExpr) -> Self {
        Self { expr }
    }
    /// Whether entries of this stream can pass at all.
    pub fn selects(&self, stream: &Labels) -> bool {
        all_match(&self.expr.matchers, stream)
    }
    /// The entry as the query shows it, or `None` when the pipeline drops it. The stream must be
    /// one that [`TailFilter::selects`] accepted.
    pub fn apply(&self, stream: &Labels, entry: &LogEntry, now: Nanos) -> Option<(Labels, LogEntryResult)> {
        super::log::through(&self.expr.stages, stream, entry, now)
    }
}
