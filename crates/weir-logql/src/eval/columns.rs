//! Pipelines answered from columns: which rows of a template pass, and what their labels are, without a
//! line being rebuilt. Rows of which the columns do not tell are left to the pipeline itself.

use std::sync::Arc;

use weir_model::Labels;
use weir_model::columns::{ColumnValues, LogColumns, RowFilter};
use weir_model::source::ReadError;

use crate::ast::{Compare, Conversion, LabelFilter, Stage};
use crate::pipeline::filter::{Verdict, filter_name, judge};
use crate::pipeline::json;
use crate::pipeline::symbolic::{Form, Piece, Source, Symbols};
use crate::pipeline::{Needed, is_predicate};

/// The largest integers that a float holds exactly, so that dividing one is what reading its decimal
/// gives.
const EXACT_MAX: i64 = 1 << 53;

/// What the columns say of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Fails,
    Passes,
    /// The pipeline must look at the line.
    Unknown,
}

impl From<Verdict> for Told {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Fail => Self::Fails,
            Verdict::Pass => Self::Passes,
            // Marked with an error, whose text is the pipeline's affair.
            Verdict::Unreadable => Self::Unknown,
        }
    }
}

/// The stages that columns can answer; line filters are the source's, which answers them exactly.
pub(super) struct Steps(Vec<Stage>);

impl Steps {
    /// `None` when a stage cannot be answered from columns.
    pub(super) fn of(stages: &[Stage]) -> Option<Self> {
        let steps = Self::prefix(stages, true);
        (steps.len() == stages.len()).then_some(Self(steps))
    }

    fn prefix(stages: &[Stage], exact_lines: bool) -> Vec<Stage> {
        let is_parser = |stage: &Stage| match stage {
            Stage::Logfmt { fields, .. } => fields.is_empty(),
            stage => matches!(stage, Stage::Json(_)),
        };
        let has_parser = |before: &[Stage]| before.iter().any(is_parser);
        let is_step = |(i, stage): &(usize, &Stage)| match stage {
            Stage::Line(filter) => !exact_lines || is_predicate(filter),
            Stage::Label(_) => true,
            // What a stage drops before a parser may come back under its name.
            Stage::Drop(picks) => has_parser(&stages[..*i]) && picks.iter().all(|p| p.matcher.is_none()),
            stage => is_parser(stage) && !has_parser(&stages[..*i]),
        };
        stages.iter().enumerate().take_while(is_step).map(|(_, stage)| stage.clone()).collect()
    }
}

/// A template whose labels are known, and what that says of its rows.
pub(super) struct Template<'a> {
    pub(super) symbols: Symbols<'a>,
    pub(super) told: Vec<Told>,
}

