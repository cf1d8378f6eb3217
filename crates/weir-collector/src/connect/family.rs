//! The series of one metric: by their attributes, up to a limit, and as points.

use ahash::AHashMap;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::{
    self as proto, AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint,
    HistogramDataPoint, Metric, NumberDataPoint, Sum, exemplar, metric::Data as MetricData, number_data_point,
};
use weir_model::Nanos;

use super::At;
use super::histogram::{Histogram, Shape};
use super::resource::attribute;

/// What all that is beyond a limit is counted under, as the SDKs have it.
const OVERFLOW: &str = "otel.metric.overflow";
const OVERFLOW_KEY: &[u8] = OVERFLOW.as_bytes();
/// Series of a connector: some 100 MB at worst.
pub(super) const SERIES_MAX: usize = 50_000;

/// Bytes of what tells a series apart; what has more is folded too.
const KEY_BYTES_MAX: usize = 2048;

/// Room for series, of a connector and of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Series of one family; zero is no limit.
    pub limit: usize,
    /// Of all families.
    pub used: usize,
}

impl Room {
    pub fn is_full(&self) -> bool {
        self.used >= SERIES_MAX
    }
}

/// A point of the past of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub value: f64,
    pub at: Nanos,
}

pub(super) struct Series<T> {
    attributes: Vec<KeyValue>,
    start: Nanos,
    is_new: bool,
    exemplars: Vec<Seen>,
    touched: Nanos,
    pub value: T,
}

impl<T> Series<T> {
    /// Up to `max` until the next collection.
    pub fn example(&mut self, seen: Option<Seen>, max: usize) {
        if let Some(seen) = seen
            && self.exemplars.len() < max
        {
            self.exemplars.push(seen);
        }
    }

    fn exemplars(&mut self) -> Vec<Exemplar> {
        let exemplar = |seen: Seen| Exemplar {
            time_unix_nano: unix(seen.at),
            trace_id: seen.trace_id.to_vec(),
            span_id: seen.span_id.to_vec(),
            value: Some(exemplar::Value::AsDouble(seen.value)),
            ..Exemplar::default()
        };
        std::mem::take(&mut self.exemplars).into_iter().map(exemplar).collect()
    }

    /// Where the series begins, if it has not been told yet: a point at zero there lets a rate see the first count.
    fn beginning(&mut self, now: Nanos) -> Option<Nanos> {
        (std::mem::take(&mut self.is_new) && self.start.0 / 1_000_000 < now.0 / 1_000_000).then_some(self.start)
    }
}

pub(super) struct Family<T> {
    series: AHashMap<Box<[u8]>, Series<T>>,
}

impl<T> Default for Family<T> {
    fn default() -> Self {
        Self { series: AHashMap::new() }
    }
}

impl<T> Family<T> {
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Drops series that were last touched before a time.
    pub fn forget_before(&mut self, time: Nanos) {
        self.series.retain(|_, series| series.touched >= time);
    }

    /// Every series as it stands; its value may be taken.
    pub fn drain_values(&mut self, mut each: impl FnMut(&[KeyValue], &mut T, Option<Nanos>), now: Nanos) {
        for series in self.ordered() {
            let begins = series.beginning(now);
            each(&series.attributes, &mut series.value, begins);
        }
    }

    /// The series of a key, and whether it is the one for what is beyond the limit.
    pub fn at(
        &mut self,
        key: &[u8],
        room: &mut Room,
        at: At,
        attributes: impl FnOnce() -> Vec<KeyValue>,
        empty: impl FnOnce() -> T,
    ) -> (&mut Series<T>, bool) {
        let is_known = self.series.contains_key(key);
        let is_full = || room.is_full() || (room.limit > 0 && self.series.len() >= room.limit);
        let is_over = !is_known && (is_full() || key.len() > KEY_BYTES_MAX);
        let key = if is_over { OVERFLOW_KEY } else { key };
        if !is_known && !self.series.contains_key(key) {
            let attributes = if is_over { vec![attribute(OVERFLOW, Any::BoolValue(true))] } else { attributes() };
            let series = Series {
                attributes,
                start: at.before,
                is_new: true,
                exemplars: Vec::new(),
                touched: at.now,
                value: empty(),
            };
            self.series.insert(key.into(), series);
            room.used += 1;
        }
        let Some(series) = self.series.get_mut(key) else { unreachable!("it was put there") };
        series.touched = at.now;
        (series, is_over)
    }

