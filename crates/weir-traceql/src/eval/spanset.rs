//! Pipelines over the span sets of one trace.

use super::Trace;
use super::value::{self, Value};
use crate::ast::{AggregateOp, FieldExpr, Pipeline, Relation, ScalarExpr, Selection, SpansetExpr, SpansetOp, Stage};

/// Indices into the trace, ascending, without repetition.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SpanSet {
    pub(crate) spans: Vec<usize>,
    /// What `by()` grouped on: the expression as written and its value.
    pub(crate) groups: Vec<(String, Option<weir_model::AttrValue>)>,
}

/// The span sets that remain, none empty.
pub(crate) fn run(pipeline: &Pipeline, trace: &Trace<'_>) -> Vec<SpanSet> {
    let all = SpanSet { spans: (0..trace.spans.len()).collect(), groups: Vec::new() };
    run_on(pipeline, trace, all)
}

fn run_on(pipeline: &Pipeline, trace: &Trace<'_>, input: SpanSet) -> Vec<SpanSet> {
    let mut sets = vec![select(&pipeline.first, trace, &input)];
    for stage in &pipeline.stages {
        sets.retain(|set| !set.spans.is_empty());
        if sets.is_empty() {
            break;
        }
        sets = apply(stage, trace, sets);
    }
    sets.retain(|set| !set.spans.is_empty());
    sets
}

fn apply(stage: &Stage, trace: &Trace<'_>, sets: Vec<SpanSet>) -> Vec<SpanSet> {
    match stage {
        Stage::Filter(expr) => sets.iter().map(|set| select(expr, trace, set)).collect(),
        Stage::Compare { lhs, op, rhs } => sets
            .into_iter()
            .filter(|set| match (scalar(lhs, trace, set), scalar(rhs, trace, set)) {
                (Some(a), Some(b)) => op.holds(&a, &b),
                _ => false,
            })
            .collect(),
        Stage::By(expr, text) => sets.into_iter().flat_map(|set| split(expr, text, trace, set)).collect(),
        Stage::Coalesce => {
            let mut spans: Vec<usize> = sets.into_iter().flat_map(|set| set.spans).collect();
            spans.sort_unstable();
            spans.dedup();
            vec![SpanSet { spans, groups: Vec::new() }]
        }
        // Names what the answer shows; selects no spans.
        Stage::Select(_) => sets,
    }
}

