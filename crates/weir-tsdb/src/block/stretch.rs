//! Which stretches of time are rolled up, which are to be, what a read takes from them, and what may go: pure
//! functions of the listing and the time.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_model::source::Coarse;
use weir_model::{TimeRange, Timestamp};

use super::rollup::bucket_of;
use super::{BlockMeta, Manifest, expired};

const DAY_MS: i64 = 24 * 3_600_000;
/// A stretch is rolled up once it has been over for this long: by then what memory had of it is in blocks, and most
/// late samples have come.
const SETTLE: Duration = Duration::from_secs(3 * 3600);
/// What cannot be rolled up, as its disk fails, is kept for so long beyond its retention.
const WAIT_MAX_MS: i64 = 7 * DAY_MS;

/// Buckets of five minutes are made of raw samples, a day at a time; hours of those, a week at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Five,
    Hour,
}

impl Level {
    pub fn resolution_ms(self) -> i64 {
        match self {
            Self::Five => 300_000,
            Self::Hour => 3_600_000,
        }
    }

    pub fn stretch_ms(self) -> i64 {
        match self {
            Self::Five => DAY_MS,
            Self::Hour => 7 * DAY_MS,
        }
    }

    /// Of the blocks that it is made of.
    pub(super) fn source_ms(self) -> i64 {
        match self {
            Self::Five => 0,
            Self::Hour => Self::Five.resolution_ms(),
        }
    }
}

/// How long buckets of each length are kept; `None` for no such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollupOptions {
    pub five: Option<Duration>,
    pub hour: Option<Duration>,
}

impl RollupOptions {
    fn keep(&self, level: Level) -> Option<Duration> {
        match level {
            Level::Five => self.five,
            // Hours are made of five minutes.
            Level::Hour => self.hour.filter(|_| self.five.is_some()),
        }
    }
}

/// (start, start + length of the level's stretches] of a tenant, rolled up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    pub tenant: String,
    pub level: Level,
    pub start_ms: i64,
    /// Of the cuts it stems from, or the `version`s: a newer one has to be rolled up again.
    pub newest: u64,
    /// From the same counter as the blocks' ids.
    pub version: u64,
}

impl Stretch {
    pub fn end_ms(&self) -> i64 {
        self.start_ms.saturating_add(self.level.stretch_ms())
    }

    pub(super) fn range(&self) -> TimeRange {
        stretch_range(self.level, self.start_ms)
    }

    pub(super) fn is(&self, tenant: &str, level: Level, start_ms: i64) -> bool {
        self.level == level && self.start_ms == start_ms && self.tenant == tenant
    }
}

pub(super) fn stretch_range(level: Level, start_ms: i64) -> TimeRange {
    let end = start_ms.saturating_add(level.stretch_ms());
    TimeRange::new(Timestamp(start_ms.saturating_add(1)), Timestamp(end))
}

/// Before these times nothing is read of raw samples and of five minutes: blocks were dropped by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoneBefore {
    pub raw_ms: i64,
    pub five_ms: i64,
}

impl Default for GoneBefore {
    fn default() -> Self {
        Self { raw_ms: i64::MIN, five_ms: i64::MIN }
    }
}

