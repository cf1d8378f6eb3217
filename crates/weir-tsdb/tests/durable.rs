//! The metrics store on a disk that crashes, fills up and rots.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::admin::MetricAdmin;
use weir_model::sink::{MetricBatch, MetricSink, RawRequest, SampleColumns, SeriesBatch, SeriesSink, WriteError};
use weir_model::source::{Cancel, MetricFragment, MetricSource, Projection, ReadContext};
use weir_model::{
    Budget, Exemplar, Labels, MatchOp, Matcher, MetricKind, MetricMetadata, Sample, SimClock, TenantId, TimeRange,
    Timestamp, suite,
};
use weir_tsdb::block::{Blocks, BlocksOptions, HeadAndBlocks};
use weir_tsdb::{Head, Logged, MetricStore, MetricStoreError, MetricStoreOptions, Recovered, ReplayError};
use weir_wal::{Dir, SimDir};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
/// What the tests call a request: a series' name and its samples' times, values equal to them.
const REQUEST: u8 = 3;

type Content = BTreeMap<String, Vec<i64>>;

fn tenant() -> TenantId {
    TenantId::anonymous()
}

fn open_with(dir: &SimDir, clock: &Arc<SimClock>, budget: &Budget) -> (MetricStore, Recovered) {
    let options = MetricStoreOptions::default();
    let store = MetricStore::open(Arc::new(dir.clone()), budget, clock.clone(), options).unwrap();
    let recovered = store.replay(&mut |tenant, logged| match logged {
        Logged::Request(raw) => {
            assert_eq!(raw.kind, REQUEST);
            append_request(&store, tenant, raw.body, None).map_err(ReplayError::Write)
        }
        Logged::Batch(_) => Ok(()),
    });
    let recovered = recovered.unwrap();
    (store, recovered)
}

fn open(dir: &SimDir, clock: &Arc<SimClock>) -> (MetricStore, Recovered) {
    open_with(dir, clock, &Budget::unlimited())
}

fn request(name: &str, times: &[i64]) -> Vec<u8> {
    let times: Vec<String> = times.iter().map(ToString::to_string).collect();
    format!("{name} {}", times.join(" ")).into_bytes()
}

/// Decodes and appends as a receiver does.
fn append_request(
    store: &MetricStore,
    tenant: &TenantId,
    body: &[u8],
    raw: Option<RawRequest<'_>>,
) -> Result<(), WriteError> {
    let text = std::str::from_utf8(body).unwrap();
    let (name, times) = text.split_once(' ').unwrap();
    let (series, _) = store.register(tenant, &[("__name__", name)])?;
    let mut columns = SampleColumns::default();
    columns.push(series, times.split(' ').map(|at| at.parse().unwrap()).map(|at: i64| Sample::new(at, at as f64)));
    let done = store.append_columns(tenant, raw, &columns, &MetricBatch::default())?;
    assert!(done.dead.is_empty() && done.outcome.refused.is_empty());
    done.mark.map_or(Ok(()), |mark| store.sync(mark))
}

fn push(store: &MetricStore, name: &str, times: &[i64]) -> Result<(), WriteError> {
    let body = request(name, times);
    append_request(store, &tenant(), &body, Some(RawRequest { kind: REQUEST, received: NOW, body: &body }))
}

fn batch(name: &str, times: &[i64]) -> MetricBatch {
    let samples = times.iter().map(|at| Sample::new(*at, *at as f64)).collect();
    let labels = Labels::from_pairs([("__name__", name)]);
    MetricBatch { series: vec![SeriesBatch { labels, samples, ..SeriesBatch::default() }], metadata: vec![] }
}

async fn content(store: &MetricStore) -> Content {
    read(store, &[], TimeRange::ALL).await
}

async fn read<S: MetricSource>(store: &S, matchers: &[Matcher], range: TimeRange) -> Content {
    let fragment = MetricFragment {
        matchers: matchers.to_vec(),
        range,
        projection: Projection::Samples,
        ..MetricFragment::default()
    };
    let tenant = tenant();
    let mut cursor = store.open(&tenant, &fragment, &ReadContext::unlimited()).await.unwrap();
    let mut found = Content::new();
    while let Some(batch) = cursor.next().unwrap() {
        for series in batch {
            assert!(series.samples.iter().all(|s| s.value == s.at.0 as f64));
            let times = series.samples.iter().map(|s| s.at.0).collect();
            assert!(found.insert(series.labels.metric_name().to_owned(), times).is_none(), "each series comes once");
        }
    }
    found
}

