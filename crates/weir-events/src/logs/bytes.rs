//! Reading and writing the small things of a segment: varints, lengths, checked slices.

/// A segment that is not what was written; the place is a byte in the part that was read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damaged log segment at byte {at} of its {part}: {what}")]
pub struct Damaged {
    pub part: &'static str,
    pub at: usize,
    pub what: &'static str,
}

impl From<Damaged> for weir_model::source::ReadError {
    fn from(damaged: Damaged) -> Self {
        Self::Storage(damaged.to_string())
    }
}

pub(crate) fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Zigzag, so that small negative numbers are short too.
pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    put_uint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) struct Reader<'a> {
    part: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(part: &'static str, bytes: &'a [u8]) -> Self {
        Self { part, bytes, at: 0 }
    }
    pub(crate) fn damaged(&self, what: &'static str) -> Damaged {
        Damaged { part: self.part, at: self.at, what }
    }
    pub(crate) fn byte(&mut self) -> Result<u8, Damaged> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.damaged("ends too early"))?;
        self.at += 1;
        Ok(byte)
    }
    pub(crate) fn uint(&mut self) -> Result<u64, Damaged> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.damaged("a number of more than 64 bits"))
    }
    pub(crate) fn int(&mut self) -> Result<i64, Damaged> {
        let value = self.uint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
    /// A number that must not be greater than `max`.
    pub(crate) fn len(&mut self, max: usize) -> Result<usize, Damaged> {
        let value = self.uint()?;
        usize::try_from(value).ok().filter(|n| *n <= max).ok_or_else(|| self.damaged("a length out of bounds"))
    }
    /// A count of things of at least one byte each.
    pub(crate) fn count(&mut self) -> Result<usize, Damaged> {
        self.len(self.bytes.len() - self.at)
    }
    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], Damaged> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.damaged("ends too early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let n = self.count()?;
        self.take(n)
    }
    pub(crate) fn text(&mut self) -> Result<&'a str, Damaged> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.damaged("text that is no UTF-8"))
    }
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }
}