impl GoneBefore {
    fn source_of(self, level: Level) -> i64 {
        match level {
            Level::Five => self.raw_ms,
            Level::Hour => self.five_ms,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupPlan {
    pub tenant: String,
    pub level: Level,
    pub start_ms: i64,
    pub newest: u64,
}

/// Stretches that end at `until` or before and are not rolled up, or only of what was there earlier; the newest of
/// what there is now. A stretch whose sources are gone in part stays as it is.
fn due(manifest: &Manifest, level: Level, keep: Duration, until: i64, now: Timestamp) -> BTreeMap<(i64, &str), u64> {
    let mut found: BTreeMap<(i64, &str), u64> = BTreeMap::new();
    let (length, oldest) = (level.stretch_ms(), now.minus(keep).0);
    let mut note = |tenant, range: TimeRange, newest: u64| {
        let first = bucket_of(range.start.0.max(oldest), length);
        for stretch in first..=bucket_of(range.end.0.min(until), length) {
            let start = stretch.saturating_mul(length);
            let end = start.saturating_add(length);
            if oldest < end && end <= until {
                let known = found.entry((start, tenant)).or_default();
                *known = newest.max(*known);
            }
        }
    };
    match level {
        Level::Five => manifest
            .blocks
            .iter()
            .filter(|b| b.resolution_ms == 0)
            .for_each(|b| note(&b.tenant, b.range(), b.newest_cut())),
        Level::Hour => manifest
            .rolled
            .iter()
            .filter(|s| s.level == Level::Five)
            .for_each(|s| note(&s.tenant, s.range(), s.version)),
    }
    for stretch in manifest.rolled.iter().filter(|s| s.level == level) {
        let at = (stretch.start_ms, stretch.tenant.as_str());
        let is_gone = stretch.start_ms < manifest.gone_before(&stretch.tenant).source_of(level);
        if is_gone || found.get(&at) == Some(&stretch.newest) {
            found.remove(&at);
        }
    }
    found
}

/// The next stretch to roll up, five minutes and oldest first.
pub fn plan_rollup(manifest: &Manifest, options: &RollupOptions, now: Timestamp) -> Option<RollupPlan> {
    for level in [Level::Five, Level::Hour] {
        let Some(keep) = options.keep(level) else { continue };
        let due = due(manifest, level, keep, now.minus(SETTLE).0, now);
        if let Some(((start_ms, tenant), newest)) = due.into_iter().next() {
            return Some(RollupPlan { tenant: tenant.to_owned(), level, start_ms, newest });
        }
    }
    None
}

/// What goes by age.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// Blocks, raw and rolled.
    pub ids: Vec<u64>,
    /// Of tenants whose blocks go.
    pub gone: BTreeMap<String, GoneBefore>,
    /// `version`s of stretches.
    pub stretches: Vec<u64>,
    /// Stretches that go without having been rolled up.
    pub n_lost: usize,
}

/// Raw blocks and five minutes go by whole stretches, once these are rolled up.
pub fn expiry(manifest: &Manifest, raw: Option<Duration>, options: &RollupOptions, now: Timestamp) -> Expiry {
    let mut out = Expiry::default();
    let raw_blocks = || manifest.blocks.iter().filter(|b| b.resolution_ms == 0);
    if let Some(keep) = raw {
        if options.five.is_none() {
            let blocks: Vec<BlockMeta> = raw_blocks().cloned().collect();
            out.ids.extend(expired(&blocks, keep, now));
        } else {
            expire_raw(manifest, keep, options, now, &mut out);
        }
    }
    let lengths = [(Level::Five, options.keep(Level::Five)), (Level::Hour, options.keep(Level::Hour))];
    for (level, keep) in lengths {
        let tenants = horizons(manifest, level, keep, options, now, &mut out);
        for stretch in manifest.rolled.iter().filter(|s| s.level == level) {
            if tenants.get(stretch.tenant.as_str()).is_some_and(|before| stretch.end_ms() <= *before) {
                out.stretches.push(stretch.version);
                let of = |b: &&BlockMeta| b.is_of(stretch);
                out.ids.extend(manifest.blocks.iter().filter(of).map(|b| b.id));
                if level == Level::Five {
                    let gone = out.gone.entry(stretch.tenant.clone());
                    let gone = gone.or_insert_with(|| manifest.gone_before(&stretch.tenant));
                    gone.five_ms = gone.five_ms.max(stretch.end_ms());
                }
            }
        }
    }
    out
}

/// Until when nothing waits to be rolled up, at most `horizon`.
fn settled_until(
    manifest: &Manifest,
    level: Level,
    keep: Option<Duration>,
    horizon: i64,
    now: Timestamp,
    n_lost: &mut usize,
) -> BTreeMap<String, i64> {
    let mut until = BTreeMap::new();
    let Some(keep) = keep else { return until };
    for (start, tenant) in due(manifest, level, keep, horizon, now).into_keys() {
        if start.saturating_add(level.stretch_ms()) <= horizon.saturating_sub(WAIT_MAX_MS) {
            *n_lost += 1;
        } else {
            until.entry(tenant.to_owned()).or_insert(start);
        }
    }
    until
}

fn expire_raw(manifest: &Manifest, keep: Duration, options: &RollupOptions, now: Timestamp, out: &mut Expiry) {
    let length = Level::Five.stretch_ms();
    let horizon = now.minus(keep).0.div_euclid(length).saturating_mul(length);
    let waiting = settled_until(manifest, Level::Five, options.five, horizon, now, &mut out.n_lost);
    for block in manifest.blocks.iter().filter(|b| b.resolution_ms == 0) {
        let until = waiting.get(&block.tenant).copied().unwrap_or(horizon);
        if block.max_ms <= until {
            out.ids.push(block.id);
            let gone = out.gone.entry(block.tenant.clone());
            let gone = gone.or_insert_with(|| manifest.gone_before(&block.tenant));
            gone.raw_ms = gone.raw_ms.max(until);
        }
    }
}

/// By tenant, before when stretches of a level go.
fn horizons<'a>(
    manifest: &'a Manifest,
    level: Level,
    keep: Option<Duration>,
    options: &RollupOptions,
    now: Timestamp,
    out: &mut Expiry,
) -> BTreeMap<&'a str, i64> {
    let tenants = || manifest.rolled.iter().filter(|s| s.level == level).map(|s| s.tenant.as_str());
    let Some(keep) = keep else { return tenants().map(|t| (t, i64::MAX)).collect() };
    let oldest = now.minus(keep).0;
    let hours = options.keep(Level::Hour).filter(|_| level == Level::Five);
    let Some(hours) = hours else { return tenants().map(|t| (t, oldest)).collect() };
    let length = Level::Hour.stretch_ms();
    let horizon = oldest.div_euclid(length).saturating_mul(length);
    let waiting = settled_until(manifest, Level::Hour, Some(hours), horizon, now, &mut out.n_lost);
    tenants().map(|t| (t, waiting.get(t).copied().unwrap_or(horizon))).collect()
}

