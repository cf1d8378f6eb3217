//! Metrics as JSON objects, one per accepted batch; reading merges all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use weir_model::matcher::all_match;
use weir_model::sink::{MetricBatch, MetricSink, Outcome, Refused, RefusedReason, WriteError};
use weir_model::source::{
    BoxFuture, MetricCursor, MetricFragment, MetricSource, Projection, ReadContext, ReadError, SeriesData,
};
use weir_model::{Exemplar, Labels, Matcher, MetricKind, MetricMetadata, Sample, TenantId, TimeRange, Timestamp};

use crate::objects::{Fault, Objects, folder};

pub struct FileMetrics(pub Arc<Objects>);

#[derive(Default)]
struct Merged {
    /// Bits by time.
    samples: BTreeMap<i64, u64>,
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

fn merge(bodies: Vec<Vec<u8>>) -> All {
    let mut all = All::default();
    for body in bodies {
        let object: Value = serde_json::from_slice(&body).expect("the checksum was right");
        for series in object["series"].as_array().into_iter().flatten() {
            let merged = all.series.entry(labels_of(&series["labels"])).or_default();
            for pair in series["samples"].as_array().into_iter().flatten() {
                merged.samples.insert(pair[0].as_i64().unwrap(), pair[1].as_u64().unwrap());
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
            let mut kept = Vec::new();
            for sample in &one.samples {
                let other = there.and_then(|m| m.samples.get(&sample.at.0)).filter(|b| **b != sample.value.to_bits());
                if other.is_some() {
                    let example = format!("{} at {}", one.labels, sample.at.0);
                    outcome.refused.push(Refused { reason: RefusedReason::DuplicateTimestamp, example, count: 1 });
                } else {
                    outcome.accepted += 1;
                    kept.push(json!([sample.at.0, sample.value.to_bits()]));
                }
            }
            let exemplars: Vec<_> =
                one.exemplars.iter().map(|e| json!([e.labels, e.at.0, e.value.to_bits()])).collect();
            series.push(json!({"labels": one.labels, "samples": kept, "exemplars": exemplars}));
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
            (labels, merged)
        });
        Ok(narrowed.filter(|(_, merged)| !merged.samples.is_empty()).collect())
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
            let data = found.into_iter().map(|(labels, merged)| SeriesData {
                labels,
                samples: match fragment.projection {
                    Projection::Series => Vec::new(),
                    Projection::Samples => merged.samples.into_iter().map(sample).collect(),
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
