//! What a query reads: each selector with the time it needs, read once for all steps.

use std::time::Duration;

use weir_model::Matcher;

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
}

pub(crate) struct Planner {
    pub top: Steps,
    pub lookback_ms: i64,
    pub subquery_step_ms: i64,
    pub fetches: Vec<Fetch>,
}

impl Planner {
    /// Fixes `@ start()` and `@ end()`, and gives every selector its fetch.
    pub fn plan(&mut self, expr: &mut Expr, steps: &Steps) {
        match &mut expr.kind {
            ExprKind::Number(_) | ExprKind::String(_) => {}
            ExprKind::Vector(selector) => self.fetch(selector, steps, self.lookback_ms),
            ExprKind::Matrix(selector, range) => self.fetch(selector, steps, millis(*range)),
            ExprKind::Subquery(sub) => {
                self.fix(&mut sub.at);
                let inner = subquery_steps(sub, steps, self.subquery_step_ms);
                self.plan(&mut sub.expr, &inner);
            }
            ExprKind::Call(call) => call.args.iter_mut().for_each(|arg| self.plan(arg, steps)),
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

    fn fetch(&mut self, selector: &mut VectorSelector, steps: &Steps, reach_ms: i64) {
        self.fix(&mut selector.at);
        let (first, last) = match selector.at {
            Some(At::Time(t)) => (t.0, t.0),
            _ => (steps.start, steps.end()),
        };
        let start = first.saturating_sub(selector.offset_ms).saturating_sub(reach_ms).saturating_add(1);
        let end = last.saturating_sub(selector.offset_ms);
        // The same series at overlapping times are read once: `rate(x[5m]) / x`.
        let touches = |f: &Fetch| f.matchers == selector.matchers && f.start <= end && start <= f.end;
        selector.slot = match self.fetches.iter().position(touches) {
            Some(idx) => {
                let fetch = &mut self.fetches[idx];
                (fetch.start, fetch.end) = (fetch.start.min(start), fetch.end.max(end));
                idx
            }
            None => {
                self.fetches.push(Fetch { matchers: selector.matchers.clone(), start, end });
                self.fetches.len() - 1
            }
        };
    }
}

/// Whether the value is the same at every step, because `@` fixes everything it reads.
pub(crate) fn is_step_invariant(expr: &Expr) -> bool {
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::String(_) => true,
        ExprKind::Vector(selector) | ExprKind::Matrix(selector, _) => selector.at.is_some(),
        ExprKind::Subquery(sub) => sub.at.is_some(),
        ExprKind::Call(call) => {
            let timed = ["time", "timestamp", "predict_linear"].contains(&call.function.name)
                || (call.args.is_empty() && call.function.name != "pi");
            !timed && call.args.iter().all(is_step_invariant)
        }
        kind => {
            let mut all = true;
            kind.for_each_child(&mut |child| all &= is_step_invariant(child));
            all
        }
    }
}
