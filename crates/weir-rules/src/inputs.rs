//! Whether what a rule reads still arrives: the difference between "no longer true" and "no longer told".
//!
//! An alert remembers how many series of each selector arrived while it was complete. When it is no longer
//! found, fewer series than that mean that its absence says nothing, unless the missing ones ended for good:
//! their source lives on without them, or was taken off the list of targets.

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_model::{Labels, Matcher, Sample, Timestamp};
use weir_promql::{Expr, ExprKind};

/// How far back it is looked for samples: as long as a lost series is remembered, and as far as the expression's
/// range reaches, up to an hour.
const WINDOW: Duration = PARTIAL_MAX;
const WINDOW_MAX: Duration = Duration::from_secs(3600);
/// Part of the input may be missing for so long before the alert is taken for what the rest says.
pub const PARTIAL_MAX: Duration = Duration::from_secs(15 * 60);
/// The whole input may.
pub const WHOLE_MAX: Duration = Duration::from_secs(6 * 3600);
/// Taken for the pace of a series of which a single sample is seen.
const SLOW: Duration = Duration::from_secs(60);
/// Slack of scrapes and timers.
const JITTER: Duration = Duration::from_millis(100);
/// Kinds of label sets that are told apart; beyond, series count for every alert.
const SHAPES_MAX: usize = 64;

/// A selector whose series must arrive for an alert's absence to say something.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watched {
    pub matchers: Vec<Matcher>,
    pub offset_ms: i64,
    /// What the expression reads of it; zero for the newest sample alone.
    pub range: Duration,
}

impl Watched {
    pub fn window(&self) -> Duration {
        self.range.clamp(WINDOW, WINDOW_MAX)
    }
}

/// The selectors of an expression. Not those in `absent`, whose absence is the message, nor those at a fixed time.
/// `recorded` gives the expression behind a recorded metric: it stands for what it is made of.
pub fn watched<'a>(expr: &'a Expr, recorded: &HashMap<&str, &'a Expr>) -> Vec<Watched> {
    let mut found = Vec::new();
    collect(expr, recorded, 0, &mut found);
    found
}

/// Rules upon rules upon rules.
const DEPTH_MAX: usize = 8;

fn collect<'a>(expr: &'a Expr, recorded: &HashMap<&str, &'a Expr>, depth: usize, out: &mut Vec<Watched>) {
    match &expr.kind {
        ExprKind::Call(call) if matches!(call.function.name, "absent" | "absent_over_time") => return,
        ExprKind::Vector(s) | ExprKind::Matrix(s, _) if s.at.is_none() => {
            let range = if let ExprKind::Matrix(_, range) = &expr.kind { *range } else { Duration::ZERO };
            let name = s.matchers.iter().find(|m| m.name == "__name__" && m.op == weir_model::MatchOp::Equal);
            let name = name.map_or("", |m| &*m.value);
            match recorded.get(name) {
                Some(behind) if depth < DEPTH_MAX => collect(behind, recorded, depth + 1, out),
                _ if name.starts_with("ALERTS") => {}
                _ => {
                    let watched = Watched { matchers: s.matchers.clone(), offset_ms: s.offset_ms, range };
                    if !out.contains(&watched) {
                        out.push(watched);
                    }
                }
            }
        }
        _ => {}
    }
    expr.kind.for_each_child(&mut |child| collect(child, recorded, depth, out));
}

/// How one series stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Arriving,
    /// A sample is overdue, not for long yet; or it arrives again, and a range still has the hole in it.
    Late,
    /// It ended, and its source lives on or was let go.
    Ended,
    Stopped,
}

