//! Spans straight from the bytes of a request: the protobuf is walked, texts that repeat (names, services, most
//! values) are shared, and so are resources and scopes, within a request and from one request to the next.
//!
//! It makes of a body what the generated types and [`super::convert_traces`] make of it; the tests compare. It
//! refuses groups, which OTLP never had.

use std::sync::Arc;

use parking_lot::Mutex;
use weir_model::sink::RefusedReason;
use weir_model::span::Attributes;
use weir_model::{AttrValue, Nanos, Resource, Scope, Span, SpanEvent, SpanId, SpanLink, SpanStatus, TraceId};

use super::common::{DEPTH_MAX, nanos};
use super::shared::{Known, Texts};
use super::traces::{kind, span_id, status_code, trace_id};
use crate::proto::{Message, Value};
use crate::{DecodeError, Decoded};

type Read<T> = Result<T, DecodeError>;

/// What spans of many requests have in common: one table for each request that is decoded at the same time.
#[derive(Default)]
pub struct SpanCache {
    free: Mutex<Vec<Shared>>,
}

#[derive(Default)]
struct Shared {
    texts: Texts,
    resources: Known<Resource>,
    scopes: Known<Scope>,
}

/// `ExportTraceServiceRequest`. A span without valid ids is refused, the others are kept.
pub fn decode_spans(body: &[u8], cache: &SpanCache) -> Read<Decoded<Vec<Arc<Span>>>> {
    let mut shared = cache.free.lock().pop().unwrap_or_default();
    let mut out = Decoded::default();
    let read = each(Message::new("OTLP protobuf", body), |field, value, at| match field {
        1 => resource_spans(message(value, at)?, &mut shared, &mut out),
        _ => Ok(()),
    });
    cache.free.lock().push(shared);
    read.map(|()| out)
}

/// Calls `read` with the number and the value of each field.
fn each<'a>(mut message: Message<'a>, mut read: impl FnMut(u64, Value<'a>, &Message<'a>) -> Read<()>) -> Read<()> {
    while let Some((field, value)) = message.field()? {
        read(field, value, &message)?;
    }
    Ok(())
}

fn wrong_type(at: &Message<'_>) -> DecodeError {
    at.error("a field has the wrong wire type")
}
fn message<'a>(value: Value<'a>, at: &Message<'_>) -> Read<Message<'a>> {
    if let Value::Bytes(message) = value { Ok(message) } else { Err(wrong_type(at)) }
}
fn varint(value: Value<'_>, at: &Message<'_>) -> Read<u64> {
    if let Value::Varint(value) = value { Ok(value) } else { Err(wrong_type(at)) }
}
fn fixed64(value: Value<'_>, at: &Message<'_>) -> Read<u64> {
    if let Value::Fixed64(value) = value { Ok(value) } else { Err(wrong_type(at)) }
}
fn text(value: Value<'_>, at: &Message<'_>, texts: &mut Texts) -> Read<Arc<str>> {
    texts.of(message(value, at)?.bytes()).map_err(|_| at.error("a text is not UTF-8"))
}

fn resource_spans(body: Message<'_>, shared: &mut Shared, out: &mut Decoded<Vec<Arc<Span>>>) -> Read<()> {
    let (mut own, mut scopes) = (Vec::new(), Vec::new());
    each(body, |field, value, at| {
        match field {
            1 => own.push(message(value, at)?),
            2 => scopes.push(message(value, at)?),
            // The schema's address is a text too.
            3 => drop(text(value, at, &mut shared.texts)?),
            _ => {}
        }
        Ok(())
    })?;
    let Shared { texts, resources, .. } = shared;
    let resource = of_parts(&own, resources, |part, whole| resource_part(part, whole, texts))?;
    scopes.into_iter().try_for_each(|scope| scope_spans(scope, &resource, shared, out))
}

