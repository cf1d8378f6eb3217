//! Metric queries as a tree: leaves are range aggregations, the rest works on whole series.

use weir_model::source::{BoxFuture, LogSource, ReadContext};
use weir_model::{Labels, Nanos, TenantId};

use super::range::{OpenRange, is_additive};
use super::vector::{self, Series};
use super::{Engine, MetricParams, MetricResult, MetricSeries, MetricValue, QueryError, Statistics, binary};
use crate::ast::{BinaryOp, Grouping, Matching, MetricExpr, VectorOp};

/// A metric query whose data is within reach.
pub struct OpenMetricQuery {
    node: Node,
    params: MetricParams,
    series_max: usize,
}

enum Node {
    Scalar(f64),
    Constant(f64),
    Range(Box<OpenRange>),
    Vector { op: VectorOp, param: Option<usize>, grouping: Grouping, input: Box<Node> },
    Binary { op: BinaryOp, lhs: Box<Node>, rhs: Box<Node>, matching: Matching },
    LabelReplace { input: Box<Node>, dst: String, replacement: String, src: String, regex: regex::Regex },
}

pub(super) enum Value {
    Scalar(f64),
    Vector(Vec<Series>),
}

struct Opener<'a> {
    source: &'a dyn LogSource,
    tenant: &'a TenantId,
    params: MetricParams,
    context: &'a ReadContext,
    now: Nanos,
}

impl Opener<'_> {
    fn open<'b>(
        &'b self,
        expr: MetricExpr,
        outer_sum: Option<&'b Grouping>,
    ) -> BoxFuture<'b, Result<Node, QueryError>> {
        Box::pin(async move {
            Ok(match expr {
                MetricExpr::Literal(value) => Node::Scalar(value),
                MetricExpr::Constant(value) => Node::Constant(value),
                MetricExpr::Range(aggregation) => {
                    let Self { source, tenant, params, context, now } = *self;
                    let range = OpenRange::open(source, tenant, *aggregation, outer_sum, params, context, now).await?;
                    Node::Range(Box::new(range))
                }
                MetricExpr::Vector { op, param, grouping, expr } => {
                    if op == VectorOp::ApproxTopk && !self.params.is_instant() {
                        let text = "approx_topk works in instant queries only; use topk in a range query";
                        return Err(QueryError::Execution(text.to_owned()));
                    }
                    let grouping = grouping.unwrap_or_default();
                    let is_sum = op == VectorOp::Sum
                        && matches!(&*expr, MetricExpr::Range(r) if is_additive(r.op) && r.grouping.is_none());
                    let input = Box::new(self.open(*expr, is_sum.then_some(&grouping)).await?);
                    Node::Vector { op, param, grouping, input }
                }
                MetricExpr::Binary { op, lhs, rhs, matching } => Node::Binary {
                    op,
                    lhs: Box::new(self.open(*lhs, None).await?),
                    rhs: Box::new(self.open(*rhs, None).await?),
                    matching,
                },
                MetricExpr::LabelReplace { expr, dst, replacement, src, regex, .. } => {
                    Node::LabelReplace { input: Box::new(self.open(*expr, None).await?), dst, replacement, src, regex }
                }
            })
        })
    }
}

impl OpenMetricQuery {
    pub(super) async fn open(
        source: &dyn LogSource,
        tenant: &TenantId,
        expr: MetricExpr,
        params: MetricParams,
        context: &ReadContext,
        engine: Engine,
    ) -> Result<Self, QueryError> {
        let node = Opener { source, tenant, params, context, now: engine.now }.open(expr, None).await?;
        Ok(Self { node, params, series_max: engine.series_max })
    }

    pub fn run(self) -> Result<MetricResult, QueryError> {
        let mut statistics = Statistics::default();
        let steps = steps(&self.params);
        let value = match run_node(self.node, steps.len(), &mut statistics)? {
            Value::Scalar(value) => MetricValue::Scalar(value),
            Value::Vector(series) if series.len() > self.series_max => {
                return Err(QueryError::TooManySeries { limit: self.series_max });
            }
            Value::Vector(series) => {
                MetricValue::Series(series.into_iter().filter_map(|s| samples(s, &steps)).collect())
            }
        };
        Ok(MetricResult { value, statistics })
    }
}

fn steps(params: &MetricParams) -> Vec<Nanos> {
    if params.is_instant() || params.step_nanos <= 0 {
        return vec![params.start];
    }
    let count = (params.end.0.saturating_sub(params.start.0)).max(0) / params.step_nanos + 1;
    (0..count).map(|i| Nanos(params.start.0 + i * params.step_nanos)).collect()
}

fn samples(series: Series, steps: &[Nanos]) -> Option<MetricSeries> {
    let samples: Vec<(Nanos, f64)> =
        steps.iter().zip(&series.values).filter_map(|(at, value)| value.map(|v| (*at, v))).collect();
    (!samples.is_empty()).then_some(MetricSeries { labels: series.labels, samples })
}

fn run_node(node: Node, steps: usize, statistics: &mut Statistics) -> Result<Value, QueryError> {
    Ok(match node {
        Node::Scalar(value) => Value::Scalar(value),
        Node::Constant(value) => {
            Value::Vector(vec![Series { labels: Labels::empty(), values: vec![Some(value); steps] }])
        }
        Node::Range(range) => Value::Vector(range.run(statistics)?),
        Node::Vector { op, param, grouping, input } => match run_node(*input, steps, statistics)? {
            Value::Vector(series) => Value::Vector(vector::aggregate(op, param, &grouping, series, steps)),
            Value::Scalar(_) => {
                return Err(QueryError::Execution(format!("{} aggregates series, not a number", op.as_str())));
            }
        },
        Node::Binary { op, lhs, rhs, matching } => {
            let lhs = run_node(*lhs, steps, statistics)?;
            let rhs = run_node(*rhs, steps, statistics)?;
            binary::apply(op, lhs, rhs, &matching, steps)?
        }
        Node::LabelReplace { input, dst, replacement, src, regex } => match run_node(*input, steps, statistics)? {
            Value::Vector(mut series) => {
                vector::label_replace(&mut series, &dst, &replacement, &src, &regex)?;
                Value::Vector(series)
            }
            scalar => scalar,
        },
    })
}
