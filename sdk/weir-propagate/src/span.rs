//! Spans of producers and consumers. Source: OpenTelemetry's semantic conventions for messaging spans, and for Kafka.

use std::borrow::Cow;

use opentelemetry::trace::{Link, SpanBuilder, SpanKind, Status, TraceContextExt as _, Tracer};
use opentelemetry::{Context, KeyValue};

use crate::{ReadHeaders, WriteHeaders, extract, inject};

/// Links of one span: a larger batch names the first of its messages' traces.
const LINKS_MAX: usize = 128;

/// What spans say of a message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    system: &'static str,
    destination: &'a str,
    partition: Option<i32>,
    offset: Option<i64>,
    key: Option<&'a str>,
    group: Option<&'a str>,
    body_bytes: Option<usize>,
}

impl<'a> Message<'a> {
    /// A message of a Kafka topic.
    pub fn kafka(topic: &'a str) -> Self {
        Self::of("kafka", topic)
    }
    /// A message of another system, by its name in the conventions, such as `rabbitmq`.
    pub fn of(system: &'static str, destination: &'a str) -> Self {
        Self { system, destination, partition: None, offset: None, key: None, group: None, body_bytes: None }
    }
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }
    pub fn offset(self, offset: i64) -> Self {
        Self { offset: Some(offset), ..self }
    }
    /// Keys that tell people apart are better left out.
    pub fn key(self, key: &'a str) -> Self {
        Self { key: Some(key), ..self }
    }
    /// The consumer group that reads it.
    pub fn group(self, group: &'a str) -> Self {
        Self { group: Some(group), ..self }
    }
    pub fn body_bytes(self, bytes: usize) -> Self {
        Self { body_bytes: Some(bytes), ..self }
    }

    fn builder(&self, name: &'static str, operation: &'static str, kind: SpanKind) -> SpanBuilder {
        let own = |text: &str| -> Cow<'static, str> { Cow::Owned(text.to_owned()) };
        let mut attributes = Vec::with_capacity(9);
        attributes.push(KeyValue::new("messaging.system", self.system));
        attributes.push(KeyValue::new("messaging.operation.name", name));
        attributes.push(KeyValue::new("messaging.operation.type", operation));
        attributes.push(KeyValue::new("messaging.destination.name", own(self.destination)));
        if let Some(partition) = self.partition {
            attributes.push(KeyValue::new("messaging.destination.partition.id", partition.to_string()));
        }
        if let Some(offset) = self.offset {
            attributes.push(KeyValue::new("messaging.kafka.offset", offset));
        }
        if let Some(key) = self.key {
            attributes.push(KeyValue::new("messaging.kafka.message.key", own(key)));
        }
        if let Some(group) = self.group {
            attributes.push(KeyValue::new("messaging.consumer.group.name", own(group)));
        }
        if let Some(bytes) = self.body_bytes {
            attributes.push(KeyValue::new("messaging.message.body.size", i64::try_from(bytes).unwrap_or(i64::MAX)));
        }
        let title = format!("{name} {}", self.destination);
        SpanBuilder::from_name(title).with_kind(kind).with_attributes(attributes)
    }
}

fn start<T: Tracer>(tracer: &T, builder: SpanBuilder, parent: &Context) -> Context
where
    T::Span: Send + Sync + 'static,
{
    parent.with_span(tracer.build_with_context(builder, parent))
}