impl<'a> Template<'a> {
    /// `None` when the pipeline must look at all of the template's lines.
    pub(super) fn new(
        steps: &Steps,
        needed: &Needed,
        columns: &'a dyn LogColumns,
        template: usize,
        streams: &'a [&'a Labels],
    ) -> Result<Option<Self>, ReadError> {
        let symbols = Symbols::new(columns, template, streams);
        let mut this = Self { symbols, told: vec![Told::Passes; columns.template(template).n_rows] };
        for step in &steps.0 {
            match step {
                Stage::Json(_) | Stage::Logfmt { .. } if needed.is_nothing() => {}
                Stage::Json(_) | Stage::Logfmt { .. } if !this.symbols.parse(step) => return Ok(None),
                Stage::Label(filter) => this.take(filter)?,
                Stage::Drop(picks) => picks.iter().for_each(|pick| this.symbols.hide(&pick.name)),
                _ => {}
            }
            if this.told.iter().all(|t| *t == Told::Fails) {
                break;
            }
        }
        // A metric query fails on an error that it did not ask for, and says where.
        if this.symbols.error.is_some() && !needed.wants_error() {
            this.told.iter_mut().filter(|t| **t == Told::Passes).for_each(|t| *t = Told::Unknown);
        }
        Ok(Some(this))
    }

    /// Takes the filter's word for rows that passed so far.
    pub(super) fn take(&mut self, filter: &LabelFilter) -> Result<(), ReadError> {
        let told = self.tell(filter)?;
        for (so_far, now) in self.told.iter_mut().zip(told) {
            if *so_far == Told::Passes {
                *so_far = now;
            }
        }
        Ok(())
    }

    fn tell(&self, filter: &LabelFilter) -> Result<Vec<Told>, ReadError> {
        match filter {
            LabelFilter::And(a, b) => self.both(a, b, |a, b| match (a, b) {
                (Told::Unknown, _) | (_, Told::Unknown) => Told::Unknown,
                (Told::Passes, b) => b,
                (Told::Fails, _) => Told::Fails,
            }),
            LabelFilter::Or(a, b) => self.both(a, b, |a, b| if a == Told::Fails { b } else { a }),
            LabelFilter::Ip { .. } if self.symbols.error.is_some() => Ok(vec![Told::Passes; self.told.len()]),
            filter => {
                let source = self.symbols.resolve(filter_name(filter));
                if let LabelFilter::Number { op, value, .. } = filter
                    && let Some(told) = self.compare(&source, *op, *value)?
                {
                    return Ok(told);
                }
                let told = self.each(&source, |value| Told::from(judge(filter, value)))?;
                Ok(told.unwrap_or_else(|| vec![Told::Unknown; self.told.len()]))
            }
        }
    }

    fn both(&self, a: &LabelFilter, b: &LabelFilter, of: fn(Told, Told) -> Told) -> Result<Vec<Told>, ReadError> {
        let (a, b) = (self.tell(a)?, self.tell(b)?);
        Ok(a.into_iter().zip(b).map(|(a, b)| of(a, b)).collect())
    }

    /// A comparison with a column of numbers; `None` when the label is no such thing.
    fn compare(&self, source: &Source, op: Compare, value: f64) -> Result<Option<Vec<Told>>, ReadError> {
        let told = |number: &f64| if op.holds(*number, value) { Told::Passes } else { Told::Fails };
        Ok(self.numbers(source, Conversion::Number)?.map(|numbers| numbers.iter().map(told).collect()))
    }

    fn values(&self, column: usize) -> Result<ColumnValues<'_>, ReadError> {
        self.symbols.columns.values(self.symbols.template, column)
    }

    /// The label's numbers, if it is a column of numbers and nothing else.
    pub(super) fn numbers(&self, source: &Source, conversion: Conversion) -> Result<Option<Vec<f64>>, ReadError> {
        let Some(column) = only_column(source).filter(|_| conversion == Conversion::Number) else { return Ok(None) };
        let Some((min, max)) = self.symbols.columns.range(self.symbols.template, column) else { return Ok(None) };
        let ColumnValues::Numbers { values, scale } = self.values(column)? else { return Ok(None) };
        if min <= -EXACT_MAX || EXACT_MAX <= max {
            return Ok(None);
        }
        let unit = 10_f64.powi(i32::from(scale));
        Ok(Some(values.iter().map(|v| *v as f64 / unit).collect()))
    }

    /// What `of` makes of the label's value, row by row; `None` when the template does not tell the
    /// value. A value that repeats is looked at once.
    pub(super) fn each<T: Copy>(
        &self,
        source: &Source,
        mut of: impl FnMut(Option<&str>) -> T,
    ) -> Result<Option<Vec<T>>, ReadError> {
        let n = self.told.len();
        let (pieces, form) = match source {
            Source::Absent => return Ok(Some(vec![of(None); n])),
            Source::Const(text) => return Ok(Some(vec![of(Some(text)); n])),
            Source::Stream(_) | Source::Unknown => return Ok(None),
            Source::Value { pieces, form } => (pieces, *form),
        };
        if let Some(column) = only_column(source) {
            match self.values(column)? {
                ColumnValues::Const(text) => return Ok(Some(vec![with_form(text, form, of); n])),
                ColumnValues::Dict { entries, ids } => {
                    let of_entries: Vec<T> = entries.iter().map(|text| with_form(text, form, &mut of)).collect();
                    return Ok(Some(ids.iter().map(|id| of_entries[*id as usize]).collect()));
                }
                ColumnValues::Numbers { .. } | ColumnValues::Text => {}
            }
        }
        let mut text = Vec::new();
        let mut out = Vec::with_capacity(n);
        for rank in 0..n {
            self.push(pieces, rank, &mut text)?;
            out.push(with_form(utf8(&text)?, form, &mut of));
        }
        Ok(Some(out))
    }

    fn push(&self, pieces: &[Piece], rank: usize, text: &mut Vec<u8>) -> Result<(), ReadError> {
        text.clear();
        for piece in pieces {
            match piece {
                Piece::Text(piece) => text.extend_from_slice(piece.as_bytes()),
                Piece::Column(column) => {
                    self.symbols.columns.push_text(self.symbols.template, *column, rank, text)?;
                }
            }
        }
        Ok(())
    }

    /// The value of one row.
    pub(super) fn value<T>(
        &self,
        source: &Source,
        rank: usize,
        stream: &Labels,
        text: &mut Vec<u8>,
        of: impl FnOnce(Option<&str>) -> T,
    ) -> Result<T, ReadError> {
        Ok(match source {
            Source::Absent | Source::Unknown => of(None),
            Source::Const(text) => of(Some(text)),
            Source::Stream(name) => of(stream.get(name)),
            Source::Value { pieces, form } => {
                self.push(pieces, rank, text)?;
                with_form(utf8(text)?, *form, of)
            }
        })
    }

    /// For each row an id of the label's value, and how many there are; `None` when there is no such column.
    pub(super) fn ids(&self, source: &Source) -> Result<Option<(&[u32], usize)>, ReadError> {
        let Some(column) = only_column(source) else { return Ok(None) };
        Ok(match self.values(column)? {
            ColumnValues::Dict { entries, ids } => Some((ids, entries.len())),
            _ => None,
        })
    }
}

