//! A source over a `Vec`, loaded from promtool's notation, and short-hands for tests.

use std::time::Duration;

use weir_model::matcher::all_match;
use weir_model::source::*;
use weir_model::*;

use crate::ast::ExprKind;
use crate::{Engine, EngineOptions, QueryError, QueryResult, Value, format_value, parse, parse_duration};

#[derive(Clone, Debug, Default)]
pub(crate) struct VecSource {
    pub series: Vec<SeriesData>,
}

impl VecSource {
    /// `load 1m` and below it a series and its values per line: `metric{a="b"} 1 2 3 _ 5x3 0+10x5 stale`.
    pub fn load(text: &str) -> Self {
        let mut source = Self::default();
        let mut step = 60_000;
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            if let Some(interval) = line.strip_prefix("load ") {
                step = parse_duration(interval.trim()).expect("interval");
                continue;
            }
            let name_end = line.rfind('}').map_or_else(|| line.find(' ').expect("values"), |at| at + 1);
            source.add(&line[..name_end], step, &line[name_end..]);
        }
        source
    }

    fn add(&mut self, series: &str, step: i64, values: &str) {
        let ExprKind::Vector(selector) = parse(series).expect(series).kind else { panic!("not a series: {series}") };
        let pairs = selector.matchers.iter().map(|m| (m.name.as_str(), m.value.as_str()));
        let labels = Labels::from_pairs(pairs);
        let mut samples = Vec::new();
        let mut at = 0;
        for value in values.split_whitespace().flat_map(expand) {
            if let Some(value) = value {
                samples.push(Sample { at: Timestamp(at), value });
            }
            at += step;
        }
        self.series.push(SeriesData { labels, samples, ..SeriesData::default() });
    }

    fn matching<'a>(&'a self, matchers: &'a [Matcher], range: TimeRange) -> impl Iterator<Item = SeriesData> + 'a {
        self.series.iter().filter(|s| all_match(matchers, &s.labels)).filter_map(move |s| {
            let samples: Vec<Sample> = s.samples.iter().filter(|s| range.contains(s.at)).copied().collect();
            let histograms = s.histograms.iter().filter(|h| range.contains(h.at)).cloned().collect();
            let found = SeriesData { labels: s.labels.clone(), samples, histograms, ..SeriesData::default() };
            (!found.is_empty()).then_some(found)
        })
    }
}

/// `5`, `_`, `stale`, `_x3`, `5x3` (four times), `1+2x3` (1 3 5 7).
fn expand(word: &str) -> Vec<Option<f64>> {
    let number = |text: &str| match text {
        "stale" => f64::from_bits(STALE_NAN_BITS),
        "NaN" => f64::NAN,
        text => text.parse().unwrap_or_else(|_| panic!("not a value: {text}")),
    };
    let (body, times) = match word.rsplit_once('x') {
        Some((body, times)) => (body, times.parse().expect("repetitions")),
        None => (word, 0),
    };
    if body == "_" {
        return vec![None; times.max(1)];
    }
    let split = body[1..].rfind(['+', '-']).map(|at| at + 1).filter(|at| !body[..*at].ends_with('e'));
    match split.filter(|_| word.contains('x')) {
        Some(at) => (0..=times).map(|n| Some(number(&body[..at]) + number(&body[at..]) * n as f64)).collect(),
        None => vec![Some(number(body)); times + 1],
    }
}

struct VecCursor(std::vec::IntoIter<SeriesData>);

impl MetricCursor for VecCursor {
    fn next(&mut self) -> Result<Option<Vec<SeriesData>>, ReadError> {
        let batch: Vec<SeriesData> = self.0.by_ref().take(2).collect();
        Ok((!batch.is_empty()).then_some(batch))
    }
}

impl MetricSource for VecSource {
    fn open<'a>(
        &'a self,
        _tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        _context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        let series: Vec<SeriesData> = self.matching(&fragment.matchers, fragment.range).collect();
        Box::pin(async move { Ok(Box::new(VecCursor(series.into_iter())) as Box<dyn MetricCursor>) })
    }
    fn label_names<'a>(
        &'a self,
        _tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        let names = self
            .matching(matchers, range)
            .flat_map(|s| s.labels.iter().map(|l| l.name.to_string()).collect::<Vec<_>>());
        let names: std::collections::BTreeSet<String> = names.collect();
        Box::pin(async move { Ok(names.into_iter().collect()) })
    }
    fn label_values<'a>(
        &'a self,
        _tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        let values = self.matching(matchers, range).filter_map(|s| s.labels.get(name).map(str::to_owned));
        let values: std::collections::BTreeSet<String> = values.collect();
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

/// Drives a future that never waits, as those over a `Vec` do.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("a vector never waits"),
    }
}

pub(crate) fn engine() -> Engine {
    Engine::new(EngineOptions { clock: std::sync::Arc::new(SimClock::default()), ..EngineOptions::default() })
}

pub(crate) fn instant(source: &VecSource, query: &str, at_secs: f64) -> Result<QueryResult, QueryError> {
    let expr = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let at = Timestamp((at_secs * 1000.0) as i64);
    ready(engine().instant(source, &TenantId::anonymous(), &expr, at, &ReadContext::unlimited()))
}

pub(crate) fn range(
    source: &VecSource,
    query: &str,
    start_secs: i64,
    end_secs: i64,
    step_secs: u64,
) -> Result<QueryResult, QueryError> {
    let expr = parse(query).unwrap_or_else(|e| panic!("{query}: {e}"));
    let (start, end) = (Timestamp(start_secs * 1000), Timestamp(end_secs * 1000));
    let step = Duration::from_secs(step_secs);
    ready(engine().range(source, &TenantId::anonymous(), &expr, start, end, step, &ReadContext::unlimited()))
}

/// One line per series, `labels value`; a range query shows `value@seconds`.
pub(crate) fn show(result: &Result<QueryResult, QueryError>) -> String {
    let result = match result {
        Ok(result) => result,
        Err(error) => return format!("error: {error}"),
    };
    let lines: Vec<String> = match &result.value {
        Value::Scalar(s) => vec![format_value(s.value)],
        Value::String(_, text) => vec![text.clone()],
        Value::Vector(v) => v.iter().map(|s| format!("{} {}", s.labels, format_value(s.value))).collect(),
        Value::Matrix(m) => {
            let sample = |s: &Sample| format!("{}@{}", format_value(s.value), s.at.secs_f64());
            m.iter()
                .map(|s| format!("{} {}", s.labels, s.samples.iter().map(sample).collect::<Vec<_>>().join(" ")))
                .collect()
        }
    };
    lines.join("\n")
}
