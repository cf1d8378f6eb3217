//! LogQL: read a query, open its sources, evaluate it over entries as they stream by.
//!
//! This crate is *not* an API: JSON shapes, parameters and status codes live in `weir-api`. It
//! stores nothing and reads through [`weir_model::source::LogSource`] alone.
//!
//! Read first: [`Expr`], [`Engine`], [`LogResult`], [`MetricResult`].
//!
//! ```
//! use weir_logql::{Expr, parse};
//! assert!(matches!(parse(r#"{app="x"} |= "timed out" | json"#), Ok(Expr::Log(_))));
//! assert!(matches!(parse(r#"sum(rate({app="x"}[5m]))"#), Ok(Expr::Metric(_))));
//! ```
//!
//! Invariants: a log query holds at most `limit` entries, a metric query no lines at all; both draw
//! what they hold from the read context's budget; a line that a stage cannot read is marked with
//! `__error__` and never lost in a log query, and fails a metric query.

mod ast;
mod display;
mod eval;
mod parse;
mod pipeline;
mod units;

pub use ast::{
    BinaryOp, Cardinality, Compare, Conversion, Expr, Grouping, LabelFilter, LabelFormat, LabelPick, LineFilter,
    LineOp, LogExpr, Matching, MetricExpr, Needle, RangeAggregation, RangeOp, Stage, Unwrap, VectorOp,
};
pub use eval::hiding::HidingSource;
pub use eval::patterns::{LogPattern, PatternCollector};
pub use eval::tail::TailFilter;
pub use eval::{
    Engine, LogEntryResult, LogParams, LogResult, LogStream, MetricParams, MetricResult, MetricSeries, MetricValue,
    OpenLogQuery, OpenMetricQuery, QueryError, Statistics,
};
pub use parse::{ParseError, parse, parse_log, parse_selector};
pub use pipeline::ip::IpMatcher;
pub use pipeline::json;
pub use pipeline::line_pattern::LinePattern;
pub use pipeline::logfmt;
pub use pipeline::pattern::PatternParser;
pub use pipeline::template::{LineTemplate, functions as template_functions};
pub use pipeline::{Origin, PipelineError};
pub use units::{format_duration, parse_bytes, parse_duration};
