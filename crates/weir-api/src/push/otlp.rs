//! OTLP over HTTP, in protobuf and JSON.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsPartialSuccess, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceResponse};
use prost::Message;
use weir_ingest::otlp::{
    ExportLogsServiceRequest, ExportMetricsServiceRequest, ExportTraceServiceRequest, Format, convert_logs,
    convert_metrics, convert_traces, decode, decode_spans,
};
use weir_ingest::{DecodeError, Ingest, Protocol, SenderRef, decompress};
use weir_model::sink::{Outcome, WriteError};
use weir_model::{TenantId, usage};

use super::request::{Gate, Push, causes, count, note_undecodable};
use crate::App;

/// What differs between the three signals.
pub trait Signal: Message + Default + serde::de::DeserializeOwned + Send + 'static {
    type Response: Message + Default + 'static;
    /// Name of the count of refused items in JSON.
    const REJECTED: &'static str;
    fn store(self, ingest: &Ingest, tenant: &TenantId, sender: &SenderRef) -> Result<Outcome, WriteError>;
    /// The same with a body.
    fn store_body(
        format: Format,
        body: &[u8],
        ingest: &Ingest,
        tenant: &TenantId,
        sender: &SenderRef,
    ) -> Result<Result<Outcome, WriteError>, DecodeError> {
        Ok(decode::<Self>(format, body)?.store(ingest, tenant, sender))
    }
    fn response(rejected: i64, error_message: String) -> Self::Response;
}

impl Signal for ExportTraceServiceRequest {
    type Response = ExportTraceServiceResponse;
    const REJECTED: &'static str = "rejectedSpans";
    fn store(mut self, ingest: &Ingest, tenant: &TenantId, sender: &SenderRef) -> Result<Outcome, WriteError> {
        if let Some(pipelines) = ingest.pipelines(usage::Signal::Traces) {
            // They may write down what waits for a decision.
            ingest.redactor().into_iter().for_each(|redactor| redactor.trace_request(&mut self));
            return pipelines.traces(tenant, sender, self);
        }
        ingest.write_spans(tenant, sender, convert_traces(self))
    }
    fn store_body(
        format: Format,
        body: &[u8],
        ingest: &Ingest,
        tenant: &TenantId,
        sender: &SenderRef,
    ) -> Result<Result<Outcome, WriteError>, DecodeError> {
        if ingest.pipelines(usage::Signal::Traces).is_some() {
            return Ok(decode::<Self>(format, body)?.store(ingest, tenant, sender));
        }
        let decoded = match format {
            Format::Protobuf => decode_spans(body, &ingest.span_cache)?,
            Format::Json => convert_traces(decode(format, body)?),
        };
        Ok(ingest.write_spans(tenant, sender, decoded))
    }
    fn response(rejected_spans: i64, error_message: String) -> Self::Response {
        ExportTraceServiceResponse {
            partial_success: Some(ExportTracePartialSuccess { rejected_spans, error_message }),
        }
    }
}

impl Signal for ExportMetricsServiceRequest {
    type Response = ExportMetricsServiceResponse;
    const REJECTED: &'static str = "rejectedDataPoints";
    fn store(self, ingest: &Ingest, tenant: &TenantId, sender: &SenderRef) -> Result<Outcome, WriteError> {
        if let Some(pipelines) = ingest.pipelines(usage::Signal::Metrics) {
            return pipelines.metrics(tenant, sender, self);
        }
        let decoded = convert_metrics(self, tenant, &ingest.deltas, &ingest.series_cache);
        ingest.write_metrics(tenant, sender, decoded)
    }
    fn response(rejected_data_points: i64, error_message: String) -> Self::Response {
        let partial_success = Some(ExportMetricsPartialSuccess { rejected_data_points, error_message });
        ExportMetricsServiceResponse { partial_success }
    }
}

impl Signal for ExportLogsServiceRequest {
    type Response = ExportLogsServiceResponse;
    const REJECTED: &'static str = "rejectedLogRecords";
    fn store(mut self, ingest: &Ingest, tenant: &TenantId, sender: &SenderRef) -> Result<Outcome, WriteError> {
        if let Some(pipelines) = ingest.pipelines(usage::Signal::Logs) {
            ingest.redactor().into_iter().for_each(|redactor| redactor.logs_request(&mut self));
            return pipelines.logs(tenant, sender, self);
        }
        let decoded = convert_logs(self, ingest.clock().now_nanos(), &ingest.stream_cache);
        ingest.write_logs(tenant, sender, decoded)
    }
    fn response(rejected_log_records: i64, error_message: String) -> Self::Response {
        ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess { rejected_log_records, error_message }),
        }
    }
}

pub async fn traces(State(app): State<Arc<App>>, Extension(gate): Extension<Gate>, push: Push) -> Response {
    export::<ExportTraceServiceRequest>(&app, &gate, push).await
}