#[tokio::test]
async fn a_store_on_disk_keeps_the_contract() {
    suite::metrics(&open(&SimDir::new(1), &Arc::new(SimClock::at(NOW))).0).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_any_crash() {
    let mut n_crashes = 0;
    for seed in 0..150_u64 {
        let dir = SimDir::new(seed);
        let clock = Arc::new(SimClock::at(NOW));
        let (mut sent, mut acknowledged) = (Vec::new(), Vec::new());
        for life in 0..3_u64 {
            let (store, _) = open(&dir, &clock);
            let found = content(&store).await;
            for (name, at) in &acknowledged {
                let is_there = found.get::<String>(name).is_some_and(|times| times.contains(at));
                assert!(is_there, "seed {seed}, life {life}: {name} at {at} is lost");
            }
            for (name, times) in &found {
                assert!(times.is_sorted_by(|a, b| a < b), "seed {seed}: {name} {times:?}");
                assert!(times.iter().all(|at| sent.contains(&(name.clone(), *at))), "seed {seed}: never sent");
            }
            // Each byte written is a step: somewhere among the next writes.
            dir.crash_after(1 + (seed * 7_919 + life * 104_729) % 2_500);
            for write in 0..12 {
                let name = format!("m{}", write % 3);
                // Some late, some as the others before.
                let first = NOW.0 + (life as i64 * 40 + write * 7) % 90;
                let times = [first, first + 1, first + 5];
                sent.extend(times.map(|at| (name.clone(), at)));
                let done = match write % 2 {
                    0 => push(&store, &name, &times),
                    _ => store.append(&tenant(), &batch(&name, &times)).map(drop),
                };
                if done.is_ok() {
                    acknowledged.extend(times.map(|at| (name.clone(), at)));
                }
                if write % 5 == 4 {
                    let _ = store.cut();
                }
                if write == 9 {
                    while store.compact_next(&Cancel::default()).unwrap_or(false) {}
                }
            }
            n_crashes += u32::from(dir.has_crashed());
            drop(store);
            dir.restart();
        }
    }
    assert!(n_crashes > 200, "{n_crashes} crashes only");
}

#[tokio::test]
async fn exemplars_metadata_and_tenants_come_back() {
    let (dir, clock) = (SimDir::new(2), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "ab")]), at: NOW, value: 0.5 };
    let mut of_one = batch("latency", &[1, 2]);
    of_one.series[0].exemplars.push(exemplar.clone());
    let family = MetricMetadata {
        family: "latency".into(),
        kind: MetricKind::Histogram,
        help: "Time.".into(),
        unit: "seconds".into(),
    };
    of_one.metadata.push(family.clone());
    store.append(&tenant(), &of_one).unwrap();
    let other = TenantId::parse("other").unwrap();
    store.append(&other, &batch("theirs", &[3])).unwrap();
    drop(store);
    // From the log, and then from blocks and what the log keeps beside them.
    for recovered in [
        Recovered { blocks: 0, writes: 2, damaged: 0 },
        Recovered { blocks: 2, writes: 2, damaged: 0 },
        Recovered { blocks: 2, writes: 2, damaged: 0 },
    ] {
        let (store, found) = open(&dir, &clock);
        assert_eq!(found, recovered);
        assert_eq!(content(&store).await, Content::from([("latency".to_owned(), vec![1, 2])]));
        assert_eq!(store.metadata(&tenant(), "").await.unwrap(), std::slice::from_ref(&family));
        let exemplars = store.exemplars(&tenant(), &[], TimeRange::ALL).await.unwrap();
        assert_eq!(exemplars, [(of_one.series[0].labels.clone(), vec![exemplar.clone()])]);
        assert_eq!(store.label_values(&other, "__name__", &[], TimeRange::ALL).await.unwrap(), ["theirs"]);
        store.cut().unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_still_answers() {
    let (dir, clock) = (SimDir::new(5), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    push(&store, "first", &[1]).unwrap();
    dir.set_capacity(dir.used_bytes());
    let many: Vec<i64> = (0..20_000).collect();
    for refused in [push(&store, "many", &many), store.append(&tenant(), &batch("many", &many)).map(drop)] {
        let Err(WriteError::Full(text)) = refused else { panic!("{refused:?}") };
        assert!(text.contains("make room"), "{text}");
    }
    assert_eq!(content(&store).await["first"], [1]);
    dir.set_capacity(1 << 30);
    // The log tries again a second after a failure.
    for _ in 0..2 {
        clock.advance(Duration::from_secs(2));
        store.maintain().unwrap();
    }
    push(&store, "after", &[2]).unwrap();
    drop(store);
    let found = content(&open(&dir, &clock).0).await;
    assert_eq!((&found["first"], &found["after"]), (&vec![1], &vec![2]));
}

#[tokio::test]
async fn a_flipped_bit_costs_the_write_it_is_in() {
    let (dir, clock) = (SimDir::new(9), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    for k in 0..20 {
        push(&store, &format!("m{k}"), &[k, k + 1]).unwrap();
    }
    drop(store);
    let segment = format!("metrics/wal/{}", dir.list("metrics/wal").unwrap()[0]);
    let len = dir.read(&segment).unwrap().len();
    assert!(dir.flip_bit(&segment, len / 2, 3));
    let (store, recovered) = open(&dir, &clock);
    assert_eq!(recovered, Recovered { blocks: 0, writes: 19, damaged: 1 });
    assert_eq!(content(&store).await.len(), 19);
}

/// What a query over head and blocks answers is what a head alone does, whatever is cut and merged meanwhile.
#[tokio::test]
async fn head_and_blocks_answer_like_a_head_alone() {
    let (dir, clock) = (SimDir::new(11), Arc::new(SimClock::at(NOW)));
    let (mut store, _) = open(&dir, &clock);
    let alone = Head::new(&Budget::unlimited());
    let mut random = 7_u64;
    for round in 0..60_i64 {
        for series in 0..20 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Mostly a scrape further on, sometimes hours back, over many windows.
            let late = if (random >> 33).is_multiple_of(7) { (random >> 40) as i64 % 40_000_000 } else { 0 };
            let at = NOW.0 + round * 600_000 - late;
            let of_series = batch(&format!("m{series}"), &[at, at + 15_000]);
            store.append(&tenant(), &of_series).unwrap();
            alone.append(&tenant(), &of_series).unwrap();
        }
        match round % 10 {
            3 | 6 => store.cut().unwrap(),
            8 => {
                clock.advance(Duration::from_secs(7200));
                while store.compact_next(&Cancel::default()).unwrap() {}
            }
            9 => {
                drop(store);
                store = open(&dir, &clock).0;
            }
            _ => {}
        }
        let range = TimeRange::new(Timestamp(NOW.0 - 3_000_000), Timestamp(NOW.0 + round * 400_000));
        for (matchers, range) in [
            (vec![], TimeRange::ALL),
            (vec![], range),
            (vec![Matcher::new("__name__", MatchOp::Regex, "m1.*").unwrap()], range),
        ] {
            assert_eq!(read(&store, &matchers, range).await, read(&alone, &matchers, range).await, "round {round}");
            let of_store = store.label_values(&tenant(), "__name__", &matchers, range).await.unwrap();
            assert_eq!(of_store, alone.label_values(&tenant(), "__name__", &matchers, range).await.unwrap());
        }
    }
    assert!(store.replay(&mut |_, _| Ok(())).unwrap().blocks > 0);
}

#[tokio::test]
async fn a_cut_is_due_when_series_have_enough_samples_and_when_they_are_old() {
    let (dir, clock) = (SimDir::new(13), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    push(&store, "a", &[1]).unwrap();
    store.maintain().unwrap();
    assert_eq!(blocks_of(&dir), 0, "a sample is no reason for a block");
    clock.advance(Duration::from_secs(2 * 3600));
    store.maintain().unwrap();
    assert_eq!((blocks_of(&dir), dir.list("metrics/wal").unwrap().len()), (1, 0), "the log is empty");
    let before = content(&store).await;
    drop(store);
    let (store, recovered) = open(&dir, &clock);
    assert_eq!(recovered, Recovered { blocks: 1, writes: 0, damaged: 0 });
    assert_eq!(content(&store).await, before);
    // 16 MiB of log, 100 samples each.
    let many: Vec<i64> = (0..50_000).map(|k| k * 7_919).collect();
    for k in 0..60 {
        push(&store, &format!("m{k}"), &many).unwrap();
    }
    store.maintain().unwrap();
    assert!(blocks_of(&dir) > 1);
    assert_eq!(content(&store).await.len(), 61);
}

fn blocks_of(dir: &SimDir) -> usize {
    dir.list("metrics/blocks/anonymous").unwrap().len()
}

#[tokio::test]
async fn memory_that_is_used_up_is_made_free_by_a_cut() {
    let (dir, clock) = (SimDir::new(15), Arc::new(SimClock::at(NOW)));
    let budget = Budget::root(100_000);
    let (mut store, _) = open_with(&dir, &clock, &budget);
    for round in 0..400_i64 {
        clock.advance(Duration::from_secs(6));
        for k in 0..10 {
            // Values that do not compress.
            let times: Vec<i64> =
                (0..20).map(|n| NOW.0 + round * 1_000_000 + n * 49_999 + n * n * 37 % 1_001).collect();
            push(&store, &format!("m{k}"), &times).unwrap();
        }
        if round == 200 {
            drop(store);
            store = open_with(&dir, &clock, &budget).0;
        }
        assert!(budget.used_bytes() <= 100_000);
    }
    assert!(blocks_of(&dir) > 0);
    let found = content(&store).await;
    assert!(found.len() == 10 && found.values().all(|times| times.len() == 8_000), "nothing is dropped");
}

#[tokio::test]
async fn a_cut_that_fails_loses_nothing_and_is_tried_again() {
    let (dir, clock) = (SimDir::new(17), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    for k in 0..50 {
        push(&store, &format!("m{k}"), &[k, k + 7_919, k + 100_003]).unwrap();
    }
    dir.set_capacity(dir.used_bytes());
    store.cut().unwrap_err();
    push(&store, "m0", &[1, 2]).unwrap_err();
    let with_refused = content(&store).await;
    assert_eq!(with_refused.len(), 50);
    dir.set_capacity(1 << 30);
    clock.advance(Duration::from_secs(12));
    store.cut().unwrap();
    assert_eq!(content(&store).await, with_refused);
    drop(store);
    assert_eq!(content(&open(&dir, &clock).0).await, with_refused);
}

#[tokio::test]
async fn old_blocks_are_deleted_and_never_early() {
    let (dir, clock) = (SimDir::new(19), Arc::new(SimClock::at(NOW)));
    let options = MetricStoreOptions { retention: Some(Duration::from_secs(7 * 86_400)), ..Default::default() };
    let store = MetricStore::open(Arc::new(dir.clone()), &Budget::unlimited(), clock.clone(), options).unwrap();
    store.replay(&mut |_, _| Ok(())).unwrap();
    store.append(&tenant(), &batch("a", &[NOW.0])).unwrap();
    store.cut().unwrap();
    clock.advance(Duration::from_secs(7 * 86_400));
    store.maintain().unwrap();
    assert_eq!(content(&store).await.len(), 1, "seven days old to the second");
    clock.advance(Duration::from_secs(1));
    store.maintain().unwrap();
    assert!(content(&store).await.is_empty() && blocks_of(&dir) == 0);
}

#[tokio::test]
async fn deletion_holds_for_memory_and_blocks_and_a_snapshot_is_a_store() {
    let (dir, clock) = (SimDir::new(21), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    push(&store, "gone", &[1, 2, 3]).unwrap();
    store.cut().unwrap();
    push(&store, "gone", &[4, 5]).unwrap();
    push(&store, "kept", &[4, 5]).unwrap();
    let name = store.snapshot(false).unwrap();
    store.delete(&tenant(), &[Matcher::equal("__name__", "gone")], TimeRange::new(Timestamp(2), Timestamp(4))).unwrap();
    let want = Content::from([("gone".to_owned(), vec![1, 5]), ("kept".to_owned(), vec![4, 5])]);
    assert_eq!(content(&store).await, want);
    store.clean_tombstones().unwrap();
    assert_eq!(content(&store).await, want);
    let stats = store.stats(&tenant(), 1);
    assert_eq!((stats.n_series, stats.n_label_pairs), (2, 2));
    assert_eq!(stats.series_by_pair, [("__name__=gone".to_owned(), 1)]);
    drop(store);
    assert_eq!(content(&open(&dir, &clock).0).await, want);
    let folder: Arc<dyn Dir> = Arc::new(dir.clone());
    let blocks = Blocks::open(folder, &format!("metrics/snapshots/{name}"), BlocksOptions::default()).unwrap().blocks;
    let snapshot = HeadAndBlocks { head: Arc::new(Head::new(&Budget::unlimited())), blocks: Arc::new(blocks) };
    let before = Content::from([("gone".to_owned(), vec![1, 2, 3, 4, 5]), ("kept".to_owned(), vec![4, 5])]);
    assert_eq!(read(&snapshot, &[], TimeRange::ALL).await, before);
}

#[tokio::test]
async fn a_query_under_way_sees_what_a_cut_takes() {
    let (dir, clock) = (SimDir::new(23), Arc::new(SimClock::at(NOW)));
    let (store, _) = open(&dir, &clock);
    for k in 0..600 {
        push(&store, &format!("m{k}"), &[k, k + 1]).unwrap();
    }
    let fragment = MetricFragment {
        matchers: vec![],
        range: TimeRange::ALL,
        projection: Projection::Samples,
        ..MetricFragment::default()
    };
    let (tenant, context) = (tenant(), ReadContext::unlimited());
    let mut cursor = store.open(&tenant, &fragment, &context).await.unwrap();
    let mut found = cursor.next().unwrap().unwrap();
    store.cut().unwrap();
    assert!(matches!(store.cut(), Err(MetricStoreError::Reading)), "it waits for the query");
    assert_eq!(content(&store).await.len(), 600, "as do others that come later");
    while let Some(batch) = cursor.next().unwrap() {
        found.extend(batch);
    }
    let mut names: Vec<_> = found.iter().map(|s| s.labels.metric_name().to_owned()).collect();
    names.sort();
    names.dedup();
    assert_eq!((found.len(), names.len()), (600, 600));
    assert!(found.iter().all(|s| s.samples.len() == 2));
    drop(cursor);
    store.cut().unwrap();
    assert_eq!(content(&store).await.len(), 600);
}
