//! Rows that are not columns yet: their text lies in large pieces, searchable at once.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::{Labels, LogEntry, Nanos};

use super::build::{RowIn, RunIn, build};
use super::bytes::Damaged;
use super::segment::Segment;

/// Text is cut into pieces of about this size; a reader shares the full ones.
const PIECE_BYTES: usize = 128 << 10;
/// The first piece of a head, most of which never have more.
const FIRST_BYTES: usize = 8 << 10;

/// Shapes that are compared one by one before they are looked up.
const SHAPES_TRIED: usize = 8;

#[derive(Clone, Copy, Default)]
struct Row {
    at: i64,
    stream: u32,
    shape: u32,
    piece: u32,
    start: u32,
    line_len: u32,
    /// Where the lengths of its metadata values begin.
    lens: u32,
}

/// Metadata names of rows; few different ones.
#[derive(Clone, Default)]
struct Shapes {
    names: Vec<Vec<Arc<str>>>,
    index: AHashMap<Vec<Arc<str>>, u32>,
}

impl Shapes {
    fn of(&mut self, metadata: &[(Arc<str>, Arc<str>)], last: u32) -> u32 {
        let same = |names: &[Arc<str>]| names.iter().eq(metadata.iter().map(|(name, _)| name));
        if self.names.get(last as usize).is_some_and(|names| same(names)) {
            return last;
        }
        if let Some(known) = self.names.iter().take(SHAPES_TRIED).position(|names| same(names)) {
            return known as u32;
        }
        let names: Vec<Arc<str>> = metadata.iter().map(|(name, _)| name.clone()).collect();
        *self.index.entry(names).or_insert_with_key(|names| {
            self.names.push(names.clone());
            self.names.len() as u32 - 1
        })
    }
}

/// Where rows arrive.
#[derive(Default)]
pub(crate) struct Open {
    pieces: Vec<Arc<String>>,
    tail: String,
    rows: Vec<Row>,
    value_lens: Vec<u32>,
    streams: Vec<Labels>,
    stream_index: AHashMap<Labels, u32>,
    stream_bytes: usize,
    shapes: Shapes,
}

impl Open {
    pub(crate) fn append(&mut self, labels: &Labels, entries: &[LogEntry]) {
        let stream = match self.stream_index.get(labels) {
            Some(stream) => *stream,
            None => {
                let stream = self.streams.len() as u32;
                self.streams.push(labels.clone());
                self.stream_index.insert(labels.clone(), stream);
                self.stream_bytes += 200 + labels.size_bytes() + labels.len() * 32;
                stream
            }
        };
        let mut shape = 0;
        for entry in entries {
            shape = self.shapes.of(&entry.metadata, shape);
            self.make_room(entry.size_bytes());
            let row = Row {
                at: entry.at.0,
                stream,
                shape,
                piece: self.pieces.len() as u32,
                start: self.tail.len() as u32,
                line_len: entry.line.len() as u32,
                lens: self.value_lens.len() as u32,
            };
            self.tail.push_str(&entry.line);
            for (_, value) in &entry.metadata {
                self.tail.push_str(value);
                self.value_lens.push(value.len() as u32);
            }
            self.rows.push(row);
        }
    }

    /// Begins a new piece when the row does not fit into the last one, so that text is copied once.
    fn make_room(&mut self, bytes: usize) {
        if self.tail.capacity() - self.tail.len() >= bytes {
            return;
        }
        let room = if self.tail.capacity() == 0 && self.pieces.is_empty() { FIRST_BYTES } else { PIECE_BYTES };
        if !self.tail.is_empty() && self.tail.capacity() < PIECE_BYTES {
            self.tail.reserve_exact(bytes.max(PIECE_BYTES - self.tail.len()));
            return;
        }
        let full = std::mem::replace(&mut self.tail, String::with_capacity(bytes.max(room)));
        if !full.is_empty() {
            self.pieces.push(full.into());
        }
    }

    pub(crate) fn n_rows(&self) -> usize {
        self.rows.len()
    }

    /// Bytes held, slack included.
    pub(crate) fn size_bytes(&self) -> u64 {
        let pieces: usize = self.pieces.iter().map(|p| p.capacity() + 40).sum();
        let rows = self.rows.capacity() * size_of::<Row>() + self.value_lens.capacity() * 4;
        (pieces + self.tail.capacity() + rows + self.stream_bytes) as u64
    }

    pub(crate) fn streams(&self) -> &[Labels] {
        &self.streams
    }