fn split(expr: &FieldExpr, text: &str, trace: &Trace<'_>, set: SpanSet) -> Vec<SpanSet> {
    let mut groups: Vec<(Value<'_>, SpanSet)> = Vec::new();
    for idx in set.spans {
        let value = value::eval(expr, trace, idx);
        match groups.iter_mut().find(|(v, _)| *v == value) {
            Some((_, group)) => group.spans.push(idx),
            None => {
                let mut keys = set.groups.clone();
                keys.push((text.to_owned(), value.to_attribute()));
                groups.push((value, SpanSet { spans: vec![idx], groups: keys }));
            }
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The spans of the set that the expression selects.
fn select(expr: &SpansetExpr, trace: &Trace<'_>, input: &SpanSet) -> SpanSet {
    let spans = match expr {
        SpansetExpr::Filter(filter) => {
            input.spans.iter().copied().filter(|idx| value::holds(filter, trace, *idx)).collect()
        }
        SpansetExpr::Pipeline(pipeline) => {
            let mut spans: Vec<usize> =
                run_on(pipeline, trace, input.clone()).into_iter().flat_map(|set| set.spans).collect();
            spans.sort_unstable();
            spans.dedup();
            spans
        }
        SpansetExpr::Binary { op, lhs, rhs } => {
            let lhs = select(lhs, trace, input).spans;
            let rhs = select(rhs, trace, input).spans;
            match op {
                SpansetOp::And if lhs.is_empty() || rhs.is_empty() => Vec::new(),
                SpansetOp::And | SpansetOp::Or => union(lhs, rhs),
                SpansetOp::Structural(relation, selection) => relate(*relation, *selection, trace, lhs, rhs),
            }
        }
    };
    SpanSet { spans, groups: input.groups.clone() }
}

fn union(mut lhs: Vec<usize>, rhs: Vec<usize>) -> Vec<usize> {
    lhs.extend(rhs);
    lhs.sort_unstable();
    lhs.dedup();
    lhs
}

fn relate(relation: Relation, selection: Selection, trace: &Trace<'_>, lhs: Vec<usize>, rhs: Vec<usize>) -> Vec<usize> {
    let related = |from: &[usize], to: Vec<usize>, relation: Relation, want: bool| -> Vec<usize> {
        let test = Related::new(trace, from);
        to.into_iter().filter(|idx| test.holds(relation, *idx) == want).collect()
    };
    match selection {
        Selection::Right => related(&lhs, rhs, relation, true),
        Selection::Unrelated => related(&lhs, rhs, relation, false),
        Selection::Both => {
            let right = related(&lhs, rhs.clone(), relation, true);
            let left = related(&rhs, lhs, inverse(relation), true);
            union(left, right)
        }
    }
}

fn inverse(relation: Relation) -> Relation {
    match relation {
        Relation::Child => Relation::Parent,
        Relation::Parent => Relation::Child,
        Relation::Descendant => Relation::Ancestor,
        Relation::Ancestor => Relation::Descendant,
        Relation::Sibling => Relation::Sibling,
    }
}

/// Whether a span relates to any of a set of spans, in time that does not grow with the set.
struct Related<'t, 'a> {
    trace: &'t Trace<'a>,
    in_set: Vec<bool>,
    /// Spans with a child in the set, and with a descendant in it.
    has_child: Vec<bool>,
    has_descendant: Vec<bool>,
    /// Members of the set under each parent.
    siblings: ahash::AHashMap<weir_model::SpanId, u32>,
}

impl<'t, 'a> Related<'t, 'a> {
    fn new(trace: &'t Trace<'a>, set: &[usize]) -> Self {
        let n = trace.spans.len();
        let mut related = Self {
            trace,
            in_set: vec![false; n],
            has_child: vec![false; n],
            has_descendant: vec![false; n],
            siblings: ahash::AHashMap::new(),
        };
        for idx in set {
            related.in_set[*idx] = true;
            if let Some(parent) = trace.parent[*idx] {
                related.has_child[parent] = true;
            }
            for ancestor in trace.ancestors(*idx) {
                if std::mem::replace(&mut related.has_descendant[ancestor], true) {
                    break;
                }
            }
            if let Some(parent) = trace.spans[*idx].parent {
                *related.siblings.entry(parent).or_default() += 1;
            }
        }
        related
    }

    /// Whether span `idx` is the child (descendant, parent, …) of one in the set.
    fn holds(&self, relation: Relation, idx: usize) -> bool {
        match relation {
            Relation::Child => self.trace.parent[idx].is_some_and(|p| self.in_set[p]),
            Relation::Descendant => self.trace.ancestors(idx).any(|a| self.in_set[a]),
            Relation::Parent => self.has_child[idx],
            Relation::Ancestor => self.has_descendant[idx],
            Relation::Sibling => {
                let parent = self.trace.spans[idx].parent;
                let n = parent.and_then(|p| self.siblings.get(&p)).copied().unwrap_or(0);
                n > u32::from(self.in_set[idx])
            }
        }
    }
}

/// `None` where no span of the set has the value. Durations in nanoseconds.
fn scalar(expr: &ScalarExpr, trace: &Trace<'_>, set: &SpanSet) -> Option<f64> {
    match expr {
        ScalarExpr::Literal(literal) => literal.number(),
        ScalarExpr::Binary(op, a, b) => Some(op.apply(scalar(a, trace, set)?, scalar(b, trace, set)?)),
        ScalarExpr::Aggregate(op, None) => (*op == AggregateOp::Count).then_some(set.spans.len() as f64),
        ScalarExpr::Aggregate(op, Some(field)) => {
            let (mut n, mut sum, mut min, mut max) = (0_u64, 0.0, f64::INFINITY, f64::NEG_INFINITY);
            for value in set.spans.iter().filter_map(|idx| value::eval(field, trace, *idx).number()) {
                n += 1;
                sum += value;
                min = value.min(min);
                max = value.max(max);
            }
            (n > 0).then_some(match op {
                AggregateOp::Count => n as f64,
                AggregateOp::Avg => sum / n as f64,
                AggregateOp::Min => min,
                AggregateOp::Max => max,
                AggregateOp::Sum => sum,
            })
        }
    }
}
