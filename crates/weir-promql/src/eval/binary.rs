//! Binary operators: scalars, a vector with a scalar, and vector matching.

use ahash::AHashMap;
use weir_model::histogram::ResetHint;
use weir_model::labels::METRIC_NAME;
use weir_model::{FloatHistogram, Labels, Reservation};

use super::labels::go_labels;
use super::notes::Operation;
use super::table::{Cell, Series, Table, without_metadata};
use super::{Eval, Evaluator, Val, math, type_mismatch};
use crate::ast::*;
use crate::plan::Steps;
use crate::result::QueryError;

impl Evaluator {
    pub(super) fn binary(&self, binary: &Binary, span: Span, steps: &Steps) -> Eval<Val> {
        let (left, right) = (self.eval(&binary.lhs, steps)?, self.eval(&binary.rhs, steps)?);
        match (left, right) {
            (Val::Scalar(mut left), Val::Scalar(right)) => {
                left.iter_mut().zip(right).for_each(|(l, r)| *l = math::apply(binary.op, *l, r));
                Ok(Val::Scalar(left))
            }
            (Val::Vector(table), Val::Scalar(scalar)) => {
                self.with_scalar(binary, span, table, &scalar, false).map(Val::Vector)
            }
            (Val::Scalar(scalar), Val::Vector(table)) => {
                self.with_scalar(binary, span, table, &scalar, true).map(Val::Vector)
            }
            (Val::Vector(left), Val::Vector(right)) => {
                let Some(matching) = &binary.matching else {
                    return Err(type_mismatch(&binary.lhs, ValueType::Scalar));
                };
                let table = if binary.op.is_set() {
                    self.set_operator(binary.op, left, right, matching, steps)
                } else {
                    self.matched(binary, span, left, right, matching, steps)
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
            mask.iter_mut().enumerate().for_each(|(step, m)| *m |= series.has(step));
        }
        let keep_where = op == BinaryOp::And;
        for series in &mut filtered.series {
            self.tick()?;
            match masks.get(&signature(&series.labels, matching)) {
                Some(mask) => {
                    for step in (0..steps.n).filter(|step| mask[*step] != keep_where) {
                        series.set(step, None);
                    }
                }
                None if keep_where => (0..steps.n).for_each(|step| series.set(step, None)),
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
        span: Span,
        left: Table,
        right: Table,
        matching: &VectorMatching,
        steps: &Steps,
    ) -> Eval<Table> {
        let swapped = matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (right, left) } else { (left, right) };
        // Upstream turns the sides around and leaves the fills where they are.
        let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
        let mut one_side: AHashMap<Labels, Vec<usize>> = AHashMap::new();
        for (idx, series) in one.series.iter().enumerate() {
            one_side.entry(signature(&series.labels, matching)).or_default().push(idx);
        }
        self.check_one_side(&many, &one, &one_side, (swapped, fill_many.is_some()))?;

        let mut out = Matched::new(self.reserve(many.series.len(), steps)?, matching.card, steps.n);
        let row_bytes = (steps.n * size_of::<f64>()) as u64;
        let combine = |many: Option<Cell>, one: Option<Cell>| -> Option<Combined> {
            let (left, right) = if swapped { (one?, many?) } else { (many?, one?) };
            self.combine(binary, span, left, right)
        };
        for from_many in &many.series {
            self.tick()?;
            let key = signature(&from_many.labels, matching);
            let candidates = one_side.get(&key).map_or(&[][..], Vec::as_slice);
            for idx in candidates {
                let from_one = &one.series[*idx];
                let labels =
                    result_labels(binary, matching, &from_many.labels, &from_one.labels, self.settings.late_names);
                let cell = |step: usize| combine(from_many.cell(step), from_one.cell(step));
                out.add(&key, labels, binary.return_bool && self.settings.late_names, row_bytes, cell)?;
            }
            if let Some(fill) = fill_one {
                let labels = result_labels(binary, matching, &from_many.labels, &key, self.settings.late_names);
                let lacks = |step: usize| candidates.iter().all(|idx| !one.series[*idx].has(step));
                let cell = |step: usize| {
                    if lacks(step) { combine(from_many.cell(step), Some(Cell::Float(fill))) } else { None }
                };
                out.add(&key, labels, binary.return_bool && self.settings.late_names, row_bytes, cell)?;
            }
        }
        if let Some(fill) = fill_many {
            for from_one in &one.series {
                self.tick()?;
                let key = signature(&from_one.labels, matching);
                let labels = result_labels(binary, matching, &key, &from_one.labels, self.settings.late_names);
                let matched = out.matched.get(&key).cloned();
                let cell = |step: usize| match &matched {
                    Some(matched) if matched[step] => None,
                    _ => combine(Some(Cell::Float(fill)), from_one.cell(step)),
                };
                out.add(&key, labels, binary.return_bool && self.settings.late_names, row_bytes, cell)?;
            }
        }
        let table = Table { series: out.series, held: out.held };
        table.merged_or(|| {
            let text = "multiple matches for labels: grouping labels must ensure unique matches";
            QueryError::Execution(text.to_owned())
        })
    }

    /// The result of an operator; `None` where the two kinds do not go together, which is noted.
    fn combine(&self, binary: &Binary, span: Span, left: Cell, right: Cell) -> Option<Combined> {
        let op = binary.op;
        let filters = op.is_comparison();
        let trims = matches!(op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        let (cell, keep) = match (left, right) {
            (Cell::Float(left), Cell::Float(right)) if !trims => {
                let value = math::apply(op, left, right);
                if filters { (Cell::Float(left), value != 0.0) } else { (Cell::Float(value), true) }
            }
            (Cell::Float(factor), Cell::Histogram(h)) if op == BinaryOp::Mul => {
                (changed(&h, |h| h.scale(factor)), true)
            }
            (Cell::Histogram(h), Cell::Float(factor)) if op == BinaryOp::Mul => {
                (changed(&h, |h| h.scale(factor)), true)
            }
            (Cell::Histogram(h), Cell::Float(divisor)) if op == BinaryOp::Div => {
                (changed(&h, |h| h.divide(divisor)), true)
            }
            (Cell::Histogram(h), Cell::Float(at)) if trims => {
                let mut h = (*h).clone();
                h.trim(at, op == BinaryOp::TrimUpper);
                (h.into(), true)
            }
            (Cell::Histogram(a), Cell::Histogram(b)) if matches!(op, BinaryOp::Add | BinaryOp::Sub) => {
                (self.add_or_subtract(op, span, &a, &b)?, true)
            }
            (Cell::Histogram(a), Cell::Histogram(b)) if matches!(op, BinaryOp::Eq | BinaryOp::Ne) => {
                let equal = a.same_data(&b);
                (Cell::Histogram(a), equal == (op == BinaryOp::Eq))
            }
            (left, right) => {
                let kind = |cell: &Cell| if matches!(cell, Cell::Float(_)) { "float" } else { "histogram" };
                self.notes.borrow_mut().incompatible_types(kind(&left), op.as_str(), kind(&right), span);
                return None;
            }
        };
        if binary.return_bool {
            return Some(Combined { cell: Cell::Float(f64::from(u8::from(keep))), keep: true });
        }
        Some(Combined { cell, keep })
    }

    fn add_or_subtract(&self, op: BinaryOp, span: Span, a: &FloatHistogram, b: &FloatHistogram) -> Option<Cell> {
        let mut out = a.clone();
        let (done, operation) = match op {
            BinaryOp::Add => (out.add(b), Operation::Addition),
            _ => (out.subtract(b), Operation::Subtraction),
        };
        let mut notes = self.notes.borrow_mut();
        let Ok(adjusted) = done else {
            notes.incompatible_layout(op.as_str(), span);
            return None;
        };
        if adjusted.hints_collide {
            notes.hints_collide(operation, span);
        }
        if adjusted.bounds_differ {
            notes.bounds_differ(operation, span);
        }
        if op == BinaryOp::Sub {
            out.hint = ResetHint::Gauge;
        }
        out.compact();
        Some(out.into())
    }

    /// Two series of one signature may not meet on the one side at a step where both sides have data.
    fn check_one_side(
        &self,
        many: &Table,
        one: &Table,
        one_side: &AHashMap<Labels, Vec<usize>>,
        (swapped, filled): (bool, bool),
    ) -> Eval<()> {
        for (key, members) in one_side.iter().filter(|(_, members)| members.len() > 1) {
            self.tick()?;
            let n_steps = one.series[members[0]].values.len();
            for step in 0..n_steps {
                let mut present = members.iter().filter(|m| one.series[**m].has(step));
                let (Some(first), Some(second)) = (present.next(), present.next()) else { continue };
                if !filled && many.series.iter().all(|s| !s.has(step)) {
                    continue;
                }
                let side = if swapped { "left" } else { "right" };
                let mut names = [go_labels(&one.series[*first].labels), go_labels(&one.series[*second].labels)];
                names.sort();
                return Err(QueryError::Execution(format!(
                    "found duplicate series for the match group {} on the {side} hand-side of the operation: \
                     [{}, {}];many-to-many matching not allowed: matching labels must be unique on one side",
                    go_labels(key),
                    names[0],
                    names[1],
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

/// Arithmetic makes another quantity: its name and type go.
fn changes_schema(op: BinaryOp) -> bool {
    use BinaryOp::*;
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}

/// A value, and whether a filter lets it through.
struct Combined {
    cell: Cell,
    keep: bool,
}

/// Results of a match, and which steps of a signature have one.
struct Matched {
    series: Vec<Series>,
    held: Reservation,
    one_to_one: bool,
    n_steps: usize,
    matched: AHashMap<Labels, Vec<bool>>,
}

impl Matched {
    fn new(held: Reservation, card: Cardinality, n_steps: usize) -> Self {
        let one_to_one = card == Cardinality::OneToOne;
        Self { series: Vec::new(), held, one_to_one, n_steps, matched: AHashMap::new() }
    }

    /// A column of what `cell` gives; between one and one, a signature has one result at a step,
    /// filtered out or not.
    fn add(
        &mut self,
        key: &Labels,
        labels: Labels,
        drop_name: bool,
        row_bytes: u64,
        cell: impl Fn(usize) -> Option<Combined>,
    ) -> Eval<()> {
        let mut column: Option<Series> = None;
        let n_steps = self.n_steps;
        let matched = self.matched.entry(key.clone()).or_insert_with(|| vec![false; n_steps]);
        for (step, matched) in matched.iter_mut().enumerate() {
            let Some(Combined { cell, keep }) = cell(step) else { continue };
            if *matched && self.one_to_one {
                let text =
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
                return Err(QueryError::Execution(text.to_owned()));
            }
            *matched = true;
            if keep {
                column.get_or_insert_with(|| Series::empty(labels.clone(), n_steps)).set(step, Some(cell));
            }
        }
        if let Some(mut column) = column {
            self.held.grow(row_bytes).map_err(|_| QueryError::TooManySamples)?;
            column.drop_name = drop_name;
            self.series.push(column);
        }
        Ok(())
    }
}

fn changed(h: &FloatHistogram, change: impl FnOnce(&mut FloatHistogram)) -> Cell {
    let mut h = h.clone();
    change(&mut h);
    h.compact();
    h.into()
}

/// Source: Prometheus `promql/engine.go`, `resultMetric`.
fn result_labels(binary: &Binary, matching: &VectorMatching, many: &Labels, one: &Labels, late: bool) -> Labels {
    let many = match changes_schema(binary.op) || (binary.return_bool && !late) {
        true => without_metadata(many),
        false => many.clone(),
    };
    let mut builder = many.to_builder();
    if matching.card == Cardinality::OneToOne {
        builder.retain(|l| matching.labels.iter().any(|listed| **listed == *l.name) == matching.on);
    }
    for name in &matching.include {
        builder.set(name.as_str(), one.value(name));
    }
    builder.build()
}

impl Evaluator {
    fn with_scalar(&self, binary: &Binary, span: Span, mut table: Table, scalar: &[f64], swapped: bool) -> Eval<Table> {
        let filters = binary.op.is_comparison() && !binary.return_bool;
        let has_histograms = table.series.iter().any(|s| !s.histograms.is_empty());
        let trims = matches!(binary.op, BinaryOp::TrimUpper | BinaryOp::TrimLower);
        if has_histograms || trims {
            table.map_cells(|step, cell| {
                let float = Cell::Float(scalar[step]);
                let (left, right) = if swapped { (float, cell.clone()) } else { (cell.clone(), float) };
                let combined = self.combine(binary, span, left, right).filter(|c| c.keep)?;
                // A filter keeps the vector's value, whichever side it stands on.
                Some(if filters { cell } else { combined.cell })
            });
        } else {
            table.map_steps(|step, v| {
                let (left, right) = if swapped { (scalar[step], v) } else { (v, scalar[step]) };
                match math::apply(binary.op, left, right) {
                    result if !filters => Some(result),
                    holds => (holds != 0.0).then_some(v),
                }
            });
        }
        if changes_schema(binary.op) || binary.return_bool { self.unnamed(table) } else { Ok(table) }
    }
}
