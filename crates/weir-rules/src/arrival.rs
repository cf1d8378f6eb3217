//! Evaluation on arrival: which rules a commit touches, and when a touched rule is ripe.
//!
//! [`Arrivals`] is quick and lock-free for the writer but for one look-up in a cache; when it is ripe
//! a rule is evaluated by its group's own task. A rule qualifies when missing data can only make
//! its answer smaller: see [`grows_with_data`].

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_model::sink::SeriesRef;
use weir_model::{Labels, Matcher, SeriesNames, Timestamp};
use weir_promql::{AggregateOp, BinaryOp, Expr, ExprKind, ValueType};

use crate::spread::Spread;

/// Quiet time after the last commit before a rule is looked at, so that what belongs together is there.
pub const SETTLE: Duration = Duration::from_millis(50);
/// Longest wait from the first commit on, when commits never pause.
pub const WAIT_MAX: Duration = Duration::from_millis(150);
/// Shortest time between two evaluations of one rule on arrival.
pub const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// The same of a rule that waits until its data are complete; and ten times as long as it takes.
const COMPLETE_MIN_INTERVAL: Duration = Duration::from_secs(1);
/// Expressions over longer ranges change slowly: they wait for the grid.
const COMPLETE_RANGE_MAX: Duration = Duration::from_secs(600);
/// Series whose rules are remembered; at about 40 bytes each, 80 MiB when full.
const CACHE_SERIES_MAX: usize = 2_000_000;

/// Whether more data can only add to the answer, never take away, so that an evaluation before all
/// of it has come cannot raise a false alarm: selectors and functions of single series, sums and
/// maxima of them, compared with `>` or `>=` to a number. Ratios, `<`, `unless`, `count` and all else are
/// looked at once their data are complete: see [`may_be_looked_at_when_complete`].
pub fn grows_with_data(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Vector(s) | ExprKind::Matrix(s, _) => s.at.is_none() && s.offset_ms <= 0,
        ExprKind::Number(_) => true,
        ExprKind::Paren(inner) => grows_with_data(inner),
        ExprKind::Call(call) => {
            FUNCTIONS.contains(&call.function.name)
                && call.args.iter().all(|a| a.value_type() == ValueType::String || grows_with_data(a))
        }
        ExprKind::Aggregate(agg) => {
            matches!(agg.op, AggregateOp::Sum | AggregateOp::Max | AggregateOp::Group | AggregateOp::Topk)
                && grows_with_data(&agg.expr)
        }
        ExprKind::Binary(b) => {
            let number = |e: &Expr| matches!(e.unparen().kind, ExprKind::Number(_));
            let both = grows_with_data(&b.lhs) && grows_with_data(&b.rhs);
            match b.op {
                BinaryOp::Gt | BinaryOp::Ge => both && !b.return_bool && number(&b.rhs),
                BinaryOp::Eq | BinaryOp::Ne => both && !b.return_bool && number(&b.rhs) && !aggregates(&b.lhs),
                BinaryOp::Mul | BinaryOp::Div => both && (number(&b.rhs) || (number(&b.lhs) && b.op == BinaryOp::Mul)),
                BinaryOp::Add | BinaryOp::Sub => both && number(&b.rhs),
                BinaryOp::And | BinaryOp::Or => both,
                _ => false,
            }
        }
        ExprKind::Subquery(_) | ExprKind::String(_) | ExprKind::Unary { .. } => false,
    }
}

/// Whether an evaluation between grid points is worth its cost, once all data of its instant have come.
/// `absent` stays with the grid: nothing arrives that could ask for a look.
pub fn may_be_looked_at_when_complete(expr: &Expr) -> bool {
    let (mut reads, mut cheap) = (false, true);
    expr.walk(&mut |e| match &e.kind {
        ExprKind::Vector(s) => (reads, cheap) = (true, cheap && s.at.is_none()),
        ExprKind::Matrix(s, range) => (reads, cheap) = (true, cheap && s.at.is_none() && *range <= COMPLETE_RANGE_MAX),
        ExprKind::Subquery(_) => cheap = false,
        _ => {}
    });
    reads && cheap
}

