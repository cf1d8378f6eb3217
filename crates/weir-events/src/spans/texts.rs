//! A block's texts, each once: in chunks that are read alone, with a fingerprint of each by which a text is
//! found without reading those that differ.

use std::sync::{Arc, OnceLock};

use ahash::AHashMap;
use hashbrown::HashTable;
use parking_lot::Mutex;
use weir_wal::DirFile;

use super::bytes::{Corrupt, Reader, put, put_bytes};
use super::section::{Fault, Section, Sections, put_section, read_section, unpacked, zstd};

/// Before compression. A look at one text costs a chunk.
const CHUNK_BYTES: usize = 32 << 10;
/// Chunks that a block keeps; a search touches the first few of each block again and again.
const HELD_MAX: usize = 16;
const MISSING: Corrupt = Corrupt("a text is missing");

fn print_of(text: &[u8]) -> u16 {
    crc32c::crc32c(text) as u16
}

/// Texts by number, in the order in which they first came.
#[derive(Default)]
pub struct TextsWriter {
    arena: Vec<u8>,
    ends: Vec<usize>,
    numbers: HashTable<u32>,
    hasher: ahash::RandomState,
    shared: ByAddress,
}

const ADDRESSES: usize = 1024;

/// Numbers of texts by their address, each in the one place it names: spans share the texts that repeat, and an
/// address is sooner compared than a text. What is here is held, so that no other text gets its address.
struct ByAddress(Vec<Option<(Arc<str>, u32)>>);

impl Default for ByAddress {
    fn default() -> Self {
        Self(vec![None; ADDRESSES])
    }
}

/// Where among `n` places the address belongs.
pub fn place_of(address: usize, n: usize) -> usize {
    // Allocations are aligned; what lies above decides.
    ((address >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % n
}

impl TextsWriter {
    /// The same for a text that others may share.
    pub fn of_shared(&mut self, text: &Arc<str>) -> u32 {
        let place = place_of(Arc::as_ptr(text).addr(), ADDRESSES);
        if let Some((known, number)) = &self.shared.0[place]
            && Arc::ptr_eq(known, text)
        {
            return *number;
        }
        let number = self.of(text.as_bytes());
        self.shared.0[place] = Some((text.clone(), number));
        number
    }

    pub fn of(&mut self, text: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(text);
        let (arena, ends) = (&self.arena, &self.ends);
        let at = |number: u32| {
            let number = number as usize;
            &arena[number.checked_sub(1).map_or(0, |before| ends[before])..ends[number]]
        };
        if let Some(number) = self.numbers.find(hash, |number| at(*number) == text) {
            return *number;
        }
        let number = self.ends.len() as u32;
        self.numbers.insert_unique(hash, number, |number| self.hasher.hash_one(at(*number)));
        self.arena.extend_from_slice(text);
        self.ends.push(self.arena.len());
        number
    }

    /// Writes the chunks to the block and the directory to `tables`.
    pub fn finish(self, block: &mut Sections, tables: &mut Vec<u8>) {
        let mut chunks = Vec::new();
        let (mut raw, mut n, mut n_chunks, mut begin) = (Vec::new(), 0_u64, 0_u64, 0);
        let mut prints = Vec::with_capacity(self.ends.len() * 2);
        for (number, end) in self.ends.iter().enumerate() {
            let text = &self.arena[begin..*end];
            begin = *end;
            prints.extend_from_slice(&print_of(text).to_le_bytes());
            put_bytes(&mut raw, text);
            n += 1;
            if raw.len() >= CHUNK_BYTES || number + 1 == self.ends.len() {
                put(&mut chunks, n);
                put_section(&mut chunks, block.add(&zstd(&raw)));
                raw.clear();
                (n, n_chunks) = (0, n_chunks + 1);
            }
        }
        put_bytes(tables, &prints);
        put(tables, n_chunks);
        tables.extend_from_slice(&chunks);
    }
}

struct ChunkAt {
    first: u32,
    section: Section,
}

pub struct Chunk {
    raw: Vec<u8>,
    ranges: Vec<std::ops::Range<u32>>,
    made: Vec<OnceLock<Arc<str>>>,
}

impl Chunk {
    fn decode(raw: Vec<u8>) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(&raw);
        let mut ranges = Vec::new();
        while !reader.is_empty() {
            let len = reader.bytes()?.len();
            let end = raw.len() - reader.rest().len();
            ranges.push((end - len) as u32..end as u32);
        }
        let made = (0..ranges.len()).map(|_| OnceLock::new()).collect();
        Ok(Self { raw, ranges, made })
    }
}

/// Texts of an open block.
pub struct Texts {
    prints: Vec<u16>,
    chunks: Vec<ChunkAt>,
    held: Mutex<AHashMap<u32, Arc<Chunk>>>,
}

impl Texts {
    pub fn decode(tables: &mut Reader<'_>) -> Result<Self, Corrupt> {
        let prints: Vec<u16> = tables.bytes()?.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
        let n_chunks = tables.count()?;
        let mut chunks = Vec::with_capacity(n_chunks);
        let mut first = 0_u32;
        for _ in 0..n_chunks {
            let n = u32::try_from(tables.get()?).map_err(|_| Corrupt("too many texts"))?;
            chunks.push(ChunkAt { first, section: read_section(tables)? });
            first = first.checked_add(n).ok_or(Corrupt("too many texts"))?;
        }
        if first as usize != prints.len() {
            return Err(Corrupt("the chunks do not have as many texts as the whole"));
        }
        Ok(Self { prints, chunks, held: Mutex::default() })
    }

    pub fn size_bytes(&self) -> usize {
        self.prints.len() * 2 + self.chunks.len() * 24 + self.chunks.len().min(HELD_MAX) * CHUNK_BYTES * 3
    }

    pub fn reader<'a>(&'a self, file: &'a dyn DirFile) -> TextReader<'a> {
        TextReader { texts: self, file, chunks: AHashMap::new() }
    }
}

/// Reads texts of one block, chunk by chunk, each once.
pub struct TextReader<'a> {
    texts: &'a Texts,
    file: &'a dyn DirFile,
    chunks: AHashMap<u32, Arc<Chunk>>,
}

