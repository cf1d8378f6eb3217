//! Answers over buckets beside those over every sample.

use std::time::Duration;

use weir_model::source::*;
use weir_model::*;

use crate::testing::{VecSource, engine, ready};
use crate::{Query, QueryResult, Value, parse};

const M: i64 = 60_000;

/// A store that has hours until the first time, five minutes until the second, samples from there. What stands for a
/// bucket is found by looking at all its samples.
struct Rolled {
    raw: VecSource,
    hours: i64,
    five: i64,
}

impl Rolled {
    fn length_at(&self, at: i64) -> i64 {
        if at <= self.hours {
            60 * M
        } else if at <= self.five {
            5 * M
        } else {
            0
        }
    }

    fn rolled(&self, raw: &SeriesData, rollup: Rollup) -> SeriesData {
        let mut out = SeriesData { labels: raw.labels.clone(), ..SeriesData::default() };
        let bucket = |s: &Sample| match self.length_at(s.at.0) {
            0 => (0, s.at.0),
            length => (length, (s.at.0 - 1).div_euclid(length)),
        };
        for (idx, sample) in raw.samples.iter().enumerate() {
            let (next, before) = (raw.samples.get(idx + 1), idx.checked_sub(1).map(|idx| raw.samples[idx]));
            let is_last = next.is_none_or(|next| bucket(next) != bucket(sample));
            let falls = next.is_some_and(|n| n.value < sample.value) || before.is_some_and(|b| sample.value < b.value);
            let is_kept = is_last || rollup == Rollup::Counter && falls;
            if !is_kept {
                continue;
            }
            let all: Vec<f64> = raw.samples.iter().filter(|s| bucket(s) == bucket(sample)).map(|s| s.value).collect();
            let value = match rollup {
                Rollup::Last | Rollup::Counter => sample.value,
                Rollup::Min => all.iter().copied().fold(f64::MAX, f64::min),
                Rollup::Max => all.iter().copied().fold(f64::MIN, f64::max),
                Rollup::Sum => all.iter().sum(),
            };
            out.samples.push(Sample { at: sample.at, value });
            if rollup == Rollup::Sum {
                out.weights.push(all.len() as f64);
            }
        }
        let count = |idx: usize| raw.histograms.get(idx).map(|h| h.histogram.to_float().count);
        let bucket_at = |idx: usize| raw.histograms.get(idx).map(|h| bucket(&Sample::new(h.at.0, 0.0)));
        for (idx, sample) in raw.histograms.iter().enumerate() {
            let falls =
                count(idx + 1) < count(idx) && idx + 1 < raw.histograms.len() || idx > 0 && count(idx) < count(idx - 1);
            if falls || bucket_at(idx + 1) != bucket_at(idx) {
                out.histograms.push(sample.clone());
            }
        }
        out
    }
}

struct Cursor(Vec<SeriesData>, Vec<Coarse>);

impl MetricCursor for Cursor {
    fn next(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError> {
        let batch = std::mem::take(&mut self.0);
        Ok((!batch.is_empty()).then_some(batch))
    }
    fn coarse(&self) -> Vec<Coarse> {
        self.1.clone()
    }
}

impl MetricSource for Rolled {
    fn coarsest(&self, _: &TenantId, range: TimeRange, _: Option<Duration>) -> Duration {
        Duration::from_millis(self.length_at(range.start.0).unsigned_abs())
    }
    fn open<'a>(
        &'a self,
        _: &'a TenantId,
        fragment: &'a MetricFragment,
        _: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        let wanted = self.raw.series.iter().filter(|s| matcher::all_match(&fragment.matchers, &s.labels));
        let within = |mut data: SeriesData| {
            let mut weights = data.weights.iter();
            let mut kept = Vec::new();
            data.samples.retain(|s| {
                let weight = weights.next();
                let inside = fragment.range.contains(s.at);
                kept.extend(weight.filter(|_| inside));
                inside
            });
            data.weights = kept;
            data.histograms.retain(|h| fragment.range.contains(h.at));
            data
        };
        let found = wanted.map(|s| within(self.rolled(s, fragment.rollup))).collect();
        let stretch = |from: i64, to: i64, length: i64| Coarse {
            range: TimeRange::new(Timestamp(from + 1), Timestamp(to)),
            resolution: Duration::from_millis(length.unsigned_abs()),
        };
        let coarse = vec![stretch(0, self.hours, 60 * M), stretch(self.hours, self.five, 5 * M)];
        Box::pin(async move { Ok(Box::new(Cursor(found, coarse)) as Box<dyn MetricCursor>) })
    }
    fn label_names<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        self.raw.label_names(tenant, matchers, range)
    }
    fn label_values<'a>(
        &'a self,
        tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        self.raw.label_values(tenant, name, matchers, range)
    }
    fn metadata<'a>(
        &'a self,
        tenant: &'a TenantId,
        family: &'a str,
    ) -> BoxFuture<'a, Result<Vec<MetricMetadata>, ReadError>> {
        self.raw.metadata(tenant, family)
    }
    fn exemplars<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Vec<Exemplar>)>, ReadError>> {
        self.raw.exemplars(tenant, matchers, range)
    }
}

