//! Metrics from columns on disk equal those from whole traces in memory.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use proptest::prelude::*;
use weir_events::{MemSpans, SpanStore, SpanStoreOptions};
use weir_model::sink::SpanSink;
use weir_model::source::{ReadContext, SpanSource};
use weir_model::span::SAMPLING_WEIGHT;
use weir_model::{
    AttrValue, Budget, Nanos, Resource, Scope, Span, SpanId, SpanKind, SpanStatus, StatusCode, TenantId, TraceId,
};
use weir_traceql::{MetricsParams, MetricsResult, metrics, parse};
use weir_wal::SimDir;

const SECOND: i64 = 1_000_000_000;

fn value() -> impl Strategy<Value = AttrValue> {
    prop_oneof![
        4 => "[a-c]{0,2}".prop_map(|text| AttrValue::from(text.as_str())),
        3 => (-3..600_i64).prop_map(AttrValue::Int),
        1 => (-4..4_i32).prop_map(|v| AttrValue::Double(f64::from(v) / 2.0)),
        1 => any::<bool>().prop_map(AttrValue::Bool),
        1 => proptest::collection::vec("[a-c]", 0..3)
            .prop_map(|items| AttrValue::Array(items.iter().map(|text| AttrValue::from(text.as_str())).collect())),
    ]
}

fn attributes() -> impl Strategy<Value = Vec<(Arc<str>, AttrValue)>> {
    proptest::collection::vec(("[a-c]", value()), 0..4)
        .prop_map(|list| list.into_iter().map(|(name, value)| (name.as_str().into(), value)).collect())
}

/// Few spans stand for others; in sums of these nothing is rounded.
fn weight() -> impl Strategy<Value = Option<AttrValue>> {
    prop_oneof![
        6 => Just(None),
        1 => prop_oneof![Just(2.5), Just(4.0), Just(0.5)].prop_map(|v| Some(AttrValue::Double(v))),
        1 => Just(Some(AttrValue::Int(8))),
        1 => Just(Some(AttrValue::from("4"))),
    ]
}

fn span() -> impl Strategy<Value = Arc<Span>> {
    let kind = prop_oneof![Just(SpanKind::Internal), Just(SpanKind::Server), Just(SpanKind::Consumer)];
    let code = prop_oneof![Just(StatusCode::Unset), Just(StatusCode::Ok), Just(StatusCode::Error)];
    let ids = (1..30_u8, 1..6_u8, proptest::option::of(1..6_u8), kind);
    let times = (0..100 * SECOND, 0..3_000_000_i64);
    (ids, times, ("[p-r]", code), (attributes(), weight()), attributes(), "[s-u]").prop_map(
        |(
            (trace, id, parent, kind),
            (start, length),
            (name, code),
            (mut attributes, weight),
            mut resource,
            service,
        )| {
            attributes.extend(weight.map(|weight| (SAMPLING_WEIGHT.into(), weight)));
            resource.push(("service.name".into(), AttrValue::from(service.as_str())));
            Arc::new(Span {
                trace_id: TraceId([trace; 16]),
                span_id: SpanId([id; 8]),
                parent: parent.map(|parent| SpanId([parent; 8])),
                name: name.as_str().into(),
                kind,
                start: Nanos(start),
                end: Nanos(start + length),
                status: SpanStatus { code, message: name.as_str().into() },
                attributes,
                resource: Arc::new(Resource { attributes: resource }),
                scope: Arc::new(Scope { name: service.as_str().into(), ..Scope::default() }),
                ..Span::default()
            })
        },
    )
}

const FILTERS: [&str; 15] = [
    "{}",
    "{ status = error }",
    "{ resource.service.name = `s` && name != `p` }",
    "{ span.a = `b` }",
    "{ .b != `a` || kind = server }",
    "{ duration > 1ms && span.a > 100 }",
    "{ duration <= 2ms } | { resource.a = nil || span.b =~ `a.*` }",
    "{ instrumentation:name = `t` && statusMessage = `q` }",
    "{ span.a = 0.5 || !(span.c = true) }",
    "{ span.a = nil } | select(span.b)",
    "{ span.c + 1 > 3 }",
    "{ span.weir.sampling.weight > 2 }",
    // These have to see the trace.
    "{ trace:rootName = `p` }",
    "{ name = `p` } >> { name = `q` }",
    "{ parent.name = `p` || span:childCount > 0 }",
];
const FUNCTIONS: [&str; 10] = [
    "rate()",
    "count_over_time()",
    "count_over_time() by (resource.service.name)",
    "rate() by (span.a)",
    "rate() by (.a, name, status, kind)",
    "quantile_over_time(duration, .5, .99) by (resource.service.name)",
    "histogram_over_time(duration) by (name)",
    "max_over_time(span.a) by (.b)",
    "sum_over_time(duration)",
    "avg_over_time(span.c) | topk(2)",
];

fn evaluate(source: &dyn SpanSource, query: &str, params: MetricsParams) -> MetricsResult {
    let run = metrics(source, &TENANT, parse(query).unwrap(), params, &CONTEXT);
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run).unwrap()
}

static TENANT: std::sync::LazyLock<TenantId> = std::sync::LazyLock::new(TenantId::anonymous);
static CONTEXT: std::sync::LazyLock<ReadContext> = std::sync::LazyLock::new(ReadContext::unlimited);

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn columns_agree_with_whole_traces(
        requests in proptest::collection::vec((proptest::collection::vec(span(), 1..40), any::<bool>()), 1..6),
        (start, length) in (0..60 * SECOND, SECOND..100 * SECOND),
        step in prop_oneof![Just(SECOND), Just(7 * SECOND), Just(200 * SECOND)],
    ) {
        let options = SpanStoreOptions { group_rows: 8, ..SpanStoreOptions::default() };
        let store = SpanStore::open(Arc::new(SimDir::new(1)), &Budget::unlimited(), options).unwrap();
        let model = MemSpans::new(&Budget::unlimited());
        // A repeated span is the same span: which of two different ones counts is not promised.
        let mut sent: std::collections::HashMap<_, Arc<Span>> = std::collections::HashMap::new();
        for (spans, flush) in requests {
            let key = |s: &Arc<Span>| (s.trace_id, s.span_id, s.kind);
            let spans: Vec<_> = spans.into_iter().map(|s| sent.entry(key(&s)).or_insert(s).clone()).collect();
            store.append(&TENANT, &spans).unwrap();
            model.append(&TENANT, &spans).unwrap();
            if flush {
                store.flush().unwrap();
            }
        }
        let step = step.min(length);
        let params = MetricsParams { start: Nanos(start), end: Nanos(start + length), step_nanos: step, exemplars: 3 };
        for filter in FILTERS {
            for function in FUNCTIONS {
                let query = format!("{filter} | {function}");
                let (got, wanted) = (evaluate(&store, &query, params), evaluate(&model, &query, params));
                let plain = |result: &MetricsResult| {
                    result.series.iter().map(|s| (format!("{:?}", s.labels), s.samples.clone())).collect::<Vec<_>>()
                };
                prop_assert_eq!(plain(&got), plain(&wanted), "{}", &query);
                for exemplar in got.series.iter().flat_map(|series| &series.exemplars) {
                    let is_real = |span: &&Arc<Span>| span.trace_id == exemplar.trace_id && span.start == exemplar.at;
                    prop_assert!(sent.values().any(|span| is_real(&span)), "{}: {:?}", &query, exemplar);
                }
            }
        }
    }
}
