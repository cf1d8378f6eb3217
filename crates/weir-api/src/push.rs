//! The ways in: remote write, OTLP over HTTP and gRPC, Loki push, Elasticsearch's bulk, the Pushgateway's groups.
//!
//! Every handler reads a bounded body, decodes it off the async threads when it is large, and hands
//! it to `weir_ingest::Ingest`. Malformed bodies count at their sender and are answered with a text
//! that names the place.

mod elastic;
mod gateway;
mod grpc;
mod loki;
mod otlp;
mod remote_write;
mod request;

pub use grpc::router as grpc_router;

use std::sync::Arc;

use axum::routing::{get, post};
use axum::{Extension, Router};

use crate::App;
use request::Gate;

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/write", post(remote_write::write))
        .route("/api/v1/push", post(remote_write::write))
        .route("/v1/traces", post(otlp::traces))
        .route("/v1/metrics", post(otlp::metrics))
        .route("/v1/logs", post(otlp::logs))
        .route("/api/v1/otlp/v1/metrics", post(otlp::metrics))
        .route("/otlp/v1/logs", post(otlp::loki_logs))
        .route("/loki/api/v1/push", post(loki::push))
        .route("/api/prom/push", post(loki::push))
        .route("/metrics/{*group}", post(gateway::merge).put(gateway::replace).delete(gateway::delete))
        .route("/_bulk", post(elastic::bulk).put(elastic::bulk))
        .route("/elasticsearch", get(elastic::info))
        .route("/elasticsearch/", get(elastic::info))
        .route("/elasticsearch/_cluster/health", get(elastic::health))
        .route("/elasticsearch/_license", get(elastic::license))
        .route("/elasticsearch/_bulk", post(elastic::bulk).put(elastic::bulk))
        .route("/elasticsearch/{index}/_bulk", post(elastic::bulk_index).put(elastic::bulk_index))
        .layer(Extension(Gate::default()))
}
