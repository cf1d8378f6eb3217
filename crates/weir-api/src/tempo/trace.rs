//! One trace by its id, in both versions of the API.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use prost::Message;
use serde_json::json;
use weir_model::{Span, TraceId};

use super::encode;
use crate::loki::ApiError;
use crate::stores::Stores;
use crate::tenant::Tenant;

const PROTOBUF: &str = "application/protobuf";

/// `tempopb.TraceByIDResponse`, as far as weir fills it.
#[derive(Clone, PartialEq, Message)]
struct TraceById {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<TraceByIdMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct TraceByIdMetrics {
    #[prost(uint64, tag = "1")]
    inspected_bytes: u64,
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|v| v.as_bytes().starts_with(PROTOBUF.as_bytes()))
}

fn protobuf(status: StatusCode, message: &impl Message) -> Response {
    (status, [(header::CONTENT_TYPE, PROTOBUF)], message.encode_to_vec()).into_response()
}

/// `None` when there is no such trace.
async fn find(stores: &Stores, tenant: &Tenant, id: &str) -> Result<Option<Vec<Arc<Span>>>, ApiError> {
    let id = TraceId::parse_hex(id)
        .filter(|_| !id.contains('-'))
        .ok_or_else(|| ApiError::bad(format!("trace id `{id}` is not 1 to 32 hexadecimal digits")))?;
    Ok(stores.spans.trace(&tenant.0, id).await?.map(|data| data.spans).filter(|spans| !spans.is_empty()))
}

pub(super) async fn v1(
    State(stores): State<Arc<Stores>>,
    tenant: Tenant,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let Some(spans) = find(&stores, &tenant, &id).await? else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    if wants_protobuf(&headers) {
        return Ok(protobuf(StatusCode::OK, &TracesData { resource_spans: encode::resource_spans(&spans) }));
    }
    Ok(Json(json!({"batches": encode::resource_spans_json(&spans)})).into_response())
}

/// An unknown trace is an empty one here: on 404, Grafana would ask v1 and show its error.
pub(super) async fn v2(
    State(stores): State<Arc<Stores>>,
    tenant: Tenant,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let spans = find(&stores, &tenant, &id).await?.unwrap_or_default();
    let inspected_bytes = spans.iter().map(|s| s.size_bytes() as u64).sum::<u64>();
    if wants_protobuf(&headers) {
        let trace = TracesData { resource_spans: encode::resource_spans(&spans) };
        let answer = TraceById { trace: Some(trace), metrics: Some(TraceByIdMetrics { inspected_bytes }) };
        return Ok(protobuf(StatusCode::OK, &answer));
    }
    let trace = json!({"resourceSpans": encode::resource_spans_json(&spans)});
    Ok(Json(json!({"trace": trace, "metrics": {"inspectedBytes": inspected_bytes.to_string()}})).into_response())
}
