//! The web page, embedded in the binary.
//!
//! Files under `assets/` carry a hash of their content in their name and may be kept for ever; the
//! one document is asked for again each time, so that an upgrade is seen at once. Paths of the page
//! (`/incidents/7`, `/explore/logs`) all answer with that document; its script reads the path.
//! Every other unknown path stays an honest 404, above all under `/api` and `/loki`.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::App;

#[derive(RustEmbed)]
#[folder = "../../web/dist"]
struct Dist;

const DOCUMENT: &str = "index.html";

/// First parts of the page's paths, as docs/api.md lists them.
const PAGES: [&str; 12] = [
    "",
    "incidents",
    "entity",
    "graph",
    "explore",
    "trace",
    "alerts",
    "slos",
    "oncall",
    "silences",
    "cardinality",
    "data",
];

/// Answers what no other surface does.
pub fn router() -> Router<Arc<App>> {
    Router::new().fallback(serve)
}

async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    let Some((name, kind)) = file_for(path) else {
        return (StatusCode::NOT_FOUND, format!("no such path: /{path}\n")).into_response();
    };
    if method != Method::GET && method != Method::HEAD {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response();
    }
    match Dist::get(name) {
        Some(file) => answer(file, kind, name, &headers),
        None => (StatusCode::NOT_FOUND, "the web page is not part of this build\n").into_response(),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Named by its content.
    Lasting,
    /// May be another one after an upgrade.
    Changing,
}

/// The embedded file that a path (without its first slash) stands for.
fn file_for(path: &str) -> Option<(&str, Kind)> {
    if path.starts_with("assets/") {
        return Dist::get(path).map(|_| (path, Kind::Lasting));
    }
    let first = path.split('/').next().unwrap_or("");
    if PAGES.contains(&first) {
        return Some((DOCUMENT, Kind::Changing));
    }
    Dist::get(path).map(|_| (path, Kind::Changing))
}

fn answer(file: EmbeddedFile, kind: Kind, name: &str, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..12]));
    let lifetime = match kind {
        Kind::Lasting => "public, max-age=31536000, immutable",
        Kind::Changing => "no-cache",
    };
    let unchanged = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let body = match file.data {
        _ if unchanged => Body::empty(),
        Cow::Borrowed(bytes) => Body::from(Bytes::from_static(bytes)),
        Cow::Owned(bytes) => Body::from(bytes),
    };
    let mut response = Response::new(body);
    *response.status_mut() = if unchanged { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let out = response.headers_mut();
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(lifetime));
    out.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    out.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    out.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        out.insert(header::ETAG, tag);
    }
    if let Ok(mime) = HeaderValue::from_str(content_type(name, file.metadata.mimetype())) {
        out.insert(header::CONTENT_TYPE, mime);
    }
    response
}

/// Text is UTF-8, which the table of types does not say.
fn content_type<'a>(name: &str, guessed: &'a str) -> &'a str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        _ => guessed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(method: Method, path: &str, tag: Option<&HeaderValue>) -> Response {
        let mut headers = HeaderMap::new();
        if let Some(tag) = tag {
            headers.insert(header::IF_NONE_MATCH, tag.clone());
        }
        serve(method, path.parse().unwrap(), headers).await
    }

    #[tokio::test]
    async fn pages_answer_with_the_document_and_other_paths_do_not() {
        let check = async |path: &str, status: u16, kind: &str| {
            let response = ask(Method::GET, path, None).await;
            assert_eq!(response.status().as_u16(), status, "{path}");
            let found = response.headers().get(header::CONTENT_TYPE).unwrap().to_str().unwrap();
            assert!(found.starts_with(kind), "{path}: {found}");
        };
        check("/", 200, "text/html").await;
        check("/incidents/42", 200, "text/html").await;
        check("/entity/partition/events.raw%2F3?from=now-1h", 200, "text/html").await;
        check("/explore/logs?q=%7B%7D", 200, "text/html").await;
        check("/trace/0af7", 200, "text/html").await;
        check("/index.html", 200, "text/html").await;
        check("/api/v1/nothing", 404, "text/plain").await;
        check("/api/weir/v1/incidents/x", 404, "text/plain").await;
        check("/loki/api/v1/nothing", 404, "text/plain").await;
        check("/assets/missing.js", 404, "text/plain").await;
        check("/assets/../../Cargo.toml", 404, "text/plain").await;
        check("/incidentsx", 404, "text/plain").await;
    }

    #[tokio::test]
    async fn the_document_is_asked_for_again_but_not_sent_again() {
        let first = ask(Method::GET, "/", None).await;
        assert_eq!(first.headers()[header::CACHE_CONTROL], "no-cache");
        let tag = first.headers()[header::ETAG].clone();
        assert_eq!(ask(Method::GET, "/alerts", Some(&tag)).await.status(), StatusCode::NOT_MODIFIED);
        let other = HeaderValue::from_static("\"another\"");
        assert_eq!(ask(Method::GET, "/alerts", Some(&other)).await.status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn hashed_files_are_kept_for_ever() {
        // Without a built page there are no hashed files, and nothing to keep.
        for name in Dist::iter().filter(|name| name.starts_with("assets/")) {
            let response = ask(Method::GET, &format!("/{name}"), None).await;
            assert_eq!(response.headers()[header::CACHE_CONTROL], "public, max-age=31536000, immutable", "{name}");
        }
    }

    #[tokio::test]
    async fn pages_are_read_only() {
        assert_eq!(ask(Method::POST, "/", None).await.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(ask(Method::POST, "/api/v1/nothing", None).await.status(), StatusCode::NOT_FOUND);
    }
}
