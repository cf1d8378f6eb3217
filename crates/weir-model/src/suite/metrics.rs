//! The contract of a metrics store.

use std::sync::Arc;

use crate::histogram::{BucketCounts, BucketSpan, Counts, ResetHint};
use crate::sink::{MetricBatch, MetricSink, Outcome, RefusedReason, SeriesBatch};
use crate::source::{Cancel, MetricFragment, MetricSource, Projection, ReadContext, ReadError, SeriesData};
use crate::{
    Exemplar, Histogram, HistogramSample, Labels, MatchOp, Matcher, MetricKind, MetricMetadata, Sample, TenantId,
    TimeRange, Timestamp,
};

fn series(name: &str, job: &str, samples: &[(i64, f64)]) -> SeriesBatch {
    SeriesBatch {
        labels: Labels::from_pairs([("__name__", name), ("job", job)]),
        samples: samples.iter().map(|(at, value)| Sample::new(*at, *value)).collect(),
        ..SeriesBatch::default()
    }
}

fn range(start: i64, end: i64) -> TimeRange {
    TimeRange::new(Timestamp(start), Timestamp(end))
}

/// All that is found, sorted by labels.
async fn read<S: MetricSource>(
    store: &S,
    tenant: &TenantId,
    matchers: Vec<Matcher>,
    range: TimeRange,
    projection: Projection,
) -> Vec<SeriesData> {
    let fragment = MetricFragment { matchers, range, projection, ..MetricFragment::default() };
    let mut cursor = store.open(tenant, &fragment, &ReadContext::unlimited()).await.expect("open");
    let mut found = Vec::new();
    while let Some(batch) = cursor.next().expect("next") {
        assert!(!batch.is_empty(), "a cursor ends with None, not with an empty batch");
        found.extend(batch);
    }
    found.sort_by(|a, b| a.labels.cmp(&b.labels));
    assert!(found.windows(2).all(|w| w[0].labels != w[1].labels), "each series comes once");
    found
}

fn write<S: MetricSink>(store: &S, tenant: &TenantId, series: Vec<SeriesBatch>) -> Outcome {
    store.append(tenant, &MetricBatch { series, metadata: Vec::new() }).expect("append")
}

/// `store` is empty and accepts a few kilobytes.
pub async fn metrics<S: MetricSink + MetricSource>(store: &S) {
    let tenant = TenantId::parse("suite").expect("a valid name");
    selects(store, &tenant).await;
    orders_and_refuses(store, &tenant).await;
    keeps_tenants_apart(store, &tenant).await;
    lists(store, &tenant).await;
    keeps_bits(store, &tenant).await;
    keeps_histograms(store, &tenant).await;
    cancels(store, &tenant).await;
}

async fn selects<S: MetricSink + MetricSource>(store: &S, tenant: &TenantId) {
    let written =
        write(store, tenant, vec![series("up", "a", &[(1000, 1.0), (2000, 0.0)]), series("up", "b", &[(1500, 1.0)])]);
    assert_eq!(written.accepted, 3, "accepted counts samples");
    let check = async |matchers: Vec<Matcher>, at: TimeRange, want: &[(&str, usize)]| {
        let found = read(store, tenant, matchers.clone(), at, Projection::Samples).await;
        let got: Vec<_> = found.iter().map(|s| (s.labels.value("job"), s.samples.len())).collect();
        assert_eq!(got, want, "{matchers:?} {at:?}");
    };
    let name = || Matcher::equal("__name__", "up");
    let matcher = |op, value: &str| Matcher::new("job", op, value).expect("a valid matcher");
    check(vec![name()], TimeRange::ALL, &[("a", 2), ("b", 1)]).await;
    check(vec![], range(0, 9000), &[("a", 2), ("b", 1)]).await;
    check(vec![name(), matcher(MatchOp::NotEqual, "a")], TimeRange::ALL, &[("b", 1)]).await;
    check(vec![matcher(MatchOp::Regex, "a|c")], TimeRange::ALL, &[("a", 2)]).await;
    check(vec![matcher(MatchOp::NotRegex, "a.*")], TimeRange::ALL, &[("b", 1)]).await;
    check(vec![name(), Matcher::equal("absent", "")], TimeRange::ALL, &[("a", 2), ("b", 1)]).await;
    check(vec![Matcher::equal("job", "none")], TimeRange::ALL, &[]).await;
    check(vec![name()], range(1000, 1000), &[("a", 1)]).await;
    check(vec![name()], range(1001, 1499), &[]).await;
    check(vec![name()], range(2001, 9000), &[]).await;
    let bare = read(store, tenant, vec![name()], range(1500, 1500), Projection::Series).await;
    assert_eq!(bare.len(), 1, "a projection to series keeps to the range");
    assert!(bare[0].samples.is_empty(), "a projection to series brings no samples");
}

