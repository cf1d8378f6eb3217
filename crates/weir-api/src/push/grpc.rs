//! OTLP over gRPC: the three export services.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{ExportMetricsServiceRequest, ExportMetricsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use weir_ingest::{Ingest, Protocol, SenderRef};
use weir_model::TenantId;
use weir_model::sink::WriteError;

use super::otlp::Signal;
use super::request::{Gate, causes, count};

#[derive(Clone)]
struct Services {
    ingest: Arc<Ingest>,
    gate: Gate,
}

/// All three services, to be served on HTTP/2 (4317 by custom).
pub fn router(ingest: Arc<Ingest>) -> Router {
    let message_bytes_max = ingest.limits().body_bytes_max;
    let services = Services { ingest, gate: Gate::default() };
    let traces = TraceServiceServer::new(services.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(message_bytes_max);
    let metrics = MetricsServiceServer::new(services.clone())
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(message_bytes_max);
    let logs = LogsServiceServer::new(services)
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(message_bytes_max);
    Routes::new(traces).add_service(metrics).add_service(logs).prepare().into_axum_router()
}

impl Services {
    async fn export<T: Signal>(&self, request: Request<T>) -> Result<Response<T::Response>, Status> {
        let text = |name: &str| request.metadata().get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
        let tenant = match text("x-scope-orgid") {
            "" => TenantId::anonymous(),
            name => TenantId::parse(name).map_err(|e| Status::invalid_argument(e.to_string()))?,
        };
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let address = peer.map(|ConnectInfo(peer)| peer.ip().to_string()).unwrap_or_default();
        let sender = SenderRef::new(Protocol::OtlpGrpc, address, text("user-agent"));
        let (ingest, message) = (self.ingest.clone(), request.into_inner());
        let done = self.gate.run(move || message.store(&ingest, &tenant, &sender)).await;
        match done.map_err(Status::internal)? {
            Ok(outcome) if outcome.refused.is_empty() => Ok(Response::new(T::Response::default())),
            Ok(outcome) => {
                let n = i64::try_from(count(&outcome.refused)).unwrap_or(i64::MAX);
                Ok(Response::new(T::response(n, causes(&outcome.refused))))
            }
            Err(error @ WriteError::Budget(_)) => Err(Status::resource_exhausted(error.to_string())),
            Err(error) => Err(Status::unavailable(error.to_string())),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Services {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        Services::export(self, request).await
    }
}

#[tonic::async_trait]
impl MetricsService for Services {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        Services::export(self, request).await
    }
}

#[tonic::async_trait]
impl LogsService for Services {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        Services::export(self, request).await
    }
}
