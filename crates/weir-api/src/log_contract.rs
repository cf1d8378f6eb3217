//! `GET /api/weir/v1/log-contract`: which share of each service's lines carries what a line should.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Map, Value, json};
use weir_ingest::contract::CONTRACT_FIELDS;

use crate::App;
use crate::tenant::Tenant;

pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/weir/v1/log-contract", get(contract))
}

async fn contract(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Json<Value> {
    let rows = app.ingest.log_contracts().rows(app.clock.now()).into_iter().filter(|row| row.tenant == tenant);
    let services: Vec<Value> = rows
        .map(|row| {
            let counts = CONTRACT_FIELDS.into_iter().zip(row.recent.carrying);
            let carrying: Map<String, Value> = counts.map(|(name, n)| (name.to_owned(), n.into())).collect();
            json!({"namespace": row.namespace, "service": row.service, "lines": row.recent.lines, "carrying": carrying})
        })
        .collect();
    Json(json!({"fields": CONTRACT_FIELDS, "services": services}))
}
