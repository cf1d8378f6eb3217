//! `GET /api/weir/v1/runbooks/{pack}` and `/{pack}/{alert}`: what to do when a shipped alert fires.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use weir_rules::pack::Pack;

use crate::App;
use crate::diagnose::ApiError;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/weir/v1/runbooks/{pack}", get(whole))
        .route("/api/weir/v1/runbooks/{pack}/{alert}", get(section))
}

fn pack(name: &str) -> Result<&'static Pack, ApiError> {
    Pack::named(name).ok_or_else(|| ApiError::not_found(format!("no pack `{name}`; `weir rules` lists them")))
}

/// Markdown, shown by a browser as it stands.
fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

async fn whole(Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(text(pack(&name)?.runbook.to_owned()))
}

async fn section(Path((name, alert)): Path<(String, String)>) -> Result<Response, ApiError> {
    let section = pack(&name)?.runbook_of(&alert);
    let section = section.ok_or_else(|| ApiError::not_found(format!("pack `{name}` has no alert `{alert}`")))?;
    Ok(text(format!("# {section}\n")))
}
