//! The envelope around every answer, and numbers as Prometheus writes them.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use weir_model::source::{ReadError, SeriesData};
use weir_model::{FloatHistogram, Sample, Timestamp};
use weir_promql::{QueryError, Stats, Value, VectorSample, format_value};

/// Most warnings, and most infos, that an answer shows.
const NOTES_MAX: usize = 10;

/// An error with the status and `errorType` that its kind has upstream.
#[derive(Debug)]
pub(super) enum ApiError {
    BadData(String),
    Execution(String),
    Timeout(String),
    Canceled(String),
    Internal(String),
    Unavailable(String),
}

impl ApiError {
    pub fn param(name: &str, cause: impl std::fmt::Display) -> Self {
        Self::BadData(format!("invalid parameter \"{name}\": {cause}"))
    }
}

impl From<QueryError> for ApiError {
    fn from(error: QueryError) -> Self {
        let text = error.to_string();
        match error {
            QueryError::Bad(_) => Self::BadData(text),
            QueryError::Execution(_) | QueryError::TooManySamples | QueryError::Budget(_) => Self::Execution(text),
            QueryError::Timeout => Self::Timeout(text),
            QueryError::Cancelled => Self::Canceled(text),
            QueryError::Storage(_) => Self::Internal(text),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        QueryError::from(error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let client_left = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
        let (status, kind, text) = match self {
            Self::BadData(text) => (StatusCode::BAD_REQUEST, "bad_data", text),
            Self::Execution(text) => (StatusCode::UNPROCESSABLE_ENTITY, "execution", text),
            Self::Timeout(text) => (StatusCode::SERVICE_UNAVAILABLE, "timeout", text),
            Self::Canceled(text) => (client_left, "canceled", text),
            Self::Internal(text) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", text),
            // 500 upstream too.
            Self::Unavailable(text) => (StatusCode::INTERNAL_SERVER_ERROR, "unavailable", text),
        };
        let body = serde_json::json!({ "status": "error", "errorType": kind, "error": text });
        json_response(status, body.to_string().into_bytes())
    }
}

fn json_response(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// `data` of a success, with what the answer has to say about it.
#[derive(Default)]
pub(super) struct Notes {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

pub(super) fn success(data: &impl Serialize, notes: Notes) -> Result<Response, ApiError> {
    let data = serde_json::to_vec(data).map_err(|e| ApiError::Internal(format!("cannot write the answer: {e}")))?;
    Ok(json_response(StatusCode::OK, envelope(&data, notes)))
}

/// `data` is JSON already.
pub(super) fn success_raw(data: &[u8], notes: Notes) -> Response {
    json_response(StatusCode::OK, envelope(data, notes))
}

fn envelope(data: &[u8], notes: Notes) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 64);
    out.extend_from_slice(b"{\"status\":\"success\",\"data\":");
    out.extend_from_slice(data);
    for (name, mut notes) in [("warnings", notes.warnings), ("infos", notes.infos)] {
        if notes.is_empty() {
            continue;
        }
        if notes.len() > NOTES_MAX {
            let more = notes.len() - NOTES_MAX;
            notes.truncate(NOTES_MAX);
            notes.push(format!("{more} more {name} omitted"));
        }
        out.extend_from_slice(format!(",\"{name}\":{}", serde_json::Value::from(notes)).as_bytes());
    }
    out.push(b'}');
    out
}

/// `{"resultType":…,"result":…,"stats":…}`. Written by hand: a matrix may hold millions of samples.
pub(super) fn query_data(value: &Value, stats: Option<&QueryTimings>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let kind = value.value_type().as_str();
    out.extend_from_slice(format!("{{\"resultType\":\"{kind}\",\"result\":").as_bytes());
    match value {
        Value::Vector(samples) => {
            write_list(&mut out, samples, |out, VectorSample { labels, at, value, histogram }| {
                write_metric(out, labels);
                match histogram {
                    None => {
                        out.extend_from_slice(b",\"value\":");
                        write_sample(out, *at, *value);
                    }
                    Some(histogram) => {
                        out.extend_from_slice(b",\"histogram\":");
                        write_histogram(out, *at, histogram);
                    }
                }
                out.push(b'}');
            })
        }
        Value::Matrix(series) => write_list(&mut out, series, |out, SeriesData { labels, samples, histograms, .. }| {
            write_metric(out, labels);
            if !samples.is_empty() {
                out.extend_from_slice(b",\"values\":");
                write_list(out, samples, |out, Sample { at, value }| write_sample(out, *at, *value));
            }
            if !histograms.is_empty() {
                out.extend_from_slice(b",\"histograms\":");
                write_list(out, histograms, |out, h| write_histogram(out, h.at, &h.histogram.to_float()));
            }
            out.push(b'}');
        }),
        Value::Scalar(sample) => write_sample(&mut out, sample.at, sample.value),
        Value::String(at, text) => {
            out.push(b'[');
            write_timestamp(&mut out, *at);
            out.push(b',');
            write_text(&mut out, text);
            out.push(b']');
        }
    }
    if let Some(stats) = stats {
        out.extend_from_slice(format!(",\"stats\":{}", stats.to_json()).as_bytes());
    }
    out.push(b'}');
    out
}

fn write_list<T>(out: &mut Vec<u8>, items: &[T], mut write: impl FnMut(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (idx, item) in items.iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// `{"metric":{…}`, left open.
fn write_metric(out: &mut Vec<u8>, labels: &weir_model::Labels) {
    out.extend_from_slice(b"{\"metric\":{");
    for (idx, label) in labels.iter().enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        write_text(out, &label.name);
        out.push(b':');
        write_text(out, &label.value);
    }
    out.push(b'}');
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    // Writing to a vector fails only where serialising a string could, which it cannot.
    let _ = serde_json::to_writer(out, text);
}

/// `[t,{"count":"n","sum":"x","buckets":[[rule,"lower","upper","count"],…]}]`; the rule says which
/// bounds belong to a bucket: 0 the upper, 1 the lower, 2 neither, 3 both.
fn write_histogram(out: &mut Vec<u8>, at: Timestamp, h: &FloatHistogram) {
    out.push(b'[');
    write_timestamp(out, at);
    out.extend_from_slice(b",{\"count\":");
    write_value(out, h.count);
    out.extend_from_slice(b",\"sum\":");
    write_value(out, h.sum);
    let buckets: Vec<_> = h.buckets().into_iter().filter(|b| b.count != 0.0).collect();
    if !buckets.is_empty() {
        out.extend_from_slice(b",\"buckets\":");
        write_list(out, &buckets, |out, bucket| {
            let rule = match (bucket.lower_inclusive, bucket.upper_inclusive) {
                (false, true) => b"[0,",
                (true, false) => b"[1,",
                (false, false) => b"[2,",
                (true, true) => b"[3,",
            };
            out.extend_from_slice(rule);
            write_value(out, bucket.lower);
            out.push(b',');
            write_value(out, bucket.upper);
            out.push(b',');
            write_value(out, bucket.count);
            out.push(b']');
        });
    }
    out.extend_from_slice(b"}]");
}

fn write_sample(out: &mut Vec<u8>, at: Timestamp, value: f64) {
    out.push(b'[');
    write_timestamp(out, at);
    out.push(b',');
    write_value(out, value);
    out.push(b']');
}

/// A float as text, in quotes.
fn write_value(out: &mut Vec<u8>, value: f64) {
    out.push(b'"');
    let size = value.abs();
    if value.fract() == 0.0 && size < 1e15 && !(value == 0.0 && value.is_sign_negative()) {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else if (1e-4..1e15).contains(&size) {
        // Digits without an exponent in this range, as upstream writes them up to 1e21.
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(format_value(value).as_bytes());
    }
    out.push(b'"');
}

/// Seconds; three decimals, or none when whole.
fn write_timestamp(out: &mut Vec<u8>, at: Timestamp) {
    let ms = at.0.unsigned_abs();
    if at.0 < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(ms / 1000).as_bytes());
    let rest = ms % 1000;
    if rest != 0 {
        let digit = |n: u64| b'0' + n as u8;
        out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10 % 10), digit(rest % 10)]);
    }
}