async fn orders_and_refuses<S: MetricSink + MetricSource>(store: &S, tenant: &TenantId) {
    let first = write(store, tenant, vec![series("late", "a", &[(3000, 3.0), (1000, 1.0)])]);
    let second = write(store, tenant, vec![series("late", "a", &[(2000, 2.0), (1000, 1.0)])]);
    assert_eq!((first.accepted, second.accepted), (2, 2), "late and repeated samples are accepted");
    let third = write(store, tenant, vec![series("late", "a", &[(2000, 7.0), (4000, 4.0)])]);
    assert_eq!(third.accepted, 1, "the good sample of a batch with a bad one is stored");
    let refused: Vec<_> = third.refused.iter().map(|r| (r.reason, r.count)).collect();
    assert_eq!(refused, [(RefusedReason::DuplicateTimestamp, 1)]);
    assert!(third.refused[0].example.contains("late"), "a refusal names the series");
    let found =
        read(store, tenant, vec![Matcher::equal("__name__", "late")], TimeRange::ALL, Projection::Samples).await;
    let values: Vec<_> = found[0].samples.iter().map(|s| (s.at.0, s.value)).collect();
    assert_eq!(values, [(1000, 1.0), (2000, 2.0), (3000, 3.0), (4000, 4.0)], "samples ascend");
}

async fn keeps_tenants_apart<S: MetricSink + MetricSource>(store: &S, tenant: &TenantId) {
    let other = TenantId::parse("other").expect("a valid name");
    assert!(read(store, &other, vec![], TimeRange::ALL, Projection::Samples).await.is_empty());
    write(store, &other, vec![series("secret", "x", &[(1000, 1.0)])]);
    assert!(
        read(store, tenant, vec![Matcher::equal("job", "x")], TimeRange::ALL, Projection::Samples).await.is_empty()
    );
    assert!(!store.label_values(tenant, "job", &[], TimeRange::ALL).await.expect("values").contains(&"x".to_owned()));
}

async fn lists<S: MetricSink + MetricSource>(store: &S, tenant: &TenantId) {
    let up = [Matcher::equal("__name__", "up")];
    let names = store.label_names(tenant, &up, TimeRange::ALL).await.expect("names");
    assert_eq!(names, ["__name__", "job"]);
    assert_eq!(store.label_values(tenant, "job", &up, TimeRange::ALL).await.expect("values"), ["a", "b"]);
    assert_eq!(store.label_values(tenant, "job", &up, range(1500, 1500)).await.expect("values"), ["b"]);
    assert!(store.label_values(tenant, "none", &[], TimeRange::ALL).await.expect("values").is_empty());

    let entry = |help: &str| MetricMetadata {
        family: "up".into(),
        kind: MetricKind::Gauge,
        help: help.into(),
        unit: String::new(),
    };
    for help in ["old", "new"] {
        store.append(tenant, &MetricBatch { series: vec![], metadata: vec![entry(help)] }).expect("append");
    }
    assert_eq!(store.metadata(tenant, "up").await.expect("metadata"), [entry("new")]);
    assert_eq!(store.metadata(tenant, "").await.expect("metadata"), [entry("new")]);
    assert!(store.metadata(tenant, "down").await.expect("metadata").is_empty());

    let exemplar = Exemplar { labels: Labels::from_pairs([("trace_id", "ab")]), at: Timestamp(1200), value: 0.5 };
    let mut with = series("seconds_bucket", "a", &[(1200, 1.0)]);
    with.exemplars.push(exemplar.clone());
    write(store, tenant, vec![with]);
    let matchers = [Matcher::equal("__name__", "seconds_bucket")];
    let found = store.exemplars(tenant, &matchers, range(1000, 2000)).await.expect("exemplars");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, [exemplar]);
    assert!(store.exemplars(tenant, &matchers, range(2000, 3000)).await.expect("exemplars").is_empty());
}

async fn keeps_bits<S: MetricSink + MetricSource>(store: &S, tenant: &TenantId) {
    let stale = f64::from_bits(crate::STALE_NAN_BITS);
    let odd = [stale, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE / 2.0];
    let samples: Vec<_> = odd.iter().enumerate().map(|(k, v)| (1000 + k as i64, *v)).collect();
    write(store, tenant, vec![series("odd", "a", &samples)]);
    let found = read(store, tenant, vec![Matcher::equal("__name__", "odd")], TimeRange::ALL, Projection::Samples).await;
    let got: Vec<_> = found[0].samples.iter().map(|s| s.value.to_bits()).collect();
    assert_eq!(got, odd.map(f64::to_bits), "values keep their bits");
}

