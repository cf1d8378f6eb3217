//! `limit` and `sampling`: fewer lines.

use std::collections::HashMap;

use parking_lot::Mutex;
use serde::Deserialize;
use weir_model::Nanos;

use super::not_empty;
use crate::logs::entry::Entry;
use crate::md5::md5;

/// Label values that are told apart, at least.
const VALUES_MIN: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitFile {
    rate: Option<f64>,
    burst: Option<f64>,
    #[serde(default)]
    drop: bool,
    by_label_name: Option<String>,
    max_distinct_labels: Option<usize>,
}

/// Lines a second, of the job or of each value of a label. Beyond, they are dropped, or files wait.
#[derive(Debug)]
pub struct Limit {
    drops: bool,
    rate: f64,
    burst: f64,
    by_label: Option<String>,
    values_max: usize,
    /// Shared by all files of the job.
    buckets: Mutex<HashMap<String, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Nanos,
}

impl LimitFile {
    pub fn check(self) -> Result<Limit, String> {
        let positive = |key: &str, given: Option<f64>| match given {
            Some(number) if number > 0.0 && number.is_finite() => Ok(number),
            _ => Err(format!("`{key}` must be above zero")),
        };
        let by_label = self.by_label_name.filter(|name| !name.is_empty());
        if by_label.is_some() && !self.drop {
            return Err("`by_label_name` needs `drop: true`".to_owned());
        }
        Ok(Limit {
            rate: positive("rate", self.rate)?,
            burst: positive("burst", self.burst)?,
            by_label,
            drops: self.drop,
            values_max: self.max_distinct_labels.unwrap_or(VALUES_MIN).max(VALUES_MIN),
            buckets: Mutex::default(),
        })
    }
}

impl Limit {
    pub fn lets_pass(&self, entry: &Entry, now: Nanos) -> bool {
        let key = match &self.by_label {
            None => "",
            Some(name) => match entry.labels.get(name) {
                Some(value) => value,
                None => return true,
            },
        };
        let mut buckets = self.buckets.lock();
        if buckets.len() >= self.values_max && !buckets.contains_key(key) {
            // They begin anew with a full burst.
            buckets.clear();
        }
        let full = Bucket { tokens: self.burst, at: now };
        let bucket = buckets.entry(key.to_owned()).or_insert(full);
        *bucket = Bucket { tokens: self.tokens(bucket, now), at: now };
        // What was read passes, and what is read next waits until that is paid for.
        let passes = !self.drops || bucket.tokens >= 1.0;
        bucket.tokens -= if passes { 1.0 } else { 0.0 };
        passes
    }

    fn tokens(&self, bucket: &Bucket, now: Nanos) -> f64 {
        let elapsed = now.0.saturating_sub(bucket.at.0).max(0) as f64 / 1e9;
        (bucket.tokens + elapsed * self.rate).min(self.burst)
    }

    pub fn is_throttled(&self, now: Nanos) -> bool {
        !self.drops && self.buckets.lock().values().any(|bucket| self.tokens(bucket, now) < 1.0)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SamplingFile {
    rate: Option<f64>,
    drop_counter_reason: Option<String>,
}

/// A share of the lines, drawn by their time and text: the same ones when they are read again.
#[derive(Debug)]
pub struct Sampling {
    rate: f64,
    pub(super) reason: String,
}

impl SamplingFile {
    pub fn check(self) -> Result<Sampling, String> {
        let rate = self.rate.filter(|rate| (0.0..=1.0).contains(rate)).ok_or("`rate` must lie between 0.0 and 1.0")?;
        let reason = not_empty("drop_counter_reason", self.drop_counter_reason)?;
        Ok(Sampling { rate, reason: reason.unwrap_or_else(|| "sampling_stage".to_owned()) })
    }
}

impl Sampling {
    pub fn keeps(&self, entry: &Entry) -> bool {
        let digest = md5(format!("{} {} {}", entry.at.0, entry.from, entry.line).as_bytes());
        let drawn = u64::from_be_bytes(digest[..8].try_into().expect("half of sixteen bytes"));
        (drawn as f64 / u64::MAX as f64) < self.rate || self.rate >= 1.0
    }
}