pub async fn metrics(State(app): State<Arc<App>>, Extension(gate): Extension<Gate>, push: Push) -> Response {
    export::<ExportMetricsServiceRequest>(&app, &gate, push).await
}

pub async fn logs(State(app): State<Arc<App>>, Extension(gate): Extension<Gate>, push: Push) -> Response {
    export::<ExportLogsServiceRequest>(&app, &gate, push).await
}

/// Loki's path answers 204 where OTLP's own answers 200.
pub async fn loki_logs(State(app): State<Arc<App>>, Extension(gate): Extension<Gate>, push: Push) -> Response {
    let answer = export::<ExportLogsServiceRequest>(&app, &gate, push).await;
    if answer.status() == StatusCode::OK { StatusCode::NO_CONTENT.into_response() } else { answer }
}

async fn export<T: Signal>(app: &App, gate: &Gate, push: Push) -> Response {
    let format = match push.content_type().0.as_str() {
        "application/x-protobuf" | "application/protobuf" => Format::Protobuf,
        "application/json" => Format::Json,
        other => {
            let text = format!("unsupported Content-Type `{other}`; use application/x-protobuf or application/json\n");
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
        }
    };
    let encoding = match push.encoding() {
        Ok(encoding) => encoding,
        Err(name) => {
            let text = format!("unsupported Content-Encoding `{name}`; use gzip, zstd, deflate, snappy or none\n");
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
        }
    };
    let sender = push.sender(Protocol::OtlpHttp);
    let body = match push.body {
        Ok(body) => body,
        Err(error) => return failed(format, error.status(), INVALID_ARGUMENT, error.to_string()),
    };
    let (ingest, tenant) = (app.ingest.clone(), push.tenant);
    let done = gate.run(move || {
        let plain = decompress(encoding, &body, ingest.limits().body_bytes_max);
        match plain.and_then(|plain| T::store_body(format, &plain, &ingest, &tenant, &sender)) {
            Ok(stored) => Ok(stored),
            Err(error) => {
                note_undecodable(&ingest, &tenant, &sender, &error);
                Err(error)
            }
        }
    });
    match done.await {
        Ok(Ok(Ok(outcome))) => stored::<T>(format, &outcome),
        Ok(Ok(Err(error @ WriteError::Budget(_)))) => {
            failed(format, StatusCode::TOO_MANY_REQUESTS, RESOURCE_EXHAUSTED, error.to_string())
        }
        Ok(Ok(Err(error))) => failed(format, StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, error.to_string()),
        Ok(Err(error @ DecodeError::TooLarge { .. })) => {
            failed(format, StatusCode::PAYLOAD_TOO_LARGE, INVALID_ARGUMENT, error.to_string())
        }
        Ok(Err(error)) => failed(format, StatusCode::BAD_REQUEST, INVALID_ARGUMENT, error.to_string()),
        Err(text) => failed(format, StatusCode::INTERNAL_SERVER_ERROR, INTERNAL, text),
    }
}

fn content_type(format: Format) -> [(axum::http::HeaderName, &'static str); 1] {
    [(CONTENT_TYPE, if format == Format::Json { "application/json" } else { "application/x-protobuf" })]
}

/// The answer to a request that was read: with `partialSuccess` when some of it was refused.
fn stored<T: Signal>(format: Format, outcome: &Outcome) -> Response {
    let n = i64::try_from(count(&outcome.refused)).unwrap_or(i64::MAX);
    let body = match (format, n) {
        (Format::Protobuf, 0) => Vec::new(),
        (Format::Protobuf, n) => T::response(n, causes(&outcome.refused)).encode_to_vec(),
        (Format::Json, 0) => b"{}".to_vec(),
        (Format::Json, n) => {
            // 64-bit numbers are texts in OTLP/JSON.
            let partial = serde_json::json!({ T::REJECTED: n.to_string(), "errorMessage": causes(&outcome.refused) });
            serde_json::json!({ "partialSuccess": partial }).to_string().into_bytes()
        }
    };
    (StatusCode::OK, content_type(format), body).into_response()
}

/// Codes of `google.rpc.Code`.
const INVALID_ARGUMENT: i32 = 3;
const RESOURCE_EXHAUSTED: i32 = 8;
const INTERNAL: i32 = 13;
const UNAVAILABLE: i32 = 14;

/// `google.rpc.Status` without details.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn failed(format: Format, status: StatusCode, code: i32, message: String) -> Response {
    let body = match format {
        Format::Protobuf => RpcStatus { code, message }.encode_to_vec(),
        Format::Json => serde_json::json!({ "code": code, "message": message }).to_string().into_bytes(),
    };
    let mut response = (status, content_type(format), body).into_response();
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static("5"));
    }
    response
}
