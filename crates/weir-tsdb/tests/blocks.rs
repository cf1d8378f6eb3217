//! Blocks beside a head, over simulated disks.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use weir_model::sink::{MetricBatch, MetricSink, Outcome, SeriesBatch, WriteError};
use weir_model::source::{
    BoxFuture, Cancel, MetricCursor, MetricFragment, MetricSource, Projection, ReadContext, ReadError,
};
use weir_model::{Budget, Exemplar, Labels, MatchOp, Matcher, MetricMetadata, Sample, TenantId, TimeRange, Timestamp};
use weir_tsdb::Head;
use weir_tsdb::block::{BlockError, Blocks, BlocksOptions, CompactionPlan, HeadAndBlocks, WINDOW_MS};
use weir_wal::{Dir, Position, SimDir};

const SCRAPE_MS: i64 = 15_000;

fn tenant() -> TenantId {
    TenantId::anonymous()
}

fn labels(metric: &str, instance: usize) -> Labels {
    let instance = format!("10.0.0.{instance}:9100");
    Labels::from_pairs([("__name__", metric), ("instance", &instance), ("job", "node")])
}

fn open(dir: &Arc<SimDir>) -> Result<Arc<Blocks>, BlockError> {
    let dir: Arc<dyn Dir> = dir.clone();
    Ok(Arc::new(Blocks::open(dir, "metrics", BlocksOptions::default())?.blocks))
}

type Content = BTreeMap<Labels, Vec<(i64, u64)>>;

/// A store whose head is empty.
fn alone(blocks: &Arc<Blocks>) -> HeadAndBlocks {
    HeadAndBlocks { head: Arc::new(Head::new(&Budget::unlimited())), blocks: blocks.clone() }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}

fn read_store<S: MetricSource>(store: &S, matchers: &[Matcher], range: TimeRange) -> Result<Content, ReadError> {
    block_on(async {
        let fragment = MetricFragment {
            matchers: matchers.to_vec(),
            range,
            projection: Projection::Samples,
            ..MetricFragment::default()
        };
        let mut cursor = store.open(&tenant(), &fragment, &ReadContext::unlimited()).await?;
        let mut found = Content::new();
        while let Some(batch) = cursor.next()? {
            for series in batch {
                let samples = series.samples.iter().map(|s| (s.at.0, s.value.to_bits())).collect();
                assert!(found.insert(series.labels, samples).is_none(), "each series comes once");
            }
        }
        Ok(found)
    })
}

fn read(blocks: &Arc<Blocks>, matchers: &[Matcher], range: TimeRange) -> Content {
    read_store(&alone(blocks), matchers, range).unwrap()
}

fn all(blocks: &Arc<Blocks>) -> Content {
    read(blocks, &[], TimeRange::ALL)
}

fn cut(blocks: &Blocks, content: &Content, covered: Option<Position>) -> Result<(), BlockError> {
    let mut cut = blocks.cut();
    for (labels, samples) in content {
        let (times, values): (Vec<_>, Vec<_>) = samples.iter().map(|(at, v)| (*at, f64::from_bits(*v))).unzip();
        cut.add(&tenant(), labels, &times, &values, &[])?;
    }
    cut.commit(covered).map(drop)
}

/// `n` samples of each of 40 series from `start` on.
fn content(start: i64, n: i64) -> Content {
    let mut content = Content::new();
    for (idx, metric) in ["up", "load", "bytes_total", "constant"].into_iter().enumerate() {
        for instance in 0..10 {
            let value = |k: i64| match idx {
                0 => 1.0,
                1 => ((k * 7919) % 100) as f64 / 100.0,
                2 => (start / 1000 + k * 13 + k * k % 11) as f64,
                _ => 4096.0,
            };
            let samples = (0..n).map(|k| (start + k * SCRAPE_MS + instance as i64, value(k).to_bits())).collect();
            content.insert(labels(metric, instance), samples);
        }
    }
    content
}

fn merged(parts: &[&Content]) -> Content {
    let mut all: BTreeMap<Labels, BTreeMap<i64, u64>> = BTreeMap::new();
    for part in parts {
        for (labels, samples) in *part {
            let series = all.entry(labels.clone()).or_default();
            samples.iter().for_each(|(at, value)| {
                series.entry(*at).or_insert(*value);
            });
        }
    }
    all.into_iter().map(|(labels, samples)| (labels, samples.into_iter().collect())).collect()
}

fn within(content: &Content, range: TimeRange) -> Content {
    let keep =
        |samples: &Vec<(i64, u64)>| samples.iter().copied().filter(|(at, _)| range.contains(Timestamp(*at))).collect();
    let parts = content.iter().map(|(labels, samples)| (labels.clone(), keep(samples)));
    parts.filter(|(_, samples): &(_, Vec<_>)| !samples.is_empty()).collect()
}

