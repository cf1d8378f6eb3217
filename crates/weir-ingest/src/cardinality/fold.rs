//! Folding: the values of a label that came after its budget was used up become one, `other`.
//!
//! A counter's increments are added up, so that `rate` over the folded series is what the sum of `rate` over the
//! hidden ones would be; of a gauge the newest values are. A hidden series' first value counts for a counter as
//! nothing, as it does in `rate`.

use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use ahash::{AHashMap, RandomState};
use weir_model::census::FOLDED_LABEL;
use weir_model::labels::Label;
use weir_model::sink::SeriesBatch;
use weir_model::{Labels, Sample, Timestamp, is_stale};

/// What stands for the values that were folded.
const OTHER: &str = "other";

/// What a series' values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Grows, and begins anew from zero.
    Counter,
    Gauge,
}

/// A folded series.
#[derive(Debug)]
struct Target {
    labels: Labels,
    sum: f64,
    /// Of the newest sample given out.
    at: i64,
    /// When the sum changed for a time that was given out already.
    late: Option<Timestamp>,
}

/// The newest sample of a hidden series.
#[derive(Clone, Copy, Debug)]
struct Last {
    target: u32,
    at: i64,
    value: f64,
}

/// The folding of one metric. Memory: some 60 bytes for each of at most `hidden_max` series.
#[derive(Debug)]
pub(crate) struct Fold {
    meaning: Meaning,
    /// Folded now, sorted.
    labels: Vec<Arc<str>>,
    /// Folded next, should the folded series be too many; the last one first.
    next: Vec<Arc<str>>,
    targets: Vec<Target>,
    by_labels: AHashMap<Labels, u32>,
    targets_max: usize,
    hidden: AHashMap<u128, Last>,
    hidden_max: usize,
    seeds: [RandomState; 2],
}

/// What changed in one request.
#[derive(Debug, Default)]
pub(crate) struct Changes(Vec<(u32, i64, f64)>);

impl Fold {
    /// `candidates`: labels that may be folded, the one with most values first; none makes a fold that takes nothing.
    pub fn new(meaning: Meaning, candidates: Vec<Arc<str>>, series_max: u64) -> Self {
        let series_max = usize::try_from(series_max).unwrap_or(usize::MAX);
        let mut next = candidates;
        next.reverse();
        let labels = next.pop().into_iter().collect();
        Self {
            meaning,
            labels,
            next,
            targets: Vec::new(),
            by_labels: AHashMap::new(),
            targets_max: (series_max / 10).max(10),
            hidden: AHashMap::new(),
            hidden_max: series_max.saturating_mul(10),
            seeds: [RandomState::new(), RandomState::new()],
        }
    }

    /// Takes in a series' floats; whether it could be folded.
    pub fn add(&mut self, series: &SeriesBatch, changes: &mut Changes) -> bool {
        let key = self.key(&series.labels);
        let mut samples: Vec<&Sample> = series.samples.iter().collect();
        samples.sort_by_key(|s| s.at);
        for sample in samples {
            if is_stale(sample.value) {
                self.forget(key, sample.at.0, changes);
            } else if !self.sample(key, &series.labels, sample, changes) {
                return false;
            }
        }
        true
    }

    fn sample(&mut self, key: u128, labels: &Labels, sample: &Sample, changes: &mut Changes) -> bool {
        let (at, value) = (sample.at.0, sample.value);
        // A sum would never recover from one of these.
        if !value.is_finite() {
            return true;
        }
        if let Some(last) = self.hidden.get_mut(&key) {
            if at <= last.at {
                return true;
            }
            let change = match self.meaning {
                Meaning::Counter if value < last.value => value,
                _ => value - last.value,
            };
            (last.at, last.value) = (at, value);
            changes.0.push((last.target, at, change));
            return true;
        }
        if self.hidden.len() >= self.hidden_max {
            return false;
        }
        let Some(target) = self.target(labels) else { return false };
        self.hidden.insert(key, Last { target, at, value });
        let change = if self.meaning == Meaning::Counter { 0.0 } else { value };
        changes.0.push((target, at, change));
        true
    }

    /// A series that ended keeps what it added to a counter, and takes its part from a gauge.
    fn forget(&mut self, key: u128, at: i64, changes: &mut Changes) {
        let Some(last) = self.hidden.remove(&key) else { return };
        if self.meaning == Meaning::Gauge {
            changes.0.push((last.target, at.max(last.at), -last.value));
        }
    }

    /// The folded series that one with these labels goes to.
    fn target(&mut self, labels: &Labels) -> Option<u32> {
        loop {
            let folded = self.fold(labels)?;
            if let Some(target) = self.by_labels.get(&folded) {
                return Some(*target);
            }
            if self.targets.len() < self.targets_max {
                let target = u32::try_from(self.targets.len()).ok()?;
                self.targets.push(Target { labels: folded.clone(), sum: 0.0, at: i64::MIN, late: None });
                self.by_labels.insert(folded, target);
                return Some(target);
            }
            // Two labels of many values: series that come from now on lose both.
            self.labels.push(self.next.pop()?);
            self.labels.sort();
            self.targets_max += 10;
        }
    }

