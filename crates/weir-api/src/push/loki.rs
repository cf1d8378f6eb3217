//! `POST /loki/api/v1/push`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use weir_ingest::{DecodeError, Encoding, Ingest, Protocol, SenderRef, decompress, loki};
use weir_model::TenantId;
use weir_model::sink::WriteError;

use super::request::{Gate, Push, causes, note_undecodable};
use crate::App;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Protobuf,
}

pub async fn push(State(app): State<Arc<App>>, Extension(gate): Extension<Gate>, push: Push) -> Response {
    let format = if push.content_type().0 == "application/json" { Format::Json } else { Format::Protobuf };
    let encoding = match (format, push.encoding()) {
        // The protobuf body is a snappy block whatever the header says; senders differ.
        (Format::Protobuf, _) => Encoding::SnappyBlock,
        (Format::Json, Ok(encoding)) => encoding,
        (Format::Json, Err(name)) => {
            let text = format!("Content-Encoding {name:?} not supported, use gzip, deflate or snappy");
            return answer(StatusCode::BAD_REQUEST, text);
        }
    };
    let sender = push.sender(Protocol::LokiPush);
    let body = match push.body {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let (ingest, tenant) = (app.ingest.clone(), push.tenant);
    let done = gate.run(move || store(&ingest, &tenant, &sender, format, encoding, &body)).await;
    match done {
        Ok((status, text)) => answer(status, text),
        Err(text) => answer(StatusCode::INTERNAL_SERVER_ERROR, text),
    }
}

fn answer(status: StatusCode, text: String) -> Response {
    if text.is_empty() {
        return status.into_response();
    }
    let kind = [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    if status == StatusCode::SERVICE_UNAVAILABLE {
        return (status, kind, [(RETRY_AFTER, "5")], text).into_response();
    }
    (status, kind, text).into_response()
}

fn store(
    ingest: &Ingest,
    tenant: &TenantId,
    sender: &SenderRef,
    format: Format,
    encoding: Encoding,
    body: &[u8],
) -> (StatusCode, String) {
    let limits = ingest.limits();
    let decoded = decompress(encoding, body, limits.body_bytes_max).and_then(|plain| match format {
        Format::Json => loki::decode_json(&plain, limits, &ingest.stream_cache),
        Format::Protobuf => loki::decode_proto(&plain, limits, &ingest.stream_cache),
    });
    let decoded = match decoded {
        Ok(decoded) => decoded,
        Err(error) => {
            note_undecodable(ingest, tenant, sender, &error);
            let status = match error {
                DecodeError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                DecodeError::Empty(_) => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::BAD_REQUEST,
            };
            return (status, error.to_string());
        }
    };
    let stored = match format {
        Format::Json => ingest.write_logs(tenant, sender, decoded),
        // Compressed as it is: the log on disk keeps it so.
        Format::Protobuf => ingest.write_logs_request(tenant, sender, (loki::PUSH_PROTO, body), decoded),
    };
    match stored {
        Ok(outcome) if outcome.refused.is_empty() => (StatusCode::NO_CONTENT, String::new()),
        // The good entries of the request are stored all the same.
        Ok(outcome) => (StatusCode::BAD_REQUEST, causes(&outcome.refused)),
        Err(error @ (WriteError::Budget(_) | WriteError::Full(_))) => {
            (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}
