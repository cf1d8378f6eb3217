//! Spans as columns, for what counts them: a block's groups one after another, then those in memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use weir_model::source::{ReadContext, ReadError, SpanBatch, SpanColumnCursor, SpanColumns, SpanForm, ValueCode};
use weir_model::{AttrValue, Nanos, SpanStatus, TraceId};
use weir_wal::{Dir, DirFile};

use super::block::{Block, BlockError};
use super::build::{fixed, unordered};
use super::bytes::Corrupt;
use super::contents::{Contents, Group, Loaded};
use super::cursor::{OpenBlocks, Source};
use super::held::HeldSpans;
use super::repeats::Repeats;
use super::rows;
use super::section::Fault;

pub struct Scan {
    dir: Arc<dyn Dir>,
    blocks: Arc<OpenBlocks>,
    columns: SpanColumns,
    context: ReadContext,
    sources: VecDeque<(usize, Source)>,
    /// Rows that another source has too.
    repeats: Repeats,
    block: Option<OpenBlock>,
    held: Option<HeldSpans>,
}

impl Scan {
    pub fn new(
        sources: Vec<Source>,
        dir: Arc<dyn Dir>,
        blocks: Arc<OpenBlocks>,
        columns: &SpanColumns,
        context: &ReadContext,
    ) -> Self {
        let near = |source: &Source| {
            let (first, last) = source.bounds();
            first < columns.end && columns.start <= last
        };
        let sources: Vec<Source> = sources.into_iter().filter(near).collect();
        let repeats = Repeats::find(&sources, &*dir, &blocks);
        Self {
            dir,
            blocks,
            columns: columns.clone(),
            context: context.clone(),
            sources: sources.into_iter().enumerate().collect(),
            repeats,
            block: None,
            held: None,
        }
    }

    /// Goes to the next batch; `false` at the end.
    fn advance(&mut self) -> Result<bool, ReadError> {
        loop {
            self.context.cancel.check()?;
            if self.block.as_mut().is_some_and(OpenBlock::advance) || self.held.as_mut().is_some_and(HeldSpans::advance)
            {
                return Ok(true);
            }
            (self.block, self.held) = (None, None);
            let Some((number, source)) = self.sources.pop_front() else { return Ok(false) };
            match source {
                Source::Head(head) => {
                    let head = head.read();
                    let left_out = self.repeats.of_head(number);
                    self.held = Some(HeldSpans::new(number as u64, &head, &self.columns, left_out, &self.context)?);
                }
                Source::Block(block) => match self.open(number, &block) {
                    Ok(open) => self.block = Some(open),
                    Err(error) => tracing::error!(%error, "spans: a block cannot be read and is left out"),
                },
            }
        }
    }

    fn open(&mut self, number: usize, block: &Block) -> Result<OpenBlock, BlockError> {
        let contents = self.blocks.get(&*self.dir, block)?;
        let file = block.file(&*self.dir)?;
        let repeated = self.repeats.of_block(number);
        OpenBlock::new(number as u64, contents, file, &self.columns, repeated).map_err(|fault| block.damaged(fault))
    }
}

impl SpanColumnCursor for Scan {
    fn next(&mut self) -> Result<Option<Box<dyn SpanBatch + '_>>, ReadError> {
        if !self.advance()? {
            return Ok(None);
        }
        Ok(match (&self.block, &self.held) {
            (Some(block), _) => Some(Box::new(block)),
            (None, Some(held)) => Some(Box::new(held)),
            (None, None) => None,
        })
    }
}

/// One block; the columns that are wanted of the groups in range.
struct OpenBlock {
    table: u64,
    contents: Arc<Contents>,
    file: Arc<dyn DirFile>,
    range: (Nanos, Nanos),
    steps: Option<(Nanos, i64)>,
    groups: Range<usize>,
    forms: Loaded,
    /// Of the groups that reach over more than a step, or out of the range.
    starts: AHashMap<usize, Loaded>,
    durations: Option<Loaded>,
    /// Of each wanted attribute, the columns of its types, each with how often a span of each form is in it.
    attributes: Vec<Vec<(usize, Vec<u32>, Loaded)>>,
    repeated: Vec<u32>,
    /// The group at hand, and which of its rows count, when not all do.
    group: usize,
    kept: Option<Vec<bool>>,
    n_kept: usize,
}

