//! Log rows as columns: what an engine may see of a store's templates, so that it need not have
//! lines rebuilt to know what they say.
//!
//! A template is what lines have in common: literal, variable, literal, …, literal. Its rows are numbered
//! by rank; a rank's line is the literals with the values of that rank between them, byte for byte.
//! Columns of structured metadata follow those of the line. What a literal or a value means is for
//! the engine to find out; a store answers with what it holds.

use std::ops::Range;
use std::sync::Arc;

use crate::labels::Labels;
use crate::log::LogEntry;
use crate::source::{LogCursor, ReadError};

/// Longer texts in predicates are looked for by the reader alone: a store's answer may hold too much.
pub const EXACT_TEXT_BYTES_MAX: usize = 512;

#[derive(Clone, Copy, Debug)]
pub struct LogTemplate<'a> {
    /// UTF-8; one more than the line has variables.
    pub literals: &'a [Box<[u8]>],
    /// Each line is one JSON object that every parser accepts in full; its variables are values or
    /// stand inside of strings.
    pub is_json: bool,
    /// Of the structured metadata.
    pub names: &'a [Arc<str>],
    pub n_rows: usize,
}

impl LogTemplate<'_> {
    pub fn n_line_columns(&self) -> usize {
        self.literals.len() - 1
    }
    pub fn n_columns(&self) -> usize {
        self.n_line_columns() + self.names.len()
    }
}

/// A column's values by rank.
#[derive(Clone, Copy, Debug)]
pub enum ColumnValues<'a> {
    Const(&'a str),
    /// Written in decimal: the value divided by ten to the `scale`, all its digits written.
    Numbers {
        values: &'a [i64],
        scale: u8,
    },
    /// Each entry occurs.
    Dict {
        entries: &'a [Box<str>],
        ids: &'a [u32],
    },
    /// By [`LogColumns::push_text`] alone.
    Text,
}

/// The rows of one sorted, immutable part of a store: by stream, then by time.
pub trait LogColumns {
    fn n_templates(&self) -> usize;
    fn template(&self, template: usize) -> LogTemplate<'_>;
    /// For each rank its row, ascending.
    fn rows(&self, template: usize) -> Result<&[u32], ReadError>;
    /// For each row its time in nanoseconds.
    fn times(&self) -> Result<&[i64], ReadError>;
    /// False when no value of the column holds the byte of ASCII.
    fn may_hold(&self, template: usize, column: usize, byte: u8) -> bool;
    /// Least and greatest of a column of numbers, known without reading it.
    fn range(&self, template: usize, column: usize) -> Option<(i64, i64)>;
    fn values(&self, template: usize, column: usize) -> Result<ColumnValues<'_>, ReadError>;
    /// Adds to each rank's number the bytes of its value's text.
    fn add_lengths(&self, template: usize, column: usize, lengths: &mut [u64]) -> Result<(), ReadError>;
    /// Appends the value's text, UTF-8.
    fn push_text(&self, template: usize, column: usize, rank: usize, out: &mut Vec<u8>) -> Result<(), ReadError>;
}

/// What an engine knows of rows before their lines are rebuilt.
pub trait RowFilter: Send + Sync {
    /// By rank, whether the row may be wanted; `None`: any may be. `streams` holds the labels of all
    /// streams that have rows here and match the fragment.
    fn may_pass(
        &self,
        columns: &dyn LogColumns,
        template: usize,
        streams: &[&Labels],
    ) -> Result<Option<Vec<bool>>, ReadError>;
}

/// Rows of a part that meet a fragment's predicates.
#[derive(Clone, Copy, Debug)]
pub enum Matched<'a> {
    None,
    All,
    /// A bit for each row, the first row's the lowest of the first word.
    Some(&'a [u64]),
}

impl Matched<'_> {
    pub fn has(&self, row: u32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(words) => words.get(row as usize / 64).is_some_and(|w| w >> (row % 64) & 1 == 1),
        }
    }
}

/// Rows of one stream, ascending by time, within the fragment.
#[derive(Clone, Debug)]
pub struct ScanRun {
    pub labels: Labels,
    pub rows: Range<u32>,
    /// Bytes of all these lines, about.
    pub line_bytes: u64,
}

/// A part of a store that a query reads as a whole; its rows are in no other part.
pub trait LogScan: Send {
    /// Whether any row may meet the predicates, from what is known without the part's data.
    fn may_match(&mut self) -> Result<bool, ReadError>;
    /// Reads the data; the streams' rows, ascending and disjoint. To be called before what follows.
    fn open(&mut self) -> Result<Vec<ScanRun>, ReadError>;
    /// Rows that meet the predicates: exactly those, if no text is longer than [`EXACT_TEXT_BYTES_MAX`].
    fn matched(&self) -> Result<Matched<'_>, ReadError>;
    fn columns(&self) -> Result<&dyn LogColumns, ReadError>;
    fn entry(&self, row: u32) -> Result<LogEntry, ReadError>;
}

/// A fragment in parts, in no order.
pub struct LogScans {
    pub scans: Vec<Box<dyn LogScan>>,
    /// Rows that are not columns, or overlap and must be merged.
    pub rest: Box<dyn LogCursor>,
}
