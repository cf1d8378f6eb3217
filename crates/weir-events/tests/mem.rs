//! The span store passes the suite of its traits and keeps to its budget.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use weir_events::MemSpans;
use weir_model::sink::SpanSink;
use weir_model::source::{ReadContext, SpanFragment, SpanSource};
use weir_model::{Budget, Nanos, Resource, Scope, Span, SpanId, SpanKind, SpanStatus, TenantId, TraceId, suite};

#[tokio::test]
async fn spans_in_memory_keep_the_contract() {
    suite::spans(&MemSpans::new(&Budget::unlimited())).await;
}

#[tokio::test]
async fn a_full_span_budget_drops_the_oldest_traces() {
    let budget = Budget::root(1 << 20);
    let store = MemSpans::new(&budget);
    let tenant = TenantId::anonymous();
    let resource = Arc::new(Resource::default());
    for at in 1..10_000_u32 {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&at.to_be_bytes());
        let span = Span {
            trace_id: TraceId(id),
            span_id: SpanId([1; 8]),
            parent: None,
            name: "op".into(),
            kind: SpanKind::Server,
            start: Nanos(i64::from(at)),
            end: Nanos(i64::from(at) + 5),
            status: SpanStatus::default(),
            attributes: vec![],
            events: vec![],
            links: vec![],
            trace_state: "".into(),
            flags: 0,
            resource: resource.clone(),
            scope: Arc::new(Scope::default()),
        };
        store.append(&tenant, &[Arc::new(span)]).unwrap();
    }
    let fragment = SpanFragment { start: Nanos::MIN, end: Nanos::MAX, predicates: vec![] };
    let mut cursor = store.open(&tenant, &fragment, &ReadContext::unlimited()).await.unwrap();
    let mut starts = Vec::new();
    while let Some(batch) = cursor.next().unwrap() {
        starts.extend(batch.iter().map(|t| t.spans[0].start.0));
    }
    let wanted: Vec<i64> = (10_000 - starts.len() as i64..10_000).rev().collect();
    assert_eq!(starts, wanted, "the newest traces are kept, without a gap");
    assert!(starts.len() > 500 && budget.used_bytes() <= 1 << 20);
}
