//! The engine against an evaluator that is slow and obvious: for each step it looks at all samples
//! of all series anew, with formulas as the documentation gives them.

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_model::source::SeriesData;
use weir_model::{Labels, STALE_NAN_BITS, Sample, Timestamp, is_stale};

use crate::Value;
use crate::testing::{VecSource, range};

const LOOKBACK_MS: i64 = 300_000;

/// Answers by series and step; what is absent is not there.
type Answers = BTreeMap<(String, i64), f64>;

fn in_window(series: &SeriesData, start: i64, end: i64) -> Vec<(f64, f64)> {
    let inside = |s: &&Sample| s.at.0 > start && s.at.0 <= end && !is_stale(s.value);
    series.samples.iter().filter(inside).map(|s| (s.at.0 as f64 / 1000.0, s.value)).collect()
}

fn latest(series: &SeriesData, at: i64) -> Option<f64> {
    let last = series.samples.iter().rev().find(|s| s.at.0 <= at)?;
    (last.at.0 > at - LOOKBACK_MS && !is_stale(last.value)).then_some(last.value)
}

/// Increase with resets undone one by one, then extrapolated.
fn increase(window: &[(f64, f64)], start: f64, end: f64, counter: bool) -> Option<f64> {
    let (first, last) = (*window.first()?, *window.last()?);
    if window.len() < 2 {
        return None;
    }
    let mut change = 0.0;
    for pair in window.windows(2) {
        let reset = counter && pair[1].1 < pair[0].1;
        change += if reset { pair[1].1 } else { pair[1].1 - pair[0].1 };
    }
    let covered = last.0 - first.0;
    let between = covered / (window.len() - 1) as f64;
    let reach = |gap: f64| if gap < between * 1.1 { gap } else { between / 2.0 };
    let mut before = reach(first.0 - start);
    if counter && change > 0.0 && first.1 >= 0.0 {
        before = before.min(covered * first.1 / change);
    }
    Some(change * (before + covered + reach(end - last.0)) / covered)
}

fn over_window(function: &str, window: &[(f64, f64)], start: f64, end: f64) -> Option<f64> {
    let values: Vec<f64> = window.iter().map(|w| w.1).collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let pairs = || values.windows(2);
    if values.is_empty() {
        return None;
    }
    Some(match function {
        "rate" => increase(window, start, end, true)? / (end - start),
        "increase" => increase(window, start, end, true)?,
        "delta" => increase(window, start, end, false)?,
        "irate" => {
            let [.., before, last] = window else { return None };
            (if last.1 < before.1 { last.1 } else { last.1 - before.1 }) / (last.0 - before.0)
        }
        "sum_over_time" => values.iter().sum(),
        "avg_over_time" => mean,
        "min_over_time" => values.iter().copied().fold(f64::INFINITY, f64::min),
        "max_over_time" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "count_over_time" => n,
        "last_over_time" => values[values.len() - 1],
        "first_over_time" => values[0],
        "stdvar_over_time" => values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n,
        "changes" => pairs().filter(|p| p[0] != p[1]).count() as f64,
        "resets" => pairs().filter(|p| p[1] < p[0]).count() as f64,
        other => panic!("no oracle for {other}"),
    })
}

const FUNCTIONS: [&str; 14] = [
    "rate",
    "increase",
    "delta",
    "irate",
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "last_over_time",
    "first_over_time",
    "stdvar_over_time",
    "changes",
    "resets",
];

fn aggregate(op: &str, values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let sum: f64 = values.iter().sum();
    match op {
        "sum" => sum,
        "avg" => sum / n,
        "count" => n,
        "min" => values.iter().copied().fold(f64::INFINITY, f64::min),
        "max" => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        "stdvar" => values.iter().map(|v| (v - sum / n).powi(2)).sum::<f64>() / n,
        other => panic!("no oracle for {other}"),
    }
}

/// Gaps in seconds and values; now and then a stale marker.
fn series() -> impl Strategy<Value = Vec<Sample>> {
    let value = prop_oneof![8 => (0..50i32).prop_map(f64::from), 1 => Just(f64::from_bits(STALE_NAN_BITS))];
    prop::collection::vec((1..120i64, value), 0..60).prop_map(|steps| {
        let mut at = 0;
        let sample = |(gap, value)| {
            at += gap * 1000;
            Sample { at: Timestamp(at), value }
        };
        steps.into_iter().map(sample).collect()
    })
}

