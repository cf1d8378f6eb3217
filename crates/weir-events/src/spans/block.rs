//! A block: an immutable file of whole traces of one tenant, newest first.

use std::sync::Arc;

use weir_model::{Nanos, Span, TraceId};
use weir_wal::{Dir, DirError, DirFile};

use super::bytes::{Corrupt, Reader, put, put_signed};
use super::decode::decode_page;
use super::encode::encode_page;
use super::index::{self, Index};

const MAGIC: &[u8; 8] = b"weirspn\x01";
const PAGE_TRACES_MAX: usize = 256;
const PAGE_SPANS_MAX: usize = 4096;
/// Decompressed; what is longer is damage, as no writer makes it.
const SECTION_BYTES_MAX: usize = 1 << 30;
const ZSTD_LEVEL: i32 = 3;
const ID_BYTES: usize = 20;

#[derive(Debug, Clone, thiserror::Error)]
pub enum BlockError {
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error("{path} at offset {offset}: {what}")]
    Damaged { path: String, offset: u64, what: String },
}

#[derive(Clone, Copy, Debug)]
struct Section {
    offset: u64,
    bytes: u32,
    sum: u32,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    first_ordinal: u32,
    n_traces: u32,
    section: Section,
}

/// What stands in memory of a block.
#[derive(Debug)]
pub struct Block {
    pub path: String,
    pub n_traces: u32,
    pub n_spans: u64,
    /// Starts of the first and of the last span.
    pub first: Nanos,
    pub last: Nanos,
    pub file_bytes: u64,
    pages: Vec<Page>,
    ids: Section,
    index: Section,
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, ZSTD_LEVEL).expect("compressing into memory does not fail")
}

fn put_section(out: &mut Vec<u8>, section: Section) {
    put(out, section.offset);
    put(out, u64::from(section.bytes));
    out.extend_from_slice(&section.sum.to_le_bytes());
}

fn read_section(reader: &mut Reader<'_>) -> Result<Section, Corrupt> {
    let offset = reader.get()?;
    let bytes = u32::try_from(reader.get()?).map_err(|_| Corrupt("a section is too long"))?;
    Ok(Section { offset, bytes, sum: u32::from_le_bytes(reader.array()?) })
}

/// The bytes of a block. Each trace's spans ascend by start; none is empty.
pub fn encode(mut traces: Vec<(TraceId, Vec<Arc<Span>>)>) -> Vec<u8> {
    traces.sort_unstable_by_key(|(id, spans)| (std::cmp::Reverse(spans[0].start), *id));
    let spans: Vec<&[Arc<Span>]> = traces.iter().map(|(_, spans)| spans.as_slice()).collect();
    let mut out = MAGIC.to_vec();
    let section = |out: &mut Vec<u8>, bytes: &[u8]| {
        let section = Section { offset: out.len() as u64, bytes: bytes.len() as u32, sum: crc32c::crc32c(bytes) };
        out.extend_from_slice(bytes);
        section
    };
    let mut pages = Vec::new();
    let mut at = 0;
    while at < spans.len() {
        let (mut end, mut n_spans) = (at, 0);
        while end < spans.len()
            && end - at < PAGE_TRACES_MAX
            && (end == at || n_spans + spans[end].len() <= PAGE_SPANS_MAX)
        {
            n_spans += spans[end].len();
            end += 1;
        }
        let section = section(&mut out, &zstd(&encode_page(&spans[at..end])));
        pages.push(Page { first_ordinal: at as u32, n_traces: (end - at) as u32, section });
        at = end;
    }
    let mut by_id: Vec<(TraceId, u32)> = traces.iter().enumerate().map(|(k, (id, _))| (*id, k as u32)).collect();
    by_id.sort_unstable();
    let ids: Vec<u8> = by_id.iter().flat_map(|(id, ordinal)| [&id.0[..], &ordinal.to_le_bytes()].concat()).collect();
    let ids = section(&mut out, &ids);
    let index = section(&mut out, &zstd(&index::encode(&spans)));
    let starts = || spans.iter().flat_map(|trace| trace.iter().map(|span| span.start.0));
    let mut footer = Vec::new();
    put(&mut footer, spans.len() as u64);
    put(&mut footer, spans.iter().map(|trace| trace.len() as u64).sum());
    put_signed(&mut footer, starts().min().unwrap_or(0));
    put_signed(&mut footer, starts().max().unwrap_or(0));
    put_section(&mut footer, ids);
    put_section(&mut footer, index);
    put(&mut footer, pages.len() as u64);
    for page in pages {
        put(&mut footer, u64::from(page.n_traces));
        put_section(&mut footer, page.section);
    }
    out.extend_from_slice(&footer);
    out.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
    out.extend_from_slice(&(footer.len() as u32).to_le_bytes());
    out.extend_from_slice(MAGIC);
    out
}