/// How a series stands at `at` by its samples up to then, ascending, for an expression that reads `range` of it.
/// `Err` when it has ended by a marker or stopped, and it depends on its source which of the two it is.
pub fn standing(samples: impl Iterator<Item = Sample>, at: Timestamp, range: Duration) -> Result<Standing, ()> {
    let from = at.minus(range.min(WINDOW_MAX));
    let (mut last, mut ended) = (None::<Timestamp>, false);
    // The longest time in the range without a sample, and that at its beginning, which a rate misses most.
    let (mut hole, mut edge) = (Duration::ZERO, None);
    let mut gaps = Vec::new();
    for sample in samples {
        ended = weir_model::is_stale(sample.value);
        if ended {
            continue;
        }
        if sample.at >= from {
            edge.get_or_insert(sample.at.since(from));
        }
        if let Some(before) = last.replace(sample.at) {
            let gap = sample.at.since(before);
            hole = hole.max(sample.at.since(before.max(from)));
            gaps.push(gap);
        }
    }
    let Some(last) = last.filter(|_| !ended) else { return Err(()) };
    // Its usual pace, whatever outages there were.
    let middle = gaps.len() / 2;
    let every = if gaps.is_empty() { SLOW } else { *gaps.select_nth_unstable(middle).1 };
    let age = at.since(last);
    let in_time = every + every / 4 + JITTER;
    let whole = range.is_zero() || (!gaps.is_empty() && hole <= every * 3 && edge.is_some_and(|e| e <= every + JITTER));
    match () {
        () if !whole && age <= every * 3 => Ok(Standing::Late),
        () if age <= in_time => Ok(Standing::Arriving),
        () if age <= every * 3 => Ok(Standing::Late),
        () => Err(()),
    }
}

/// One series and how it stands.
#[derive(Clone, Debug)]
pub struct Input {
    pub labels: Labels,
    pub standing: Standing,
    /// Its first and last sample within the window.
    pub first: Timestamp,
    pub last: Timestamp,
}

/// Of one selector.
pub type Series = Vec<Input>;

/// What takes the place of another begins at most so long before the other stops.
const HANDOVER: Duration = Duration::from_secs(120);

/// Series of one selector by how they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    arriving: u32,
    late: u32,
    ended: u32,
    stopped: u32,
    young: u32,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.arriving += other.arriving;
        self.late += other.late;
        self.ended += other.ended;
        self.stopped += other.stopped;
        self.young += other.young;
    }
    /// `first_stop`: since when series of the selector have stopped.
    fn of(input: &Input, first_stop: Option<Timestamp>) -> Self {
        let one = |is: Standing| u32::from(input.standing == is);
        let (late, stopped) = (one(Standing::Late), one(Standing::Stopped));
        let replaces = first_stop.is_some_and(|stop| input.first > stop.minus(HANDOVER));
        let young = u32::from(replaces && input.standing == Standing::Arriving);
        Self { arriving: one(Standing::Arriving), late, ended: one(Standing::Ended), stopped, young }
    }
}

/// What a rule's selectors read, so sorted that each alert's part of it is found at once.
pub struct Seen {
    /// Label names of the alerts that may ask.
    names: Vec<String>,
    selectors: Vec<Vec<Shape>>,
}

/// Series that have the same of the asked labels.
struct Shape {
    names: Vec<String>,
    counts: HashMap<Vec<String>, Counts>,
}

impl Seen {
    /// `names`: of the labels by which alerts differ.
    pub fn new(mut names: Vec<String>, selectors: Vec<Series>) -> Self {
        names.sort();
        names.dedup();
        let selectors = selectors.iter().map(|series| shapes(&names, series)).collect();
        Self { names, selectors }
    }

    /// Per selector, the series that an element with these labels may come from: all whose labels do not
    /// contradict it.
    pub fn counts(&self, element: &Labels) -> Vec<Counts> {
        let of = |shapes: &Vec<Shape>| {
            let mut sum = Counts::default();
            for shape in shapes {
                let asked: Vec<&String> = shape.names.iter().filter(|n| element.get(n).is_some()).collect();
                if asked.len() == shape.names.len() {
                    let key: Vec<String> = shape.names.iter().map(|n| element.value(n).to_owned()).collect();
                    sum.add(shape.counts.get(&key).copied().unwrap_or_default());
                    continue;
                }
                for (key, counts) in &shape.counts {
                    let fits = |(name, value): (&String, &String)| element.get(name).is_none_or(|v| v == value);
                    if shape.names.iter().zip(key).all(fits) {
                        sum.add(*counts);
                    }
                }
            }
            sum
        };
        debug_assert!(self.names.is_sorted());
        self.selectors.iter().map(of).collect()
    }
}

fn shapes(names: &[String], series: &Series) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    let first_stop = series.iter().filter(|i| i.standing == Standing::Stopped).map(|i| i.last).min();
    for input in series {
        let labels = &input.labels;
        let mut has: Vec<String> = names.iter().filter(|n| labels.get(n).is_some()).cloned().collect();
        if shapes.len() >= SHAPES_MAX && !shapes.iter().any(|s| s.names == has) {
            has.clear();
        }
        let at = shapes.iter().position(|s| s.names == has).unwrap_or_else(|| {
            shapes.push(Shape { names: has, counts: HashMap::new() });
            shapes.len() - 1
        });
        let shape = &mut shapes[at];
        let key = shape.names.iter().map(|n| labels.value(n).to_owned()).collect();
        shape.counts.entry(key).or_default().add(Counts::of(input, first_stop));
    }
    shapes
}

