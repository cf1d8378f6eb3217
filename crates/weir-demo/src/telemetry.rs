//! Spans of one process: the OpenTelemetry SDK with its OTLP gRPC batch exporter, and the attributes we set.

use std::time::Duration;

use opentelemetry::trace::{SpanBuilder, SpanKind, TraceContextExt, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};

use crate::topology::Assignment;

/// A tracer whose spans are exported every half second, so that a diagnosis sees fresh ones.
#[derive(Clone)]
pub struct Telemetry {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot make an OTLP exporter for {endpoint}")]
pub struct TelemetryError {
    endpoint: String,
    source: opentelemetry_otlp::ExporterBuildError,
}

impl Telemetry {
    /// Needs a running Tokio runtime: the exporter's connection lives on it.
    pub fn start(assignment: &Assignment) -> Result<Self, TelemetryError> {
        let topology = &assignment.topology;
        let resource = Resource::builder_empty()
            .with_service_name(assignment.service().to_owned())
            .with_attributes([
                KeyValue::new("service.version", assignment.version.clone()),
                KeyValue::new("service.namespace", topology.names.namespace.clone()),
                KeyValue::new("service.instance.id", assignment.instance.pod.clone()),
                KeyValue::new("deployment.environment.name", topology.names.environment.clone()),
                KeyValue::new("k8s.namespace.name", topology.names.namespace.clone()),
                KeyValue::new("k8s.pod.name", assignment.instance.pod.clone()),
                KeyValue::new("telemetry.sdk.language", "rust"),
            ])
            .build();
        let root = Sampler::TraceIdRatioBased(topology.trace_ratio);
        let mut builder =
            SdkTracerProvider::builder().with_resource(resource).with_sampler(Sampler::ParentBased(Box::new(root)));
        if let Some(endpoint) = &topology.otlp {
            let exporter = SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint.clone())
                .with_timeout(Duration::from_secs(5))
                .build()
                .map_err(|source| TelemetryError { endpoint: endpoint.clone(), source })?;
            // A drained backlog makes thousands of spans a second; the queue holds some seconds of them.
            let config = BatchConfigBuilder::default()
                .with_max_queue_size(16_384)
                .with_max_export_batch_size(1024)
                .with_scheduled_delay(Duration::from_millis(500))
                .build();
            let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
            builder = builder.with_span_processor(processor);
        }
        let provider = builder.build();
        let tracer = provider.tracer("weir-demo");
        Ok(Self { provider, tracer })
    }

    /// Starts a span under `parent` and gives the context that holds it.
    pub fn start_span(&self, name: String, kind: SpanKind, attributes: Vec<KeyValue>, parent: &Context) -> Context {
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes);
        parent.with_span(self.tracer.build_with_context(builder, parent))
    }

    /// Exports what is queued. Blocks for up to some seconds.
    pub fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(Duration::from_secs(2)) {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}

/// Attributes of the messaging conventions that every span on a topic has.
pub fn messaging(topic: &str, operation: &'static str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "kafka"),
        KeyValue::new("messaging.destination.name", topic.to_owned()),
        KeyValue::new("messaging.operation.type", operation),
    ]
}

/// Where in the topic the record stands.
pub fn position(partition: i32, offset: i64) -> [KeyValue; 2] {
    [
        KeyValue::new("messaging.destination.partition.id", partition.to_string()),
        KeyValue::new("messaging.kafka.offset", offset),
    ]
}
