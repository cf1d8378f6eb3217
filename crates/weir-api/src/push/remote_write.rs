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
use weir_model::sink::{Outcome, WriteError};

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

struct Written {
    status: StatusCode,
    text: String,
    n_samples: u64,
    n_exemplars: u64,
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
            return Written { status, text: format!("{error}\n"), n_samples: 0, n_exemplars: 0 };
        }
    };
    let n_samples = decoded.batch.series.iter().map(|s| s.samples.len() as u64).sum::<u64>();
    match ingest.write_metrics(tenant, sender, decoded) {
        Ok(outcome) => stored(&outcome, n_samples, n_exemplars),
        // Nothing was committed and the data is good: the sender must try again.
        Err(error @ (WriteError::Budget(_) | WriteError::Full(_))) => Written {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text: format!("{error}\n"),
            n_samples: 0,
            n_exemplars: 0,
        },
        Err(error) => Written {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            text: format!("{error}\n"),
            n_samples: 0,
            n_exemplars: 0,
        },
    }
}

fn stored(outcome: &Outcome, n_samples: u64, n_exemplars: u64) -> Written {
    let n_samples = outcome.accepted.min(n_samples);
    if outcome.refused.is_empty() {
        return Written { status: StatusCode::NO_CONTENT, text: String::new(), n_samples, n_exemplars };
    }
    // Never a 5xx: senders would repeat bad samples for hours.
    let text = format!("{}; {n_samples} samples were stored\n", causes(&outcome.refused));
    Written { status: StatusCode::BAD_REQUEST, text, n_samples, n_exemplars }
}

impl IntoResponse for Written {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        let counts = [("samples", self.n_samples), ("histograms", 0), ("exemplars", self.n_exemplars)];
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
