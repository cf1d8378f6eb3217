//! A segment while a query reads it: parts are decoded when first asked for.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;

use weir_model::columns::{ColumnValues, EXACT_TEXT_BYTES_MAX, LogColumns, LogTemplate, RowFilter};
use weir_model::source::{LinePredicate, ReadError};
use weir_model::{Labels, LogEntry, Nanos};

use super::bits::{Bits, Rows};
use super::bloom::Filter;
use super::bytes::{Damaged, Reader};
use super::column::{ColumnMeta, Kind, Values};
use super::find;
use super::ints::{self, Place};
use super::needle::{Need, Part, Places, places};
use super::segment::{Head, Segment, Template};

/// What a reader knows of the rows of a segment beside the predicates.
pub(crate) struct Refine<'a> {
    pub filter: &'a dyn RowFilter,
    /// Of all runs that are read.
    pub streams: Vec<&'a Labels>,
}

pub(crate) struct View {
    pub segment: Arc<Segment>,
    times: OnceCell<Vec<i64>>,
    template_ids: OnceCell<Vec<u32>>,
    /// For each template its rows.
    rows_of: OnceCell<Vec<Vec<u32>>>,
    /// For each row its place among those of its template.
    ranks: OnceCell<Vec<u32>>,
    columns: Vec<Vec<OnceCell<Values>>>,
    matched: OnceCell<Rows>,
    scratch: Cell<Vec<u8>>,
}

fn init<T>(cell: &OnceCell<T>, make: impl FnOnce() -> Result<T, Damaged>) -> Result<&T, Damaged> {
    if let Some(value) = cell.get() {
        return Ok(value);
    }
    let value = make()?;
    Ok(cell.get_or_init(|| value))
}

fn damaged(what: &'static str) -> Damaged {
    Damaged { part: "data", at: 0, what }
}

impl View {
    pub(crate) fn new(segment: Arc<Segment>) -> Self {
        let templates = segment.head.templates.iter();
        let columns = templates.map(|t| t.columns.iter().map(|_| OnceCell::new()).collect()).collect();
        Self {
            segment,
            times: OnceCell::new(),
            template_ids: OnceCell::new(),
            rows_of: OnceCell::new(),
            ranks: OnceCell::new(),
            columns,
            matched: OnceCell::new(),
            scratch: Cell::default(),
        }
    }

    fn n_rows(&self) -> usize {
        self.segment.head.n_rows as usize
    }

    pub(crate) fn times(&self) -> Result<&[i64], Damaged> {
        let times = init(&self.times, || {
            let mut reader = Reader::new("times", self.segment.slice(self.segment.head.times));
            ints::decode(&mut reader, self.n_rows(), Place::default())
        });
        times.map(Vec::as_slice)
    }

    fn template_ids(&self) -> Result<&[u32], Damaged> {
        let ids = init(&self.template_ids, || {
            let mut reader = Reader::new("template ids", self.segment.slice(self.segment.head.template_ids));
            let n_templates = self.segment.head.templates.len() as i64;
            let ids = ints::decode(&mut reader, self.n_rows(), Place::default())?;
            if ids.iter().any(|id| !(0..n_templates).contains(id)) {
                return Err(damaged("a row of an unknown template"));
            }
            Ok(ids.into_iter().map(|id| id as u32).collect())
        });
        ids.map(Vec::as_slice)
    }

    fn rows_of(&self) -> Result<&[Vec<u32>], Damaged> {
        let rows_of = init(&self.rows_of, || {
            let templates = &self.segment.head.templates;
            let mut rows: Vec<Vec<u32>> = templates.iter().map(|t| Vec::with_capacity(t.n_rows as usize)).collect();
            let ids = self.template_ids()?;
            ids.iter().enumerate().for_each(|(row, id)| rows[*id as usize].push(row as u32));
            if rows.iter().zip(templates).any(|(rows, t)| rows.len() != t.n_rows as usize) {
                return Err(damaged("a template with another number of rows"));
            }
            Ok(rows)
        });
        rows_of.map(Vec::as_slice)
    }

    fn ranks(&self) -> Result<&[u32], Damaged> {
        let ranks = init(&self.ranks, || {
            let mut ranks = vec![0; self.n_rows()];
            for rows in self.rows_of()? {
                rows.iter().enumerate().for_each(|(rank, row)| ranks[*row as usize] = rank as u32);
            }
            Ok(ranks)
        });
        ranks.map(Vec::as_slice)
    }

