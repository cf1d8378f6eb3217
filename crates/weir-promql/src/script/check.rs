//! Results against what a script expects, floats with a relative error of a millionth.

use weir_model::source::SeriesData;
use weir_model::{FloatHistogram, Labels, is_stale};

use super::Times;
use super::expect::Expected;
use super::values::Point;
use crate::{Value, VectorSample, format_value};

const EPSILON: f64 = 1e-6;

/// A value of a result.
enum Got {
    Float(f64),
    Histogram(FloatHistogram),
}

pub(super) fn value(expected: &Expected, when: Times, got: &Value) -> Result<(), String> {
    match got {
        Value::Scalar(sample) => match expected.scalar {
            Some(want) if near(want, sample.value) => Ok(()),
            want => Err(format!("expected {want:?}, got the scalar {}", format_value(sample.value))),
        },
        Value::String(_, text) => match &expected.text {
            Some(want) if want == text => Ok(()),
            want => Err(format!("expected {want:?}, got the text {text:?}")),
        },
        Value::Vector(vector) => vector_result(expected, vector),
        Value::Matrix(matrix) => {
            let (start, end, step) = match (when, expected.range_vector) {
                (Times::Range { start, end, step }, _) => (start, end, step),
                (Times::Instant(_), Some(times)) => times,
                (Times::Instant(_), None) => return Err("a range vector, and no `expect range vector`".to_owned()),
            };
            matrix_result(expected, matrix, (start, end, step))
        }
    }
}

fn vector_result(expected: &Expected, vector: &[VectorSample]) -> Result<(), String> {
    if expected.scalar.is_some() {
        return Err("expected a scalar, got a vector".to_owned());
    }
    for (place, sample) in vector.iter().enumerate() {
        let labels = &sample.labels;
        let points = expected.points(labels).ok_or_else(|| format!("unexpected {}", show(labels, &got_of(sample))))?;
        if expected.is_ordered() && expected.series.get(place).is_none_or(|s| s.labels != *labels) {
            return Err(format!("{labels} stands at place {}, which is not expected", place + 1));
        }
        match points {
            [want] => same(want, &got_of(sample)).map_err(|e| format!("{labels}: {e}"))?,
            _ => return Err(format!("{labels}: an instant query expects one value, not {}", points.len())),
        }
    }
    let lacks = |s: &&super::values::SeriesLine| !vector.iter().any(|v| v.labels == s.labels);
    match expected.series.iter().find(lacks) {
        Some(missing) => Err(format!("{} is missing", missing.labels)),
        None => Ok(()),
    }
}

fn got_of(sample: &VectorSample) -> Got {
    match &sample.histogram {
        Some(h) => Got::Histogram((**h).clone()),
        None => Got::Float(sample.value),
    }
}

fn matrix_result(
    expected: &Expected,
    matrix: &[SeriesData],
    (start, end, step): (i64, i64, i64),
) -> Result<(), String> {
    let n = usize::try_from((end - start) / step.max(1) + 1).unwrap_or(0);
    for series in matrix {
        let labels = &series.labels;
        let points = expected.points(labels).ok_or_else(|| format!("unexpected series {labels}"))?;
        let n_wanted = points.iter().filter(|p| !matches!(p, Point::Nothing)).count();
        let n_got = series.samples.len() + series.histograms.len();
        for (k, want) in points.iter().enumerate().take(n) {
            let at = start + k as i64 * step;
            match (want, at_time(series, at)) {
                (Point::Nothing, None) => {}
                (Point::Nothing, Some(got)) => return Err(format!("unexpected {} at {at}ms", show(labels, &got))),
                (_, None) => return Err(format!("{labels} has nothing at {at}ms")),
                (want, Some(got)) => same(want, &got).map_err(|e| format!("{labels} at {at}ms: {e}"))?,
            }
        }
        if n_wanted != n_got {
            return Err(format!("{labels}: expected {n_wanted} values, got {n_got}"));
        }
    }
    let wanted = expected.series.iter().filter(|s| s.values.iter().any(|p| !matches!(p, Point::Nothing)));
    let lacks = |s: &&super::values::SeriesLine| !matrix.iter().any(|m| m.labels == s.labels);
    match wanted.clone().find(lacks) {
        Some(missing) => Err(format!("{} is missing", missing.labels)),
        None => Ok(()),
    }
}

fn at_time(series: &SeriesData, at: i64) -> Option<Got> {
    let float = series.samples.iter().find(|s| s.at.0 == at).map(|s| Got::Float(s.value));
    float.or_else(|| {
        let found = series.histograms.iter().find(|h| h.at.0 == at)?;
        Some(Got::Histogram(found.histogram.to_float()))
    })
}

/// An instant query's result, and that of a range query at the same time.
pub(super) fn same_at(at: i64, vector: &[VectorSample], matrix: &[SeriesData]) -> Result<(), String> {
    let n = matrix.iter().filter(|s| at_time(s, at).is_some()).count();
    if n != vector.len() {
        return Err(format!("{n} values instead of {}", vector.len()));
    }
    for sample in vector {
        let series = matrix.iter().find(|s| s.labels == sample.labels);
        let got = series.and_then(|s| at_time(s, at)).ok_or_else(|| format!("{} is missing", sample.labels))?;
        let want = match &sample.histogram {
            Some(h) => Point::Histogram(h.clone(), false),
            None => Point::Float(sample.value),
        };
        same(&want, &got).map_err(|e| format!("{}: {e}", sample.labels))?;
    }
    Ok(())
}

fn show(labels: &Labels, got: &Got) -> String {
    match got {
        Got::Float(value) => format!("{labels} {}", format_value(*value)),
        Got::Histogram(h) => format!("{labels} {h:?}"),
    }
}

fn same(want: &Point, got: &Got) -> Result<(), String> {
    match (want, got) {
        (Point::Float(want), Got::Float(got)) if near(*want, *got) => Ok(()),
        (Point::Histogram(want, hinted), Got::Histogram(got)) => {
            if !same_histogram(want, got) {
                return Err(format!("expected {want:?}, got {got:?}"));
            }
            if *hinted && want.hint != got.hint {
                return Err(format!("expected the hint {:?}, got {:?}", want.hint, got.hint));
            }
            Ok(())
        }
        (Point::Float(want), got) => {
            Err(format!("expected {}, got{}", format_value(*want), show(&Labels::empty(), got).replace("{}", "")))
        }
        (Point::Histogram(want, _), Got::Float(got)) => Err(format!("expected {want:?}, got {}", format_value(*got))),
        (Point::Nothing, got) => Err(format!("expected nothing, got{}", show(&Labels::empty(), got).replace("{}", ""))),
    }
}

fn near(a: f64, b: f64) -> bool {
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}

fn same_histogram(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let filled = |side: &[(i32, f64)]| side.iter().filter(|(_, n)| *n != 0.0).copied().collect::<Vec<_>>();
    let buckets = |a: &[(i32, f64)], b: &[(i32, f64)]| {
        let (a, b) = (filled(a), filled(b));
        a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| x.0 == y.0 && near(x.1, y.1))
    };
    a.schema == b.schema
        && near(a.count, b.count)
        && near(a.sum, b.sum)
        && near(a.zero_count, b.zero_count)
        && near(a.zero_threshold, b.zero_threshold)
        && a.custom_bounds.len() == b.custom_bounds.len()
        && a.custom_bounds.iter().zip(b.custom_bounds.iter()).all(|(x, y)| near(*x, *y))
        && buckets(&a.positive, &b.positive)
        && buckets(&a.negative, &b.negative)
}
