//! Which blocks to merge and which to drop: pure functions of the listing and the time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use weir_model::Timestamp;

use super::{BlockMeta, WINDOW_MS};

#[derive(Clone, Debug)]
pub struct CompactionOptions {
    /// Lengths of merged blocks in milliseconds, ascending, each a multiple of the one before.
    pub ranges_ms: Vec<i64>,
    /// A stretch is merged once it has been over for this long, as late samples still come.
    pub settle: Duration,
    /// Merged once there are so many blocks that lie in no single stretch.
    pub stray_max: usize,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        let ranges_ms = vec![WINDOW_MS, 4 * WINDOW_MS, 12 * WINDOW_MS, 84 * WINDOW_MS];
        Self { ranges_ms, settle: Duration::from_secs(10 * 60), stray_max: 4 }
    }
}

/// Blocks of one tenant to become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionPlan {
    pub tenant: String,
    /// Ascending ids.
    pub ids: Vec<u64>,
}

/// The next merge, smallest stretch and oldest time first; `None` when nothing is to be done.
///
/// `skip`: blocks that are damaged or being merged already.
pub fn plan_compaction(
    blocks: &[BlockMeta],
    skip: &BTreeSet<u64>,
    options: &CompactionOptions,
    now: Timestamp,
) -> Option<CompactionPlan> {
    let settled = now.minus(options.settle).0;
    // Rolled blocks are made whole.
    let usable = || blocks.iter().filter(|b| b.resolution_ms == 0 && !skip.contains(&b.id));
    for range in options.ranges_ms.iter().copied().filter(|r| *r > 0) {
        let mut groups: BTreeMap<(i64, &str), Vec<u64>> = BTreeMap::new();
        for block in usable() {
            let stretch = block.min_ms.div_euclid(range);
            let is_over = stretch.saturating_add(1).saturating_mul(range) <= settled;
            if is_over && stretch == block.max_ms.div_euclid(range) {
                groups.entry((stretch, &block.tenant)).or_default().push(block.id);
            }
        }
        if let Some(((_, tenant), ids)) = groups.into_iter().find(|(_, ids)| ids.len() > 1) {
            return Some(plan(tenant, ids));
        }
    }
    let longest = options.ranges_ms.last().copied().filter(|r| *r > 0)?;
    let mut strays: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for block in usable().filter(|b| b.min_ms.div_euclid(longest) != b.max_ms.div_euclid(longest)) {
        strays.entry(&block.tenant).or_default().push(block.id);
    }
    let (tenant, ids) = strays.into_iter().find(|(_, ids)| ids.len() > options.stray_max.max(1))?;
    Some(plan(tenant, ids))
}

fn plan(tenant: &str, mut ids: Vec<u64>) -> CompactionPlan {
    ids.sort_unstable();
    CompactionPlan { tenant: tenant.to_owned(), ids }
}

/// Blocks whose newest sample is older than `retention`.
pub fn expired(blocks: &[BlockMeta], retention: Duration, now: Timestamp) -> Vec<u64> {
    let oldest = now.minus(retention).0;
    blocks.iter().filter(|b| b.max_ms < oldest).map(|b| b.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: i64 = 3_600_000;

    fn block(id: u64, min_h: f64, max_h: f64) -> BlockMeta {
        let ms = |h: f64| (h * H as f64) as i64;
        let (min_ms, max_ms) = (ms(min_h), ms(max_h) - 1);
        BlockMeta { id, order: id, tenant: "a".into(), min_ms, max_ms, ..BlockMeta::default() }
    }

    #[track_caller]
    fn check(blocks: &[BlockMeta], now_h: i64, want: Option<&[u64]>) {
        let got = plan_compaction(blocks, &BTreeSet::new(), &CompactionOptions::default(), Timestamp(now_h * H));
        assert_eq!(got.as_ref().map(|p| &p.ids[..]), want);
    }

    #[test]
    fn merges_what_is_over() {
        check(&[], 100, None);
        check(&[block(1, 0., 2.), block(2, 2., 4.)], 4, None);
        check(&[block(1, 0., 1.), block(2, 1., 2.), block(3, 2., 4.)], 5, Some(&[1, 2]));
        check(&[block(1, 0., 1.), block(2, 1., 2.)], 2, None);
        let hours: Vec<_> = (0..4).map(|k| block(k + 1, 2. * k as f64, 2. * k as f64 + 2.)).collect();
        check(&hours, 8, None);
        check(&hours, 9, Some(&[1, 2, 3, 4]));
        check(&[block(9, 0., 8.), block(7, 8., 16.), block(8, 16., 24.)], 25, Some(&[7, 8, 9]));
        check(&[block(1, 0., 24.), block(2, 5., 6.)], 200, Some(&[1, 2]));
    }

    #[test]
    fn tenants_and_skipped_blocks_stay_apart() {
        let mut other = block(2, 1., 2.);
        other.tenant = "b".into();
        check(&[block(1, 0., 1.), other], 100, None);
        let blocks = [block(1, 0., 1.), block(2, 1., 2.)];
        let got = plan_compaction(&blocks, &BTreeSet::from([1]), &CompactionOptions::default(), Timestamp(100 * H));
        assert_eq!(got, None);
    }

    #[test]
    fn rolled_blocks_are_left_alone() {
        let rolled = |id| BlockMeta { resolution_ms: 300_000, ..block(id, 0., 1.) };
        check(&[rolled(1), rolled(2), block(3, 0., 1.)], 100, None);
    }

    #[test]
    fn strays_are_merged_when_they_are_many() {
        let strays: Vec<_> = (1..=5).map(|id| block(id, 0., 9000.)).collect();
        check(&strays[..4], 10_000, None);
        check(&strays, 10_000, Some(&[1, 2, 3, 4, 5]));
    }

    #[test]
    fn expiry_is_never_early() {
        let blocks = [block(1, 0., 2.), block(2, 1., 8.)];
        let at = |ms| expired(&blocks, Duration::from_secs(3600), Timestamp(ms));
        assert_eq!(at(3 * H - 1), Vec::<u64>::new());
        assert_eq!(at(3 * H), [1]);
        assert_eq!(at(9 * H), [1, 2]);
    }
}