    /// The values of a column, its own or those it repeats.
    pub(crate) fn values(&self, template: usize, column: usize) -> Result<&Values, Damaged> {
        let meta = &self.segment.head.templates[template].columns[column];
        if let Kind::Same { column } = meta.kind {
            return self.values(template, column);
        }
        let n = self.segment.head.templates[template].n_rows as usize;
        init(&self.columns[template][column], || match &meta.kind {
            Kind::Mapped { column, texts } => match self.values(template, *column)? {
                Values::Dict { entries, ids } if entries.len() == texts.len() => {
                    Ok(Values::Dict { entries: texts.clone(), ids: ids.clone() })
                }
                _ => Err(damaged("a column mapped from another dictionary")),
            },
            Kind::Number { .. } if !ints::needs_no_place(self.segment.slice((meta.at, meta.len))) => {
                let rows = &self.rows_of()?[template];
                let all = self.times()?;
                let times: Vec<i64> = rows.iter().map(|row| all[*row as usize]).collect();
                Values::decode(meta, &self.segment.data, n, Place { rows, times: &times })
            }
            _ => Values::decode(meta, &self.segment.data, n, Place::default()),
        })
    }

    /// The row's entry, byte for byte as it came.
    pub(crate) fn entry(&self, row: usize) -> Result<LogEntry, Damaged> {
        let mut line = self.scratch.take();
        let entry = self.entry_with(row, &mut line);
        self.scratch.set(line);
        entry
    }

    fn entry_with(&self, row: usize, buffer: &mut Vec<u8>) -> Result<LogEntry, Damaged> {
        let t = self.template_ids()?[row] as usize;
        let rank = self.ranks()?[row] as usize;
        let template = &self.segment.head.templates[t];
        buffer.clear();
        for (c, literal) in template.literals.iter().enumerate() {
            if c > 0 {
                self.values(t, c - 1)?.push(rank, buffer)?;
            }
            buffer.extend_from_slice(literal);
        }
        let utf8 = |bytes: &[u8]| std::str::from_utf8(bytes).map(Arc::<str>::from).map_err(|_| damaged("no UTF-8"));
        let line = utf8(buffer)?;
        let mut metadata = Vec::with_capacity(template.names.len());
        for (m, name) in template.names.iter().enumerate() {
            buffer.clear();
            self.values(t, template.n_line_vars() + m)?.push(rank, buffer)?;
            metadata.push((name.clone(), utf8(buffer)?));
        }
        Ok(LogEntry { at: Nanos(self.times()?[row]), line, metadata })
    }

    /// Rows that meet the predicates, and may be wanted as far as `refine` knows; rows of which that is
    /// not known are among them. The first call decides.
    pub(crate) fn matched(
        &self,
        predicates: &[LinePredicate],
        refine: Option<&Refine<'_>>,
    ) -> Result<&Rows, ReadError> {
        if let Some(rows) = self.matched.get() {
            return Ok(rows);
        }
        let rows = self.match_all(predicates, refine)?;
        Ok(self.matched.get_or_init(|| rows))
    }

    fn match_all(&self, predicates: &[LinePredicate], refine: Option<&Refine<'_>>) -> Result<Rows, ReadError> {
        let filter = Filter::read(&self.segment.filter)?;
        let templates = &self.segment.head.templates;
        let mut of_templates = Vec::with_capacity(templates.len());
        for t in 0..templates.len() {
            let mut rows = self.match_template(t, predicates, &filter)?;
            if rows != Rows::None
                && let Some(Refine { filter, streams }) = refine
                && let Some(may) = filter.may_pass(self, t, streams)?
            {
                rows = rows.and(Rows::where_true(&may));
            }
            of_templates.push(rows);
        }
        Ok(self.of_segment(of_templates)?)
    }

    fn match_template(&self, t: usize, predicates: &[LinePredicate], filter: &Filter<'_>) -> Result<Rows, Damaged> {
        let mut rows = Rows::All;
        for predicate in predicates {
            if rows == Rows::None {
                break;
            }
            rows = match predicate {
                LinePredicate::Contains(text) if text.len() <= EXACT_TEXT_BYTES_MAX => {
                    rows.and(self.holding(t, text.as_bytes(), filter)?)
                }
                LinePredicate::NotContains(text) if text.len() <= EXACT_TEXT_BYTES_MAX => {
                    rows.and_not(self.holding(t, text.as_bytes(), filter)?)
                }
                _ => rows,
            };
        }
        Ok(rows)
    }

    fn of_segment(&self, of_templates: Vec<Rows>) -> Result<Rows, Damaged> {
        if of_templates.iter().all(|r| *r == Rows::None) {
            return Ok(Rows::None);
        }
        if of_templates.iter().all(|r| *r == Rows::All) {
            return Ok(Rows::All);
        }
        let mut bits = Bits::none(self.n_rows());
        let rows_of = self.rows_of()?;
        for (rows, of_template) in rows_of.iter().zip(&of_templates) {
            match of_template {
                Rows::None => {}
                Rows::All => rows.iter().for_each(|row| bits.set(*row as usize)),
                Rows::Some(ranks) => ranks.iter().for_each(|rank| bits.set(rows[rank] as usize)),
            }
        }
        Ok(Rows::of(bits))
    }