/// Eighteen hours of samples each 15 s, 10 s after the minute; the counter starts anew each hour and a bit.
fn source() -> Rolled {
    let times = (0..18 * 240).map(|k| 10_000 + k * 15_000);
    let of = |name: &str, value: fn(i64) -> f64| SeriesData {
        labels: Labels::from_pairs([("__name__", name)]),
        samples: times.clone().enumerate().map(|(k, at)| Sample::new(at, value(k as i64))).collect(),
        ..SeriesData::default()
    };
    let sizes = SeriesData {
        labels: Labels::from_pairs([("__name__", "sizes")]),
        histograms: times.clone().enumerate().map(|(k, at)| sizes(at, (k % 271) as u64 * 3)).collect(),
        ..SeriesData::default()
    };
    let series =
        vec![sizes, of("jobs_total", |k| (k % 271) as f64 * 3.0), of("load", |k| (k * 7919 % 101) as f64 - 50.0)];
    Rolled { raw: VecSource { series }, hours: 8 * 60 * M, five: 14 * 60 * M }
}

/// As many up to 2 as above.
fn sizes(at: i64, n: u64) -> HistogramSample {
    let positive = vec![n, n];
    let histogram = Histogram {
        sum: n as f64 * 5.0,
        positive_spans: vec![histogram::BucketSpan { offset: 1, length: 2 }],
        counts: histogram::Counts::Integer(histogram::BucketCounts {
            count: 2 * n,
            zero: 0,
            positive,
            negative: vec![],
        }),
        ..Histogram::stale()
    };
    HistogramSample { at: Timestamp(at), histogram: std::sync::Arc::new(histogram) }
}

fn ask(source: &dyn MetricSource, query: &str, (from, to, step): (i64, i64, i64)) -> QueryResult {
    let step = Duration::from_millis((step * M).unsigned_abs());
    let query = Query::range(parse(query).unwrap(), Timestamp(from * M), Timestamp(to * M), step);
    let prepared = ready(engine().open(source, &TenantId::anonymous(), &query, &ReadContext::unlimited())).unwrap();
    prepared.eval().unwrap()
}

fn values(result: &QueryResult) -> Vec<(i64, f64)> {
    let Value::Matrix(matrix) = &result.value else { panic!("{result:?}") };
    assert_eq!(matrix.len(), 1);
    matrix[0].samples.iter().map(|s| (s.at.0 / M, s.value)).collect()
}

/// Minutes of each kind of samples, at edges of their buckets.
const PARTS: [(i64, i64, i64); 3] = [(240, 480, 60), (660, 840, 5), (1020, 1070, 1)];

#[test]
fn windows_between_edges_give_what_every_sample_gives() {
    let rolled = source();
    for query in [
        "max_over_time(load[1h])",
        "min_over_time(load[1h])",
        "sum_over_time(load[1h])",
        "count_over_time(load[1h])",
        "avg_over_time(load[2h])",
        "max_over_time(load[1h] offset 1h)",
        "last_over_time(load[1h])",
        "resets(jobs_total[3h])",
        "load",
        "timestamp(load)",
    ] {
        for part in PARTS {
            let (got, want) = (values(&ask(&rolled, query, part)), values(&ask(&rolled.raw, query, part)));
            assert_eq!(got.len(), want.len(), "{query}");
            for (got, want) in got.iter().zip(&want) {
                assert_eq!(got.0, want.0, "{query}");
                assert!((got.1 - want.1).abs() < 1e-9, "{query}: {got:?} {want:?}");
            }
        }
    }
}

