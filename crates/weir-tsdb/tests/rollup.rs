//! Days and weeks rolled up, read beside raw samples, over simulated disks.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use weir_model::histogram::{BucketCounts, BucketSpan, Counts};
use weir_model::source::{Cancel, Coarse, MetricFragment, MetricSource, ReadContext, Rollup, SeriesData};
use weir_model::{
    Budget, Histogram, HistogramSample, Labels, MatchOp, Matcher, Sample, TenantId, TimeRange, Timestamp,
};
use weir_tsdb::Head;
use weir_tsdb::block::{BlockError, Blocks, BlocksOptions, HeadAndBlocks, Level, RollupOptions};
use weir_wal::{Dir, SimDir};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// A Thursday, as weeks of the epoch begin.
const FROM: i64 = 2_800 * 7 * DAY;

fn tenant() -> TenantId {
    TenantId::anonymous()
}

fn days(n: u64) -> Duration {
    Duration::from_secs(n * 86_400)
}

fn open(dir: &SimDir) -> Result<Arc<Blocks>, BlockError> {
    let rollup = RollupOptions { five: Some(days(30)), hour: Some(days(395)) };
    let dir: Arc<dyn Dir> = Arc::new(dir.clone());
    Ok(Arc::new(Blocks::open(dir, "metrics", BlocksOptions { rollup, ..BlocksOptions::default() })?.blocks))
}

fn named(name: &str) -> Labels {
    Labels::from_pairs([("__name__", name), ("instance", "a")])
}

/// Minutes from `from` on: a counter that starts anew every 1,000 minutes, a gauge, a constant.
fn series(from: i64, n: i64) -> BTreeMap<Labels, Vec<Sample>> {
    let value = |name: &str, at: i64| {
        let k = (at - FROM) / MINUTE;
        match name {
            "requests_total" => (k % 1000 * 7) as f64,
            "load" => (k * 7919 % 101) as f64 - 50.0,
            _ => 1.0,
        }
    };
    let of = |name: &str| {
        let samples = (1..=n).map(|k| from + k * MINUTE - 13_000).map(|at| Sample::new(at, value(name, at))).collect();
        (named(name), samples)
    };
    ["requests_total", "load", "up"].into_iter().map(of).collect()
}

/// A histogram each minute that starts anew every 1,000 minutes.
fn histograms(from: i64, n: i64) -> Vec<HistogramSample> {
    let of = |at: i64| {
        let count = ((at - FROM) / MINUTE % 1000) as u64;
        Histogram {
            sum: count as f64,
            positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
            counts: Counts::Integer(BucketCounts { count, zero: 0, positive: vec![count], negative: vec![] }),
            ..Histogram::stale()
        }
    };
    let times = (1..=n).map(|k| from + k * MINUTE - 13_000);
    times.map(|at| HistogramSample { at: Timestamp(at), histogram: Arc::new(of(at)) }).collect()
}

fn cut(blocks: &Blocks, from: i64, n: i64) -> Result<(), BlockError> {
    let mut cut = blocks.cut();
    let mut all: BTreeMap<Labels, (Vec<Sample>, Vec<HistogramSample>)> =
        series(from, n).into_iter().map(|(labels, samples)| (labels, (samples, vec![]))).collect();
    all.insert(named("latency"), (vec![], histograms(from, n)));
    for (labels, (samples, histograms)) in all {
        let (times, values): (Vec<_>, Vec<_>) = samples.iter().map(|s| (s.at.0, s.value)).unzip();
        cut.add(&tenant(), &labels, &times, &values, &histograms)?;
    }
    cut.commit(None).map(drop)
}

/// Merges and rolls up until nothing is to be done; how many stretches were rolled up.
fn settle(blocks: &Blocks, now: i64) -> Result<usize, BlockError> {
    let mut n = 0;
    loop {
        if let Some(plan) = blocks.plan(Timestamp(now)) {
            blocks.compact(&plan, &Cancel::default())?;
        } else if let Some(plan) = blocks.plan_rollup(Timestamp(now)) {
            blocks.roll(&plan, &Cancel::default())?;
            n += 1;
        } else {
            return Ok(n);
        }
    }
}