impl OpenBlock {
    fn new(
        table: u64,
        contents: Arc<Contents>,
        file: Arc<dyn DirFile>,
        columns: &SpanColumns,
        repeated: Vec<u32>,
    ) -> Result<Self, Fault> {
        let range = (columns.start, columns.end);
        let near = |group: &Group| group.first < range.1 && range.0 <= group.last;
        let first = contents.groups.iter().position(near).unwrap_or(contents.groups.len());
        let end = contents.groups.iter().rposition(near).map_or(first, |last| last + 1);
        let groups = first..end;
        let forms = contents.load(&*file, fixed::FORMS, groups.clone())?;
        for group in groups.clone() {
            let packed = forms.group(group).ok_or(Corrupt("a column is missing"))?;
            if packed.max_bound() >= contents.forms.len() as u64 {
                let mut all = Vec::new();
                packed.unpack(&mut all, |form| form as usize);
                if all.iter().any(|form| *form >= contents.forms.len()) {
                    return Err(Corrupt("a form is missing").into());
                }
            }
        }
        let mut starts = AHashMap::new();
        for group in groups.clone() {
            let Group { first, last, .. } = contents.groups[group];
            let is_inside = range.0 <= first && last < range.1;
            if !is_inside || step_of(columns.steps, first) != step_of(columns.steps, last) || columns.steps.is_none() {
                starts.insert(group, contents.load(&*file, fixed::STARTS, group..group + 1)?);
            }
        }
        let durations = columns.durations.then(|| contents.load(&*file, fixed::DURATIONS, groups.clone()));
        let mut attributes = Vec::new();
        for name in &columns.attributes {
            let load =
                |column: usize| Ok((column, contents.times_in(column), contents.load(&*file, column, groups.clone())?));
            attributes.push(contents.columns_of(name).map(load).collect::<Result<Vec<_>, Fault>>()?);
        }
        Ok(Self {
            table,
            file,
            range,
            steps: columns.steps,
            forms,
            starts,
            durations: durations.transpose()?,
            attributes,
            repeated,
            group: groups.start,
            groups,
            contents,
            kept: None,
            n_kept: 0,
        })
    }

    fn advance(&mut self) -> bool {
        while self.groups.start < self.groups.end {
            self.group = self.groups.start;
            self.groups.start += 1;
            self.keep();
            if self.n_kept > 0 {
                return true;
            }
        }
        false
    }

    fn keep(&mut self) {
        let group = &self.contents.groups[self.group];
        let repeated = &self.repeated[self.repeated.partition_point(|row| *row < group.rows.start)..];
        let repeated = &repeated[..repeated.partition_point(|row| *row < group.rows.end)];
        let is_inside = self.range.0 <= group.first && group.last < self.range.1;
        self.n_kept = group.rows.len();
        self.kept = None;
        if is_inside && repeated.is_empty() {
            return;
        }
        let mut kept = vec![true; self.n_kept];
        repeated.iter().for_each(|row| kept[(row - group.rows.start) as usize] = false);
        if !is_inside {
            let mut starts = Vec::new();
            self.all_starts(&mut starts);
            for (kept, start) in kept.iter_mut().zip(starts) {
                *kept &= self.range.0.0 <= start && start < self.range.1.0;
            }
        }
        self.n_kept = kept.iter().filter(|kept| **kept).count();
        self.kept = Some(kept);
    }

    fn all_starts(&self, out: &mut Vec<i64>) {
        if let Some(starts) = self.starts.get(&self.group).and_then(|starts| starts.group(self.group)) {
            starts.unpack(out, unordered);
        }
    }

    /// Takes out what was appended from `from` on and does not count.
    fn retain<T>(&self, out: &mut Vec<T>, from: usize) {
        if let Some(kept) = &self.kept {
            let mut row = 0;
            let mut kept_until = from;
            while from + row < out.len() {
                if kept.get(row).copied().unwrap_or(false) {
                    out.swap(kept_until, from + row);
                    kept_until += 1;
                }
                row += 1;
            }
            out.truncate(kept_until);
        }
    }

    fn all_forms(&self, out: &mut Vec<u32>) {
        if let Some(forms) = self.forms.group(self.group) {
            forms.unpack(out, |form| form as u32);
        }
    }

    fn failed(&self, fault: Fault) -> ReadError {
        ReadError::Storage(format!("a block of spans is damaged: {fault}"))
    }
}

/// The step that an instant falls into; all in one when there are none.
fn step_of(steps: Option<(Nanos, i64)>, at: Nanos) -> i64 {
    steps.map_or(0, |(origin, step)| (at.0.saturating_sub(origin.0) - 1).div_euclid(step.max(1)))
}

