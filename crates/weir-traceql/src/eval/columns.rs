//! Metrics of queries that look at spans one by one, from columns instead of traces: what depends on a span's
//! form and attributes is decided once for each combination, by the same code that decides it for a span.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::source::{SpanBatch, SpanColumns, ValueCode};
use weir_model::span::{SAMPLING_WEIGHT, weight_of};
use weir_model::{Nanos, Span};

use super::metrics::{Exemplar, MetricsParams, Table, add};
use super::value::{Value, field_of, holds};
use super::{QueryError, Trace};
use crate::ast::{
    CompareOp, Field, FieldExpr, Intrinsic, Literal, MetricsOp, MetricsStage, Query, Scope, SpansetExpr, Stage,
};

/// Combinations of form and attributes that are remembered.
const KNOWN_MAX: usize = 1 << 16;

/// What a query needs of each span.
pub(super) struct Plan {
    /// Hold or not by form and attributes alone.
    filters: Vec<FieldExpr>,
    /// Conditions on the duration.
    durations: Vec<(CompareOp, Literal)>,
    attributes: Vec<String>,
    /// Whether the number that is aggregated is the duration.
    of_duration: bool,
}

enum Need {
    Form,
    Attribute,
    Duration,
}

fn need(field: &Field) -> Option<Need> {
    match field {
        Field::Intrinsic(
            Intrinsic::Name
            | Intrinsic::Status
            | Intrinsic::StatusMessage
            | Intrinsic::Kind
            | Intrinsic::InstrumentationName
            | Intrinsic::InstrumentationVersion,
        )
        | Field::Attribute { scope: Scope::Resource | Scope::Instrumentation, of_parent: false, .. } => {
            Some(Need::Form)
        }
        Field::Attribute { scope: Scope::Span | Scope::None, of_parent: false, .. } => Some(Need::Attribute),
        Field::Intrinsic(Intrinsic::Duration) => Some(Need::Duration),
        // The trace's tree, ids, and what is many times in a span.
        _ => None,
    }
}

/// `None` for a query that has to see whole traces.
pub(super) fn plan(query: &Query, stage: &MetricsStage) -> Option<Plan> {
    if stage.op == MetricsOp::Compare {
        return None;
    }
    let mut plan = Plan { filters: Vec::new(), durations: Vec::new(), attributes: Vec::new(), of_duration: false };
    plan.filter(&query.pipeline.first)?;
    for stage in &query.pipeline.stages {
        match stage {
            Stage::Filter(expr) => plan.filter(expr)?,
            Stage::Select(_) => {}
            _ => return None,
        }
    }
    for field in &stage.by {
        plan.field(field)?;
    }
    match &stage.field {
        Some(Field::Intrinsic(Intrinsic::Duration)) => plan.of_duration = true,
        Some(field) => plan.field(field)?,
        None => {}
    }
    Some(plan)
}

impl Plan {
    fn filter(&mut self, expr: &SpansetExpr) -> Option<()> {
        let SpansetExpr::Filter(expr) = expr else { return None };
        self.condition(expr)
    }

    fn condition(&mut self, expr: &FieldExpr) -> Option<()> {
        match expr {
            FieldExpr::And(a, b) => {
                self.condition(a)?;
                return self.condition(b);
            }
            FieldExpr::Compare(op, a, b) => {
                if let (FieldExpr::Field(Field::Intrinsic(Intrinsic::Duration)), FieldExpr::Literal(literal)) =
                    (&**a, &**b)
                    && literal.number().is_some()
                {
                    self.durations.push((*op, literal.clone()));
                    return Some(());
                }
            }
            _ => {}
        }
        self.fields(expr)?;
        self.filters.push(expr.clone());
        Some(())
    }