/// What an alert's absence says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// All that it was made of is there: it does not hold any more.
    Said,
    /// Something is late; the next evaluation will know.
    Late,
    /// The input stopped.
    Unknown,
}

/// How many series of each selector arrived when an alert's input was last complete, and when that was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    selectors: Vec<(u32, Timestamp)>,
    missing_since: Option<Timestamp>,
}

impl Baseline {
    /// At an evaluation that found the alert.
    pub fn learn(&mut self, counts: &[Counts], now: Timestamp) {
        self.missing_since = None;
        if self.selectors.is_empty() {
            // What had stopped before it fired is missing as well, unless others came in its place.
            let all = |c: &Counts| (c.arriving + c.late + c.stopped.saturating_sub(c.young), now);
            self.selectors = counts.iter().map(all).collect();
        }
        self.selectors.resize(counts.len(), (0, now));
        for ((n, at), counts) in self.selectors.iter_mut().zip(counts) {
            let complete = counts.arriving + counts.ended >= *n;
            if complete || now.since(*at) > PARTIAL_MAX {
                (*n, *at) = (counts.arriving, now);
            }
        }
    }

    /// At an evaluation that did not find it.
    pub fn absence(&mut self, counts: &[Counts], now: Timestamp) -> Absence {
        let missing = |((n, _), counts): (&(u32, Timestamp), &Counts)| {
            let missing = n.saturating_sub(counts.arriving + counts.ended);
            (missing > 0).then_some((missing > counts.late, counts.arriving + counts.late == 0))
        };
        let found: Vec<(bool, bool)> = self.selectors.iter().zip(counts).filter_map(missing).collect();
        if found.is_empty() {
            self.learn(counts, now);
            return Absence::Said;
        }
        let since = *self.missing_since.get_or_insert(now);
        let whole = found.iter().any(|(_, whole)| *whole);
        if now.since(since) > if whole { WHOLE_MAX } else { PARTIAL_MAX } {
            return Absence::Said;
        }
        if found.iter().any(|(stopped, _)| *stopped) { Absence::Unknown } else { Absence::Late }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_arrive_is_read_from_the_expression() {
        let check = |text: &str, want: &[&str]| {
            let behind = weir_promql::parse("sum by (job) (rate(errors[5m]))").unwrap();
            let recorded = HashMap::from([("job:errors", &behind)]);
            let expr = weir_promql::parse(text).unwrap();
            let found = watched(&expr, &recorded);
            let shown: Vec<String> = found
                .iter()
                .map(|w| w.matchers.iter().map(|m| format!("{}{}{}", m.name, m.op.as_str(), m.value)).collect())
                .collect();
            assert_eq!(shown, want, "{text}");
        };
        check("a > 1 and b > 2", &["__name__=a", "__name__=b"]);
        check("sum(rate(a[5m])) / sum(rate(a[5m])) > 1", &["__name__=a"]);
        check("absent(a) or b == 0", &["__name__=b"]);
        check("job:errors > 5", &["__name__=errors"]);
        check("count(ALERTS) > 3", &[]);
        check("max_over_time(rate(a[1m])[5m:1m]) > 0", &["__name__=a"]);
        check("a @ 5 > 0", &[]);
    }

    #[test]
    fn a_series_stands_as_its_own_pace_says() {
        let check = |seconds: &[i64], at: i64, want: Result<Standing, ()>| {
            let samples = seconds.iter().map(|s| {
                let at = Timestamp(s.abs() * 1000);
                if *s < 0 { Sample::stale(at) } else { Sample { at, value: 1.0 } }
            });
            assert_eq!(standing(samples, Timestamp(at * 1000), Duration::ZERO), want, "{seconds:?} at {at}");
        };
        use Standing::{Arriving, Late};
        check(&[0, 15, 30, 45], 60, Ok(Arriving));
        check(&[0, 15, 30, 45], 65, Ok(Late));
        check(&[0, 15, 30, 45], 91, Err(()));
        check(&[0, 15, 30, -45], 46, Err(()));
        check(&[0, 15, -20, 30], 46, Ok(Arriving));
        // One outage does not make a series slow.
        check(&[0, 15, 150, 165, 180], 200, Ok(Late));
        check(&[10], 70, Ok(Arriving));
        check(&[10], 250, Err(()));
        check(&[], 250, Err(()));
        // A range sees the hole until it has passed by.
        let check = |from: i64, at: i64, range: u64, want: Standing| {
            let times = (0..100).map(|k| k * 15).filter(|s| *s >= from && *s <= at);
            let samples = times.map(|s| Sample { at: Timestamp(s * 1000), value: 1.0 });
            let got = standing(samples, Timestamp(at * 1000), Duration::from_secs(range));
            assert_eq!(got, Ok(want), "from {from} at {at} over {range}");
        };
        check(0, 300, 60, Arriving);
        check(300, 330, 60, Late);
        check(300, 375, 60, Arriving);
        check(300, 345, 120, Late);
        check(300, 390, 120, Late);
        check(300, 405, 120, Arriving);
    }

    fn input<const N: usize>(pairs: [(&str, &str); N], standing: Standing) -> Input {
        Input { labels: Labels::from_pairs(pairs), standing, first: Timestamp(0), last: Timestamp(0) }
    }

    fn series(n: u32, standing: Standing) -> Series {
        (0..n).map(|k| input([("i", &*k.to_string()), ("job", "a")], standing)).collect()
    }

    #[test]
    fn each_alert_looks_at_its_own_series() {
        let mut all = series(3, Standing::Arriving);
        all.push(input([("i", "9"), ("job", "b")], Standing::Stopped));
        all.push(input([("other", "x")], Standing::Late));
        let seen = Seen::new(vec!["job".to_owned(), "i".to_owned()], vec![all]);
        let check = |pairs: &[(&str, &str)], arriving: u32, late: u32| {
            let got = seen.counts(&Labels::from_pairs(pairs.iter().copied()))[0];
            assert_eq!((got.arriving, got.late), (arriving, late), "{pairs:?}");
        };
        check(&[("job", "a")], 3, 1);
        check(&[("job", "a"), ("i", "1")], 1, 1);
        check(&[("job", "b"), ("i", "9")], 0, 1);
        check(&[("job", "c")], 0, 1);
        check(&[], 3, 1);
    }

    #[test]
    fn absence_is_believed_when_what_was_there_is_there() {
        let counts = |arriving, late, ended| vec![Counts { arriving, late, ended, ..Counts::default() }];
        let at = |s: i64| Timestamp(s * 1000);
        let learned = || {
            let mut baseline = Baseline::default();
            baseline.learn(&counts(10, 0, 0), at(0));
            baseline
        };
        let check = |c: Vec<Counts>, want: Absence| assert_eq!(learned().absence(&c, at(15)), want, "{c:?}");
        check(counts(10, 0, 0), Absence::Said);
        check(counts(11, 0, 0), Absence::Said);
        check(counts(9, 1, 0), Absence::Late);
        check(counts(9, 0, 0), Absence::Unknown);
        check(counts(8, 1, 0), Absence::Unknown);
        check(counts(9, 0, 1), Absence::Said);
        check(counts(0, 0, 0), Absence::Unknown);
        // What had stopped before it fired, and what was replaced.
        for (young, want) in [(0, Absence::Unknown), (2, Absence::Said)] {
            let mut baseline = Baseline::default();
            let counts = vec![Counts { arriving: 8, stopped: 2, young, ..Counts::default() }];
            baseline.learn(&counts, at(0));
            assert_eq!(baseline.absence(&counts, at(15)), want, "{young} young");
        }
        // Not for ever: a part sooner than the whole.
        for (c, max) in [(counts(9, 0, 0), PARTIAL_MAX), (counts(0, 0, 0), WHOLE_MAX)] {
            let mut baseline = learned();
            assert_eq!(baseline.absence(&c, at(15)), Absence::Unknown);
            assert_eq!(baseline.absence(&c, at(15).plus(max)), Absence::Unknown);
            assert_eq!(baseline.absence(&c, at(16).plus(max)), Absence::Said);
        }
        // Found with fewer for a while: the lost one is not forgotten at once.
        let mut baseline = learned();
        baseline.learn(&counts(9, 0, 0), at(30));
        assert_eq!(baseline.absence(&counts(9, 0, 0), at(45)), Absence::Unknown);
        baseline.learn(&counts(9, 0, 0), at(30).plus(PARTIAL_MAX));
        assert_eq!(baseline.absence(&counts(9, 0, 0), at(60).plus(PARTIAL_MAX)), Absence::Said);
    }
}
