//! What scripts load, as a source of metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::histogram::{CUSTOM_SCHEMA, ResetHint};
use weir_model::labels::METRIC_NAME;
use weir_model::matcher::all_match;
use weir_model::source::{BoxFuture, MetricCursor, MetricFragment, MetricSource, ReadContext, ReadError, SeriesData};
use weir_model::{
    Exemplar, FloatHistogram, HistogramSample, Labels, Matcher, MetricMetadata, Sample, TenantId, TimeRange, Timestamp,
};

use super::Load;
use super::values::Point;

#[derive(Debug, Default)]
pub(super) struct Store {
    series: BTreeMap<Labels, Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    floats: BTreeMap<i64, f64>,
    histograms: BTreeMap<i64, Arc<weir_model::Histogram>>,
}

impl Samples {
    /// Upstream's store says of each counter whether it started anew, and its cases count on that.
    fn find_resets(&mut self) {
        let mut before: Option<FloatHistogram> = None;
        for stored in self.histograms.values_mut() {
            let now = stored.to_float();
            let hint = match (now.hint, &before) {
                (hint @ (ResetHint::Gauge | ResetHint::Reset), _) => hint,
                (_, None) => ResetHint::Unknown,
                (_, Some(before)) => {
                    let unhinted = FloatHistogram { hint: ResetHint::Unknown, ..now.clone() };
                    // It begins a chunk anew, and says nothing of the first sample there.
                    if unhinted.is_reset_after(before) { ResetHint::Unknown } else { ResetHint::NotReset }
                }
            };
            if hint != stored.hint {
                *stored = Arc::new(weir_model::Histogram { hint, ..(**stored).clone() });
            }
            before = Some(now);
        }
    }
}

impl Store {
    pub(super) fn load(&mut self, load: &Load) {
        for line in &load.series {
            let samples = self.series.entry(line.labels.clone()).or_default();
            for (k, point) in line.values.iter().enumerate() {
                let at = k as i64 * load.step_ms;
                match point {
                    Point::Nothing => {}
                    Point::Float(value) => drop(samples.floats.insert(at, *value)),
                    Point::Histogram(h, _) => drop(samples.histograms.insert(at, Arc::new(h.to_stored()))),
                }
            }
        }
        if load.with_custom_buckets {
            self.add_custom_buckets(load);
        }
        self.series.values_mut().for_each(Samples::find_resets);
    }

    /// A native histogram with custom buckets for each classic histogram of this `load`.
    fn add_custom_buckets(&mut self, load: &Load) {
        let mut classic: BTreeMap<(Labels, i64), Classic> = BTreeMap::new();
        for line in &load.series {
            let name = line.labels.metric_name();
            let (base, part) = match name.rsplit_once('_') {
                Some((base, part @ ("bucket" | "sum" | "count"))) => (base, part),
                _ => continue,
            };
            let labels = line.labels.without("le").with(METRIC_NAME, base);
            let Ok(le) = line.labels.value("le").parse::<f64>().or(if part == "bucket" { Err(()) } else { Ok(0.0) })
            else {
                continue;
            };
            for (k, point) in line.values.iter().enumerate() {
                let Point::Float(value) = point else { continue };
                let one = classic.entry((labels.clone(), k as i64 * load.step_ms)).or_default();
                match part {
                    "bucket" => one.buckets.push((le, *value)),
                    "sum" => one.sum = *value,
                    _ => one.count = Some(*value),
                }
            }
        }
        for ((labels, at), one) in classic {
            if let Some(h) = one.custom() {
                let stored = Arc::new(h.to_stored());
                self.series.entry(labels).or_default().histograms.insert(at, stored);
            }
        }
    }

    fn matching(&self, matchers: &[Matcher], range: TimeRange) -> Vec<SeriesData> {
        let within = |at: i64| range.contains(Timestamp(at));
        let found = self.series.iter().filter(|(labels, _)| all_match(matchers, labels)).map(|(labels, samples)| {
            let floats = samples.floats.iter().filter(|(at, _)| within(**at));
            let histograms = samples.histograms.iter().filter(|(at, _)| within(**at));
            SeriesData {
                labels: labels.clone(),
                samples: floats.map(|(at, value)| Sample::new(*at, *value)).collect(),
                histograms: histograms
                    .map(|(at, h)| HistogramSample { at: Timestamp(*at), histogram: h.clone() })
                    .collect(),
                ..SeriesData::default()
            }
        });
        found.filter(|data| !data.is_empty()).collect()
    }
}

#[derive(Default)]
struct Classic {
    /// Upper bound and cumulative count.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: Option<f64>,
}

impl Classic {
    fn custom(mut self) -> Option<FloatHistogram> {
        if self.buckets.is_empty() {
            return None;
        }
        self.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let highest = self.buckets.iter().map(|b| b.1).fold(0.0, f64::max);
        let count = self.count.unwrap_or(highest);
        if self.buckets.last().is_some_and(|b| b.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        let mut below = 0.0;
        let mut positive = Vec::new();
        for (idx, (_, cumulative)) in self.buckets.iter().enumerate() {
            if *cumulative > below {
                positive.push((idx as i32, cumulative - below));
                below = *cumulative;
            }
        }
        let bounds: Vec<f64> = self.buckets.iter().map(|b| b.0).filter(|b| b.is_finite()).collect();
        Some(FloatHistogram {
            schema: CUSTOM_SCHEMA,
            count,
            sum: self.sum,
            positive,
            custom_bounds: bounds.into(),
            ..FloatHistogram::default()
        })
    }
}

struct Cursor(Option<Vec<SeriesData>>);

impl MetricCursor for Cursor {
    fn next(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError> {
        Ok(self.0.take().filter(|batch| !batch.is_empty()))
    }
}

impl MetricSource for Store {
    fn open<'a>(
        &'a self,
        _tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        _context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        let found = self.matching(&fragment.matchers, fragment.range);
        Box::pin(async move { Ok(Box::new(Cursor(Some(found))) as Box<dyn MetricCursor>) })
    }
    fn label_names<'a>(
        &'a self,
        _tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        let found = self.matching(matchers, range);
        let names: BTreeSet<String> = found.iter().flat_map(|s| s.labels.iter().map(|l| l.name.to_string())).collect();
        Box::pin(async move { Ok(names.into_iter().collect()) })
    }
    fn label_values<'a>(
        &'a self,
        _tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        let found = self.matching(matchers, range);
        let values: BTreeSet<String> = found.iter().filter_map(|s| s.labels.get(name).map(str::to_owned)).collect();
        Box::pin(async move { Ok(values.into_iter().collect()) })
    }
    fn metadata<'a>(
        &'a self,
        _tenant: &'a TenantId,
        _family: &'a str,
    ) -> BoxFuture<'a, Result<Vec<MetricMetadata>, ReadError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn exemplars<'a>(
        &'a self,
        _tenant: &'a TenantId,
        _matchers: &'a [Matcher],
        _range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Vec<Exemplar>)>, ReadError>> {
        Box::pin(async { Ok(Vec::new()) })
    }
}
