//! What a query reads: each selector with the time it needs, read once for all steps.

use std::time::Duration;

use weir_model::labels::METRIC_NAME;
use weir_model::source::Rollup;
use weir_model::{MatchOp, Matcher};

use crate::ast::*;

/// A selector inside an expression, for those who follow its input (rules, caches, exemplars).
#[derive(Clone, Copy, Debug)]
pub struct SelectorRef<'a> {
    pub matchers: &'a [Matcher],
    /// The range of `x[5m]`; `None` for an instant vector.
    pub range: Option<Duration>,
    /// Oldest sample that counts, before the evaluation time: range or lookback, offsets and
    /// enclosing subqueries together. Without meaning under `@`.
    pub reach: Duration,
    /// `@` fixes its time, so that later samples do not change it.
    pub fixed: bool,
    pub span: Span,
}

/// Every selector, left to right, with `lookback` for instant vectors.
pub fn selectors(expr: &Expr, lookback: Duration) -> Vec<SelectorRef<'_>> {
    let mut found = Vec::new();
    collect(expr, millis(lookback), 0, false, &mut found);
    found
}

pub(crate) fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

fn collect<'a>(expr: &'a Expr, lookback: i64, outer: i64, fixed: bool, found: &mut Vec<SelectorRef<'a>>) {
    let mut push = |selector: &'a VectorSelector, range: Option<Duration>| {
        let reach = outer.saturating_add(range.map_or(lookback, millis)).saturating_add(selector.offset_ms);
        found.push(SelectorRef {
            matchers: &selector.matchers,
            range,
            reach: Duration::from_millis(u64::try_from(reach).unwrap_or(0)),
            fixed: fixed || selector.at.is_some(),
            span: expr.span,
        });
    };
    match &expr.kind {
        ExprKind::Vector(selector) => push(selector, None),
        ExprKind::Matrix(selector, range) => push(selector, Some(*range)),
        ExprKind::Subquery(sub) => {
            let outer = outer.saturating_add(millis(sub.range)).saturating_add(sub.offset_ms);
            collect(&sub.expr, lookback, outer, fixed || sub.at.is_some(), found);
        }
        kind => kind.for_each_child(&mut |child| collect(child, lookback, outer, fixed, found)),
    }
}

/// Evaluation times: `start`, `start + step`, … `n` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Steps {
    pub start: i64,
    /// At least 1.
    pub step: i64,
    pub n: usize,
}

impl Steps {
    pub fn one(at: i64) -> Self {
        Self { start: at, step: 1, n: 1 }
    }
    /// From `start` to at most `end`.
    pub fn range(start: i64, end: i64, step: i64) -> Self {
        let n = if end < start { 0 } else { (end.saturating_sub(start) / step).saturating_add(1) };
        Self { start, step, n: usize::try_from(n).unwrap_or(usize::MAX) }
    }
    pub fn at(&self, idx: usize) -> i64 {
        self.start.saturating_add(self.step.saturating_mul(idx as i64))
    }
    pub fn end(&self) -> i64 {
        self.at(self.n.saturating_sub(1))
    }
    pub fn iter(&self) -> impl Iterator<Item = i64> + use<> {
        let steps = *self;
        (0..steps.n).map(move |idx| steps.at(idx))
    }
}

/// The steps of a subquery: multiples of its step within (first start − range, last end].
pub(crate) fn subquery_steps(sub: &Subquery, outer: &Steps, default_step_ms: i64) -> Steps {
    let (first, last) = match sub.at {
        Some(At::Time(t)) => (t.0, t.0),
        _ => (outer.start, outer.end()),
    };
    let step = sub.step.map_or(default_step_ms, millis).max(1);
    let after = first.saturating_sub(sub.offset_ms).saturating_sub(millis(sub.range));
    let start = after.div_euclid(step).saturating_add(1).saturating_mul(step);
    Steps::range(start, last.saturating_sub(sub.offset_ms), step)
}

/// One read: all series that match, samples within [start, end] milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fetch {
    pub matchers: Vec<Matcher>,
    pub start: i64,
    pub end: i64,
    /// What is read of buckets; the same everywhere unless the store has some.
    pub rollup: Rollup,
    /// Nothing but count and sum of histograms is asked for. Upstream then finds out itself whether
    /// a counter started anew, so that notes on conflicting hints depend on it.
    pub only_counts: bool,
}