fn only_column(source: &Source) -> Option<usize> {
    match source {
        Source::Value { pieces, .. } => match pieces.as_slice() {
            [Piece::Column(column)] => Some(*column),
            _ => None,
        },
        _ => None,
    }
}

fn utf8(text: &[u8]) -> Result<&str, ReadError> {
    std::str::from_utf8(text).map_err(|_| ReadError::Storage("a column of a log segment is no UTF-8".to_owned()))
}

fn with_form<T>(text: &str, form: Form, of: impl FnOnce(Option<&str>) -> T) -> T {
    match form {
        Form::JsonBare if text == "null" => of(None),
        Form::JsonBareAtPath if text == "null" => of(Some("")),
        Form::NotEmpty if text.is_empty() => of(None),
        // The store vouches for valid escapes; a text that is not is shown as it stands.
        Form::JsonString if text.contains('\\') => of(Some(&json::unescape(text).unwrap_or_else(|_| text.to_owned()))),
        _ => of(Some(text)),
    }
}

/// The beginning of a log query's pipeline, for a source that can do without rows it refuses.
struct PipelineFilter(Steps);

/// `None` when nothing in the pipeline could refuse a row.
pub(super) fn row_filter(stages: &[Stage]) -> Option<Arc<dyn RowFilter>> {
    let mut steps = Steps::prefix(stages, false);
    let last = steps.iter().rposition(|stage| matches!(stage, Stage::Label(_)))?;
    steps.truncate(last + 1);
    Some(Arc::new(PipelineFilter(Steps(steps))))
}

impl RowFilter for PipelineFilter {
    fn may_pass(
        &self,
        columns: &dyn LogColumns,
        template: usize,
        streams: &[&Labels],
    ) -> Result<Option<Vec<bool>>, ReadError> {
        let told = Template::new(&self.0, Needed::ALL, columns, template, streams)?;
        Ok(told.map(|t| t.told.iter().map(|told| *told != Told::Fails).collect()))
    }
}