/// What `stats=` shows: seconds per phase, and samples.
pub(super) struct QueryTimings {
    pub preparation: f64,
    pub queue: f64,
    pub evaluation: f64,
    pub stats: Stats,
    /// Time of each step, when samples are shown for each (`stats=all`).
    pub steps: Option<Vec<Timestamp>>,
}

impl QueryTimings {
    fn to_json(&self) -> serde_json::Value {
        let mut samples = serde_json::json!({
            "totalQueryableSamples": self.stats.samples_total,
            "peakSamples": self.stats.samples_peak,
        });
        if let Some(steps) = &self.steps {
            let per_step = steps.iter().zip(&self.stats.samples_per_step);
            let rows = per_step.map(|(at, n)| serde_json::json!([at.secs_f64(), n]));
            samples["totalQueryableSamplesPerStep"] = rows.collect::<Vec<_>>().into();
        }
        serde_json::json!({
            "timings": {
                "evalTotalTime": self.preparation + self.evaluation,
                "resultSortTime": 0,
                "queryPreparationTime": self.preparation,
                "innerEvalTime": self.evaluation,
                "execQueueTime": self.queue,
                "execTotalTime": self.queue + self.preparation + self.evaluation,
            },
            "samples": samples,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_upstream_does() {
        for (ms, value, want) in [
            (1_435_781_451_781, 1.0, "[1435781451.781,\"1\"]"),
            (1_435_781_451_000, 0.1, "[1435781451,\"0.1\"]"),
            (1_500, -0.0, "[1.500,\"-0\"]"),
            (-1, 1e21, "[-0.001,\"1e+21\"]"),
            (0, f64::NAN, "[0,\"NaN\"]"),
            (7, f64::INFINITY, "[0.007,\"+Inf\"]"),
            (1_020, 123_456_789_012_345.6, "[1.020,\"123456789012345.6\"]"),
            (0, -0.000_123, "[0,\"-0.000123\"]"),
            (0, 1.5e-7, "[0,\"1.5e-07\"]"),
            (0, 1.0 / 3.0, "[0,\"0.3333333333333333\"]"),
        ] {
            let mut out = Vec::new();
            write_sample(&mut out, Timestamp(ms), value);
            assert_eq!(String::from_utf8(out).unwrap(), want);
        }
    }

    proptest::proptest! {
        #[test]
        fn fast_numbers_are_as_slow_ones(bits in proptest::prelude::any::<u64>(), n in -1_000_000i64..1_000_000, digits in 0i32..9) {
            for value in [f64::from_bits(bits), n as f64 / 10f64.powi(digits)] {
                let mut out = Vec::new();
                write_value(&mut out, value);
                proptest::prop_assert_eq!(String::from_utf8(out).unwrap(), format!("\"{}\"", format_value(value)));
            }
        }
    }

    #[test]
    fn histograms_show_filled_buckets_and_their_edges() {
        let h = FloatHistogram {
            zero_threshold: 0.001,
            zero_count: 1.0,
            count: 6.5,
            sum: -2.0,
            positive: vec![(1, 2.0), (2, 0.0), (3, 0.5)],
            negative: vec![(0, 3.0)],
            ..FloatHistogram::default()
        };
        let mut out = Vec::new();
        write_histogram(&mut out, Timestamp(1500), &h);
        let want = "[1.500,{\"count\":\"6.5\",\"sum\":\"-2\",\"buckets\":[[1,\"-1\",\"-0.5\",\"3\"],\
                    [3,\"-0.001\",\"0.001\",\"1\"],[0,\"1\",\"2\",\"2\"],[0,\"4\",\"8\",\"0.5\"]]}]";
        assert_eq!(String::from_utf8(out).unwrap(), want);
    }

    #[test]
    fn notes_beyond_ten_are_counted() {
        let notes = Notes { warnings: (0..12).map(|n| n.to_string()).collect(), infos: Vec::new() };
        let text = String::from_utf8(envelope(b"[]", notes)).unwrap();
        assert!(text.ends_with("\"9\",\"2 more warnings omitted\"]}"), "{text}");
    }
}
