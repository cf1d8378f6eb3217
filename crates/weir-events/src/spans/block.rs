//! A block: an immutable file of whole traces of one tenant, newest first.

use std::sync::Arc;

use weir_model::{Nanos, Span, TraceId};
use weir_wal::{Dir, DirError, DirFile};

use super::build::{Builder, MAGIC};
use super::bytes::{Corrupt, Reader};
use super::class::Class;
use super::contents::{Contents, ID_BYTES, id_entry};
use super::rows;
use super::section::{self, Fault, Section, read_section};

#[derive(Debug, Clone, thiserror::Error)]
pub enum BlockError {
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error("{path} at offset {offset}: {what}")]
    Damaged { path: String, offset: u64, what: String },
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
    pub class: Class,
    ids: Section,
    tables: Section,
}

/// The bytes of a block. Each trace's spans ascend by start; none is empty.
pub fn encode(mut traces: Vec<(TraceId, Vec<Arc<Span>>)>, group_rows: usize) -> Vec<u8> {
    traces.sort_unstable_by_key(|(id, spans)| (std::cmp::Reverse(spans[0].start), *id));
    let mut builder = Builder::new(group_rows, Class::Fresh);
    traces.iter().for_each(|(id, spans)| builder.push(*id, spans));
    builder.finish()
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
        section::read(&*file, block.ids).map_err(|fault| block.damaged(fault))?;
        Ok(block)
    }

    fn read_footer(path: &str, file_bytes: u64, footer: &[u8]) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(footer);
        let n_traces = u32::try_from(reader.get()?).map_err(|_| Corrupt("too many traces"))?;
        let n_spans = reader.get()?;
        let (first, last) = (Nanos(reader.signed()?), Nanos(reader.signed()?));
        let (ids, tables) = (read_section(&mut reader)?, read_section(&mut reader)?);
        let class = Class::of_code(reader.byte()?)?;
        if u64::from(ids.bytes) != u64::from(n_traces) * ID_BYTES as u64 {
            return Err(Corrupt("the ids are not those of the traces"));
        }
        if [ids, tables].iter().any(|section| section.end() > file_bytes) {
            return Err(Corrupt("a section is outside of the file"));
        }
        Ok(Self { path: path.to_owned(), n_traces, n_spans, first, last, file_bytes, class, ids, tables })
    }

    pub fn damaged(&self, fault: Fault) -> BlockError {
        let (offset, what) = match fault {
            Fault::Dir(error) => return BlockError::Dir(error),
            Fault::Corrupt(corrupt) => (0, corrupt.to_string()),
            Fault::Section(offset, what) => (offset, what),
        };
        BlockError::Damaged { path: self.path.clone(), offset, what }
    }

    pub fn file(&self, dir: &dyn Dir) -> Result<Arc<dyn DirFile>, BlockError> {
        Ok(dir.open(&self.path)?)
    }

    pub fn contents(&self, dir: &dyn Dir) -> Result<Contents, BlockError> {
        let file = self.file(dir)?;
        let read = || {
            let ids = section::read(&*file, self.ids)?;
            let tables = section::unpacked(&*file, self.tables)?;
            let contents = Contents::decode(&tables, ids).map_err(|corrupt| self.tables.fault(corrupt.0))?;
            if contents.n_traces() == self.n_traces { Ok(contents) } else { Err(self.tables.fault("other traces")) }
        };
        read().map_err(|fault| self.damaged(fault))
    }

    /// The ordinal of a trace, by a binary search in the file.
    pub fn find(&self, dir: &dyn Dir, id: TraceId) -> Result<Option<u32>, BlockError> {
        let file = self.file(dir)?;
        let (mut low, mut high) = (0_u64, u64::from(self.n_traces));
        let mut entry = [0; ID_BYTES];
        while low < high {
            let middle = low + (high - low) / 2;
            file.read_at(self.ids.offset + middle * ID_BYTES as u64, &mut entry)?;
            let (found, ordinal) = id_entry(&entry);
            match found.cmp(&id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(ordinal)),
            }
        }
        Ok(None)
    }

    /// Traces by ascending ordinal.
    pub fn traces(
        &self,
        dir: &dyn Dir,
        contents: &Contents,
        ordinals: &[u32],
    ) -> Result<Vec<(TraceId, Vec<Arc<Span>>)>, BlockError> {
        rows::traces(contents, &*self.file(dir)?, ordinals).map_err(|fault| self.damaged(fault))
    }
}
