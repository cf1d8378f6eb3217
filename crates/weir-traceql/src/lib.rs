//! TraceQL: read a query, evaluate it over traces as they stream by.
//!
//! This crate is *not* an API: JSON shapes and parameters live in `weir-api`. It stores nothing and
//! reads through [`weir_model::source::SpanSource`] alone.
//!
//! Read first: [`Query`], [`search`], [`metrics`].
//!
//! ```
//! let query = weir_traceql::parse("{ status = error } >> { span.http.status_code >= 500 } | count() > 1").unwrap();
//! assert!(query.metrics.is_none());
//! assert!(weir_traceql::parse("{ status = error } | rate()").unwrap().metrics.is_some());
//! ```
//!
//! Invariants: a comparison across types, or with an attribute that is absent, is false; a search
//! holds at most `limit` traces; a metrics query holds no spans.

mod ast;
mod eval;
mod parse;

pub use ast::{Field, Intrinsic, MetricsOp, MetricsStage, Query, Scope};
pub use eval::metrics::{
    Exemplar, LabelValue, MetricsParams, MetricsResult, MetricsSeries, OpenMetrics, metrics, open_metrics,
};
pub use eval::search::{
    OpenSearch, SearchParams, SearchResult, SpanMatch, SpanSetMatch, Statistics, TraceMatch, open_search, search,
};
pub use eval::value::field_value;
pub use eval::{QueryError, matches_trace, predicates};
pub use parse::{ParseError, parse, parse_field};