impl Block {
    pub fn open(dir: &dyn Dir, path: &str) -> Result<Self, BlockError> {
        let file = dir.open(path)?;
        let file_bytes = file.len()?;
        let damaged = |offset: u64, what: &str| BlockError::Damaged { path: path.into(), offset, what: what.into() };
        let tail_at = file_bytes.checked_sub(16).ok_or_else(|| damaged(0, "too short for a block"))?;
        let mut tail = [0; 16];
        file.read_at(tail_at, &mut tail)?;
        let (sum, rest) = tail.split_at(4);
        let (length, magic) = rest.split_at(4);
        if magic != MAGIC {
            return Err(damaged(tail_at, "the end of the file is not that of a block"));
        }
        let number = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let length = u64::from(number(length));
        let footer_at = tail_at.checked_sub(length).ok_or_else(|| damaged(tail_at, "the footer is too long"))?;
        let mut footer = vec![0; length as usize];
        let n = file.read_at(footer_at, &mut footer)?;
        if n < footer.len() || crc32c::crc32c(&footer) != number(sum) {
            return Err(damaged(footer_at, "the footer's checksum is wrong"));
        }
        let block = Self::read_footer(path, file_bytes, &footer).map_err(|corrupt| damaged(footer_at, corrupt.0))?;
        // Later searched in the file itself, where a checksum of the whole does not help.
        block.section(&*file, block.ids)?;
        Ok(block)
    }

    fn read_footer(path: &str, file_bytes: u64, footer: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(footer);
        let n_traces = u32::try_from(reader.get()?).map_err(|_| Corrupt("too many traces"))?;
        let n_spans = reader.get()?;
        let (first, last) = (Nanos(reader.signed()?), Nanos(reader.signed()?));
        let (ids, index) = (read_section(&mut reader)?, read_section(&mut reader)?);
        let n = reader.count()?;
        let mut pages = Vec::with_capacity(n);
        let mut first_ordinal = 0_u32;
        for _ in 0..n {
            let n_traces = u32::try_from(reader.get()?).map_err(|_| Corrupt("too many traces"))?;
            pages.push(Page { first_ordinal, n_traces, section: read_section(&mut reader)? });
            first_ordinal = first_ordinal.checked_add(n_traces).ok_or(Corrupt("too many traces"))?;
        }
        let sections = || pages.iter().map(|page| page.section).chain([ids, index]);
        let is_inside = |s: Section| s.offset.checked_add(u64::from(s.bytes)).is_some_and(|end| end <= file_bytes);
        if first_ordinal != n_traces || u64::from(ids.bytes) != u64::from(n_traces) * ID_BYTES as u64 {
            return Err(Corrupt("the parts do not have as many traces as the whole"));
        }
        if !sections().all(is_inside) {
            return Err(Corrupt("a section is outside of the file"));
        }
        Ok(Self { path: path.to_owned(), n_traces, n_spans, first, last, file_bytes, pages, ids, index })
    }

    fn damaged(&self, section: Section, what: impl std::fmt::Display) -> BlockError {
        BlockError::Damaged { path: self.path.clone(), offset: section.offset, what: what.to_string() }
    }