/// Functions of single series, or of the buckets of one histogram, which arrive together.
const FUNCTIONS: [&str; 22] = [
    "rate",
    "irate",
    "increase",
    "delta",
    "idelta",
    "max_over_time",
    "sum_over_time",
    "last_over_time",
    "present_over_time",
    "quantile_over_time",
    "avg_over_time",
    "abs",
    "ceil",
    "floor",
    "round",
    "clamp",
    "clamp_min",
    "clamp_max",
    "label_replace",
    "label_join",
    "histogram_quantile",
    "timestamp",
];

fn aggregates(expr: &Expr) -> bool {
    let mut found = false;
    expr.walk(&mut |e| found |= matches!(e.kind, ExprKind::Aggregate(_)));
    found
}

/// The selectors of a rule that arrivals may evaluate.
#[derive(Debug)]
pub struct Watch {
    pub selectors: Vec<Vec<Matcher>>,
    pub dirty: Option<Arc<Dirty>>,
    pub spread: Option<Arc<Spread>>,
}

impl Watch {
    fn touch(&self, newest: Timestamp, now: Timestamp) {
        if let Some(spread) = &self.spread {
            spread.note(newest, now);
        }
        if let Some(dirty) = &self.dirty {
            dirty.touch(now);
        }
    }
}

/// Whether a rule was touched, and since when. Set by writers, taken by the group's task.
#[derive(Debug)]
pub struct Dirty {
    /// Milliseconds; `i64::MIN` when clean.
    first: AtomicI64,
    last: AtomicI64,
    wake: Arc<Notify>,
    /// Of a rule that is looked at when its data are complete.
    complete: Option<Arc<Spread>>,
}

impl Dirty {
    pub fn new(wake: Arc<Notify>, complete: Option<Arc<Spread>>) -> Arc<Self> {
        Arc::new(Self { first: AtomicI64::new(i64::MIN), last: AtomicI64::new(i64::MIN), wake, complete })
    }

    /// How far before the present the rule is looked at.
    pub fn behind(&self, now: Timestamp) -> Duration {
        self.complete.as_ref().map_or(Duration::ZERO, |spread| spread.wait(now))
    }

    pub fn touch(&self, now: Timestamp) {
        self.last.store(now.0, Ordering::Release);
        let was_clean = self.first.compare_exchange(i64::MIN, now.0, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if was_clean {
            self.wake.notify_one();
        }
    }

    /// When the rule should be evaluated; `None` while clean. `took`: its evaluation, the last time.
    pub fn due(&self, last_evaluated: Option<Timestamp>, took: Duration) -> Option<Timestamp> {
        let first = self.first.load(Ordering::Acquire);
        if first == i64::MIN {
            return None;
        }
        let last = Timestamp(self.last.load(Ordering::Acquire).max(first));
        if let Some(spread) = &self.complete {
            let complete = Timestamp(first).plus(spread.wait(last) + SETTLE);
            let pause = COMPLETE_MIN_INTERVAL.max(took * 10);
            return Some(last_evaluated.map_or(complete, |at| complete.max(at.plus(pause))));
        }
        let settled = last.plus(SETTLE).min(Timestamp(first).plus(WAIT_MAX));
        Some(last_evaluated.map_or(settled, |at| settled.max(at.plus(MIN_INTERVAL))))
    }

    /// Before an evaluation: what comes during it makes the rule dirty again.
    pub fn clear(&self) {
        self.first.store(i64::MIN, Ordering::Release);
    }
}

/// The rules of one tenant that arrivals may evaluate, by what they select.
#[derive(Debug, Default)]
pub struct Arrivals {
    watches: Vec<Watch>,
    by_name: HashMap<String, Vec<u32>>,
    /// Rules with a selector that fixes no metric name.
    nameless: Vec<u32>,
    hasher: ahash::RandomState,
    cache: Mutex<HashMap<u64, Option<Arc<[u32]>>, ahash::RandomState>>,
    /// The same by the store's number.
    by_ref: Mutex<HashMap<SeriesRef, Option<Arc<[u32]>>, ahash::RandomState>>,
}

impl Arrivals {
    pub fn new(watches: impl IntoIterator<Item = Watch>) -> Self {
        let mut arrivals = Self::default();
        for watch in watches {
            let idx = arrivals.watches.len() as u32;
            for matchers in &watch.selectors {
                let name = matchers.iter().find(|m| m.name == "__name__" && m.op == weir_model::MatchOp::Equal);
                let list = match name {
                    Some(m) => arrivals.by_name.entry(m.value.clone()).or_default(),
                    None => &mut arrivals.nameless,
                };
                if list.last() != Some(&idx) {
                    list.push(idx);
                }
            }
            arrivals.watches.push(watch);
        }
        arrivals
    }

