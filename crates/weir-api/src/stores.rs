//! The part of the app that queries for logs and traces need.

use std::sync::Arc;

use weir_model::source::{LogSource, SpanSource};
use weir_model::{Budget, Clock, CommitFeed};

use crate::App;

pub(crate) struct Stores {
    pub clock: Arc<dyn Clock>,
    /// The account that queries draw from.
    pub query_budget: Budget,
    pub logs: Arc<dyn LogSource>,
    pub spans: Arc<dyn SpanSource>,
    pub feed: Arc<CommitFeed>,
}

impl Stores {
    pub fn of(app: &App) -> Arc<Self> {
        Arc::new(Self {
            clock: app.clock.clone(),
            query_budget: app.query_budget.clone(),
            logs: app.logs.clone(),
            spans: app.spans.clone(),
            feed: app.feed.clone(),
        })
    }

    /// Stores in memory under a clock that stands at 1,700,000,000 s.
    #[cfg(test)]
    pub fn in_memory(logs: Arc<weir_events::MemLogs>, spans: Arc<weir_events::MemSpans>) -> Arc<Self> {
        let clock = weir_model::SimClock::at(weir_model::Timestamp(1_700_000_000_000));
        let feed = Arc::new(CommitFeed::default());
        Arc::new(Self { clock: Arc::new(clock), query_budget: Budget::unlimited(), logs, spans, feed })
    }
}