/// A head that is cut after every write: whatever the suite asks, it asks the blocks.
struct CutAtOnce {
    head: Head,
    store: HeadAndBlocks,
}

impl MetricSink for CutAtOnce {
    fn append(&self, tenant: &TenantId, batch: &MetricBatch) -> Result<Outcome, WriteError> {
        let outcome = self.head.append(tenant, batch)?;
        let fragment = MetricFragment {
            matchers: vec![],
            range: TimeRange::ALL,
            projection: Projection::Samples,
            ..MetricFragment::default()
        };
        let context = ReadContext::unlimited();
        let opening = self.head.open(tenant, &fragment, &context);
        let mut cursor = futures_now(opening).unwrap();
        let mut all = BTreeMap::new();
        while let Some(batch) = cursor.next().unwrap() {
            all.extend(batch.into_iter().map(|series| (series.labels, (series.samples, series.histograms))));
        }
        let mut cut = self.store.blocks.cut();
        for (labels, (samples, histograms)) in all {
            let (times, values): (Vec<_>, Vec<_>) = samples.iter().map(|s| (s.at.0, s.value)).unzip();
            cut.add(tenant, &labels, &times, &values, &histograms).unwrap();
        }
        cut.commit(None).unwrap();
        let rest = batch.series.iter().filter(|s| !s.exemplars.is_empty()).cloned().collect();
        self.store.head.append(tenant, &MetricBatch { series: rest, metadata: batch.metadata.clone() })?;
        Ok(outcome)
    }
}

/// The stores' futures are ready at once.
fn futures_now<T>(mut future: BoxFuture<'_, T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("a store in memory does not wait"),
    }
}

impl MetricSource for CutAtOnce {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a MetricFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn MetricCursor>, ReadError>> {
        self.store.open(tenant, fragment, context)
    }
    fn label_names<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        self.store.label_names(tenant, matchers, range)
    }
    fn label_values<'a>(
        &'a self,
        tenant: &'a TenantId,
        name: &'a str,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<String>, ReadError>> {
        self.store.label_values(tenant, name, matchers, range)
    }
    fn metadata<'a>(
        &'a self,
        tenant: &'a TenantId,
        family: &'a str,
    ) -> BoxFuture<'a, Result<Vec<MetricMetadata>, ReadError>> {
        self.store.metadata(tenant, family)
    }
    fn exemplars<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        range: TimeRange,
    ) -> BoxFuture<'a, Result<Vec<(Labels, Vec<Exemplar>)>, ReadError>> {
        self.store.exemplars(tenant, matchers, range)
    }
}

#[test]
fn blocks_keep_the_contract_of_a_metrics_store() {
    let blocks = open(&Arc::new(SimDir::new(1))).unwrap();
    let store = CutAtOnce { head: Head::new(&Budget::unlimited()), store: alone(&blocks) };
    block_on(weir_model::suite::metrics(&store));
}

#[test]
fn selects_and_lists_like_a_scan() {
    let dir = Arc::new(SimDir::new(1));
    let blocks = open(&dir).unwrap();
    let content = content(1_700_000_000_000, 700);
    cut(&blocks, &content, None).unwrap();
    assert!(blocks.manifest().blocks.len() >= 2, "several windows make several blocks");
    let matcher = |name, op, value| Matcher::new(name, op, value).unwrap();
    let cases = [
        vec![],
        vec![Matcher::equal("__name__", "up")],
        vec![Matcher::equal("__name__", "up"), matcher("instance", MatchOp::NotEqual, "10.0.0.3:9100")],
        vec![matcher("__name__", MatchOp::Regex, "up|load"), matcher("instance", MatchOp::Regex, ".*[1-4]:9100")],
        vec![matcher("instance", MatchOp::NotRegex, "10.*"), Matcher::equal("job", "node")],
        vec![Matcher::equal("absent", ""), Matcher::equal("__name__", "load")],
        vec![Matcher::equal("absent", "x")],
        vec![matcher("job", MatchOp::NotEqual, "node")],
    ];
    let start = 1_700_000_000_000;
    let ranges = [
        TimeRange::ALL,
        TimeRange::new(Timestamp(start + 3), Timestamp(start + 3)),
        TimeRange::new(Timestamp(start + 600 * SCRAPE_MS), Timestamp(start + 650 * SCRAPE_MS)),
        TimeRange::new(Timestamp(0), Timestamp(start - 1)),
    ];
    let store = alone(&blocks);
    for matchers in &cases {
        for range in ranges {
            let mut want = within(&content, range);
            want.retain(|labels, _| weir_model::matcher::all_match(matchers, labels));
            assert_eq!(read(&blocks, matchers, range), want, "{matchers:?} {range:?}");
            let mut names: Vec<_> = want.keys().flat_map(|l| l.iter().map(|l| l.name.to_string())).collect();
            names.sort();
            names.dedup();
            assert_eq!(block_on(store.label_names(&tenant(), matchers, range)).unwrap(), names);
            let mut values: Vec<_> = want.keys().map(|l| l.value("instance").to_owned()).collect();
            values.sort();
            values.dedup();
            assert_eq!(block_on(store.label_values(&tenant(), "instance", matchers, range)).unwrap(), values);
        }
    }
}

