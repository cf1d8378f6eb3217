//! The tenant of a request: `X-Scope-OrgID`, else `?tenant=`, else `anonymous`.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use weir_model::TenantId;

/// Extractor: `async fn handler(Tenant(tenant): Tenant, …)`.
pub struct Tenant(pub TenantId);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = (StatusCode, String);

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let bad = |text: String| (StatusCode::BAD_REQUEST, text);
        if let Some(header) = parts.headers.get("x-scope-orgid") {
            let name = header.to_str().map_err(|_| bad("X-Scope-OrgID is not ASCII text".to_owned()))?;
            return TenantId::parse(name).map(Tenant).map_err(|e| bad(e.to_string()));
        }
        let query = parts.uri.query().unwrap_or("");
        match url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "tenant") {
            Some((_, name)) if !name.is_empty() => TenantId::parse(&name).map(Tenant).map_err(|e| bad(e.to_string())),
            _ => Ok(Tenant(TenantId::anonymous())),
        }
    }
}
