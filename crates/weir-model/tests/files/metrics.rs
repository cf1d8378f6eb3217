//! Metrics as JSON objects, one per accepted batch; reading merges all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use weir_model::histogram::{BucketCounts, BucketSpan, Counts, ResetHint};
use weir_model::matcher::all_match;
use weir_model::sink::{MetricBatch, MetricSink, Outcome, Refused, RefusedReason, WriteError};
use weir_model::source::{
    BoxFuture, MetricCursor, MetricFragment, MetricSource, Projection, ReadContext, ReadError, SeriesData,
};
use weir_model::{
    Exemplar, Histogram, HistogramSample, Labels, Matcher, MetricKind, MetricMetadata, Sample, TenantId, TimeRange,
    Timestamp,
};

use crate::objects::{Fault, Objects, folder};

pub struct FileMetrics(pub Arc<Objects>);

#[derive(Default)]
struct Merged {
    /// Bits by time.
    samples: BTreeMap<i64, u64>,
    histograms: BTreeMap<i64, Arc<Histogram>>,
    exemplars: Vec<Exemplar>,
}

#[derive(Default)]
struct All {
    series: BTreeMap<Labels, Merged>,
    metadata: BTreeMap<String, MetricMetadata>,
}

fn labels_of(value: &Value) -> Labels {
    let pairs = value.as_object().into_iter().flatten();
    Labels::from_pairs(pairs.map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())))
}

fn from_histogram(h: &Histogram) -> Value {
    let bits = |list: &[f64]| list.iter().map(|f| f.to_bits()).collect::<Vec<_>>();
    let spans = |list: &[BucketSpan]| list.iter().map(|s| json!([s.offset, s.length])).collect::<Vec<_>>();
    let counts = match &h.counts {
        Counts::Integer(c) => json!([c.count, c.zero, c.positive, c.negative]),
        Counts::Float(c) => json!([c.count.to_bits(), c.zero.to_bits(), bits(&c.positive), bits(&c.negative)]),
    };
    json!({
        "schema": h.schema, "hint": h.hint.number(), "is_float": h.is_float(), "counts": counts,
        "numbers": bits(&[h.zero_threshold, h.sum]), "bounds": bits(&h.custom_bounds),
        "positive": spans(&h.positive_spans), "negative": spans(&h.negative_spans),
    })
}

fn to_histogram(v: &Value) -> Histogram {
    let whole = |v: &Value| v.as_u64().unwrap();
    let wholes = |v: &Value| v.as_array().unwrap().iter().map(whole).collect::<Vec<_>>();
    let floats = |v: &Value| wholes(v).into_iter().map(f64::from_bits).collect::<Vec<_>>();
    let spans = |v: &Value| {
        let span = |s: &Value| BucketSpan { offset: s[0].as_i64().unwrap() as i32, length: whole(&s[1]) as u32 };
        v.as_array().unwrap().iter().map(span).collect()
    };
    let (numbers, c) = (floats(&v["numbers"]), &v["counts"]);
    let counts = if v["is_float"].as_bool().unwrap() {
        let (count, zero) = (f64::from_bits(whole(&c[0])), f64::from_bits(whole(&c[1])));
        Counts::Float(BucketCounts { count, zero, positive: floats(&c[2]), negative: floats(&c[3]) })
    } else {
        let (count, zero) = (whole(&c[0]), whole(&c[1]));
        Counts::Integer(BucketCounts { count, zero, positive: wholes(&c[2]), negative: wholes(&c[3]) })
    };
    Histogram {
        schema: v["schema"].as_i64().unwrap() as i32,
        hint: ResetHint::from_number(whole(&v["hint"])).unwrap(),
        zero_threshold: numbers[0],
        sum: numbers[1],
        positive_spans: spans(&v["positive"]),
        negative_spans: spans(&v["negative"]),
        counts,
        custom_bounds: floats(&v["bounds"]).into(),
    }
}

fn merge(bodies: Vec<Vec<u8>>) -> All {
    let mut all = All::default();
    for body in bodies {
        let object: Value = serde_json::from_slice(&body).expect("the checksum was right");
        for series in object["series"].as_array().into_iter().flatten() {
            let merged = all.series.entry(labels_of(&series["labels"])).or_default();
            for pair in series["samples"].as_array().into_iter().flatten() {
                merged.samples.insert(pair[0].as_i64().unwrap(), pair[1].as_u64().unwrap());
            }
            for pair in series["histograms"].as_array().into_iter().flatten() {
                merged.histograms.insert(pair[0].as_i64().unwrap(), Arc::new(to_histogram(&pair[1])));
            }
            for one in series["exemplars"].as_array().into_iter().flatten() {
                merged.exemplars.push(Exemplar {
                    labels: labels_of(&one[0]),
                    at: Timestamp(one[1].as_i64().unwrap()),
                    value: f64::from_bits(one[2].as_u64().unwrap()),
                });
            }
        }
        for one in object["metadata"].as_array().into_iter().flatten() {
            let family = one[0].as_str().unwrap().to_owned();
            let kind = if one[1] == json!("gauge") { MetricKind::Gauge } else { MetricKind::Unknown };
            let help = one[2].as_str().unwrap().to_owned();
            all.metadata.insert(family.clone(), MetricMetadata { family, kind, help, unit: String::new() });
        }
    }
    all
}

