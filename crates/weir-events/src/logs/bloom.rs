//! Which ids and words a segment may hold: split-block Bloom filters, one for ids (whole values of
//! hexadecimal columns), one for the words of text columns.
//!
//! A false "maybe" costs a look at the segment, about one in fifty; there is no false "no".

use ahash::AHashSet;

use super::bytes::{Damaged, Reader, put_uint};
use super::column::{ColumnMeta, Kind, push_unhex};

/// Of a block of eight words of which a key sets one bit each.
const BLOCK_BYTES: usize = 32;
const BITS_PER_KEY: usize = 8;
/// Ids of fewer bytes are found faster than excluded.
const ID_BYTES_MIN: usize = 8;
/// Words outnumber what they exclude when their filter takes more than this part of the text.
const WORDS_SHARE: usize = 100;
pub(crate) const WORD_LEN_MIN: usize = 3;

/// FNV-1a with a final mix: the same on every machine, as it is stored.
fn hash(key: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for chunk in key.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
    }
    hash ^= key.len() as u64;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 32)
}

const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

fn bits(hash: u64) -> impl Iterator<Item = (usize, u32)> {
    let low = hash as u32;
    SALTS.iter().enumerate().map(move |(word, salt)| (word, 1 << (low.wrapping_mul(*salt) >> 27)))
}

fn block(hash: u64, n_blocks: usize) -> usize {
    (((hash >> 32) * n_blocks as u64) >> 32) as usize
}

fn write(out: &mut Vec<u8>, hashes: &[u64]) {
    let n_blocks = (hashes.len() * BITS_PER_KEY).div_ceil(BLOCK_BYTES * 8);
    let mut words = vec![0_u32; n_blocks * 8];
    for hash in hashes {
        let at = block(*hash, n_blocks) * 8;
        bits(*hash).for_each(|(word, bit)| words[at + word] |= bit);
    }
    put_uint(out, n_blocks as u64);
    words.iter().for_each(|w| out.extend_from_slice(&w.to_le_bytes()));
}

fn may_hold(filter: &[u8], key: &[u8]) -> bool {
    let n_blocks = filter.len() / BLOCK_BYTES;
    if n_blocks == 0 {
        return false;
    }
    let hash = hash(key);
    let at = block(hash, n_blocks) * BLOCK_BYTES;
    bits(hash).all(|(word, bit)| {
        let word = &filter[at + 4 * word..at + 4 * word + 4];
        word.try_into().map_or(0, u32::from_le_bytes) & bit != 0
    })
}

/// The words of a text: runs of letters, digits, `_` and everything beyond ASCII.
pub(crate) fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| !(b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80)).filter(|w| w.len() >= WORD_LEN_MIN)
}

#[derive(Default)]
pub(crate) struct Builder {
    ids: Vec<u64>,
    words: AHashSet<u64>,
    text_bytes: usize,
}

impl Builder {
    /// `data`: where the column is encoded.
    pub(crate) fn column(&mut self, column: &ColumnMeta, values: &[&[u8]], data: &[u8]) {
        match column.kind {
            Kind::Hex { digits, .. } if usize::from(digits) >= 2 * ID_BYTES_MIN => {
                let ids = data[column.at..column.at + column.len].chunks_exact(usize::from(digits) / 2);
                self.ids.extend(ids.map(hash));
            }
            Kind::Text => {
                for value in values {
                    self.text_bytes += value.len();
                    self.words.extend(words(value).map(hash));
                }
            }
            _ => {}
        }
    }

    /// Ids, whether there is a filter of words, and that.
    pub(crate) fn finish(self) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out, &self.ids);
        let words: Vec<u64> = self.words.into_iter().collect();
        let repays = self.text_bytes == 0 || words.len() * BITS_PER_KEY / 8 <= self.text_bytes / WORDS_SHARE;
        out.push(u8::from(repays));
        if repays {
            write(&mut out, &words);
        }
        out
    }
}

/// A segment's filters, read where they lie.
pub(crate) struct Filter<'a> {
    ids: &'a [u8],
    words: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Damaged> {
        let mut reader = Reader::new("filter", bytes);
        let part = |reader: &mut Reader<'a>| {
            let n_blocks = reader.len(bytes.len() / BLOCK_BYTES)?;
            reader.take(n_blocks * BLOCK_BYTES)
        };
        let ids = part(&mut reader)?;
        let words = if reader.byte()? != 0 { Some(part(&mut reader)?) } else { None };
        Ok(Self { ids, words })
    }

    /// Whether a hexadecimal column can hold the id, given as its digits.
    pub(crate) fn may_hold_id(&self, digits: &[u8]) -> bool {
        if digits.len() < 2 * ID_BYTES_MIN || !digits.len().is_multiple_of(2) {
            return true;
        }
        let mut id = Vec::with_capacity(digits.len() / 2);
        push_unhex(&mut id, digits);
        may_hold(self.ids, &id)
    }

    /// Whether a text column can hold the needle: each word that stands between others in it must
    /// be there; the first and the last may be parts of longer ones.
    pub(crate) fn may_hold_text(&self, needle: &[u8]) -> bool {
        let Some(filter) = self.words else { return true };
        let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80;
        let inner = needle.iter().position(|b| !is_word(b)).zip(needle.iter().rposition(|b| !is_word(b)));
        let Some((from, to)) = inner else { return true };
        words(&needle[from..=to]).all(|word| may_hold(filter, word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_never_denied_and_little_else_is_held() {
        let keys: Vec<[u8; 8]> = (0_u64..20_000).map(u64::to_be_bytes).collect();
        let mut out = Vec::new();
        write(&mut out, &keys.iter().map(|k| hash(k)).collect::<Vec<_>>());
        let filter = &out[out.len() % BLOCK_BYTES..];
        assert!(keys.iter().all(|k| may_hold(filter, k)));
        let wrong = (1_000_000_u64..1_020_000).filter(|k| may_hold(filter, &k.to_be_bytes())).count();
        assert!(wrong < 800, "{wrong} of 20000 false");
    }
}
