//! The series of a block, ascending by labels: labels by symbol, and where the chunks are.
//!
//! Thirty-two series make a group, the first one whole, the others as differences: series of one metric
//! mostly differ in the instance alone.

use crate::chunk::ChunkError;
use crate::chunk::reader::{Reader, put_varint, put_zigzag};

use super::page::Place;

pub(super) const GROUP: usize = 32;
/// Bounds for foreign bytes; a series' chunks each span some time, labels are limited at ingest.
const CHUNKS_MAX: usize = 1 << 20;
const LABELS_MAX: usize = 1 << 12;

/// A chunk: a column of times (by number) and a column of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChunkAt {
    pub times: u32,
    pub values: Place,
    pub values_len: u32,
}

/// Names and values by symbol, ascending by name.
pub(super) type Pairs = Vec<(u32, u32)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub pairs: Pairs,
    /// Of floats.
    pub chunks: Vec<ChunkAt>,
    /// Of histograms; they follow the floats.
    pub histograms: Vec<ChunkAt>,
}

/// What entries of a group are counted from.
#[derive(Default)]
struct Before {
    pairs: Pairs,
    times: u32,
    place: Place,
}

#[derive(Default)]
pub(super) struct Encoder {
    pub bytes: Vec<u8>,
    /// Length of each finished group.
    pub group_lens: Vec<usize>,
    before: Before,
    n_in_group: usize,
    group_start: usize,
}

impl Encoder {
    pub fn push(&mut self, entry: &Entry) {
        if self.n_in_group == GROUP {
            self.end_group();
        }
        let out = &mut self.bytes;
        if self.n_in_group == 0 {
            let first = entry.chunks.first().or(entry.histograms.first());
            let place = first.map_or(Place::default(), |c| c.values);
            self.before = Before { pairs: Vec::new(), times: 0, place };
            put_varint(out, u64::from(place.page));
            put_varint(out, u64::from(place.offset));
        }
        self.n_in_group += 1;
        let before = &mut self.before;
        let same_names = before.pairs.len() == entry.pairs.len()
            && !entry.pairs.is_empty()
            && entry.pairs.len() <= 60
            && before.pairs.iter().zip(&entry.pairs).all(|(a, b)| a.0 == b.0);
        if same_names {
            let differs = |(idx, (a, b)): (usize, (&(u32, u32), &(u32, u32)))| u64::from(a.1 != b.1) << idx;
            let changed: u64 = before.pairs.iter().zip(&entry.pairs).enumerate().map(differs).sum();
            put_varint(out, changed << 1);
            for (idx, pair) in entry.pairs.iter().enumerate().filter(|(idx, _)| changed >> idx & 1 == 1) {
                put_zigzag(out, i64::from(pair.1) - i64::from(before.pairs[idx].1));
            }
        } else {
            put_varint(out, (entry.pairs.len() as u64) << 1 | 1);
            for (name, value) in &entry.pairs {
                put_varint(out, u64::from(*name));
                put_varint(out, u64::from(*value));
            }
        }
        put_varint(out, (entry.chunks.len() as u64) << 1 | u64::from(!entry.histograms.is_empty()));
        if !entry.histograms.is_empty() {
            put_varint(out, entry.histograms.len() as u64);
        }
        for chunk in entry.chunks.iter().chain(&entry.histograms) {
            debug_assert_eq!(chunk.values, before.place, "chunks follow each other");
            put_zigzag(out, i64::from(chunk.times) - i64::from(before.times));
            put_varint(out, u64::from(chunk.values_len));
            before.times = chunk.times;
            before.place = chunk.values.after(chunk.values_len);
        }
        before.pairs.clone_from(&entry.pairs);
    }

    fn end_group(&mut self) {
        self.group_lens.push(self.bytes.len() - self.group_start);
        self.group_start = self.bytes.len();
        self.n_in_group = 0;
    }

    pub fn finish(&mut self) {
        if self.n_in_group > 0 {
            self.end_group();
        }
    }
}

/// The entries of one group.
pub(super) fn decode_group(bytes: &[u8], n: usize) -> Result<Vec<Entry>, ChunkError> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::with_capacity(n.min(GROUP));
    let page = small(&mut reader, "a page's number is out of range")?;
    let offset = small(&mut reader, "a page's offset is out of range")?;
    let mut before = Before { pairs: Vec::new(), times: 0, place: Place { page, offset } };
    for _ in 0..n {
        let pairs = decode_pairs(&mut reader, &before.pairs)?;
        let counts = reader.count(CHUNKS_MAX * 2, "too many chunks")?;
        let n_histograms = if counts & 1 == 0 { 0 } else { reader.count(CHUNKS_MAX, "too many chunks")? };
        let n_chunks = counts >> 1;
        let mut chunks = Vec::with_capacity((n_chunks + n_histograms).min(bytes.len()));
        for _ in 0..n_chunks + n_histograms {
            let times = i64::from(before.times).checked_add(reader.zigzag("a column's number is cut short")?);
            let times = times.and_then(|t| u32::try_from(t).ok());
            before.times = times.ok_or_else(|| reader.error("a column's number is out of range"))?;
            let values_len = small(&mut reader, "a column's length is out of range")?;
            chunks.push(ChunkAt { times: before.times, values: before.place, values_len });
            before.place = before.place.after(values_len);
        }
        before.pairs.clone_from(&pairs);
        let histograms = chunks.split_off(n_chunks);
        entries.push(Entry { pairs, chunks, histograms });
    }
    Ok(entries)
}

fn small(reader: &mut Reader<'_>, what: &'static str) -> Result<u32, ChunkError> {
    u32::try_from(reader.varint(what)?).map_err(|_| reader.error(what))
}

fn decode_pairs(reader: &mut Reader<'_>, before: &Pairs) -> Result<Pairs, ChunkError> {
    let header = reader.varint("a series is cut short")?;
    if header & 1 == 1 {
        let n = usize::try_from(header >> 1).ok().filter(|n| *n <= LABELS_MAX);
        let n = n.ok_or_else(|| reader.error("too many labels"))?;
        let pair =
            |_| Ok((small(reader, "a name's number is cut short")?, small(reader, "a value's number is cut short")?));
        return (0..n).map(pair).collect();
    }
    let changed = header >> 1;
    if before.len() < 64 && changed >> before.len() != 0 {
        return Err(reader.error("a label changes that is not there"));
    }
    let mut pairs = before.clone();
    for (_, pair) in pairs.iter_mut().enumerate().filter(|(idx, _)| *idx < 64 && changed >> idx & 1 == 1) {
        let value = i64::from(pair.1).checked_add(reader.zigzag("a value's number is cut short")?);
        let value = value.and_then(|v| u32::try_from(v).ok());
        pair.1 = value.ok_or_else(|| reader.error("a value's number is out of range"))?;
    }
    Ok(pairs)
}
