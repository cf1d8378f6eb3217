//! The commit feed: who wants to know what was just stored (rules, live tail, caches, the graph).

use std::sync::Arc;

use parking_lot::RwLock;

use crate::labels::Labels;
use crate::log::LogEntry;
use crate::sink::{SampleRun, SeriesRef};
use crate::span::Span;
use crate::tenant::TenantId;
use crate::time::Timestamp;

/// One committed batch: readers see it when this is sent.
#[derive(Clone)]
pub enum Commit<'a> {
    /// Series that got samples, and the newest sample's time.
    Metrics {
        series: &'a [Labels],
        newest: Timestamp,
    },
    /// The same for series that the store knows by number; `names` tells the labels of one.
    Series {
        series: &'a [SampleRun],
        names: &'a dyn SeriesNames,
        newest: Timestamp,
    },
    Logs {
        stream: &'a Labels,
        entries: &'a [LogEntry],
    },
    Spans {
        spans: &'a [Arc<Span>],
    },
}

/// Labels of series known by number.
pub trait SeriesNames {
    /// `None` when the store has forgotten the series.
    fn labels(&self, series: SeriesRef) -> Option<Labels>;
}

/// Must be quick and must not block: it runs on the writer's thread after the commit.
pub trait CommitListener: Send + Sync {
    fn on_commit(&self, tenant: &TenantId, commit: &Commit<'_>);
}

#[derive(Default)]
pub struct CommitFeed {
    listeners: RwLock<Vec<Arc<dyn CommitListener>>>,
}

impl CommitFeed {
    pub fn subscribe(&self, listener: Arc<dyn CommitListener>) {
        self.listeners.write().push(listener);
    }
    pub fn publish(&self, tenant: &TenantId, commit: &Commit<'_>) {
        for listener in self.listeners.read().iter() {
            listener.on_commit(tenant, commit);
        }
    }
}
