//! Prometheus remote write 1.0 and 2.0 bodies, after decompression.
//!
//! Source: Prometheus `prompb/remote.proto`, `prompb/types.proto`, `prompb/io/prometheus/write/v2`.

mod histogram;
mod v1;
mod v2;

pub use v1::decode as decode_v1;
pub use v2::decode as decode_v2;

use weir_model::sink::MetricBatch;
use weir_model::{Exemplar, Labels, MetricKind, Sample, Timestamp};

use crate::proto::{Message, Value};
use crate::{DecodeError, Decoded};

/// What came; exemplars are counted for the headers of the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WriteRequest {
    pub decoded: Decoded<MetricBatch>,
    pub n_exemplars: u64,
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
