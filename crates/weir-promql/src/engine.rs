//! The engine: limits, then reading in two steps. [`Engine::open`] waits for the source,
//! [`Prepared::eval`] computes on the caller's thread.

use std::sync::Arc;
use std::time::Duration;

use weir_model::source::{MetricCursor, MetricFragment, MetricSource, Projection, ReadContext};
use weir_model::{Clock, SystemClock, TenantId, TimeRange, Timestamp};

use crate::ast::{Expr, ValueType};
use crate::eval;
use crate::plan::{BUCKET_MAX_MS, Fetch, Planner, Steps, millis};
use crate::resolve::{QueryTimes, resolve};
use crate::result::{QueryError, QueryResult};

#[derive(Clone)]
pub struct EngineOptions {
    /// How far an instant vector looks back for a sample.
    pub lookback: Duration,
    /// Most steps of a range query.
    pub points_max: usize,
    /// Most samples (of 16 bytes) that a query may hold at once.
    pub samples_max: u64,
    pub timeout: Duration,
    /// Step of `x[1h:]`.
    pub subquery_step: Duration,
    /// Names of metrics go at the end of a query instead of with each operation, as Prometheus'
    /// `promql-delayed-name-removal` has it.
    pub late_names: bool,
    /// Whether a counter is known by its `__type__` instead of its name, as Prometheus'
    /// `type-and-unit-labels` has it.
    pub type_and_unit_labels: bool,
    /// For the timeout.
    pub clock: Arc<dyn Clock>,
}

