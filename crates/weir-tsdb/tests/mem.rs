//! The in-memory store passes the trait's suite and keeps to its budget.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_model::sink::{MetricBatch, MetricSink, SeriesBatch};
use weir_model::source::{MetricFragment, MetricSource, Projection, ReadContext, SeriesData};
use weir_model::{Budget, Labels, Sample, TenantId, TimeRange, suite};
use weir_tsdb::Head;

fn batch(name: &str, at: i64) -> MetricBatch {
    let labels = Labels::from_pairs([("__name__", name)]);
    let series = vec![SeriesBatch { labels, samples: vec![Sample::new(at, at as f64)], ..SeriesBatch::default() }];
    MetricBatch { series, metadata: vec![] }
}

async fn all(store: &Head) -> Vec<SeriesData> {
    let fragment = MetricFragment {
        matchers: vec![],
        range: TimeRange::ALL,
        projection: Projection::Samples,
        ..MetricFragment::default()
    };
    let tenant = TenantId::anonymous();
    let mut cursor = store.open(&tenant, &fragment, &ReadContext::unlimited()).await.unwrap();
    let mut found = Vec::new();
    while let Some(batch) = cursor.next().unwrap() {
        found.extend(batch);
    }
    found
}

#[tokio::test]
async fn metrics_in_memory_keep_the_contract() {
    suite::metrics(&Head::new(&Budget::unlimited())).await;
}

#[tokio::test]
async fn a_full_budget_drops_the_oldest_samples_and_forgets_empty_series() {
    let budget = Budget::root(20_000);
    let store = Head::new(&budget);
    let tenant = TenantId::anonymous();
    store.append(&tenant, &batch("old", 0)).unwrap();
    for at in 1..50_000 {
        store.append(&tenant, &batch("new", at)).unwrap();
    }
    let found = all(&store).await;
    assert_eq!(found.len(), 1, "`old` is gone");
    let times: Vec<_> = found[0].samples.iter().map(|s| s.at.0).collect();
    let wanted: Vec<i64> = (times[0]..50_000).collect();
    assert_eq!(times, wanted, "no gap between the oldest kept and the newest");
    assert!(times.len() > 3_000 && budget.used_bytes() <= 20_000);
    assert_eq!(store.n_series(), 1);
}

/// Acknowledged samples within the kept time are found although series vanish and return meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_eviction_do_not_lose_a_fresh_series() {
    // Room for every fresh series and some of the churn: when it is full, there is churn to drop.
    let budget = Budget::root(1 << 20);
    let store = Arc::new(Head::new(&budget));
    let stop = Arc::new(AtomicBool::new(false));
    let churn = {
        let (store, stop) = (store.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut at = 1;
            while !stop.load(Ordering::Relaxed) {
                store.append(&TenantId::anonymous(), &batch(&format!("churn_{}", at % 500), at)).unwrap();
                at += 1;
            }
        })
    };
    for k in 0..1_000 {
        let name = format!("fresh_{k}");
        // Far ahead of the churn, so that eviction has no reason to take it.
        store.append(&TenantId::anonymous(), &batch(&name, 1 << 40)).unwrap();
        let found = all(&store).await;
        assert!(found.iter().any(|s| s.labels.metric_name() == name), "{name} was acknowledged");
    }
    stop.store(true, Ordering::Relaxed);
    churn.join().unwrap();
}
