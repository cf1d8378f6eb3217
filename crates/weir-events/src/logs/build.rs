//! Rows into a segment.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;
use weir_model::{Labels, Nanos};

use super::bloom;
use super::column::{self, ColumnMeta, Ids, Kind};
use super::ints::{self, Place, Predict};
use super::segment::{Head, Run, Segment, Template};
use super::split::{Split, VAR};

/// A template of fewer rows costs more than the text of its lines.
const TEMPLATE_ROWS_MIN: usize = 8;
/// Past so many templates a segment holds the lines of the rarest as text.
const TEMPLATES_MAX: usize = 2_000;
/// Neighbouring rows whose text is compressed to see whether all rows had better be text, and how much worse than
/// the whole so few compress. The short trial spares most segments the longer one.
const TRIALS: [(usize, f64); 2] = [(512, 2.0), (2_048, 1.5)];
/// Most entries of a dictionary from which another column is mapped.
const MAPPED_MAX: usize = 256;

/// A row on its way into a segment.
#[derive(Clone, Copy)]
pub(crate) struct RowIn<'a> {
    pub at: i64,
    pub line: &'a str,
    /// Names of its metadata: an index into the shapes.
    pub shape: u32,
    /// Values of its metadata, one after the other, and how long each is.
    pub values: &'a str,
    pub value_lens: &'a [u32],
}

impl<'a> RowIn<'a> {
    pub(crate) fn metadata(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.values;
        self.value_lens.iter().map(move |len| {
            let (value, after) = rest.split_at(*len as usize);
            rest = after;
            value
        })
    }
}

pub(crate) struct RunIn<'a> {
    pub labels: &'a Labels,
    /// So many rows follow those of the runs before: ascending by time, equal times as they came.
    pub n: usize,
}

/// `runs` in the order of their labels, none empty; `rows` one run after the other, repeated ones dropped.
pub(crate) fn build(shapes: &[Vec<Arc<str>>], runs: &[RunIn<'_>], rows: &[RowIn<'_>]) -> Bytes {
    let columns = Assembly::new(shapes, rows, &split_all(rows)).finish(runs);
    if !text_may_be_smaller(rows, columns.len()) {
        return columns;
    }
    let text = Assembly::new(shapes, rows, &Drafts::of_whole_lines(rows)).finish(runs);
    if text.len() < columns.len() { text } else { columns }
}