    fn section(&self, file: &dyn DirFile, section: Section) -> Result<bytes::Bytes, BlockError> {
        let bytes = file.read_exact_at(section.offset, section.bytes as usize)?;
        if crc32c::crc32c(&bytes) == section.sum { Ok(bytes) } else { Err(self.damaged(section, "wrong checksum")) }
    }

    fn unpacked(&self, file: &dyn DirFile, section: Section) -> Result<Vec<u8>, BlockError> {
        let packed = self.section(file, section)?;
        let size = zstd::zstd_safe::get_frame_content_size(&packed).ok().flatten().unwrap_or(0);
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(SECTION_BYTES_MAX);
        zstd::bulk::decompress(&packed, size).map_err(|error| self.damaged(section, error))
    }

    pub fn index(&self, dir: &dyn Dir) -> Result<Index, BlockError> {
        let file = dir.open(&self.path)?;
        let ids = self.section(&*file, self.ids)?;
        let by_id = ids.chunks_exact(ID_BYTES).map(id_entry).collect();
        let raw = self.unpacked(&*file, self.index)?;
        Index::decode(raw, by_id).map_err(|corrupt| self.damaged(self.index, corrupt))
    }

    /// One trace, found without the index: a binary search in the file.
    pub fn trace(&self, dir: &dyn Dir, id: TraceId) -> Result<Option<Vec<Arc<Span>>>, BlockError> {
        let file = dir.open(&self.path)?;
        let (mut low, mut high) = (0_u64, u64::from(self.n_traces));
        let mut entry = [0; ID_BYTES];
        while low < high {
            let middle = low + (high - low) / 2;
            file.read_at(self.ids.offset + middle * ID_BYTES as u64, &mut entry)?;
            let (found, ordinal) = id_entry(&entry);
            match found.cmp(&id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    let traces = self.traces(dir, &[(ordinal, id)])?;
                    return Ok(traces.into_iter().next().map(|(_, spans)| spans));
                }
            }
        }
        Ok(None)
    }

    /// Traces by ascending ordinal, with their ids.
    pub fn traces(
        &self,
        dir: &dyn Dir,
        wanted: &[(u32, TraceId)],
    ) -> Result<Vec<(TraceId, Vec<Arc<Span>>)>, BlockError> {
        let file = dir.open(&self.path)?;
        let mut found = Vec::with_capacity(wanted.len());
        let mut rest = wanted;
        while let Some((ordinal, _)) = rest.first() {
            let at = self.pages.partition_point(|page| page.first_ordinal <= *ordinal).saturating_sub(1);
            let Some(page) = self.pages.get(at).copied() else { break };
            let end = page.first_ordinal + page.n_traces;
            let (here, after) = rest.split_at(rest.partition_point(|(ordinal, _)| *ordinal < end));
            if here.is_empty() {
                return Err(self.damaged(self.ids, "an ordinal is too large"));
            }
            rest = after;
            let mut ids = vec![TraceId::default(); page.n_traces as usize];
            here.iter().for_each(|(ordinal, id)| ids[(ordinal - page.first_ordinal) as usize] = *id);
            let places: Vec<usize> = here.iter().map(|(k, _)| (k - page.first_ordinal) as usize).collect();
            let raw = self.unpacked(&*file, page.section)?;
            let decoded = decode_page(&raw, &ids, |place| places.binary_search(&place).is_ok());
            let decoded = decoded.map_err(|corrupt| self.damaged(page.section, corrupt))?;
            found.extend(decoded.into_iter().map(|(place, spans)| (ids[place], spans)));
        }
        Ok(found)
    }
}

fn id_entry(bytes: &[u8]) -> (TraceId, u32) {
    let (id, ordinal) = bytes.split_at(16);
    let mut trace = TraceId::default();
    trace.0.copy_from_slice(id);
    (trace, u32::from_le_bytes([ordinal[0], ordinal[1], ordinal[2], ordinal[3]]))
}
