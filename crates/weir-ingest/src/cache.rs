//! Label sets that were seen before, found by a hash of the raw bytes they came in.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use parking_lot::Mutex;
use weir_model::labels::{Label, METRIC_NAME};
use weir_model::{Labels, sink::Refused, sink::RefusedReason};

use crate::limits::LabelLimits;

const SHARDS: usize = 16;
/// A million label sets in all; they share their text with the store. A full shard starts afresh.
const SHARD_ENTRIES_MAX: usize = 65_536;
/// Texts shared between label sets.
const TEXTS_MAX: usize = 100_000;
/// Longer values are seldom repeated.
const TEXT_BYTES_MAX: usize = 128;

/// From raw bytes to label sets.
///
/// Keyed by 128 bits of a hash whose seed is drawn at start, so that a sender cannot make two
/// series meet. Bounded by constants.
pub struct LabelCache {
    limits: LabelLimits,
    seeds: [ahash::RandomState; 2],
    shards: [Mutex<HashMap<u128, Labels, ahash::RandomState>>; SHARDS],
    texts: Mutex<HashSet<Arc<str>, ahash::RandomState>>,
}

/// Feeds the raw bytes of one label set.
pub(crate) struct KeyHasher([ahash::AHasher; 2]);

impl KeyHasher {
    pub fn write(&mut self, bytes: &[u8]) {
        for hasher in &mut self.0 {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
    }
    pub fn finish(&self) -> u128 {
        u128::from(self.0[0].finish()) << 64 | u128::from(self.0[1].finish())
    }
}

impl LabelCache {
    pub fn new(limits: LabelLimits) -> Self {
        Self {
            limits,
            seeds: [ahash::RandomState::new(), ahash::RandomState::new()],
            shards: std::array::from_fn(|_| Mutex::default()),
            texts: Mutex::default(),
        }
    }

    /// `format` keeps equal bytes of two formats apart.
    pub(crate) fn hasher(&self, format: &str) -> KeyHasher {
        let mut hasher = KeyHasher([self.seeds[0].build_hasher(), self.seeds[1].build_hasher()]);
        hasher.write(format.as_bytes());
        hasher
    }

    pub(crate) fn get(&self, key: u128) -> Option<Labels> {
        self.shards[(key % SHARDS as u128) as usize].lock().get(&key).cloned()
    }

    pub(crate) fn put(&self, key: u128, labels: &Labels) {
        let mut shard = self.shards[(key % SHARDS as u128) as usize].lock();
        if shard.len() >= SHARD_ENTRIES_MAX {
            shard.clear();
        }
        shard.insert(key, labels.clone());
    }

    /// One allocation for equal texts.
    pub(crate) fn text(&self, text: &str) -> Arc<str> {
        if text.len() > TEXT_BYTES_MAX {
            return text.into();
        }
        let mut texts = self.texts.lock();
        if let Some(known) = texts.get(text) {
            return known.clone();
        }
        if texts.len() >= TEXTS_MAX {
            texts.clear();
        }
        let text: Arc<str> = text.into();
        texts.insert(text.clone());
        text
    }

    /// Checks a sender's pairs and brings them into order: sorted, each name once, no empty value.
    pub(crate) fn check(&self, pairs: &mut Vec<(&str, &str)>) -> Result<(), Refused> {
        self.check_raw(pairs)?;
        pairs.retain(|(_, value)| !value.is_empty());
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            pairs.sort_unstable();
            if let Some(pair) = pairs.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                return Err(refused(pairs, &format!("label name `{}` occurs twice", pair[0].0)));
            }
        }
        if !pairs.iter().any(|(name, _)| *name == METRIC_NAME) {
            return Err(refused(pairs, &format!("no `{METRIC_NAME}`")));
        }
        Ok(())
    }

    fn check_raw(&self, pairs: &[(&str, &str)]) -> Result<(), Refused> {
        self.limits.check(pairs.iter().copied()).map_err(|reason| refused(pairs, &reason))?;
        if pairs.iter().any(|(name, _)| name.is_empty()) {
            return Err(refused(pairs, "a label without a name"));
        }
        Ok(())
    }

    /// Checks and builds a label set from a sender's pairs in any order.
    pub(crate) fn build(&self, pairs: &[(&str, &str)]) -> Result<Labels, Refused> {
        self.check_raw(pairs)?;
        let labels = pairs.iter().map(|(n, v)| Label { name: self.text(n), value: self.text(v) }).collect();
        Labels::try_from_vec(labels).map_err(|e| refused(pairs, &e.to_string()))
    }
}

fn refused(pairs: &[(&str, &str)], reason: &str) -> Refused {
    Refused { reason: RefusedReason::InvalidLabels, example: format!("{}: {reason}", show(pairs)), count: 1 }
}

/// Pairs as they came, cut to a readable length.
pub(crate) fn show(pairs: &[(&str, &str)]) -> String {
    let mut out = String::from("{");
    for (name, value) in pairs.iter().take(12) {
        let value: String = value.chars().take(60).collect();
        let name: String = name.chars().take(60).collect();
        out.push_str(&format!("{}{name}={value:?}", if out.len() > 1 { ", " } else { "" }));
    }
    out.push('}');
    out
}
