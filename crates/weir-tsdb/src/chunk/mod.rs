//! Encoded runs of samples.
//!
//! A chunk is two columns, times and values. Each column picks by its own data, per chunk, between a
//! constant, a line, and packed differences from one of four predictions (`ints.rs`); values are
//! first brought to integers where they are decimals (`floats.rs`). Decoding appends to plain columns.
//! `docs/format/chunk.md` draws the bytes, `docs/decisions/0003-chunk-encodings.md` has the numbers.
//!
//! Blocks keep the two columns apart, as all series of one scrape share their times; the head keeps
//! them together ([`encode`], [`decode`]).

mod bits;
mod floats;
pub(crate) mod histograms;
mod ints;
pub(crate) mod reader;

use weir_model::{TimeRange, Timestamp};

use reader::{Reader, put_varint, put_zigzag};

/// Most samples in a chunk; a bound for what foreign bytes can ask for.
pub const CHUNK_SAMPLES_MAX: usize = 1 << 16;

/// Bytes that are not a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged chunk: {what}, at byte {offset}")]
pub struct ChunkError {
    /// Where in the chunk.
    pub offset: usize,
    pub what: &'static str,
}

/// Buffers that encoding and decoding need; keep one per thread of work.
#[derive(Default)]
pub struct Scratch {
    ints: ints::Scratch,
    floats: floats::Scratch,
    relative: Vec<i64>,
}

/// What a chunk says of itself before it is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    pub n_samples: usize,
    /// First and last sample.
    pub range: TimeRange,
}

/// Samples of one series as one run of bytes.
///
/// `times`: strictly ascending, milliseconds, as many as `values`, 1 to [`CHUNK_SAMPLES_MAX`].
pub fn encode(times: &[i64], values: &[f64], scratch: &mut Scratch) -> Vec<u8> {
    assert!(
        times.len() == values.len() && !times.is_empty() && times.len() <= CHUNK_SAMPLES_MAX,
        "columns of one length"
    );
    let mut out = Vec::with_capacity(16 + values.len());
    put_varint(&mut out, times.len() as u64);
    put_zigzag(&mut out, times[0]);
    put_varint(&mut out, times[times.len() - 1].wrapping_sub(times[0]) as u64);
    encode_times(times, scratch, &mut out);
    encode_values(values, scratch, &mut out);
    out
}

/// Reads only the first few bytes.
pub fn head(bytes: &[u8]) -> Result<ChunkHead, ChunkError> {
    read_head(&mut Reader::new(bytes))
}

fn read_head(reader: &mut Reader<'_>) -> Result<ChunkHead, ChunkError> {
    let n_samples = reader.count(CHUNK_SAMPLES_MAX, "too many samples")?;
    if n_samples == 0 {
        return Err(reader.error("no samples"));
    }
    let first = reader.zigzag("the first time is cut short")?;
    let span = reader.varint("the time span is cut short")?;
    let Some(last) = first.checked_add_unsigned(span) else { return Err(reader.error("the time span is too long")) };
    Ok(ChunkHead { n_samples, range: TimeRange::new(Timestamp(first), Timestamp(last)) })
}

