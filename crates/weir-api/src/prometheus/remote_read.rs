//! `POST /api/v1/read`: remote read, as samples or as a stream of XOR chunks.
//!
//! Source: Prometheus `prompb/remote.proto`, `storage/remote/read_handler.go`.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prost::Message as _;
use weir_ingest::{Encoding, decompress};
use weir_model::histogram::{BucketSpan, Counts};
use weir_model::matcher::all_match;
use weir_model::source::{MetricCursor, MetricFragment, Projection, SeriesData};
use weir_model::{HistogramSample, Labels, MatchOp, Matcher, TimeRange, Timestamp};

use super::answer::ApiError;
use super::{Prometheus, xor};
use crate::tenant::Tenant;

/// A request is a few selectors.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Upstream's `storage.remote.read-sample-limit`.
const SAMPLES_MAX: usize = 50_000_000;
/// Upstream's `storage.remote.read-max-bytes-in-frame`.
const FRAME_BYTES_MAX: usize = 1 << 20;
const STREAMED: i32 = 1;

mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ReadRequest {
        #[prost(message, repeated, tag = "1")]
        pub queries: Vec<Query>,
        #[prost(int32, repeated, tag = "2")]
        pub accepted: Vec<i32>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Query {
        #[prost(int64, tag = "1")]
        pub start_ms: i64,
        #[prost(int64, tag = "2")]
        pub end_ms: i64,
        #[prost(message, repeated, tag = "3")]
        pub matchers: Vec<LabelMatcher>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct LabelMatcher {
        #[prost(int32, tag = "1")]
        pub kind: i32,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(string, tag = "3")]
        pub value: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ReadResponse {
        #[prost(message, repeated, tag = "1")]
        pub results: Vec<QueryResult>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct QueryResult {
        #[prost(message, repeated, tag = "1")]
        pub timeseries: Vec<TimeSeries>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TimeSeries {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub samples: Vec<Sample>,
        #[prost(message, repeated, tag = "4")]
        pub histograms: Vec<Histogram>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Label {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Sample {
        #[prost(double, tag = "1")]
        pub value: f64,
        #[prost(int64, tag = "2")]
        pub at: i64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Span {
        #[prost(sint32, tag = "1")]
        pub offset: i32,
        #[prost(uint32, tag = "2")]
        pub length: u32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Histogram {
        #[prost(uint64, optional, tag = "1")]
        pub count_int: Option<u64>,
        #[prost(double, optional, tag = "2")]
        pub count_float: Option<f64>,
        #[prost(double, tag = "3")]
        pub sum: f64,
        #[prost(sint32, tag = "4")]
        pub schema: i32,
        #[prost(double, tag = "5")]
        pub zero_threshold: f64,
        #[prost(uint64, optional, tag = "6")]
        pub zero_int: Option<u64>,
        #[prost(double, optional, tag = "7")]
        pub zero_float: Option<f64>,
        #[prost(message, repeated, tag = "8")]
        pub negative_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "9")]
        pub negative_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "10")]
        pub negative_counts: Vec<f64>,
        #[prost(message, repeated, tag = "11")]
        pub positive_spans: Vec<Span>,
        #[prost(sint64, repeated, tag = "12")]
        pub positive_deltas: Vec<i64>,
        #[prost(double, repeated, tag = "13")]
        pub positive_counts: Vec<f64>,
        #[prost(int32, tag = "14")]
        pub reset_hint: i32,
        #[prost(int64, tag = "15")]
        pub at: i64,
        #[prost(double, repeated, tag = "16")]
        pub custom_values: Vec<f64>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ChunkedReadResponse {
        #[prost(message, repeated, tag = "1")]
        pub chunked_series: Vec<ChunkedSeries>,
        #[prost(int64, tag = "2")]
        pub query_index: i64,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ChunkedSeries {
        #[prost(message, repeated, tag = "1")]
        pub labels: Vec<Label>,
        #[prost(message, repeated, tag = "2")]
        pub chunks: Vec<Chunk>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Chunk {
        #[prost(int64, tag = "1")]
        pub min_ms: i64,
        #[prost(int64, tag = "2")]
        pub max_ms: i64,
        /// 1 is XOR.
        #[prost(int32, tag = "3")]
        pub kind: i32,
        #[prost(bytes = "vec", tag = "4")]
        pub data: Vec<u8>,
    }
}

pub(super) async fn read(
    State(prometheus): State<Arc<Prometheus>>,
    Tenant(tenant): Tenant,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or("snappy", |v| v.to_str().unwrap_or("?"));
    if encoding != "snappy" {
        let text = format!("content encoding `{encoding}` of a read request; use snappy\n");
        return Ok((StatusCode::UNSUPPORTED_MEDIA_TYPE, text).into_response());
    }
    let request = request(&body)?;
    let context = prometheus.read_context();
    let stop = context.cancel.on_drop();
    let mut cursors: Vec<(Vec<Matcher>, Box<dyn MetricCursor>)> = Vec::with_capacity(request.queries.len());
    for query in &request.queries {
        let matchers = query.matchers.iter().map(matcher).collect::<Result<Vec<_>, _>>()?;
        let range = TimeRange::new(Timestamp(query.start_ms), Timestamp(query.end_ms));
        let fragment = MetricFragment { matchers, range, projection: Projection::Samples, ..MetricFragment::default() };
        let cursor = prometheus.metrics.open(&tenant, &fragment, &context).await?;
        cursors.push((fragment.matchers, cursor));
    }
    let answer = Prometheus::compute(move || {
        let mut n_samples = 0;
        let mut results = Vec::with_capacity(cursors.len());
        let mut held = context.budget.try_reserve(0).map_err(weir_model::source::ReadError::from)?;
        for (matchers, mut cursor) in cursors {
            let mut found: Vec<SeriesData> = Vec::new();
            while let Some(batch) = cursor.next()? {
                context.cancel.check()?;
                for series in batch.into_iter().filter(|s| all_match(&matchers, &s.labels)) {
                    n_samples += series.samples.len() + series.histograms.len();
                    if n_samples > SAMPLES_MAX {
                        return Err(ApiError::BadData(format!("exceeded sample limit ({SAMPLES_MAX})")));
                    }
                    // The answer's bytes, about as many again as the samples.
                    held.grow(series.samples.len() as u64 * 16).map_err(weir_model::source::ReadError::from)?;
                    found.push(series);
                }
            }
            found.sort_by(|a, b| a.labels.cmp(&b.labels));
            results.push(found);
        }
        respond(&request.accepted, &results)
    })
    .await;
    stop.disarm();
    answer
}

fn request(body: &[u8]) -> Result<proto::ReadRequest, ApiError> {
    let plain =
        decompress(Encoding::SnappyBlock, body, BODY_BYTES_MAX).map_err(|e| ApiError::BadData(e.to_string()))?;
    proto::ReadRequest::decode(&*plain).map_err(|e| ApiError::BadData(format!("remote read request: {e}")))
}

fn matcher(m: &proto::LabelMatcher) -> Result<Matcher, ApiError> {
    let op = match m.kind {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        other => return Err(ApiError::BadData(format!("matcher of `{}`: type {other} is unknown", m.name))),
    };
    Matcher::new(m.name.as_str(), op, m.value.as_str())
        .map_err(|e| ApiError::BadData(format!("matcher of `{}`: {e}", m.name)))
}

/// Chunks where the reader takes them first and there is nothing but floats; else samples.
fn respond(accepted: &[i32], results: &[Vec<SeriesData>]) -> Result<Response, ApiError> {
    let floats_only = results.iter().flatten().all(|s| s.histograms.is_empty());
    let takes_samples = accepted.is_empty() || accepted.contains(&0);
    if accepted.first() == Some(&STREAMED) && (floats_only || !takes_samples) {
        if !floats_only {
            let text = "native histograms are answered as samples; accept response type SAMPLES as well";
            return Err(ApiError::Execution(text.to_owned()));
        }
        let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
        return Ok(([(header::CONTENT_TYPE, kind)], Body::from(frames(results))).into_response());
    }
    let results = results.iter().map(|all| proto::QueryResult { timeseries: all.iter().map(time_series).collect() });
    let plain = proto::ReadResponse { results: results.collect() }.encode_to_vec();
    let packed = snap::raw::Encoder::new().compress_vec(&plain);
    let packed = packed.map_err(|e| ApiError::Execution(format!("the answer is too large for one message: {e}")))?;
    let headers = [(header::CONTENT_TYPE, "application/x-protobuf"), (header::CONTENT_ENCODING, "snappy")];
    Ok((headers, Body::from(packed)).into_response())
}

fn labels(labels: &Labels) -> Vec<proto::Label> {
    labels.iter().map(|l| proto::Label { name: l.name.to_string(), value: l.value.to_string() }).collect()
}

fn time_series(series: &SeriesData) -> proto::TimeSeries {
    proto::TimeSeries {
        labels: labels(&series.labels),
        samples: series.samples.iter().map(|s| proto::Sample { value: s.value, at: s.at.0 }).collect(),
        histograms: series.histograms.iter().map(histogram).collect(),
    }
}

fn histogram(HistogramSample { at, histogram: h }: &HistogramSample) -> proto::Histogram {
    let spans = |spans: &[BucketSpan]| {
        spans.iter().map(|s| proto::Span { offset: s.offset, length: s.length }).collect::<Vec<_>>()
    };
    let deltas = |counts: &[u64]| {
        let mut before = 0;
        let step = |n: &u64| {
            let delta = (*n as i64).wrapping_sub(before);
            before = *n as i64;
            delta
        };
        counts.iter().map(step).collect::<Vec<i64>>()
    };
    let mut out = proto::Histogram {
        sum: h.sum,
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        negative_spans: spans(&h.negative_spans),
        positive_spans: spans(&h.positive_spans),
        reset_hint: i32::from(h.hint.number()),
        at: at.0,
        custom_values: h.custom_bounds.to_vec(),
        ..proto::Histogram::default()
    };
    match &h.counts {
        Counts::Integer(c) => {
            (out.count_int, out.zero_int) = (Some(c.count), Some(c.zero));
            (out.negative_deltas, out.positive_deltas) = (deltas(&c.negative), deltas(&c.positive));
        }
        Counts::Float(c) => {
            (out.count_float, out.zero_float) = (Some(c.count), Some(c.zero));
            (out.negative_counts, out.positive_counts) = (c.negative.clone(), c.positive.clone());
        }
    }
    out
}

/// Each frame: length as uvarint, CRC-32C of the message, the message.
fn frames(results: &[Vec<SeriesData>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (query_index, series) in results.iter().enumerate() {
        for one in series {
            let chunks = one.samples.chunks(xor::SAMPLES_MAX).map(|samples| proto::Chunk {
                min_ms: samples[0].at.0,
                max_ms: samples[samples.len() - 1].at.0,
                kind: 1,
                data: xor::encode(samples),
            });
            let labels = labels(&one.labels);
            let (mut batch, mut bytes) = (Vec::new(), 0);
            let mut flush = |chunks: Vec<proto::Chunk>| {
                let series = proto::ChunkedSeries { labels: labels.clone(), chunks };
                frame(&mut out, query_index, series);
            };
            for chunk in chunks {
                if bytes > 0 && bytes + chunk.data.len() > FRAME_BYTES_MAX {
                    flush(std::mem::take(&mut batch));
                    bytes = 0;
                }
                bytes += chunk.data.len() + 32;
                batch.push(chunk);
            }
            if !batch.is_empty() {
                flush(batch);
            }
        }
    }
    out
}

fn frame(out: &mut Vec<u8>, query_index: usize, series: proto::ChunkedSeries) {
    let message =
        proto::ChunkedReadResponse { chunked_series: vec![series], query_index: query_index as i64 }.encode_to_vec();
    let mut length = [0u8; 10];
    let mut rest = &mut length[..];
    prost::encoding::encode_varint(message.len() as u64, &mut rest);
    let n = 10 - rest.len();
    out.extend_from_slice(&length[..n]);
    out.extend_from_slice(&crc32c::crc32c(&message).to_be_bytes());
    out.extend_from_slice(&message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use weir_model::Sample;
    use weir_model::histogram::BucketCounts;

    fn series(n: i64) -> SeriesData {
        SeriesData {
            labels: Labels::from_pairs([("__name__", "up"), ("job", "a")]),
            samples: (0..n).map(|k| Sample::new(k * 1000, k as f64)).collect(),
            ..SeriesData::default()
        }
    }

    fn body(response: Response) -> (String, Vec<u8>) {
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        (kind, runtime.block_on(response.into_body().collect()).unwrap().to_bytes().to_vec())
    }

    #[test]
    fn streams_hold_frames_with_checksums() {
        let (kind, bytes) = body(respond(&[1, 0], &[vec![series(250)], vec![series(1)]]).unwrap());
        assert!(kind.starts_with("application/x-streamed-protobuf"));
        let mut rest = &bytes[..];
        let mut seen = Vec::new();
        while !rest.is_empty() {
            let n = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
            let (sum, message) = (u32::from_be_bytes(rest[..4].try_into().unwrap()), &rest[4..4 + n]);
            assert_eq!(crc32c::crc32c(message), sum);
            let frame = proto::ChunkedReadResponse::decode(message).unwrap();
            let chunks = &frame.chunked_series[0].chunks;
            seen.push((frame.query_index, chunks.iter().map(|c| (c.min_ms, c.max_ms)).collect::<Vec<_>>()));
            rest = &rest[4 + n..];
        }
        assert_eq!(seen, [(0, vec![(0, 119_000), (120_000, 239_000), (240_000, 249_000)]), (1, vec![(0, 0)])]);
    }

    #[test]
    fn histograms_are_answered_as_samples() {
        let counts = BucketCounts { count: 6, zero: 0, positive: vec![1, 3, 2], negative: vec![] };
        let h = weir_model::Histogram {
            positive_spans: vec![BucketSpan { offset: 1, length: 3 }],
            counts: Counts::Integer(counts),
            sum: 2.0,
            ..weir_model::Histogram::stale()
        };
        let mut with = series(1);
        with.histograms.push(HistogramSample { at: Timestamp(5000), histogram: Arc::new(h) });
        let (kind, bytes) = body(respond(&[1, 0], &[vec![with.clone()]]).unwrap());
        assert_eq!(kind, "application/x-protobuf");
        let plain = snap::raw::Decoder::new().decompress_vec(&bytes).unwrap();
        let response = proto::ReadResponse::decode(&plain[..]).unwrap();
        let got = &response.results[0].timeseries[0];
        assert_eq!((got.samples.len(), &*got.histograms[0].positive_deltas), (1, &[1, 2, -1][..]));
        assert!(matches!(respond(&[1], &[vec![with]]), Err(ApiError::Execution(text)) if text.contains("SAMPLES")));
    }

    #[test]
    fn bad_requests_are_named() {
        let packed = snap::raw::Encoder::new().compress_vec(&[0x0a, 0x05, 1]).unwrap();
        for (body, want) in [(&b"\xff\xff"[..], "snappy"), (&packed, "remote read request")] {
            let Err(ApiError::BadData(text)) = request(body) else { panic!("{want} was taken") };
            assert!(text.contains(want), "{text}");
        }
        let regex = proto::LabelMatcher { kind: 2, name: "job".into(), value: "(".into() };
        assert!(matches!(matcher(&regex), Err(ApiError::BadData(text)) if text.contains("`job`")));
    }
}
