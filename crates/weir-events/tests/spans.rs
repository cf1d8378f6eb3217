//! The durable span store: the trait's contract, equality with the one in memory, crashes, damage.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use weir_events::{MemSpans, SpanRetention, SpanStore, SpanStoreOptions, decode_frame, decode_tables};
use weir_model::sink::{SpanSink, WriteError};
use weir_model::source::{ReadContext, SpanFragment, SpanPredicate, SpanSource, TraceData};
use weir_model::{
    AttrValue, Budget, Nanos, Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, StatusCode,
    TenantId, TraceId, suite,
};
use weir_wal::{Dir, OsDir, SimDir};

const HOUR: i64 = 3_600_000_000_000;

fn options() -> SpanStoreOptions {
    SpanStoreOptions { head_bytes: 20_000, group_rows: 8, ..SpanStoreOptions::default() }
}

fn open(dir: &SimDir) -> SpanStore {
    SpanStore::open(Arc::new(dir.clone()), &Budget::unlimited(), options()).unwrap()
}

fn value() -> impl Strategy<Value = AttrValue> {
    let leaf = prop_oneof![
        "[a-c]{0,2}".prop_map(|text| AttrValue::from(text.as_str())),
        any::<i64>().prop_map(AttrValue::Int),
        (-1e9..1e9).prop_map(AttrValue::Double),
        any::<bool>().prop_map(AttrValue::Bool),
        proptest::collection::vec(any::<u8>(), 0..4).prop_map(|bytes| AttrValue::Bytes(bytes.into())),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(AttrValue::Array),
            proptest::collection::vec(("[xy]", inner), 0..3).prop_map(|entries| {
                AttrValue::Map(entries.into_iter().map(|(name, value)| (name.as_str().into(), value)).collect())
            }),
        ]
    })
}

fn attributes() -> impl Strategy<Value = Vec<(Arc<str>, AttrValue)>> {
    proptest::collection::vec(("[a-c]", value()), 0..4)
        .prop_map(|list| list.into_iter().map(|(name, value)| (name.as_str().into(), value)).collect())
}

fn kind() -> impl Strategy<Value = SpanKind> {
    prop_oneof![Just(SpanKind::Unspecified), Just(SpanKind::Internal), Just(SpanKind::Server), Just(SpanKind::Consumer)]
}

fn span() -> impl Strategy<Value = Arc<Span>> {
    let ids = (1..12_u8, 1..9_u8, proptest::option::of(1..9_u8), kind());
    let times = (0..HOUR / 2, 0..1_000_000_i64);
    let code = prop_oneof![Just(StatusCode::Unset), Just(StatusCode::Ok), Just(StatusCode::Error)];
    let rest = ("[p-r]", code, "[a-c]{0,2}", any::<u32>(), attributes());
    let more = (attributes(), proptest::collection::vec((any::<i64>(), attributes()), 0..2), any::<bool>(), "[s-u]");
    (ids, times, rest, more).prop_map(|(ids, times, rest, more)| {
        let (trace, id, parent, kind) = ids;
        let (name, code, text, flags, attributes) = rest;
        let (resource, events, has_link, service) = more;
        let mut resource: Vec<(Arc<str>, AttrValue)> = resource;
        resource.push(("service.name".into(), AttrValue::from(service.as_str())));
        let events = events
            .into_iter()
            .map(|(at, attributes)| SpanEvent { at: Nanos(at), name: text.as_str().into(), attributes })
            .collect();
        let link = SpanLink {
            trace_id: TraceId([9; 16]),
            span_id: SpanId([8; 8]),
            trace_state: text.as_str().into(),
            attributes: attributes.clone(),
        };
        Arc::new(Span {
            trace_id: TraceId([trace; 16]),
            span_id: SpanId([id; 8]),
            parent: parent.map(|parent| SpanId([parent; 8])),
            name: name.as_str().into(),
            kind,
            start: Nanos(times.0),
            end: Nanos(times.0 + times.1),
            status: SpanStatus { code, message: text.as_str().into() },
            attributes,
            events,
            links: if has_link { vec![link] } else { Vec::new() },
            trace_state: text.as_str().into(),
            flags,
            resource: Arc::new(Resource { attributes: resource.clone() }),
            scope: Arc::new(Scope { name: name.as_str().into(), version: "1".into(), attributes: resource }),
        })
    })
}

