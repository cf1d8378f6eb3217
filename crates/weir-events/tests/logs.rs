//! The log store passes the suite of its traits, agrees with a plain list, and keeps to its budget.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use weir_events::LogStore;
use weir_model::sink::{LogSink, Outcome, StreamBatch, WriteError};
use weir_model::source::{
    BoxFuture, Direction, LinePredicate, LogCursor, LogFragment, LogSource, LogStats, ReadContext, ReadError,
};
use weir_model::{Budget, Labels, LogEntry, Matcher, Nanos, TenantId, suite};

/// Makes segments after every write.
struct Frozen(LogStore);

impl LogSink for Frozen {
    fn append(&self, tenant: &TenantId, streams: &[StreamBatch]) -> Result<Outcome, WriteError> {
        let outcome = self.0.append(tenant, streams);
        self.0.freeze_all();
        outcome
    }
}

impl LogSource for Frozen {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        self.0.open(tenant, fragment, context)
    }
    fn streams<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        start: Nanos,
        end: Nanos,
    ) -> BoxFuture<'a, Result<Vec<(Labels, LogStats)>, ReadError>> {
        self.0.streams(tenant, matchers, start, end)
    }
}

#[tokio::test]
async fn the_open_head_keeps_the_contract() {
    suite::logs(&LogStore::new(&Budget::unlimited())).await;
}

fn everything(direction: Direction, predicates: Vec<LinePredicate>) -> LogFragment {
    LogFragment { matchers: vec![], start: Nanos::MIN, end: Nanos::MAX, direction, predicates }
}

async fn read(store: &LogStore, fragment: &LogFragment) -> Vec<(Labels, LogEntry)> {
    let tenant = TenantId::anonymous();
    let mut cursor = store.open(&tenant, fragment, &ReadContext::unlimited()).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = cursor.next(None).unwrap() {
        found.extend(batch.entries.into_iter().map(|e| (batch.labels.clone(), e)));
    }
    // Streams come in any order, each in the fragment's direction.
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

fn entry(at: i64, line: &str, trace: &str) -> LogEntry {
    let metadata = if trace.is_empty() { vec![] } else { vec![("trace_id".into(), trace.into())] };
    LogEntry { at: Nanos(at), line: line.into(), metadata }
}

fn stream(app: u8) -> Labels {
    Labels::from_pairs([("app", format!("app-{app}"))]).with("service_name", &format!("s{}", app / 2))
}

/// What a store must hold: sorted by stream, time and arrival, repeated lines once.
fn model(writes: &[(u8, i64, String, String)]) -> Vec<(Labels, LogEntry)> {
    let mut kept: Vec<(Labels, LogEntry)> = Vec::new();
    for (app, at, line, trace) in writes {
        let labels = stream(*app);
        if !kept.iter().any(|(l, e)| *l == labels && e.at.0 == *at && *e.line == **line) {
            kept.push((labels, entry(*at, line, trace)));
        }
    }
    kept.sort_by(|a, b| (&a.0, a.1.at).cmp(&(&b.0, b.1.at)));
    kept
}

#[tokio::test]
async fn segments_of_a_single_write_keep_the_contract() {
    suite::logs(&Frozen(LogStore::new(&Budget::unlimited()))).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any lines in any order, heads frozen at any time: everything comes back in order, and a
    /// needle finds what a scan finds.
    #[test]
    fn the_store_agrees_with_a_list(
        writes in prop::collection::vec(
            (0_u8..4, 0_i64..40, "\\PC{0,6}|(x=|7|12|\"| |ab|ab12cd34|\\{\"m\":\"a 1\"\\}){0,5}", "[ab]{0,1}"), 1..120),
        freeze_every in 1_usize..60,
        needle in "[ab127= \"]{1,3}",
    ) {
        let store = LogStore::new(&Budget::unlimited());
        for (i, (app, at, line, trace)) in writes.iter().enumerate() {
            let batch = StreamBatch { labels: stream(*app), entries: vec![entry(*at, line, trace)] };
            store.append(&TenantId::anonymous(), &[batch]).unwrap();
            if i % freeze_every == freeze_every - 1 {
                store.freeze_all();
            }
        }
        let want = model(&writes);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let forward = runtime.block_on(read(&store, &everything(Direction::Forward, vec![])));
        prop_assert_eq!(&forward, &want);
        let mut backward = runtime.block_on(read(&store, &everything(Direction::Backward, vec![])));
        backward.reverse();
        backward.sort_by(|a, b| a.0.cmp(&b.0));
        prop_assert_eq!(&backward, &want);
        for keep in [true, false] {
            let text = needle.clone();
            let predicate = if keep { LinePredicate::Contains(text) } else { LinePredicate::NotContains(text) };
            let got = runtime.block_on(read(&store, &everything(Direction::Forward, vec![predicate])));
            let want: Vec<_> = want.iter().filter(|(_, e)| e.line.contains(&needle) == keep).cloned().collect();
            prop_assert_eq!(got, want);
        }
    }
}

#[tokio::test]
async fn a_full_log_budget_drops_the_oldest_entries() {
    let budget = Budget::root(1 << 20);
    let store = LogStore::new(&budget);
    let mut state = 1_u64;
    for at in 0..50_000_i64 {
        // Ids that do not compress: 32 bytes a line.
        let id: String = (0..4)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                format!("{:016x}", state ^ (state >> 29))
            })
            .collect();
        let labels = Labels::from_pairs([("app", "x")]);
        store.append(&TenantId::anonymous(), &[StreamBatch { labels, entries: vec![entry(at, &id, "")] }]).unwrap();
        assert!(budget.used_bytes() <= 1 << 20);
    }
    let found: Vec<i64> =
        read(&store, &everything(Direction::Forward, vec![])).await.iter().map(|(_, e)| e.at.0).collect();
    assert_eq!(*found.last().unwrap(), 49_999, "the newest is there");
    let wanted: Vec<i64> = (found[0]..50_000).collect();
    assert_eq!(found, wanted, "nothing is missing between the oldest kept and the newest");
    assert!((12_000..40_000).contains(&found.len()), "{} kept", found.len());
}

#[tokio::test]
async fn a_reader_is_refused_when_its_budget_is_full() {
    let store = LogStore::new(&Budget::unlimited());
    let entries = (0..5_000).map(|at| entry(at, &format!("line {at}"), "")).collect();
    store.append(&TenantId::anonymous(), &[StreamBatch { labels: stream(0), entries }]).unwrap();
    store.freeze_all();
    let context = ReadContext { budget: Budget::root(10), ..ReadContext::unlimited() };
    let mut cursor =
        store.open(&TenantId::anonymous(), &everything(Direction::Forward, vec![]), &context).await.unwrap();
    assert!(matches!(cursor.next(None), Err(ReadError::Budget(_))));
}
