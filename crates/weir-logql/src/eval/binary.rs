//! Operators between numbers and series.

use ahash::AHashMap;
use weir_model::Labels;

use super::QueryError;
use super::metric::Value;
use super::vector::Series;
use crate::ast::{BinaryOp, Cardinality, Matching};

/// Two literals at parse time; a comparison gives 1 or 0.
pub(crate) fn fold(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Compare(compare) => f64::from(compare.holds(a, b)),
        _ => arithmetic(op, a, b),
    }
}

fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        // Not an infinity: so does Loki.
        BinaryOp::Div | BinaryOp::Mod if b == 0.0 => f64::NAN,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        // Set operators and comparisons have their own ways.
        BinaryOp::Or | BinaryOp::And | BinaryOp::Unless | BinaryOp::Compare(_) => f64::NAN,
    }
}

/// The result at one step; `kept` is what a filtering comparison lets through.
fn combine(op: BinaryOp, a: f64, b: f64, kept: f64, return_bool: bool) -> Option<f64> {
    match op {
        BinaryOp::Compare(compare) if return_bool => Some(f64::from(compare.holds(a, b))),
        BinaryOp::Compare(compare) => compare.holds(a, b).then_some(kept),
        _ => Some(arithmetic(op, a, b)),
    }
}

pub(super) fn apply(
    op: BinaryOp,
    lhs: Value,
    rhs: Value,
    matching: &Matching,
    steps: usize,
) -> Result<Value, QueryError> {
    let with_scalar = |mut series: Vec<Series>, f: &dyn Fn(f64) -> Option<f64>| {
        for one in &mut series {
            one.values.iter_mut().for_each(|slot| *slot = slot.and_then(f));
        }
        series.retain(|one| one.values.iter().any(Option::is_some));
        Value::Vector(series)
    };
    Ok(match (lhs, rhs) {
        (Value::Scalar(a), Value::Scalar(b)) => Value::Scalar(fold(op, a, b)),
        (Value::Vector(series), Value::Scalar(b)) => {
            with_scalar(series, &|a| combine(op, a, b, a, matching.return_bool))
        }
        (Value::Scalar(a), Value::Vector(series)) => {
            with_scalar(series, &|b| combine(op, a, b, b, matching.return_bool))
        }
        (Value::Vector(lhs), Value::Vector(rhs)) if op.is_set() => Value::Vector(set(op, lhs, rhs, matching, steps)),
        (Value::Vector(lhs), Value::Vector(rhs)) => Value::Vector(vectors(op, lhs, rhs, matching, steps)?),
    })
}

fn signature(matching: &Matching, labels: &Labels) -> Labels {
    if matching.written {
        labels.filter(|name| matching.labels.iter().any(|l| l == name) == matching.on)
    } else {
        labels.clone()
    }
}

fn index(matching: &Matching, series: &[Series]) -> AHashMap<Labels, Vec<usize>> {
    let mut index: AHashMap<Labels, Vec<usize>> = AHashMap::new();
    for (idx, one) in series.iter().enumerate() {
        index.entry(signature(matching, &one.labels)).or_default().push(idx);
    }
    index
}

fn set(op: BinaryOp, lhs: Vec<Series>, rhs: Vec<Series>, matching: &Matching, steps: usize) -> Vec<Series> {
    // What filters, by signature: per step whether any series has a value.
    let presence = |series: &[Series]| {
        let mut map: AHashMap<Labels, Vec<bool>> = AHashMap::new();
        for one in series {
            let slots = map.entry(signature(matching, &one.labels)).or_insert_with(|| vec![false; steps]);
            slots.iter_mut().zip(&one.values).for_each(|(slot, value)| *slot |= value.is_some());
        }
        map
    };
    let filter = |series: Vec<Series>, other: &AHashMap<Labels, Vec<bool>>, keep_present: bool| {
        let mut out = Vec::with_capacity(series.len());
        for mut one in series {
            let slots = other.get(&signature(matching, &one.labels));
            for (step, value) in one.values.iter_mut().enumerate() {
                if slots.is_some_and(|s| s[step]) != keep_present {
                    *value = None;
                }
            }
            if one.values.iter().any(Option::is_some) {
                out.push(one);
            }
        }
        out
    };
    match op {
        BinaryOp::And => filter(lhs, &presence(&rhs), true),
        BinaryOp::Unless => filter(lhs, &presence(&rhs), false),
        _ => {
            let rest = filter(rhs, &presence(&lhs), false);
            union(lhs, rest)
        }
    }
}