    fn fields(&mut self, expr: &FieldExpr) -> Option<()> {
        match expr {
            FieldExpr::Literal(_) => Some(()),
            FieldExpr::Field(field) => self.field(field),
            FieldExpr::Not(a) | FieldExpr::Negate(a) | FieldExpr::Match { value: a, .. } => self.fields(a),
            FieldExpr::And(a, b)
            | FieldExpr::Or(a, b)
            | FieldExpr::Compare(_, a, b)
            | FieldExpr::Arithmetic(_, a, b) => {
                self.fields(a)?;
                self.fields(b)
            }
        }
    }

    fn field(&mut self, field: &Field) -> Option<()> {
        match need(field)? {
            Need::Form => {}
            Need::Attribute => {
                if !self.attributes.iter().any(|name| name == field.bare_name()) {
                    self.attributes.push(field.bare_name().to_owned());
                }
            }
            // A group of its own for each duration is no use to anyone; the slow way does it.
            Need::Duration => return None,
        }
        Some(())
    }

    pub(super) fn columns(&self, params: &MetricsParams) -> SpanColumns {
        SpanColumns {
            start: Nanos(params.start.0.saturating_add(1)),
            end: Nanos(params.end.0.saturating_add(1)),
            attributes: self.read(),
            durations: self.of_duration || !self.durations.is_empty(),
            steps: Some((params.start, params.step_nanos)),
        }
    }

    /// Attributes that are read: those that the query names, and how many spans one stands for.
    fn read(&self) -> Vec<String> {
        let mut all = self.attributes.clone();
        if self.weight_at() == all.len() {
            all.push(SAMPLING_WEIGHT.to_owned());
        }
        all
    }

    fn weight_at(&self) -> usize {
        self.attributes.iter().position(|name| name == SAMPLING_WEIGHT).unwrap_or(self.attributes.len())
    }

    /// Of the columns that are read of each span.
    pub(super) fn row_bytes(&self) -> u64 {
        let durations = self.of_duration || !self.durations.is_empty();
        4 * (2 + u64::from(durations) + self.attributes.len() as u64)
    }

    fn is_long_enough(&self, nanos: i64) -> bool {
        self.durations.iter().all(|(op, literal)| match literal {
            Literal::Int(v) | Literal::Duration(v) => op.holds(&nanos, v),
            other => other.number().is_some_and(|v| op.holds(&(nanos as f64), &v)),
        })
    }
}

/// What is known of all spans of a form, or of a form with certain attributes.
#[derive(Clone, Copy)]
enum Verdict {
    Out,
    /// The group, and the number that is aggregated unless it is the duration.
    In {
        row: usize,
        number: Option<f64>,
    },
}

/// Adds batches to a table.
pub(super) struct Counting<'a> {
    plan: &'a Plan,
    stage: &'a MetricsStage,
    params: &'a MetricsParams,
    n_steps: usize,
    table: Option<u64>,
    by_form: Vec<Option<Verdict>>,
    by_attributes: AHashMap<Vec<u64>, Verdict>,
    forms: Vec<u32>,
    starts: Vec<i64>,
    durations: Vec<i64>,
    codes: Vec<Vec<ValueCode>>,
    key: Vec<u64>,
    counts: Vec<u32>,
    /// Empty where every span stands for itself.
    weights: Vec<ValueCode>,
    known_weights: AHashMap<(u32, u64), f64>,
}

impl<'a> Counting<'a> {
    pub(super) fn new(plan: &'a Plan, stage: &'a MetricsStage, params: &'a MetricsParams, n_steps: usize) -> Self {
        Self {
            plan,
            stage,
            params,
            n_steps,
            table: None,
            by_form: Vec::new(),
            by_attributes: AHashMap::new(),
            forms: Vec::new(),
            starts: Vec::new(),
            durations: Vec::new(),
            codes: vec![Vec::new(); plan.attributes.len()],
            key: Vec::new(),
            counts: Vec::new(),
            weights: Vec::new(),
            known_weights: AHashMap::new(),
        }
    }

    fn raw_step(&self, at: i64) -> i64 {
        (at.saturating_sub(self.params.start.0) - 1).div_euclid(self.params.step_nanos.max(1))
    }

