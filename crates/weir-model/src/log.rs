//! Log entries.

use std::sync::Arc;

use crate::time::Nanos;

/// Structured metadata of a line that stands for more than itself: for how many lines of its stream and level.
pub const SAMPLING_WEIGHT: &str = "weir_sampling_weight";

/// One line of a stream with its structured metadata (sorted by name).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub at: Nanos,
    pub line: Arc<str>,
    pub metadata: Vec<(Arc<str>, Arc<str>)>,
}

impl LogEntry {
    pub fn metadata(&self, name: &str) -> Option<&str> {
        self.metadata.iter().find(|(n, _)| &**n == name).map(|(_, v)| &**v)
    }
    /// For how many lines this one stands; 1 where nothing was left out, or the weight is none.
    pub fn sampling_weight(&self) -> f64 {
        self.metadata(SAMPLING_WEIGHT).map_or(1.0, sampling_weight)
    }
    pub fn size_bytes(&self) -> usize {
        self.line.len() + self.metadata.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()
    }
}

/// A weight as a line carries it. Anybody can send such metadata, so that what is no weight is 1.
pub fn sampling_weight(text: &str) -> f64 {
    text.parse().ok().filter(|weight: &f64| weight.is_finite() && *weight >= 1.0).unwrap_or(1.0)
}
