//! The list of what exists: blocks, deletions, and the place in the log that they cover.
//!
//! One file for all tenants, so that a cut of all of them and its place in the log become visible in
//! one swap. JSON behind a line with a version and a checksum.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_model::{MatchOp, Matcher, TenantId, TimeRange, Timestamp};
use weir_wal::{Dir, DirErrorKind, Position};

use super::{BlockError, Column, GoneBefore, Stretch};

pub(super) const FILE: &str = "manifest";
const HEADER: &str = "weir-metrics 1 crc32c=";

/// A listed block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockMeta {
    /// Ascends with time of writing; never used twice.
    pub id: u64,
    /// Smallest id of the cuts that it was merged from. Where blocks disagree on a sample, the smaller
    /// one is right: what was stored first stays.
    pub order: u64,
    pub tenant: String,
    /// First and last sample.
    pub min_ms: i64,
    pub max_ms: i64,
    pub n_series: u64,
    pub n_samples: u64,
    pub n_bytes: u64,
    /// Largest id of the cuts that it was merged from; see [`BlockMeta::newest_cut`].
    #[serde(default, skip_serializing_if = "is_default")]
    pub newest: u64,
    /// Length of its buckets; 0 for every sample.
    #[serde(default, skip_serializing_if = "is_default")]
    pub resolution_ms: i64,
    /// Of a rolled block: what it has of each bucket.
    #[serde(default, skip_serializing_if = "is_default")]
    pub column: Column,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl BlockMeta {
    pub fn newest_cut(&self) -> u64 {
        if self.newest == 0 { self.id } else { self.newest }
    }

    /// Whether it is a rolled block of the stretch.
    pub(super) fn is_of(&self, stretch: &Stretch) -> bool {
        self.resolution_ms == stretch.level.resolution_ms()
            && self.tenant == stretch.tenant
            && stretch.start_ms < self.min_ms
            && self.min_ms <= stretch.end_ms()
    }

    pub fn range(&self) -> TimeRange {
        TimeRange::new(Timestamp(self.min_ms), Timestamp(self.max_ms))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Op {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMatcher {
    name: String,
    op: Op,
    value: String,
}

/// Samples that are deleted in all blocks older than it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// From the same counter as the blocks' ids.
    pub id: u64,
    pub tenant: String,
    matchers: Vec<WrittenMatcher>,
    start_ms: i64,
    end_ms: i64,
}

/// A tombstone with its matchers compiled.
#[derive(Clone, Debug)]
pub(super) struct Deletion {
    pub id: u64,
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
}

impl Tombstone {
    pub(super) fn new(id: u64, tenant: &TenantId, matchers: &[Matcher], range: TimeRange) -> Self {
        let op = |op| match op {
            MatchOp::Equal => Op::Equal,
            MatchOp::NotEqual => Op::NotEqual,
            MatchOp::Regex => Op::Regex,
            MatchOp::NotRegex => Op::NotRegex,
        };
        let written = |m: &Matcher| WrittenMatcher { name: m.name.clone(), op: op(m.op), value: m.value.clone() };
        Self {
            id,
            tenant: tenant.as_str().to_owned(),
            matchers: matchers.iter().map(written).collect(),
            start_ms: range.start.0,
            end_ms: range.end.0,
        }
    }

    pub fn range(&self) -> TimeRange {
        TimeRange::new(Timestamp(self.start_ms), Timestamp(self.end_ms))
    }

    /// Whether a block has samples that it may delete.
    pub(super) fn concerns(&self, block: &BlockMeta) -> bool {
        block.id < self.id
            && block.tenant == self.tenant
            && self.start_ms <= block.max_ms
            && block.min_ms <= self.end_ms
    }

    /// `None` when a regular expression is none any more; it was one when the tombstone was written.
    pub(super) fn compile(&self) -> Option<Deletion> {
        let op = |op| match op {
            Op::Equal => MatchOp::Equal,
            Op::NotEqual => MatchOp::NotEqual,
            Op::Regex => MatchOp::Regex,
            Op::NotRegex => MatchOp::NotRegex,
        };
        let matchers = self.matchers.iter().map(|m| Matcher::new(m.name.as_str(), op(m.op), m.value.as_str()).ok());
        Some(Deletion { id: self.id, matchers: matchers.collect::<Option<_>>()?, range: self.range() })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub next_id: u64,
    /// Everything in the log before this place is in the blocks.
    wal_segment: u64,
    wal_offset: u64,
    pub blocks: Vec<BlockMeta>,
    pub tombstones: Vec<Tombstone>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rolled: Vec<Stretch>,
    /// By tenant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gone: BTreeMap<String, GoneBefore>,
}

impl Manifest {
    pub(super) fn gone_before(&self, tenant: &str) -> GoneBefore {
        self.gone.get(tenant).copied().unwrap_or_default()
    }

    /// The newest cut among the raw blocks that touch the range.
    pub(super) fn newest_raw(&self, tenant: &str, range: TimeRange) -> Option<u64> {
        let touches = |b: &&BlockMeta| {
            b.resolution_ms == 0 && b.tenant == tenant && b.min_ms <= range.end.0 && range.start.0 <= b.max_ms
        };
        self.blocks.iter().filter(touches).map(BlockMeta::newest_cut).max()
    }

    pub fn covered(&self) -> Position {
        Position { segment: self.wal_segment, offset: self.wal_offset }
    }

    pub(super) fn cover(&mut self, position: Position) {
        (self.wal_segment, self.wal_offset) = (position.segment, position.offset);
    }

    /// Tombstones that no block needs any more.
    pub(super) fn forget_tombstones(&mut self) {
        let blocks = &self.blocks;
        self.tombstones.retain(|t| blocks.iter().any(|b| t.concerns(b)));
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("numbers and text become JSON");
        let mut out = format!("{HEADER}{:08x}\n", crc32c::crc32c(&body)).into_bytes();
        out.extend(body);
        out
    }

    pub fn from_bytes(bytes: &[u8], path: &str) -> Result<Self, BlockError> {
        let damaged =
            |offset: usize, what: String| BlockError::Damaged { path: path.into(), offset: offset as u64, what };
        let end = bytes.iter().take(64).position(|b| *b == b'\n');
        let header = end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok());
        let Some((end, sum)) = end.zip(header.and_then(|h| h.strip_prefix(HEADER))) else {
            return Err(damaged(0, "this is no manifest of metric blocks, or of a newer version".to_owned()));
        };
        let body = &bytes[end + 1..];
        if u32::from_str_radix(sum, 16) != Ok(crc32c::crc32c(body)) {
            return Err(damaged(end + 1, "the manifest's checksum is wrong; restore it from a snapshot".to_owned()));
        }
        serde_json::from_slice(body).map_err(|e| damaged(end + 1, e.to_string()))
    }

    /// An empty one when there is none.
    pub(super) fn load(dir: &dyn Dir, folder: &str) -> Result<Self, BlockError> {
        let path = format!("{folder}/{FILE}");
        match dir.read(&path) {
            Ok(bytes) => Self::from_bytes(&bytes, &path),
            Err(error) if error.kind == DirErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }
}