/// A message that came in these parts, mostly one: later parts add to the earlier, as protobuf has it.
fn of_parts<T: Default>(
    parts: &[Message<'_>],
    known: &mut Known<T>,
    mut add: impl FnMut(Message<'_>, &mut T) -> Read<()>,
) -> Read<Arc<T>> {
    let mut whole = || {
        let mut whole = T::default();
        parts.iter().try_for_each(|part| add(*part, &mut whole))?;
        Ok(whole)
    };
    match parts {
        [one] => known.of(one.bytes(), whole),
        _ => whole().map(Arc::new),
    }
}

fn resource_part(part: Message<'_>, resource: &mut Resource, texts: &mut Texts) -> Read<()> {
    each(part, |field, value, at| match field {
        1 => key_value(message(value, at)?, 0, texts, &mut resource.attributes),
        2 => varint(value, at).map(drop),
        _ => Ok(()),
    })
}

fn scope_part(part: Message<'_>, scope: &mut Scope, texts: &mut Texts) -> Read<()> {
    each(part, |field, value, at| {
        match field {
            1 => scope.name = text(value, at, texts)?,
            2 => scope.version = text(value, at, texts)?,
            3 => key_value(message(value, at)?, 0, texts, &mut scope.attributes)?,
            4 => drop(varint(value, at)?),
            _ => {}
        }
        Ok(())
    })
}

fn scope_spans(
    body: Message<'_>,
    resource: &Arc<Resource>,
    shared: &mut Shared,
    out: &mut Decoded<Vec<Arc<Span>>>,
) -> Read<()> {
    let (mut own, mut spans) = (Vec::new(), Vec::new());
    each(body, |field, value, at| {
        match field {
            1 => own.push(message(value, at)?),
            2 => spans.push(message(value, at)?),
            3 => drop(text(value, at, &mut shared.texts)?),
            _ => {}
        }
        Ok(())
    })?;
    let Shared { texts, scopes, .. } = shared;
    let scope = of_parts(&own, scopes, |part, whole| scope_part(part, whole, texts))?;
    out.batch.reserve(spans.len());
    let mut attributes = Attributes::new();
    for body in spans {
        match span(body, resource, &scope, texts, &mut attributes)? {
            Ok(span) => out.batch.push(Arc::new(span)),
            Err(text) => out.refuse(RefusedReason::Malformed, 1, || format!("{}: {text}", resource.service())),
        }
    }
    Ok(())
}

/// The ids of a span as they came.
#[derive(Default)]
struct Ids<'a> {
    trace: &'a [u8],
    span: &'a [u8],
    parent: &'a [u8],
}

impl Ids<'_> {
    /// Into the span, or what is wrong with them.
    fn check(&self, span: &mut Span) -> Result<(), String> {
        let bad = |what: &str, bytes: &[u8]| {
            format!("span `{}`: {what} `{}`", span.name, hex::encode(&bytes[..bytes.len().min(40)]))
        };
        let trace = trace_id(self.trace).ok_or_else(|| bad("trace id is not 16 bytes, not all zero:", self.trace))?;
        let id = span_id(self.span).ok_or_else(|| bad("span id is not 8 bytes, not all zero:", self.span))?;
        let parent = match self.parent {
            [] => None,
            bytes if bytes.len() == 8 => span_id(bytes),
            bytes => return Err(bad("parent span id is not 8 bytes:", bytes)),
        };
        (span.trace_id, span.span_id, span.parent) = (trace, id, parent);
        Ok(())
    }
}

