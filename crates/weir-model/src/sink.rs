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

/// A series within a store, by number. It dies when the store forgets the series, and is not used again
/// for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u64);

/// Samples of one series in columns: positions `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRun {
    pub series: SeriesRef,
    pub start: u32,
    pub end: u32,
}

impl SampleRun {
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Samples of many series in columns, filled without an allocation per series.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SampleColumns {
    pub runs: Vec<SampleRun>,
    pub times: Vec<i64>,
    pub values: Vec<f64>,
}

impl SampleColumns {
    pub fn clear(&mut self) {
        self.runs.clear();
        self.times.clear();
        self.values.clear();
    }

    /// Adds a series with its samples.
    pub fn push(&mut self, series: SeriesRef, samples: impl Iterator<Item = Sample>) {
        let position =
            |columns: &Self| u32::try_from(columns.times.len()).expect("a request is far below 2^32 samples");
        let start = position(self);
        for sample in samples {
            self.times.push(sample.at.0);
            self.values.push(sample.value);
        }
        let end = position(self);
        self.runs.push(SampleRun { series, start, end });
    }

    /// Samples of a run.
    pub fn samples(&self, run: SampleRun) -> impl Iterator<Item = Sample> + '_ {
        run.range().map(|k| Sample::new(self.times[k], self.values[k]))
    }
}

/// A request as it came, which a durable store writes down instead of what was decoded from it.
#[derive(Clone, Copy, Debug)]
pub struct RawRequest<'a> {
    /// Says to the decoder what the body is.
    pub kind: u8,
    pub received: Timestamp,
    pub body: &'a [u8],
}

/// How far a durable store must have synced before a write may be acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogMark(pub u64, pub u64);

/// What became of samples in columns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnsOutcome {
    pub outcome: Outcome,
    /// Positions in [`SampleColumns::runs`] whose series died meanwhile: register again and append those.
    pub dead: Vec<u32>,
    /// To be synced before the acknowledgement; `None` when there is nothing to wait for.
    pub mark: Option<LogMark>,
}

/// A metric store that knows series by number, for senders that repeat them.
pub trait SeriesSink: MetricSink {
    /// The series with these labels, made when it is new. `labels`: sorted by name, each name once, no
    /// empty value.
    fn register(&self, tenant: &TenantId, labels: &[(&str, &str)]) -> Result<(SeriesRef, Labels), WriteError>;

    /// `None` when the series is dead.
    fn labels(&self, tenant: &TenantId, series: SeriesRef) -> Option<Labels>;

    /// Appends samples, and `rest` (series with more than floats, metadata). `raw` is what both were decoded
    /// from; without it nothing is written to a log.
    fn append_columns(
        &self,
        tenant: &TenantId,
        raw: Option<RawRequest<'_>>,
        columns: &SampleColumns,
        rest: &MetricBatch,
    ) -> Result<ColumnsOutcome, WriteError>;

    /// Blocks until everything up to `mark` survives a crash.
    fn sync(&self, mark: LogMark) -> Result<(), WriteError>;
}

#[derive(Clone, Debug, PartialEq)]
pub struct StreamBatch {
    pub labels: Labels,
    pub entries: Vec<LogEntry>,
}

pub trait LogSink: Send + Sync {
    /// Same time and same line within a stream is stored once.
    fn append(&self, tenant: &TenantId, streams: &[StreamBatch]) -> Result<Outcome, WriteError>;

    /// The same with the request that says just this: `streams` are what its decoder makes of it, nothing left out
    /// and nothing changed since, so that a durable store may write down the request instead of them.
    fn append_request(
        &self,
        tenant: &TenantId,
        _request: RawRequest<'_>,
        streams: &[StreamBatch],
    ) -> Result<Outcome, WriteError> {
        self.append(tenant, streams)
    }
}

pub trait SpanSink: Send + Sync {
    /// A span with the ids and kind of a stored one is stored once.
    fn append(&self, tenant: &TenantId, spans: &[Arc<Span>]) -> Result<Outcome, WriteError>;
}
