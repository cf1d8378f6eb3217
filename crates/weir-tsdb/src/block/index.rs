//! One block, opened: its index in memory, its pages on disk.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use weir_model::labels::Label;
use weir_model::{Labels, MatchOp, Matcher, TimeRange, Timestamp};
use weir_wal::{Dir, DirFile};

use super::BlockError;
use super::page::PageAt;
use super::postings::decode_into;
use super::series::{ChunkAt, Entry, GROUP, decode_group};
use super::write::MAGIC;
use crate::chunk::reader::Reader;
use crate::chunk::{self, CHUNK_SAMPLES_MAX, ChunkError, ChunkHead};

const CHECKSUM: usize = 4;
/// Checksum and length of the footer, and the magic at the end.
const TAIL: usize = CHECKSUM + 4 + 8;
const FOOTER_MAX: usize = 256;

/// Values of one label.
struct Name {
    name: u32,
    values: Range<usize>,
}

struct Value {
    value: u32,
    list: Range<usize>,
}

struct TimesAt {
    head: ChunkHead,
    bytes: Range<usize>,
}

/// A section and where it starts in the file, for reports of damage.
struct Section {
    bytes: Bytes,
    start: u64,
}

/// An opened block. Series are known by position, ascending by labels.
pub struct BlockIndex {
    path: String,
    file: Arc<dyn DirFile>,
    range: TimeRange,
    n_samples: u64,
    pages: Vec<PageAt>,
    times: Vec<TimesAt>,
    times_section: Section,
    symbols: Vec<Arc<str>>,
    n_series: u32,
    groups: Vec<Range<usize>>,
    series_section: Section,
    /// Sorted by name as text.
    names: Vec<Name>,
    /// Sorted by value as text within a name.
    values: Vec<Value>,
    postings_section: Section,
}

