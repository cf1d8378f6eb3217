//! The read traits: asynchronous `open`, which does all I/O, then a synchronous pull of batches.
//!
//! A fragment says what is wanted. A source may use its predicates to skip data, or decline; the
//! engine checks every item again, so a source that returns too much is slow but not wrong. A
//! source that returns too little is wrong.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::budget::{Budget, BudgetExceeded};
use crate::columns::{LogScans, RowFilter};
use crate::histogram::HistogramSample;
use crate::labels::Labels;
use crate::log::LogEntry;
use crate::matcher::Matcher;
use crate::metric::{Exemplar, MetricMetadata, Sample};
use crate::span::{AttrValue, Resource, Scope, Span, SpanKind, SpanStatus, TraceId};
use crate::tenant::TenantId;
use crate::time::{Nanos, TimeRange};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    #[error("query cancelled")]
    Cancelled,
    #[error("cannot read: {0}")]
    Storage(String),
}

/// Set when nobody waits for the answer any more.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    pub fn check(&self) -> Result<(), ReadError> {
        if self.is_cancelled() { Err(ReadError::Cancelled) } else { Ok(()) }
    }
    /// Cancels when dropped, unless [`CancelOnDrop::disarm`] was called.
    pub fn on_drop(&self) -> CancelOnDrop {
        CancelOnDrop(Some(self.clone()))
    }
}

pub struct CancelOnDrop(Option<Cancel>);

impl CancelOnDrop {
    pub fn disarm(mut self) {
        self.0 = None;
    }
}
impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(cancel) = &self.0 {
            cancel.cancel();
        }
    }
}

/// What a read may use, and how it learns that it should stop.
#[derive(Clone, Debug)]
pub struct ReadContext {
    pub budget: Budget,
    pub cancel: Cancel,
}

impl ReadContext {
    pub fn unlimited() -> Self {
        Self { budget: Budget::unlimited(), cancel: Cancel::default() }
    }
}

// ---- metrics -------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Projection {
    /// Labels alone; there are no samples and no histograms.
    Series,
    Samples,
}

/// What is wanted of a stretch of time (a bucket) where a store has no longer every sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rollup {
    /// The last sample, as it was. Whatever a store lacks of the others, it answers with this.
    #[default]
    Last,
    /// The last sample, and those around each fall: what a counter gained is the same as before.
    Counter,
    Min,
    Max,
    /// Sums, with the number of samples as weights.
    Sum,
}

#[derive(Clone, Debug)]
pub struct MetricFragment {
    /// All must hold. Empty means every series.
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
    pub projection: Projection,
    pub rollup: Rollup,
    /// The longest buckets that the reader takes where the store has every sample, too. `None`: the finest there is.
    pub resolution: Option<Duration>,
}

impl Default for MetricFragment {
    /// Every sample of every series.
    fn default() -> Self {
        Self {
            matchers: Vec::new(),
            range: TimeRange::ALL,
            projection: Projection::Samples,
            rollup: Rollup::Last,
            resolution: None,
        }
    }
}

/// Where samples stand for buckets: (k·resolution, (k+1)·resolution] has one, at the time of its last sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coarse {
    /// Begins just after an edge of a bucket, and ends at one.
    pub range: TimeRange,
    pub resolution: Duration,
}

/// Samples of one series, ascending by time, stale markers included. A time is either among the
/// floats or among the histograms.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesData {
    pub labels: Labels,
    pub samples: Vec<Sample>,
    pub histograms: Vec<HistogramSample>,
    /// For [`Rollup::Sum`], of how many samples each of `samples` is the sum; empty when each stands for itself.
    pub weights: Vec<f64>,
}

impl SeriesData {
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.histograms.is_empty()
    }
}

pub trait MetricCursor: Send {
    /// The next few series, each series once over the life of the cursor; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError>;

    /// Where the answers are of buckets, ascending by time; known once `next` was called.
    fn coarse(&self) -> Vec<Coarse> {
        Vec::new()
    }
}

pub trait MetricSource: Send + Sync {
    /// Length of the longest buckets that a read of the range meets, if the reader takes such of `accepted` where it
    /// need not; zero when it meets none.
    fn coarsest(&self, _tenant: &TenantId, _range: TimeRange, _accepted: Option<Duration>) -> Duration {
        Duration::ZERO
    }

    /// Series with at least one sample in the range.
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>>;

    /// Sorted label names of the series that match.
    fn label_names<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>>;

    /// Sorted values of one label among the series that match.
    fn label_values<'a>(
        &'a self,
        tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>>;

    /// By family; empty `family` means all.
    fn metadata<'a>(
        &'a self,
        tenant: &'a TenantId,
        family: &'a str,
    ) -> BoxFuture<'a, Result<Vec<MetricMetadata>, ReadError>>;

    fn exemplars<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Vec<Exemplar>)>, ReadError>>;
}

// ---- logs ----------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// A condition on the line that a source may use to skip entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinePredicate {
    Contains(String),
    NotContains(String),
}

#[derive(Clone, Debug)]
pub struct LogFragment {
    /// On the stream's labels; all must hold.
    pub matchers: Vec<Matcher>,
    /// Start included, end excluded, as Loki has it.
    pub start: Nanos,
    pub end: Nanos,
    pub direction: Direction,
    pub predicates: Vec<LinePredicate>,
}

/// Entries of one stream in the fragment's direction; equal times keep arrival order forward and
/// reverse it backward.
#[derive(Clone, Debug)]
pub struct StreamData {
    pub labels: Labels,
    pub entries: Vec<LogEntry>,
}