impl SpanBatch for &OpenBlock {
    fn n_rows(&self) -> usize {
        self.n_kept
    }
    fn n_traces(&self) -> usize {
        self.contents.groups[self.group].ordinals.len()
    }
    fn table(&self) -> u64 {
        self.table
    }
    fn bounds(&self) -> (Nanos, Nanos) {
        let group = &self.contents.groups[self.group];
        (group.first.max(self.range.0), group.last.min(Nanos(self.range.1.0 - 1)))
    }
    fn forms(&self, out: &mut Vec<u32>) {
        let from = out.len();
        self.all_forms(out);
        self.retain(out, from);
    }
    fn form(&self, number: u32) -> Result<SpanForm, ReadError> {
        let form = self.contents.forms.get(number as usize).ok_or(Corrupt("a form is missing").into());
        let form = form.map_err(|fault| self.failed(fault))?;
        let mut texts = self.contents.texts.reader(&*self.file);
        let mut text = |number: u32| texts.text(number).map_err(|fault| self.failed(fault));
        Ok(SpanForm {
            name: text(form.name)?,
            kind: form.kind,
            status: SpanStatus { code: form.status, message: text(form.message)? },
            resource: self.contents.resources[form.resource as usize].clone(),
            scope: self.contents.scopes[form.scope as usize].clone(),
        })
    }
    fn starts(&self, out: &mut Vec<i64>) {
        let (first, last) = self.bounds();
        if self.steps.is_some() && step_of(self.steps, first) == step_of(self.steps, last) {
            return;
        }
        let from = out.len();
        self.all_starts(out);
        self.retain(out, from);
    }
    fn durations(&self, out: &mut Vec<i64>) {
        let from = out.len();
        if let Some(durations) = self.durations.as_ref().and_then(|durations| durations.group(self.group)) {
            durations.unpack(out, |v| unordered(v).max(0));
        }
        self.retain(out, from);
    }
    fn has_values(&self, k: usize) -> bool {
        !self.attributes[k].is_empty()
    }
    fn values(&self, k: usize, out: &mut Vec<ValueCode>) {
        let from = out.len();
        let n_rows = self.contents.groups[self.group].rows.len();
        out.resize(from + n_rows, ValueCode::ABSENT);
        let columns = &self.attributes[k];
        let mut forms = Vec::new();
        if columns.iter().any(|(_, times, _)| times.iter().any(|n| *n != 1)) || columns.len() > 1 {
            self.all_forms(&mut forms);
        }
        for (column, times, loaded) in columns {
            let Some(values) = loaded.group(self.group) else { continue };
            let mut raws = Vec::new();
            values.unpack(&mut raws, |raw| raw);
            let code = |raw: u64| ValueCode { column: *column as u32, raw };
            if forms.is_empty() {
                out[from..].iter_mut().zip(raws).for_each(|(out, raw)| *out = code(raw));
                continue;
            }
            let mut rank = 0;
            for (row, form) in forms.iter().enumerate() {
                let n = times[*form as usize] as usize;
                // Of several types the one that stands first in the span.
                if n > 0 && self.stands_first(*form, *column, columns) {
                    out[from + row] = raws.get(rank).map_or(ValueCode::ABSENT, |raw| code(*raw));
                }
                rank += n;
            }
        }
        self.retain(out, from);
    }
    fn value(&self, _k: usize, code: ValueCode) -> Result<Option<AttrValue>, ReadError> {
        let Some(column) = self.contents.columns.get(code.column as usize) else { return Ok(None) };
        let mut texts = self.contents.texts.reader(&*self.file);
        rows::value(column.kind, code.raw, &mut texts).map(Some).map_err(|fault| self.failed(fault))
    }
    fn trace_id(&self, row: usize) -> TraceId {
        let first = self.contents.groups[self.group].rows.start;
        self.contents.id(self.contents.ordinal_of(first + self.row_in_group(row) as u32))
    }
    fn times(&self, row: usize) -> Result<(Nanos, Nanos), ReadError> {
        let row = self.row_in_group(row);
        let value = |column: usize| -> Result<i64, Fault> {
            let loaded = self.contents.load(&*self.file, column, self.group..self.group + 1)?;
            let value = loaded.group(self.group).and_then(|values| values.get(row));
            Ok(unordered(value.ok_or(Corrupt("a value is missing"))?))
        };
        let failed = |fault| self.failed(fault);
        let (start, duration) = (value(fixed::STARTS).map_err(failed)?, value(fixed::DURATIONS).map_err(failed)?);
        Ok((Nanos(start), Nanos(start.wrapping_add(duration))))
    }
}

impl OpenBlock {
    fn row_in_group(&self, row: usize) -> usize {
        match &self.kept {
            None => row,
            Some(kept) => (0..kept.len()).filter(|k| kept[*k]).nth(row).unwrap_or(0),
        }
    }

    fn stands_first(&self, form: u32, column: usize, of_name: &[(usize, Vec<u32>, Loaded)]) -> bool {
        let shape = &self.contents.shapes[self.contents.forms[form as usize].shape as usize];
        let first = shape.iter().find(|column| of_name.iter().any(|(of, ..)| *of == **column as usize));
        first.is_some_and(|first| *first as usize == column)
    }
}

/// Rows or spans to leave out.
pub type LeftOut = AHashSet<(TraceId, weir_model::SpanId, weir_model::SpanKind)>;