impl BlockIndex {
    pub fn open(dir: &dyn Dir, path: &str) -> Result<Self, BlockError> {
        let file = dir.open(path)?;
        let len = file.len()?;
        let damaged = |offset: u64, what: &str| BlockError::Damaged { path: path.into(), offset, what: what.into() };
        if len < (MAGIC.len() + TAIL) as u64 {
            return Err(damaged(len, "the file is too short for a block"));
        }
        let tail_at = len.saturating_sub((FOOTER_MAX + TAIL) as u64);
        let tail = file.read_exact_at(tail_at, (len - tail_at) as usize)?;
        let (before_magic, magic) = tail.split_at(tail.len() - MAGIC.len());
        if magic != MAGIC {
            return Err(damaged(len - 8, "no block ends here"));
        }
        let (before_len, footer_len) = before_magic.split_at(before_magic.len() - 4);
        let footer_len = u32::from_le_bytes(footer_len.try_into().expect("four bytes")) as usize;
        let Some(footer_start) = before_len.len().checked_sub(footer_len + CHECKSUM) else {
            return Err(damaged(len - 12, "the footer's length is out of range"));
        };
        let footer_at = tail_at + footer_start as u64;
        let footer =
            checked(&before_len[footer_start..]).ok_or_else(|| damaged(footer_at, "the footer's checksum is wrong"))?;
        let footer = Footer::read(footer).map_err(|e| BlockError::damaged(path, footer_at, e))?;
        let mut at = footer_at;
        let mut sections = Vec::with_capacity(5);
        for section_len in footer.section_lens.iter().rev() {
            let with_checksum = section_len + CHECKSUM as u64;
            let start = at
                .checked_sub(with_checksum)
                .ok_or_else(|| damaged(footer_at, "a section's length is out of range"))?;
            let bytes = file.read_exact_at(start, with_checksum as usize)?;
            if checked(&bytes).is_none() {
                return Err(damaged(start, "a section's checksum is wrong"));
            }
            sections.push(Section { bytes: bytes.slice(..bytes.len() - CHECKSUM), start });
            at = start;
        }
        let [postings, series, symbols, times, pages]: [Section; 5] =
            sections.try_into().map_err(|_| damaged(footer_at, "sections are missing"))?;
        let in_section = |section: &Section, error| BlockError::damaged(path, section.start, error);
        let pages_end = at;
        let pages = read_pages(&pages.bytes, pages_end).map_err(|e| in_section(&pages, e))?;
        let times_read = read_times(&times.bytes).map_err(|e| in_section(&times, e))?;
        let symbols = read_symbols(&symbols.bytes).map_err(|e| in_section(&symbols, e))?;
        let (n_series, groups) = read_groups(&series.bytes).map_err(|e| in_section(&series, e))?;
        let (names, values) = read_directory(&postings.bytes, symbols.len()).map_err(|e| in_section(&postings, e))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            range: footer.range,
            n_samples: footer.n_samples,
            pages,
            times: times_read,
            times_section: times,
            symbols,
            n_series,
            groups,
            series_section: series,
            names,
            values,
            postings_section: postings,
        })
    }

    pub fn path(&self) -> &str {
        &self.path
    }
    pub fn range(&self) -> TimeRange {
        self.range
    }
    pub fn n_series(&self) -> u32 {
        self.n_series
    }
    pub fn n_samples(&self) -> u64 {
        self.n_samples
    }

    /// What it takes in memory, roughly.
    pub fn size_bytes(&self) -> usize {
        let sections = [&self.times_section, &self.series_section, &self.postings_section];
        sections.iter().map(|s| s.bytes.len()).sum::<usize>()
            + self.symbols.iter().map(|s| s.len() + 32).sum::<usize>()
            + self.pages.len() * 16
            + self.times.len() * size_of::<TimesAt>()
            + self.groups.len() * 16
            + self.values.len() * size_of::<Value>()
    }

    fn damaged(&self, section: &Section, at: usize, error: ChunkError) -> BlockError {
        BlockError::damaged(&self.path, section.start + at as u64, error)
    }

    fn text(&self, symbol: u32) -> &Arc<str> {
        &self.symbols[symbol as usize]
    }

    fn name(&self, name: &str) -> Option<&Name> {
        let found = self.names.binary_search_by(|n| (**self.text(n.name)).cmp(name)).ok()?;
        Some(&self.names[found])
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter().map(|n| self.text(n.name))
    }

    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = (&Arc<str>, usize)> {
        let range = self.name(name).map_or(0..0, |n| n.values.clone());
        range.map(|idx| (self.text(self.values[idx].value), idx))
    }

    pub(super) fn add_postings(&self, value_idx: usize, into: &mut RoaringBitmap) -> Result<(), BlockError> {
        let list = &self.values[value_idx].list;
        decode_into(&self.postings_section.bytes[list.clone()], self.n_series, into)
            .map_err(|e| self.damaged(&self.postings_section, list.start, e))
    }

    /// Positions of the series that all matchers accept.
    pub(super) fn select(&self, matchers: &[Matcher]) -> Result<RoaringBitmap, BlockError> {
        let mut found: Option<RoaringBitmap> = None;
        // Those that narrow come first, so that the others have less to take away from.
        for matcher in matchers.iter().filter(|m| !m.matches_empty()) {
            let mut accepted = RoaringBitmap::new();
            self.for_values(matcher, true, |idx| self.add_postings(idx, &mut accepted))?;
            found = Some(match found {
                None => accepted,
                Some(found) => found & accepted,
            });
            if found.as_ref().is_some_and(RoaringBitmap::is_empty) {
                break;
            }
        }
        let mut found = found.unwrap_or_else(|| (0..self.n_series).collect());
        for matcher in matchers.iter().filter(|m| m.matches_empty()) {
            if found.is_empty() {
                break;
            }
            let mut refused = RoaringBitmap::new();
            self.for_values(matcher, false, |idx| self.add_postings(idx, &mut refused))?;
            found -= refused;
        }
        Ok(found)
    }

    fn for_values(
        &self,
        matcher: &Matcher,
        accepted: bool,
        mut each: impl FnMut(usize) -> Result<(), BlockError>,
    ) -> Result<(), BlockError> {
        let Some(name) = self.name(&matcher.name) else { return Ok(()) };
        let values = &self.values[name.values.clone()];
        if matcher.op == MatchOp::Equal && accepted {
            let found = values.binary_search_by(|v| (**self.text(v.value)).cmp(matcher.value.as_str()));
            return found.map_or(Ok(()), |idx| each(name.values.start + idx));
        }
        for (idx, value) in values.iter().enumerate() {
            if matcher.matches(self.text(value.value)) == accepted {
                each(name.values.start + idx)?;
            }
        }
        Ok(())
    }

    /// The entries of a group of series; series `position` is in group `position / GROUP`.
    pub(super) fn group(&self, group: usize) -> Result<Vec<Entry>, BlockError> {
        let bytes = &self.groups[group];
        let n = (self.n_series as usize - group * GROUP).min(GROUP);
        decode_group(&self.series_section.bytes[bytes.clone()], n)
            .map_err(|e| self.damaged(&self.series_section, bytes.start, e))
    }

    pub(super) fn labels(&self, entry: &Entry) -> Result<Labels, BlockError> {
        let symbol = |idx: u32| self.symbols.get(idx as usize).cloned();
        let pairs: Option<Vec<Label>> = entry
            .pairs
            .iter()
            .map(|(name, value)| Some(Label { name: symbol(*name)?, value: symbol(*value)? }))
            .collect();
        let labels = pairs.and_then(|pairs| Labels::try_from_vec(pairs).ok());
        labels.ok_or_else(|| BlockError::Damaged {
            path: self.path.clone(),
            offset: self.series_section.start,
            what: "a series has labels that cannot be".to_owned(),
        })
    }

    /// The head of a chunk's times.
    pub(super) fn times_head(&self, times: u32) -> Result<ChunkHead, BlockError> {
        self.times_at(times).map(|t| t.head)
    }

    fn times_at(&self, times: u32) -> Result<&TimesAt, BlockError> {
        self.times.get(times as usize).ok_or_else(|| BlockError::Damaged {
            path: self.path.clone(),
            offset: self.times_section.start,
            what: "a chunk names times that are not there".to_owned(),
        })
    }

    pub(super) fn times_bytes(&self, times: u32) -> Result<&[u8], BlockError> {
        Ok(&self.times_section.bytes[self.times_at(times)?.bytes.clone()])
    }

    pub(super) fn decode_times(&self, times: u32, out: &mut Vec<i64>) -> Result<(), BlockError> {
        let at = self.times_at(times)?;
        chunk::decode_times(&self.times_section.bytes[at.bytes.clone()], at.head, out)
            .map_err(|e| self.damaged(&self.times_section, at.bytes.start, e))
    }

    pub(super) fn page(&self, page: u32) -> Result<Bytes, BlockError> {
        let damaged = |offset, what: &str| BlockError::Damaged { path: self.path.clone(), offset, what: what.into() };
        let Some(at) = self.pages.get(page as usize) else {
            return Err(damaged(self.series_section.start, "a chunk names a page that is not there"));
        };
        let bytes = self.file.read_exact_at(at.offset, at.len as usize + CHECKSUM)?;
        if checked(&bytes).is_none() {
            return Err(damaged(at.offset, "a page's checksum is wrong"));
        }
        Ok(bytes.slice(..at.len as usize))
    }

    /// A chunk's values within its page.
    pub(super) fn values_of<'a>(&self, page: &'a [u8], chunk: &ChunkAt) -> Result<&'a [u8], BlockError> {
        let start = chunk.values.offset as usize;
        page.get(start..start + chunk.values_len as usize).ok_or_else(|| BlockError::Damaged {
            path: self.path.clone(),
            offset: self.pages.get(chunk.values.page as usize).map_or(0, |p| p.offset),
            what: "a chunk reaches past its page".to_owned(),
        })
    }

    pub(super) fn page_damaged(&self, chunk: &ChunkAt, error: ChunkError) -> BlockError {
        let page = self.pages.get(chunk.values.page as usize).map_or(0, |p| p.offset);
        BlockError::damaged(&self.path, page + u64::from(chunk.values.offset), error)
    }
}