impl Default for EngineOptions {
    /// Prometheus' own defaults.
    fn default() -> Self {
        Self {
            lookback: Duration::from_secs(300),
            points_max: 11_000,
            samples_max: 50_000_000,
            timeout: Duration::from_secs(120),
            subquery_step: Duration::from_secs(60),
            late_names: false,
            type_and_unit_labels: false,
            clock: Arc::new(SystemClock),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Instant(Timestamp),
    /// `start`, `start + step`, … up to `end`.
    Range {
        start: Timestamp,
        end: Timestamp,
        step: Duration,
    },
}

impl When {
    /// Every evaluation time.
    pub fn steps(&self) -> Vec<Timestamp> {
        match *self {
            Self::Instant(at) => vec![at],
            Self::Range { start, end, step } => {
                Steps::range(start.0, end.0, millis(step).max(1)).iter().map(Timestamp).collect()
            }
        }
    }
}

/// An expression and when to evaluate it.
#[derive(Clone, Debug)]
pub struct Query {
    pub expr: Expr,
    pub when: When,
    /// Instead of the engine's.
    pub lookback: Option<Duration>,
    /// Instead of the engine's, where shorter.
    pub timeout: Option<Duration>,
    /// Whether samples are counted for each step.
    pub stats_per_step: bool,
    /// The longest buckets that may stand for samples where these are still there. Where they are not, the finest
    /// buckets do in any case.
    pub resolution: Option<Duration>,
}

impl Query {
    fn at(expr: Expr, when: When) -> Self {
        Self { expr, when, lookback: None, timeout: None, stats_per_step: false, resolution: None }
    }
    pub fn instant(expr: Expr, at: Timestamp) -> Self {
        Self::at(expr, When::Instant(at))
    }
    pub fn range(expr: Expr, start: Timestamp, end: Timestamp, step: Duration) -> Self {
        Self::at(expr, When::Range { start, end, step })
    }
}

/// Cheap to clone; holds no state between queries.
#[derive(Clone, Default)]
pub struct Engine {
    options: EngineOptions,
}

impl Engine {
    pub fn new(options: EngineOptions) -> Self {
        Self { options }
    }

    pub fn options(&self) -> &EngineOptions {
        &self.options
    }

    /// The value of `expr` at one instant.
    pub async fn instant(
        &self,
        source: &dyn MetricSource,
        tenant: &TenantId,
        expr: &Expr,
        at: Timestamp,
        context: &ReadContext,
    ) -> Result<QueryResult, QueryError> {
        self.open(source, tenant, &Query::instant(expr.clone(), at), context).await?.eval()
    }

    /// The value of `expr` at each step from `start` to `end`; always a matrix.
    #[allow(clippy::too_many_arguments, reason = "source, tenant and context come with every read")]
    pub async fn range(
        &self,
        source: &dyn MetricSource,
        tenant: &TenantId,
        expr: &Expr,
        start: Timestamp,
        end: Timestamp,
        step: Duration,
        context: &ReadContext,
    ) -> Result<QueryResult, QueryError> {
        self.open(source, tenant, &Query::range(expr.clone(), start, end, step), context).await?.eval()
    }

    /// Plans the query and opens everything it reads. The timeout runs from here.
    pub async fn open(
        &self,
        source: &dyn MetricSource,
        tenant: &TenantId,
        query: &Query,
        context: &ReadContext,
    ) -> Result<Prepared, QueryError> {
        let options = &self.options;
        let steps = self.steps(query)?;
        let timeout = query.timeout.map_or(options.timeout, |t| t.min(options.timeout));
        let deadline = options.clock.now().plus(timeout);
        let lookback_ms = millis(query.lookback.unwrap_or(options.lookback)).max(1);
        let subquery_step_ms = millis(options.subquery_step).max(1);
        let mut expr = query.expr.clone();
        let (step_ms, range_ms) = match query.when {
            When::Instant(_) => (0, 0),
            When::Range { start, end, step } => (millis(step), end.0.saturating_sub(start.0)),
        };
        let times = QueryTimes { step: step_ms as f64 / 1000.0, range: range_ms as f64 / 1000.0 };
        resolve(&mut expr, times)?;
        let planner = Planner::new(steps, lookback_ms, subquery_step_ms);
        let coarsest = |fetch: &Fetch| {
            let reach = TimeRange::new(Timestamp(fetch.start.saturating_sub(BUCKET_MAX_MS)), Timestamp(fetch.end));
            millis(source.coarsest(tenant, reach, query.resolution))
        };
        let fetches = planner.fetches(&mut expr, &steps, coarsest);
        let mut reads = Vec::with_capacity(fetches.len());
        for fetch in fetches {
            context.cancel.check()?;
            let range = TimeRange::new(Timestamp(fetch.start), Timestamp(fetch.end));
            let (matchers, rollup, resolution) = (fetch.matchers, fetch.rollup, query.resolution);
            let projection = Projection::Samples;
            let fragment = MetricFragment { matchers, range, projection, rollup, resolution };
            let cursor = source.open(tenant, &fragment, context).await?;
            reads.push(Read { fragment, cursor, only_counts: fetch.only_counts });
        }
        let samples_max = options.samples_max;
        let settings = Settings {
            lookback_ms,
            subquery_step_ms,
            samples_max,
            deadline,
            clock: options.clock.clone(),
            late_names: options.late_names,
            type_and_unit_labels: options.type_and_unit_labels,
            step_ms,
            stats_per_step: query.stats_per_step,
        };
        let instant = matches!(query.when, When::Instant(_));
        Ok(Prepared { expr, steps, instant, reads, settings, context: context.clone() })
    }

    fn steps(&self, query: &Query) -> Result<Steps, QueryError> {
        let bad = |text: &str| Err(QueryError::Bad(text.to_owned()));
        let (start, end, step) = match query.when {
            When::Instant(at) => return Ok(Steps::one(at.0)),
            When::Range { start, end, step } => (start.0, end.0, millis(step)),
        };
        if end < start {
            return bad("end timestamp must not be before start time");
        }
        if step <= 0 {
            return bad("zero or negative query resolution step widths are not accepted. Try a positive integer");
        }
        if end.saturating_sub(start) / step > self.options.points_max as i64 {
            return Err(QueryError::Bad(format!(
                "exceeded maximum resolution of {} points per timeseries. Try decreasing the query resolution \
                 (?step=XX)",
                with_thousands(self.options.points_max)
            )));
        }
        match query.expr.value_type() {
            ValueType::Scalar | ValueType::Vector => Ok(Steps::range(start, end, step)),
            other => Err(QueryError::Bad(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                other.documented()
            ))),
        }
    }
}

/// `11000` as `11,000`.
fn with_thousands(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(crate) struct Read {
    pub fragment: MetricFragment,
    pub cursor: Box<dyn MetricCursor>,
    pub only_counts: bool,
}

pub(crate) struct Settings {
    pub lookback_ms: i64,
    pub subquery_step_ms: i64,
    pub samples_max: u64,
    pub deadline: Timestamp,
    pub clock: Arc<dyn Clock>,
    pub late_names: bool,
    pub type_and_unit_labels: bool,
    /// Of the whole query; 0 for an instant.
    pub step_ms: i64,
    pub stats_per_step: bool,
}

/// A query whose input is open. Evaluate it where computing does not hold up others.
pub struct Prepared {
    pub(crate) expr: Expr,
    pub(crate) steps: Steps,
    pub(crate) instant: bool,
    pub(crate) reads: Vec<Read>,
    pub(crate) settings: Settings,
    pub(crate) context: ReadContext,
}

impl Prepared {
    /// Pulls the samples and computes; may take long, waits for nothing.
    pub fn eval(self) -> Result<QueryResult, QueryError> {
        eval::run(self)
    }
}

#[cfg(test)]
mod tests {
    use super::with_thousands;

    #[test]
    fn thousands() {
        for (n, want) in [(0, "0"), (999, "999"), (11_000, "11,000"), (1_234_567, "1,234,567")] {
            assert_eq!(with_thousands(n), want);
        }
    }
}
