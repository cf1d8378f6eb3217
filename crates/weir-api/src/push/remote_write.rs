//! `POST /api/v1/write`: Prometheus remote write 1.0 and 2.0.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use weir_ingest::remote_write::Version;
use weir_ingest::{DecodeError, Encoding, Ingest, Protocol, RemoteCounts, RemoteError, RemoteRequest, SenderRef};
use weir_model::TenantId;
use weir_model::sink::{Outcome, WriteError};

use super::request::{Gate, Place, Push, causes, note_undecodable};
use crate::App;

pub async fn write(State(app): State<Arc<App>>, Extension(gate): Extension<Gate>, push: Push) -> Response {
    let version = match version(&push) {
        Ok(version) => version,
        Err(text) => return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response(),
    };
    let encoding = match push.encoding() {
        // The protocol knows no uncompressed bodies: a missing header means snappy.
        Ok(Encoding::Identity) if push.header(&CONTENT_ENCODING).is_empty() => Encoding::SnappyBlock,
        Ok(encoding @ (Encoding::SnappyBlock | Encoding::Zstd)) => encoding,
        _ => {
            let text =
                format!("unsupported Content-Encoding `{}`; use snappy or zstd\n", push.header(&CONTENT_ENCODING));
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response();
        }
    };
    let sender = push.sender(Protocol::RemoteWrite);
    let body = match push.body {
        Ok(body) => body,
        Err(error) => return error.into_response(),
    };
    let (ingest, tenant) = (app.ingest.clone(), push.tenant);
    let done = gate
        .run_blocking(move |place| {
            store(&ingest, &tenant, &sender, RemoteRequest { version, encoding, body: &body }, place)
        })
        .await;
    match done {
        Ok(answer) => answer.into_response(),
        Err(text) => (StatusCode::INTERNAL_SERVER_ERROR, text).into_response(),
    }
}

fn version(push: &Push) -> Result<Version, String> {
    let (kind, parameters) = push.content_type();
    let proto = parameters.split(';').find_map(|p| p.trim().strip_prefix("proto="));
    match (kind.as_str(), proto.map(|p| p.trim_matches('"'))) {
        ("", None) | ("application/x-protobuf", None | Some("prometheus.WriteRequest")) => Ok(Version::V1),
        ("application/x-protobuf", Some("io.prometheus.write.v2.Request")) => Ok(Version::V2),
        (kind, proto) => Err(format!(
            "unsupported Content-Type `{kind}`{}; use application/x-protobuf with proto=prometheus.WriteRequest or \
             proto=io.prometheus.write.v2.Request\n",
            proto.map(|p| format!(" with proto={p}")).unwrap_or_default()
        )),
    }
}

struct Written {
    status: StatusCode,
    text: String,
    counts: RemoteCounts,
}

fn store(ingest: &Ingest, tenant: &TenantId, sender: &SenderRef, request: RemoteRequest<'_>, place: Place) -> Written {
    let written = match ingest.write_remote(tenant, sender, request) {
        Ok(written) => written,
        Err(RemoteError::Decode(error)) => {
            note_undecodable(ingest, tenant, sender, &error);
            let is_large = matches!(error, DecodeError::TooLarge { .. });
            let status = if is_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            return Written::failed(status, &error);
        }
        Err(RemoteError::Write(error)) => return not_stored(&error),
    };
    // What was decoded no longer counts: a request that waits for the disk must not keep others from decoding.
    drop(place);
    match written.mark.map_or(Ok(()), |mark| ingest.sync(mark)) {
        Ok(()) => stored(&written.outcome, written.sent),
        Err(error) => not_stored(&error),
    }
}

/// Nothing was committed and the data is good: the sender must try again.
fn not_stored(error: &WriteError) -> Written {
    let is_full = matches!(error, WriteError::Budget(_) | WriteError::Full(_));
    let status = if is_full { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::INTERNAL_SERVER_ERROR };
    Written::failed(status, error)
}

/// A store counts floats and histograms together; where some were refused, floats count first.
fn stored(outcome: &Outcome, sent: RemoteCounts) -> Written {
    let samples = outcome.accepted.min(sent.samples);
    let histograms = (outcome.accepted - samples).min(sent.histograms);
    let counts = RemoteCounts { samples, histograms, ..sent };
    if outcome.refused.is_empty() {
        return Written { status: StatusCode::NO_CONTENT, text: String::new(), counts };
    }
    // Never a 5xx: senders would repeat bad samples for hours.
    let text = format!("{}; {} samples were stored\n", causes(&outcome.refused), samples + histograms);
    Written { status: StatusCode::BAD_REQUEST, text, counts }
}

impl Written {
    fn failed(status: StatusCode, error: &dyn std::fmt::Display) -> Self {
        Self { status, text: format!("{error}\n"), counts: RemoteCounts::default() }
    }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        let RemoteCounts { samples, histograms, exemplars } = self.counts;
        let counts = [("samples", samples), ("histograms", histograms), ("exemplars", exemplars)];
        for (what, count) in counts {
            let name = match what {
                "samples" => "x-prometheus-remote-write-samples-written",
                "histograms" => "x-prometheus-remote-write-histograms-written",
                _ => "x-prometheus-remote-write-exemplars-written",
            };
            headers.insert(name, HeaderValue::from(count));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        if self.text.is_empty() {
            (self.status, headers).into_response()
        } else {
            (self.status, headers, self.text).into_response()
        }
    }
}
