//! Binary operators: scalars, a vector with a scalar, and vector matching.

use ahash::AHashMap;
use weir_model::Labels;
use weir_model::labels::METRIC_NAME;

use super::labels::go_labels;
use super::table::{ABSENT, Series, Table, is_absent};
use super::{Eval, Evaluator, Val, math, type_mismatch};
use crate::ast::*;
use crate::plan::Steps;
use crate::result::QueryError;

impl Evaluator {
    pub(super) fn binary(&self, binary: &Binary, steps: &Steps) -> Eval<Val> {
        let (left, right) = (self.eval(&binary.lhs, steps)?, self.eval(&binary.rhs, steps)?);
        match (left, right) {
            (Val::Scalar(mut left), Val::Scalar(right)) => {
                left.iter_mut().zip(right).for_each(|(l, r)| *l = math::apply(binary.op, *l, r));
                Ok(Val::Scalar(left))
            }
            (Val::Vector(table), Val::Scalar(scalar)) => with_scalar(binary, table, &scalar, false).map(Val::Vector),
            (Val::Scalar(scalar), Val::Vector(table)) => with_scalar(binary, table, &scalar, true).map(Val::Vector),
            (Val::Vector(left), Val::Vector(right)) => {
                let Some(matching) = &binary.matching else {
                    return Err(type_mismatch(&binary.lhs, ValueType::Scalar));
                };
                let table = if binary.op.is_set() {
                    self.set_operator(binary.op, left, right, matching, steps)
                } else {
                    self.matched(binary, left, right, matching, steps)
                };
                table.map(Val::Vector)
            }
            (Val::String(_), _) => Err(type_mismatch(&binary.lhs, ValueType::Vector)),
            (_, Val::String(_)) => Err(type_mismatch(&binary.rhs, ValueType::Vector)),
        }
    }

    // ---- set operators -----------------------------------------------------------------------

    fn set_operator(
        &self,
        op: BinaryOp,
        mut left: Table,
        mut right: Table,
        matching: &VectorMatching,
        steps: &Steps,
    ) -> Eval<Table> {
        // `or` asks where the left side is present, the others where the right side is.
        let (asked, filtered) = if op == BinaryOp::Or { (&left, &mut right) } else { (&right, &mut left) };
        let mut masks: AHashMap<Labels, Vec<bool>> = AHashMap::new();
        for series in &asked.series {
            self.tick()?;
            let mask = masks.entry(signature(&series.labels, matching)).or_insert_with(|| vec![false; steps.n]);
            mask.iter_mut().zip(&series.values).for_each(|(m, v)| *m |= !is_absent(*v));
        }
        let keep_where = op == BinaryOp::And;
        for series in &mut filtered.series {
            self.tick()?;
            match masks.get(&signature(&series.labels, matching)) {
                Some(mask) => {
                    let values = series.values.iter_mut().zip(mask);
                    values.filter(|(_, m)| **m != keep_where).for_each(|(v, _)| *v = ABSENT);
                }
                None if keep_where => series.values.fill(ABSENT),
                None => {}
            }
        }
        if op != BinaryOp::Or {
            return Ok(left);
        }
        let held = self.reserve(left.series.len() + right.series.len(), steps)?;
        left.series.append(&mut right.series);
        Table { series: left.series, held }.merged()
    }

    // ---- one to one, many to one -------------------------------------------------------------

    fn matched(
        &self,
        binary: &Binary,
        left: Table,
        right: Table,
        matching: &VectorMatching,
        steps: &Steps,
    ) -> Eval<Table> {
        let swapped = matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        let mut one_side: AHashMap<Labels, Vec<usize>> = AHashMap::new();
        for (idx, series) in one.series.iter().enumerate() {
            one_side.entry(signature(&series.labels, matching)).or_default().push(idx);
        }
        self.check_one_side(&many, &one, &one_side, swapped)?;

        let one_to_one = matching.card == Cardinality::OneToOne;
        // Which steps of a signature have a result already; only several candidates can collide.
        let mut taken: AHashMap<Labels, Vec<bool>> = AHashMap::new();
        let mut held = self.reserve(many.series.len(), steps)?;
        let mut series = Vec::with_capacity(many.series.len());
        for from_many in &many.series {
            self.tick()?;
            let key = signature(&from_many.labels, matching);
            let Some(candidates) = one_side.get(&key) else { continue };
            let extra = candidates.len().saturating_sub(1) * steps.n * size_of::<f64>();
            held.grow(extra as u64).map_err(|_| QueryError::TooManySamples)?;
            let mut used = one_to_one.then(|| taken.entry(key).or_insert_with(|| vec![false; steps.n]));
            for candidate in candidates {
                let from_one = &one.series[*candidate];
                let values = combine(binary, &from_many.values, &from_one.values, swapped);
                for (used, value) in used.iter_mut().flat_map(|u| u.iter_mut()).zip(&values) {
                    if !is_absent(*value) && std::mem::replace(used, true) {
                        let text = "multiple matches for labels: many-to-one matching must be explicit \
                                    (group_left/group_right)";
                        return Err(QueryError::Execution(text.to_owned()));
                    }
                }
                let labels = result_labels(binary, matching, &from_many.labels, &from_one.labels);
                series.push(Series { labels, values });
            }
        }
        Table { series, held }.merged_or(|| {
            let text = "multiple matches for labels: grouping labels must ensure unique matches";
            QueryError::Execution(text.to_owned())
        })
    }

