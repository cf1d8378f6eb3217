//! Spans.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{
    self as proto, span::SpanKind as ProtoKind, status::StatusCode as ProtoCode,
};
use weir_model::sink::RefusedReason;
use weir_model::{Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, StatusCode, TraceId};

use super::common;
use crate::Decoded;

/// Spans share their resource and scope. A span without valid ids is refused.
pub fn convert(request: ExportTraceServiceRequest) -> Decoded<Vec<Arc<Span>>> {
    let mut out: Decoded<Vec<Arc<Span>>> = Decoded::default();
    for group in request.resource_spans {
        let resource = Arc::new(common::resource(group.resource));
        for group in group.scope_spans {
            let scope = Arc::new(common::scope(group.scope));
            for span in group.spans {
                match convert_span(span, &resource, &scope) {
                    Ok(span) => out.batch.push(Arc::new(span)),
                    Err(text) => out.refuse(RefusedReason::Malformed, 1, || format!("{}: {text}", resource.service())),
                }
            }
        }
    }
    out
}

pub(super) fn trace_id(bytes: &[u8]) -> Option<TraceId> {
    <[u8; 16]>::try_from(bytes).ok().map(TraceId).filter(|id| !id.is_zero())
}

pub(super) fn span_id(bytes: &[u8]) -> Option<SpanId> {
    <[u8; 8]>::try_from(bytes).ok().map(SpanId).filter(|id| !id.is_zero())
}

fn convert_span(span: proto::Span, resource: &Arc<Resource>, scope: &Arc<Scope>) -> Result<Span, String> {
    let bad = |what: &str, bytes: &[u8]| {
        format!("span `{}`: {what} `{}`", span.name, hex::encode(&bytes[..bytes.len().min(40)]))
    };
    let trace =
        trace_id(&span.trace_id).ok_or_else(|| bad("trace id is not 16 bytes, not all zero:", &span.trace_id))?;
    let id = span_id(&span.span_id).ok_or_else(|| bad("span id is not 8 bytes, not all zero:", &span.span_id))?;
    let parent = match span.parent_span_id.as_slice() {
        [] => None,
        bytes if bytes.len() == 8 => span_id(bytes),
        bytes => return Err(bad("parent span id is not 8 bytes:", bytes)),
    };
    let start = common::nanos(span.start_time_unix_nano);
    Ok(Span {
        trace_id: trace,
        span_id: id,
        parent,
        name: span.name.into(),
        kind: kind(span.kind),
        start,
        // A span that ends before it starts (clock steps) counts as a point.
        end: common::nanos(span.end_time_unix_nano).max(start),
        status: span.status.map(status).unwrap_or_default(),
        attributes: common::attributes(span.attributes),
        events: span.events.into_iter().map(event).collect(),
        links: span.links.into_iter().filter_map(link).collect(),
        trace_state: span.trace_state.into(),
        flags: span.flags,
        resource: resource.clone(),
        scope: scope.clone(),
    })
}

pub(super) fn kind(number: i32) -> SpanKind {
    match ProtoKind::try_from(number) {
        Ok(ProtoKind::Internal) => SpanKind::Internal,
        Ok(ProtoKind::Server) => SpanKind::Server,
        Ok(ProtoKind::Client) => SpanKind::Client,
        Ok(ProtoKind::Producer) => SpanKind::Producer,
        Ok(ProtoKind::Consumer) => SpanKind::Consumer,
        Ok(ProtoKind::Unspecified) | Err(_) => SpanKind::Unspecified,
    }
}

pub(super) fn status_code(number: i32) -> StatusCode {
    match ProtoCode::try_from(number) {
        Ok(ProtoCode::Ok) => StatusCode::Ok,
        Ok(ProtoCode::Error) => StatusCode::Error,
        Ok(ProtoCode::Unset) | Err(_) => StatusCode::Unset,
    }
}

fn status(status: proto::Status) -> SpanStatus {
    SpanStatus { code: status_code(status.code), message: status.message.into() }
}

fn event(event: proto::span::Event) -> SpanEvent {
    SpanEvent {
        at: common::nanos(event.time_unix_nano),
        name: event.name.into(),
        attributes: common::attributes(event.attributes),
    }
}

fn link(link: proto::span::Link) -> Option<SpanLink> {
    Some(SpanLink {
        trace_id: trace_id(&link.trace_id)?,
        span_id: span_id(&link.span_id)?,
        trace_state: link.trace_state.into(),
        attributes: common::attributes(link.attributes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{Format, decode};
    use proptest::prelude::*;

    fn json(span: &str) -> String {
        format!(
            r#"{{"resourceSpans":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"s"}}}}]}},
               "scopeSpans":[{{"scope":{{"name":"lib"}},"spans":[{span}]}}]}}]}}"#
        )
    }

    #[test]
    fn json_ids_are_hex_and_enums_may_be_names() {
        for (kind, code) in [("2", "2"), (r#""SPAN_KIND_SERVER""#, r#""STATUS_CODE_ERROR""#)] {
            let body = json(&format!(
                r#"{{"traceId":"5B8EFFF798038103D269B633813FC60C","spanId":"EEE19B7EC3C1B174","name":"n","kind":{kind},
                   "startTimeUnixNano":"1544712660000000000","endTimeUnixNano":1544712661000000000,"unknown":{{"a":1}},
                   "attributes":[{{"key":"n","value":{{"intValue":"7"}}}}],"status":{{"code":{code}}},"parentSpanId":null}}"#
            ));
            let got = convert(decode(Format::Json, body.as_bytes()).unwrap());
            assert_eq!(got.refused, []);
            let span = &got.batch[0];
            assert_eq!(span.trace_id.to_string(), "5b8efff798038103d269b633813fc60c");
            assert_eq!((span.kind, span.status.code), (SpanKind::Server, StatusCode::Error));
            assert_eq!(span.duration_nanos(), 1_000_000_000);
            assert_eq!((span.resource.service(), &*span.scope.name), ("s", "lib"));
            assert_eq!(span.get("n").and_then(weir_model::AttrValue::as_f64), Some(7.0));
        }
    }

    #[test]
    fn a_span_without_ids_is_refused() {
        let got = convert(decode(Format::Json, json(r#"{"name":"n"}"#).as_bytes()).unwrap());
        assert!(got.batch.is_empty());
        assert!(got.refused[0].example.contains("s: span `n`: trace id"), "{:?}", got.refused);
    }

    #[test]
    fn wrong_shapes_name_the_place() {
        let check = |body: &str, want: &str| {
            let text = decode::<ExportTraceServiceRequest>(Format::Json, body.as_bytes()).unwrap_err().to_string();
            assert!(text.contains(want), "{text}");
        };
        check("{\"resourceSpans\": [", "line 1 column 19");
        check("[1]", "no object");
        check("{\"resourceSpans\": 5}", "expected a sequence");
        let text = decode::<ExportTraceServiceRequest>(Format::Protobuf, &[0x0a, 0x05, 1]).unwrap_err().to_string();
        assert!(text.contains("OTLP protobuf"), "{text}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            for format in [Format::Protobuf, Format::Json] {
                if let Ok(request) = decode::<ExportTraceServiceRequest>(format, &body) {
                    convert(request);
                }
            }
        }
    }
}
