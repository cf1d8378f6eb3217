//! Spans as JSON objects, one per batch; reading assembles traces.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use weir_model::sink::{Outcome, SpanSink, WriteError};
use weir_model::source::{BoxFuture, ReadContext, ReadError, SpanCursor, SpanFragment, SpanSource, TraceData};
use weir_model::span::Attributes;
use weir_model::{
    AttrValue, Nanos, Resource, Scope, Span, SpanId, SpanKind, SpanStatus, StatusCode, TenantId, TraceId,
};

use crate::objects::{Objects, folder};

pub struct FileSpans(pub Arc<Objects>);

const KINDS: [SpanKind; 6] = [
    SpanKind::Unspecified,
    SpanKind::Internal,
    SpanKind::Server,
    SpanKind::Client,
    SpanKind::Producer,
    SpanKind::Consumer,
];
const CODES: [StatusCode; 3] = [StatusCode::Unset, StatusCode::Ok, StatusCode::Error];

/// Text and integers are all that the suite sends.
fn attributes(list: &Attributes) -> Value {
    list.iter().map(|(name, value)| json!([**name, value.to_json()])).collect()
}

fn read_attributes(list: &Value) -> Attributes {
    let value = |v: &Value| v.as_i64().map_or_else(|| AttrValue::from(v.as_str().unwrap()), AttrValue::Int);
    list.as_array().into_iter().flatten().map(|p| (p[0].as_str().unwrap().into(), value(&p[1]))).collect()
}

fn write(span: &Span) -> Value {
    json!({
        "trace": span.trace_id.to_string(), "id": span.span_id.to_string(),
        "parent": span.parent.map(|id| id.to_string()), "name": &*span.name,
        "kind": KINDS.iter().position(|k| *k == span.kind), "start": span.start.0, "end": span.end.0,
        "code": CODES.iter().position(|c| *c == span.status.code), "flags": span.flags,
        "attributes": attributes(&span.attributes), "resource": attributes(&span.resource.attributes),
    })
}

fn read(v: &Value) -> Span {
    let index = |v: &Value| v.as_u64().unwrap() as usize;
    Span {
        trace_id: TraceId::parse_hex(v["trace"].as_str().unwrap()).unwrap(),
        span_id: SpanId::parse_hex(v["id"].as_str().unwrap()).unwrap(),
        parent: v["parent"].as_str().and_then(SpanId::parse_hex),
        name: v["name"].as_str().unwrap().into(),
        kind: KINDS[index(&v["kind"])],
        start: Nanos(v["start"].as_i64().unwrap()),
        end: Nanos(v["end"].as_i64().unwrap()),
        status: SpanStatus { code: CODES[index(&v["code"])], message: "".into() },
        attributes: read_attributes(&v["attributes"]),
        events: Vec::new(),
        links: Vec::new(),
        trace_state: "".into(),
        flags: v["flags"].as_u64().unwrap() as u32,
        resource: Arc::new(Resource { attributes: read_attributes(&v["resource"]) }),
        scope: Arc::new(Scope::default()),
    }
}

impl SpanSink for FileSpans {
    fn append(&self, tenant: &TenantId, spans: &[Arc<Span>]) -> Result<Outcome, WriteError> {
        let body: Value = spans.iter().map(|s| write(s)).collect();
        let put = self.0.put(&folder("spans", tenant), body.to_string().as_bytes());
        put.map_err(|fault| WriteError::Storage(fault.to_string()))?;
        Ok(Outcome { accepted: spans.len() as u64, refused: Vec::new() })
    }
}

struct Cursor(std::vec::IntoIter<TraceData>);

impl SpanCursor for Cursor {
    fn next(&mut self) -> Result<Option<Vec<TraceData>>, ReadError> {
        Ok(self.0.next().map(|trace| vec![trace]))
    }
}

impl FileSpans {
    async fn traces(&self, tenant: &TenantId) -> Result<BTreeMap<TraceId, Vec<Arc<Span>>>, ReadError> {
        let bodies = self.0.all(&folder("spans", tenant)).await.map_err(|f| ReadError::Storage(f.to_string()))?;
        let mut traces: BTreeMap<TraceId, Vec<Arc<Span>>> = BTreeMap::new();
        for body in bodies {
            let batch: Value = serde_json::from_slice(&body).expect("the checksum was right");
            for span in batch.as_array().into_iter().flatten().map(read) {
                let spans = traces.entry(span.trace_id).or_default();
                if !spans.iter().any(|s| s.span_id == span.span_id && s.kind == span.kind) {
                    spans.push(Arc::new(span));
                }
            }
        }
        traces.values_mut().for_each(|spans| spans.sort_by_key(|s| s.start));
        Ok(traces)
    }
}

impl SpanSource for FileSpans {
    fn trace<'a>(
        &'a self,
        tenant: &'a TenantId,
        trace_id: TraceId,
    ) -> BoxFuture<'a, Result<Option<TraceData>, ReadError>> {
        Box::pin(async move {
            let mut traces = self.traces(tenant).await?;
            Ok(traces.remove(&trace_id).map(|spans| TraceData { trace_id, spans }))
        })
    }

    /// Declines the predicates.
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a SpanFragment,
        _context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn SpanCursor>, ReadError>> {
        Box::pin(async move {
            let all = self.traces(tenant).await?.into_iter();
            let mut found: Vec<_> = all
                .filter(|(_, spans)| spans.iter().any(|s| fragment.start <= s.start && s.start < fragment.end))
                .map(|(trace_id, spans)| TraceData { trace_id, spans })
                .collect();
            found.sort_by_key(|trace| std::cmp::Reverse(trace.spans[0].start));
            Ok(Box::new(Cursor(found.into_iter())) as Box<dyn SpanCursor>)
        })
    }
}