/// Series of both; equal labels become one series, the left values first.
fn union(mut lhs: Vec<Series>, rhs: Vec<Series>) -> Vec<Series> {
    let by_labels: AHashMap<Labels, usize> = lhs.iter().enumerate().map(|(i, s)| (s.labels.clone(), i)).collect();
    for one in rhs {
        match by_labels.get(&one.labels) {
            Some(idx) => {
                for (slot, value) in lhs[*idx].values.iter_mut().zip(one.values) {
                    *slot = slot.or(value);
                }
            }
            None => lhs.push(one),
        }
    }
    lhs.sort_by(|a, b| a.labels.cmp(&b.labels));
    lhs
}

fn vectors(
    op: BinaryOp,
    lhs: Vec<Series>,
    rhs: Vec<Series>,
    matching: &Matching,
    steps: usize,
) -> Result<Vec<Series>, QueryError> {
    // `many` drives; with one-to-one that is the left side.
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (rhs, lhs) } else { (lhs, rhs) };
    let partners = index(matching, &one);
    let mut out: Vec<Series> = Vec::new();
    // Per signature, which steps already have a result: a second one would be ambiguous.
    let mut used: AHashMap<Labels, Vec<bool>> = AHashMap::new();
    for series in &many {
        let key = signature(matching, &series.labels);
        let Some(candidates) = partners.get(&key) else { continue };
        let mut values: Vec<Option<f64>> = vec![None; steps];
        let mut partner = None;
        for (step, slot) in values.iter_mut().enumerate() {
            let Some(a) = series.values[step] else { continue };
            let mut present = candidates.iter().filter(|idx| one[**idx].values[step].is_some());
            let Some(idx) = present.next() else { continue };
            if present.next().is_some() {
                return Err(duplicate(&key, if swapped { "left" } else { "right" }));
            }
            if matching.cardinality == Cardinality::OneToOne {
                let steps_used = used.entry(key.clone()).or_insert_with(|| vec![false; steps]);
                if std::mem::replace(&mut steps_used[step], true) {
                    return Err(duplicate(&key, "left"));
                }
            }
            let b = one[*idx].values[step].expect("filtered on presence");
            partner = Some(*idx);
            let (left, right) = if swapped { (b, a) } else { (a, b) };
            *slot = combine(op, left, right, left, matching.return_bool);
        }
        if let Some(idx) = partner
            && values.iter().any(Option::is_some)
        {
            out.push(Series { labels: result_labels(matching, &series.labels, &one[idx].labels), values });
        }
    }
    out.sort_by(|a, b| a.labels.cmp(&b.labels));
    let clash = |a: &Series, b: &Series| a.values.iter().zip(&b.values).any(|(a, b)| a.is_some() && b.is_some());
    if out.windows(2).any(|pair| pair[0].labels == pair[1].labels && clash(&pair[0], &pair[1])) {
        let text = "multiple matches for labels: grouping labels must ensure unique matches";
        return Err(QueryError::Execution(text.to_owned()));
    }
    Ok(out)
}

fn duplicate(key: &Labels, side: &str) -> QueryError {
    QueryError::Execution(format!(
        "found duplicate series for the match group {key} on the {side} hand-side of the operation; many-to-many matching \
         not allowed: matching labels must be unique on one side"
    ))
}

fn result_labels(matching: &Matching, many: &Labels, one: &Labels) -> Labels {
    if matching.cardinality == Cardinality::OneToOne {
        return signature(matching, many);
    }
    let mut builder = many.to_builder();
    for name in &matching.include {
        builder.set(name.as_str(), one.value(name));
    }
    builder.build()
}
