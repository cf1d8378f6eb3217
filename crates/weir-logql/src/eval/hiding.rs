//! A log source without the lines that were deleted.

use std::sync::Arc;

use weir_model::columns::{LogScans, RowFilter};
use weir_model::matcher::all_match;
use weir_model::source::{BoxFuture, LogCursor, LogFragment, LogSource, LogStats, ReadContext, ReadError, StreamData};
use weir_model::{Labels, LogDeletions, Matcher, Nanos, TenantId};

use crate::ast::LogExpr;
use crate::pipeline::{Needed, Row, Scratch, apply};

/// Reads through to a source and leaves out what requests to delete select, from the moment they
/// are made. Lines cost nothing more while there are none.
pub struct HidingSource {
    source: Arc<dyn LogSource>,
    deletions: Arc<dyn LogDeletions>,
}

/// A request, read.
struct Hidden {
    expr: LogExpr,
    start: Nanos,
    end: Nanos,
}

impl HidingSource {
    pub fn new(source: Arc<dyn LogSource>, deletions: Arc<dyn LogDeletions>) -> Self {
        Self { source, deletions }
    }

    /// The requests that touch [start, end).
    fn hidden(&self, tenant: &TenantId, start: Nanos, end: Nanos) -> Vec<Hidden> {
        let all = self.deletions.list(tenant);
        let overlapping = all.iter().filter(|d| d.start < end && start <= d.end);
        // Queries were checked when the requests were made.
        overlapping
            .filter_map(|d| Some(Hidden { expr: crate::parse_log(&d.query).ok()?, start: d.start, end: d.end }))
            .collect()
    }
}

impl LogSource for HidingSource {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        let hidden = self.hidden(tenant, fragment.start, fragment.end);
        Box::pin(async move { Ok(without(self.source.open(tenant, fragment, context).await?, hidden)) })
    }

    fn open_filtered<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        filter: Arc<dyn RowFilter>,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        let hidden = self.hidden(tenant, fragment.start, fragment.end);
        Box::pin(async move {
            let cursor = self.source.open_filtered(tenant, fragment, filter, context).await?;
            Ok(without(cursor, hidden))
        })
    }

    /// Line by line where something is hidden.
    fn open_scans<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<LogScans, ReadError>> {
        let hidden = self.hidden(tenant, fragment.start, fragment.end);
        if hidden.is_empty() {
            return self.source.open_scans(tenant, fragment, context);
        }
        Box::pin(async move {
            let cursor = self.source.open(tenant, fragment, context).await?;
            Ok(LogScans { scans: Vec::new(), rest: without(cursor, hidden) })
        })
    }

    /// Counts include lines that a filter hides; a stream that is hidden as a whole is not listed.
    fn streams<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        start: Nanos,
        end: Nanos,
    ) -> BoxFuture<'a, Result<Vec<(Labels, LogStats)>, ReadError>> {
        Box::pin(async move {
            let mut streams = self.source.streams(tenant, matchers, start, end).await?;
            let mut hidden = self.hidden(tenant, start, end);
            hidden.retain(|h| h.expr.stages.is_empty() && h.start <= start && end.0 <= h.end.0.saturating_add(1));
            streams.retain(|(labels, _)| !hidden.iter().any(|h| all_match(&h.expr.matchers, labels)));
            Ok(streams)
        })
    }
}

fn without(cursor: Box<dyn LogCursor>, hidden: Vec<Hidden>) -> Box<dyn LogCursor> {
    if hidden.is_empty() { cursor } else { Box::new(HidingCursor { cursor, hidden, scratch: Scratch::default() }) }
}

struct HidingCursor {
    cursor: Box<dyn LogCursor>,
    hidden: Vec<Hidden>,
    scratch: Scratch,
}

impl LogCursor for HidingCursor {
    fn next(&mut self, bound: Option<Nanos>) -> Result<Option<StreamData>, ReadError> {
        let Some(mut batch) = self.cursor.next(bound)? else { return Ok(None) };
        for hidden in &self.hidden {
            if !all_match(&hidden.expr.matchers, &batch.labels) {
                continue;
            }
            let (labels, scratch) = (&batch.labels, &mut self.scratch);
            batch.entries.retain(|entry| {
                let in_time = hidden.start <= entry.at && entry.at <= hidden.end;
                !in_time || !apply(&hidden.expr.stages, Needed::ALL, &mut Row::new(labels, entry, scratch))
            });
        }
        Ok(Some(batch))
    }
}