    /// Ranks of a template's rows whose line holds the needle.
    fn holding(&self, t: usize, needle: &[u8], filter: &Filter<'_>) -> Result<Rows, Damaged> {
        if needle.is_empty() {
            return Ok(Rows::All);
        }
        let template = &self.segment.head.templates[t];
        let may = |need: Need<'_>| may_meet(&template.columns[need.var], need.part, need.text, filter);
        let alignments = match places(&template.literals, needle, &may) {
            Places::Everywhere => return Ok(Rows::All),
            Places::Alignments(alignments) => alignments,
        };
        let mut rows = Rows::None;
        for needs in alignments {
            let mut all = Rows::All;
            for need in needs {
                if all == Rows::None {
                    break;
                }
                all = all.and(self.meeting(t, template, need)?);
            }
            rows = rows.or(all);
        }
        Ok(rows)
    }

    fn meeting(&self, t: usize, template: &Template, need: Need<'_>) -> Result<Rows, Damaged> {
        // `may_meet` has decided about constants.
        if let Kind::Const(_) = template.columns[need.var].kind {
            return Ok(Rows::All);
        }
        find::rows(self.values(t, need.var)?, need.part, need.text, template.n_rows as usize)
    }

    pub(crate) fn size_bytes(&self) -> usize {
        let columns = self.columns.iter().flatten().filter_map(OnceCell::get);
        self.n_rows() * 20 + columns.map(Values::size_bytes).sum::<usize>()
    }
}

impl LogColumns for View {
    fn n_templates(&self) -> usize {
        self.segment.head.templates.len()
    }
    fn template(&self, template: usize) -> LogTemplate<'_> {
        let t = &self.segment.head.templates[template];
        LogTemplate { literals: &t.literals, is_json: t.is_json, names: &t.names, n_rows: t.n_rows as usize }
    }
    fn rows(&self, template: usize) -> Result<&[u32], ReadError> {
        Ok(&self.rows_of()?[template])
    }
    fn times(&self) -> Result<&[i64], ReadError> {
        Ok(Self::times(self)?)
    }
    fn may_hold(&self, template: usize, column: usize, byte: u8) -> bool {
        self.segment.head.templates[template].columns[column].shape.allows(&[byte])
    }
    fn range(&self, template: usize, column: usize) -> Option<(i64, i64)> {
        let column = &self.segment.head.templates[template].columns[column];
        matches!(column.kind, Kind::Number { .. }).then_some((column.min, column.max))
    }
    fn values(&self, template: usize, column: usize) -> Result<ColumnValues<'_>, ReadError> {
        Ok(match Self::values(self, template, column)? {
            Values::Const(text) => ColumnValues::Const(text),
            Values::Numbers { values, scale, .. } => ColumnValues::Numbers { values, scale: *scale },
            Values::Dict { entries, ids } => ColumnValues::Dict { entries, ids },
            Values::Hex { .. } | Values::Text(_) => ColumnValues::Text,
        })
    }
    fn add_lengths(&self, template: usize, column: usize, lengths: &mut [u64]) -> Result<(), ReadError> {
        Ok(Self::values(self, template, column)?.add_lengths(lengths)?)
    }
    fn push_text(&self, template: usize, column: usize, rank: usize, out: &mut Vec<u8>) -> Result<(), ReadError> {
        Ok(Self::values(self, template, column)?.push(rank, out)?)
    }
}

/// Whether head and filter show that no row holds all texts that are wanted.
pub(crate) fn is_excluded(head: &Head, filter: &[u8], predicates: &[LinePredicate]) -> Result<bool, Damaged> {
    let filter = Filter::read(filter)?;
    let lacks = |template: &Template, predicate: &LinePredicate| match predicate {
        LinePredicate::Contains(text) if !text.is_empty() && text.len() <= EXACT_TEXT_BYTES_MAX => {
            let may = |need: Need<'_>| may_meet(&template.columns[need.var], need.part, need.text, &filter);
            places(&template.literals, text.as_bytes(), &may) == Places::Alignments(Vec::new())
        }
        _ => false,
    };
    Ok(head.templates.iter().all(|t| predicates.iter().any(|p| lacks(t, p))))
}

/// Whether any value of the column can relate to the text like this.
fn may_meet(column: &ColumnMeta, part: Part, text: &[u8], filter: &Filter<'_>) -> bool {
    let shape = &column.shape;
    let fits = match part {
        Part::Equals => (shape.len_min..=shape.len_max).contains(&text.len()),
        _ => text.len() <= shape.len_max,
    };
    if !fits || !shape.allows(text) {
        return false;
    }
    match &column.kind {
        Kind::Const(value) => part.holds(value.as_bytes(), text),
        Kind::Mapped { texts, .. } => texts.iter().any(|t| part.holds(t.as_bytes(), text)),
        Kind::Hex { digits, .. } if text.len() == usize::from(*digits) => filter.may_hold_id(text),
        Kind::Text => filter.may_hold_text(text),
        _ => true,
    }
}