    /// The rows in [start, end) of the streams that `wanted` accepts, sorted, repeated ones dropped.
    pub(crate) fn freeze(&self, wanted: impl Fn(&Labels) -> bool, start: Nanos, end: Nanos) -> Frozen {
        let mut order: Vec<u32> =
            (0..self.streams.len() as u32).filter(|s| wanted(&self.streams[*s as usize])).collect();
        order.sort_by(|a, b| self.streams[*a as usize].cmp(&self.streams[*b as usize]));
        let mut place = vec![u32::MAX; self.streams.len()];
        order.iter().enumerate().for_each(|(at, stream)| place[*stream as usize] = at as u32);
        let is_in = |row: &&Row| place[row.stream as usize] != u32::MAX && start.0 <= row.at && row.at < end.0;
        let (rows, ends) = by_stream(&place, order.len(), || self.rows.iter().filter(is_in));
        let mut pieces = self.pieces.clone();
        pieces.push(self.tail.clone().into());
        let mut frozen = Frozen {
            pieces,
            rows,
            value_lens: self.value_lens.clone(),
            shapes: self.shapes.names.clone(),
            runs: Vec::new(),
        };
        frozen.set_runs(order.iter().map(|stream| &self.streams[*stream as usize]).zip(ends));
        frozen
    }
}

/// Rows by their stream's place, then time, then as they came, and where the rows of each of `n` places end. Rows of
/// a stream mostly come in order, so that dealing them out by stream nearly sorts them.
fn by_stream<'r, I: Iterator<Item = &'r Row>>(place: &[u32], n: usize, rows: impl Fn() -> I) -> (Vec<Row>, Vec<usize>) {
    let mut next = vec![0_usize; n + 1];
    rows().for_each(|row| next[place[row.stream as usize] as usize + 1] += 1);
    for i in 1..=n {
        next[i] += next[i - 1];
    }
    let mut out = vec![Row::default(); next[n]];
    for row in rows() {
        let at = &mut next[place[row.stream as usize] as usize];
        out[*at] = *row;
        *at += 1;
    }
    // What was where a stream begins is now where it ends.
    next.truncate(n);
    let mut from = 0;
    for end in &next {
        let of_stream = &mut out[from..*end];
        if !of_stream.is_sorted_by_key(|row| row.at) {
            of_stream.sort_by_key(|row| row.at);
        }
        from = *end;
    }
    (out, next)
}

/// The rows of one stream among frozen ones.
#[derive(Clone)]
pub(crate) struct FrozenRun {
    pub labels: Labels,
    pub first: usize,
    pub n: usize,
    pub min: Nanos,
    pub max: Nanos,
    pub line_bytes: u64,
}

/// Rows that no longer change, by stream and time.
pub(crate) struct Frozen {
    pieces: Vec<Arc<String>>,
    rows: Vec<Row>,
    value_lens: Vec<u32>,
    shapes: Vec<Vec<Arc<str>>>,
    pub runs: Vec<FrozenRun>,
}