impl MetricSink for FileMetrics {
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        let folder = folder("metrics", tenant);
        let failed = |fault: Fault| WriteError::Storage(fault.to_string());
        let known = merge(self.0.all_now(&folder).map_err(failed)?);
        let mut outcome = Outcome::default();
        let mut series = Vec::new();
        for one in &batch.series {
            let there = known.series.get(&one.labels);
            let (mut kept, mut kept_histograms) = (Vec::new(), Vec::new());
            let mut conflict = |at: Timestamp, is_conflict: bool| {
                if is_conflict {
                    let example = format!("{} at {}", one.labels, at.0);
                    outcome.refused.push(Refused { reason: RefusedReason::DuplicateTimestamp, example, count: 1 });
                } else {
                    outcome.accepted += 1;
                }
                is_conflict
            };
            for sample in &one.samples {
                let bits = sample.value.to_bits();
                let other = |m: &Merged| {
                    m.histograms.contains_key(&sample.at.0) || m.samples.get(&sample.at.0).is_some_and(|b| *b != bits)
                };
                if !conflict(sample.at, there.is_some_and(other)) {
                    kept.push(json!([sample.at.0, bits]));
                }
            }
            for HistogramSample { at, histogram } in &one.histograms {
                let other = |m: &Merged| {
                    m.samples.contains_key(&at.0) || m.histograms.get(&at.0).is_some_and(|h| !h.same_bits(histogram))
                };
                if !conflict(*at, there.is_some_and(other)) {
                    kept_histograms.push(json!([at.0, from_histogram(histogram)]));
                }
            }
            let exemplars: Vec<_> =
                one.exemplars.iter().map(|e| json!([e.labels, e.at.0, e.value.to_bits()])).collect();
            series.push(json!({
                "labels": one.labels, "samples": kept, "histograms": kept_histograms, "exemplars": exemplars
            }));
        }
        let metadata: Vec<_> = batch.metadata.iter().map(|m| json!([m.family, m.kind, m.help])).collect();
        let body = json!({"series": series, "metadata": metadata}).to_string();
        self.0.put(&folder, body.as_bytes()).map_err(failed)?;
        Ok(outcome)
    }
}

struct Cursor {
    found: std::vec::IntoIter<SeriesData>,
    context: ReadContext,
}

impl MetricCursor for Cursor {
    fn next(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError> {
        self.context.cancel.check()?;
        Ok(self.found.next().map(|one| vec![one]))
    }
}

impl FileMetrics {
    async fn select(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<(Labels, Merged)>, ReadError> {
        let all = self.0.all(&folder("metrics", tenant)).await.map_err(|f| ReadError::Storage(f.to_string()))?;
        let matching = merge(all).series.into_iter().filter(|(labels, _)| all_match(matchers, labels));
        let narrowed = matching.map(|(labels, mut merged)| {
            merged.samples.retain(|at, _| range.contains(Timestamp(*at)));
            merged.histograms.retain(|at, _| range.contains(Timestamp(*at)));
            (labels, merged)
        });
        Ok(narrowed.filter(|(_, m)| !m.samples.is_empty() || !m.histograms.is_empty()).collect())
    }
}

impl MetricSource for FileMetrics {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        Box::pin(async move {
            let found = self.select(tenant, &fragment.matchers, fragment.range).await?;
            let sample = |(at, bits): (i64, u64)| Sample::new(at, f64::from_bits(bits));
            let histogram = |(at, histogram)| HistogramSample { at: Timestamp(at), histogram };
            let data = found.into_iter().map(|(labels, merged)| match fragment.projection {
                Projection::Series => SeriesData { labels, ..SeriesData::default() },
                Projection::Samples => SeriesData {
                    labels,
                    samples: merged.samples.into_iter().map(sample).collect(),
                    histograms: merged.histograms.into_iter().map(histogram).collect(),
                    ..SeriesData::default()
                },
            });
            let found = data.collect::<Vec<_>>().into_iter();
            Ok(Box::new(Cursor { found, context: context.clone() }) as Box<dyn MetricCursor>)
        })
    }

    fn label_names<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(async move {
            let found = self.select(tenant, matchers, range).await?;
            let names: BTreeSet<_> = found.iter().flat_map(|(l, _)| l.iter().map(|l| l.name.to_string())).collect();
            Ok(names.into_iter().collect())
        })
    }

    fn label_values<'a>(
        &'a self,
        tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        Box::pin(async move {
            let found = self.select(tenant, matchers, range).await?;
            let values: BTreeSet<_> = found.iter().filter_map(|(l, _)| l.get(name).map(str::to_owned)).collect();
            Ok(values.into_iter().collect())
        })
    }

    fn metadata<'a>(
        &'a self,
        tenant: &'a TenantId,
        family: &'a str,
    ) -> BoxFuture<'a, Result<Vec<MetricMetadata>, ReadError>> {
        Box::pin(async move {
            let all = self.0.all(&folder("metrics", tenant)).await.map_err(|f| ReadError::Storage(f.to_string()))?;
            let known = merge(all).metadata.into_values();
            Ok(known.filter(|m| family.is_empty() || m.family == family).collect())
        })
    }

    fn exemplars<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Vec<Exemplar>)>, ReadError>> {
        Box::pin(async move {
            let found = self.select(tenant, matchers, TimeRange::ALL).await?;
            let with = found.into_iter().map(|(labels, mut merged)| {
                merged.exemplars.retain(|e| range.contains(e.at));
                (labels, merged.exemplars)
            });
            Ok(with.filter(|(_, exemplars)| !exemplars.is_empty()).collect())
        })
    }
}