impl TextReader<'_> {
    fn place(&mut self, number: u32) -> Result<(&Arc<Chunk>, usize), Fault> {
        let chunks = &self.texts.chunks;
        let at = chunks.partition_point(|chunk| chunk.first <= number).checked_sub(1);
        let at = at.ok_or(MISSING)?;
        let key = at as u32;
        if !self.chunks.contains_key(&key) {
            let held = self.texts.held.lock().get(&key).cloned();
            let chunk = match held {
                Some(chunk) => chunk,
                None => {
                    let raw = unpacked(self.file, chunks[at].section)?;
                    let chunk = Arc::new(Chunk::decode(raw)?);
                    let mut held = self.texts.held.lock();
                    if held.len() >= HELD_MAX {
                        held.clear();
                    }
                    held.insert(key, chunk.clone());
                    chunk
                }
            };
            if self.chunks.len() >= HELD_MAX {
                self.chunks.clear();
            }
            self.chunks.insert(key, chunk);
        }
        let chunk = self.chunks.get(&key).ok_or(MISSING)?;
        Ok((chunk, (number - chunks[at].first) as usize))
    }

    pub fn bytes(&mut self, number: u32) -> Result<&[u8], Fault> {
        let (chunk, at) = self.place(number)?;
        let range = chunk.ranges.get(at).ok_or(MISSING)?;
        Ok(&chunk.raw[range.start as usize..range.end as usize])
    }

    pub fn text(&mut self, number: u32) -> Result<Arc<str>, Fault> {
        let (chunk, at) = self.place(number)?;
        let place = chunk.made.get(at).ok_or(MISSING)?;
        if let Some(text) = place.get() {
            return Ok(text.clone());
        }
        let range = &chunk.ranges[at];
        let raw = &chunk.raw[range.start as usize..range.end as usize];
        let text = std::str::from_utf8(raw).map_err(|_| Corrupt("a text is not UTF-8"))?;
        Ok(place.get_or_init(|| text.into()).clone())
    }

    /// The number of a text, if the block has it.
    pub fn find(&mut self, text: &str) -> Result<Option<u32>, Fault> {
        let print = print_of(text.as_bytes());
        let texts = self.texts;
        for (number, _) in texts.prints.iter().enumerate().filter(|(_, of)| **of == print) {
            if self.bytes(number as u32)? == text.as_bytes() {
                return Ok(Some(number as u32));
            }
        }
        Ok(None)
    }
}