    fn step(&self, at: i64) -> Option<usize> {
        usize::try_from(self.raw_step(at)).ok().filter(|step| *step < self.n_steps)
    }

    pub(super) fn add(&mut self, batch: &dyn SpanBatch, table: &mut Table) -> Result<(), QueryError> {
        if self.table != Some(batch.table()) {
            self.table = Some(batch.table());
            self.by_form.clear();
            self.by_attributes.clear();
            self.known_weights.clear();
        }
        self.weights.clear();
        if batch.has_values(self.plan.weight_at()) {
            batch.values(self.plan.weight_at(), &mut self.weights);
        }
        self.forms.clear();
        batch.forms(&mut self.forms);
        let needed = self.forms.iter().max().map_or(0, |form| *form as usize + 1);
        if needed > self.by_form.len() {
            self.by_form.resize(needed, None);
        }
        let (first, last) = batch.bounds();
        self.starts.clear();
        let in_one_step = self.raw_step(first.0) == self.raw_step(last.0);
        if !in_one_step {
            batch.starts(&mut self.starts);
        }
        let needs_durations = self.plan.of_duration || !self.plan.durations.is_empty();
        if in_one_step && !needs_durations && self.plan.attributes.is_empty() && self.weights.is_empty() {
            return match self.step(first.0) {
                Some(step) => self.add_forms(batch, step, table),
                None => Ok(()),
            };
        }
        self.durations.clear();
        if needs_durations {
            batch.durations(&mut self.durations);
        }
        for (k, codes) in self.codes.iter_mut().enumerate() {
            codes.clear();
            batch.values(k, codes);
        }
        self.add_rows(batch, in_one_step.then(|| self.step(first.0)), table)
    }

    /// All rows are of one step, and all that matters of a span is its form.
    fn add_forms(&mut self, batch: &dyn SpanBatch, step: usize, table: &mut Table) -> Result<(), QueryError> {
        self.counts.clear();
        self.counts.resize(self.by_form.len(), 0);
        self.forms.iter().for_each(|form| self.counts[*form as usize] += 1);
        for form in 0..self.counts.len() {
            let n = self.counts[form];
            if n == 0 {
                continue;
            }
            let Verdict::In { row, number } = self.of_form(batch, form as u32, table)? else { continue };
            for _ in 0..if number.is_some() { n } else { 1 } {
                add(&mut table.rows[row].cells[step], number, 1.0, self.stage);
            }
            if number.is_none() {
                table.rows[row].cells[step].count += u64::from(n) - 1;
                table.rows[row].cells[step].weight += f64::from(n) - 1.0;
            }
            if table.rows[row].wants_exemplar(step, self.params.exemplars) {
                let place = self.forms.iter().position(|of| *of as usize == form).unwrap_or(0);
                let exemplar = exemplar(batch, place, number)?;
                table.rows[row].exemplars.push(exemplar);
            }
        }
        Ok(())
    }

    fn add_rows(
        &mut self,
        batch: &dyn SpanBatch,
        step_of_all: Option<Option<usize>>,
        table: &mut Table,
    ) -> Result<(), QueryError> {
        for place in 0..self.forms.len() {
            let step = step_of_all.unwrap_or_else(|| self.starts.get(place).and_then(|start| self.step(*start)));
            let Some(step) = step else { continue };
            let duration = self.durations.get(place).copied().unwrap_or(0);
            if !self.plan.is_long_enough(duration) {
                continue;
            }
            let form = self.forms[place];
            let verdict = match self.plan.attributes.is_empty() {
                true => self.of_form(batch, form, table)?,
                false => self.of_attributes(batch, form, place, table)?,
            };
            let Verdict::In { row, number } = verdict else { continue };
            let number = if self.plan.of_duration { Some(duration as f64) } else { number };
            let weight = self.weight(batch, place)?;
            let row = &mut table.rows[row];
            row.is_duration |= self.plan.of_duration;
            add(&mut row.cells[step], number, weight, self.stage);
            if row.wants_exemplar(step, self.params.exemplars) {
                row.exemplars.push(exemplar(batch, place, number.filter(|_| !self.plan.of_duration))?);
            }
        }
        Ok(())
    }

