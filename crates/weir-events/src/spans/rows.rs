//! Spans made from a block's columns.

use std::sync::Arc;

use weir_model::{AttrValue, Nanos, Span, SpanId, SpanStatus, TraceId};
use weir_wal::DirFile;

use super::build::{fixed, unordered};
use super::bytes::{Corrupt, Reader};
use super::contents::{Contents, Form};
use super::encode::{BOOL, DOUBLE, INT, STR};
use super::loose;
use super::packed::Packed;
use super::section::Fault;
use super::texts::TextReader;

const MISSING: Corrupt = Corrupt("a value is missing");

/// The traces of these ordinals, which ascend.
pub fn traces(
    contents: &Contents,
    file: &dyn DirFile,
    ordinals: &[u32],
) -> Result<Vec<(TraceId, Vec<Arc<Span>>)>, Fault> {
    let mut out = Vec::with_capacity(ordinals.len());
    let mut texts = contents.texts.reader(file);
    for of_group in ordinals.chunk_by(|a, b| contents.group_of(*a) == contents.group_of(*b)) {
        let Some(first) = of_group.first() else { continue };
        if *first >= contents.n_traces() {
            return Err(Corrupt("an ordinal is too large").into());
        }
        let mut group = Group::load(contents, file, contents.group_of(*first))?;
        for ordinal in of_group {
            let id = contents.id(*ordinal);
            out.push((id, group.trace(*ordinal, id, &mut texts)?));
        }
    }
    Ok(out)
}

struct Group<'a> {
    contents: &'a Contents,
    first_row: u32,
    columns: Vec<Option<Packed>>,
    forms: Vec<u32>,
    /// Rows before this one are counted in `ranks`.
    row: usize,
    /// Of each column, the values of the rows before `row`.
    ranks: Vec<usize>,
}

impl<'a> Group<'a> {
    fn load(contents: &'a Contents, file: &dyn DirFile, group: usize) -> Result<Self, Fault> {
        let columns = (0..contents.columns.len())
            .map(|column| Ok(contents.load(file, column, group..group + 1)?.group(group).cloned()))
            .collect::<Result<Vec<_>, Fault>>()?;
        let mut forms = Vec::new();
        columns[fixed::FORMS].as_ref().ok_or(MISSING)?.unpack(&mut forms, |form| form as u32);
        if forms.iter().any(|form| *form as usize >= contents.forms.len()) {
            return Err(Corrupt("a form is missing").into());
        }
        let ranks = vec![0; columns.len()];
        Ok(Self { contents, first_row: contents.groups[group].rows.start, columns, forms, row: 0, ranks })
    }

    fn form(&self, row: usize) -> &'a Form {
        &self.contents.forms[self.forms[row] as usize]
    }

    fn trace(&mut self, ordinal: u32, id: TraceId, texts: &mut TextReader<'_>) -> Result<Vec<Arc<Span>>, Fault> {
        let rows = self.contents.rows(ordinal);
        let (from, to) = ((rows.start - self.first_row) as usize, (rows.end - self.first_row) as usize);
        for row in self.row..from {
            let shape = &self.contents.shapes[self.form(row).shape as usize];
            shape.iter().for_each(|column| self.ranks[*column as usize] += 1);
        }
        self.row = to;
        let mut spans = Vec::with_capacity(to - from);
        for row in from..to {
            spans.push(Arc::new(self.span(row, from..to, id, texts)?));
        }
        Ok(spans)
    }

    fn at(&self, column: usize, row: usize) -> Result<u64, Corrupt> {
        self.columns[column].as_ref().and_then(|packed| packed.get(row)).ok_or(MISSING)
    }

    fn span(
        &mut self,
        row: usize,
        trace: std::ops::Range<usize>,
        trace_id: TraceId,
        texts: &mut TextReader<'_>,
    ) -> Result<Span, Fault> {
        let form = self.form(row);
        let span_id = |number: u64| SpanId(number.to_be_bytes());
        let start = Nanos(unordered(self.at(fixed::STARTS, row)?));
        let mut span = Span {
            trace_id,
            span_id: span_id(self.at(fixed::IDS, row)?),
            parent: match self.at(fixed::PARENTS, row)? {
                0 => None,
                place => {
                    let parent = trace.start + (place - 1) as usize;
                    Some(span_id(self.at(fixed::IDS, if trace.contains(&parent) { parent } else { usize::MAX })?))
                }
            },
            name: texts.text(form.name)?,
            kind: form.kind,
            start,
            end: Nanos(start.0.wrapping_add(unordered(self.at(fixed::DURATIONS, row)?))),
            status: SpanStatus { code: form.status, message: texts.text(form.message)? },
            trace_state: texts.text(form.state)?,
            flags: form.flags,
            resource: self.contents.resources[form.resource as usize].clone(),
            scope: self.contents.scopes[form.scope as usize].clone(),
            ..Span::default()
        };
        let shape = &self.contents.shapes[form.shape as usize];
        span.attributes.reserve_exact(shape.len());
        for column in shape.iter().map(|column| *column as usize) {
            let raw = self.at(column, self.ranks[column])?;
            self.ranks[column] += 1;
            match column {
                fixed::FOREIGN => span.parent = Some(span_id(raw)),
                fixed::EXTRAS => {
                    let mut reader = Reader::new(texts.bytes(number(raw)?)?);
                    (span.events, span.links) = loose::extras(&mut reader, start)?;
                }
                _ => {
                    let column = &self.contents.columns[column];
                    span.attributes.push((column.name.clone(), value(column.kind, raw, texts)?));
                }
            }
        }
        Ok(span)
    }
}

fn number(raw: u64) -> Result<u32, Corrupt> {
    u32::try_from(raw).map_err(|_| Corrupt("a text is missing"))
}

/// A value of an attribute column.
pub fn value(kind: u8, raw: u64, texts: &mut TextReader<'_>) -> Result<AttrValue, Fault> {
    Ok(match kind {
        STR => AttrValue::Str(texts.text(number(raw)?)?),
        INT => AttrValue::Int(unordered(raw)),
        DOUBLE => AttrValue::Double(f64::from_bits(raw)),
        BOOL => AttrValue::Bool(raw != 0),
        _ => loose::value(&mut Reader::new(texts.bytes(number(raw)?)?))?,
    })
}
