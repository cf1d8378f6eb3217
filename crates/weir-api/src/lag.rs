//! `GET /api/weir/v1/lag`: where each consumer group stands, as of the last poll.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use weir_kafka::PartitionLag;

use crate::App;
use crate::tenant::Tenant;

pub fn router() -> Router<Arc<App>> {
    Router::new().route("/api/weir/v1/lag", get(lag))
}

#[derive(Serialize)]
struct Row<'a> {
    cluster: &'a str,
    #[serde(flatten)]
    lag: &'a PartitionLag,
}

#[derive(Serialize)]
struct Body<'a> {
    partitions: Vec<Row<'a>>,
}

async fn lag(State(app): State<Arc<App>>, Tenant(tenant): Tenant) -> Response {
    let clusters = app.lag.clusters(&tenant);
    let rows = clusters.iter().flat_map(|(cluster, lags)| lags.iter().map(|lag| Row { cluster, lag }));
    Json(Body { partitions: rows.collect() }).into_response()
}
