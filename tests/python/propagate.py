"""The middle of a pipeline, with the OpenTelemetry SDK: consumes `goals` one by one and together, produces `scores`.

    propagate.py [ENDPOINT]

Reads the headers of the consumed messages as JSON, lists of names and texts; prints the headers of what it produced, and the
baggage that came with the first message.
"""

import json
import sys

from opentelemetry import baggage, context, propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanKind


class Headers(Getter, Setter):
    def get(self, carrier, key):
        found = [value.decode() for name, value in carrier or [] if name == key and value is not None]
        return found[-1:] or None

    def keys(self, carrier):
        return [name for name, _ in carrier or []]

    def set(self, carrier, key, value):
        carrier.append((key, value.encode()))


HEADERS = Headers()


def attributes(operation, topic, **more):
    return {"messaging.system": "kafka", "messaging.operation.name": operation, "messaging.operation.type": operation,
            "messaging.destination.name": topic, **more}


provider = TracerProvider(resource=Resource.create({"service.name": "scorer"}))
if len(sys.argv) > 1:
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=f"{sys.argv[1]}/v1/traces")))
tracer = provider.get_tracer("scorer")

messages = [[(name, value.encode()) for name, value in headers] for headers in json.load(sys.stdin)]
produced = []
first = propagate.extract(messages[0], getter=HEADERS)
# Attached, so that its baggage goes on too.
token = context.attach(first)
with tracer.start_as_current_span("process goals", kind=SpanKind.CONSUMER, attributes=attributes("process", "goals")):
    with tracer.start_as_current_span("send scores", kind=SpanKind.PRODUCER, attributes=attributes("send", "scores")):
        propagate.inject(produced, setter=HEADERS)
context.detach(token)
spans = [trace.get_current_span(propagate.extract(headers, getter=HEADERS)).get_span_context() for headers in messages]
links = [Link(span) for span in spans if span.is_valid]
counted = {"messaging.batch.message_count": len(messages)}
with tracer.start_as_current_span(
    "process all goals", kind=SpanKind.CONSUMER, links=links, attributes=attributes("process", "goals", **counted)
):
    pass
provider.shutdown()
print(json.dumps([[[name, value.decode()] for name, value in produced], baggage.get_baggage("match", first)]))
