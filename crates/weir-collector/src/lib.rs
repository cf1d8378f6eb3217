//! The OpenTelemetry Collector inside weir: its configuration, its pipelines, and what is made of spans before any of
//! them is dropped.
//!
//! [`CollectorConfig`] is a checked configuration file. [`Pipelines`] runs it: a request through processors to
//! exporters, and what is due with time; [`tail`] decides whole traces, [`ottl`] is the language of conditions and
//! statements. [`SpanMetrics`] hears every commit of spans and counts requests, errors and durations by service and
//! operation, messages by topic, and the edges of the service graph, under the names of Tempo's metrics-generator.
//!
//! It is *not* a store, runs no loop, opens no connection and reads no clock but the one it is given.
//!
//! Invariants: the number of series is bounded whatever senders name their spans; a counter begins at zero one
//! collection before its first count, so that `rate()` sees the first request too; spans that wait for a decision are
//! on the disk before they are acknowledged.

mod batch;
pub mod config;
mod connect;
mod data;
mod edges;
mod hash;
pub mod kube;
mod limiter;
mod loki;
mod metrics;
mod operation;
pub mod ottl;
mod pipeline;
pub mod process;
mod series;
mod span_metrics;
pub mod tail;

pub use batch::BatchConfig;
pub use config::{CollectorConfig, ComponentId, ConfigError, ExporterConfig, Problem};
pub use connect::ConnectorConfig;
pub use data::{Data, Signal};
pub use loki::{loki_push, loki_streams};
pub use metrics::CollectorMetrics;
pub use operation::operation;
pub use pipeline::{Export, Pipelines, Refusal, Surroundings, folders};
pub use span_metrics::{SpanMetrics, SpanMetricsOptions};
