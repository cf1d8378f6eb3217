//! Spans as OTLP's messages and as their JSON.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1 as common;
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use opentelemetry_proto::tonic::trace::v1 as proto;
use serde_json::{Map, Value, json};
use weir_model::{AttrValue, Nanos, Resource, Scope, Span, SpanKind, StatusCode};

/// Spans of one resource and scope, in the order of the trace.
struct Group<'a> {
    resource: &'a Arc<Resource>,
    scopes: Vec<(&'a Arc<Scope>, Vec<&'a Span>)>,
}

/// Senders repeat their resource in each batch, so equal values are one group.
fn groups(spans: &[Arc<Span>]) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for span in spans {
        let same = |a: &Arc<Resource>| Arc::ptr_eq(a, &span.resource) || **a == *span.resource;
        let group = match groups.iter().position(|g| same(g.resource)) {
            Some(idx) => &mut groups[idx],
            None => {
                groups.push(Group { resource: &span.resource, scopes: Vec::new() });
                groups.last_mut().expect("pushed just now")
            }
        };
        match group.scopes.iter_mut().find(|(s, _)| Arc::ptr_eq(s, &span.scope) || **s == span.scope) {
            Some((_, members)) => members.push(span),
            None => group.scopes.push((&span.scope, vec![span])),
        }
    }
    groups
}

pub(super) fn resource_spans(spans: &[Arc<Span>]) -> Vec<proto::ResourceSpans> {
    let scope_spans = |(scope, spans): (&Arc<Scope>, Vec<&Span>)| proto::ScopeSpans {
        scope: Some(common::InstrumentationScope {
            name: scope.name.to_string(),
            version: scope.version.to_string(),
            attributes: attributes(&scope.attributes),
            ..Default::default()
        }),
        spans: spans.into_iter().map(span).collect(),
        ..Default::default()
    };
    groups(spans)
        .into_iter()
        .map(|group| proto::ResourceSpans {
            resource: Some(ProtoResource { attributes: attributes(&group.resource.attributes), ..Default::default() }),
            scope_spans: group.scopes.into_iter().map(scope_spans).collect(),
            ..Default::default()
        })
        .collect()
}

fn unsigned(at: Nanos) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

