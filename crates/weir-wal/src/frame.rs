//! Bytes of segments and frames; `docs/format/wal.md` draws them.

use crate::log::Position;

pub(crate) const SEGMENT_HEADER_BYTES: usize = 24;
pub(crate) const FRAME_HEADER_BYTES: usize = 16;
/// Longest payload of a frame.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

const MAGIC: &[u8; 7] = b"weirwal";
const VERSION: u8 = 1;

pub(crate) fn segment_header(segment: u64) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut header = [0; SEGMENT_HEADER_BYTES];
    header[..7].copy_from_slice(MAGIC);
    header[7] = VERSION;
    header[8..16].copy_from_slice(&segment.to_le_bytes());
    let sum = crc32c::crc32c(&header[..16]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

pub(crate) enum SegmentHeader {
    Fine,
    /// Written by a later weir.
    Version(u8),
    Damaged,
}

pub(crate) fn read_segment_header(bytes: &[u8], segment: u64) -> SegmentHeader {
    let Some(header) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else { return SegmentHeader::Damaged };
    if *header == segment_header(segment) {
        return SegmentHeader::Fine;
    }
    let is_whole = header[..7] == *MAGIC && header[16..20] == crc32c::crc32c(&header[..16]).to_le_bytes();
    if is_whole && header[7] != VERSION { SegmentHeader::Version(header[7]) } else { SegmentHeader::Damaged }
}

/// Checksum of a frame's payload, given in parts.
pub(crate) fn payload_sum(parts: &[&[u8]]) -> u32 {
    parts.iter().fold(0, |sum, part| crc32c::crc32c_append(sum, part))
}

/// The header's own checksum covers where the frame stands, so that bytes of a frame found anywhere
/// else (inside a payload, in a file that was copied over) are no frame.
fn header_sum(first: [u8; 12], at: Position) -> u32 {
    let mut covered = [0; 28];
    covered[..12].copy_from_slice(&first);
    covered[12..20].copy_from_slice(&at.segment.to_le_bytes());
    covered[20..].copy_from_slice(&at.offset.to_le_bytes());
    crc32c::crc32c(&covered)
}

/// `at`: where the header goes. `len` is at most [`PAYLOAD_BYTES_MAX`].
pub(crate) fn frame_header(at: Position, kind: u8, len: u32, payload_sum: u32) -> [u8; FRAME_HEADER_BYTES] {
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&len.to_le_bytes());
    header[4] = kind;
    header[8..12].copy_from_slice(&payload_sum.to_le_bytes());
    let mut first = [0; 12];
    first.copy_from_slice(&header[..12]);
    header[12..].copy_from_slice(&header_sum(first, at).to_le_bytes());
    header
}

struct Header {
    kind: u8,
    len: usize,
    payload_sum: u32,
}

fn read_header(bytes: &[u8], at: Position) -> Option<Header> {
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>()?;
    let word = |from: usize| u32::from_le_bytes([header[from], header[from + 1], header[from + 2], header[from + 3]]);
    let len = word(0) as usize;
    // Zero is no kind, so that zeros are no frame.
    if header[4] == 0 || header[5..8] != [0; 3] || len > PAYLOAD_BYTES_MAX {
        return None;
    }
    let mut first = [0; 12];
    first.copy_from_slice(&header[..12]);
    (word(12) == header_sum(first, at)).then(|| Header { kind: header[4], len, payload_sum: word(8) })
}

/// What stands at a place of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Frame {
        kind: u8,
        payload: std::ops::Range<usize>,
    },
    /// Not readable up to `end`, where either a frame begins or the segment ends.
    Damage {
        end: usize,
    },
    End,
}

/// Reads `segment`, whose whole content is `bytes`, at `at`.
pub(crate) fn find(bytes: &[u8], segment: u64, at: usize) -> Found {
    match whole_frame(bytes, segment, at) {
        Whole::Frame { kind, payload } => return Found::Frame { kind, payload },
        // The header is right, so its length is: what follows can be read.
        Whole::BadPayload { end } => return Found::Damage { end },
        Whole::No => {}
    }
    // Room taken in advance and not written yet is zero.
    if bytes[at.min(bytes.len())..].iter().all(|b| *b == 0) {
        return Found::End;
    }
    let next = (at + 1..bytes.len()).find(|at| !matches!(whole_frame(bytes, segment, *at), Whole::No));
    Found::Damage { end: next.unwrap_or(bytes.len()) }
}