/// The bytes before a checksum that is right.
fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM>()?;
    (crc32c::crc32c(bytes) == u32::from_le_bytes(*checksum)).then_some(bytes)
}

struct Footer {
    section_lens: [u64; 5],
    range: TimeRange,
    n_samples: u64,
}

impl Footer {
    fn read(bytes: &[u8]) -> Result<Self, ChunkError> {
        let mut reader = Reader::new(bytes);
        let mut section_lens = [0; 5];
        for len in &mut section_lens {
            *len = reader.count(u32::MAX as usize, "a section is too long")? as u64;
        }
        let start = Timestamp(reader.zigzag("the first time is cut short")?);
        let end = Timestamp(reader.zigzag("the last time is cut short")?);
        let n_samples = reader.varint("the number of samples is cut short")?;
        Ok(Self { section_lens, range: TimeRange::new(start, end), n_samples })
    }
}

fn read_pages(bytes: &[u8], end: u64) -> Result<Vec<PageAt>, ChunkError> {
    let mut reader = Reader::new(bytes);
    let n = reader.count(bytes.len(), "more pages than bytes")?;
    let mut at = MAGIC.len() as u64;
    let mut pages = Vec::with_capacity(n);
    for _ in 0..n {
        let len = reader.count(u32::MAX as usize, "a page is too long")? as u32;
        pages.push(PageAt { offset: at, len });
        at += u64::from(len) + CHECKSUM as u64;
        if at > end {
            return Err(reader.error("pages reach past their end"));
        }
    }
    Ok(pages)
}