fn text_may_be_smaller(rows: &[RowIn<'_>], columns_bytes: usize) -> bool {
    let a_row = columns_bytes as f64 / rows.len() as f64;
    let is_near = |(n, slack): (usize, f64)| {
        let from = (rows.len() / 2).saturating_sub(n / 2);
        let trial = &rows[from..(from + n).min(rows.len())];
        let text = trial.iter().map(|r| r.line).collect::<Vec<_>>().join("\n");
        (super::text::compress(text.as_bytes()).len() as f64 / trial.len() as f64) < slack * a_row
    };
    TRIALS.into_iter().all(is_near)
}

/// A template and its rows.
struct Draft {
    /// Of the line alone.
    text: Box<[u8]>,
    is_json: bool,
    shape: u32,
    rows: Vec<u32>,
    /// The template is one variable, whatever the line was split into.
    is_whole: bool,
}

#[derive(Default)]
struct Drafts {
    /// The commonest first, whole lines last.
    drafts: Vec<Draft>,
    /// Variables of all rows, one row after the other, and where those of each row begin.
    vars: Vec<(u32, u32)>,
    vars_at: Vec<u32>,
}

impl Drafts {
    fn of_whole_lines(rows: &[RowIn<'_>]) -> Self {
        let mut all = Self::default();
        all.add_whole(rows, 0..rows.len() as u32);
        all
    }

    fn add_whole(&mut self, rows: &[RowIn<'_>], wanted: impl Iterator<Item = u32>) {
        let first = self.drafts.len();
        for idx in wanted {
            let shape = rows[idx as usize].shape;
            let known = self.drafts[first..].iter().position(|d| d.shape == shape).unwrap_or_else(|| {
                let text = [VAR].into();
                self.drafts.push(Draft { text, is_json: false, shape, rows: Vec::new(), is_whole: true });
                self.drafts.len() - 1 - first
            });
            self.drafts[first + known].rows.push(idx);
        }
    }

    /// Lines of rare templates become whole ones.
    fn settle(&mut self, rows: &[RowIn<'_>]) {
        self.drafts.sort_by_key(|d| std::cmp::Reverse(d.rows.len()));
        let is_common = |d: &&Draft| d.rows.len() >= TEMPLATE_ROWS_MIN;
        let kept = self.drafts.iter().take(TEMPLATES_MAX).take_while(is_common).count();
        let mut rest: Vec<u32> = self.drafts.drain(kept..).flat_map(|d| d.rows).collect();
        rest.sort_unstable();
        self.add_whole(rows, rest.into_iter());
    }

    /// The values of a draft's rows, column by column: the variables of the line, then the metadata.
    fn gather<'a>(&self, draft: &Draft, rows: &[RowIn<'a>], n_line: usize, columns: &mut Vec<Vec<&'a [u8]>>, n: usize) {
        columns.resize_with(n.max(columns.len()), Vec::new);
        columns.iter_mut().for_each(Vec::clear);
        let (of_line, of_metadata) = columns.split_at_mut(n_line);
        for idx in &draft.rows {
            let row = &rows[*idx as usize];
            let line = row.line.as_bytes();
            if draft.is_whole {
                of_line[0].push(line);
            } else {
                let vars = &self.vars[self.vars_at[*idx as usize] as usize..];
                for (column, (from, to)) in of_line.iter_mut().zip(vars) {
                    column.push(&line[*from as usize..*to as usize]);
                }
            }
            for (column, value) in of_metadata.iter_mut().zip(row.metadata()) {
                column.push(value.as_bytes());
            }
        }
    }
}

fn split_all(rows: &[RowIn<'_>]) -> Drafts {
    let mut all = Drafts { vars_at: Vec::with_capacity(rows.len()), ..Drafts::default() };
    let mut known: AHashMap<Box<[u8]>, usize> = AHashMap::new();
    let mut split = Split::default();
    for (idx, row) in rows.iter().enumerate() {
        split.line(row.line);
        let text_len = split.template.len();
        split.template.extend_from_slice(&row.shape.to_le_bytes());
        split.template.push(u8::from(split.is_json));
        let draft = match known.get(split.template.as_slice()) {
            Some(draft) => *draft,
            None => {
                let text = split.template[..text_len].into();
                let (is_json, shape) = (split.is_json, row.shape);
                all.drafts.push(Draft { text, is_json, shape, rows: Vec::new(), is_whole: false });
                known.insert(split.template.as_slice().into(), all.drafts.len() - 1);
                all.drafts.len() - 1
            }
        };
        all.drafts[draft].rows.push(idx as u32);
        all.vars_at.push(all.vars.len() as u32);
        all.vars.extend_from_slice(&split.vars);
    }
    all.settle(rows);
    all
}

/// A segment in the making.
struct Assembly<'a> {
    rows: &'a [RowIn<'a>],
    times: Vec<i64>,
    template_ids: Vec<i64>,
    templates: Vec<Template>,
    data: Vec<u8>,
    filter: bloom::Builder,
    scratch: column::Scratch,
}

impl<'a> Assembly<'a> {
    fn new(shapes: &[Vec<Arc<str>>], rows: &'a [RowIn<'a>], drafts: &Drafts) -> Self {
        let mut assembly = Self {
            rows,
            times: rows.iter().map(|r| r.at).collect(),
            template_ids: vec![0; rows.len()],
            templates: Vec::with_capacity(drafts.drafts.len()),
            data: Vec::new(),
            filter: bloom::Builder::default(),
            scratch: column::Scratch::default(),
        };
        let mut columns = Vec::new();
        let mut row_times = Vec::new();
        for (t, draft) in drafts.drafts.iter().enumerate() {
            draft.rows.iter().for_each(|row| assembly.template_ids[*row as usize] = t as i64);
            row_times.clear();
            row_times.extend(draft.rows.iter().map(|row| assembly.times[*row as usize]));
            let names = shapes.get(draft.shape as usize).cloned().unwrap_or_default();
            let literals: Vec<Box<[u8]>> = draft.text.split(|b| *b == VAR).map(Into::into).collect();
            let (n_line, n) = (literals.len() - 1, literals.len() - 1 + names.len());
            drafts.gather(draft, rows, n_line, &mut columns, n);
            let columns = assembly.columns(&columns[..n], n_line, Place { rows: &draft.rows, times: &row_times });
            let n_rows = draft.rows.len() as u32;
            assembly.templates.push(Template { literals, is_json: draft.is_json, names, n_rows, columns });
        }
        assembly
    }

    fn columns(&mut self, values: &[Vec<&[u8]>], n_line: usize, place: Place<'_>) -> Vec<ColumnMeta> {
        let mut columns: Vec<ColumnMeta> = Vec::with_capacity(values.len());
        let mut ids: Vec<Option<Ids>> = Vec::with_capacity(n_line);
        for (c, column) in values.iter().enumerate() {
            if c >= n_line
                && let Some(derived) = derived(column, &values[..n_line], &columns, &ids)
            {
                columns.push(derived);
                continue;
            }
            let (meta, column_ids) = column::encode(&mut self.data, column, place, &mut self.scratch);
            self.filter.column(&meta, column, &self.data);
            columns.push(meta);
            if c < n_line {
                ids.push(column_ids);
            }
        }
        columns
    }

    fn section(&mut self, values: &[i64], predict: Predict) -> (usize, usize) {
        let at = self.data.len();
        ints::encode_as(&mut self.data, values, Place::default(), predict, &mut self.scratch.ints);
        (at, self.data.len() - at)
    }

    fn finish(mut self, runs: &[RunIn<'_>]) -> Bytes {
        let (times, template_ids) = (std::mem::take(&mut self.times), std::mem::take(&mut self.template_ids));
        let template_ids = self.section(&template_ids, Predict::Nothing);
        let times_at = self.section(&times, Predict::Previous);
        let head = Head {
            n_rows: self.rows.len() as u32,
            min: Nanos(times.iter().copied().min().unwrap_or(0)),
            max: Nanos(times.iter().copied().max().unwrap_or(0)),
            runs: run_table(runs, self.rows),
            templates: self.templates,
            template_ids,
            times: times_at,
        };
        Segment::assemble(&head, &self.data, &self.filter.finish())
    }
}

fn run_table(runs: &[RunIn<'_>], rows: &[RowIn<'_>]) -> Vec<Run> {
    let mut first = 0;
    let run = |run: &RunIn<'_>| {
        let of_run = &rows[first..first + run.n];
        first += run.n;
        Run {
            labels: run.labels.clone(),
            first: (first - run.n) as u32,
            n: run.n as u32,
            min: Nanos(of_run.first().map_or(0, |r| r.at)),
            max: Nanos(of_run.last().map_or(0, |r| r.at)),
            line_bytes: of_run.iter().map(|r| r.line.len() as u64).sum(),
        }
    };
    runs.iter().map(run).collect()
}

