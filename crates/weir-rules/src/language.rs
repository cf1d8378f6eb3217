//! The languages of rules, and how each gives an instant's elements.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use weir_model::source::{BoxFuture, Cancel, LogSource, ReadContext, SpanSource};
use weir_model::{Budget, Clock, Labels, Nanos, TenantId, Timestamp};
use weir_promql::Expr;

use crate::expand::Element;
use crate::inputs::{Series, Watched};
use crate::manager::{Evaluate, Recorded};
use crate::promql::PromqlEvaluator;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    Promql,
    Logql,
    Traceql,
}

impl Language {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promql => "promql",
            Self::Logql => "logql",
            Self::Traceql => "traceql",
        }
    }
}

/// What a rule asks.
#[derive(Clone, Debug)]
pub enum RuleExpr {
    Promql(Arc<Expr>),
    Logql(Arc<weir_logql::MetricExpr>),
    Traceql(Arc<TraceExpr>),
}

#[derive(Clone, Debug)]
pub struct TraceExpr {
    query: weir_traceql::Query,
    /// As written.
    text: String,
    /// How far back it looks.
    pub window: Duration,
}

impl RuleExpr {
    /// `window` is TraceQL's, whose queries have no range of their own.
    pub fn parse(text: &str, language: Language, window: Duration) -> Result<Self, String> {
        match language {
            Language::Promql => Ok(Self::Promql(Arc::new(weir_promql::parse(text).map_err(|e| e.to_string())?))),
            Language::Logql => match weir_logql::parse(text).map_err(|e| e.to_string())? {
                weir_logql::Expr::Metric(expr) => Ok(Self::Logql(Arc::new(expr))),
                weir_logql::Expr::Log(_) => {
                    Err("a log query gives lines, and a rule needs numbers: count them, as in count_over_time(… [5m])"
                        .to_owned())
                }
            },
            Language::Traceql => {
                let query = weir_traceql::parse(text).map_err(|e| e.to_string())?;
                if query.metrics.is_none() {
                    return Err(
                        "a search gives traces, and a rule needs numbers: add a stage such as `| rate()`".to_owned()
                    );
                }
                Ok(Self::Traceql(Arc::new(TraceExpr { query, text: text.trim().to_owned(), window })))
            }
        }
    }

    pub fn promql(&self) -> Option<&Arc<Expr>> {
        if let Self::Promql(expr) = self { Some(expr) } else { None }
    }

    pub fn language(&self) -> Language {
        match self {
            Self::Promql(_) => Language::Promql,
            Self::Logql(_) => Language::Logql,
            Self::Traceql(_) => Language::Traceql,
        }
    }
}

impl fmt::Display for RuleExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promql(expr) => expr.fmt(f),
            Self::Logql(expr) => expr.fmt(f),
            Self::Traceql(expr) => f.write_str(&expr.text),
        }
    }
}

/// Evaluates rules of every language, each over its own store.
pub struct Evaluators {
    pub metrics: PromqlEvaluator,
    pub logs: Arc<dyn LogSource>,
    pub spans: Arc<dyn SpanSource>,
    pub clock: Arc<dyn Clock>,
    pub budget: Budget,
}

impl Evaluators {
    fn context(&self) -> ReadContext {
        ReadContext { budget: self.budget.clone(), cancel: Cancel::default() }
    }

    async fn logql(
        &self,
        tenant: &TenantId,
        expr: weir_logql::MetricExpr,
        at: Timestamp,
    ) -> Result<Vec<Element>, String> {
        let context = self.context();
        let _stop = context.cancel.on_drop();
        let engine = weir_logql::Engine { now: self.clock.now_nanos(), ..weir_logql::Engine::default() };
        let params = weir_logql::MetricParams::instant(at.nanos());
        let open = engine.open_metric(&*self.logs, tenant, expr, params, &context).await.map_err(|e| e.to_string())?;
        let result = on_a_thread(move || open.run().map_err(|e| e.to_string())).await?;
        Ok(match result.value {
            weir_logql::MetricValue::Scalar(value) => vec![(Labels::empty(), value)],
            weir_logql::MetricValue::Series(series) => {
                series.into_iter().filter_map(|s| Some((s.labels, s.samples.last()?.1))).collect()
            }
        })
    }

    async fn traceql(&self, tenant: &TenantId, expr: &TraceExpr, at: Timestamp) -> Result<Vec<Element>, String> {
        let context = self.context();
        let _stop = context.cancel.on_drop();
        let (end, step_nanos) = (at.nanos(), i64::try_from(expr.window.as_nanos()).unwrap_or(i64::MAX));
        let params = weir_traceql::MetricsParams {
            start: Nanos(end.0.saturating_sub(step_nanos)),
            end,
            step_nanos,
            exemplars: 0,
        };
        let open = weir_traceql::open_metrics(&*self.spans, tenant, expr.query.clone(), params, &context);
        let open = open.await.map_err(|e| e.to_string())?;
        let result = on_a_thread(move || open.run().map_err(|e| e.to_string())).await?;
        let element = |series: weir_traceql::MetricsSeries| {
            let pairs = series.labels.iter().map(|(key, value)| (label_name(key), label_value(value)));
            Some((Labels::from_pairs(pairs), series.samples.last()?.1))
        };
        Ok(result.series.into_iter().filter_map(element).collect())
    }
}

/// What is counted is counted away from the threads that wait.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|e| format!("the evaluation stopped: {e}"))?
}

/// `resource.service.name` becomes `resource_service_name`.
fn label_name(key: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let name: String = key.chars().map(legal).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn label_value(value: &weir_traceql::LabelValue) -> String {
    match value {
        weir_traceql::LabelValue::Nil => String::new(),
        weir_traceql::LabelValue::Attribute(value) => {
            value.as_str().map_or_else(|| value.to_json().to_string(), str::to_owned)
        }
    }
}

impl Evaluate for Evaluators {
    fn instant<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a RuleExpr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<Element>, String>> {
        match expr {
            RuleExpr::Promql(_) => self.metrics.instant(tenant, expr, at),
            RuleExpr::Logql(expr) => Box::pin(self.logql(tenant, (**expr).clone(), at)),
            RuleExpr::Traceql(expr) => Box::pin(self.traceql(tenant, expr, at)),
        }
    }

    fn record<'a>(
        &'a self,
        tenant: &'a TenantId,
        expr: &'a RuleExpr,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Recorded)>, String>> {
        if let RuleExpr::Promql(_) = expr {
            return self.metrics.record(tenant, expr, at);
        }
        Box::pin(async move {
            let elements = self.instant(tenant, expr, at).await?;
            Ok(elements.into_iter().map(|(labels, value)| (labels, Recorded::Float(value))).collect())
        })
    }

    fn inputs<'a>(
        &'a self,
        tenant: &'a TenantId,
        watched: &'a [Watched],
        at: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Vec<Series>>, String>> {
        self.metrics.inputs(tenant, watched, at)
    }
}
