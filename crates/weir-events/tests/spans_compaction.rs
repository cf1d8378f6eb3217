//! Blocks of spans are merged, sorted into classes, kept by class, and lose nothing on the way.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use weir_events::{SpanRetention, SpanStore, SpanStoreOptions};
use weir_model::sink::SpanSink;
use weir_model::source::{ReadContext, SpanFragment, SpanSource};
use weir_model::{Budget, Nanos, Span, SpanId, SpanStatus, StatusCode, TenantId, TraceId};
use weir_wal::{Dir, SimDir};

const MS: i64 = 1_000_000;
const HOUR: i64 = 3_600_000 * MS;
const DAY: i64 = 24 * HOUR;

fn options() -> SpanStoreOptions {
    let days = |n: u64| Duration::from_secs(n * 24 * 3600);
    SpanStoreOptions {
        retention: SpanRetention { normal: days(7), slow: days(30), errors: days(90) },
        slow: Duration::from_secs(5),
        group_rows: 16,
        ..SpanStoreOptions::default()
    }
}

fn open(dir: &SimDir) -> SpanStore {
    SpanStore::open(Arc::new(dir.clone()), &Budget::unlimited(), options()).unwrap()
}

fn span(trace: u32, id: u8, start: i64, ms: i64) -> Span {
    let mut trace_id = [1; 16];
    trace_id[..4].copy_from_slice(&trace.to_be_bytes());
    Span {
        trace_id: TraceId(trace_id),
        span_id: SpanId([id; 8]),
        parent: (id > 1).then_some(SpanId([1; 8])),
        name: "op".into(),
        start: Nanos(start),
        end: Nanos(start + ms * MS),
        ..Span::default()
    }
}

fn failed(mut span: Span) -> Span {
    span.status = SpanStatus { code: StatusCode::Error, message: "no".into() };
    span
}

fn append(store: &SpanStore, spans: Vec<Span>) {
    let spans: Vec<Arc<Span>> = spans.into_iter().map(Arc::new).collect();
    store.append(&TenantId::anonymous(), &spans).unwrap();
}

