//! `POST /api/v1/write`: Prometheus remote write 1.0 and 2.0.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use weir_ingest::remote_write::{self, WriteRequest};
use weir_ingest::{DecodeError, Encoding, Ingest, Protocol, SenderRef, decompress};
use weir_model::TenantId;
use weir_model::sink::{Outcome, SeriesBatch, WriteError};

use super::request::{Gate, Push, causes, note_undecodable};
use crate::App;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

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
    let done = gate.run(body.len(), move || store(&ingest, &tenant, &sender, version, encoding, &body)).await;
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

#[derive(Clone, Copy, Default)]
struct Counts {
    samples: u64,
    histograms: u64,
    exemplars: u64,
}

struct Written {
    status: StatusCode,
    text: String,
    counts: Counts,
}

impl Written {
    fn nothing(status: StatusCode, error: &dyn std::fmt::Display) -> Self {
        Self { status, text: format!("{error}\n"), counts: Counts::default() }
    }
}

fn store(
    ingest: &Ingest,
    tenant: &TenantId,
    sender: &SenderRef,
    version: Version,
    encoding: Encoding,
    body: &[u8],
) -> Written {
    let decoded = decompress(encoding, body, ingest.limits().body_bytes_max).and_then(|plain| match version {
        Version::V1 => remote_write::decode_v1(&plain, &ingest.series_cache),
        Version::V2 => remote_write::decode_v2(&plain, &ingest.series_cache),
    });
    let WriteRequest { decoded, n_exemplars } = match decoded {
        Ok(request) => request,
        Err(error) => {
            note_undecodable(ingest, tenant, sender, &error);
            let is_large = matches!(error, DecodeError::TooLarge { .. });
            let status = if is_large { StatusCode::PAYLOAD_TOO_LARGE } else { StatusCode::BAD_REQUEST };
            return Written::nothing(status, &error);
        }
    };
    let sum = |f: fn(&SeriesBatch) -> usize| decoded.batch.series.iter().map(|s| f(s) as u64).sum();
    let sent =
        Counts { samples: sum(|s| s.samples.len()), histograms: sum(|s| s.histograms.len()), exemplars: n_exemplars };
    match ingest.write_metrics(tenant, sender, decoded) {
        Ok(outcome) => stored(&outcome, sent),
        // Nothing was committed and the data is good: the sender must try again.
        Err(error @ (WriteError::Budget(_) | WriteError::Full(_))) => {
            Written::nothing(StatusCode::SERVICE_UNAVAILABLE, &error)
        }
        Err(error) => Written::nothing(StatusCode::INTERNAL_SERVER_ERROR, &error),
    }
}

/// A store counts floats and histograms together; where some were refused, floats count first.
fn stored(outcome: &Outcome, sent: Counts) -> Written {
    let samples = outcome.accepted.min(sent.samples);
    let histograms = (outcome.accepted - samples).min(sent.histograms);
    let counts = Counts { samples, histograms, ..sent };
    if outcome.refused.is_empty() {
        return Written { status: StatusCode::NO_CONTENT, text: String::new(), counts };
    }
    // Never a 5xx: senders would repeat bad samples for hours.
    let text = format!("{}; {} samples were stored\n", causes(&outcome.refused), samples + histograms);
    Written { status: StatusCode::BAD_REQUEST, text, counts }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        for (name, count) in [
            ("x-prometheus-remote-write-samples-written", self.counts.samples),
            ("x-prometheus-remote-write-histograms-written", self.counts.histograms),
            ("x-prometheus-remote-write-exemplars-written", self.counts.exemplars),
        ] {
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