/// Metadata that repeats a variable of the line, or follows from one. `lines`: the values of the line's variables,
/// `columns` and `ids` what became of them.
fn derived(values: &[&[u8]], lines: &[Vec<&[u8]>], columns: &[ColumnMeta], ids: &[Option<Ids>]) -> Option<ColumnMeta> {
    let first = values.first()?;
    if values.iter().all(|v| v == first) {
        return None;
    }
    for (c, line_values) in lines.iter().enumerate() {
        if line_values.first() == Some(first) && line_values == values {
            return Some(ColumnMeta { kind: Kind::Same { column: c }, ..columns[c].clone() });
        }
    }
    for (c, ids) in ids.iter().enumerate() {
        let Some(Ids { ids, n_entries }) = ids.as_ref().filter(|ids| ids.n_entries <= MAPPED_MAX) else { continue };
        let mut texts: Vec<Option<&[u8]>> = vec![None; *n_entries];
        let follows = ids.iter().zip(values).all(|(id, value)| *texts[*id as usize].get_or_insert(value) == *value);
        if follows {
            let texts: Vec<Box<str>> =
                texts.iter().map(|t| String::from_utf8_lossy(t.unwrap_or_default()).into()).collect();
            let mut shape = column::Shape::default();
            texts.iter().for_each(|t| shape.add(t.as_bytes()));
            return Some(ColumnMeta { kind: Kind::Mapped { column: c, texts }, shape, min: 0, max: 0, at: 0, len: 0 });
        }
    }
    None
}