    /// Marks the rules that read any of these series; `newest` is the time of their newest sample.
    pub fn touch(&self, series: &[Labels], newest: Timestamp, now: Timestamp) {
        if self.watches.is_empty() {
            return;
        }
        for labels in series {
            // A collision of hashes only loses an early look; the grid still sees everything.
            let hash = self.hasher.hash_one(labels);
            let known = self.cache.lock().get(&hash).cloned();
            let rules = known.unwrap_or_else(|| {
                let rules = self.rules_of(labels);
                let mut cache = self.cache.lock();
                if cache.len() >= CACHE_SERIES_MAX {
                    cache.clear();
                }
                cache.insert(hash, rules.clone());
                rules
            });
            for idx in rules.iter().flat_map(|r| r.iter()) {
                self.watches[*idx as usize].touch(newest, now);
            }
        }
    }

    /// The same for series that the store knows by number: labels are looked up once per series.
    pub fn touch_known(
        &self,
        all: impl Iterator<Item = SeriesRef>,
        names: &dyn SeriesNames,
        newest: Timestamp,
        now: Timestamp,
    ) {
        if self.watches.is_empty() {
            return;
        }
        let mut cache = self.by_ref.lock();
        for series in all {
            if cache.len() >= CACHE_SERIES_MAX && !cache.contains_key(&series) {
                cache.clear();
            }
            let rules =
                cache.entry(series).or_insert_with(|| names.labels(series).and_then(|labels| self.rules_of(&labels)));
            for idx in rules.iter().flat_map(|r| r.iter()) {
                self.watches[*idx as usize].touch(newest, now);
            }
        }
    }