#[test]
fn a_sample_in_head_and_block_comes_once() {
    let blocks = open(&Arc::new(SimDir::new(1))).unwrap();
    let (first, second) = (content(0, 100), content(50 * SCRAPE_MS, 100));
    cut(&blocks, &first, None).unwrap();
    let store = alone(&blocks);
    for (labels, samples) in &second {
        let samples = samples.iter().map(|(at, v)| Sample::new(*at, f64::from_bits(*v))).collect();
        let series = SeriesBatch { labels: labels.clone(), samples, ..SeriesBatch::default() };
        store.append(&tenant(), &MetricBatch { series: vec![series], metadata: vec![] }).unwrap();
    }
    assert_eq!(read_store(&store, &[], TimeRange::ALL).unwrap(), merged(&[&first, &second]));
}

#[test]
fn compaction_changes_no_answer() {
    let dir = Arc::new(SimDir::new(1));
    let blocks = open(&dir).unwrap();
    // Four windows, a late part that overlaps two of them, and one that fills a gap.
    let parts: Vec<_> = [(0, 480), (480, 480), (1000, 400), (1440, 480), (300, 300), (970, 20)]
        .map(|(from, n)| content(from * SCRAPE_MS, n))
        .to_vec();
    for part in &parts {
        cut(&blocks, part, None).unwrap();
    }
    let want = merged(&parts.iter().collect::<Vec<_>>());
    assert_eq!(all(&blocks), want);
    let bytes = |blocks: &Blocks| blocks.manifest().blocks.iter().map(|b| b.n_bytes).sum::<u64>();
    let before = bytes(&blocks);
    let now = Timestamp(24 * 3_600_000);
    let mut n_rounds = 0;
    while let Some(plan) = blocks.plan(now) {
        blocks.compact(&plan, &Cancel::default()).unwrap();
        assert_eq!(all(&blocks), want);
        n_rounds += 1;
        assert!(n_rounds < 20, "compaction comes to an end");
    }
    assert_eq!(blocks.manifest().blocks.len(), 1);
    assert!(bytes(&blocks) < before);
    assert_eq!(dir.list("metrics/anonymous").unwrap().len(), 1, "merged files are gone");
    assert_eq!(all(&open(&dir).unwrap()), want, "and after a restart");
}

#[test]
fn cancelled_compaction_changes_nothing() {
    let dir = Arc::new(SimDir::new(1));
    let blocks = open(&dir).unwrap();
    cut(&blocks, &content(0, 100), None).unwrap();
    cut(&blocks, &content(100 * SCRAPE_MS, 100), None).unwrap();
    let before = (blocks.manifest(), dir.list("metrics/anonymous").unwrap());
    let cancel = Cancel::default();
    cancel.cancel();
    let plan = blocks.plan(Timestamp(10 * WINDOW_MS)).unwrap();
    assert!(matches!(blocks.compact(&plan, &cancel), Err(BlockError::Cancelled)));
    assert_eq!((blocks.manifest(), dir.list("metrics/anonymous").unwrap()), before);
}

