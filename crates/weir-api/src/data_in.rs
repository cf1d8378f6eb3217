//! weir's own API about what comes in: senders, usage, entities, and the state of the program.
//!
//! Contract: `docs/api.md`.

mod entities;
mod golden;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use weir_ingest::{Protocol, SenderRow};
use weir_model::Budget;
use weir_model::usage::{Amount, Signal};

use crate::App;
use crate::tenant::Tenant;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/weir/v1/senders", get(senders))
        .route("/api/weir/v1/usage", get(usage))
        .route("/api/weir/v1/status", get(status))
        .route("/api/weir/v1/entities", get(entities::list))
        // Names of partitions and of some databases hold slashes.
        .route("/api/weir/v1/entities/{kind}/{*name}", get(entities::one))
}

fn error(status: StatusCode, text: impl Into<String>) -> Response {
    (status, Json(serde_json::json!({ "error": text.into() }))).into_response()
}

#[derive(Serialize)]
struct SenderJson {
    id: String,
    protocol: Protocol,
    address: String,
    user_agent: String,
    tenant: String,
    last_seen: String,
    accepted: Amount,
    refused: Vec<RefusedJson>,
}

#[derive(Serialize)]
struct RefusedJson {
    reason: &'static str,
    count: u64,
    last_example: String,
    last_at: String,
}

impl From<SenderRow> for SenderJson {
    fn from(row: SenderRow) -> Self {
        let refused = row.refused.into_iter().map(|r| RefusedJson {
            reason: r.reason.as_str(),
            count: r.count,
            last_example: r.last_example,
            last_at: r.last_at.rfc3339(),
        });
        Self {
            id: row.id,
            protocol: row.sender.protocol,
            address: row.sender.address,
            user_agent: row.sender.user_agent,
            tenant: row.tenant.to_string(),
            last_seen: row.last_seen.rfc3339(),
            accepted: row.accepted,
            refused: refused.collect(),
        }
    }
}

async fn senders(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Response {
    let rows: Vec<SenderJson> = app.ingest.senders().rows(&tenant).into_iter().map(Into::into).collect();
    Json(serde_json::json!({ "senders": rows })).into_response()
}

#[derive(Serialize)]
struct UsageJson {
    signal: Signal,
    tenant: String,
    namespace: String,
    service: String,
    items: u64,
    bytes: u64,
}

/// Only the rows of the tenant that asks.
async fn usage(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Response {
    let rows = app.usage.rows().into_iter().filter(|(key, _)| key.tenant == tenant.as_str());
    let rows: Vec<UsageJson> = rows
        .map(|(key, amount)| UsageJson {
            signal: key.signal,
            tenant: key.tenant,
            namespace: key.namespace,
            service: key.service,
            items: amount.items,
            bytes: amount.bytes,
        })
        .collect();
    Json(serde_json::json!({ "rows": rows })).into_response()
}

#[derive(Serialize)]
struct BudgetJson<'a> {
    account: &'a str,
    used_bytes: u64,
    limit_bytes: u64,
}

impl<'a> From<&'a Budget> for BudgetJson<'a> {
    fn from(budget: &'a Budget) -> Self {
        Self { account: budget.name(), used_bytes: budget.used_bytes(), limit_bytes: budget.limit_bytes() }
    }
}

async fn status(State(app): State<Arc<App>>) -> Response {
    let budgets: Vec<BudgetJson<'_>> = app.budgets.iter().map(Into::into).collect();
    Json(serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": app.started_at.rfc3339(),
        "now": app.clock.now().rfc3339(),
        "storage": { "metrics": "disk", "logs": "disk", "traces": "disk" },
        "external_url": app.external_url,
        "demo": app.demo.is_some(),
        "budgets": budgets,
    }))
    .into_response()
}