/// Opens a producer's span below `parent` and writes it into the headers. It ends with `context.span().end()`, when the
/// broker has the message.
pub fn send<T: Tracer>(tracer: &T, parent: &Context, message: &Message<'_>, headers: &mut impl WriteHeaders) -> Context
where
    T::Span: Send + Sync + 'static,
{
    let context = start(tracer, message.builder("send", "send", SpanKind::Producer), parent);
    inject(&context, headers);
    context
}

/// Opens a consumer's span for one message, below the span of its producer, with the producer's baggage.
pub fn process<T: Tracer>(tracer: &T, headers: &(impl ReadHeaders + ?Sized), message: &Message<'_>) -> Context
where
    T::Span: Send + Sync + 'static,
{
    start(tracer, message.builder("process", "process", SpanKind::Consumer), &extract(headers))
}

/// Opens a consumer's span for messages that are processed together, below `parent`. A span has one parent and they
/// have many producers, so that each is a link, with the partition and offset of its message where these are given.
pub fn process_batch<'m, T: Tracer, H: ReadHeaders + ?Sized + 'm>(
    tracer: &T,
    parent: &Context,
    batch: &Message<'_>,
    messages: impl IntoIterator<Item = (&'m H, Option<(i32, i64)>)>,
) -> Context
where
    T::Span: Send + Sync + 'static,
{
    many(tracer, parent, batch, ("process", "process"), messages)
}

/// The same for messages that are fetched together and processed one by one later.
pub fn receive<'m, T: Tracer, H: ReadHeaders + ?Sized + 'm>(
    tracer: &T,
    parent: &Context,
    batch: &Message<'_>,
    messages: impl IntoIterator<Item = (&'m H, Option<(i32, i64)>)>,
) -> Context
where
    T::Span: Send + Sync + 'static,
{
    many(tracer, parent, batch, ("poll", "receive"), messages)
}

fn many<'m, T: Tracer, H: ReadHeaders + ?Sized + 'm>(
    tracer: &T,
    parent: &Context,
    batch: &Message<'_>,
    (name, operation): (&'static str, &'static str),
    messages: impl IntoIterator<Item = (&'m H, Option<(i32, i64)>)>,
) -> Context
where
    T::Span: Send + Sync + 'static,
{
    let (mut links, mut n) = (Vec::new(), 0i64);
    for (headers, place) in messages {
        n += 1;
        if links.len() >= LINKS_MAX {
            continue;
        }
        let producer = extract(headers);
        let span = producer.span().span_context().clone();
        if !span.is_valid() {
            continue;
        }
        let attributes = place.map(|(partition, offset)| {
            vec![
                KeyValue::new("messaging.destination.partition.id", partition.to_string()),
                KeyValue::new("messaging.kafka.offset", offset),
            ]
        });
        links.push(Link::new(span, attributes.unwrap_or_default(), 0));
    }
    let kind = if operation == "receive" { SpanKind::Client } else { SpanKind::Consumer };
    let builder = batch.builder(name, operation, kind).with_links(links);
    let context = start(tracer, builder, parent);
    context.span().set_attribute(KeyValue::new("messaging.batch.message_count", n));
    context
}

/// Marks the span of a context as failed, with a class of errors that is bounded, such as `timeout`.
pub fn failed(context: &Context, kind: &'static str, message: impl Into<Cow<'static, str>>) {
    let span = context.span();
    span.set_attribute(KeyValue::new("error.type", kind));
    span.set_status(Status::error(message));
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::baggage::BaggageExt as _;
    use opentelemetry::trace::{SpanId, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};

    use super::*;

    /// Spans that have ended.
    #[derive(Clone, Debug, Default)]
    struct Ended(Arc<Mutex<Vec<SpanData>>>);

    impl SpanExporter for Ended {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    fn provider() -> (SdkTracerProvider, Ended) {
        let ended = Ended::default();
        (SdkTracerProvider::builder().with_simple_exporter(ended.clone()).build(), ended)
    }

    fn attribute(span: &SpanData, name: &str) -> String {
        span.attributes.iter().find(|kv| kv.key.as_str() == name).map(|kv| kv.value.to_string()).unwrap_or_default()
    }

    #[test]
    fn an_event_is_one_trace_with_its_baggage() {
        let (provider, ended) = provider();
        let tracer = provider.tracer("test");
        let parent = Context::new().with_baggage([KeyValue::new("match", "m 42")]);
        let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
        let sending = send(&tracer, &parent, &Message::kafka("goals").key("m"), &mut headers);
        sending.span().end();
        let message = Message::kafka("goals").partition(3).offset(17).group("board").body_bytes(9);
        let processing = process(&tracer, &headers, &message);
        assert_eq!(processing.baggage().get("match").map(ToString::to_string), Some("m 42".to_owned()));
        failed(&processing, "timeout", "no answer");
        processing.span().end();
        let spans = ended.0.lock().unwrap().clone();
        let [producer, consumer] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((&*producer.name, &producer.span_kind), ("send goals", &SpanKind::Producer));
        assert_eq!((&*consumer.name, &consumer.span_kind), ("process goals", &SpanKind::Consumer));
        assert_eq!(consumer.span_context.trace_id(), producer.span_context.trace_id());
        assert_eq!(consumer.parent_span_id, producer.span_context.span_id());
        assert!(consumer.parent_span_is_remote);
        for (name, want) in [
            ("messaging.system", "kafka"),
            ("messaging.operation.type", "process"),
            ("messaging.destination.name", "goals"),
            ("messaging.destination.partition.id", "3"),
            ("messaging.kafka.offset", "17"),
            ("messaging.consumer.group.name", "board"),
            ("messaging.message.body.size", "9"),
            ("error.type", "timeout"),
        ] {
            assert_eq!(attribute(consumer, name), want, "{name}");
        }
        assert_eq!(attribute(producer, "messaging.kafka.message.key"), "m");
    }

    #[test]
    fn a_batch_links_its_producers_and_a_bare_message_starts_a_trace() {
        let (provider, ended) = provider();
        let tracer = provider.tracer("test");
        let mut all: Vec<Vec<(String, Vec<u8>)>> = Vec::new();
        let mut producers: Vec<SpanId> = Vec::new();
        for _ in 0..3 {
            let mut headers = Vec::new();
            let sending = send(&tracer, &Context::new(), &Message::kafka("goals"), &mut headers);
            producers.push(sending.span().span_context().span_id());
            sending.span().end();
            all.push(headers);
        }
        all.push(Vec::new());
        let batch = Message::kafka("goals").group("board");
        let messages = all.iter().zip(0..).map(|(headers, k)| (headers, Some((0, k))));
        process_batch(&tracer, &Context::new(), &batch, messages).span().end();
        process(&tracer, &all[3], &batch).span().end();
        let spans = ended.0.lock().unwrap().clone();
        let (together, alone) = (&spans[3], &spans[4]);
        let linked: Vec<SpanId> = together.links.iter().map(|link| link.span_context.span_id()).collect();
        assert_eq!(linked, producers);
        assert_eq!(attribute(together, "messaging.batch.message_count"), "4");
        assert_eq!(together.links.iter().last().unwrap().attributes[1].value.to_string(), "2");
        assert_eq!(alone.parent_span_id, SpanId::INVALID);
    }
}
