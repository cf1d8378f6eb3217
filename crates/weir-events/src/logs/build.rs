//! Rows into a segment.

use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;
use weir_model::{Labels, Nanos};

use super::bloom;
use super::column::{self, ColumnMeta, Kind, Values};
use super::ints::{self, Place, Predict};
use super::segment::{Head, Run, Segment, Template};
use super::split::{Split, VAR};

/// A template of fewer rows costs more than the text of its lines.
const TEMPLATE_ROWS_MIN: usize = 8;
/// Past so many templates a segment holds the lines of the rarest as text.
const TEMPLATES_MAX: usize = 2_000;
/// Neighbouring rows whose text is compressed to see whether all rows had better be text.
const TRIAL_ROWS: usize = 2_048;
/// A short trial compresses worse than the whole would.
const TRIAL_SLACK: f64 = 1.5;
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
    /// Ascending by time, equal times as they came.
    pub rows: Vec<RowIn<'a>>,
}

/// `runs` in the order of their labels, none empty, repeated rows dropped.
pub(crate) fn build(shapes: &[Vec<Arc<str>>], runs: &[RunIn<'_>]) -> Bytes {
    let rows: Vec<RowIn<'_>> = runs.iter().flat_map(|r| r.rows.iter().copied()).collect();
    let columns = assemble(shapes, runs, &rows, drafts(&rows, false));
    if !text_may_be_smaller(&rows, columns.len()) {
        return columns;
    }
    let text = assemble(shapes, runs, &rows, drafts(&rows, true));
    if text.len() < columns.len() { text } else { columns }
}

fn text_may_be_smaller(rows: &[RowIn<'_>], columns_bytes: usize) -> bool {
    let from = (rows.len() / 2).saturating_sub(TRIAL_ROWS / 2);
    let trial = &rows[from..(from + TRIAL_ROWS).min(rows.len())];
    let text = trial.iter().map(|r| r.line).collect::<Vec<_>>().join("\n");
    let a_row = super::text::compress(text.as_bytes()).len() as f64 / trial.len() as f64;
    a_row < TRIAL_SLACK * columns_bytes as f64 / rows.len() as f64
}

/// A template and its rows while they are gathered.
struct Draft<'a> {
    /// Of the line alone.
    text: Box<[u8]>,
    is_json: bool,
    shape: u32,
    rows: Vec<u32>,
    /// Row by row, the variables of the line, then the metadata.
    cells: Vec<&'a [u8]>,
}

impl<'a> Draft<'a> {
    fn whole_lines(shape: u32) -> Self {
        Self { text: [VAR].into(), is_json: false, shape, rows: Vec::new(), cells: Vec::new() }
    }
    fn add_whole(&mut self, idx: u32, row: &RowIn<'a>) {
        self.rows.push(idx);
        self.cells.push(row.line.as_bytes());
        self.cells.extend(row.metadata().map(str::as_bytes));
    }
}

/// Templates, the commonest first, then whole lines.
fn drafts<'a>(rows: &[RowIn<'a>], all_text: bool) -> Vec<Draft<'a>> {
    let mut drafts: Vec<Draft<'a>> = Vec::new();
    if !all_text {
        split_all(rows, &mut drafts);
    }
    drafts.sort_by_key(|d| std::cmp::Reverse(d.rows.len()));
    let kept = drafts.iter().take(TEMPLATES_MAX).take_while(|d| d.rows.len() >= TEMPLATE_ROWS_MIN).count();
    let mut rest: Vec<u32> = drafts.drain(kept..).flat_map(|d| d.rows).collect();
    rest.sort_unstable();
    if all_text {
        rest = (0..rows.len() as u32).collect();
    }
    let mut texts: Vec<Draft<'a>> = Vec::new();
    for idx in &rest {
        let row = &rows[*idx as usize];
        let known = texts.iter().position(|d| d.shape == row.shape).unwrap_or_else(|| {
            texts.push(Draft::whole_lines(row.shape));
            texts.len() - 1
        });
        texts[known].add_whole(*idx, row);
    }
    drafts.extend(texts);
    drafts
}

fn split_all<'a>(rows: &[RowIn<'a>], drafts: &mut Vec<Draft<'a>>) {
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
                let draft = Draft { text, is_json: split.is_json, shape: row.shape, rows: vec![], cells: vec![] };
                drafts.push(draft);
                known.insert(split.template.as_slice().into(), drafts.len() - 1);
                drafts.len() - 1
            }
        };
        let draft = &mut drafts[draft];
        let line = row.line.as_bytes();
        draft.rows.push(idx as u32);
        draft.cells.extend(split.vars.iter().map(|(from, to)| &line[*from as usize..*to as usize]));
        draft.cells.extend(row.metadata().map(str::as_bytes));
    }
}

