//! The write traits of the stores.

use std::sync::Arc;

use crate::budget::BudgetExceeded;
use crate::histogram::HistogramSample;
use crate::labels::Labels;
use crate::log::LogEntry;
use crate::metric::{Exemplar, MetricMetadata, Sample};
use crate::span::Span;
use crate::tenant::TenantId;
use crate::time::Timestamp;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesBatch {
    pub labels: Labels,
    /// Any order; a store sorts.
    pub samples: Vec<Sample>,
    /// Any order. A series has one value at a time: a float or a histogram.
    pub histograms: Vec<HistogramSample>,
    pub exemplars: Vec<Exemplar>,
}

impl SeriesBatch {
    /// Floats and histograms.
    pub fn n_samples(&self) -> usize {
        self.samples.len() + self.histograms.len()
    }

    /// Time of the newest of them.
    pub fn newest(&self) -> Option<Timestamp> {
        self.samples.iter().map(|s| s.at).chain(self.histograms.iter().map(|h| h.at)).max()
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetricBatch {
    pub series: Vec<SeriesBatch>,
    pub metadata: Vec<MetricMetadata>,
}

/// A sample that was not stored, and why. The rest of its batch was.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    pub reason: RefusedReason,
    /// What was refused, for the sender and the page.
    pub example: String,
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RefusedReason {
    DuplicateTimestamp,
    TooOld,
    TooFarInFuture,
    InvalidLabels,
    TooLarge,
    Limit,
    Malformed,
    /// Well formed, but weir does not store such a thing.
    Unsupported,
}

impl RefusedReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DuplicateTimestamp => "duplicate_timestamp",
            Self::TooOld => "too_old",
            Self::TooFarInFuture => "too_far_in_future",
            Self::InvalidLabels => "invalid_labels",
            Self::TooLarge => "too_large",
            Self::Limit => "limit",
            Self::Malformed => "malformed",
            Self::Unsupported => "unsupported",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    pub accepted: u64,
    pub refused: Vec<Refused>,
}

/// Nothing of the batch was stored; the sender should try again.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    /// The disk is full; goes away when somebody makes room.
    #[error("cannot store: {0}")]
    Full(String),
    #[error("cannot store: {0}")]
    Storage(String),
}

pub trait MetricSink: Send + Sync {
    /// Stores what can be stored. A sample equal to a stored one (time and bits) counts as accepted.
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct StreamBatch {
    pub labels: Labels,
    pub entries: Vec<LogEntry>,
}

pub trait LogSink: Send + Sync {
    /// Same time and same line within a stream is stored once.
    fn append(&self, tenant: &TenantId, streams: &[StreamBatch]) -> Result<Outcome, WriteError>;
}

pub trait SpanSink: Send + Sync {
    /// A span with the ids and kind of a stored one is stored once.
    fn append(&self, tenant: &TenantId, spans: &[Arc<Span>]) -> Result<Outcome, WriteError>;
}