#[test]
fn deletions_hold_at_once_and_after_compaction() {
    let dir = Arc::new(SimDir::new(1));
    let blocks = open(&dir).unwrap();
    let (old, new) = (content(0, 200), content(200 * SCRAPE_MS, 200));
    cut(&blocks, &old, None).unwrap();
    let range = TimeRange::new(Timestamp(100 * SCRAPE_MS), Timestamp(300 * SCRAPE_MS));
    let up = [Matcher::equal("__name__", "up"), Matcher::new("instance", MatchOp::Regex, ".*[0-4]:9100").unwrap()];
    blocks.delete(&tenant(), &up, range).unwrap();
    blocks.delete(&tenant(), &[Matcher::equal("__name__", "constant")], TimeRange::ALL).unwrap();
    // Written after the deletion: stays.
    cut(&blocks, &new, None).unwrap();
    let mut kept = old.clone();
    kept.retain(|labels, _| labels.metric_name() != "constant");
    for (labels, samples) in &mut kept {
        if weir_model::matcher::all_match(&up, labels) {
            samples.retain(|(at, _)| !range.contains(Timestamp(*at)));
        }
    }
    let want = merged(&[&kept, &new]);
    assert_eq!(all(&blocks), want);
    let early = TimeRange::new(Timestamp(0), Timestamp(SCRAPE_MS));
    let names = |blocks| block_on(alone(blocks).label_values(&tenant(), "__name__", &[], early)).unwrap();
    assert_eq!(names(&blocks), ["bytes_total", "load", "up"], "listings know of deletions");
    let blocks = open(&dir).unwrap();
    assert_eq!(all(&blocks), want, "deletions survive a restart");
    blocks.compact(&blocks.plan(Timestamp(10 * WINDOW_MS)).unwrap(), &Cancel::default()).unwrap();
    assert_eq!(all(&blocks), want);
    assert!(blocks.manifest().tombstones.is_empty(), "and are forgotten when nothing needs them");
}

#[test]
fn retention_drops_whole_blocks_and_never_early() {
    let dir = Arc::new(SimDir::new(1));
    let blocks = open(&dir).unwrap();
    let (old, new) = (content(0, 10), content(WINDOW_MS, 10));
    cut(&blocks, &old, None).unwrap();
    cut(&blocks, &new, None).unwrap();
    let last = 9 * SCRAPE_MS + 9;
    let day = Duration::from_secs(86_400);
    assert_eq!(blocks.expire(Some(day), Timestamp(last + 86_400_000)).unwrap(), 0);
    assert_eq!(blocks.expire(Some(day), Timestamp(last + 86_400_001)).unwrap(), 1);
    assert_eq!(all(&blocks), new);
    assert_eq!(dir.list("metrics/anonymous").unwrap().len(), 1);
}

#[test]
fn a_snapshot_opens_as_a_store() {
    let dir = Arc::new(SimDir::new(1));
    let blocks = open(&dir).unwrap();
    let old = content(0, 100);
    cut(&blocks, &old, Some(Position { segment: 3, offset: 7 })).unwrap();
    blocks.snapshot_to("copy").unwrap();
    cut(&blocks, &content(WINDOW_MS, 100), None).unwrap();
    let copy = Blocks::open(dir, "copy", BlocksOptions::default()).unwrap().blocks;
    assert_eq!(copy.covered(), Position { segment: 3, offset: 7 });
    assert_eq!(all(&Arc::new(copy)), old);
}

/// Any crash leaves the listing before or the one after, whole; what was listed stays.
#[test]
fn a_crash_at_any_step_leaves_one_listing_whole() {
    let (first, second) = (content(0, 60), content(40 * SCRAPE_MS, 60));
    let both = merged(&[&first, &second]);
    let before = Position { segment: 1, offset: 1 };
    let after = Position { segment: 2, offset: 2 };
    let (mut n_before, mut n_after, mut n_merged) = (0, 0, 0);
    let mut steps = 0;
    loop {
        let dir = Arc::new(SimDir::new(steps));
        let blocks = open(&dir).unwrap();
        cut(&blocks, &first, Some(before)).unwrap();
        dir.crash_after(steps);
        let done = cut(&blocks, &second, Some(after)).and_then(|()| {
            let ids = blocks.manifest().blocks.iter().map(|b| b.id).collect();
            blocks.compact(&CompactionPlan { tenant: "anonymous".into(), ids }, &Cancel::default())
        });
        let finished = done.is_ok() && !dir.has_crashed();
        dir.restart();
        let blocks = open(&dir).unwrap();
        match blocks.covered() {
            at if at == before => {
                n_before += 1;
                assert_eq!(all(&blocks), first, "crash after {steps} steps");
            }
            at => {
                assert_eq!(at, after);
                n_after += 1;
                n_merged += usize::from(blocks.manifest().blocks.len() == 1);
                assert_eq!(all(&blocks), both, "crash after {steps} steps");
            }
        }
        assert_eq!(blocks.damage(), Vec::<String>::new());
        let listed = blocks.manifest().blocks.len();
        assert_eq!(dir.list("metrics/anonymous").unwrap().len(), listed, "nothing unlisted stays");
        // The store goes on.
        cut(&blocks, &content(WINDOW_MS, 5), None).unwrap();
        if finished {
            break;
        }
        steps += 37;
    }
    assert!(n_before > 10 && n_after > 10 && n_merged > 0, "{n_before} {n_after} {n_merged}");
}