/// Where a read of the range takes buckets: where what they were made of is gone, and where the reader takes buckets
/// as long as `accepted`. Ascending, without overlaps.
pub(super) fn layout<'a>(
    manifest: &'a Manifest,
    tenant: &str,
    range: TimeRange,
    accepted: Option<Duration>,
) -> Vec<&'a Stretch> {
    let gone = manifest.gone_before(tenant);
    let accepted = accepted.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
    let mut taken: Vec<&Stretch> = Vec::new();
    for level in [Level::Hour, Level::Five] {
        let accepts = level.resolution_ms() <= accepted;
        let own = manifest.rolled.iter().filter(|s| s.level == level && s.tenant == tenant);
        // Raw samples may outlive five minutes.
        let is_gone = |s: &&Stretch| s.end_ms() <= gone.source_of(level) && s.start_ms < gone.raw_ms;
        let finest = own.filter(|s| accepts || is_gone(s));
        let inside = finest.filter(|s| s.start_ms < range.end.0 && range.start.0 <= s.end_ms());
        let longer = taken.clone();
        let covered = |s: &Stretch| longer.iter().any(|l| l.start_ms <= s.start_ms && s.end_ms() <= l.end_ms());
        taken.extend(inside.filter(|s| !covered(s)));
    }
    taken.sort_by_key(|s| s.start_ms);
    taken
}

