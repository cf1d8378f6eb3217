//! Texts: one behind the other, compressed in pieces.

use std::cell::OnceCell;
use std::sync::OnceLock;

use super::bytes::{Damaged, Reader, put_bytes, put_uint};
use super::segment::ROWS_MAX;

/// Text in one compressed piece; a search takes apart one after the other.
/// zstd looks back no further at this level.
const PIECE_BYTES: usize = 2 << 20;
/// Behind each text; no byte of UTF-8. Lengths apart would take a byte a line more than this.
const END: u8 = 0xff;
/// A piece and the line that made it full; what claims to be longer is damage.
const PLAIN_BYTES_MAX: usize = 1 << 28;
/// Shorter texts do not repay a frame.
const COMPRESS_MIN: usize = 96;
const LEVEL: i32 = 3;

thread_local! {
    static COMPRESSOR: OnceCell<std::cell::RefCell<zstd::bulk::Compressor<'static>>> = const { OnceCell::new() };
}

/// With zstd, by a context that is kept.
pub(crate) fn compress(bytes: &[u8]) -> Vec<u8> {
    COMPRESSOR.with(|cell| {
        let compressor = cell.get_or_init(|| {
            std::cell::RefCell::new(zstd::bulk::Compressor::new(LEVEL).expect("a valid level and memory"))
        });
        // Compression into a buffer of the bound's size fails for lack of memory only.
        compressor.borrow_mut().compress(bytes).expect("memory for a frame")
    })
}

pub(crate) fn encode(out: &mut Vec<u8>, texts: &[&[u8]]) {
    put_uint(out, texts.len() as u64);
    let mut piece = Vec::new();
    let mut n = 0;
    for (i, text) in texts.iter().enumerate() {
        piece.extend_from_slice(text);
        piece.push(END);
        n += 1;
        if piece.len() >= PIECE_BYTES || i + 1 == texts.len() {
            put_uint(out, n);
            put_piece(out, &piece);
            piece.clear();
            n = 0;
        }
    }
}

/// Its plain length, whether it is compressed, the bytes.
fn put_piece(out: &mut Vec<u8>, piece: &[u8]) {
    put_uint(out, piece.len() as u64);
    if piece.len() >= COMPRESS_MIN {
        let small = compress(piece);
        if small.len() < piece.len() {
            out.push(1);
            put_bytes(out, &small);
            return;
        }
    }
    out.push(0);
    out.extend_from_slice(piece);
}

struct Piece {
    /// The first text in it, and how many it holds.
    first: usize,
    n: usize,
    plain_len: usize,
    is_compressed: bool,
    stored: Box<[u8]>,
    plain: OnceLock<Result<Plain, Damaged>>,
}

struct Plain {
    bytes: Box<[u8]>,
    /// Where each text ends.
    ends: Vec<u32>,
}

impl Piece {
    fn plain(&self) -> Result<&Plain, Damaged> {
        let plain = self.plain.get_or_init(|| {
            let broken = |what| Damaged { part: "texts", at: 0, what };
            let bytes = if self.is_compressed {
                zstd::bulk::decompress(&self.stored, self.plain_len).map_err(|_| broken("a broken zstd frame"))?.into()
            } else {
                self.stored.clone()
            };
            let ends: Vec<u32> = memchr::memchr_iter(END, &bytes).map(|at| at as u32).collect();
            if ends.len() != self.n || ends.last().is_none_or(|end| *end as usize + 1 != bytes.len()) {
                return Err(broken("another number of texts"));
            }
            Ok(Plain { bytes, ends })
        });
        plain.as_ref().map_err(Clone::clone)
    }
}

impl Plain {
    fn text(&self, i: usize) -> &[u8] {
        let from = if i == 0 { 0 } else { self.ends[i - 1] as usize + 1 };
        &self.bytes[from..self.ends[i] as usize]
    }
}

/// Texts as they are stored; a piece is decompressed when one of its texts is asked for.
pub(crate) struct Texts {
    n: usize,
    pieces: Vec<Piece>,
}

impl Texts {
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Damaged> {
        let n = reader.len(ROWS_MAX)?;
        let mut pieces = Vec::new();
        let mut first = 0;
        while first < n {
            let count = reader.len(n - first)?;
            let plain_len = reader.len(PLAIN_BYTES_MAX)?;
            if count == 0 {
                return Err(reader.damaged("an empty piece"));
            }
            let is_compressed = reader.byte()? != 0;
            let stored = if is_compressed { reader.bytes()? } else { reader.take(plain_len)? };
            let plain = OnceLock::new();
            pieces.push(Piece { first, n: count, plain_len, is_compressed, stored: stored.into(), plain });
            first += count;
        }
        Ok(Self { n, pieces })
    }

    pub(crate) fn len(&self) -> usize {
        self.n
    }

    pub(crate) fn get(&self, i: usize) -> Result<&[u8], Damaged> {
        let piece = &self.pieces[self.pieces.partition_point(|p| p.first <= i) - 1];
        Ok(piece.plain()?.text(i - piece.first))
    }

    /// Calls `found` with each text that holds the needle, in order.
    pub(crate) fn find(
        &self,
        finder: &memchr::memmem::Finder<'_>,
        mut found: impl FnMut(usize),
    ) -> Result<(), Damaged> {
        for piece in &self.pieces {
            let plain = piece.plain()?;
            let mut from = 0;
            // A needle is UTF-8, so that no hit reaches over the end of a text.
            while let Some(hit) = finder.find(&plain.bytes[from..]) {
                let i = plain.ends.partition_point(|end| (*end as usize) < from + hit);
                found(piece.first + i);
                from = plain.ends[i] as usize + 1;
            }
        }
        Ok(())
    }

    pub(crate) fn into_entries(self) -> Result<Vec<Box<str>>, Damaged> {
        let text = |i| {
            let text = std::str::from_utf8(self.get(i)?);
            text.map(Into::into).map_err(|_| Damaged { part: "texts", at: 0, what: "text that is no UTF-8" })
        };
        (0..self.len()).map(text).collect()
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.pieces.iter().map(|p| p.stored.len() + p.plain_len + 4 * p.n).sum()
    }
}