/// The number of each trace, with its number of spans, ascending.
fn stored(store: &SpanStore) -> Vec<(u32, usize)> {
    let fragment = SpanFragment { start: Nanos::MIN, end: Nanos::MAX, predicates: Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (tenant, context) = (TenantId::anonymous(), ReadContext::unlimited());
    let mut cursor = runtime.block_on(store.open(&tenant, &fragment, &context)).unwrap();
    let mut found = Vec::new();
    while let Some(batch) = cursor.next().unwrap() {
        found.extend(batch.iter().map(|trace| {
            let id = trace.trace_id.0;
            (u32::from_be_bytes([id[0], id[1], id[2], id[3]]), trace.spans.len())
        }));
    }
    found.sort_unstable();
    found
}

/// Ticks until nothing changes any more.
fn settle(store: &SpanStore, now: i64) {
    for _ in 0..20 {
        store.tick(Nanos(now)).unwrap();
    }
}

#[test]
fn each_class_is_kept_for_its_own_time() {
    let dir = SimDir::new(1);
    let store = open(&dir);
    append(&store, vec![span(1, 1, 0, 10), span(1, 2, 1, 5)]);
    append(&store, vec![span(2, 1, 0, 10), failed(span(2, 2, 1, 5))]);
    append(&store, vec![span(3, 1, 0, 6000), span(3, 2, 1, 5)]);
    store.flush().unwrap();
    for (now, wanted) in [
        (6 * DAY, vec![(1, 2), (2, 2), (3, 2)]),
        (8 * DAY, vec![(2, 2), (3, 2)]),
        (29 * DAY, vec![(2, 2), (3, 2)]),
        (31 * DAY, vec![(2, 2)]),
        (89 * DAY, vec![(2, 2)]),
        (91 * DAY, vec![]),
    ] {
        settle(&store, now);
        assert_eq!(stored(&store), wanted, "day {}", now / DAY);
    }
    let files = dir.list("spans/blocks/anonymous").unwrap();
    assert!(files.is_empty(), "{files:?}");
}

#[test]
fn a_late_failure_keeps_the_whole_trace_also_across_a_restart() {
    let dir = SimDir::new(1);
    let store = open(&dir);
    append(&store, vec![span(1, 1, 0, 10), span(2, 1, 0, 10)]);
    store.flush().unwrap();
    settle(&store, 2 * HOUR);
    // The class is fixed by now; then a span of trace 1 fails.
    append(&store, vec![failed(span(1, 2, 10, 5))]);
    store.flush().unwrap();
    settle(&store, 4 * HOUR);
    drop(store);
    dir.restart();
    let store = open(&dir);
    settle(&store, 8 * DAY);
    assert_eq!(stored(&store), [(1, 2)]);
    // A late span of a failed trace goes where the failure is.
    append(&store, vec![span(1, 3, 20, 5)]);
    store.flush().unwrap();
    settle(&store, 9 * DAY);
    settle(&store, 80 * DAY);
    assert_eq!(stored(&store), [(1, 3)]);
    settle(&store, 91 * DAY);
    assert_eq!(stored(&store), []);
}

#[test]
fn many_small_blocks_become_few_and_a_read_that_began_before_ends_well() {
    let dir = SimDir::new(1);
    let store = open(&dir);
    for n in 0..60_u32 {
        append(&store, vec![span(n, 1, i64::from(n) * 1000 * MS, 10), span(n + 1, 2, i64::from(n) * 1000 * MS, 3)]);
        store.flush().unwrap();
    }
    let before = stored(&store);
    let fragment = SpanFragment { start: Nanos::MIN, end: Nanos::MAX, predicates: Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (tenant, context) = (TenantId::anonymous(), ReadContext::unlimited());
    let mut cursor = runtime.block_on(store.open(&tenant, &fragment, &context)).unwrap();
    let first = cursor.next().unwrap().unwrap().len();
    settle(&store, 2 * HOUR);
    let rest: usize = std::iter::from_fn(|| cursor.next().unwrap()).map(|batch| batch.len()).sum();
    assert_eq!(first + rest, before.len());
    drop(cursor);
    settle(&store, 2 * HOUR);
    assert!(store.stats().blocks <= 12, "{} blocks", store.stats().blocks);
    assert_eq!(store.stats().blocks as usize, dir.list("spans/blocks/anonymous").unwrap().len());
    assert_eq!(stored(&store), before);
    dir.restart();
    assert_eq!(stored(&open(&dir)), before);
}

#[test]
fn a_crash_at_any_step_of_a_merge_loses_nothing() {
    for seed in 0..150_u64 {
        let dir = SimDir::new(seed);
        let store = open(&dir);
        for n in 0..10_u32 {
            append(&store, vec![span(n, 1, i64::from(n) * MS, 10), failed(span(n / 2, 2, i64::from(n) * MS, 10))]);
            store.flush().unwrap();
        }
        let before = stored(&store);
        dir.crash_after(seed * 97 % 12_000);
        for now in [2 * HOUR, 3 * HOUR] {
            let _ = store.tick(Nanos(now));
        }
        drop(store);
        dir.restart();
        let store = open(&dir);
        assert_eq!(stored(&store), before, "seed {seed}");
        settle(&store, 4 * HOUR);
        assert_eq!(stored(&store), before, "seed {seed}, merged");
    }
}

#[test]
fn a_full_disk_puts_a_merge_off() {
    let dir = SimDir::new(1);
    let store = open(&dir);
    for n in 0..10_u32 {
        append(&store, vec![span(n, 1, i64::from(n) * MS, 10)]);
        store.flush().unwrap();
    }
    let before = stored(&store);
    dir.set_capacity(1);
    assert!(store.tick(Nanos(2 * HOUR)).is_err());
    assert_eq!((stored(&store), store.stats().blocks), (before.clone(), 10));
    dir.set_capacity(u64::MAX);
    settle(&store, 2 * HOUR);
    assert_eq!(stored(&store), before);
    assert!(store.stats().blocks < 5);
}
