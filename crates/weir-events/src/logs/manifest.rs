//! Which files hold the store's segments, and how much of the write-ahead log they cover: one small
//! file, swapped whole. A file that it does not list does not exist.

use weir_model::{Nanos, TenantId};
use weir_wal::Position;

use super::bytes::{Damaged, Reader, put_bytes, put_int, put_uint};

const MAGIC: &[u8; 8] = b"WEIRLMF1";
pub(crate) const PATH: &str = "logs/manifest";

/// A file of segments, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileMeta {
    pub tenant: TenantId,
    pub number: u64,
    pub bytes: u64,
    pub min: Nanos,
    pub max: Nanos,
    /// Ids of its segments, in their order.
    pub segments: Vec<u64>,
}

impl FileMeta {
    pub(crate) fn folder(&self) -> String {
        // Tenants may be called like a folder's own names; the prefix keeps them apart.
        format!("logs/blocks/t-{}", self.tenant.as_str())
    }
    pub(crate) fn path(&self) -> String {
        format!("{}/{:012}.segments", self.folder(), self.number)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Frames before this are in the files.
    pub covered: Position,
    pub next_file: u64,
    pub next_segment: u64,
    /// In the order they were written.
    pub files: Vec<FileMeta>,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { covered: Position::START, next_file: 1, next_segment: 1, files: Vec::new() }
    }
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [self.covered.segment, self.covered.offset, self.next_file, self.next_segment] {
            put_uint(&mut out, number);
        }
        put_uint(&mut out, self.files.len() as u64);
        for file in &self.files {
            put_bytes(&mut out, file.tenant.as_str().as_bytes());
            put_uint(&mut out, file.number);
            put_uint(&mut out, file.bytes);
            put_int(&mut out, file.min.0);
            put_int(&mut out, file.max.0);
            put_uint(&mut out, file.segments.len() as u64);
            file.segments.iter().for_each(|id| put_uint(&mut out, *id));
        }
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Damaged> {
        let damaged = |what| Damaged { part: "manifest", at: 0, what };
        let body_len = bytes.len().checked_sub(4).ok_or_else(|| damaged("ends too early"))?;
        let (body, sum) = bytes.split_at(body_len);
        if crc32c::crc32c(body).to_le_bytes() != *sum {
            return Err(damaged("wrong checksum"));
        }
        let body = body.strip_prefix(MAGIC).ok_or_else(|| damaged("no manifest of this version"))?;
        let mut reader = Reader::new("manifest", body);
        let covered = Position { segment: reader.uint()?, offset: reader.uint()? };
        let (next_file, next_segment) = (reader.uint()?, reader.uint()?);
        let mut files = Vec::new();
        for _ in 0..reader.count()? {
            let tenant = TenantId::parse(reader.text()?).map_err(|_| reader.damaged("no name of a tenant"))?;
            files.push(FileMeta {
                tenant,
                number: reader.uint()?,
                bytes: reader.uint()?,
                min: Nanos(reader.int()?),
                max: Nanos(reader.int()?),
                segments: (0..reader.count()?).map(|_| reader.uint()).collect::<Result<_, _>>()?,
            });
        }
        Ok(Self { covered, next_file, next_segment, files })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_and_a_damaged_one_is_an_error() {
        let file = FileMeta {
            tenant: TenantId::anonymous(),
            number: 7,
            bytes: 1 << 40,
            min: Nanos(-5),
            max: Nanos(9),
            segments: vec![3, 4],
        };
        assert_eq!(file.path(), "logs/blocks/t-anonymous/000000000007.segments");
        let manifest =
            Manifest { covered: Position { segment: 3, offset: 77 }, next_file: 8, next_segment: 5, files: vec![file] };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(Manifest::decode(&broken).is_err());
            assert!(Manifest::decode(&bytes[..at]).is_err());
        }
    }
}