/// Stretches that touch and have buckets of one length as one.
pub(super) fn merged(layout: &[&Stretch]) -> Vec<Coarse> {
    let mut out: Vec<Coarse> = Vec::new();
    for stretch in layout {
        let range = stretch.range();
        let resolution = Duration::from_millis(stretch.level.resolution_ms().unsigned_abs());
        match out.last_mut() {
            Some(last) if last.resolution == resolution && last.range.end.0.saturating_add(1) == range.start.0 => {
                last.range.end = range.end;
            }
            _ => out.push(Coarse { range, resolution }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::Column;

    const H: i64 = 3_600_000;

    fn raw(id: u64, from_h: i64, to_h: i64) -> BlockMeta {
        BlockMeta {
            id,
            order: id,
            tenant: "a".into(),
            min_ms: from_h * H + 1,
            max_ms: to_h * H,
            ..BlockMeta::default()
        }
    }

    fn stretch(level: Level, n: i64, newest: u64) -> Stretch {
        let start_ms = n * level.stretch_ms();
        Stretch { tenant: "a".into(), level, start_ms, newest, version: 100 + n as u64 }
    }

    fn block_of(id: u64, of: &Stretch) -> BlockMeta {
        BlockMeta {
            id,
            order: id,
            tenant: "a".into(),
            min_ms: of.start_ms + 1,
            max_ms: of.end_ms(),
            resolution_ms: of.level.resolution_ms(),
            column: Column::Last,
            ..BlockMeta::default()
        }
    }

    fn days(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n * 86_400))
    }

    fn both() -> RollupOptions {
        RollupOptions { five: days(30), hour: days(395) }
    }

    fn listing(blocks: Vec<BlockMeta>, rolled: Vec<Stretch>) -> Manifest {
        let mut manifest = Manifest::default();
        (manifest.blocks, manifest.rolled) = (blocks, rolled);
        manifest
    }

    fn planned(manifest: &Manifest, now_h: i64) -> Option<(Level, i64, u64)> {
        plan_rollup(manifest, &both(), Timestamp(now_h * H)).map(|p| (p.level, p.start_ms / DAY_MS, p.newest))
    }

    #[test]
    fn days_are_rolled_up_when_over_and_again_when_something_is_new() {
        let mut manifest = listing(vec![raw(1, 0, 24), raw(2, 24, 30)], vec![]);
        assert_eq!(planned(&manifest, 26), None, "it has to settle");
        assert_eq!(planned(&manifest, 27), Some((Level::Five, 0, 1)));
        manifest.rolled.push(stretch(Level::Five, 0, 1));
        assert_eq!(planned(&manifest, 27), None);
        assert_eq!(planned(&manifest, 51), Some((Level::Five, 1, 2)));
        manifest.blocks.push(raw(3, 5, 6));
        assert_eq!(planned(&manifest, 27), Some((Level::Five, 0, 3)), "a late sample");
        manifest.gone.insert("a".into(), GoneBefore { raw_ms: DAY_MS, ..GoneBefore::default() });
        assert_eq!(planned(&manifest, 27), None, "what it was made of is gone");
        assert_eq!(planned(&listing(vec![raw(1, 0, 24)], vec![]), 24 * 40), None, "too old to be kept");
        let off = RollupOptions::default();
        assert_eq!(plan_rollup(&listing(vec![raw(1, 0, 24)], vec![]), &off, Timestamp(30 * H)), None);
    }

    #[test]
    fn weeks_follow_their_days() {
        let mut manifest = listing(vec![], (0..7).map(|k| stretch(Level::Five, k, 1)).collect());
        assert_eq!(planned(&manifest, 24 * 7 + 2), None);
        assert_eq!(planned(&manifest, 24 * 7 + 3), Some((Level::Hour, 0, 106)));
        manifest.rolled.push(stretch(Level::Hour, 0, 106));
        assert_eq!(planned(&manifest, 24 * 7 + 3), None);
        manifest.rolled[2].version = 200;
        assert_eq!(planned(&manifest, 24 * 7 + 3), Some((Level::Hour, 0, 200)));
    }

    #[test]
    fn raw_samples_go_when_their_days_are_rolled_up() {
        let mut manifest = listing(vec![raw(1, 0, 24), raw(2, 24, 72)], vec![]);
        let at = |manifest: &Manifest, day: i64| expiry(manifest, days(7), &both(), Timestamp(day * DAY_MS));
        assert_eq!(at(&manifest, 9).ids, Vec::<u64>::new());
        manifest.rolled.push(stretch(Level::Five, 0, 1));
        assert_eq!(at(&manifest, 7).ids, Vec::<u64>::new(), "not early");
        let one = at(&manifest, 9);
        assert_eq!((one.ids, one.gone["a"].raw_ms), (vec![1], DAY_MS), "days 1 and 2 are not rolled up");
        manifest.rolled.push(stretch(Level::Five, 1, 2));
        manifest.rolled.push(stretch(Level::Five, 2, 2));
        let two = at(&manifest, 10);
        assert_eq!((two.ids, two.gone["a"].raw_ms), (vec![1, 2], 3 * DAY_MS));
        let failing = listing(vec![raw(1, 0, 24)], vec![]);
        assert_eq!(at(&failing, 14).ids, Vec::<u64>::new());
        assert_eq!((at(&failing, 15).ids, at(&failing, 15).n_lost), (vec![1], 1), "it does not wait for ever");
        let off = expiry(&failing, days(7), &RollupOptions::default(), Timestamp(8 * DAY_MS + 1));
        assert_eq!((off.ids, off.gone.len()), (vec![1], 0));
    }

    #[test]
    fn five_minutes_go_when_their_weeks_are_rolled_up() {
        let stretches: Vec<_> = (0..7).map(|k| stretch(Level::Five, k, 1)).collect();
        let blocks = stretches.iter().enumerate().map(|(k, s)| block_of(k as u64 + 1, s)).collect();
        let mut manifest = listing(blocks, stretches);
        let at = |manifest: &Manifest, day: i64| expiry(manifest, days(7), &both(), Timestamp(day * DAY_MS));
        assert_eq!(at(&manifest, 38).ids, Vec::<u64>::new());
        manifest.rolled.push(stretch(Level::Hour, 0, 106));
        assert_eq!(at(&manifest, 36).ids, Vec::<u64>::new());
        let gone = at(&manifest, 37);
        assert_eq!((gone.ids.len(), gone.stretches.len(), gone.gone["a"].five_ms), (7, 7, 7 * DAY_MS));
        assert_eq!(at(&manifest, 403).stretches.len(), 8);
    }

    #[test]
    fn a_read_takes_the_finest_there_is_unless_it_accepts_coarser() {
        let mut rolled: Vec<_> = (0..14).map(|k| stretch(Level::Five, k, 1)).collect();
        rolled.push(stretch(Level::Hour, 0, 1));
        let mut manifest = listing(vec![], rolled);
        let read = |manifest: &Manifest, accepted: u64| {
            let range = TimeRange::new(Timestamp(0), Timestamp(30 * DAY_MS));
            let found = merged(&layout(manifest, "a", range, Some(Duration::from_secs(accepted))));
            let day = |t: Timestamp| t.0.div_euclid(DAY_MS);
            found.iter().map(|c| (c.resolution.as_secs(), day(c.range.start), day(c.range.end))).collect::<Vec<_>>()
        };
        assert_eq!(read(&manifest, 0), []);
        assert_eq!(read(&manifest, 300), [(300, 0, 14)]);
        assert_eq!(read(&manifest, 3600), [(3600, 0, 7), (300, 7, 14)]);
        manifest.gone.insert("a".into(), GoneBefore { raw_ms: 10 * DAY_MS, five_ms: 7 * DAY_MS });
        assert_eq!(read(&manifest, 0), [(3600, 0, 7), (300, 7, 10)]);
        manifest.gone.insert("a".into(), GoneBefore { raw_ms: i64::MIN, five_ms: 7 * DAY_MS });
        assert_eq!(read(&manifest, 0), [], "every sample is still there");
    }
}
