//! PromQL: text to a checked tree, a plan of what to read, and its evaluation over
//! [`MetricSource`](weir_model::source::MetricSource), with the semantics of Prometheus 3.
//!
//! This crate is *not* an HTTP surface (that is `weir-api`) and knows no store. [`script`] reads and
//! runs test cases in Prometheus' own script format.
//!
//! Read first: [`parse`], [`Expr`], [`Engine`].
//!
//! ```
//! let expr = weir_promql::parse("sum by (job) (rate(http_requests_total[5m]))").unwrap();
//! assert_eq!(expr.to_string(), "sum by (job) (rate(http_requests_total[5m]))");
//! let wrong = weir_promql::parse("sum(rate(x))").unwrap_err();
//! assert_eq!(
//!     wrong.to_string(),
//!     "1:10: parse error: expected type range vector in call to function \"rate\", got instant vector"
//! );
//! ```
//!
//! Invariants: a tree is at most [`Expr::MAX_DEPTH`] deep; every selector is read once per query,
//! over the whole range; a value is a column over all steps, and an absent cell is a stale marker,
//! which no arithmetic can produce; all memory of a query is drawn from one account.

mod ast;
mod display;
mod engine;
mod eval;
mod function;
mod number;
mod parse;
mod plan;
mod pretty;
mod resolve;
mod result;
pub mod script;
#[cfg(test)]
mod testing;
mod uses;

pub use ast::{
    Aggregate, AggregateOp, At, Binary, BinaryOp, Call, Cardinality, DurationExpr, Expr, ExprKind, Extended, Span,
    Subquery, ValueType, VectorMatching, VectorSelector,
};
pub use engine::{Engine, EngineOptions, Prepared, Query, When};
pub use function::{ALL as FUNCTIONS, Function};
pub use number::{format_duration, format_value, parse_duration};
pub use parse::{ParseError, parse, parse_selector};
pub use plan::{SelectorRef, selectors};
pub use pretty::pretty;
pub use result::{QueryError, QueryResult, Stats, Value, VectorSample};
