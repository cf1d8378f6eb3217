//! Evaluation. Opening a query does all I/O; running it is pure work for a CPU thread.

mod accumulate;
pub(crate) mod binary;
mod columns;
pub mod hiding;
mod log;
mod metric;
pub mod patterns;
mod range;
mod scan;
pub mod tail;
mod vector;

use std::sync::Arc;

use weir_model::source::{Direction, LogSource, ReadContext, ReadError};
use weir_model::{Labels, Nanos, TenantId};

pub use log::OpenLogQuery;
pub use metric::OpenMetricQuery;

use crate::ast::{LogExpr, MetricExpr};

#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "pipeline error: '{error}' for series: '{labels}'.\nUse a label filter to intentionally skip this error. \
         (e.g | __error__!=\"{error}\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\n\
         The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )"
    )]
    Pipeline { error: &'static str, labels: String },
    #[error(
        "maximum number of series ({limit}) reached for a single query; consider reducing query cardinality by adding \
         more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), \
         count() or topk()"
    )]
    TooManySeries { limit: usize },
    #[error("{0}")]
    Execution(String),
}

impl From<weir_model::BudgetExceeded> for QueryError {
    fn from(full: weir_model::BudgetExceeded) -> Self {
        Self::Read(full.into())
    }
}

/// What a query read and gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub lines: u64,
    pub bytes: u64,
    pub metadata_bytes: u64,
    /// Lines that passed the pipeline.
    pub lines_passed: u64,
    /// Those of them that stand for lines that sampling left out, and were counted that often.
    pub lines_weighted: u64,
}

/// `start` included, `end` excluded.
#[derive(Clone, Copy, Debug)]
pub struct LogParams {
    pub start: Nanos,
    pub end: Nanos,
    /// Entries over all streams; at least 1.
    pub limit: usize,
    pub direction: Direction,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LogEntryResult {
    pub at: Nanos,
    pub line: Arc<str>,
    /// Structured metadata that no stage took away.
    pub metadata: Vec<(Arc<str>, Arc<str>)>,
    /// What stages extracted or set, `__error__` included.
    pub parsed: Vec<(Arc<str>, Arc<str>)>,
}

/// Entries in the asked direction.
#[derive(Clone, Debug, PartialEq)]
pub struct LogStream {
    /// The stream's own labels that no stage took away.
    pub labels: Labels,
    pub entries: Vec<LogEntryResult>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogResult {
    /// Ordered by labels.
    pub streams: Vec<LogStream>,
    pub statistics: Statistics,
}

/// Steps `start, start + step, … ≤ end`; an instant query has `start == end`.
#[derive(Clone, Copy, Debug)]
pub struct MetricParams {
    pub start: Nanos,
    pub end: Nanos,
    /// Positive, unless `start == end`.
    pub step_nanos: i64,
}

impl MetricParams {
    pub fn instant(at: Nanos) -> Self {
        Self { start: at, end: at, step_nanos: 0 }
    }
    pub fn is_instant(&self) -> bool {
        self.start == self.end
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetricSeries {
    pub labels: Labels,
    /// Ascending by time; at least one.
    pub samples: Vec<(Nanos, f64)>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MetricValue {
    Scalar(f64),
    /// Ordered by labels, or by value where the query sorts.
    Series(Vec<MetricSeries>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetricResult {
    pub value: MetricValue,
    pub statistics: Statistics,
}

/// Evaluates queries; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// Most series in the answer of a metric query.
    pub series_max: usize,
    /// When the query began: what `now` in a template gives.
    pub now: Nanos,
}

impl Default for Engine {
    /// Loki's default, `max_query_series`.
    fn default() -> Self {
        Self { series_max: 500, now: Nanos(0) }
    }
}

impl Engine {
    pub async fn open_log(
        &self,
        source: &dyn LogSource,
        tenant: &TenantId,
        expr: LogExpr,
        params: LogParams,
        context: &ReadContext,
    ) -> Result<OpenLogQuery, QueryError> {
        OpenLogQuery::open(source, tenant, expr, params, context, self.now).await
    }

    /// Opens and runs on the calling thread.
    pub async fn log_query(
        &self,
        source: &dyn LogSource,
        tenant: &TenantId,
        expr: LogExpr,
        params: LogParams,
        context: &ReadContext,
    ) -> Result<LogResult, QueryError> {
        self.open_log(source, tenant, expr, params, context).await?.run()
    }

    pub async fn open_metric(
        &self,
        source: &dyn LogSource,
        tenant: &TenantId,
        expr: MetricExpr,
        params: MetricParams,
        context: &ReadContext,
    ) -> Result<OpenMetricQuery, QueryError> {
        OpenMetricQuery::open(source, tenant, expr, params, context, *self).await
    }

    /// Opens and runs on the calling thread.
    pub async fn metric_query(
        &self,
        source: &dyn LogSource,
        tenant: &TenantId,
        expr: MetricExpr,
        params: MetricParams,
        context: &ReadContext,
    ) -> Result<MetricResult, QueryError> {
        self.open_metric(source, tenant, expr, params, context).await?.run()
    }
}
