//! Bytes of batches and snapshots: decoders are bounded and never panic.

use bytes::Bytes;
use weir_model::TenantId;
use weir_wal::Position;

pub(crate) const MAGIC: &[u8; 8] = b"weirstat";
pub(crate) const VERSION: u8 = 1;
/// Longest table name, tenant or key.
pub(crate) const NAME_BYTES_MAX: usize = 64 << 10;
pub(crate) const VALUE_BYTES_MAX: usize = 8 << 20;

/// One record set or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub table: String,
    pub tenant: TenantId,
    pub key: String,
    /// `None` removes it.
    pub value: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset}")]
pub struct DecodeError {
    pub what: &'static str,
    pub offset: usize,
}

pub(crate) fn encode_change(change: &Change, out: &mut Vec<u8>) {
    for text in [change.table.as_str(), change.tenant.as_str(), change.key.as_str()] {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    // Length plus one, so that a removal is not an empty value.
    let len = change.value.as_ref().map_or(0, |v| v.len() as u32 + 1);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(change.value.as_deref().unwrap_or_default());
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn fail<T>(&self, what: &'static str) -> Result<T, DecodeError> {
        Err(DecodeError { what, offset: self.offset })
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        match self.bytes.get(self.offset..).and_then(|rest| rest.get(..n)) {
            Some(taken) => {
                self.offset += n;
                Ok(taken)
            }
            None => self.fail("the bytes end too early"),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        if len > NAME_BYTES_MAX {
            return self.fail("a name is too long");
        }
        let bytes = self.take(len)?;
        std::str::from_utf8(bytes).or_else(|_| self.fail("a name is not UTF-8"))
    }

    fn change(&mut self) -> Result<Change, DecodeError> {
        let table = self.text()?.to_owned();
        let tenant = TenantId::parse(self.text()?).or_else(|_| self.fail("not a tenant"))?;
        let key = self.text()?.to_owned();
        let len = u32::from_le_bytes(self.array()?) as usize;
        let value = match len.checked_sub(1) {
            Some(len) if len > VALUE_BYTES_MAX => return self.fail("a value is too long"),
            Some(len) => Some(Bytes::copy_from_slice(self.take(len)?)),
            None => None,
        };
        Ok(Change { table, tenant, key, value })
    }
}

pub fn decode_batch(bytes: &[u8]) -> Result<Vec<Change>, DecodeError> {
    let mut reader = Reader { bytes, offset: 0 };
    let mut changes = Vec::new();
    while reader.offset < bytes.len() {
        changes.push(reader.change()?);
    }
    Ok(changes)
}

/// `position`: of the log; what ends up to it is in the snapshot.
pub(crate) fn encode_snapshot<'a>(position: Position, records: impl Iterator<Item = &'a Change>) -> Vec<u8> {
    let mut out = Vec::from(*MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&position.segment.to_le_bytes());
    out.extend_from_slice(&position.offset.to_le_bytes());
    for record in records {
        encode_change(record, &mut out);
    }
    let sum = crc32c::crc32c(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}

pub fn decode_snapshot(bytes: &[u8]) -> Result<(Position, Vec<Change>), DecodeError> {
    let mut reader = Reader { bytes, offset: 0 };
    if reader.take(MAGIC.len())? != MAGIC {
        return reader.fail("not a snapshot of weir's state");
    }
    if reader.array::<1>()? != [VERSION] {
        return reader.fail("a version of the state that this weir does not know");
    }
    let Some(body) = bytes.len().checked_sub(4).filter(|end| *end >= reader.offset) else {
        return reader.fail("the bytes end too early");
    };
    let mut sum = [0; 4];
    sum.copy_from_slice(&bytes[body..]);
    if crc32c::crc32c(&bytes[..body]) != u32::from_le_bytes(sum) {
        return reader.fail("the checksum is wrong");
    }
    reader.bytes = &bytes[..body];
    let position =
        Position { segment: u64::from_le_bytes(reader.array()?), offset: u64::from_le_bytes(reader.array()?) };
    let mut records = Vec::new();
    while reader.offset < body {
        records.push(reader.change()?);
    }
    Ok((position, records))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change() -> impl Strategy<Value = Change> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
        ("[a-z]{1,4}", "[a-z]{1,4}", ".{0,6}", value).prop_map(|(table, tenant, key, value)| Change {
            table,
            tenant: TenantId::parse(&tenant).unwrap(),
            key,
            value: value.map(Bytes::from),
        })
    }

    proptest! {
        #[test]
        fn bytes_survive_a_round_trip(changes in proptest::collection::vec(change(), 0..8)) {
            let mut batch = Vec::new();
            changes.iter().for_each(|c| encode_change(c, &mut batch));
            prop_assert_eq!(decode_batch(&batch).unwrap(), changes.clone());
            let position = Position { segment: 3, offset: 77 };
            let snapshot = encode_snapshot(position, changes.iter());
            prop_assert_eq!(decode_snapshot(&snapshot).unwrap(), (position, changes));
        }

        #[test]
        fn damage_is_an_error_and_never_a_panic(
            changes in proptest::collection::vec(change(), 0..4), at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<prop::sample::Index>(),
        ) {
            let mut snapshot = encode_snapshot(Position::START, changes.iter());
            let whole = snapshot.clone();
            let at = at.index(snapshot.len());
            snapshot[at] ^= 1 << bit;
            prop_assert!(decode_snapshot(&snapshot).is_err());
            prop_assert!(decode_snapshot(&whole[..cut.index(whole.len())]).is_err());
            let _ = decode_batch(&snapshot);
        }
    }
}
