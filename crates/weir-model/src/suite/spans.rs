//! The contract of a span store.

use std::sync::Arc;

use crate::sink::SpanSink;
use crate::source::{ReadContext, SpanFragment, SpanPredicate, SpanSource};
use crate::{AttrValue, Nanos, Resource, Scope, Span, SpanId, SpanKind, SpanStatus, StatusCode, TenantId, TraceId};

fn span(trace: u8, id: u8, service: &str, start: i64, duration: i64, code: StatusCode) -> Arc<Span> {
    Arc::new(Span {
        trace_id: TraceId([trace; 16]),
        span_id: SpanId([id; 8]),
        parent: (id > 1).then_some(SpanId([id - 1; 8])),
        name: format!("op-{id}").into(),
        kind: SpanKind::Server,
        start: Nanos(start),
        end: Nanos(start + duration),
        status: SpanStatus { code, message: "".into() },
        attributes: vec![("match.id".into(), AttrValue::from("m-7")), ("n".into(), AttrValue::Int(i64::from(id)))],
        events: Vec::new(),
        links: Vec::new(),
        trace_state: "".into(),
        flags: 1,
        resource: Arc::new(Resource { attributes: vec![("service.name".into(), AttrValue::from(service))] }),
        scope: Arc::new(Scope::default()),
    })
}

async fn traces<S: SpanSource>(
    store: &S,
    tenant: &TenantId,
    start: i64,
    end: i64,
    predicates: Vec<SpanPredicate>,
) -> Vec<(u8, usize)> {
    let fragment = SpanFragment { start: Nanos(start), end: Nanos(end), predicates };
    let mut cursor = store.open(tenant, &fragment, &ReadContext::unlimited()).await.expect("open");
    let mut found = Vec::new();
    while let Some(batch) = cursor.next().expect("next") {
        assert!(!batch.is_empty(), "a cursor ends with None, not with an empty batch");
        for trace in batch {
            assert!(trace.spans.is_sorted_by_key(|s| s.start), "spans ascend by start");
            found.push((trace.trace_id.0[0], trace.spans.len()));
        }
    }
    found
}

/// `store` is empty and accepts a few kilobytes.
pub async fn spans<S: SpanSink + SpanSource>(store: &S) {
    let tenant = TenantId::parse("suite").expect("a valid name");
    let ok = StatusCode::Unset;
    let first = [span(1, 2, "sink", 120, 50, StatusCode::Error), span(1, 1, "producer", 100, 10, ok)];
    let second = [span(2, 1, "producer", 500, 400, ok)];
    assert_eq!(store.append(&tenant, &first).expect("append").accepted, 2);
    assert_eq!(store.append(&tenant, &second).expect("append").accepted, 1);
    // Late, and repeated.
    let late = [span(1, 3, "sink", 610, 5, ok), first[0].clone()];
    assert_eq!(store.append(&tenant, &late).expect("append").accepted, 2, "a repeated span counts as accepted");

    let trace = store.trace(&tenant, TraceId([1; 16])).await.expect("trace").expect("found");
    let ids: Vec<_> = trace.spans.iter().map(|s| s.span_id.0[0]).collect();
    assert_eq!(ids, [1, 2, 3], "late spans join, repeated ones count once");
    assert_eq!(*trace.spans[1], *first[0], "a span comes back as it went in");
    assert!(store.trace(&tenant, TraceId([9; 16])).await.expect("trace").is_none());
    let other = TenantId::parse("other").expect("a valid name");
    assert!(store.trace(&other, TraceId([1; 16])).await.expect("trace").is_none(), "tenants are apart");

    assert_eq!(traces(store, &tenant, 0, 1000, vec![]).await, [(2, 1), (1, 3)], "newest first");
    assert_eq!(traces(store, &tenant, 600, 700, vec![]).await, [(1, 3)], "any span's start counts");
    assert_eq!(traces(store, &tenant, 0, 100, vec![]).await, [], "the end is excluded");
    // A source may return more than a predicate accepts, never less.
    for predicate in [
        SpanPredicate::Service("sink".into()),
        SpanPredicate::Name("op-2".into()),
        SpanPredicate::Error,
        SpanPredicate::MinDuration(50),
        SpanPredicate::Attribute("match.id".into(), AttrValue::from("m-7")),
        SpanPredicate::Attribute("service.name".into(), AttrValue::from("sink")),
    ] {
        let found = traces(store, &tenant, 0, 1000, vec![predicate.clone()]).await;
        assert!(found.contains(&(1, 3)), "{predicate:?}: {found:?}");
    }
}