/// Appends the chunk's samples within `range` to the two columns; how many.
///
/// On an error the columns are as they were.
pub fn decode(
    bytes: &[u8],
    range: TimeRange,
    scratch: &mut Scratch,
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<usize, ChunkError> {
    let (n_times, n_values) = (times.len(), values.len());
    let got = decode_appending(bytes, range, scratch, times, values);
    if got.is_err() {
        times.truncate(n_times);
        values.truncate(n_values);
    }
    got
}

fn decode_appending(
    bytes: &[u8],
    range: TimeRange,
    scratch: &mut Scratch,
    times: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<usize, ChunkError> {
    let mut reader = Reader::new(bytes);
    let head = read_head(&mut reader)?;
    if head.range.start > range.end || head.range.end < range.start {
        return Ok(0);
    }
    let start = times.len();
    times_from(&mut reader, head, times)?;
    let wanted = within(&times[start..], range);
    let first_value = values.len();
    floats::decode(&mut reader, head.n_samples, wanted.end, &mut scratch.floats, values)?;
    values.drain(first_value..first_value + wanted.start);
    times.truncate(start + wanted.end);
    times.drain(start..start + wanted.start);
    Ok(wanted.len())
}

/// Positions of ascending times that lie in `range`.
pub fn within(times: &[i64], range: TimeRange) -> std::ops::Range<usize> {
    let from = times.partition_point(|at| *at < range.start.0);
    let to = times.partition_point(|at| *at <= range.end.0);
    from..to.max(from)
}

/// Appends the column of times, counted from the first; count, first and last are the caller's to keep.
pub fn encode_times(times: &[i64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    debug_assert!(times.is_sorted_by(|a, b| a < b), "times ascend");
    let first = times.first().copied().unwrap_or(0);
    scratch.relative.clear();
    scratch.relative.extend(times.iter().map(|at| at.wrapping_sub(first)));
    ints::encode(&scratch.relative, &mut scratch.ints, out);
}

pub fn encode_values(values: &[f64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    // On its own, as the values' encoder may put a smaller column in place of its first try.
    let mut column = Vec::with_capacity(values.len());
    floats::encode(values, &mut scratch.floats, &mut column);
    out.extend_from_slice(&column);
}

/// Appends the times of a column written by [`encode_times`]; an error unless they ascend from
/// first to last.
pub fn decode_times(bytes: &[u8], head: ChunkHead, times: &mut Vec<i64>) -> Result<(), ChunkError> {
    let start = times.len();
    let got = times_from(&mut Reader::new(bytes), head, times);
    if got.is_err() {
        times.truncate(start);
    }
    got
}

fn times_from(reader: &mut Reader<'_>, head: ChunkHead, times: &mut Vec<i64>) -> Result<(), ChunkError> {
    let start = times.len();
    ints::decode(reader, head.n_samples, head.n_samples, times)?;
    let first = head.range.start.0;
    let added = &mut times[start..];
    added.iter_mut().for_each(|at| *at = first.wrapping_add(*at));
    let ends = (added.first().copied(), added.last().copied());
    if ends != (Some(first), Some(head.range.end.0)) || !added.is_sorted_by(|a, b| a < b) {
        return Err(reader.error("times do not ascend from the first to the last"));
    }
    Ok(())
}

/// Appends the values at `wanted` of a column of `n` values written by [`encode_values`].
pub fn decode_values(
    bytes: &[u8],
    n: usize,
    wanted: std::ops::Range<usize>,
    scratch: &mut Scratch,
    values: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    let start = values.len();
    let got = floats::decode(&mut Reader::new(bytes), n, wanted.end, &mut scratch.floats, values);
    match got {
        Ok(()) => drop(values.drain(start..start + wanted.start)),
        Err(_) => values.truncate(start),
    }
    got
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ascending() -> impl Strategy<Value = (Vec<i64>, Vec<f64>)> {
        let gap = prop_oneof![4 => 14_998u64..15_003, 1 => 1u64..1 << 40];
        (any::<i32>(), prop::collection::vec((gap, any::<u64>(), 0u8..9), 1..300)).prop_map(|(start, rows)| {
            let mut at = i64::from(start);
            let times = rows.iter().map(|(gap, ..)| {
                at += *gap as i64;
                at
            });
            let times = times.collect();
            let values =
                rows.iter().map(|(_, bits, odd)| if *odd == 0 { f64::from_bits(*bits) } else { (bits % 1000) as f64 });
            (times, values.collect())
        })
    }

    proptest! {
        #[test]
        fn a_range_comes_back_to_the_bit((times, values) in ascending(), from in 0usize..300, n in 0usize..300) {
            let mut scratch = Scratch::default();
            let bytes = encode(&times, &values, &mut scratch);
            let (from, to) = (from.min(times.len() - 1), (from + n).min(times.len() - 1));
            let range = TimeRange::new(Timestamp(times[from] - 1), Timestamp(times[to]));
            let want: Vec<_> = times.iter().zip(&values)
                .filter(|(at, _)| range.contains(Timestamp(**at))).map(|(at, v)| (*at, v.to_bits())).collect();
            let (mut got_times, mut got_values) = (vec![7], vec![0.5]);
            let n = decode(&bytes, range, &mut scratch, &mut got_times, &mut got_values).expect("own bytes");
            let got: Vec<_> = got_times[1..].iter().zip(&got_values[1..]).map(|(at, v)| (*at, v.to_bits())).collect();
            prop_assert_eq!(n, want.len());
            prop_assert_eq!(got, want);
            let head = head(&bytes).expect("own bytes");
            prop_assert_eq!((head.n_samples, head.range.start.0), (times.len(), times[0]));
        }

        #[test]
        fn damage_is_an_error_or_other_samples((times, values) in ascending(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut scratch = Scratch::default();
            let mut bytes = encode(&times, &values, &mut scratch);
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            for bytes in [&bytes[..], &bytes[..at]] {
                let (mut times, mut values) = (vec![7], vec![0.5]);
                match decode(bytes, TimeRange::ALL, &mut scratch, &mut times, &mut values) {
                    Ok(n) => prop_assert_eq!((times.len(), values.len()), (n + 1, n + 1)),
                    Err(error) => {
                        prop_assert!(error.offset <= bytes.len());
                        prop_assert_eq!((times.len(), values.len()), (1, 1));
                    }
                }
            }
        }
    }
}
