//! What all push requests share: who sends, how the body is packed, where the work runs.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use bytes::Bytes;
use tokio::sync::Semaphore;
use weir_ingest::{DecodeError, Encoding, Ingest, Protocol, SenderRef};
use weir_model::TenantId;
use weir_model::sink::{Refused, RefusedReason};

use crate::App;
use crate::tenant::Tenant;

/// Requests decoded at once, each of which may hold a decompressed body of 64 MiB.
const DECODING_MAX: usize = 8;
/// Smaller bodies are decoded where they are: below a millisecond of work.
const INLINE_BYTES_MAX: usize = 16 << 10;

/// Bounds the decoding under way, over all protocols of one router.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(DECODING_MAX)))
    }
}

impl Gate {
    /// Runs `work` on this thread when the body is small, else on the pool for blocking work.
    pub async fn run<T: Send + 'static>(
        &self,
        body_bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let _place = self.0.acquire().await.map_err(|e| e.to_string())?;
        if body_bytes <= INLINE_BYTES_MAX {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await.map_err(|e| format!("decoding ended early: {e}"))
    }
}

/// Tenant, sender, headers and body of a push.
pub struct Push {
    pub tenant: TenantId,
    pub address: String,
    pub headers: HeaderMap,
    pub body: Result<Bytes, BytesRejection>,
}

impl FromRequest<Arc<App>> for Push {
    type Rejection = (StatusCode, String);

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Self::Rejection> {
        let (mut parts, body) = request.into_parts();
        let Tenant(tenant) = Tenant::from_request_parts(&mut parts, app).await?;
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let address = peer.map(|ConnectInfo(peer)| peer.ip().to_string()).unwrap_or_default();
        let headers = parts.headers.clone();
        let body = Bytes::from_request(Request::from_parts(parts, body), app).await;
        Ok(Self { tenant, address, headers, body })
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
