"""Sends one trace, some metrics and two log lines with the OpenTelemetry SDK over one protocol.

    otel.py grpc|http ENDPOINT SERVICE

Prints the trace id as hexadecimal digits. Any refusal or failed export ends with status 1.
"""

import logging
import sys

from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode

protocol, endpoint, service = sys.argv[1:]

if protocol == "grpc":
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from grpc import Compression

    options = dict(endpoint=endpoint, insecure=True, compression=Compression.Gzip)
    exporters = [kind(**options) for kind in (OTLPSpanExporter, OTLPMetricExporter, OTLPLogExporter)]
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    paths = {OTLPSpanExporter: "traces", OTLPMetricExporter: "metrics", OTLPLogExporter: "logs"}
    exporters = [kind(endpoint=f"{endpoint}/v1/{path}", compression=Compression.Gzip) for kind, path in paths.items()]


class Errors(logging.Handler):
    """Collects what the SDK says about failed exports: it does not raise."""

    lines: list[str] = []

    def emit(self, record):
        self.lines.append(record.getMessage())


logging.getLogger("opentelemetry").addHandler(Errors(level=logging.WARNING))

resource = Resource.create(
    {"service.name": service, "service.version": "1.2.3", "service.instance.id": f"{service}-0"}
)
tracers = TracerProvider(resource=resource)
tracers.add_span_processor(BatchSpanProcessor(exporters[0]))
meters = MeterProvider(resource=resource, metric_readers=[PeriodicExportingMetricReader(exporters[1])])
loggers = LoggerProvider(resource=resource)
loggers.add_log_record_processor(BatchLogRecordProcessor(exporters[2]))
set_logger_provider(loggers)

meter = meters.get_meter("test")
meter.create_counter("orders", unit="{order}").add(7, {"region": "eu"})
latency = meter.create_histogram("checkout.duration", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1])
meter.create_up_down_counter("queue.depth").add(3)

app = logging.getLogger("app")
app.setLevel(logging.INFO)
app.addHandler(LoggingHandler(logger_provider=loggers))

with tracers.get_tracer("test").start_as_current_span("checkout", kind=SpanKind.SERVER) as parent:
    app.info("order accepted", extra={"order": "o-1"})
    latency.record(0.5)
    with tracers.get_tracer("test").start_as_current_span("pay", kind=SpanKind.CLIENT) as child:
        child.set_attribute("db.namespace", "payments")
        child.set_status(Status(StatusCode.ERROR, "card refused"))
        app.error("payment failed")
    print(trace.format_trace_id(parent.get_span_context().trace_id))

for provider in (tracers, meters, loggers):
    if not provider.force_flush():
        Errors.lines.append(f"{type(provider).__name__} could not flush")
    provider.shutdown()

if Errors.lines:
    sys.exit("\n".join(Errors.lines))
