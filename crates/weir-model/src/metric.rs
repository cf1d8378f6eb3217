//! Samples of series.

use serde::Serialize;

use crate::labels::Labels;
use crate::time::Timestamp;

/// Bits of the NaN that ends a series. Source: Prometheus `model/value/value.go`.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub at: Timestamp,
    pub value: f64,
}

impl Sample {
    pub fn new(at_ms: i64, value: f64) -> Self {
        Self { at: Timestamp(at_ms), value }
    }
    pub fn stale(at: Timestamp) -> Self {
        Self { at, value: f64::from_bits(STALE_NAN_BITS) }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub labels: Labels,
    pub at: Timestamp,
    pub value: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    #[default]
    Unknown,
    Counter,
    Gauge,
    Histogram,
    GaugeHistogram,
    Summary,
    Info,
    Stateset,
}

/// What is known of a metric family by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricMetadata {
    pub family: String,
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}
