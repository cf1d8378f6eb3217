//! A walk over protobuf bytes that borrows and knows where it stands.
//!
//! Generated types allocate every string; the hot paths look at most labels only to hash them.

use crate::DecodeError;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(Message<'a>),
}

/// A stretch of the body; offsets in errors count from the start of the body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Message<'a> {
    body: &'a [u8],
    pos: usize,
    end: usize,
    format: &'static str,
}

impl<'a> Message<'a> {
    pub fn new(format: &'static str, body: &'a [u8]) -> Self {
        Self { body, pos: 0, end: body.len(), format }
    }
    pub fn bytes(&self) -> &'a [u8] {
        &self.body[self.pos..self.end]
    }
    /// Where it stands in the body.
    pub fn range(&self) -> std::ops::Range<u32> {
        // Bodies are bounded far below 4 GiB.
        self.pos as u32..self.end as u32
    }
    /// A stretch of a body.
    pub fn stretch(format: &'static str, body: &'a [u8], range: std::ops::Range<u32>) -> Self {
        let end = (range.end as usize).min(body.len());
        Self { body, pos: (range.start as usize).min(end), end, format }
    }
    /// A stretch of this message.
    pub fn sub(&self, start: usize, end: usize) -> Self {
        let end = (self.pos + end).min(self.end);
        Self { pos: (self.pos + start).min(end), end, ..*self }
    }
    pub fn utf8(&self, what: &str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()).map_err(|_| self.error(format!("{what} is not UTF-8")))
    }
    pub fn error(&self, reason: impl Into<String>) -> DecodeError {
        DecodeError::at_byte(self.format, self.pos, reason)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        // One byte most of the time.
        if let Some(byte @ 0..=0x7f) = self.body[..self.end].get(self.pos) {
            self.pos += 1;
            return Ok(u64::from(*byte));
        }
        let mut value = 0u64;
        for k in 0..10 {
            let Some(byte) = self.body[..self.end].get(self.pos) else {
                return Err(self.error("the message ends inside a varint"));
            };
            self.pos += 1;
            value |= u64::from(byte & 0x7f) << (7 * k);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("a varint of more than ten bytes"))
    }

    fn take(&mut self, n: usize) -> Result<Message<'a>, DecodeError> {
        if n > self.end - self.pos {
            return Err(self.error(format!("a field of {n} bytes, but only {} are left", self.end - self.pos)));
        }
        let part = Message { pos: self.pos, end: self.pos + n, ..*self };
        self.pos += n;
        Ok(part)
    }

    /// Number and value of the next field; `None` at the end.
    pub fn field(&mut self) -> Result<Option<(u64, Value<'a>)>, DecodeError> {
        if self.pos == self.end {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => {
                let part = self.take(8)?;
                Value::Fixed64(u64::from_le_bytes(part.bytes().try_into().expect("took eight bytes")))
            }
            2 => {
                let n = self.varint()?;
                Value::Bytes(self.take(usize::try_from(n).unwrap_or(usize::MAX))?)
            }
            5 => {
                let part = self.take(4)?;
                Value::Fixed32(u32::from_le_bytes(part.bytes().try_into().expect("took four bytes")))
            }
            other => return Err(self.error(format!("wire type {other} is unknown"))),
        };
        if tag >> 3 == 0 {
            return Err(self.error("field number 0"));
        }
        Ok(Some((tag >> 3, value)))
    }

    /// The next message of several that each stand behind their length; `None` at the end.
    pub fn delimited(&mut self) -> Result<Option<Message<'a>>, DecodeError> {
        if self.pos == self.end {
            return Ok(None);
        }
        let n = self.varint()?;
        self.take(usize::try_from(n).unwrap_or(usize::MAX)).map(Some)
    }

    /// Numbers of a packed field.
    pub fn packed_varints(mut self) -> Result<Vec<u64>, DecodeError> {
        let mut out = Vec::new();
        while self.pos < self.end {
            out.push(self.varint()?);
        }
        Ok(out)
    }
}

impl Message<'_> {
    /// Doubles of a packed field.
    pub fn packed_doubles(self) -> Result<Vec<f64>, DecodeError> {
        let bytes = self.bytes();
        if !bytes.len().is_multiple_of(8) {
            return Err(self.error(format!("{} bytes of packed doubles", bytes.len())));
        }
        let double = |b: &[u8]| f64::from_le_bytes(b.try_into().expect("chunks of eight bytes"));
        Ok(bytes.chunks_exact(8).map(double).collect())
    }
}

/// Writes protobuf.
pub(crate) mod write {
    pub fn varint(out: &mut Vec<u8>, mut v: u64) {
        while v >= 0x80 {
            out.push(v as u8 | 0x80);
            v >>= 7;
        }
        out.push(v as u8);
    }
    pub fn int(out: &mut Vec<u8>, field: u64, v: u64) {
        varint(out, field << 3);
        varint(out, v);
    }
    pub fn double(out: &mut Vec<u8>, field: u64, v: f64) {
        varint(out, field << 3 | 1);
        out.extend(v.to_le_bytes());
    }
    pub fn bytes(out: &mut Vec<u8>, field: u64, v: &[u8]) {
        varint(out, field << 3 | 2);
        varint(out, v.len() as u64);
        out.extend(v);
    }
}