    /// Two series of one signature may not meet on the one side at a step where both sides have data.
    fn check_one_side(
        &self,
        many: &Table,
        one: &Table,
        one_side: &AHashMap<Labels, Vec<usize>>,
        swapped: bool,
    ) -> Eval<()> {
        for (key, members) in one_side.iter().filter(|(_, members)| members.len() > 1) {
            self.tick()?;
            let n_steps = one.series[members[0]].values.len();
            for step in 0..n_steps {
                let mut present = members.iter().filter(|m| !is_absent(one.series[**m].values[step]));
                let (Some(first), Some(second)) = (present.next(), present.next()) else { continue };
                if many.series.iter().all(|s| is_absent(s.values[step])) {
                    continue;
                }
                let side = if swapped { "left" } else { "right" };
                return Err(QueryError::Execution(format!(
                    "found duplicate series for the match group {} on the {side} hand-side of the operation: \
                     [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                    go_labels(key),
                    go_labels(&one.series[*second].labels),
                    go_labels(&one.series[*first].labels),
                )));
            }
        }
        Ok(())
    }
}

/// The labels by which two sides are matched.
fn signature(labels: &Labels, matching: &VectorMatching) -> Labels {
    let listed = |name: &str| matching.labels.iter().any(|l| l == name);
    if matching.on { labels.filter(listed) } else { labels.filter(|name| name != METRIC_NAME && !listed(name)) }
}

/// Arithmetic makes another quantity, and a flag is one: the name goes. A filter keeps it.
fn drops_name(binary: &Binary) -> bool {
    binary.return_bool || !binary.op.is_comparison()
}

fn combine(binary: &Binary, many: &[f64], one: &[f64], swapped: bool) -> Vec<f64> {
    let filters = binary.op.is_comparison() && !binary.return_bool;
    let cell = |(many, one): (&f64, &f64)| {
        if is_absent(*many) || is_absent(*one) {
            return ABSENT;
        }
        let (left, right) = if swapped { (*one, *many) } else { (*many, *one) };
        match math::apply(binary.op, left, right) {
            holds if !filters => holds,
            holds if holds != 0.0 => left,
            _ => ABSENT,
        }
    };
    many.iter().zip(one).map(cell).collect()
}

/// Source: Prometheus `promql/engine.go`, `resultMetric`.
fn result_labels(binary: &Binary, matching: &VectorMatching, many: &Labels, one: &Labels) -> Labels {
    let mut builder = many.to_builder();
    if drops_name(binary) {
        builder.remove(METRIC_NAME);
    }
    if matching.card == Cardinality::OneToOne {
        builder.retain(|l| matching.labels.iter().any(|listed| **listed == *l.name) == matching.on);
    }
    for name in &matching.include {
        builder.set(name.as_str(), one.value(name));
    }
    builder.build()
}

fn with_scalar(binary: &Binary, mut table: Table, scalar: &[f64], swapped: bool) -> Eval<Table> {
    let filters = binary.op.is_comparison() && !binary.return_bool;
    table.map_steps(|step, v| {
        let (left, right) = if swapped { (scalar[step], v) } else { (v, scalar[step]) };
        match math::apply(binary.op, left, right) {
            result if !filters => Some(result),
            // A filter keeps the vector's value, whichever side it stands on.
            holds => (holds != 0.0).then_some(v),
        }
    });
    if !drops_name(binary) {
        return Ok(table);
    }
    table.drop_names();
    table.merged()
}
