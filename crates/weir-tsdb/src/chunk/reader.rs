//! Reading of small numbers from foreign bytes, and writing them.

use super::ChunkError;

/// A place in foreign bytes; every read says where it failed.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Everything not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    pub fn error(&self, what: &'static str) -> ChunkError {
        ChunkError { offset: self.at, what }
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, ChunkError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.error(what))?;
        self.at += 1;
        Ok(byte)
    }

    pub fn take(&mut self, n_bytes: usize, what: &'static str) -> Result<&'a [u8], ChunkError> {
        let found = self.bytes[self.at..].get(..n_bytes).ok_or_else(|| self.error(what))?;
        self.at += n_bytes;
        Ok(found)
    }

    /// LEB128, at most ten bytes.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, ChunkError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if shift == 63 && byte > 1 {
                    break;
                }
                return Ok(value);
            }
        }
        Err(ChunkError { offset: start, what })
    }

    pub fn zigzag(&mut self, what: &'static str) -> Result<i64, ChunkError> {
        Ok(unzigzag(self.varint(what)?))
    }

    /// A count that must not exceed `max`.
    pub fn count(&mut self, max: usize, what: &'static str) -> Result<usize, ChunkError> {
        let start = self.at;
        let n = self.varint(what)?;
        usize::try_from(n).ok().filter(|n| *n <= max).ok_or(ChunkError { offset: start, what })
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, zigzag(value));
}

pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

pub(crate) fn zigzag(value: i64) -> u64 {
    (value.wrapping_shl(1) ^ (value >> 63)) as u64
}

pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}