/// One of each kind: integer and float counts, custom bounds, the stale marker.
fn histograms() -> Vec<Histogram> {
    let span = |offset, length| BucketSpan { offset, length };
    let integer = Histogram {
        schema: 3,
        hint: ResetHint::NotReset,
        zero_threshold: 1e-128,
        sum: -0.0,
        positive_spans: vec![span(-3, 2), span(7, 1)],
        negative_spans: vec![span(2, 1)],
        counts: Counts::Integer(BucketCounts {
            count: 1 << 60,
            zero: 1,
            positive: vec![1, 0, (1 << 60) - 3],
            negative: vec![1],
        }),
        custom_bounds: Arc::from([]),
    };
    let positive = vec![0.1, f64::MIN_POSITIVE / 2.0, 7.0];
    let float = Histogram {
        hint: ResetHint::Gauge,
        sum: f64::NAN,
        counts: Counts::Float(BucketCounts { count: 9.5, zero: 0.25, positive, negative: vec![2.0] }),
        ..integer.clone()
    };
    let custom = Histogram {
        schema: crate::histogram::CUSTOM_SCHEMA,
        sum: 4.5,
        positive_spans: vec![span(0, 3)],
        counts: Counts::Integer(BucketCounts { count: 6, zero: 0, positive: vec![1, 2, 3], negative: vec![] }),
        custom_bounds: Arc::from([0.5, 1.0]),
        ..Histogram::stale()
    };
    vec![integer, float, custom, Histogram::stale()]
}

async fn keeps_histograms<S: MetricSink + MetricSource>(store: &S, tenant: &TenantId) {
    let all: Vec<_> = histograms().into_iter().map(Arc::new).collect();
    let sample = |at: i64, k: usize| HistogramSample { at: Timestamp(at), histogram: all[k].clone() };
    let batch = |samples: &[(i64, f64)], histograms: Vec<HistogramSample>| {
        vec![SeriesBatch { histograms, ..series("latency", "a", samples) }]
    };
    // Floats and histograms of one series may take turns, and may come late.
    let first = write(store, tenant, batch(&[(3000, 7.0)], vec![sample(4000, 3), sample(1000, 0), sample(5000, 2)]));
    let second = write(store, tenant, batch(&[], vec![sample(2000, 1), sample(1000, 0)]));
    assert_eq!((first.accepted, second.accepted), (4, 2), "late and repeated histograms are accepted");
    let third = write(store, tenant, batch(&[(1000, 1.0)], vec![sample(3000, 0), sample(2000, 0), sample(6000, 0)]));
    assert_eq!(third.accepted, 1, "a time has one value, float or histogram");
    let refused: Vec<_> = third.refused.iter().map(|r| r.reason).collect();
    assert!(refused.iter().all(|r| *r == RefusedReason::DuplicateTimestamp) && !refused.is_empty(), "{refused:?}");

    let matchers = || vec![Matcher::equal("__name__", "latency")];
    let found = read(store, tenant, matchers(), TimeRange::ALL, Projection::Samples).await;
    let times: Vec<_> = found[0].histograms.iter().map(|h| h.at.0).collect();
    assert_eq!(times, [1000, 2000, 4000, 5000, 6000], "histograms ascend");
    assert_eq!(found[0].samples, [Sample::new(3000, 7.0)]);
    for (got, k) in found[0].histograms.iter().zip([0, 1, 3, 2, 0]) {
        assert!(got.histogram.same_bits(&all[k]), "histograms keep their bits: {got:?}");
    }
    let found = read(store, tenant, matchers(), range(4500, 5500), Projection::Samples).await;
    assert_eq!((found[0].samples.len(), found[0].histograms.len()), (0, 1), "a read keeps to the range");
    assert_eq!(read(store, tenant, matchers(), range(4500, 5500), Projection::Series).await.len(), 1);
    assert!(read(store, tenant, matchers(), range(6001, 9000), Projection::Series).await.is_empty());
    assert_eq!(store.label_values(tenant, "job", &matchers(), range(6000, 6000)).await.expect("values"), ["a"]);
}

async fn cancels<S: MetricSink + MetricSource>(store: &S, tenant: &TenantId) {
    let cancel = Cancel::default();
    let context = ReadContext { cancel: cancel.clone(), ..ReadContext::unlimited() };
    let fragment = MetricFragment {
        matchers: vec![],
        range: TimeRange::ALL,
        projection: Projection::Samples,
        ..MetricFragment::default()
    };
    let mut cursor = store.open(tenant, &fragment, &context).await.expect("open");
    cancel.cancel();
    assert!(matches!(cursor.next(), Err(ReadError::Cancelled)), "a cancelled read stops");
}