    fn fold(&self, labels: &Labels) -> Option<Labels> {
        let is_folded = |name: &str| self.labels.iter().any(|l| **l == *name);
        if !labels.iter().any(|l| is_folded(&l.name)) {
            return None;
        }
        let other: Arc<str> = OTHER.into();
        let fold = |l: &Label| {
            if is_folded(&l.name) { Label { name: l.name.clone(), value: other.clone() } } else { l.clone() }
        };
        let mut folded: Vec<Label> = labels.iter().filter(|l| &*l.name != FOLDED_LABEL).map(fold).collect();
        folded.push(Label { name: FOLDED_LABEL.into(), value: self.labels.join(",").into() });
        Labels::try_from_vec(folded).ok()
    }

    /// Samples of what changed: one per folded series and time.
    pub fn take(&mut self, changes: Changes, now: Timestamp) -> Vec<SeriesBatch> {
        let mut changes = changes.0;
        changes.sort_by_key(|(target, at, _)| (*target, *at));
        let mut out: Vec<SeriesBatch> = Vec::new();
        for of_target in changes.chunk_by(|a, b| a.0 == b.0) {
            let target = &mut self.targets[of_target[0].0 as usize];
            let mut samples = Vec::new();
            for of_time in of_target.chunk_by(|a, b| a.1 == b.1) {
                target.sum += of_time.iter().map(|(.., change)| change).sum::<f64>();
                let at = of_time[0].1;
                if at > target.at {
                    samples.push(Sample::new(at, target.sum));
                    (target.at, target.late) = (at, None);
                } else if of_time.iter().any(|(.., change)| *change != 0.0) {
                    target.late = Some(now);
                }
            }
            if !samples.is_empty() {
                out.push(SeriesBatch { labels: target.labels.clone(), samples, ..SeriesBatch::default() });
            }
        }
        out
    }

    /// What came in for a time that had been given out, and was followed by nothing since `before`: told a
    /// millisecond later.
    pub fn settle(&mut self, before: Timestamp) -> Vec<SeriesBatch> {
        let due = self.targets.iter_mut().filter(|t| t.late.is_some_and(|late| late <= before));
        let tell = |target: &mut Target| {
            (target.at, target.late) = (target.at.saturating_add(1), None);
            let samples = vec![Sample::new(target.at, target.sum)];
            SeriesBatch { labels: target.labels.clone(), samples, ..SeriesBatch::default() }
        };
        due.map(tell).collect()
    }

    /// Forgets hidden series without a sample since `before`.
    pub fn forget_before(&mut self, before: Timestamp, now: Timestamp) -> Vec<SeriesBatch> {
        let gone: Vec<u128> = self.hidden.iter().filter(|(_, last)| last.at < before.0).map(|(key, _)| *key).collect();
        let mut changes = Changes::default();
        gone.into_iter().for_each(|key| self.forget(key, before.0, &mut changes));
        self.take(changes, now)
    }

    /// Labels folded now.
    pub fn labels(&self) -> &[Arc<str>] {
        &self.labels
    }

    pub fn n_hidden(&self) -> usize {
        self.hidden.len()
    }