/// Which kinds of functions stand around a selector.
#[derive(Clone, Copy, Default)]
pub(crate) struct Around {
    counts: bool,
    buckets: bool,
    /// What the function right around a range vector makes of it.
    rollup: Rollup,
}

/// The longest buckets that any store has.
pub(crate) const BUCKET_MAX_MS: i64 = 3_600_000;

pub(crate) struct Planner {
    top: Steps,
    lookback_ms: i64,
    subquery_step_ms: i64,
    fetches: Vec<Fetch>,
    around: Around,
    /// The longest buckets that the query meets, 0 when it meets none.
    bucket_ms: i64,
}

impl Planner {
    pub fn new(top: Steps, lookback_ms: i64, subquery_step_ms: i64) -> Self {
        Self { top, lookback_ms, subquery_step_ms, fetches: Vec::new(), around: Around::default(), bucket_ms: 0 }
    }

    /// What is to be read. `coarsest` tells the longest buckets that a fetch meets: for those, it begins earlier and
    /// asks for what its function needs of them.
    pub fn fetches(mut self, expr: &mut Expr, steps: &Steps, coarsest: impl Fn(&Fetch) -> i64) -> Vec<Fetch> {
        self.plan(expr, steps);
        self.bucket_ms = self.fetches.iter().map(coarsest).max().unwrap_or(0);
        if self.bucket_ms > 0 {
            self.fetches.clear();
            self.plan(expr, steps);
        }
        self.fetches
    }

    /// Fixes `@ start()` and `@ end()`, and gives every selector its fetch.
    fn plan(&mut self, expr: &mut Expr, steps: &Steps) {
        let outer = self.around;
        self.around.rollup = match &expr.kind {
            ExprKind::Call(call) => call.function.rollup(),
            ExprKind::Paren(_) | ExprKind::Matrix(..) => outer.rollup,
            _ => Rollup::Last,
        };
        match &expr.kind {
            ExprKind::Call(call) => match call.function.name {
                "histogram_count" | "histogram_sum" | "histogram_avg" => self.around.counts = true,
                "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => self.around.buckets = true,
                _ => {}
            },
            ExprKind::Subquery(_) => self.around.buckets = true,
            ExprKind::Binary(b) if matches!(b.op, BinaryOp::TrimUpper | BinaryOp::TrimLower) => {
                self.around.buckets = true;
            }
            _ => {}
        }
        self.plan_node(expr, steps);
        self.around = outer;
    }