/// At its edges a window over buckets begins with the sample before it, where one over samples guesses: they differ by
/// what comes between two scrapes.
#[test]
fn counters_gain_what_they_gain_by_every_sample() {
    let rolled = source();
    for query in ["increase(jobs_total[1h])", "increase(jobs_total[3h])", "rate(jobs_total[2h])", "delta(load[1h])"] {
        for part in PARTS {
            let (got, want) = (values(&ask(&rolled, query, part)), values(&ask(&rolled.raw, query, part)));
            assert_eq!(got.len(), want.len(), "{query}");
            let per_scrape = if query.starts_with("rate") {
                3.0 / 7200.0
            } else if query.starts_with("d") {
                100.0
            } else {
                3.0
            };
            for (got, want) in got.iter().zip(&want) {
                assert!((got.1 - want.1).abs() <= per_scrape * 2.0, "{query} {part:?}: {got:?} {want:?}");
            }
        }
    }
}

#[test]
fn native_histograms_gain_what_they_gain_by_every_sample() {
    let rolled = source();
    for (query, by) in [
        ("histogram_count(increase(sizes[1h]))", 12.0),
        ("histogram_count(increase(sizes[3h]))", 12.0),
        ("histogram_quantile(0.5, rate(sizes[2h]))", 1e-9),
        ("histogram_avg(rate(sizes[1h]))", 1e-9),
        ("histogram_count(sizes)", 0.0),
    ] {
        for part in PARTS {
            let (got, want) = (values(&ask(&rolled, query, part)), values(&ask(&rolled.raw, query, part)));
            assert_eq!(got.len(), want.len(), "{query}");
            for (got, want) in got.iter().zip(&want) {
                assert!((got.1 - want.1).abs() <= by, "{query} {part:?}: {got:?} {want:?}");
            }
        }
    }
    let short = values(&ask(&rolled, "histogram_count(increase(sizes[1m]))", (240, 480, 7)));
    assert!(short.len() == 35 && short.iter().all(|(_, v)| (18.0..=25.0).contains(v)), "{short:?}");
}

#[test]
fn short_ranges_are_widened_and_what_grows_is_scaled_back() {
    let rolled = source();
    for part in [(240, 480, 7), (540, 840, 1)] {
        let n = values(&ask(&rolled.raw, "load", part)).len();
        let count = values(&ask(&rolled, "count_over_time(load[1m])", part));
        assert_eq!(count.len(), n, "no step is without");
        assert!(count.iter().all(|(_, v)| (v - 4.0).abs() < 1e-9), "{count:?}");
        let rate = values(&ask(&rolled, "rate(jobs_total[1m])", part));
        assert_eq!(rate.len(), n);
        assert!(rate.iter().all(|(_, v)| (0.15..=0.21).contains(v)), "{rate:?}");
        let increase = values(&ask(&rolled, "increase(jobs_total[1m])", part));
        assert!(increase.iter().zip(&rate).all(|(i, r)| (i.1 - r.1 * 60.0).abs() < 1e-9));
        assert_eq!(values(&ask(&rolled, "load", part)).len(), n, "an instant looks back a bucket");
    }
}

#[test]
fn an_answer_says_where_it_stands_on_buckets() {
    let rolled = source();
    let result = ask(&rolled, "rate(jobs_total[1m]) + load", (470, 900, 10));
    let infos = &result.infos;
    let has = |text: &str| infos.iter().any(|info| info.contains(text));
    assert!(has("until 1970-01-01T08:00:00.000Z there is one sample for each 1h"), "{infos:?}");
    assert!(has("until 1970-01-01T14:00:00.000Z there is one sample for each 5m"), "{infos:?}");
    assert!(has("range [1m] is taken as [1h]") && has("(1:6)"), "{infos:?}");
    assert_eq!(values(&result).len(), 44);
    let raw = ask(&rolled.raw, "rate(jobs_total[1m]) + load", (470, 900, 10));
    assert_eq!(raw.infos, Vec::<String>::new());
}