fn read_times(bytes: &[u8]) -> Result<Vec<TimesAt>, ChunkError> {
    let mut reader = Reader::new(bytes);
    let n = reader.count(bytes.len(), "more columns of times than bytes")?;
    let mut times = Vec::with_capacity(n);
    for _ in 0..n {
        let n_samples = reader.count(CHUNK_SAMPLES_MAX, "too many samples")?;
        let first = reader.zigzag("a first time is cut short")?;
        let span = reader.varint("a time span is cut short")?;
        let last = first.checked_add_unsigned(span).ok_or_else(|| reader.error("a time span is too long"))?;
        let len = reader.count(bytes.len(), "a column of times is too long")?;
        let start = bytes.len() - reader.rest().len();
        reader.take(len, "a column of times is cut short")?;
        let head = ChunkHead { n_samples, range: TimeRange::new(Timestamp(first), Timestamp(last)) };
        times.push(TimesAt { head, bytes: start..start + len });
    }
    Ok(times)
}

fn read_symbols(bytes: &[u8]) -> Result<Vec<Arc<str>>, ChunkError> {
    let mut reader = Reader::new(bytes);
    let n = reader.count(bytes.len(), "more symbols than bytes")?;
    let mut lens = Vec::with_capacity(n);
    for _ in 0..n {
        lens.push(reader.count(bytes.len(), "a symbol is too long")?);
    }
    let mut symbols = Vec::with_capacity(n);
    for len in lens {
        let raw = reader.take(len, "a symbol is cut short")?;
        let text = std::str::from_utf8(raw).map_err(|_| reader.error("a symbol is not UTF-8"))?;
        symbols.push(Arc::from(text));
    }
    Ok(symbols)
}

fn read_groups(bytes: &[u8]) -> Result<(u32, Vec<Range<usize>>), ChunkError> {
    let mut reader = Reader::new(bytes);
    let n_series = reader.count((u32::MAX as usize).min(bytes.len() * 8), "more series than bytes")?;
    let n_groups = n_series.div_ceil(GROUP);
    let mut lens = Vec::with_capacity(n_groups.min(bytes.len()));
    for _ in 0..n_groups {
        lens.push(reader.count(bytes.len(), "a group of series is too long")?);
    }
    let mut at = bytes.len() - reader.rest().len();
    let mut groups = Vec::with_capacity(n_groups);
    for len in lens {
        reader.take(len, "a group of series is cut short")?;
        groups.push(at..at + len);
        at += len;
    }
    Ok((n_series as u32, groups))
}

