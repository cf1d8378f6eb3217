//! Metrics as Prometheus series.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::{
    self as proto, AggregationTemporality, exemplar, metric::Data, number_data_point,
};
use weir_model::labels::METRIC_NAME;
use weir_model::sink::{MetricBatch, RefusedReason, SeriesBatch};
use weir_model::span::Attributes;
use weir_model::{
    AttrValue, Exemplar, Histogram, HistogramSample, Labels, LabelsBuilder, MetricKind, MetricMetadata, STALE_NAN_BITS,
    Sample, TenantId, Timestamp,
};

use super::delta::{Added, DeltaState};
use super::naming::{Shape, bound, label_name, metric_name};
use super::{common, exponential};
use crate::Decoded;
use crate::cache::LabelCache;

/// Prometheus' bound on the labels of an exemplar, in characters.
const EXEMPLAR_CHARS_MAX: usize = 128;
const NO_RECORDED_VALUE: u32 = 1;

/// Series, metadata and `target_info`; exponential histograms become native ones.
///
/// Delta points become cumulative by way of `deltas`.
pub fn convert(
    request: ExportMetricsServiceRequest,
    tenant: &TenantId,
    deltas: &DeltaState,
    cache: &LabelCache,
) -> Decoded<MetricBatch> {
    let mut out = Converter {
        tenant,
        deltas,
        cache,
        out: Decoded::default(),
        series: BTreeMap::new(),
        families: BTreeMap::new(),
    };
    for group in request.resource_metrics {
        let target = Target::new(common::resource(group.resource).attributes, cache);
        let mut newest = None;
        for metric in group.scope_metrics.into_iter().flat_map(|group| group.metrics) {
            newest = newest.max(out.metric(metric, &target));
        }
        if let (Some(info), Some(at)) = (&target.info, newest) {
            out.push(info.clone(), at, 1.0);
            out.family("target_info", MetricKind::Gauge, "Attributes of the resource", "");
        }
    }
    out.finish()
}

/// A resource as Prometheus sees it: the labels of each of its series, and `target_info`.
struct Target {
    base: LabelsBuilder,
    info: Option<Labels>,
}

impl Target {
    fn new(attributes: Attributes, cache: &LabelCache) -> Self {
        let text = |name: &str| weir_model::span::attr(&attributes, name).map(AttrValue::to_text).unwrap_or_default();
        let (namespace, service, instance) =
            (text("service.namespace"), text("service.name"), text("service.instance.id"));
        let job = if namespace.is_empty() || service.is_empty() { service } else { format!("{namespace}/{service}") };
        let mut base = LabelsBuilder::default();
        base.set("job", cache.text(&job)).set("instance", cache.text(&instance));
        let identifying = ["service.name", "service.namespace", "service.instance.id"];
        let others: Vec<(String, String)> = attributes
            .iter()
            .filter(|(name, _)| !identifying.contains(&&**name))
            .map(|(name, value)| (name.to_string(), value.to_text()))
            .collect();
        let identified = !job.is_empty() || !instance.is_empty();
        let info = (identified && !others.is_empty()).then(|| {
            let mut labels = base.clone();
            add_labels(&mut labels, others, cache);
            labels.set(METRIC_NAME, cache.text("target_info"));
            labels.build()
        });
        Self { base, info }
    }
}

/// Sanitises the names; values that land on one name are joined with `;` in order of the keys.
/// What is already in `labels` stays.
fn add_labels(labels: &mut LabelsBuilder, mut pairs: Vec<(String, String)>, cache: &LabelCache) {
    pairs.sort();
    let mut merged: Vec<(String, String)> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let name = label_name(&name);
        match merged.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => {
                known.push(';');
                known.push_str(&value);
            }
            None => merged.push((name, value)),
        }
    }
    for (name, value) in merged {
        if labels.get(&name).is_none() {
            labels.set(cache.text(&name), cache.text(&value));
        }
    }
}

struct Converter<'a> {
    tenant: &'a TenantId,
    deltas: &'a DeltaState,
    cache: &'a LabelCache,
    out: Decoded<MetricBatch>,
    series: BTreeMap<Labels, SeriesBatch>,
    families: BTreeMap<String, MetricMetadata>,
}

/// Where a point goes and how its value counts.
struct Point<'a> {
    base: &'a LabelsBuilder,
    at: Timestamp,
    is_delta: bool,
    is_stale: bool,
}

