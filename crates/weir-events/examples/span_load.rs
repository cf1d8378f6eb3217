//! What the span store takes in, keeps and finds, on a real disk and without HTTP:
//! `cargo run --release -p weir-events --example span_load -- FOLDER [TRACES]`.
//! The traces have the shape of the yardstick's: 12 spans of 6 services, one trace in a hundred failed.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for people")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_events::{SpanStore, SpanStoreOptions};
use weir_model::sink::SpanSink;
use weir_model::source::{ReadContext, SpanColumns, SpanFragment, SpanPredicate, SpanSource};
use weir_model::{
    AttrValue, Budget, Nanos, Resource, Scope, Span, SpanId, SpanKind, SpanStatus, StatusCode, TenantId, TraceId,
};
use weir_wal::OsDir;

const SERVICES: [&str; 6] = ["producer", "enricher", "stream-processor", "odds-engine", "sink-writer", "delivery-api"];
/// Service, parent, kind, name.
const SPANS: [(usize, usize, SpanKind, &str); 12] = [
    (0, 0, SpanKind::Server, "POST /events"),
    (0, 0, SpanKind::Producer, "events.raw publish"),
    (1, 1, SpanKind::Consumer, "events.raw process"),
    (1, 2, SpanKind::Client, "SELECT players"),
    (1, 2, SpanKind::Producer, "events.enriched publish"),
    (2, 4, SpanKind::Consumer, "events.enriched process"),
    (2, 5, SpanKind::Internal, "window aggregate"),
    (2, 5, SpanKind::Client, "GET odds"),
    (3, 7, SpanKind::Server, "GET /odds"),
    (4, 5, SpanKind::Consumer, "match.updates process"),
    (4, 9, SpanKind::Client, "INSERT match_events"),
    (5, 9, SpanKind::Consumer, "push update"),
];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn resources() -> Vec<Arc<Resource>> {
    let attributes = |service: &&str| {
        let of = |name: &str, value: &str| (name.into(), AttrValue::from(value));
        vec![
            of("service.name", service),
            of("service.namespace", "live-sports"),
            of("deployment.environment", "production"),
            of("k8s.pod.name", &format!("{service}-7d9f")),
        ]
    };
    SERVICES.iter().map(|service| Arc::new(Resource { attributes: attributes(service) })).collect()
}

fn trace(random: &mut Random, at: i64, resources: &[Arc<Resource>], scope: &Arc<Scope>) -> Vec<Arc<Span>> {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&random.next().to_be_bytes());
    id[8..].copy_from_slice(&random.next().to_be_bytes());
    let failed = if random.below(100) == 0 { random.below(12) } else { 99 };
    let ids: Vec<SpanId> = (0..12).map(|_| SpanId(random.next().to_be_bytes())).collect();
    let mut start = at;
    let span = |(k, (service, parent, kind, name)): (usize, &(usize, usize, SpanKind, &str))| {
        let text = |name: &str, value: &str| (Arc::from(name), AttrValue::from(value));
        let number = |name: &str, value: u64| (Arc::from(name), AttrValue::Int(value as i64));
        let mut attributes = vec![text("match.id", &format!("match-{:04}", random.below(2000)))];
        match kind {
            SpanKind::Producer | SpanKind::Consumer => attributes.extend([
                text("messaging.system", "kafka"),
                text("messaging.destination.name", name.split(' ').next().unwrap()),
                number("messaging.kafka.destination.partition", random.below(24)),
                number("messaging.kafka.message.offset", random.below(1 << 30)),
            ]),
            SpanKind::Client => attributes.extend([
                text("db.system", "postgresql"),
                text("db.statement", "SELECT * FROM players WHERE match_id = $1"),
            ]),
            _ => attributes.extend([
                text("http.method", "GET"),
                text("http.route", "/v1/events"),
                number("http.status_code", 200),
            ]),
        }
        start += random.below(2_000_000) as i64;
        let code = if k as u64 == failed { StatusCode::Error } else { StatusCode::Unset };
        Arc::new(Span {
            trace_id: TraceId(id),
            span_id: ids[k],
            parent: (k > 0).then(|| ids[*parent]),
            name: (*name).into(),
            kind: *kind,
            start: Nanos(start),
            end: Nanos(start + random.below(50_000_000) as i64),
            status: SpanStatus { code, message: "".into() },
            attributes,
            resource: resources[*service].clone(),
            scope: scope.clone(),
            ..Span::default()
        })
    };
    SPANS.iter().enumerate().map(span).collect()
}

fn peak_mib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or_else(String::new, |kib| (kib >> 10).to_string())
}