/// A flipped bit costs at most what lies under its checksum, and is reported with path and offset.
#[test]
fn a_flipped_bit_costs_itself() {
    let content = content(1_700_000_000_000, 300);
    let other = content_of_another();
    let mut n_partial = 0;
    for seed in 0..150u64 {
        let dir = Arc::new(SimDir::new(seed));
        let blocks = open(&dir).unwrap();
        cut(&blocks, &content, None).unwrap();
        cut(&blocks, &other, None).unwrap();
        let path = format!("metrics/anonymous/{:016x}.block", blocks.manifest().blocks[0].id);
        let len = blocks.manifest().blocks[0].n_bytes;
        let byte = seed * 0x9e37_79b9 % len;
        assert!(dir.flip_bit(&path, byte as usize, seed as u8));
        let found = all(&blocks);
        for (labels, samples) in &other {
            assert_eq!(found.get(labels), Some(samples), "the other block is whole");
        }
        let whole = merged(&[&content, &other]);
        for (labels, samples) in &found {
            let want = &whole[labels];
            assert!(samples.iter().all(|s| want.contains(s)), "no wrong sample (byte {byte})");
        }
        n_partial += usize::from(found != whole);
        let damage = blocks.damage();
        assert_eq!(found != whole, !damage.is_empty(), "byte {byte} of {len}: {damage:?}");
        assert!(damage.iter().all(|d| d.contains(&path) && d.contains("at byte")), "{damage:?}");
    }
    assert!(n_partial > 140, "only the magic at the start costs nothing: {n_partial}");
}

fn content_of_another() -> Content {
    [(labels("other", 0), vec![(1_700_000_000_000, 1f64.to_bits())])].into()
}

#[test]
fn a_damaged_manifest_is_an_error_that_names_it() {
    let dir = Arc::new(SimDir::new(1));
    let blocks = open(&dir).unwrap();
    cut(&blocks, &content(0, 3), None).unwrap();
    dir.flip_bit("metrics/manifest", 100, 3);
    let error = open(&dir).err().unwrap().to_string();
    assert!(error.contains("metrics/manifest") && error.contains("snapshot"), "{error}");
}

#[test]
fn a_full_disk_leaves_the_listing_and_no_litter() {
    let dir = Arc::new(SimDir::new(1));
    let blocks = open(&dir).unwrap();
    let first = content(0, 100);
    cut(&blocks, &first, None).unwrap();
    dir.set_capacity(dir.used_bytes() + 500);
    let error = cut(&blocks, &content(WINDOW_MS, 400), None).unwrap_err();
    assert!(matches!(&error, BlockError::Dir(e) if e.is_full()), "{error}");
    assert_eq!(all(&blocks), first);
    assert_eq!(dir.list("metrics/anonymous").unwrap().len(), 1);
    dir.set_capacity(u64::MAX);
    cut(&blocks, &content(WINDOW_MS, 400), None).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Random cuts of random samples, merged at random, read like a map.
    #[test]
    fn any_cuts_read_like_a_map(
        parts in prop::collection::vec(
            prop::collection::vec((0usize..6, -3_000i64..3_000, any::<u64>()), 1..60), 1..6),
        merges in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        from in -3_000i64..3_000, len in 0i64..3_000,
    ) {
        let blocks = open(&Arc::new(SimDir::new(1))).unwrap();
        let mut contents = Vec::new();
        for part in &parts {
            let mut content: BTreeMap<Labels, BTreeMap<i64, u64>> = BTreeMap::new();
            for (series, at, bits) in part {
                content.entry(labels("m", *series)).or_default().entry(at * 60_000).or_insert(*bits);
            }
            let content: Content = content.into_iter().map(|(l, s)| (l, s.into_iter().collect())).collect();
            cut(&blocks, &content, None).unwrap();
            contents.push(content);
        }
        let want = merged(&contents.iter().collect::<Vec<_>>());
        prop_assert_eq!(all(&blocks), want.clone());
        for first in merges {
            let mut metas = blocks.manifest().blocks.clone();
            metas.sort_unstable_by_key(|b| b.order);
            let ids: Vec<_> = metas.iter().map(|b| b.id).collect();
            let first = first.index(ids.len());
            let ids = ids[..=first].to_vec();
            blocks.compact(&CompactionPlan { tenant: "anonymous".into(), ids }, &Cancel::default()).unwrap();
            let range = TimeRange::new(Timestamp(from * 60_000), Timestamp((from + len) * 60_000));
            prop_assert_eq!(read(&blocks, &[], range), within(&want, range));
        }
    }
}