fn store(blocks: &Arc<Blocks>) -> HeadAndBlocks {
    HeadAndBlocks { head: Arc::new(Head::new(&Budget::unlimited())), blocks: blocks.clone() }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn read(
    blocks: &Arc<Blocks>,
    range: (i64, i64),
    rollup: Rollup,
    accepted: u64,
) -> (BTreeMap<String, SeriesData>, Vec<Coarse>) {
    let range = TimeRange::new(Timestamp(range.0 + 1), Timestamp(range.1));
    let resolution = Some(Duration::from_secs(accepted));
    let fragment = MetricFragment { range, rollup, resolution, ..MetricFragment::default() };
    let store = store(blocks);
    block_on(async {
        let mut cursor = store.open(&tenant(), &fragment, &ReadContext::unlimited()).await.unwrap();
        let mut found = BTreeMap::new();
        while let Some(batch) = cursor.next().unwrap() {
            for data in batch {
                assert_eq!(data.labels.get("__rollup__"), None);
                assert!(data.samples.is_sorted_by(|a, b| a.at < b.at), "no time comes twice");
                assert!(found.insert(data.labels.metric_name().to_owned(), data).is_none(), "each series comes once");
            }
        }
        (found, cursor.coarse())
    })
}

/// What a counter gained after `from` until `to`.
fn gained(samples: &[Sample], from: i64, to: i64) -> f64 {
    let until = |at: i64| -> f64 {
        let all: Vec<f64> = samples.iter().filter(|s| s.at.0 <= at).map(|s| s.value).collect();
        all.windows(2).map(|w| if w[1] < w[0] { w[1] } else { w[1] - w[0] }).sum()
    };
    until(to) - until(from)
}

#[test]
fn rolled_stretches_say_what_the_samples_did() {
    let dir = SimDir::new(1);
    let blocks = open(&dir).unwrap();
    for day in 0..8 {
        cut(&blocks, FROM + day * DAY, DAY / MINUTE).unwrap();
    }
    let (end, now) = (FROM + 8 * DAY, FROM + 8 * DAY + 3 * HOUR);
    let raw = read(&blocks, (FROM, end), Rollup::Last, 0).0;
    assert_eq!(settle(&blocks, now).unwrap(), 9, "eight days and a week");
    assert_eq!(settle(&blocks, now).unwrap(), 0);
    assert_eq!(read(&blocks, (FROM, end), Rollup::Max, 0).0, raw, "every sample is still there");
    // By acceptance first, then because nothing else is left.
    let check = || {
        for (accepted, length) in [(300, 5 * MINUTE), (3600, HOUR)] {
            let get = |rollup| read(&blocks, (FROM, end), rollup, accepted);
            let (max, coarse) = get(Rollup::Max);
            assert_eq!(coarse[0].resolution.as_millis() as i64, length);
            let (min, _) = get(Rollup::Min);
            let (sum, _) = get(Rollup::Sum);
            let (counter, _) = get(Rollup::Counter);
            let sums = &sum["load"];
            for edge in (FROM + length..FROM + 7 * DAY).step_by(length as usize) {
                let inside = |s: &&Sample| edge - length < s.at.0 && s.at.0 <= edge;
                let of =
                    |data: &SeriesData| -> Vec<f64> { data.samples.iter().filter(inside).map(|s| s.value).collect() };
                let all = of(&raw["load"]);
                assert_eq!(of(&max["load"]), [all.iter().copied().fold(f64::MIN, f64::max)]);
                assert_eq!(of(&min["load"]), [all.iter().copied().fold(f64::MAX, f64::min)]);
                assert_eq!(of(sums), [all.iter().sum::<f64>()]);
                let at = sums.samples.iter().position(|s| inside(&s)).unwrap();
                assert_eq!(sums.weights[at], all.len() as f64);
            }
            let (of_raw, of_counter) = (&raw["requests_total"].samples, &counter["requests_total"].samples);
            assert!(of_counter.len() < of_raw.len() / 3, "{} of {}", of_counter.len(), of_raw.len());
            for edge in (FROM..=end).step_by(6 * HOUR as usize) {
                assert_eq!(gained(of_counter, FROM, edge), gained(of_raw, FROM, edge), "until {edge}");
            }
            let of = |found: &BTreeMap<String, SeriesData>| -> Vec<Sample> {
                let count = |h: &HistogramSample| Sample { at: h.at, value: h.histogram.to_float().count };
                found["latency"].histograms.iter().map(count).collect()
            };
            for edge in (FROM..=end).step_by(6 * HOUR as usize) {
                assert_eq!(gained(&of(&counter), FROM, edge), gained(&of(&raw), FROM, edge));
            }
        }
    };
    check();
    // Raw samples go, five minutes stay.
    assert!(blocks.expire(Some(days(7)), Timestamp(FROM + 15 * DAY)).unwrap() > 0);
    assert_eq!(read(&blocks, (FROM, end), Rollup::Last, 0).1.len(), 1);
    check();
    let reopened = open(&dir).unwrap();
    let (last, coarse) = read(&reopened, (FROM, end), Rollup::Last, 0);
    assert_eq!((coarse.len(), coarse[0].resolution), (1, Duration::from_secs(300)));
    assert_eq!(last["up"].samples.len(), 8 * 288);
    // Five minutes of the week go, hours stay.
    assert_eq!(reopened.expire(Some(days(7)), Timestamp(FROM + 36 * DAY)).unwrap(), 0, "not early");
    assert!(reopened.expire(Some(days(7)), Timestamp(FROM + 37 * DAY)).unwrap() > 0);
    let (last, coarse) = read(&reopened, (FROM, end), Rollup::Last, 0);
    let lengths: Vec<u64> = coarse.iter().map(|c| c.resolution.as_secs()).collect();
    assert_eq!(lengths, [3600, 300]);
    assert_eq!(last["up"].samples.len(), 7 * 24 + 288);
    let names = block_on(store(&reopened).label_names(&tenant(), &[], TimeRange::ALL)).unwrap();
    assert_eq!(names, ["__name__", "instance"]);
    assert!(reopened.expire(Some(days(7)), Timestamp(FROM + 500 * DAY)).unwrap() > 0);
    assert_eq!(read(&reopened, (FROM, end), Rollup::Last, 0).0.len(), 0);
}

#[test]
fn late_samples_roll_a_day_up_again_and_merging_does_not() {
    let blocks = open(&SimDir::new(2)).unwrap();
    let now = FROM + DAY + 3 * HOUR;
    cut(&blocks, FROM, 6 * HOUR / MINUTE).unwrap();
    assert_eq!(settle(&blocks, now).unwrap(), 1);
    let n = |accepted| read(&blocks, (FROM, FROM + DAY), Rollup::Last, accepted).0["load"].samples.len();
    assert_eq!(n(300), 72);
    cut(&blocks, FROM + 6 * HOUR, 6 * HOUR / MINUTE).unwrap();
    assert_eq!(settle(&blocks, now).unwrap(), 1);
    assert_eq!((n(300), n(0)), (144, 720));
    cut(&blocks, FROM + 6 * DAY, 60).unwrap();
    cut(&blocks, FROM + 6 * DAY + HOUR, 60).unwrap();
    // The blocks of a week become one; its hours and the last day are new.
    let rolled = settle(&blocks, FROM + 7 * DAY + 3 * HOUR).unwrap();
    let manifest = blocks.manifest();
    assert_eq!(manifest.blocks.iter().filter(|b| b.resolution_ms == 0).count(), 1);
    let of = |level| manifest.rolled.iter().filter(|s| s.level == level).count();
    assert_eq!((rolled, of(Level::Five), of(Level::Hour)), (7, 7, 1), "empty days, the last one, and the week");
    assert_eq!(n(300), 144);
}

#[test]
fn deletions_hide_and_then_remove_rolled_samples() {
    let dir = SimDir::new(3);
    let blocks = open(&dir).unwrap();
    cut(&blocks, FROM, DAY / MINUTE).unwrap();
    settle(&blocks, FROM + DAY + 3 * HOUR).unwrap();
    blocks.expire(Some(days(1)), Timestamp(FROM + 3 * DAY)).unwrap();
    let matcher = Matcher::new("__name__", MatchOp::Equal, "load").unwrap();
    let morning = TimeRange::new(Timestamp(FROM), Timestamp(FROM + 12 * HOUR));
    blocks.delete(&tenant(), &[matcher], morning).unwrap();
    let n = |blocks: &Arc<Blocks>, rollup| {
        let found = read(blocks, (FROM, FROM + DAY), rollup, 0).0;
        (found["load"].samples.len(), found["up"].samples.len())
    };
    assert_eq!(n(&blocks, Rollup::Max), (144, 288));
    blocks.clean_tombstones(&Cancel::default()).unwrap();
    assert_eq!(blocks.manifest().tombstones.len(), 0);
    for rollup in [Rollup::Last, Rollup::Max, Rollup::Sum] {
        assert_eq!(n(&open(&dir).unwrap(), rollup), (144, 288));
    }
    assert_eq!(settle(&blocks, FROM + 5 * DAY).unwrap(), 0, "what it was made of is gone");
}

/// A crash or a full disk at any operation leaves the stretch as it was or as it is to be.
#[test]
fn a_crash_while_rolling_up_leaves_the_old_state_or_the_new() {
    let mut outcomes = BTreeSet::new();
    for seed in (0..5_000_u64).step_by(5) {
        let dir = SimDir::new(seed);
        let blocks = open(&dir).unwrap();
        cut(&blocks, FROM, 10).unwrap();
        let now = FROM + DAY + 3 * HOUR;
        settle(&blocks, now).unwrap();
        let before = read(&blocks, (FROM, FROM + DAY), Rollup::Max, 300).0;
        cut(&blocks, FROM + 10 * MINUTE, 10).unwrap();
        let raw = read(&blocks, (FROM, FROM + DAY), Rollup::Last, 0).0;
        dir.crash_after(seed);
        let rolled = settle(&blocks, now);
        drop(blocks);
        dir.restart();
        let blocks = open(&dir).unwrap();
        assert_eq!(read(&blocks, (FROM, FROM + DAY), Rollup::Last, 0).0, raw, "seed {seed}");
        let after = read(&blocks, (FROM, FROM + DAY), Rollup::Max, 300).0;
        assert!(after["load"].samples.len() == 4 || after == before, "seed {seed}: {after:?}");
        outcomes.insert((rolled.is_ok(), after == before));
        settle(&blocks, now).unwrap();
        assert_eq!(read(&blocks, (FROM, FROM + DAY), Rollup::Max, 300).0["load"].samples.len(), 4);
        if outcomes.contains(&(true, false)) {
            break;
        }
    }
    assert!(outcomes.contains(&(false, true)) && outcomes.contains(&(true, false)), "{outcomes:?}");
}

#[test]
fn damage_costs_itself_and_holds_up_nothing() {
    let dir = SimDir::new(5);
    let blocks = open(&dir).unwrap();
    cut(&blocks, FROM, 60).unwrap();
    cut(&blocks, FROM + 2 * HOUR, 60).unwrap();
    let damaged = blocks.manifest().blocks[0].clone();
    let path = format!("metrics/anonymous/{:016x}.block", damaged.id);
    assert!(dir.flip_bit(&path, 40, 3));
    drop(blocks);
    let blocks = open(&dir).unwrap();
    let now = FROM + DAY + 3 * HOUR;
    let mut n_rolled = 0;
    for _ in 0..10 {
        n_rolled += usize::from(settle(&blocks, now).is_ok_and(|n| n > 0));
    }
    assert_eq!(n_rolled, 1);
    assert!(!blocks.damage().is_empty());
    assert!(blocks.expire(Some(days(1)), Timestamp(FROM + 3 * DAY)).unwrap() > 0);
    assert_eq!(read(&blocks, (FROM, FROM + DAY), Rollup::Last, 0).0["load"].samples.len() % 12, 0);
}