/// `attributes`: empty, before and after.
fn span(
    body: Message<'_>,
    resource: &Arc<Resource>,
    scope: &Arc<Scope>,
    texts: &mut Texts,
    attributes: &mut Attributes,
) -> Read<Result<Span, String>> {
    let mut ids = Ids::default();
    let mut span = Span {
        trace_id: TraceId::default(),
        span_id: SpanId::default(),
        parent: None,
        name: texts.empty(),
        kind: kind(0),
        start: Nanos(0),
        end: Nanos(0),
        status: SpanStatus { code: status_code(0), message: texts.empty() },
        attributes: Attributes::new(),
        events: Vec::new(),
        links: Vec::new(),
        trace_state: texts.empty(),
        flags: 0,
        resource: resource.clone(),
        scope: scope.clone(),
    };
    each(body, |field, value, at| {
        match field {
            1 => ids.trace = message(value, at)?.bytes(),
            2 => ids.span = message(value, at)?.bytes(),
            3 => span.trace_state = text(value, at, texts)?,
            4 => ids.parent = message(value, at)?.bytes(),
            5 => span.name = text(value, at, texts)?,
            6 => span.kind = kind(varint(value, at)? as i32),
            7 => span.start = nanos(fixed64(value, at)?),
            8 => span.end = nanos(fixed64(value, at)?),
            9 => key_value(message(value, at)?, 0, texts, attributes)?,
            10 | 12 | 14 => drop(varint(value, at)?),
            11 => span.events.push(event(message(value, at)?, texts)?),
            13 => span.links.extend(link(message(value, at)?, texts)?),
            15 => status(message(value, at)?, &mut span.status, texts)?,
            16 => span.flags = flags(value, at)?,
            _ => {}
        }
        Ok(())
    })?;
    // A span that ends before it starts (clock steps) counts as a point.
    span.end = span.end.max(span.start);
    // Spans are kept for a while: their attributes take the room they need.
    span.attributes.reserve_exact(attributes.len());
    span.attributes.append(attributes);
    Ok(ids.check(&mut span).map(|()| span))
}

fn flags(value: Value<'_>, at: &Message<'_>) -> Read<u32> {
    if let Value::Fixed32(value) = value { Ok(value) } else { Err(wrong_type(at)) }
}

fn status(body: Message<'_>, status: &mut SpanStatus, texts: &mut Texts) -> Read<()> {
    each(body, |field, value, at| {
        match field {
            2 => status.message = text(value, at, texts)?,
            3 => status.code = status_code(varint(value, at)? as i32),
            _ => {}
        }
        Ok(())
    })
}