fn predicate() -> impl Strategy<Value = SpanPredicate> {
    prop_oneof![
        "[s-v]".prop_map(SpanPredicate::Service),
        "[p-s]".prop_map(SpanPredicate::Name),
        Just(SpanPredicate::Error),
        (0..1_000_000_i64).prop_map(SpanPredicate::MinDuration),
        ("[a-c]", "[a-c]{0,2}").prop_map(|(name, text)| SpanPredicate::Attribute(name, AttrValue::from(text.as_str()))),
        ("[a-c]", any::<bool>()).prop_map(|(name, is)| SpanPredicate::Attribute(name, AttrValue::Bool(is))),
    ]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Traces in the cursor's order; spans of a trace that start together in the order of their ids.
fn read(store: &dyn SpanSource, fragment: &SpanFragment) -> Vec<(TraceId, Vec<Span>)> {
    let mut cursor = block_on(store.open(&TenantId::anonymous(), fragment, &ReadContext::unlimited())).unwrap();
    let mut all = Vec::new();
    while let Some(batch) = cursor.next().unwrap() {
        assert!(!batch.is_empty());
        all.extend(batch.into_iter().map(|trace| (trace.trace_id, plain(trace))));
    }
    all
}

fn plain(trace: TraceData) -> Vec<Span> {
    let mut spans: Vec<Span> = trace.spans.iter().map(|span| (**span).clone()).collect();
    assert!(spans.is_sorted_by_key(|span| span.start));
    spans.sort_by_key(|span| (span.start, span.span_id, span.kind as u8));
    spans
}

fn everything() -> SpanFragment {
    SpanFragment { start: Nanos::MIN, end: Nanos::MAX, predicates: Vec::new() }
}

#[derive(Clone, Debug)]
enum Op {
    Append(Vec<Arc<Span>>),
    Flush,
    /// As many hours after the first span as given: blocks are merged, none expires.
    Tick(i64),
    Reopen,
    Query(SpanFragment),
}

fn op() -> impl Strategy<Value = Op> {
    let fragment = (0..HOUR / 2, 0..HOUR / 2, proptest::collection::vec(predicate(), 0..3));
    prop_oneof![
        4 => proptest::collection::vec(span(), 1..12).prop_map(Op::Append),
        1 => Just(Op::Flush),
        1 => (0..200_i64).prop_map(Op::Tick),
        1 => Just(Op::Reopen),
        3 => fragment.prop_map(|(start, length, predicates)| {
            Op::Query(SpanFragment { start: Nanos(start), end: Nanos(start + length), predicates })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]
    #[test]
    fn the_store_on_disk_agrees_with_the_one_in_memory(ops in proptest::collection::vec(op(), 1..25)) {
        let dir = SimDir::new(1);
        let model = MemSpans::new(&Budget::unlimited());
        let mut store = open(&dir);
        // A repeated span is the same span: which of two different ones counts is not promised.
        let mut sent: std::collections::HashMap<_, Arc<Span>> = std::collections::HashMap::new();
        for op in ops {
            match op {
                Op::Append(spans) => {
                    let key = |s: &Arc<Span>| (s.trace_id, s.span_id, s.kind);
                    let spans: Vec<_> =
                        spans.into_iter().map(|s| sent.entry(key(&s)).or_insert(s).clone()).collect();
                    model.append(&TenantId::anonymous(), &spans).unwrap();
                    store.append(&TenantId::anonymous(), &spans).unwrap();
                }
                Op::Flush => store.flush().unwrap(),
                Op::Tick(hours) => store.tick(Nanos(hours * HOUR)).unwrap(),
                Op::Reopen => {
                    drop(store);
                    dir.restart();
                    store = open(&dir);
                }
                Op::Query(fragment) => prop_assert_eq!(read(&store, &fragment), read(&model, &fragment)),
            }
        }
        prop_assert_eq!(read(&store, &everything()), read(&model, &everything()));
        for id in 0..13 {
            let of = |store: &dyn SpanSource| block_on(store.trace(&TenantId::anonymous(), TraceId([id; 16]))).unwrap();
            prop_assert_eq!(of(&store).map(plain), of(&model).map(plain));
        }
    }

    #[test]
    fn arbitrary_bytes_are_no_frame_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode_frame(&bytes);
        let _ = decode_frame(&[b"\x01a\x01", &bytes[..]].concat());
        let ids = |n: u32| (0..n).flat_map(|k| [&[0; 16][..], &k.to_le_bytes()].concat()).collect::<Vec<_>>();
        let _ = decode_tables(&bytes, ids(0).into());
        // A group of one row of one trace, then anything.
        let _ = decode_tables(&[b"\x01\x01\x01\x00\x00\x01\x01", &bytes[..]].concat(), ids(1).into());
    }
}

fn simple(trace: u32, id: u8, start: i64) -> Arc<Span> {
    let mut trace_id = [1; 16];
    trace_id[..4].copy_from_slice(&trace.to_be_bytes());
    Arc::new(Span {
        trace_id: TraceId(trace_id),
        span_id: SpanId([id; 8]),
        name: "op".into(),
        start: Nanos(start),
        end: Nanos(start + 5),
        attributes: vec![
            ("match.id".into(), AttrValue::Str(format!("match-{}", trace % 50).into())),
            ("request".into(), AttrValue::Str(format!("request-{trace}-{id}").into())),
        ],
        ..Span::default()
    })
}

#[tokio::test]
async fn spans_on_disk_keep_the_contract() {
    suite::spans(&open(&SimDir::new(1))).await;
    // Every write makes a block.
    let small = SpanStoreOptions { head_bytes: 1, ..SpanStoreOptions::default() };
    suite::spans(&SpanStore::open(Arc::new(SimDir::new(1)), &Budget::unlimited(), small).unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    let dir = Arc::new(OsDir::open(folder.path()).unwrap());
    suite::spans(&SpanStore::open(dir, &Budget::unlimited(), SpanStoreOptions::default()).unwrap()).await;
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_any_step() {
    let tenant = TenantId::anonymous();
    for seed in 0..120_u64 {
        let dir = SimDir::new(seed);
        let mut acknowledged = Vec::new();
        for life in 0..3_u32 {
            dir.crash_after(500 + seed * 331 % 60_000);
            if let Ok(store) = SpanStore::open(Arc::new(dir.clone()), &Budget::unlimited(), options()) {
                for n in 0..40 {
                    let trace = life * 1000 + n;
                    let spans = [simple(trace, 1, i64::from(trace)), simple(trace, 2, i64::from(trace) + 3)];
                    if store.append(&tenant, &spans).is_err() {
                        break;
                    }
                    acknowledged.push(trace);
                }
            }
            dir.restart();
            let found = read(&open(&dir), &everything());
            for trace in &acknowledged {
                let wanted = simple(*trace, 1, 0).trace_id;
                let spans = found.iter().find(|(id, _)| *id == wanted).map(|(_, spans)| spans.len());
                assert_eq!(spans, Some(2), "seed {seed}, life {life}: trace {trace} was acknowledged");
            }
            assert!(found.iter().all(|(_, spans)| spans.len() == 2), "no half of a request, no span twice");
        }
    }
}

#[test]
fn a_damaged_file_costs_itself() {
    let tenant = TenantId::anonymous();
    let dir = SimDir::new(1);
    let store = open(&dir);
    for block in 0..3 {
        let spans: Vec<_> = (0..40).map(|n| simple(block * 1000 + n, 1, i64::from(n))).collect();
        store.append(&tenant, &spans).unwrap();
        store.flush().unwrap();
    }
    assert_eq!((store.stats().blocks, read(&store, &everything()).len()), (3, 120));
    drop(store);
    let folder = "spans/blocks/anonymous";
    let path = format!("{folder}/{}", dir.list(folder).unwrap()[1]);
    let len = dir.read(&path).unwrap().len();
    for byte in (0..len).step_by(7) {
        dir.flip_bit(&path, byte, (byte % 8) as u8);
        let store = open(&dir);
        let found = read(&store, &everything());
        assert!((80..=120).contains(&found.len()), "byte {byte}: {}", found.len());
        for fragment in
            [SpanPredicate::Attribute("match.id".into(), "match-7".into()), SpanPredicate::Name("op".into())]
        {
            let fragment = SpanFragment { predicates: vec![fragment], ..everything() };
            assert!(!read(&store, &fragment).is_empty(), "byte {byte}");
        }
        drop(store);
        dir.flip_bit(&path, byte, (byte % 8) as u8);
    }
    // Without its list of blocks, the store takes those that are there.
    dir.flip_bit("spans/manifest", 20, 1);
    assert_eq!(read(&open(&dir), &everything()).len(), 120);
}

#[test]
fn blocks_go_when_all_their_spans_are_past_the_retention_and_not_before() {
    let tenant = TenantId::anonymous();
    let dir = SimDir::new(1);
    let day = Duration::from_secs(24 * 3600);
    let options = SpanStoreOptions { retention: SpanRetention { normal: day, slow: day, errors: day }, ..options() };
    let store = SpanStore::open(Arc::new(dir.clone()), &Budget::unlimited(), options).unwrap();
    for day in 0..3 {
        store.append(&tenant, &[simple(day, 1, i64::from(day) * 24 * HOUR)]).unwrap();
        store.flush().unwrap();
    }
    store.tick(Nanos(24 * HOUR)).unwrap();
    assert_eq!(store.stats().blocks, 3, "the oldest is exactly a day old");
    store.tick(Nanos(24 * HOUR + 1)).unwrap();
    assert_eq!(store.stats().blocks, 2);
    dir.restart();
    assert_eq!(read(&open(&dir), &everything()).len(), 2);
}

#[test]
fn a_full_disk_refuses_and_then_goes_on() {
    let tenant = TenantId::anonymous();
    let dir = SimDir::new(1);
    let store = open(&dir);
    let mut n = 0;
    for capacity in [8_000, 40_000, 90_000] {
        dir.set_capacity(capacity);
        let error = loop {
            match store.append(&tenant, &[simple(n, 1, i64::from(n))]) {
                Ok(_) => n += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, WriteError::Full(_)), "{error}");
        assert_eq!(read(&store, &everything()).iter().filter(|(_, s)| s[0].start.0 < i64::from(n)).count(), n as usize);
    }
    dir.set_capacity(u64::MAX);
    store.append(&tenant, &[simple(n, 1, i64::from(n))]).unwrap();
    store.flush().unwrap();
    drop(store);
    dir.restart();
    assert_eq!(read(&open(&dir), &everything()).len(), n as usize + 1);
}

#[test]
fn tenants_do_not_see_each_other() {
    let dir = SimDir::new(1);
    let store = open(&dir);
    let other = TenantId::parse("other").unwrap();
    store.append(&other, &[simple(1, 1, 1)]).unwrap();
    for _ in 0..2 {
        assert!(read(&store, &everything()).is_empty());
        assert!(block_on(store.trace(&TenantId::anonymous(), simple(1, 1, 1).trace_id)).unwrap().is_none());
        assert!(block_on(store.trace(&other, simple(1, 1, 1).trace_id)).unwrap().is_some());
        store.flush().unwrap();
    }
}

#[test]
fn attributes_whose_texts_do_not_repeat_are_found_too() {
    let tenant = TenantId::anonymous();
    let dir = SimDir::new(1);
    let options = SpanStoreOptions::default();
    let store = SpanStore::open(Arc::new(dir), &Budget::unlimited(), options).unwrap();
    let spans: Vec<_> = (0..3000).map(|n| simple(n, 1, i64::from(n) * 1_000_000)).collect();
    store.append(&tenant, &spans).unwrap();
    store.flush().unwrap();
    for (name, text, wanted) in
        [("request", "request-1234-1", 1), ("match.id", "match-7", 60), ("match.id", "match", 0)]
    {
        let predicates = vec![SpanPredicate::Attribute(name.into(), text.into())];
        assert_eq!(read(&store, &SpanFragment { predicates, ..everything() }).len(), wanted, "{name}={text}");
    }
    let newest: Vec<i64> = read(&store, &everything()).iter().map(|(_, spans)| spans[0].start.0).collect();
    assert!(newest.is_sorted_by(|a, b| a > b) && newest.len() == 3000);
}

#[test]
fn a_block_over_decades_is_searched_in_few_windows() {
    let tenant = TenantId::anonymous();
    let store = open(&SimDir::new(1));
    store.append(&tenant, &[simple(1, 1, 0), simple(2, 1, 500_000 * HOUR), simple(3, 1, 300_000 * HOUR)]).unwrap();
    for _ in 0..2 {
        let order: Vec<i64> = read(&store, &everything()).iter().map(|(_, s)| s[0].start.0 / HOUR).collect();
        assert_eq!(order, [500_000, 300_000, 0]);
        store.flush().unwrap();
    }
}
