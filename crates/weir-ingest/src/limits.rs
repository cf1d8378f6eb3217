//! Limits at the door, with their reasons.

use std::time::Duration;

/// Of one label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelLimits {
    pub names_max: usize,
    pub name_bytes_max: usize,
    pub value_bytes_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A body after decompression: protects memory from bombs.
    pub body_bytes_max: usize,
    /// A sample, entry or span may lie this far ahead of the clock (Prometheus and Loki: 10 minutes).
    pub future: Duration,
    pub series_labels: LabelLimits,
    pub stream_labels: LabelLimits,
    /// Loki's `reject_old_samples_max_age`.
    pub log_age: Duration,
    /// Loki's `max_line_size`.
    pub line_bytes_max: usize,
    /// Loki's `max_structured_metadata_size` and `…_entries_count`.
    pub metadata_bytes_max: usize,
    pub metadata_entries_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 64 << 20,
            future: Duration::from_secs(600),
            // Prometheus has no limit; these are far above what exporters send.
            series_labels: LabelLimits { names_max: 128, name_bytes_max: 1024, value_bytes_max: 16 << 10 },
            stream_labels: LabelLimits { names_max: 15, name_bytes_max: 1024, value_bytes_max: 2048 },
            log_age: Duration::from_secs(7 * 24 * 3600),
            line_bytes_max: 256 << 10,
            metadata_bytes_max: 64 << 10,
            metadata_entries_max: 128,
        }
    }
}

impl Limits {
    /// For what was accepted under other limits.
    pub(crate) fn none() -> Self {
        let labels = LabelLimits { names_max: usize::MAX, name_bytes_max: usize::MAX, value_bytes_max: usize::MAX };
        Self {
            body_bytes_max: usize::MAX,
            future: Duration::MAX,
            series_labels: labels,
            stream_labels: labels,
            log_age: Duration::MAX,
            line_bytes_max: usize::MAX,
            metadata_bytes_max: usize::MAX,
            metadata_entries_max: usize::MAX,
        }
    }
}

impl LabelLimits {
    /// `Err` says which limit, in words.
    pub(crate) fn check<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)>) -> Result<(), String> {
        let mut n = 0;
        for (name, value) in labels {
            n += 1;
            if name.len() > self.name_bytes_max {
                return Err(format!("label name of {} bytes; the limit is {}", name.len(), self.name_bytes_max));
            }
            if value.len() > self.value_bytes_max {
                return Err(format!(
                    "value of label `{name}` has {} bytes; the limit is {}",
                    value.len(),
                    self.value_bytes_max
                ));
            }
        }
        if n > self.names_max {
            return Err(format!("{n} labels; the limit is {}", self.names_max));
        }
        Ok(())
    }
}