fn event(body: Message<'_>, texts: &mut Texts) -> Read<SpanEvent> {
    let mut event = SpanEvent { at: Nanos(0), name: texts.empty(), attributes: Attributes::new() };
    each(body, |field, value, at| {
        match field {
            1 => event.at = nanos(fixed64(value, at)?),
            2 => event.name = text(value, at, texts)?,
            3 => key_value(message(value, at)?, 0, texts, &mut event.attributes)?,
            4 => drop(varint(value, at)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(event)
}

/// `None` without valid ids.
fn link(body: Message<'_>, texts: &mut Texts) -> Read<Option<SpanLink>> {
    let (mut trace, mut span): (&[u8], &[u8]) = (&[], &[]);
    let (mut trace_state, mut attributes) = (texts.empty(), Attributes::new());
    each(body, |field, value, at| {
        match field {
            1 => trace = message(value, at)?.bytes(),
            2 => span = message(value, at)?.bytes(),
            3 => trace_state = text(value, at, texts)?,
            4 => key_value(message(value, at)?, 0, texts, &mut attributes)?,
            5 => drop(varint(value, at)?),
            6 => drop(flags(value, at)?),
            _ => {}
        }
        Ok(())
    })?;
    let ids = trace_id(trace).zip(span_id(span));
    Ok(ids.map(|(trace_id, span_id)| SpanLink { trace_id, span_id, trace_state, attributes }))
}

/// Adds the attribute, if it has a value.
fn key_value(body: Message<'_>, depth: usize, texts: &mut Texts, out: &mut Attributes) -> Read<()> {
    let (mut key, mut found) = (texts.empty(), None);
    each(body, |field, value, at| {
        match field {
            1 => key = text(value, at, texts)?,
            2 => found = any_value(message(value, at)?, depth, texts)?,
            _ => {}
        }
        Ok(())
    })?;
    out.extend(found.map(|value| (key, value)));
    Ok(())
}

/// `None` for none, and for what is nested too deeply.
fn any_value(body: Message<'_>, depth: usize, texts: &mut Texts) -> Read<Option<AttrValue>> {
    if depth > DEPTH_MAX {
        return Ok(None);
    }
    let mut found = None;
    each(body, |field, value, at| {
        found = Some(match field {
            1 => AttrValue::Str(text(value, at, texts)?),
            2 => AttrValue::Bool(varint(value, at)? != 0),
            3 => AttrValue::Int(varint(value, at)? as i64),
            4 => AttrValue::Double(f64::from_bits(fixed64(value, at)?)),
            5 => AttrValue::Array(array(message(value, at)?, depth + 1, texts)?),
            6 => AttrValue::Map(map(message(value, at)?, depth + 1, texts)?),
            7 => AttrValue::Bytes(message(value, at)?.bytes().into()),
            _ => return Ok(()),
        });
        Ok(())
    })?;
    Ok(found)
}

fn array(body: Message<'_>, depth: usize, texts: &mut Texts) -> Read<Vec<AttrValue>> {
    let mut items = Vec::new();
    each(body, |field, value, at| {
        if field == 1 {
            items.extend(any_value(message(value, at)?, depth, texts)?);
        }
        Ok(())
    })?;
    Ok(items)
}

fn map(body: Message<'_>, depth: usize, texts: &mut Texts) -> Read<Attributes> {
    let mut entries = Attributes::new();
    each(body, |field, value, at| {
        if field == 1 {
            key_value(message(value, at)?, depth, texts, &mut entries)?;
        }
        Ok(())
    })?;
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::{
        AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value as Any,
    };
    use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
    use opentelemetry_proto::tonic::trace::v1::{self as proto, ResourceSpans, ScopeSpans};
    use proptest::prelude::*;
    use prost::Message as _;

    use crate::otlp::{Format, convert_traces, decode};

    fn any_of(depth: u32) -> impl Strategy<Value = Option<AnyValue>> {
        let leaf = prop_oneof![
            Just(None),
            Just(Some(AnyValue { value: None })),
            prop_oneof![
                "[a-c]{0,3}|\\PC{0,70}".prop_map(Any::StringValue),
                any::<bool>().prop_map(Any::BoolValue),
                any::<i64>().prop_map(Any::IntValue),
                (-9.0..9.0).prop_map(Any::DoubleValue),
                prop::collection::vec(any::<u8>(), 0..4).prop_map(Any::BytesValue),
            ]
            .prop_map(|value| Some(AnyValue { value: Some(value) })),
        ];
        leaf.prop_recursive(depth, 8, 3, |inner| {
            let entry = ("[a-c]{0,2}", inner.clone()).prop_map(|(key, value)| pair(key, value));
            let array = prop::collection::vec(inner, 0..3)
                .prop_map(|v| Any::ArrayValue(ArrayValue { values: v.into_iter().flatten().collect() }));
            let map = prop::collection::vec(entry, 0..3).prop_map(|values| Any::KvlistValue(KeyValueList { values }));
            prop_oneof![array, map].prop_map(|value| Some(AnyValue { value: Some(value) }))
        })
    }

    fn pair(key: String, value: Option<AnyValue>) -> KeyValue {
        KeyValue { key, value, ..KeyValue::default() }
    }

    fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
        prop::collection::vec(("[a-c]{0,2}", any_of(2)).prop_map(|(key, value)| pair(key, value)), 0..4)
    }

    fn id(bytes: usize) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            8 => prop::collection::vec(any::<u8>(), bytes),
            1 => Just(vec![0; bytes]),
            1 => prop::collection::vec(any::<u8>(), 0..20),
        ]
    }

    fn any_span() -> impl Strategy<Value = proto::Span> {
        let event = (any::<u64>(), "[ab]{0,2}", attributes()).prop_map(|(time_unix_nano, name, attributes)| {
            proto::span::Event { time_unix_nano, name, attributes, dropped_attributes_count: 1 }
        });
        let link =
            (id(16), id(8), "[ab]{0,2}", attributes()).prop_map(|(trace_id, span_id, trace_state, attributes)| {
                proto::span::Link { trace_id, span_id, trace_state, attributes, dropped_attributes_count: 2, flags: 3 }
            });
        let status = prop::option::of(("[ab]{0,3}", -1..5).prop_map(|(message, code)| proto::Status { message, code }));
        let more = (prop::collection::vec(event, 0..3), prop::collection::vec(link, 0..3), status, any::<u32>());
        let first = (id(16), id(8), id(8), "[ab]{0,3}", -1..7, any::<(u64, u32)>(), attributes());
        (first, more).prop_map(
            |(
                (trace_id, span_id, parent_span_id, name, kind, (start, took), attributes),
                (events, links, status, flags),
            )| {
                proto::Span {
                    trace_id,
                    span_id,
                    parent_span_id,
                    trace_state: name.clone(),
                    name,
                    kind,
                    start_time_unix_nano: start,
                    end_time_unix_nano: start.wrapping_add(took.into()),
                    attributes,
                    events,
                    links,
                    status,
                    flags,
                    dropped_events_count: 7,
                    ..proto::Span::default()
                }
            },
        )
    }

    fn any_request() -> impl Strategy<Value = ExportTraceServiceRequest> {
        let scope = prop::option::of(("[ab]{0,2}", attributes()).prop_map(|(name, attributes)| InstrumentationScope {
            version: name.clone(),
            name,
            attributes,
            dropped_attributes_count: 1,
        }));
        let scopes = (scope, prop::collection::vec(any_span(), 0..4)).prop_map(|(scope, spans)| ScopeSpans {
            scope,
            spans,
            schema_url: "s".to_owned(),
        });
        let resource = prop::option::of(
            attributes().prop_map(|attributes| ProtoResource { attributes, ..ProtoResource::default() }),
        );
        let group = (resource, prop::collection::vec(scopes, 0..3)).prop_map(|(resource, scope_spans)| ResourceSpans {
            resource,
            scope_spans,
            schema_url: String::new(),
        });
        prop::collection::vec(group, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
    }

    fn generated(body: &[u8]) -> Read<Decoded<Vec<Arc<Span>>>> {
        decode::<ExportTraceServiceRequest>(Format::Protobuf, body).map(convert_traces)
    }

    #[test]
    fn a_resource_in_two_parts_behind_its_spans_is_one() {
        let part = |key: &str| ProtoResource {
            attributes: vec![pair(key.to_owned(), Some(AnyValue { value: Some(Any::IntValue(1)) }))],
            ..ProtoResource::default()
        };
        let span = proto::Span { trace_id: vec![1; 16], span_id: vec![2; 8], ..proto::Span::default() };
        let scopes = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
        let mut group = ResourceSpans { scope_spans: vec![scopes], ..ResourceSpans::default() }.encode_to_vec();
        for resource in [part("a"), part("b")] {
            group.extend(ResourceSpans { resource: Some(resource), ..ResourceSpans::default() }.encode_to_vec());
        }
        let mut body = Vec::new();
        crate::proto::write::bytes(&mut body, 1, &group);
        let got = decode_spans(&body, &SpanCache::default()).unwrap();
        assert_eq!(got.batch[0].resource.attributes.len(), 2);
        assert_eq!(got, generated(&body).unwrap());
    }

    #[test]
    fn what_is_no_request_is_an_error_with_its_place() {
        let text = decode_spans(&[0x0a, 0x05, 1], &SpanCache::default()).unwrap_err().to_string();
        assert!(text.starts_with("OTLP protobuf: byte"), "{text}");
        assert!(decode_spans(&[0x08, 0x05], &SpanCache::default()).is_err());
    }

    proptest! {
        #[test]
        fn spans_are_those_of_the_generated_types(request in any_request()) {
            let body = request.encode_to_vec();
            let cache = SpanCache::default();
            for _ in 0..2 {
                prop_assert_eq!(decode_spans(&body, &cache).unwrap(), generated(&body).unwrap());
            }
        }

        #[test]
        fn broken_bodies_never_panic(
            request in any_request(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut body = request.encode_to_vec();
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = byte;
                let _ = decode_spans(&body, &SpanCache::default());
                body.truncate(at);
                let _ = decode_spans(&body, &SpanCache::default());
            }
        }
    }
}
