//! What all push requests share: who sends, how the body is packed, where the work runs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_ingest::{DecodeError, Encoding, Ingest, Protocol, SenderRef};
use weir_model::TenantId;
use weir_model::sink::{Refused, RefusedReason};

use crate::App;
use crate::tenant::Tenant;

/// Requests decoded at once, each of which may hold a decompressed body of 64 MiB.
const DECODING_MAX: usize = 8;
/// Bounds the decoding under way, over all protocols of one router.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

/// One of the requests decoded at once, until dropped.
pub struct Place(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(DECODING_MAX)))
    }
}

impl Gate {
    /// Runs `work` on the pool for blocking work, whatever the size: it may wait for the disk. It gives up its
    /// place when it has decoded.
    pub async fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(Place) -> T + Send + 'static,
    ) -> Result<T, String> {
        let place = Place(self.0.clone().acquire_owned().await.map_err(|e| e.to_string())?);
        tokio::task::spawn_blocking(move || work(place)).await.map_err(|e| format!("decoding ended early: {e}"))
    }

    /// Runs `work` on the pool for blocking work: a write ends with a wait for the disk.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let _place = self.0.acquire().await.map_err(|e| e.to_string())?;
        tokio::task::spawn_blocking(work).await.map_err(|e| format!("decoding ended early: {e}"))
    }
}

/// A body as it comes over the wire; decompressed it may have `Limits::body_bytes_max`.
const WIRE_BYTES_MAX: usize = 32 << 20;
/// How much more of a body that is too large is read and thrown away: a sender that is cut off while it
/// sends sees a broken connection instead of the answer, and sends the same again.
const DRAINED_BYTES_MAX: usize = 64 << 20;

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    #[error("the body is larger than {WIRE_BYTES_MAX} bytes; send smaller batches")]
    TooLarge,
    #[error("the body ended early: {0}")]
    Cut(axum::Error),
}

impl BodyError {
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Cut(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        (self.status(), format!("{self}\n")).into_response()
    }
}

async fn read(mut body: Body) -> Result<Bytes, BodyError> {
    let mut kept = BytesMut::new();
    let mut n_dropped = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::Cut)?.into_data() else { continue };
        if n_dropped == 0 && kept.len() + data.len() <= WIRE_BYTES_MAX {
            kept.extend_from_slice(&data);
            continue;
        }
        n_dropped += data.len();
        kept.clear();
        if DRAINED_BYTES_MAX < n_dropped {
            break;
        }
    }
    if n_dropped == 0 { Ok(kept.freeze()) } else { Err(BodyError::TooLarge) }
}

/// Tenant, sender, headers and body of a push.
pub struct Push {
    pub tenant: TenantId,
    pub address: String,
    pub headers: HeaderMap,
    pub body: Result<Bytes, BodyError>,
}

impl FromRequest<Arc<App>> for Push {
    type Rejection = (StatusCode, String);

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Self::Rejection> {
        let (mut parts, body) = request.into_parts();
        let Tenant(tenant) = Tenant::from_request_parts(&mut parts, app).await?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let address = peer.map(|ConnectInfo(peer)| peer.ip().to_string()).unwrap_or_default();
        let headers = parts.headers.clone();
        Ok(Self { tenant, address, headers, body: read(body).await })
    }
}

impl Push {
    pub fn header(&self, name: &HeaderName) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
    pub fn sender(&self, protocol: Protocol) -> SenderRef {
        SenderRef::new(protocol, self.address.clone(), self.header(&USER_AGENT))
    }
    /// Type and subtype in lower case, and the parameters.
    pub fn content_type(&self) -> (String, &str) {
        let whole = self.header(&CONTENT_TYPE);
        let (kind, parameters) = whole.split_once(';').unwrap_or((whole, ""));
        (kind.trim().to_ascii_lowercase(), parameters.trim())
    }
    /// `Err` with the name of an unknown encoding.
    pub fn encoding(&self) -> Result<Encoding, &str> {
        let name = self.header(&CONTENT_ENCODING);
        Encoding::parse(name).ok_or(name)
    }
}

/// Counts an undecodable body at its sender.
pub fn note_undecodable(ingest: &Ingest, tenant: &TenantId, sender: &SenderRef, error: &DecodeError) {
    let reason = match error {
        DecodeError::TooLarge { .. } => RefusedReason::TooLarge,
        _ => RefusedReason::Malformed,
    };
    ingest.note_undecodable(tenant, sender, Refused { reason, example: error.to_string(), count: 1 });
}

/// The causes in one text, as senders log it.
pub fn causes(refused: &[Refused]) -> String {
    let lines: Vec<String> =
        refused.iter().map(|r| format!("{} refused ({}): {}", r.count, r.reason.as_str(), r.example)).collect();
    lines.join("; ")
}

pub fn count(refused: &[Refused]) -> u64 {
    refused.iter().map(|r| r.count).sum()
}