impl Converter<'_> {
    fn finish(mut self) -> Decoded<MetricBatch> {
        self.out.batch.series = self.series.into_values().collect();
        self.out.batch.metadata = self.families.into_values().collect();
        self.out
    }

    fn family(&mut self, name: &str, kind: MetricKind, help: &str, unit: &str) {
        if !self.families.contains_key(name) {
            let metadata =
                MetricMetadata { family: name.to_owned(), kind, help: help.to_owned(), unit: unit.to_owned() };
            self.families.insert(name.to_owned(), metadata);
        }
    }

    /// Answers the newest time among the points.
    fn metric(&mut self, metric: proto::Metric, target: &Target) -> Option<Timestamp> {
        let data = metric.data?;
        let is_delta = |temporality: i32| temporality == AggregationTemporality::Delta as i32;
        let (shape, kind) = match &data {
            Data::Gauge(_) => (Shape::Gauge, MetricKind::Gauge),
            Data::Sum(sum) if sum.is_monotonic => (Shape::MonotonicSum, MetricKind::Counter),
            Data::Sum(_) => (Shape::Other, MetricKind::Gauge),
            Data::Histogram(_) | Data::ExponentialHistogram(_) => (Shape::Other, MetricKind::Histogram),
            Data::Summary(_) => (Shape::Other, MetricKind::Summary),
        };
        let name = metric_name(&metric.name, &metric.unit, shape);
        if name.is_empty() {
            self.out.refuse(RefusedReason::InvalidLabels, 1, || {
                format!("a metric without a usable name: {:?}", metric.name)
            });
            return None;
        }
        self.family(&name, kind, &metric.description, &metric.unit);
        match data {
            Data::Gauge(gauge) => self.numbers(&name, gauge.data_points, false, target),
            Data::Sum(sum) => self.numbers(&name, sum.data_points, is_delta(sum.aggregation_temporality), target),
            Data::Histogram(histogram) => {
                let delta = is_delta(histogram.aggregation_temporality);
                histogram.data_points.into_iter().map(|point| self.histogram(&name, point, delta, target)).max()
            }
            Data::ExponentialHistogram(histogram) => {
                let delta = is_delta(histogram.aggregation_temporality);
                histogram.data_points.into_iter().map(|point| self.exponential(&name, point, delta, target)).max()
            }
            Data::Summary(summary) => {
                summary.data_points.into_iter().map(|point| self.summary(&name, point, target)).max()
            }
        }
    }

    fn numbers(
        &mut self,
        name: &str,
        points: Vec<proto::NumberDataPoint>,
        is_delta: bool,
        target: &Target,
    ) -> Option<Timestamp> {
        let mut newest = None;
        for point in points {
            let at = common::nanos(point.time_unix_nano).millis();
            newest = newest.max(Some(at));
            let value = match point.value {
                Some(number_data_point::Value::AsDouble(v)) => v,
                Some(number_data_point::Value::AsInt(v)) => v as f64,
                None => 0.0,
            };
            let base = self.point_labels(target, point.attributes);
            let place = Point { base: &base, at, is_delta, is_stale: point.flags & NO_RECORDED_VALUE != 0 };
            let exemplars = self.exemplars(point.exemplars);
            if let Some(series) = self.put(name, None, &place, value) {
                series.exemplars.extend(exemplars);
            }
        }
        newest
    }

    fn histogram(
        &mut self,
        name: &str,
        point: proto::HistogramDataPoint,
        is_delta: bool,
        target: &Target,
    ) -> Timestamp {
        let at = common::nanos(point.time_unix_nano).millis();
        let n_bounds = point.explicit_bounds.len();
        if !point.bucket_counts.is_empty() && point.bucket_counts.len() != n_bounds + 1 {
            let n = point.bucket_counts.len();
            self.out.refuse(RefusedReason::Malformed, 1, || format!("{name}: {n} bucket counts for {n_bounds} bounds"));
            return at;
        }
        let base = self.point_labels(target, point.attributes);
        let place = Point { base: &base, at, is_delta, is_stale: point.flags & NO_RECORDED_VALUE != 0 };
        let mut exemplars = self.exemplars(point.exemplars);
        let bucket = format!("{name}_bucket");
        let mut below = 0u64;
        for (k, count) in point.bucket_counts.iter().enumerate().take(n_bounds) {
            below = below.saturating_add(*count);
            let le = point.explicit_bounds[k];
            let series = self.put(&bucket, Some(("le", &bound(le))), &place, below as f64);
            move_exemplars(&mut exemplars, series, le);
        }
        let series = self.put(&bucket, Some(("le", "+Inf")), &place, point.count as f64);
        move_exemplars(&mut exemplars, series, f64::INFINITY);
        if let Some(sum) = point.sum {
            self.put(&format!("{name}_sum"), None, &place, sum);
        }
        self.put(&format!("{name}_count"), None, &place, point.count as f64);
        at
    }

    fn exponential(
        &mut self,
        name: &str,
        point: proto::ExponentialHistogramDataPoint,
        is_delta: bool,
        target: &Target,
    ) -> Timestamp {
        let at = common::nanos(point.time_unix_nano).millis();
        let histogram = if point.flags & NO_RECORDED_VALUE != 0 {
            Histogram::stale()
        } else {
            match exponential::histogram(&point) {
                Ok(histogram) => histogram,
                Err(reason) => {
                    self.out.refuse(RefusedReason::Malformed, 1, || format!("{name}: {reason}"));
                    return at;
                }
            }
        };
        let mut labels = self.point_labels(target, point.attributes);
        labels.set(METRIC_NAME, self.cache.text(name));
        let labels = labels.build();
        let histogram = if is_delta && !histogram.is_stale() {
            match self.deltas.add_histogram(self.tenant, &labels, at, &histogram) {
                Added::Total(total) => total,
                Added::Old => {
                    self.refuse_old_delta(&labels);
                    return at;
                }
                Added::Full => {
                    self.refuse_full(&labels);
                    return at;
                }
            }
        } else {
            histogram
        };
        let exemplars = self.exemplars(point.exemplars);
        let series = self.series_of(labels);
        series.histograms.push(HistogramSample { at, histogram: Arc::new(histogram) });
        series.exemplars.extend(exemplars);
        at
    }

    fn refuse_old_delta(&mut self, labels: &Labels) {
        self.out.refuse(RefusedReason::TooOld, 1, || format!("{labels}: a delta that is not newer than the last one"));
    }
    fn refuse_full(&mut self, labels: &Labels) {
        self.out.refuse(RefusedReason::Limit, 1, || {
            format!("{labels}: too many series of delta temporality; send cumulative")
        });
    }

    fn summary(&mut self, name: &str, point: proto::SummaryDataPoint, target: &Target) -> Timestamp {
        let at = common::nanos(point.time_unix_nano).millis();
        let base = self.point_labels(target, point.attributes);
        let place = Point { base: &base, at, is_delta: false, is_stale: point.flags & NO_RECORDED_VALUE != 0 };
        for entry in point.quantile_values {
            self.put(name, Some(("quantile", &bound(entry.quantile))), &place, entry.value);
        }
        self.put(&format!("{name}_sum"), None, &place, point.sum);
        self.put(&format!("{name}_count"), None, &place, point.count as f64);
        at
    }

    fn point_labels(&self, target: &Target, attributes: Vec<KeyValue>) -> LabelsBuilder {
        let mut labels = target.base.clone();
        let pairs = common::attributes(attributes).iter().map(|(k, v)| (k.to_string(), v.to_text())).collect();
        add_labels(&mut labels, pairs, self.cache);
        labels
    }

    fn put(
        &mut self,
        name: &str,
        extra: Option<(&str, &str)>,
        point: &Point<'_>,
        value: f64,
    ) -> Option<&mut SeriesBatch> {
        let mut labels = point.base.clone();
        labels.set(METRIC_NAME, self.cache.text(name));
        if let Some((name, value)) = extra {
            labels.set(self.cache.text(name), self.cache.text(value));
        }
        let labels = labels.build();
        if point.is_stale {
            return Some(self.push(labels, point.at, f64::from_bits(STALE_NAN_BITS)));
        }
        if !point.is_delta {
            return Some(self.push(labels, point.at, value));
        }
        match self.deltas.add(self.tenant, &labels, point.at, value) {
            Added::Total(total) => Some(self.push(labels, point.at, total)),
            Added::Old => {
                self.refuse_old_delta(&labels);
                None
            }
            Added::Full => {
                self.refuse_full(&labels);
                None
            }
        }
    }

    fn push(&mut self, labels: Labels, at: Timestamp, value: f64) -> &mut SeriesBatch {
        let series = self.series_of(labels);
        series.samples.push(Sample { at, value });
        series
    }

    fn series_of(&mut self, labels: Labels) -> &mut SeriesBatch {
        self.series.entry(labels.clone()).or_insert_with(|| SeriesBatch { labels, ..SeriesBatch::default() })
    }

    fn exemplars(&self, exemplars: Vec<proto::Exemplar>) -> Vec<Exemplar> {
        exemplars.into_iter().map(|e| convert_exemplar(e, self.cache)).collect()
    }
}

