//! What a collector makes of spans on their way to the store: requests, errors and durations by service and
//! operation, messages by topic, and the edges of the service graph, under the names of Tempo's
//! metrics-generator.
//!
//! [`SpanMetrics`] hears every commit of spans and counts; [`SpanMetrics::collect`] gives the samples that are
//! due. It is *not* a store, runs no loop and reads no clock but the one it is given.
//!
//! Invariants: the number of series is bounded whatever senders name their spans; a counter begins at zero one
//! collection before its first count, so that `rate()` sees the first request too.

mod edges;
mod operation;
mod series;
mod span_metrics;

pub use operation::operation;
pub use span_metrics::{SpanMetrics, SpanMetricsOptions};