enum Whole {
    Frame { kind: u8, payload: std::ops::Range<usize> },
    BadPayload { end: usize },
    No,
}

fn whole_frame(bytes: &[u8], segment: u64, at: usize) -> Whole {
    let position = Position { segment, offset: at as u64 };
    let Some(header) = bytes.get(at..).and_then(|rest| read_header(rest, position)) else { return Whole::No };
    let start = at + FRAME_HEADER_BYTES;
    let Some(payload) = bytes.get(start..start + header.len) else {
        return Whole::BadPayload { end: bytes.len() };
    };
    if crc32c::crc32c(payload) == header.payload_sum {
        Whole::Frame { kind: header.kind, payload: start..start + header.len }
    } else {
        Whole::BadPayload { end: start + header.len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(payloads: &[&[u8]]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = segment_header(7).to_vec();
        let mut starts = Vec::new();
        for payload in payloads {
            starts.push(bytes.len());
            let at = Position { segment: 7, offset: bytes.len() as u64 };
            bytes.extend(frame_header(at, 3, payload.len() as u32, payload_sum(&[payload])));
            bytes.extend(*payload);
        }
        (bytes, starts)
    }

    fn payloads(bytes: &[u8], segment: u64) -> Vec<Vec<u8>> {
        let mut at = SEGMENT_HEADER_BYTES;
        let mut found = Vec::new();
        loop {
            match find(bytes, segment, at) {
                Found::Frame { payload, .. } => {
                    at = payload.end;
                    found.push(bytes[payload].to_vec());
                }
                Found::Damage { end } => at = end,
                Found::End => return found,
            }
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_document() {
        let (bytes, _) = segment(&[b"abc"]);
        assert_eq!(
            bytes,
            [
                b"weirwal\x01" as &[u8],
                &[7, 0, 0, 0, 0, 0, 0, 0],
                &crc32c::crc32c(b"weirwal\x01\x07\0\0\0\0\0\0\0").to_le_bytes(),
                &[0; 4],
                &[3, 0, 0, 0, 3, 0, 0, 0],
                // CRC-32C of "abc", from the table of RFC 3720's polynomial.
                &0x364b_3fb7_u32.to_le_bytes(),
                &bytes[36..40],
                b"abc",
            ]
            .concat()
        );
    }

    #[test]
    fn a_flipped_bit_costs_the_frame_it_is_in_and_no_other() {
        let all: [&[u8]; 4] = [b"first", b"", b"the third one", b"last"];
        let (bytes, starts) = segment(&all);
        for bit in SEGMENT_HEADER_BYTES * 8..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let hit = starts.iter().rposition(|start| start * 8 <= bit).unwrap();
            let mut wanted: Vec<Vec<u8>> = all.iter().map(|p| p.to_vec()).collect();
            wanted.remove(hit);
            assert_eq!(payloads(&bad, 7), wanted, "bit {bit}");
        }
    }

    #[test]
    fn a_frame_elsewhere_is_none() {
        let (inner, _) = segment(&[b"a frame in a payload"]);
        let (mut bytes, starts) = segment(&[&inner, b"next"]);
        bytes[starts[0]] ^= 1;
        assert_eq!(payloads(&bytes, 7), [b"next".to_vec()]);
        assert!(payloads(&inner, 8).is_empty(), "of another segment");
    }

    #[test]
    fn a_cut_at_every_byte_leaves_the_frames_before_it() {
        let all: [&[u8]; 3] = [b"one", b"two two", b"three"];
        let (bytes, starts) = segment(&all);
        for len in SEGMENT_HEADER_BYTES..bytes.len() {
            let n = starts.iter().skip(1).filter(|start| **start <= len).count();
            assert_eq!(payloads(&bytes[..len], 7).len(), n, "cut at {len}");
        }
    }
}
