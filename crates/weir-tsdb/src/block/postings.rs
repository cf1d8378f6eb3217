//! Lists of series positions, one per label value.

use roaring::RoaringBitmap;

use crate::chunk::ChunkError;
use crate::chunk::reader::{Reader, put_varint};

/// Longer lists are bitmaps; shorter ones, differences, which take a byte or two each.
const FEW_MAX: usize = 64;

const TAG_FEW: u8 = 0;
const TAG_BITMAP: u8 = 1;

/// A list being built; positions come ascending.
pub(super) enum List {
    Few(Vec<u32>),
    Many(RoaringBitmap),
}

impl Default for List {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl List {
    pub fn push(&mut self, position: u32) {
        match self {
            Self::Few(list) if list.len() < FEW_MAX => list.push(position),
            Self::Few(list) => {
                let mut bitmap: RoaringBitmap = list.iter().copied().collect();
                bitmap.insert(position);
                *self = Self::Many(bitmap);
            }
            Self::Many(bitmap) => {
                bitmap.insert(position);
            }
        }
    }

    pub fn encode(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Few(list) => {
                out.push(TAG_FEW);
                put_varint(out, list.len() as u64);
                let mut after = 0;
                for position in list {
                    put_varint(out, u64::from(*position - after));
                    after = *position;
                }
            }
            Self::Many(bitmap) => {
                out.push(TAG_BITMAP);
                bitmap.optimize();
                bitmap.serialize_into(out).expect("a vector takes everything");
            }
        }
    }
}

/// Adds the list's positions to `into`; all must be below `n_series`.
pub(super) fn decode_into(bytes: &[u8], n_series: u32, into: &mut RoaringBitmap) -> Result<(), ChunkError> {
    let mut reader = Reader::new(bytes);
    match reader.u8("a posting list is missing")? {
        TAG_FEW => {
            let n = reader.count(FEW_MAX, "a posting list is too long")?;
            let mut at = 0u64;
            for _ in 0..n {
                at += reader.count(n_series as usize, "a posting is past the last series")? as u64;
                let position = u32::try_from(at).ok().filter(|p| *p < n_series);
                into.insert(position.ok_or_else(|| reader.error("a posting is past the last series"))?);
            }
        }
        TAG_BITMAP => {
            let bitmap = RoaringBitmap::deserialize_from(reader.rest());
            let bitmap = bitmap.map_err(|_| reader.error("a bitmap of postings is damaged"))?;
            if bitmap.max().is_some_and(|max| max >= n_series) {
                return Err(reader.error("a posting is past the last series"));
            }
            *into |= bitmap;
        }
        _ => return Err(reader.error("unknown kind of posting list")),
    }
    Ok(())
}
