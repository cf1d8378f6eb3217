//! The part of the app that queries for logs and traces need.

use std::sync::Arc;

use weir_model::source::{LogSource, SpanSource};
use weir_model::{Budget, Clock, CommitFeed, LogDeletions};

use crate::App;

pub(crate) struct Stores {
    pub clock: Arc<dyn Clock>,
    /// The account that queries draw from.
    pub query_budget: Budget,
    pub logs: Arc<dyn LogSource>,
    pub log_deletions: Arc<dyn LogDeletions>,
    pub spans: Arc<dyn SpanSource>,
    pub feed: Arc<CommitFeed>,
}

impl Stores {
    pub fn of(app: &App) -> Arc<Self> {
        Arc::new(Self {
            clock: app.clock.clone(),
            query_budget: app.query_budget.clone(),
            logs: app.logs.clone(),
            log_deletions: app.log_deletions.clone(),
            spans: app.spans.clone(),
            feed: app.feed.clone(),
        })
    }

    /// Stores in memory under a clock that stands at 1,700,000,000 s.
    #[cfg(test)]
    pub fn in_memory(logs: Arc<weir_events::LogStore>, spans: Arc<weir_events::MemSpans>) -> Arc<Self> {
        let clock = weir_model::SimClock::at(weir_model::Timestamp(1_700_000_000_000));
        let feed = Arc::new(CommitFeed::default());
        let log_deletions: Arc<dyn LogDeletions> = Arc::new(weir_events::Deletions::default());
        let logs = Arc::new(weir_logql::HidingSource::new(logs, log_deletions.clone()));
        Arc::new(Self { clock: Arc::new(clock), query_budget: Budget::unlimited(), logs, log_deletions, spans, feed })
    }
}