/// Those up to `le` belong to this bucket, as no smaller one took them.
fn move_exemplars(from: &mut Vec<Exemplar>, to: Option<&mut SeriesBatch>, le: f64) {
    let Some(series) = to else { return };
    let (here, later) = std::mem::take(from).into_iter().partition(|e| e.value <= le || le == f64::INFINITY);
    series.exemplars.extend::<Vec<Exemplar>>(here);
    *from = later;
}

fn convert_exemplar(exemplar: proto::Exemplar, cache: &LabelCache) -> Exemplar {
    let mut ids = LabelsBuilder::default();
    for (name, bytes) in [("trace_id", &exemplar.trace_id), ("span_id", &exemplar.span_id)] {
        if bytes.iter().any(|b| *b != 0) {
            ids.set(name, Arc::<str>::from(hex::encode(bytes)));
        }
    }
    let mut all = ids.clone();
    let pairs =
        common::attributes(exemplar.filtered_attributes).iter().map(|(k, v)| (k.to_string(), v.to_text())).collect();
    add_labels(&mut all, pairs, cache);
    let (ids, all) = (ids.build(), all.build());
    let chars: usize = all.iter().map(|l| l.name.chars().count() + l.value.chars().count()).sum();
    let value = match exemplar.value {
        Some(exemplar::Value::AsDouble(v)) => v,
        Some(exemplar::Value::AsInt(v)) => v as f64,
        None => 0.0,
    };
    let at = common::nanos(exemplar.time_unix_nano).millis();
    Exemplar { labels: if chars <= EXEMPLAR_CHARS_MAX { all } else { ids }, at, value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use crate::otlp::{Format, decode};

    /// Converts the metrics of one resource; answers `series value@second` lines and refusals.
    fn run(resource: &str, bodies: &[&str]) -> Vec<String> {
        let cache = LabelCache::new(Limits::default().series_labels);
        let deltas = DeltaState::default();
        let mut out = Vec::new();
        for metrics in bodies {
            let body = format!(
                r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},"scopeMetrics":[{{"metrics":[{metrics}]}}]}}]}}"#
            );
            let request = decode(Format::Json, body.as_bytes()).unwrap();
            let got = convert(request, &TenantId::anonymous(), &deltas, &cache);
            for series in got.batch.series {
                let histogram = |h: &HistogramSample| {
                    let float = h.histogram.to_float();
                    format!("{}:{:?}@{}", float.count, float.positive, h.at.0 / 1000)
                };
                let samples = series.samples.iter().map(|s| format!("{}@{}", s.value, s.at.0 / 1000));
                let samples: Vec<String> = samples.chain(series.histograms.iter().map(histogram)).collect();
                out.push(format!("{} {}", series.labels, samples.join(" ")));
            }
            out.extend(got.refused.iter().map(|r| format!("refused {} {}", r.reason.as_str(), r.count)));
        }
        out
    }

    const SERVICE: &str = r#"{"key":"service.name","value":{"stringValue":"shop"}},
        {"key":"service.namespace","value":{"stringValue":"ns"}},{"key":"service.instance.id","value":{"stringValue":"i"}}"#;

    #[track_caller]
    fn check(resource: &str, bodies: &[&str], want: &[&str]) {
        assert_eq!(run(resource, bodies), want);
    }

    #[test]
    fn gauges_and_sums() {
        check(
            SERVICE,
            &[
                r#"{"name":"q.depth","gauge":{"dataPoints":[{"timeUnixNano":"5000000000","asInt":"3","attributes":[{"key":"a.b","value":{"stringValue":"x"}}]}]}},
               {"name":"jobs","sum":{"isMonotonic":true,"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"5000000000","asDouble":7}]}}"#,
            ],
            &[r#"jobs_total{instance="i", job="ns/shop"} 7@5"#, r#"q_depth{a_b="x", instance="i", job="ns/shop"} 3@5"#],
        );
    }

    #[test]
    fn other_resource_attributes_stand_in_target_info() {
        check(
            &format!(r#"{SERVICE},{{"key":"service.version","value":{{"stringValue":"2"}}}}"#),
            &[r#"{"name":"up","gauge":{"dataPoints":[{"timeUnixNano":"5000000000","asInt":"1"}]}}"#],
            &[
                r#"target_info{instance="i", job="ns/shop", service_version="2"} 1@5"#,
                r#"up{instance="i", job="ns/shop"} 1@5"#,
            ],
        );
    }

    #[test]
    fn deltas_add_up_and_repeats_do_not() {
        let delta = |second: u64, value: u64| {
            format!(
                r#"{{"name":"j","sum":{{"isMonotonic":true,"aggregationTemporality":1,"dataPoints":[{{"timeUnixNano":"{second}000000000","asInt":"{value}"}}]}}}}"#
            )
        };
        let (a, b) = (delta(1, 2), delta(2, 3));
        check("", &[&a, &b, &b], &["j_total 2@1", "j_total 5@2", "refused too_old 1"]);
    }

    #[test]
    fn histograms_become_classic() {
        check(
            "",
            &[
                r#"{"name":"lat","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"1000000000","count":"6","sum":1.5,
                "bucketCounts":["1","2","3"],"explicitBounds":[0.1,1]}]}}"#,
            ],
            &[
                r#"lat_seconds_bucket{le="+Inf"} 6@1"#,
                r#"lat_seconds_bucket{le="0.1"} 1@1"#,
                r#"lat_seconds_bucket{le="1"} 3@1"#,
                "lat_seconds_count 6@1",
                "lat_seconds_sum 1.5@1",
            ],
        );
        check(
            "",
            &[
                r#"{"name":"lat","histogram":{"dataPoints":[{"timeUnixNano":"1","bucketCounts":["1"],"explicitBounds":[0.1,1]}]}}"#,
            ],
            &["refused malformed 1"],
        );
        check(
            "",
            &[r#"{"name":"e","exponentialHistogram":{"dataPoints":[{"timeUnixNano":"1","scale":-7}]}}"#],
            &["refused malformed 1"],
        );
    }

    #[test]
    fn exponential_histograms_become_native_and_deltas_add_up() {
        let body = |temporality: u8, second: u64, counts: &str, n: u64| {
            format!(
                r#"{{"name":"e","unit":"s","exponentialHistogram":{{"aggregationTemporality":{temporality},"dataPoints":[
                {{"timeUnixNano":"{second}000000000","count":"{n}","sum":1,"scale":0,"positive":{{"offset":0,"bucketCounts":{counts}}}}}]}}}}"#
            )
        };
        check("", &[&body(2, 1, r#"["1","2"]"#, 3)], &["e_seconds 3:[(1, 1.0), (2, 2.0)]@1"]);
        let (a, b) = (body(1, 1, r#"["1","2"]"#, 3), body(1, 2, r#"["0","4"]"#, 4));
        let first = "e_seconds 3:[(1, 1.0), (2, 2.0)]@1";
        check("", &[&a, &b, &b], &[first, "e_seconds 7:[(1, 1.0), (2, 6.0)]@2", "refused too_old 1"]);
    }

    #[test]
    fn exemplars_go_to_their_bucket() {
        let cache = LabelCache::new(Limits::default().series_labels);
        let body = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"lat","histogram":{"aggregationTemporality":2,"dataPoints":[{
            "timeUnixNano":"1000000000","count":"1","bucketCounts":["0","1","0"],"explicitBounds":[0.1,1],
            "exemplars":[{"asDouble":0.5,"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","timeUnixNano":"1000000000"}]}]}}]}]}]}"#;
        let request = decode(Format::Json, body.as_bytes()).unwrap();
        let got = convert(request, &TenantId::anonymous(), &DeltaState::default(), &cache);
        let with: Vec<_> = got.batch.series.iter().filter(|s| !s.exemplars.is_empty()).collect();
        assert_eq!(with.len(), 1);
        assert_eq!(with[0].labels.value("le"), "1");
        assert_eq!(with[0].exemplars[0].labels.value("trace_id"), "5b8efff798038103d269b633813fc60c");
    }
}
