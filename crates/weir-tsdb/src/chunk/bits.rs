//! Runs of unsigned numbers of one width, packed without gaps, lowest bit first.

/// Widest packed number; wider ones take 64 bits, so that one unaligned load always holds a number.
const PACKED_MAX: u32 = 56;

/// The width that numbers of `bits` bits are stored with.
pub(crate) fn stored_width(bits: u32) -> u32 {
    if bits > PACKED_MAX { 64 } else { bits }
}

pub(crate) fn packed_len(width: u32, n: usize) -> usize {
    (width as usize * n).div_ceil(8)
}

/// `values`: each below 2^`width`.
pub(crate) fn pack(values: &[u64], width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    if width == 64 {
        for value in values {
            out.extend_from_slice(&value.to_le_bytes());
        }
        return;
    }
    let (mut held, mut n_held) = (0u64, 0u32);
    for value in values {
        held |= value << n_held;
        n_held += width;
        if n_held >= 64 {
            out.extend_from_slice(&held.to_le_bytes());
            n_held -= 64;
            held = if n_held == 0 { 0 } else { value >> (width - n_held) };
        }
    }
    out.extend_from_slice(&held.to_le_bytes()[..n_held.div_ceil(8) as usize]);
}

/// Reads `out.len()` numbers (at most 64) from the front of `bytes`, which may be longer than they need.
/// `None` when there are too few bytes.
pub(crate) fn unpack(bytes: &[u8], width: u32, out: &mut [u64]) -> Option<()> {
    let len = packed_len(width, out.len());
    if bytes.len() < len {
        return None;
    }
    match width {
        0 => out.fill(0),
        64 => {
            for (slot, raw) in out.iter_mut().zip(bytes.chunks_exact(8)) {
                *slot = u64::from_le_bytes(raw.try_into().ok()?);
            }
        }
        _ if bytes.len() >= len + 8 => loads(bytes, width, out),
        _ => {
            let mut padded = [0u8; (PACKED_MAX as usize) * 8 + 8];
            padded.get_mut(..len)?.copy_from_slice(&bytes[..len]);
            loads(&padded, width, out);
        }
    }
    Some(())
}

/// One unaligned load, shift and mask each; `bytes` reaches eight bytes past the last number.
fn loads(bytes: &[u8], width: u32, out: &mut [u64]) {
    let mask = (1u64 << width) - 1;
    let mut bit = 0usize;
    for slot in out {
        let at = bit / 8;
        let raw = bytes[at..at + 8].try_into().expect("eight bytes are eight bytes");
        *slot = (u64::from_le_bytes(raw) >> (bit % 8)) & mask;
        bit += width as usize;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn unpacks_what_it_packed(width in 0u32..=57, raw in prop::collection::vec(any::<u64>(), 0..=64), slack in 0usize..12) {
            let width = stored_width(width);
            let values: Vec<u64> = raw.iter().map(|v| if width == 64 { *v } else { v & ((1 << width) - 1) }).collect();
            let mut bytes = Vec::new();
            pack(&values, width, &mut bytes);
            prop_assert_eq!(bytes.len(), packed_len(width, values.len()));
            bytes.resize(bytes.len() + slack, 0xa5);
            let mut got = vec![0; values.len()];
            prop_assert!(unpack(&bytes, width, &mut got).is_some());
            prop_assert_eq!(got, values);
        }
    }
}