    fn plan_node(&mut self, expr: &mut Expr, steps: &Steps) {
        match &mut expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => {}
            ExprKind::Vector(selector) => {
                let ahead = if selector.extended == Some(Extended::Smoothed) { self.lookback_ms } else { 0 };
                self.fetch(selector, steps, self.lookback_ms, ahead);
            }
            ExprKind::Matrix(selector, range) => {
                let (more, ahead) = match selector.extended {
                    None => (0, 0),
                    Some(Extended::Anchored) => (self.lookback_ms, 0),
                    Some(Extended::Smoothed) => (self.lookback_ms, self.lookback_ms),
                };
                self.fetch(selector, steps, millis(*range).saturating_add(more), ahead);
            }
            ExprKind::Subquery(sub) => {
                self.fix(&mut sub.at);
                let inner = subquery_steps(sub, steps, self.subquery_step_ms);
                self.plan(&mut sub.expr, &inner);
            }
            ExprKind::Call(call) => {
                if call.function.name == "info" {
                    add_info_selector(call, expr.span);
                }
                call.args.iter_mut().for_each(|arg| self.plan(arg, steps));
            }
            ExprKind::Aggregate(agg) => {
                if let Some(param) = &mut agg.param {
                    self.plan(param, steps);
                }
                self.plan(&mut agg.expr, steps);
            }
            ExprKind::Binary(b) => {
                self.plan(&mut b.lhs, steps);
                self.plan(&mut b.rhs, steps);
            }
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => self.plan(expr, steps),
        }
    }

    fn fix(&self, at: &mut Option<At>) {
        match at {
            Some(At::Start) => *at = Some(At::Time(weir_model::Timestamp(self.top.start))),
            Some(At::End) => *at = Some(At::Time(weir_model::Timestamp(self.top.end()))),
            Some(At::Time(_)) | None => {}
        }
    }

    fn fetch(&mut self, selector: &mut VectorSelector, steps: &Steps, reach_ms: i64, ahead_ms: i64) {
        self.fix(&mut selector.at);
        let (first, last) = match selector.at {
            Some(At::Time(t)) => (t.0, t.0),
            _ => (steps.start, steps.end()),
        };
        // Windows over buckets begin at an edge, are one bucket long at least, and may need the sample before.
        let reach_ms = reach_ms.saturating_add(self.bucket_ms.saturating_mul(3));
        let start = first.saturating_sub(selector.offset_ms).saturating_sub(reach_ms).saturating_add(1);
        let end = last.saturating_sub(selector.offset_ms).saturating_add(ahead_ms);
        // The same series at overlapping times are read once: `rate(x[5m]) / x`.
        let only_counts = self.around.counts && !self.around.buckets;
        let rollup = if self.bucket_ms > 0 { self.around.rollup } else { Rollup::Last };
        let alike = |f: &Fetch| f.only_counts == only_counts && f.rollup == rollup && f.matchers == selector.matchers;
        let touches = |f: &Fetch| alike(f) && f.start <= end && start <= f.end;
        selector.slot = match self.fetches.iter().position(touches) {
            Some(idx) => {
                let fetch = &mut self.fetches[idx];
                (fetch.start, fetch.end) = (fetch.start.min(start), fetch.end.max(end));
                idx
            }
            None => {
                self.fetches.push(Fetch { matchers: selector.matchers.clone(), start, end, rollup, only_counts });
                self.fetches.len() - 1
            }
        };
    }
}

/// Makes the second argument of `info()` the selector of the info series: by name, at the time at
/// which the first argument reads.
fn add_info_selector(call: &mut Call, span: Span) {
    let (at, offset_ms) = first_time(&call.args[0]).unwrap_or((None, 0));
    let mut matchers = match call.args.get(1).map(|arg| &arg.unparen().kind) {
        Some(ExprKind::Vector(selector)) => selector.matchers.clone(),
        _ => Vec::new(),
    };
    let of_name = || matchers.iter().filter(|m| m.name == METRIC_NAME);
    let picks = of_name().any(|m| matches!(m.op, MatchOp::Equal | MatchOp::Regex));
    if !picks && of_name().next().is_some() {
        matchers.extend(Matcher::new(METRIC_NAME, MatchOp::Regex, ".+_info"));
    } else if !picks {
        matchers.push(Matcher::equal(METRIC_NAME, "target_info"));
    }
    let selector = VectorSelector { matchers, at, offset_ms, ..VectorSelector::default() };
    call.args.truncate(1);
    call.args.push(Expr::new(ExprKind::Vector(selector), span));
}

/// `@` and offset of the first selector, those of subqueries around it included.
fn first_time(expr: &Expr) -> Option<(Option<At>, i64)> {
    match &expr.kind {
        ExprKind::Vector(selector) | ExprKind::Matrix(selector, _) => Some((selector.at, selector.offset_ms)),
        ExprKind::Subquery(sub) => match first_time(&sub.expr)? {
            (None, offset_ms) => Some((sub.at, offset_ms.saturating_add(sub.offset_ms))),
            fixed => Some(fixed),
        },
        kind => {
            let mut found = None;
            kind.for_each_child(&mut |child| found = found.or_else(|| first_time(child)));
            found
        }
    }
}

/// Whether the value is the same at every step, because `@` fixes everything it reads.
pub(crate) fn is_step_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => true,
        ExprKind::Vector(selector) | ExprKind::Matrix(selector, _) => selector.at.is_some(),
        ExprKind::Subquery(sub) => sub.at.is_some(),
        ExprKind::Call(call) => {
            let timed = ["time", "timestamp", "predict_linear", "info"].contains(&call.function.name)
                || (call.args.is_empty() && !["pi", "start", "end", "step", "range"].contains(&call.function.name));
            !timed && call.args.iter().all(is_step_invariant)
        }
        kind => {
            let mut all = true;
            kind.for_each_child(&mut |child| all &= is_step_invariant(child));
            all
        }
    }
}