fn source(all: Vec<Vec<Sample>>) -> VecSource {
    let named = |(idx, samples): (usize, Vec<Sample>)| {
        let (instance, job) = (idx.to_string(), (idx % 2).to_string());
        let labels = Labels::from_pairs([("__name__", "x"), ("instance", instance.as_str()), ("job", job.as_str())]);
        SeriesData { labels, samples, ..SeriesData::default() }
    };
    VecSource { series: all.into_iter().enumerate().map(named).collect() }
}

fn engine(source: &VecSource, query: &str, (start, end, step): (i64, i64, u64)) -> Answers {
    let result = range(source, query, start, end, step).unwrap();
    let Value::Matrix(matrix) = result.value else { panic!("a range query answers with a matrix") };
    matrix.iter().flat_map(|s| s.samples.iter().map(|p| ((s.labels.to_string(), p.at.0), p.value))).collect()
}

fn check(query: &str, got: &Answers, want: &Answers) -> Result<(), TestCaseError> {
    let keys = |a: &Answers| a.keys().cloned().collect::<Vec<_>>();
    prop_assert_eq!(keys(got), keys(want), "{}", query);
    for ((key, got), want) in got.iter().zip(want.values()) {
        let close = (got - want).abs() <= 1e-9 * got.abs().max(want.abs()).max(1.0);
        prop_assert!(close, "{} at {:?}: {} instead of {}", query, key, got, want);
    }
    Ok(())
}

proptest! {
    #[test]
    fn windows_are_those_of_the_obvious_way(
        all in prop::collection::vec(series(), 1..4),
        function in prop::sample::select(&FUNCTIONS[..]),
        range_secs in 1..900i64,
        offset_secs in -300..300i64,
        start in 0..2000i64,
        step in 1..200u64,
        n_steps in 0..40i64,
    ) {
        let source = source(all);
        let query = format!("{function}(x[{range_secs}s] offset {offset_secs}s)");
        let times = (start, start + n_steps * step as i64, step);
        let mut want = Answers::new();
        for series in &source.series {
            let keeps = ["last_over_time", "first_over_time"].contains(&function);
            let labels = if keeps { series.labels.clone() } else { series.labels.without_name() };
            for at in (times.0..=times.1).step_by(step as usize) {
                let (from, to) = (at - offset_secs - range_secs, at - offset_secs);
                let window = in_window(series, from * 1000, to * 1000);
                if let Some(value) = over_window(function, &window, from as f64, to as f64) {
                    want.insert((labels.to_string(), at * 1000), value);
                }
            }
        }
        check(&query, &engine(&source, &query, times), &want)?;
    }

    #[test]
    fn aggregations_are_those_of_the_obvious_way(
        all in prop::collection::vec(series(), 1..6),
        op in prop::sample::select(vec!["sum", "avg", "count", "min", "max", "stdvar"]),
        start in 0..2000i64,
        step in 1..200u64,
        n_steps in 0..40i64,
    ) {
        let source = source(all);
        let query = format!("{op} by (job) (x)");
        let times = (start, start + n_steps * step as i64, step);
        let mut groups: BTreeMap<(String, i64), Vec<f64>> = BTreeMap::new();
        for series in &source.series {
            let labels = series.labels.filter(|name| name == "job").to_string();
            for at in (times.0..=times.1).step_by(step as usize) {
                if let Some(value) = latest(series, at * 1000) {
                    groups.entry((labels.clone(), at * 1000)).or_default().push(value);
                }
            }
        }
        let want = groups.into_iter().map(|(key, values)| (key, aggregate(op, &values))).collect();
        check(&query, &engine(&source, &query, times), &want)?;
    }

    #[test]
    fn a_range_query_is_many_instant_queries(
        all in prop::collection::vec(series(), 1..5),
        query in prop::sample::select(vec![
            "x",
            "topk(1, x)",
            "x and on (job) x > 10",
            "x - on (instance) group_left () x offset 1m",
            "sum by (job) (rate(x[3m])) > 0.1",
            "max_over_time(sum(x)[4m:30s])",
            "quantile(0.4, x)",
            "absent(x > 25)",
            "x or vector(1)",
        ]),
        start in 0..2000i64,
        step in 1..200u64,
    ) {
        let source = source(all);
        let times = (start, start + 10 * step as i64, step);
        let mut want = Answers::new();
        for at in (times.0..=times.1).step_by(step as usize) {
            let result = crate::testing::instant(&source, query, at as f64).unwrap();
            let Value::Vector(vector) = result.value else { panic!("an instant query answers with a vector") };
            want.extend(vector.iter().map(|s| ((s.labels.to_string(), s.at.0), s.value)));
        }
        check(query, &engine(&source, query, times), &want)?;
    }
}