fn kind_number(kind: SpanKind) -> i32 {
    match kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

fn span(span: &Span) -> proto::Span {
    let code = match span.status.code {
        StatusCode::Unset => 0,
        StatusCode::Ok => 1,
        StatusCode::Error => 2,
    };
    proto::Span {
        trace_id: span.trace_id.0.to_vec(),
        span_id: span.span_id.0.to_vec(),
        trace_state: span.trace_state.to_string(),
        parent_span_id: span.parent.map(|id| id.0.to_vec()).unwrap_or_default(),
        flags: span.flags,
        name: span.name.to_string(),
        kind: kind_number(span.kind),
        start_time_unix_nano: unsigned(span.start),
        end_time_unix_nano: unsigned(span.end),
        attributes: attributes(&span.attributes),
        events: span
            .events
            .iter()
            .map(|e| proto::span::Event {
                time_unix_nano: unsigned(e.at),
                name: e.name.to_string(),
                attributes: attributes(&e.attributes),
                ..Default::default()
            })
            .collect(),
        links: span
            .links
            .iter()
            .map(|l| proto::span::Link {
                trace_id: l.trace_id.0.to_vec(),
                span_id: l.span_id.0.to_vec(),
                trace_state: l.trace_state.to_string(),
                attributes: attributes(&l.attributes),
                ..Default::default()
            })
            .collect(),
        status: Some(proto::Status { message: span.status.message.to_string(), code }),
        ..Default::default()
    }
}

fn attributes(attributes: &[(Arc<str>, AttrValue)]) -> Vec<common::KeyValue> {
    attributes
        .iter()
        .map(|(key, value)| common::KeyValue {
            key: key.to_string(),
            value: Some(any_value(value)),
            ..Default::default()
        })
        .collect()
}

fn any_value(value: &AttrValue) -> common::AnyValue {
    use common::any_value::Value as Any;
    let value = match value {
        AttrValue::Str(text) => Any::StringValue(text.to_string()),
        AttrValue::Int(v) => Any::IntValue(*v),
        AttrValue::Double(v) => Any::DoubleValue(*v),
        AttrValue::Bool(v) => Any::BoolValue(*v),
        AttrValue::Bytes(bytes) => Any::BytesValue(bytes.to_vec()),
        AttrValue::Array(items) => {
            Any::ArrayValue(common::ArrayValue { values: items.iter().map(any_value).collect() })
        }
        AttrValue::Map(entries) => Any::KvlistValue(common::KeyValueList { values: attributes(entries) }),
    };
    common::AnyValue { value: Some(value) }
}

/// The same as proto-JSON.
pub(super) fn resource_spans_json(spans: &[Arc<Span>]) -> Vec<Value> {
    let scope_json = |scope: &Scope| {
        let mut out = Map::new();
        put_text(&mut out, "name", &scope.name);
        put_text(&mut out, "version", &scope.version);
        put_attributes(&mut out, &scope.attributes);
        Value::Object(out)
    };
    groups(spans)
        .into_iter()
        .map(|group| {
            let mut resource = Map::new();
            put_attributes(&mut resource, &group.resource.attributes);
            let scopes: Vec<Value> = group
                .scopes
                .into_iter()
                .map(|(scope, spans)| {
                    json!({"scope": scope_json(scope), "spans": spans.into_iter().map(span_json).collect::<Vec<_>>()})
                })
                .collect();
            json!({"resource": resource, "scopeSpans": scopes})
        })
        .collect()
}

fn put_text(out: &mut Map<String, Value>, name: &str, text: &str) {
    if !text.is_empty() {
        out.insert(name.to_owned(), json!(text));
    }
}

fn put_attributes(out: &mut Map<String, Value>, attributes: &[(Arc<str>, AttrValue)]) {
    if !attributes.is_empty() {
        out.insert("attributes".to_owned(), attributes_json(attributes));
    }
}

pub(super) fn attributes_json(attributes: &[(Arc<str>, AttrValue)]) -> Value {
    attributes.iter().map(|(key, value)| json!({"key": &**key, "value": value_json(value)})).collect()
}

pub(super) fn value_json(value: &AttrValue) -> Value {
    match value {
        AttrValue::Str(text) => json!({"stringValue": &**text}),
        AttrValue::Int(v) => json!({"intValue": v.to_string()}),
        AttrValue::Double(v) => json!({"doubleValue": double_json(*v)}),
        AttrValue::Bool(v) => json!({"boolValue": v}),
        AttrValue::Bytes(bytes) => json!({"bytesValue": STANDARD.encode(bytes)}),
        AttrValue::Array(items) => {
            json!({"arrayValue": {"values": items.iter().map(value_json).collect::<Vec<_>>()}})
        }
        AttrValue::Map(entries) => json!({"kvlistValue": {"values": attributes_json(entries)}}),
    }
}

/// What JSON has no number for is text.
pub(super) fn double_json(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

fn kind_json(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "SPAN_KIND_UNSPECIFIED",
        SpanKind::Internal => "SPAN_KIND_INTERNAL",
        SpanKind::Server => "SPAN_KIND_SERVER",
        SpanKind::Client => "SPAN_KIND_CLIENT",
        SpanKind::Producer => "SPAN_KIND_PRODUCER",
        SpanKind::Consumer => "SPAN_KIND_CONSUMER",
    }
}

fn span_json(span: &Span) -> Value {
    let mut out = Map::new();
    out.insert("traceId".to_owned(), json!(STANDARD.encode(span.trace_id.0)));
    out.insert("spanId".to_owned(), json!(STANDARD.encode(span.span_id.0)));
    put_text(&mut out, "traceState", &span.trace_state);
    if let Some(parent) = span.parent {
        out.insert("parentSpanId".to_owned(), json!(STANDARD.encode(parent.0)));
    }
    if span.flags != 0 {
        out.insert("flags".to_owned(), json!(span.flags));
    }
    put_text(&mut out, "name", &span.name);
    if span.kind != SpanKind::Unspecified {
        out.insert("kind".to_owned(), json!(kind_json(span.kind)));
    }
    out.insert("startTimeUnixNano".to_owned(), json!(unsigned(span.start).to_string()));
    out.insert("endTimeUnixNano".to_owned(), json!(unsigned(span.end).to_string()));
    put_attributes(&mut out, &span.attributes);
    if !span.events.is_empty() {
        let events = span.events.iter().map(|e| {
            let mut event = Map::new();
            event.insert("timeUnixNano".to_owned(), json!(unsigned(e.at).to_string()));
            put_text(&mut event, "name", &e.name);
            put_attributes(&mut event, &e.attributes);
            Value::Object(event)
        });
        out.insert("events".to_owned(), events.collect());
    }
    if !span.links.is_empty() {
        let links = span.links.iter().map(|l| {
            let mut link = Map::new();
            link.insert("traceId".to_owned(), json!(STANDARD.encode(l.trace_id.0)));
            link.insert("spanId".to_owned(), json!(STANDARD.encode(l.span_id.0)));
            put_text(&mut link, "traceState", &l.trace_state);
            put_attributes(&mut link, &l.attributes);
            Value::Object(link)
        });
        out.insert("links".to_owned(), links.collect());
    }
    let mut status = Map::new();
    match span.status.code {
        StatusCode::Unset => None,
        StatusCode::Ok => status.insert("code".to_owned(), json!("STATUS_CODE_OK")),
        StatusCode::Error => status.insert("code".to_owned(), json!("STATUS_CODE_ERROR")),
    };
    put_text(&mut status, "message", &span.status.message);
    out.insert("status".to_owned(), Value::Object(status));
    Value::Object(out)
}
