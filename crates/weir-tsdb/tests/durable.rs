//! The metrics store on a disk that crashes, fills up and rots.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_model::sink::{MetricBatch, MetricSink, RawRequest, SampleColumns, SeriesBatch, SeriesSink, WriteError};
use weir_model::source::{MetricFragment, MetricSource, Projection, ReadContext};
use weir_model::{
    Budget, Exemplar, Labels, MetricKind, MetricMetadata, Sample, SimClock, TenantId, TimeRange, Timestamp, suite,
};
use weir_tsdb::{Logged, MetricStore, MetricStoreOptions, Recovered};
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
            append_request(&store, tenant, raw.body, None).map(drop).map_err(|e| e.to_string())
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
    let fragment = MetricFragment { matchers: vec![], range: TimeRange::ALL, projection: Projection::Samples };
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
            dir.crash_after(1 + (seed * 7_919 + life * 104_729) % 1_200);
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
    let (store, recovered) = open(&dir, &clock);
    assert_eq!(recovered, Recovered { writes: 2, damaged: 0 });
    assert_eq!(content(&store).await, Content::from([("latency".to_owned(), vec![1, 2])]));
    assert_eq!(store.metadata(&tenant(), "").await.unwrap(), [family]);
    let exemplars = store.exemplars(&tenant(), &[], TimeRange::ALL).await.unwrap();
    assert_eq!(exemplars, [(of_one.series[0].labels.clone(), vec![exemplar])]);
    assert_eq!(store.label_values(&other, "__name__", &[], TimeRange::ALL).await.unwrap(), ["theirs"]);
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
    assert_eq!(recovered, Recovered { writes: 19, damaged: 1 });
    assert_eq!(content(&store).await.len(), 19);
}
