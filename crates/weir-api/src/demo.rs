//! `/api/weir/v1/demo`: a bounded forward to the demo that started this server. Without one it answers 404.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::App;

/// A demo's answer: faults and at most some hundred pages of some lines each.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A rolling deployment is answered when it is through.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where the demo's control listens.
pub struct DemoControl {
    base_url: String,
    client: reqwest::Client,
}

impl DemoControl {
    /// `url`: `http://host:port`, without a path.
    pub fn new(url: &str) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
        Ok(Self { base_url: url.trim_end_matches('/').to_owned(), client })
    }

    async fn forward(&self, method: Method, path: &str) -> Response {
        match self.ask(method, path).await {
            Ok(response) => response,
            Err(error) => {
                let text = format!("the demo's control does not answer: {error}");
                (StatusCode::BAD_GATEWAY, Json(json!({"error": text}))).into_response()
            }
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Response, reqwest::Error> {
        let mut answer = self.client.request(method, format!("{}{path}", self.base_url)).send().await?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let text = format!("the demo's answer is larger than {ANSWER_BYTES_MAX} bytes");
                return Ok((StatusCode::BAD_GATEWAY, Json(json!({"error": text}))).into_response());
            }
            body.extend_from_slice(&chunk);
        }
        if body.is_empty() {
            return Ok(status.into_response());
        }
        Ok((status, [(header::CONTENT_TYPE, "application/json")], Bytes::from(body)).into_response())
    }
}

pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/weir/v1/demo", get(list)).route("/api/weir/v1/demo/faults/{id}/{action}", post(act))
}

async fn list(State(app): State<Arc<App>>) -> Response {
    match &app.demo {
        Some(demo) => demo.forward(Method::GET, "/demo").await,
        None => no_demo(),
    }
}

async fn act(
    State(app): State<Arc<App>>,
    Path((id, action)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let Some(demo) = &app.demo else { return no_demo() };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !id.chars().all(plain) || !matches!(action.as_str(), "break" | "heal") {
        let text = format!("`{id}/{action}` is no fault and action; POST …/faults/{{id}}/break or /heal");
        return (StatusCode::NOT_FOUND, Json(json!({"error": text}))).into_response();
    }
    let query = query.map(|q| format!("?{q}")).unwrap_or_default();
    demo.forward(Method::POST, &format!("/demo/faults/{id}/{action}{query}")).await
}

fn no_demo() -> Response {
    let text = "this server was not started by `weir demo`";
    (StatusCode::NOT_FOUND, Json(json!({"error": text}))).into_response()
}
