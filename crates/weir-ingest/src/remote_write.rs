//! Prometheus remote write 1.0 and 2.0 bodies, after decompression.
//!
//! Source: Prometheus `prompb/remote.proto`, `prompb/types.proto`, `prompb/io/prometheus/write/v2`.

mod encode;
pub(crate) mod histogram;
mod v1;
mod v2;
pub(crate) mod walk;

pub use encode::{encode_v1, encode_v2};
pub use v1::decode as decode_v1;
pub use v2::decode as decode_v2;

use weir_model::sink::{MetricBatch, Refused};
use weir_model::{Exemplar, Labels, MetricKind, MetricMetadata, Sample, Timestamp};

use crate::proto::{Message, Value};
use crate::{DecodeError, Decoded, LabelCache};

/// What came; exemplars are counted for the headers of the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteRequest {
    pub decoded: Decoded<MetricBatch>,
    pub n_exemplars: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1 = 1,
    V2 = 2,
}

impl Version {
    pub(crate) fn format(self) -> &'static str {
        match self {
            Self::V1 => v1::FORMAT,
            Self::V2 => v2::FORMAT,
        }
    }
}

/// A series that the quick walk left aside, and metadata, decoded thoroughly.
pub(crate) fn decode_seldom(
    version: Version,
    body: &[u8],
    walked: &walk::Walked,
    cache: &LabelCache,
) -> Result<WriteRequest, DecodeError> {
    let mut out = WriteRequest::default();
    let symbols = symbols(body, walked)?;
    for range in &walked.seldom {
        let series = Message::stretch(version.format(), body, range.clone());
        match version {
            Version::V1 => v1::decode_series(series, cache, &mut out)?,
            Version::V2 => v2::decode_series(series, &symbols, cache, &mut out)?,
        }
    }
    for range in &walked.metadata {
        let metadata = v1::decode_metadata(Message::stretch(version.format(), body, range.clone()))?;
        out.decoded.batch.metadata.push(metadata);
    }
    Ok(out)
}

/// Symbols of 2.0 as text; none when no series needs them.
pub(crate) fn symbols<'a>(body: &'a [u8], walked: &walk::Walked) -> Result<Vec<&'a str>, DecodeError> {
    let text =
        |range: &std::ops::Range<u32>| Message::stretch(Version::V2.format(), body, range.clone()).utf8("a symbol");
    walked.symbols.iter().map(text).collect()
}

/// Labels as they were sent, and metadata if the series brings some (2.0).
pub(crate) fn raw_labels<'a>(
    version: Version,
    series: Message<'a>,
    symbols: &[&'a str],
) -> Result<Result<Vec<(&'a str, &'a str)>, Refused>, DecodeError> {
    match version {
        Version::V1 => v1::raw_labels(series).map(Ok),
        Version::V2 => v2::raw_labels(series, symbols),
    }
}

pub(crate) fn series_metadata(
    series: Message<'_>,
    symbols: &[&str],
    labels: &Labels,
) -> Result<Option<MetricMetadata>, DecodeError> {
    v2::series_metadata(series, symbols, labels)
}

/// Value 1, time 2 in milliseconds, in both versions.
fn sample(mut message: Message<'_>) -> Result<Sample, DecodeError> {
    let mut sample = Sample { at: Timestamp(0), value: 0.0 };
    while let Some((field, value)) = message.field()? {
        match (field, value) {
            (1, Value::Fixed64(bits)) => sample.value = f64::from_bits(bits),
            (2, Value::Varint(ms)) => sample.at = Timestamp(ms as i64),
            (1 | 2, _) => return Err(message.error("a sample's field has the wrong wire type")),
            _ => {}
        }
    }
    Ok(sample)
}

fn exemplar(labels: Labels, value: f64, at: i64) -> Exemplar {
    Exemplar { labels, at: Timestamp(at), value }
}

/// `MetricMetadata.MetricType`, the same in both versions.
fn kind(number: u64) -> MetricKind {
    match number {
        1 => MetricKind::Counter,
        2 => MetricKind::Gauge,
        3 => MetricKind::Histogram,
        4 => MetricKind::GaugeHistogram,
        5 => MetricKind::Summary,
        6 => MetricKind::Info,
        7 => MetricKind::Stateset,
        _ => MetricKind::Unknown,
    }
}
