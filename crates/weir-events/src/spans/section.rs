//! Parts of a block's file that have a checksum of their own.

use std::cell::RefCell;

use bytes::Bytes;
use weir_wal::{DirError, DirFile};

use super::bytes::{Corrupt, Reader, put};

/// Decompressed; what is longer is damage, as no writer makes it.
const SECTION_BYTES_MAX: usize = 1 << 30;
const ZSTD_LEVEL: i32 = 3;

/// Why a part of a block cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("at offset {0}: {1}")]
    Section(u64, String),
}

#[derive(Clone, Copy, Debug)]
pub struct Section {
    pub offset: u64,
    pub bytes: u32,
    pub sum: u32,
}

impl Section {
    pub fn end(&self) -> u64 {
        self.offset.saturating_add(u64::from(self.bytes))
    }

    pub fn fault(&self, what: impl std::fmt::Display) -> Fault {
        Fault::Section(self.offset, what.to_string())
    }

    /// `bytes` if they are what was written.
    pub fn checked(&self, bytes: Bytes) -> Result<Bytes, Fault> {
        if crc32c::crc32c(&bytes) == self.sum { Ok(bytes) } else { Err(self.fault("wrong checksum")) }
    }
}

/// A block's bytes as they come to be.
pub struct Sections(pub Vec<u8>);

impl Sections {
    pub fn add(&mut self, bytes: &[u8]) -> Section {
        let section = Section { offset: self.0.len() as u64, bytes: bytes.len() as u32, sum: crc32c::crc32c(bytes) };
        self.0.extend_from_slice(bytes);
        section
    }
}

thread_local! {
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// By a context that is kept: to make one costs more than to compress a chunk.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    COMPRESSOR.with_borrow_mut(|kept| {
        let compressor = kept.get_or_insert_with(|| {
            zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("a valid level and memory for a context")
        });
        compressor.compress(bytes).expect("compressing into memory does not fail")
    })
}

pub fn put_section(out: &mut Vec<u8>, section: Section) {
    put(out, section.offset);
    put(out, u64::from(section.bytes));
    out.extend_from_slice(&section.sum.to_le_bytes());
}

pub fn read_section(reader: &mut Reader<'_>) -> Result<Section, Corrupt> {
    let offset = reader.get()?;
    let bytes = u32::try_from(reader.get()?).map_err(|_| Corrupt("a section is too long"))?;
    Ok(Section { offset, bytes, sum: u32::from_le_bytes(reader.array()?) })
}

pub fn read(file: &dyn DirFile, section: Section) -> Result<Bytes, Fault> {
    // A damaged length is not worth an allocation.
    if section.end() > file.len()? {
        return Err(section.fault("outside of the file"));
    }
    section.checked(file.read_exact_at(section.offset, section.bytes as usize)?)
}

pub fn unpacked(file: &dyn DirFile, section: Section) -> Result<Vec<u8>, Fault> {
    let packed = read(file, section)?;
    let size = zstd::zstd_safe::get_frame_content_size(&packed).ok().flatten().unwrap_or(0);
    let size = usize::try_from(size).unwrap_or(usize::MAX).min(SECTION_BYTES_MAX);
    zstd::bulk::decompress(&packed, size).map_err(|error| section.fault(error))
}