    fn ordered(&mut self) -> Vec<&mut Series<T>> {
        let mut all: Vec<(&Box<[u8]>, &mut Series<T>)> = self.series.iter_mut().collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, series)| series).collect()
    }
}

pub(super) fn unix(at: Nanos) -> u64 {
    u64::try_from(at.0).unwrap_or(0)
}

pub(super) fn temporality(is_delta: bool) -> i32 {
    if is_delta { AggregationTemporality::Delta as i32 } else { AggregationTemporality::Cumulative as i32 }
}

pub(super) fn sum(name: &str, data_points: Vec<NumberDataPoint>, is_delta: bool) -> Metric {
    let sum = Sum { data_points, aggregation_temporality: temporality(is_delta), is_monotonic: true };
    Metric { name: name.to_owned(), data: Some(MetricData::Sum(sum)), ..Metric::default() }
}

pub(super) fn number(attributes: &[KeyValue], start: Nanos, at: Nanos, value: u64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: attributes.to_vec(),
        start_time_unix_nano: unix(start),
        time_unix_nano: unix(at),
        value: Some(number_data_point::Value::AsInt(i64::try_from(value).unwrap_or(i64::MAX))),
        ..NumberDataPoint::default()
    }
}

/// Numbers above zero; none without any.
pub(super) fn numbers(name: &str, family: &mut Family<u64>, now: Nanos, is_delta: bool) -> Option<Metric> {
    let mut points = Vec::with_capacity(family.len());
    for series in family.ordered().into_iter().filter(|series| series.value > 0) {
        if let Some(at) = series.beginning(now).filter(|_| !is_delta) {
            points.push(number(&series.attributes, series.start, at, 0));
        }
        let mut point = number(&series.attributes, series.start, now, series.value);
        point.exemplars = series.exemplars();
        points.push(point);
    }
    (!points.is_empty()).then(|| sum(name, points, is_delta))
}

/// Histograms; none without any.
pub(super) fn histograms(
    name: &str,
    unit: &str,
    (family, shape): (&mut Family<Histogram>, &Shape),
    now: Nanos,
    is_delta: bool,
) -> Option<Metric> {
    let (mut explicit, mut exponential) = (Vec::new(), Vec::new());
    for series in family.ordered() {
        let begins = series.beginning(now).filter(|_| !is_delta);
        let exemplars = series.exemplars();
        let (start, empty) = (unix(series.start), shape.empty());
        for (histogram, at) in begins.map(|at| (&empty, at)).into_iter().chain([(&series.value, now)]) {
            let exemplars = if at == now { exemplars.clone() } else { Vec::new() };
            let (attributes, time_unix_nano) = (series.attributes.clone(), unix(at));
            match histogram {
                Histogram::Explicit(histogram) => explicit.push(HistogramDataPoint {
                    attributes,
                    start_time_unix_nano: start,
                    time_unix_nano,
                    exemplars,
                    ..histogram.point()
                }),
                Histogram::Exponential(histogram) => exponential.push(ExponentialHistogramDataPoint {
                    attributes,
                    start_time_unix_nano: start,
                    time_unix_nano,
                    exemplars,
                    ..histogram.point()
                }),
            }
        }
    }
    let aggregation_temporality = temporality(is_delta);
    let data = match shape {
        Shape::Explicit(_) if explicit.is_empty() => return None,
        Shape::Exponential(_) if exponential.is_empty() => return None,
        Shape::Explicit(_) => {
            MetricData::Histogram(proto::Histogram { data_points: explicit, aggregation_temporality })
        }
        Shape::Exponential(_) => {
            MetricData::ExponentialHistogram(ExponentialHistogram { data_points: exponential, aggregation_temporality })
        }
    };
    Some(Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() })
}