    /// How many spans the one in this place stands for.
    fn weight(&mut self, batch: &dyn SpanBatch, place: usize) -> Result<f64, QueryError> {
        let code = self.weights.get(place).copied().unwrap_or(ValueCode::ABSENT);
        if code == ValueCode::ABSENT {
            return Ok(1.0);
        }
        if let Some(known) = self.known_weights.get(&(code.column, code.raw)) {
            return Ok(*known);
        }
        let weight = weight_of(batch.value(self.plan.weight_at(), code)?.as_ref());
        if self.known_weights.len() >= KNOWN_MAX {
            self.known_weights.clear();
        }
        self.known_weights.insert((code.column, code.raw), weight);
        Ok(weight)
    }

    fn of_form(&mut self, batch: &dyn SpanBatch, form: u32, table: &mut Table) -> Result<Verdict, QueryError> {
        if let Some(verdict) = self.by_form[form as usize] {
            return Ok(verdict);
        }
        let verdict = self.decide(&prototype(batch, form)?, table)?;
        self.by_form[form as usize] = Some(verdict);
        Ok(verdict)
    }

    fn of_attributes(
        &mut self,
        batch: &dyn SpanBatch,
        form: u32,
        place: usize,
        table: &mut Table,
    ) -> Result<Verdict, QueryError> {
        self.key.clear();
        self.key.push(u64::from(form));
        for codes in &self.codes {
            let code = codes.get(place).copied().unwrap_or(ValueCode::ABSENT);
            self.key.extend([u64::from(code.column), code.raw]);
        }
        if let Some(verdict) = self.by_attributes.get(self.key.as_slice()) {
            return Ok(*verdict);
        }
        let mut span = prototype(batch, form)?;
        for (k, name) in self.plan.attributes.iter().enumerate() {
            let code = self.codes[k].get(place).copied().unwrap_or(ValueCode::ABSENT);
            if code != ValueCode::ABSENT
                && let Some(value) = batch.value(k, code)?
            {
                span.attributes.push((name.as_str().into(), value));
            }
        }
        let verdict = self.decide(&span, table)?;
        if self.by_attributes.len() >= KNOWN_MAX {
            self.by_attributes.clear();
        }
        self.by_attributes.insert(self.key.clone(), verdict);
        Ok(verdict)
    }

    fn decide(&self, span: &Span, table: &mut Table) -> Result<Verdict, QueryError> {
        let spans = [Arc::new(span.clone())];
        let trace = Trace::new(&spans);
        if !self.plan.filters.iter().all(|filter| holds(filter, &trace, 0)) {
            return Ok(Verdict::Out);
        }
        let number = match &self.stage.field {
            Some(field) if !self.plan.of_duration => match field_of(&trace, 0, field).number() {
                Some(number) => Some(number),
                None => return Ok(Verdict::Out),
            },
            _ => None,
        };
        let keys: Vec<Value<'_>> = self.stage.by.iter().map(|field| field_of(&trace, 0, field)).collect();
        Ok(Verdict::In { row: table.place(self.stage, &keys, self.n_steps)?, number })
    }
}

/// `number` is what is aggregated, if that is not the duration.
fn exemplar(batch: &dyn SpanBatch, row: usize, number: Option<f64>) -> Result<Exemplar, QueryError> {
    let (at, end) = batch.times(row)?;
    let seconds = end.0.saturating_sub(at.0).max(0) as f64 / 1e9;
    Ok(Exemplar { at, value: number.unwrap_or(seconds), trace_id: batch.trace_id(row) })
}

/// A span as all of the form are, without its own attributes and times.
fn prototype(batch: &dyn SpanBatch, form: u32) -> Result<Span, QueryError> {
    let form = batch.form(form)?;
    Ok(Span {
        name: form.name,
        kind: form.kind,
        status: form.status,
        resource: form.resource,
        scope: form.scope,
        ..Span::default()
    })
}
