//! The list of blocks, and up to where they make the log unnecessary. Swapped as a whole.

use std::fmt::Write;

use weir_model::TenantId;
use weir_wal::Position;

const HEAD: &str = "weir-spans 1";

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Frames that end here or before are in blocks.
    pub covered: Position,
    pub blocks: Vec<(TenantId, u64)>,
}

impl Manifest {
    pub fn encode(&self) -> Vec<u8> {
        let mut text = format!("{HEAD}\ncovered {} {}\n", self.covered.segment, self.covered.offset);
        for (tenant, number) in &self.blocks {
            writeln!(text, "block {tenant} {number}").expect("writing to a string does not fail");
        }
        let sum = crc32c::crc32c(text.as_bytes());
        writeln!(text, "sum {sum:08x}").expect("writing to a string does not fail");
        text.into_bytes()
    }

    /// `None` when the bytes are not those that were written.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (body, sum) = text.strip_suffix('\n')?.rsplit_once("\nsum ")?;
        let body = &text[..=body.len()];
        if format!("{:08x}", crc32c::crc32c(body.as_bytes())) != sum {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let (segment, offset) = lines.next()?.strip_prefix("covered ")?.split_once(' ')?;
        let covered = Position { segment: segment.parse().ok()?, offset: offset.parse().ok()? };
        let block = |line: &str| {
            let (tenant, number) = line.strip_prefix("block ")?.split_once(' ')?;
            Some((TenantId::parse(tenant).ok()?, number.parse().ok()?))
        };
        Some(Self { covered, blocks: lines.map(block).collect::<Option<_>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_went_and_notices_every_flipped_bit() {
        let blocks = vec![(TenantId::anonymous(), 3), (TenantId::parse("team-1").unwrap(), 77)];
        let manifest = Manifest { covered: Position { segment: 9, offset: 12 }, blocks };
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes), Some(manifest));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::decode(&bad), None, "bit {bit}");
        }
        assert!(Manifest::decode(&Manifest::default().encode()).is_some());
    }
}