fn assemble(shapes: &[Vec<Arc<str>>], runs: &[RunIn<'_>], rows: &[RowIn<'_>], drafts: Vec<Draft<'_>>) -> Bytes {
    let mut data = Vec::new();
    let mut filter = bloom::Builder::default();
    let times: Vec<i64> = rows.iter().map(|r| r.at).collect();
    let mut template_ids = vec![0_i64; rows.len()];
    let mut templates = Vec::with_capacity(drafts.len());
    for (t, draft) in drafts.into_iter().enumerate() {
        draft.rows.iter().for_each(|row| template_ids[*row as usize] = t as i64);
        let row_times: Vec<i64> = draft.rows.iter().map(|row| times[*row as usize]).collect();
        let names = shapes.get(draft.shape as usize).cloned().unwrap_or_default();
        let literals: Vec<Box<[u8]>> = draft.text.split(|b| *b == VAR).map(Into::into).collect();
        let place = Place { rows: &draft.rows, times: &row_times };
        let columns =
            columns(&mut data, &mut filter, &draft, literals.len() - 1, literals.len() - 1 + names.len(), place);
        templates.push(Template { literals, is_json: draft.is_json, names, n_rows: draft.rows.len() as u32, columns });
    }
    let section = |data: &mut Vec<u8>, values: &[i64], predict| {
        let at = data.len();
        ints::encode_as(data, values, Place::default(), predict);
        (at, data.len() - at)
    };
    let template_ids = section(&mut data, &template_ids, Predict::Nothing);
    let times_at = section(&mut data, &times, Predict::Previous);
    let head = Head {
        n_rows: rows.len() as u32,
        min: Nanos(times.iter().copied().min().unwrap_or(0)),
        max: Nanos(times.iter().copied().max().unwrap_or(0)),
        runs: run_table(runs),
        templates,
        template_ids,
        times: times_at,
    };
    Segment::assemble(&head, &data, &filter.finish())
}

fn run_table(runs: &[RunIn<'_>]) -> Vec<Run> {
    let mut first = 0;
    let run = |run: &RunIn<'_>| {
        let n = run.rows.len() as u32;
        first += n;
        Run {
            labels: run.labels.clone(),
            first: first - n,
            n,
            min: Nanos(run.rows.first().map_or(0, |r| r.at)),
            max: Nanos(run.rows.last().map_or(0, |r| r.at)),
            line_bytes: run.rows.iter().map(|r| r.line.len() as u64).sum(),
        }
    };
    runs.iter().map(run).collect()
}

fn columns(
    data: &mut Vec<u8>,
    filter: &mut bloom::Builder,
    draft: &Draft<'_>,
    n_line: usize,
    n: usize,
    place: Place<'_>,
) -> Vec<ColumnMeta> {
    let mut columns: Vec<ColumnMeta> = Vec::with_capacity(n);
    let mut values: Vec<&[u8]> = Vec::with_capacity(draft.rows.len());
    for c in 0..n {
        values.clear();
        values.extend(draft.cells.iter().skip(c).step_by(n));
        if c >= n_line
            && let Some(column) = derived(draft, n_line, n, &values, &columns, data, place)
        {
            columns.push(column);
            continue;
        }
        let column = column::encode(data, &values, place);
        filter.column(&column, &values);
        columns.push(column);
    }
    columns
}

/// Metadata that repeats a variable of the line, or follows from one.
fn derived(
    draft: &Draft<'_>,
    n_line: usize,
    n: usize,
    values: &[&[u8]],
    columns: &[ColumnMeta],
    data: &[u8],
    place: Place<'_>,
) -> Option<ColumnMeta> {
    let first = values.first()?;
    if values.iter().all(|v| v == first) {
        return None;
    }
    for (c, column) in columns.iter().enumerate().take(n_line) {
        let line_values = draft.cells.iter().skip(c).step_by(n);
        if draft.cells[c] == *first && line_values.eq(values.iter()) {
            return Some(ColumnMeta { kind: Kind::Same { column: c }, ..column.clone() });
        }
    }
    let dictionaries = columns.iter().enumerate().take(n_line).filter(|(_, column)| column.kind == Kind::Dict);
    for (c, column) in dictionaries {
        let Ok(Values::Dict { entries, ids }) = Values::decode(column, data, values.len(), place) else { continue };
        if entries.len() > MAPPED_MAX {
            continue;
        }
        let mut texts: Vec<Option<&[u8]>> = vec![None; entries.len()];
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
