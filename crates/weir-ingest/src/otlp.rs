//! OTLP: requests in protobuf or JSON into spans, log streams and series.
//!
//! Source: opentelemetry-proto 1.x; names of metrics after Prometheus' OTLP translation.

mod common;
mod delta;
mod exponential;
mod json;
mod logs;
mod metrics;
mod naming;
mod shared;
mod spans;
mod traces;

pub use delta::DeltaState;
pub use logs::convert as convert_logs;
pub use metrics::convert as convert_metrics;
pub use spans::{SpanCache, decode_spans};
pub use traces::convert as convert_traces;

pub use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
pub use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
pub use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use crate::DecodeError;

/// How an OTLP/HTTP body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Protobuf,
    Json,
}

/// A request of any of the three signals from a decompressed body.
pub fn decode<T>(format: Format, body: &[u8]) -> Result<T, DecodeError>
where
    T: prost::Message + Default + serde::de::DeserializeOwned,
{
    match format {
        Format::Json => json::decode(body),
        Format::Protobuf => T::decode(body).map_err(|e| DecodeError::Malformed {
            format: "OTLP protobuf",
            place: format!("body of {} bytes", body.len()),
            // Its text names the message and field where reading stopped.
            reason: e.to_string(),
        }),
    }
}