fn read_directory(bytes: &[u8], n_symbols: usize) -> Result<(Vec<Name>, Vec<Value>), ChunkError> {
    let mut reader = Reader::new(bytes);
    let symbol = |reader: &mut Reader<'_>| match reader.count(n_symbols.saturating_sub(1), "a symbol is not there")? {
        _ if n_symbols == 0 => Err(reader.error("a symbol is not there")),
        idx => Ok(idx as u32),
    };
    let n_names = reader.count(bytes.len(), "more names than bytes")?;
    let (mut names, mut values) = (Vec::with_capacity(n_names), Vec::new());
    let mut at = 0;
    for _ in 0..n_names {
        let name = symbol(&mut reader)?;
        let n_values = reader.count(bytes.len(), "more values than bytes")?;
        let first = values.len();
        for _ in 0..n_values {
            let value = symbol(&mut reader)?;
            let len = reader.count(bytes.len(), "a posting list is too long")?;
            values.push(Value { value, list: at..at + len });
            at += len;
        }
        names.push(Name { name, values: first..values.len() });
    }
    let start = bytes.len() - reader.rest().len();
    if at != reader.rest().len() {
        return Err(reader.error("the posting lists' lengths do not add up"));
    }
    for value in &mut values {
        value.list = start + value.list.start..start + value.list.end;
    }
    Ok((names, values))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_wal::SimDir;

    use super::*;
    use crate::block::BlockWriter;

    fn block() -> (Arc<SimDir>, Vec<u8>) {
        let dir = Arc::new(SimDir::new(1));
        let mut writer = BlockWriter::create(dir.clone(), "a/block").expect("an empty disk");
        for instance in 100..200 {
            let labels = Labels::from_pairs([("__name__", "up"), ("instance", &*instance.to_string()), ("job", "a")]);
            let times: Vec<_> = (0..50).map(|k| 1_000_000 + k * 15_000 + k % 3).collect();
            let values: Vec<_> = (0..50).map(|k| (k * instance % 17) as f64 / 10.0).collect();
            writer.add(&labels, &times, &values, &[]).expect("labels ascend");
        }
        writer.finish().expect("an empty disk").expect("it has samples");
        let bytes = dir.read("a/block").expect("just written").to_vec();
        (dir, bytes)
    }

    /// Places of page and sections, without their checksums.
    fn parts(bytes: &[u8]) -> Vec<Range<usize>> {
        let len_at = bytes.len() - 12;
        let footer_len = u32::from_le_bytes(bytes[len_at..len_at + 4].try_into().expect("four bytes")) as usize;
        let footer_at = len_at - CHECKSUM - footer_len;
        let footer = Footer::read(&bytes[footer_at..footer_at + footer_len]).expect("own bytes");
        let mut parts: Vec<_> = std::iter::once(footer_at..footer_at + footer_len).collect();
        for len in footer.section_lens.iter().rev() {
            let end = parts[parts.len() - 1].start - CHECKSUM;
            parts.push(end - *len as usize..end);
        }
        parts.push(MAGIC.len()..parts[parts.len() - 1].start - CHECKSUM);
        parts
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]
        /// What a checksum lets through is an error or other samples, never a panic.
        #[test]
        fn foreign_bytes_with_right_checksums(part in 0usize..7, at in any::<prop::sample::Index>(), flips in prop::collection::vec(any::<u8>(), 1..4)) {
            let (dir, mut bytes) = block();
            let part = parts(&bytes)[part].clone();
            let start = part.start + at.index(part.len());
            for (byte, flip) in bytes[start..part.end].iter_mut().zip(flips) {
                *byte ^= flip;
            }
            let checksum = crc32c::crc32c(&bytes[part.clone()]);
            bytes[part.end..part.end + CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
            dir.replace("a/block", &bytes).expect("room");
            if let Ok(index) = BlockIndex::open(&*dir, "a/block") {
                let index = Arc::new(index);
                let _ = index.read_all(&[], TimeRange::ALL);
                let _ = index.read_all(&[Matcher::equal("job", "a"), Matcher::equal("instance", "107")], TimeRange::ALL);
            }
        }
    }
}
