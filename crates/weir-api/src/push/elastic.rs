//! `_bulk` of Elasticsearch's API, for Filebeat, Logstash, Fluent Bit, Vector and their like.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde_json::{Value, json};
use weir_ingest::{DecodeError, Ingest, Protocol, SenderRef, decompress, elastic};
use weir_model::TenantId;
use weir_model::sink::WriteError;

use super::request::{Gate, Push, causes, note_undecodable};
use crate::App;

/// Clients refuse to talk to a server without this header.
const PRODUCT: (&str, &str) = ("x-elastic-product", "Elasticsearch");
/// The API that clients may expect.
const VERSION: &str = "8.17.0";

pub async fn bulk(state: State<Arc<App>>, gate: Extension<Gate>, push: Push) -> Response {
    write(state, gate, String::new(), push).await
}

pub async fn bulk_index(
    state: State<Arc<App>>,
    gate: Extension<Gate>,
    Path(index): Path<String>,
    push: Push,
) -> Response {
    write(state, gate, index, push).await
}

async fn write(State(app): State<Arc<App>>, Extension(gate): Extension<Gate>, index: String, push: Push) -> Response {
    let encoding = match push.encoding() {
        Ok(encoding) => encoding,
        Err(name) => {
            let text = format!("Content-Encoding {name:?} not supported, use gzip, deflate or zstd");
            return failed(StatusCode::BAD_REQUEST, &text);
        }
    };
    let sender = push.sender(Protocol::ElasticBulk);
    let body = match push.body {
        Ok(body) => body,
        Err(error) => return failed(error.status(), &error.to_string()),
    };
    let (ingest, tenant) = (app.ingest.clone(), push.tenant);
    let done = gate
        .run(move || {
            let limits = ingest.limits();
            let decoded = decompress(encoding, &body, limits.body_bytes_max).and_then(|plain| {
                elastic::decode(&plain, &index, ingest.clock().now_nanos(), limits, &ingest.stream_cache)
            });
            match decoded {
                Ok((batch, items)) => store(&ingest, &tenant, &sender, batch, &items),
                Err(error) => {
                    note_undecodable(&ingest, &tenant, &sender, &error);
                    let status = match error {
                        DecodeError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                        _ => StatusCode::BAD_REQUEST,
                    };
                    failed(status, &error.to_string())
                }
            }
        })
        .await;
    done.unwrap_or_else(|text| failed(StatusCode::INTERNAL_SERVER_ERROR, &text))
}

fn store(
    ingest: &Ingest,
    tenant: &TenantId,
    sender: &SenderRef,
    decoded: weir_ingest::Decoded<Vec<weir_model::sink::StreamBatch>>,
    items: &[elastic::BulkItem],
) -> Response {
    let n_undecoded = items.iter().filter(|item| item.error.is_some()).count() as u64;
    match ingest.write_logs(tenant, sender, decoded) {
        Ok(outcome) => {
            // The store counts what it refuses but does not say which: then no item is called stored.
            let late = super::request::count(&outcome.refused) > n_undecoded;
            let complaint = late.then(|| causes(&outcome.refused));
            let shown: Vec<Value> = items.iter().map(|item| item_answer(item, complaint.as_deref())).collect();
            let errors = n_undecoded > 0 || late;
            ([PRODUCT], Json(json!({"took": 0, "errors": errors, "items": shown}))).into_response()
        }
        // Clients wait and send the same again.
        Err(error @ (WriteError::Budget(_) | WriteError::Full(_))) => {
            failed(StatusCode::TOO_MANY_REQUESTS, &error.to_string())
        }
        Err(error) => failed(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn item_answer(item: &elastic::BulkItem, complaint: Option<&str>) -> Value {
    let outcome = match item.error.as_deref().or(complaint) {
        None => json!({"_index": item.index, "_id": "", "_version": 1, "result": "created", "status": 201}),
        Some(reason) => json!({"_index": item.index, "_id": "", "status": 400,
            "error": {"type": "mapper_parsing_exception", "reason": reason}}),
    };
    json!({(item.action.as_str()): outcome})
}

fn failed(status: StatusCode, reason: &str) -> Response {
    let cause = json!({"type": "illegal_argument_exception", "reason": reason});
    let body =
        json!({"error": {"root_cause": [cause], "type": cause["type"], "reason": reason}, "status": status.as_u16()});
    (status, [PRODUCT], Json(body)).into_response()
}

/// What clients ask before they send: who is there.
pub async fn info() -> Response {
    let version = json!({"number": VERSION, "build_flavor": "default", "lucene_version": "9.12.0",
        "minimum_wire_compatibility_version": "7.17.0", "minimum_index_compatibility_version": "7.0.0"});
    let body = json!({"name": "weir", "cluster_name": "weir", "cluster_uuid": "weir", "version": version,
        "tagline": "You Know, for Search"});
    ([PRODUCT], Json(body)).into_response()
}

pub async fn health() -> Response {
    let body = json!({"cluster_name": "weir", "status": "green", "timed_out": false, "number_of_nodes": 1});
    ([PRODUCT], Json(body)).into_response()
}

pub async fn license() -> Response {
    let license = json!({"status": "active", "uid": "weir", "type": "basic", "mode": "basic"});
    ([PRODUCT], Json(json!({"license": license}))).into_response()
}