    fn key(&self, labels: &Labels) -> u128 {
        let [high, low] = &self.seeds;
        let of = |seed: &RandomState| {
            let mut hasher = seed.build_hasher();
            labels.iter().for_each(|l| (&l.name, &l.value).hash(&mut hasher));
            std::hash::Hasher::finish(&hasher)
        };
        u128::from(of(high)) << 64 | u128::from(of(low))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_model::STALE_NAN_BITS;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn series(user: &str, path: &str, samples: &[(i64, f64)]) -> SeriesBatch {
        SeriesBatch {
            labels: Labels::from_pairs([("__name__", "hits_total"), ("path", path), ("user_id", user)]),
            samples: samples.iter().map(|(at, value)| Sample::new(*at, *value)).collect(),
            ..SeriesBatch::default()
        }
    }

    fn fold(meaning: Meaning, series_max: u64) -> Fold {
        Fold::new(meaning, vec!["user_id".into(), "path".into()], series_max)
    }

    fn told(batches: &[SeriesBatch]) -> Vec<(String, Vec<(i64, f64)>)> {
        let samples = |b: &SeriesBatch| b.samples.iter().map(|s| (s.at.0, s.value)).collect();
        batches.iter().map(|b| (b.labels.to_string(), samples(b))).collect()
    }

    #[test]
    fn counters_give_increments_and_gauges_sums() {
        for (meaning, want) in [
            (Meaning::Counter, vec![(10, 0.0), (20, 3.0), (30, 5.0)]),
            (Meaning::Gauge, vec![(10, 105.0), (20, 108.0), (30, 5.0)]),
        ] {
            let mut fold = fold(meaning, 100);
            let mut changes = Changes::default();
            assert!(fold.add(&series("a", "/", &[(10, 100.0), (20, 103.0), (30, 2.0)]), &mut changes));
            let stale = f64::from_bits(STALE_NAN_BITS);
            assert!(fold.add(&series("b", "/", &[(10, 5.0), (20, 5.0), (30, 3.0)][..2]), &mut changes));
            assert!(
                fold.add(&series("b", "/", &[(30, if meaning == Meaning::Gauge { 3.0 } else { stale })]), &mut changes)
            );
            let got = told(&fold.take(changes, NOW));
            let labels = r#"hits_total{path="/", user_id="other", weir_folded="user_id"}"#;
            assert_eq!(got, [(labels.to_owned(), want)], "{meaning:?}");
        }
    }

    #[test]
    fn a_gauge_that_ends_takes_its_part_away() {
        let mut fold = fold(Meaning::Gauge, 100);
        let mut changes = Changes::default();
        fold.add(&series("a", "/", &[(10, 7.0)]), &mut changes);
        fold.add(&series("b", "/", &[(10, 5.0), (20, f64::from_bits(STALE_NAN_BITS))]), &mut changes);
        assert_eq!(told(&fold.take(changes, NOW))[0].1, [(10, 12.0), (20, 7.0)]);
        assert_eq!(told(&fold.forget_before(Timestamp(50), NOW))[0].1, [(50, 0.0)]);
        assert_eq!(fold.n_hidden(), 0);
    }

    #[test]
    fn what_comes_late_for_a_time_is_told_with_the_next_one_or_a_moment_later() {
        let mut fold = fold(Meaning::Gauge, 100);
        let add = |fold: &mut Fold, user: &str, at: i64, value: f64| {
            let mut changes = Changes::default();
            assert!(fold.add(&series(user, "/", &[(at, value)]), &mut changes));
            told(&fold.take(changes, NOW)).pop().map(|(_, samples)| samples)
        };
        assert_eq!(add(&mut fold, "a", 10, 1.0), Some(vec![(10, 1.0)]));
        assert_eq!(add(&mut fold, "b", 10, 2.0), None);
        assert_eq!(add(&mut fold, "a", 20, 1.0), Some(vec![(20, 3.0)]));
        assert_eq!(add(&mut fold, "c", 20, 4.0), None);
        assert!(fold.settle(Timestamp(NOW.0 - 1)).is_empty());
        assert_eq!(told(&fold.settle(NOW))[0].1, [(21, 7.0)]);
        assert!(fold.settle(NOW).is_empty());
    }

    #[test]
    fn a_second_label_is_folded_when_one_is_not_enough() {
        let mut fold = fold(Meaning::Counter, 10);
        let mut changes = Changes::default();
        for k in 0..40 {
            assert!(fold.add(&series(&format!("u{k}"), &format!("/{k}"), &[(10, 1.0)]), &mut changes));
        }
        let got = told(&fold.take(changes, NOW));
        assert_eq!(got.len(), 11);
        assert!(got[10].0.ends_with(r#"{path="other", user_id="other", weir_folded="path,user_id"}"#), "{}", got[10].0);
    }

    #[test]
    fn the_table_is_bounded_and_a_series_without_the_label_is_not_folded() {
        let mut fold = fold(Meaning::Counter, 2);
        let mut changes = Changes::default();
        let taken = (0..30).filter(|k| fold.add(&series(&format!("u{k}"), "/", &[(10, 1.0)]), &mut changes)).count();
        assert_eq!((taken, fold.n_hidden()), (20, 20));
        let plain =
            SeriesBatch { labels: Labels::from_pairs([("__name__", "hits_total")]), ..series("", "", &[(1, 1.0)]) };
        assert!(!super::Fold::new(Meaning::Counter, vec!["user_id".into()], 9).add(&plain, &mut changes));
        assert!(!super::Fold::new(Meaning::Counter, vec![], 9).add(&series("a", "/", &[(1, 1.0)]), &mut changes));
    }

    proptest! {
        /// However requests cut the samples, the folded counters end at the sum of all increments.
        #[test]
        fn sums_of_increments_are_exact(
            values in proptest::collection::vec((0u8..5, 0u8..3, 0u32..50), 1..120),
            cut in 1usize..10,
        ) {
            let mut fold = fold(Meaning::Counter, 100);
            let mut last: std::collections::BTreeMap<(u8, u8), u32> = Default::default();
            let (mut want, mut got) = (0u64, std::collections::BTreeMap::new());
            for (at, chunk) in (1i64..).zip(values.chunks(cut)) {
                let mut changes = Changes::default();
                let mut seen = std::collections::BTreeSet::new();
                for (user, path, value) in chunk {
                    // Of one time a series has one value.
                    if !seen.insert((*user, *path)) {
                        continue;
                    }
                    let before = last.insert((*user, *path), *value);
                    want += before.map_or(0, |before| u64::from(if *value < before { *value } else { *value - before }));
                    let one = series(&format!("u{user}"), &format!("/{path}"), &[(at, f64::from(*value))]);
                    prop_assert!(fold.add(&one, &mut changes));
                }
                for batch in fold.take(changes, NOW).into_iter().chain(fold.settle(NOW)) {
                    got.insert(batch.labels.to_string(), batch.samples.last().unwrap().value);
                }
            }
            prop_assert_eq!(got.values().sum::<f64>(), want as f64);
        }
    }
}