fn time(store: &SpanStore, name: &str, limit: usize, predicates: Vec<SpanPredicate>) {
    let fragment = SpanFragment { start: Nanos(0), end: Nanos::MAX, predicates };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..5 {
        let start = Instant::now();
        let (tenant, context) = (TenantId::anonymous(), ReadContext::unlimited());
        let mut cursor = runtime.block_on(store.open(&tenant, &fragment, &context)).unwrap();
        found = 0;
        while let Some(batch) = cursor.next().unwrap() {
            found += batch.len();
            if found >= limit {
                break;
            }
        }
        times.push(start.elapsed());
    }
    let first = times[0];
    times.sort_unstable();
    println!("{name:<28} {found:>7} traces, first {first:>9.2?}, median {:>9.2?}", times[2]);
}

/// What a metrics query reads: the forms of all spans, and their durations if it asks for them.
fn time_columns(store: &SpanStore, name: &str, durations: bool) {
    let columns = SpanColumns {
        start: Nanos(0),
        end: Nanos::MAX,
        attributes: Vec::new(),
        durations,
        steps: Some((Nanos(0), 60_000_000_000)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (mut times, mut sum) = (Vec::new(), 0_i64);
    let mut n_rows = 0;
    for _ in 0..5 {
        let start = Instant::now();
        let (tenant, context) = (TenantId::anonymous(), ReadContext::unlimited());
        let mut cursor = runtime.block_on(store.open_columns(&tenant, &columns, &context)).unwrap().unwrap();
        let (mut forms, mut lengths) = (Vec::new(), Vec::new());
        n_rows = 0;
        while let Some(batch) = cursor.next().unwrap() {
            forms.clear();
            lengths.clear();
            batch.forms(&mut forms);
            batch.durations(&mut lengths);
            n_rows += forms.len();
            sum += forms.iter().map(|form| i64::from(*form)).sum::<i64>() + lengths.iter().sum::<i64>();
        }
        times.push(start.elapsed());
    }
    let first = times[0];
    times.sort_unstable();
    println!("{name:<28} {n_rows:>7} spans,  first {first:>9.2?}, median {:>9.2?} ({sum:x})", times[2]);
}

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().expect("give a folder to write to");
    let n_traces: usize = args.next().map_or(100_000, |n| n.parse().unwrap());
    let dir = Arc::new(OsDir::open(folder.as_ref()).unwrap());
    let store = SpanStore::open(dir, &Budget::unlimited(), SpanStoreOptions::default()).unwrap();
    let (resources, scope) = (resources(), Arc::new(Scope { name: "yardstick".into(), ..Scope::default() }));
    let (mut random, tenant) = (Random(1), TenantId::anonymous());
    let (mut spent, mut slowest) = (Duration::ZERO, Duration::ZERO);
    let mut some_id = TraceId::default();
    let mut at = 1_700_000_000_000_000_000;
    for _ in 0..n_traces / 50 {
        let mut batch = Vec::with_capacity(600);
        for _ in 0..50 {
            at += random.below(60_000_000) as i64;
            batch.extend(trace(&mut random, at, &resources, &scope));
        }
        some_id = if some_id == TraceId::default() { batch[0].trace_id } else { some_id };
        let start = Instant::now();
        store.append(&tenant, &batch).unwrap();
        let took = start.elapsed();
        (spent, slowest) = (spent + took, slowest.max(took));
    }
    let spans = n_traces as f64 * 12.0;
    println!("{:.0} spans/s appended and synced, slowest request {slowest:.2?}", spans / spent.as_secs_f64());
    store.flush().unwrap();
    let stats = store.stats();
    println!(
        "{:.1} bytes a span in {} blocks, log {} bytes",
        stats.block_bytes as f64 / spans,
        stats.blocks,
        stats.log_bytes
    );
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let start = Instant::now();
    let found = runtime.block_on(store.trace(&tenant, some_id)).unwrap().unwrap();
    println!("by id: {} spans, {:.2?}", found.spans.len(), start.elapsed());
    let text = |name: &str, value: &str| SpanPredicate::Attribute(name.into(), AttrValue::from(value));
    time(&store, "errors, newest 20", 20, vec![SpanPredicate::Error]);
    time(&store, "match.id = match-0042", usize::MAX, vec![text("match.id", "match-0042")]);
    let both = ["producer", "sink-writer"].map(|name| SpanPredicate::Service(name.into()));
    time(&store, "two services and an error, 20", 20, both.into_iter().chain([SpanPredicate::Error]).collect());
    time(&store, "everything", usize::MAX, Vec::new());
    time_columns(&store, "forms of all", false);
    time_columns(&store, "forms and durations of all", true);
    let (start, before) = (Instant::now(), store.stats().blocks);
    for _ in 0..100 {
        store.tick(Nanos(at + 1_000_000_000_000)).unwrap();
    }
    let stats = store.stats();
    println!(
        "merged in {:.2?}: {} blocks from {before}, {:.1} bytes a span",
        start.elapsed(),
        stats.blocks,
        stats.block_bytes as f64 / spans
    );
    time(&store, "match.id, merged", usize::MAX, vec![text("match.id", "match-0042")]);
    time_columns(&store, "forms of all, merged", false);
    println!("peak resident {} MiB", peak_mib());
}