pub trait LogCursor: Send {
    /// `bound`: nothing beyond it (older when backward, newer when forward) is useful any more, as
    /// the reader's limit is full; a source may skip it.
    fn next(&mut self, bound: Option<Nanos>) -> Result<Option<StreamData>, ReadError>;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    pub streams: u64,
    pub entries: u64,
    pub bytes: u64,
}

pub trait LogSource: Send + Sync {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>>;

    /// As [`LogSource::open`]; rows that the filter refuses may be left out.
    fn open_filtered<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        _filter: Arc<dyn RowFilter>,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        self.open(tenant, fragment, context)
    }

    /// The fragment's rows for an aggregation, which needs no order among them: as columns where the
    /// source has them. The direction does not count.
    fn open_scans<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<LogScans, ReadError>> {
        Box::pin(async move {
            let rest = self.open(tenant, fragment, context).await?;
            Ok(LogScans { scans: Vec::new(), rest })
        })
    }

    /// Streams with an entry in [start, end).
    fn streams<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        start: Nanos,
        end: Nanos,
    ) -> BoxFuture<'a, Result<Vec<(Labels, LogStats)>, ReadError>>;
}

// ---- traces --------------------------------------------------------------------------------

/// A condition that at least one span of a trace must meet; a source may use it to skip traces.
#[derive(Clone, Debug, PartialEq)]
pub enum SpanPredicate {
    Service(String),
    Name(String),
    Error,
    MinDuration(i64),
    /// Span or resource attribute equals the value. For text, an array equals each of its elements, and
    /// bytes and maps equal the text that queries see of them ([`AttrValue::to_text`]).
    Attribute(String, AttrValue),
}

#[derive(Clone, Debug)]
pub struct SpanFragment {
    /// A trace is in the range when any of its spans starts in [start, end).
    pub start: Nanos,
    pub end: Nanos,
    /// All must hold, each for some span.
    pub predicates: Vec<SpanPredicate>,
}

/// All stored spans of one trace, ascending by start.
#[derive(Clone, Debug)]
pub struct TraceData {
    pub trace_id: TraceId,
    pub spans: Vec<Arc<Span>>,
}

pub trait SpanCursor: Send {
    /// The next few traces, newest first by their first span's start; `None` at the end.
    fn next(&mut self) -> Result<Option<Vec<TraceData>>, ReadError>;
}

/// Spans one by one, without their traces: what is read of each.
#[derive(Clone, Debug)]
pub struct SpanColumns {
    /// Spans that start in [start, end).
    pub start: Nanos,
    pub end: Nanos,
    /// Names of span attributes (not the resource's) whose values are wanted.
    pub attributes: Vec<String>,
    pub durations: bool,
    /// Starts are not looked at where a batch lies within one step `(origin + k·step, origin + (k+1)·step]`.
    pub steps: Option<(Nanos, i64)>,
}

/// What many spans share; the rows of a batch name it by number.
#[derive(Clone, Debug)]
pub struct SpanForm {
    pub name: Arc<str>,
    pub kind: SpanKind,
    pub status: SpanStatus,
    pub resource: Arc<Resource>,
    pub scope: Arc<Scope>,
}

/// A value of a span attribute as a number: equal numbers are equal values within one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ValueCode {
    pub column: u32,
    pub raw: u64,
}

impl ValueCode {
    /// The span does not have the attribute.
    pub const ABSENT: Self = Self { column: u32::MAX, raw: 0 };
}

/// Rows of a span each. The columns are appended to what `out` holds.
pub trait SpanBatch {
    fn n_rows(&self) -> usize;
    fn n_traces(&self) -> usize;
    /// Batches of one table share forms and value codes.
    fn table(&self) -> u64;
    /// No span starts before or after these.
    fn bounds(&self) -> (Nanos, Nanos);
    fn forms(&self, out: &mut Vec<u32>);
    fn form(&self, number: u32) -> Result<SpanForm, ReadError>;
    /// Nothing where the fragment's `steps` said so.
    fn starts(&self, out: &mut Vec<i64>);
    fn durations(&self, out: &mut Vec<i64>);
    /// Of the fragment's attribute `k`; where a span has it twice, the first.
    fn values(&self, k: usize, out: &mut Vec<ValueCode>);
    /// `false` where no span of the batch has the fragment's attribute `k`.
    fn has_values(&self, _k: usize) -> bool {
        true
    }
    fn value(&self, k: usize, code: ValueCode) -> Result<Option<AttrValue>, ReadError>;
    fn trace_id(&self, row: usize) -> TraceId;
    /// Start and end of one span, whatever the fragment asked for.
    fn times(&self, row: usize) -> Result<(Nanos, Nanos), ReadError>;
}

pub trait SpanColumnCursor: Send {
    /// The next few spans, in any order, each span once over the life of the cursor; `None` at the end.
    fn next(&mut self) -> Result<Option<Box<dyn SpanBatch + '_>>, ReadError>;
}

pub trait SpanSource: Send + Sync {
    fn trace<'a>(
        &'a self,
        tenant: &'a TenantId,
        trace_id: TraceId,
    ) -> BoxFuture<'a, Result<Option<TraceData>, ReadError>>;

    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a SpanFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn SpanCursor>, ReadError>>;

    /// Spans as columns, or `None` from a source that has only whole traces.
    fn open_columns<'a>(
        &'a self,
        _tenant: &'a TenantId,
        _columns: &'a SpanColumns,
        _context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Option<Box<dyn SpanColumnCursor>>, ReadError>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}