impl Frozen {
    /// Drops what is repeated. `streams`: labels, and where the stream's rows end.
    fn set_runs<'l>(&mut self, streams: impl Iterator<Item = (&'l Labels, usize)>) {
        let mut kept: Vec<Row> = Vec::with_capacity(self.rows.len());
        let mut from = 0;
        for (labels, end) in streams {
            let first = kept.len();
            let mut line_bytes = 0;
            for row in &self.rows[from..end] {
                let same_time = kept[first..].iter().rev().take_while(|k| k.at == row.at);
                if !same_time.into_iter().any(|k| self.line_of(k) == self.line_of(row)) {
                    line_bytes += u64::from(row.line_len);
                    kept.push(*row);
                }
            }
            from = end;
            if let (Some(min), Some(max)) = (kept.get(first), kept.last())
                && first < kept.len()
            {
                let (min, max) = (Nanos(min.at), Nanos(max.at));
                self.runs.push(FrozenRun {
                    labels: labels.clone(),
                    first,
                    n: kept.len() - first,
                    min,
                    max,
                    line_bytes,
                });
            }
        }
        self.rows = kept;
    }

    fn line_of(&self, row: &Row) -> &str {
        &self.pieces[row.piece as usize][row.start as usize..(row.start + row.line_len) as usize]
    }

    pub(crate) fn line(&self, idx: usize) -> &str {
        self.line_of(&self.rows[idx])
    }
    pub(crate) fn at(&self, idx: usize) -> Nanos {
        Nanos(self.rows[idx].at)
    }

    fn row_in(&self, idx: usize) -> RowIn<'_> {
        let row = &self.rows[idx];
        let names = &self.shapes[row.shape as usize];
        let value_lens = &self.value_lens[row.lens as usize..row.lens as usize + names.len()];
        let values_at = (row.start + row.line_len) as usize;
        let values_len: usize = value_lens.iter().map(|n| *n as usize).sum();
        let values = &self.pieces[row.piece as usize][values_at..values_at + values_len];
        RowIn { at: row.at, line: self.line_of(row), shape: row.shape, values, value_lens }
    }

    pub(crate) fn entry(&self, idx: usize) -> LogEntry {
        let row = self.row_in(idx);
        let names = &self.shapes[row.shape as usize];
        let metadata = names.iter().cloned().zip(row.metadata().map(Arc::from)).collect();
        LogEntry { at: Nanos(row.at), line: row.line.into(), metadata }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows as columns, read back from the bytes that were made, so that what memory serves is
    /// what a disk would.
    pub(crate) fn to_segment(&self, id: u64) -> Result<Segment, Damaged> {
        let rows: Vec<RowIn<'_>> = (0..self.rows.len()).map(|idx| self.row_in(idx)).collect();
        let runs: Vec<RunIn<'_>> = self.runs.iter().map(|run| RunIn { labels: &run.labels, n: run.n }).collect();
        Segment::open(id, build(&self.shapes, &runs, &rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use weir_model::source::LinePredicate;

    use crate::logs::bits::Rows;
    use crate::logs::view::View;

    fn entry(at: i64, line: &str, metadata: &[(&str, &str)]) -> LogEntry {
        let metadata = metadata.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        LogEntry { at: Nanos(at), line: line.into(), metadata }
    }

    fn frozen(entries: &[LogEntry]) -> Frozen {
        let mut open = Open::default();
        for (i, entry) in entries.iter().enumerate() {
            let labels = Labels::from_pairs([("app", if i % 3 == 0 { "b" } else { "a" })]);
            open.append(&labels, std::slice::from_ref(entry));
        }
        open.freeze(|_| true, Nanos::MIN, Nanos::MAX)
    }

    /// Every row of the segment as it was frozen, read from the bytes.
    #[track_caller]
    fn check(entries: &[LogEntry], needles: &[String]) {
        let frozen = frozen(entries);
        let written = frozen.to_segment(7).unwrap().bytes;
        let segment = Arc::new(Segment::open(7, written).unwrap());
        let n = segment.head.n_rows as usize;
        let view = View::new(segment.clone());
        let want: Vec<LogEntry> = (0..n).map(|i| frozen.entry(i)).collect();
        let got: Vec<LogEntry> = (0..n).map(|i| view.entry(i).unwrap()).collect();
        assert_eq!(got, want);
        for needle in needles {
            let view = View::new(segment.clone());
            let rows = view.matched(&[LinePredicate::Contains(needle.clone())], None).unwrap().clone();
            let got: Vec<usize> = match rows {
                Rows::None => Vec::new(),
                Rows::All => (0..n).collect(),
                Rows::Some(bits) => bits.iter().collect(),
            };
            let want: Vec<usize> = (0..n).filter(|i| want[*i].line.contains(needle.as_str())).collect();
            assert_eq!(got, want, "rows with {needle:?}");
        }
    }

    #[test]
    fn a_pipelines_lines_come_back_and_are_found() {
        let line = |i: i64| match i % 4 {
            0 => format!(
                r#"{{"ts":{},"level":"{}","id":"{:032x}","ms":{:.3},"msg":"upstream timed out"}}"#,
                i * 5,
                ["INFO", "WARN"][i as usize % 2],
                i * 7_919 + 1,
                i as f64 / 7.0
            ),
            1 => format!("level=info caller=a.go:{} msg=\"order {} done\" id={:016x}", i % 50, i, i * 104_729),
            2 => format!("10.{}.3.4 - - [{}] \"GET /v1/x/{} HTTP/1.1\" 200", i % 256, i * 5, i % 1000),
            _ => format!("free text number {} über {}", "abc".repeat(i as usize % 5), i),
        };
        let level = |i: i64| if i % 4 == 0 { ["info", "warn"][i as usize % 2] } else { "unknown" };
        let entries: Vec<LogEntry> =
            (0..2_000).map(|i| entry(i * 5, &line(i), &[("detected_level", level(i)), ("trace_id", "x")])).collect();
        let needles = [
            "timed out",
            "order 1",
            "\"level\":\"WARN\"",
            "caller=a.go:49 msg",
            "0000000000000000000000000001eeff",
            "00001eef",
            ".3.4 - -",
            "x/22 HTTP",
            "über 7",
            "abcabc",
            "no such",
            "\"ms\":1.",
            "5.143",
            "}",
            "1",
            "id=0000",
        ];
        check(&entries, &needles.map(str::to_owned));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_lines_come_back_and_are_found(
            lines in prop::collection::vec((0_i64..50, "\\PC{0,20}|(a|b|=|[0-9]{1,3}|[0-9a-f]{8,12}| |\\{\"k\":|\\}|\"|\\.){0,12}|\\{\"a\":\"(x|y) ?[0-9]{0,2}\",\"b\":-?[0-9]{1,3}(\\.[0-9])?\\}", "[a-z]{0,2}"), 1..80),
            needles in prop::collection::vec("[ab=0-9 \\.\"]{1,4}|[0-9a-f]{3,8}|\\PC{1,2}", 6),
        ) {
            let entries: Vec<LogEntry> = lines.iter().map(|(at, line, value)| {
                if value.is_empty() { entry(*at, line, &[]) } else { entry(*at, line, &[("k", value)]) }
            }).collect();
            check(&entries, &needles);
        }

        #[test]
        fn damaged_segments_are_errors(lines in prop::collection::vec("[a-c0-9 ]{0,12}", 1..40), at in any::<prop::sample::Index>(), flip in 1_u8..) {
            let entries: Vec<LogEntry> = lines.iter().enumerate().map(|(i, l)| entry(i as i64, l, &[])).collect();
            let mut bytes = frozen(&entries).to_segment(1).unwrap().bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(Segment::open(1, bytes.into()).is_err());
        }
    }
}
