//! Ingest: decoders of foreign bytes (remote write, OTLP, Loki push, Elasticsearch's bulk, exposition text), their limits,
//! and [`Ingest`], which hands what was decoded to the stores and keeps the accounts.
//!
//! The decoders are pure functions from bytes to batches and never panic. This crate is *not* a
//! server (`weir-api` owns HTTP and gRPC, `weir-collect` owns scraping) and stores nothing itself.
//!
//! Read first: [`Ingest`], [`Decoded`], [`DecodeError`].
//!
//! Invariants: no decoder allocates more than its stated limit, whatever a compressed body claims;
//! what is well formed in a request is kept even when other parts are refused; a refusal names a
//! reason and an example and shows at the sender.

mod cache;
pub mod cardinality;
mod compress;
pub mod contract;
mod decoded;
pub mod elastic;
mod enrich;
pub mod exposition;
mod ids;
mod known_series;
mod level;
mod limits;
mod line;
pub mod loki;
mod metrics;
pub mod otlp;
mod pipelines;
mod proto;
mod redact;
pub mod remote_write;
mod sampling;
mod sender;
mod service;

pub use cache::LabelCache;
pub use compress::{Encoding, decompress};
pub use decoded::{DecodeError, Decoded};
pub use limits::{LabelLimits, Limits};
pub use metrics::IngestMetrics;
pub use pipelines::OtlpPipelines;
pub use redact::{Detector, Pattern, Redactor};
pub use sampling::{LogSampler, SamplingConfig, SamplingError};
pub use sender::{Protocol, RefusedRow, SenderRef, SenderRow, SenderTable};
pub use service::{Ingest, IngestOptions, RemoteCounts, RemoteError, RemoteRequest, RemoteWritten};