    fn rules_of(&self, labels: &Labels) -> Option<Arc<[u32]>> {
        let named = self.by_name.get(labels.metric_name()).into_iter().flatten();
        let mut rules: Vec<u32> = named
            .chain(&self.nameless)
            .copied()
            .filter(|idx| {
                let selectors = &self.watches[*idx as usize].selectors;
                selectors.iter().any(|matchers| weir_model::matcher::all_match(matchers, labels))
            })
            .collect();
        rules.sort_unstable();
        rules.dedup();
        (!rules.is_empty()).then(|| rules.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_grows_with_data_is_looked_at_early() {
        let check = |text: &str, want: bool| {
            assert_eq!(grows_with_data(&weir_promql::parse(text).unwrap()), want, "{text}");
        };
        check("up == 0", true);
        check("lag_seconds > 5", true);
        check("sum by (job) (rate(errors_total[1m])) > 0.5", true);
        check("histogram_quantile(0.99, sum by (le) (rate(x_bucket[1m]))) > 0.2", true);
        check("max(lag) * 2 >= 10", true);
        check("(a > 1) and (b > 2)", true);
        check("sum(rate(errors[1m])) / sum(rate(all[1m])) > 0.1", false);
        check("absent(up)", false);
        check("rate(x[1m]) < 5", false);
        check("count(up) > 3", false);
        check("sum(up) == 0", false);
        check("a unless b", false);
        check("up offset 5m > 0", false);
        check("min(up) > 0", false);
        check("a > bool 1", false);
        check("a > b", false);
    }

    #[test]
    fn a_touched_rule_waits_until_it_is_quiet_but_not_for_ever() {
        let dirty = Dirty::new(Arc::new(Notify::new()), None);
        let check = |last: Option<i64>, want: Option<i64>| {
            assert_eq!(dirty.due(last.map(Timestamp), Duration::ZERO), want.map(Timestamp));
        };
        check(None, None);
        dirty.touch(Timestamp(1000));
        check(None, Some(1050));
        dirty.touch(Timestamp(1040));
        check(None, Some(1090));
        check(Some(1020), Some(1120));
        dirty.touch(Timestamp(1140));
        check(None, Some(1150));
        dirty.clear();
        check(None, None);
    }

    #[test]
    fn a_ratio_is_looked_at_when_its_data_are_complete() {
        let spread = Arc::new(Spread::new(Timestamp(0)));
        let dirty = Dirty::new(Arc::new(Notify::new()), Some(spread.clone()));
        spread.note(Timestamp(99_000), Timestamp(100_000));
        dirty.touch(Timestamp(100_000));
        dirty.touch(Timestamp(100_400));
        let check = |last: Option<i64>, took_ms: u64, want: i64| {
            let due = dirty.due(last.map(Timestamp), Duration::from_millis(took_ms));
            assert_eq!(due, Some(Timestamp(want)), "{last:?} {took_ms}");
        };
        // The first touch and a second's delay, a quarter to spare, and the settling.
        check(None, 0, 101_300);
        check(Some(100_900), 0, 101_900);
        check(Some(100_900), 300, 103_900);
        assert_eq!(dirty.behind(Timestamp(101_300)), Duration::from_millis(1250));
        let check = |text: &str, want: bool| {
            assert_eq!(may_be_looked_at_when_complete(&weir_promql::parse(text).unwrap()), want, "{text}");
        };
        check("sum(rate(a[5m])) / sum(rate(b[5m])) > 0.1", true);
        check("sum(rate(a[3d])) / sum(rate(b[3d])) > 0.1", false);
        check("max_over_time(a[5m:1m]) < 1", false);
        check("vector(1) < 2", false);
        check("a @ 5 < 2", false);
    }

    #[test]
    fn a_commit_touches_the_rules_that_read_it() {
        let wake = Arc::new(Notify::new());
        let dirty: Vec<_> = (0..3).map(|_| Dirty::new(wake.clone(), None)).collect();
        let watch = |text: &str, k: usize| Watch {
            selectors: vec![weir_promql::parse_selector(text).unwrap()],
            dirty: Some(dirty[k].clone()),
            spread: None,
        };
        let arrivals = Arrivals::new([watch("up{job=\"a\"}", 0), watch("{job=~\"a|b\"}", 1), watch("down", 2)]);
        // Twice, so that the cache answers the second time.
        for _ in 0..2 {
            dirty.iter().for_each(|d| d.clear());
            arrivals.touch(&[Labels::from_pairs([("__name__", "up"), ("job", "b")])], Timestamp(5), Timestamp(5));
            let touched: Vec<bool> = dirty.iter().map(|d| d.due(None, Duration::ZERO).is_some()).collect();
            assert_eq!(touched, [false, true, false]);
            arrivals.touch(&[Labels::from_pairs([("__name__", "up"), ("job", "a")])], Timestamp(5), Timestamp(5));
            let touched: Vec<bool> = dirty.iter().map(|d| d.due(None, Duration::ZERO).is_some()).collect();
            assert_eq!(touched, [true, true, false]);
        }
    }
}
