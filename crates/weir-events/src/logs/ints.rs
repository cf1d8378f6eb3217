//! Columns of integers: a prediction for each value, and what is left of it bit-packed against a
//! base; the few values that would make all others wide stand apart.

use super::bytes::{Damaged, Reader, put_int, put_uint};

/// What a value is predicted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Predict {
    Nothing,
    /// The value before.
    Previous,
    /// The value before, one more for each row in between: offsets and sequence numbers of which
    /// every line of a stream takes one.
    PreviousByRow,
    /// The row's time in units of so many nanoseconds: clocks inside lines.
    Time(i64),
}

const TIME_UNITS: [i64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];

impl Predict {
    fn code(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Previous => 1,
            Self::PreviousByRow => 2,
            Self::Time(unit) => 3 + TIME_UNITS.iter().position(|u| *u == unit).unwrap_or(0) as u8,
        }
    }
    fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Nothing),
            1 => Some(Self::Previous),
            2 => Some(Self::PreviousByRow),
            _ => TIME_UNITS.get(usize::from(code) - 3).map(|unit| Self::Time(*unit)),
        }
    }
}

/// Where the values of a column stand: row numbers and times, one per value. Both may be empty when
/// the column is predicted from neither.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place<'a> {
    pub rows: &'a [u32],
    pub times: &'a [i64],
}

impl Place<'_> {
    /// What is predicted for value `i`, `previous` before it.
    fn predicted(&self, predict: Predict, i: usize, previous: i64) -> i64 {
        match predict {
            Predict::Nothing => 0,
            Predict::Previous => previous,
            Predict::PreviousByRow if i == 0 => 0,
            Predict::PreviousByRow => previous.wrapping_add(i64::from(self.rows[i] - self.rows[i - 1])),
            Predict::Time(unit) => self.times[i].div_euclid(unit),
        }
    }

    /// What is left of each value after its prediction.
    fn residuals(&self, predict: Predict, values: &[i64], out: &mut Vec<i64>) {
        out.clear();
        out.reserve(values.len());
        // Nothing is predicted before the first value.
        let before = || std::iter::once(&0).chain(values);
        match predict {
            Predict::Nothing => out.extend_from_slice(values),
            Predict::Previous => out.extend(values.iter().zip(before()).map(|(v, p)| v.wrapping_sub(*p))),
            Predict::PreviousByRow => {
                let rows = self.rows.first().into_iter().chain(self.rows);
                let steps = self.rows.iter().zip(rows).map(|(row, last)| i64::from(row - last));
                let predicted = before().zip(steps).map(|(p, step)| p.wrapping_add(step));
                out.extend(values.iter().zip(predicted).map(|(v, p)| v.wrapping_sub(p)));
            }
            Predict::Time(unit) => {
                let times = values.iter().zip(self.times);
                // Division by a number that the compiler knows is a multiplication.
                match unit {
                    1_000 => out.extend(times.map(|(v, t)| v.wrapping_sub(t.div_euclid(1_000)))),
                    1_000_000 => out.extend(times.map(|(v, t)| v.wrapping_sub(t.div_euclid(1_000_000)))),
                    unit => out.extend(times.map(|(v, t)| v.wrapping_sub(t.div_euclid(unit)))),
                }
            }
        }
    }
}

/// Samples are runs, since every n-th value may look alike where neighbours do not.
const SAMPLE_RUN: usize = 32;
const SAMPLE_RUNS: usize = 16;

fn sampled(n: usize) -> impl Iterator<Item = usize> {
    let stride = (n / SAMPLE_RUNS).max(SAMPLE_RUN);
    (0..n).step_by(stride).flat_map(move |from| from..(from + SAMPLE_RUN).min(n))
}
/// About what a value that stands apart takes.
const APART_BITS: usize = 72;

/// The cheapest (cost, width) of these distances from a base.
fn best_width(bits: &[usize; 65]) -> (usize, usize) {
    let n: usize = bits.iter().sum();
    let mut apart = n;
    let mut best = (usize::MAX, 64);
    for (width, count) in bits.iter().enumerate() {
        apart -= count;
        let cost = n * width + apart * APART_BITS;
        best = best.min((cost, width));
    }
    best
}

fn widths(residuals: &[i64], base: i64) -> [usize; 65] {
    // Four tables, so that one count need not wait for the one before.
    let mut tables = [[0_u32; 65]; 4];
    let width = |residual: &i64| 64 - (residual.wrapping_sub(base) as u64).leading_zeros() as usize;
    let fours = residuals.chunks_exact(4);
    fours.remainder().iter().for_each(|r| tables[0][width(r)] += 1);
    for four in fours {
        for (table, residual) in tables.iter_mut().zip(four) {
            table[width(residual)] += 1;
        }
    }
    std::array::from_fn(|width| tables.iter().map(|table| table[width] as usize).sum())
}

/// Base, cost and width: the base is the least residual, or one that leaves a few out. `sample`: some of the
/// residuals, in an order that is not kept.
fn best_base(residuals: &[i64], sample: &mut [i64]) -> (usize, usize, i64) {
    let least = residuals.iter().copied().min().unwrap_or(0);
    let rank = sample.len() / 50;
    let low = if sample.is_empty() { least } else { *sample.select_nth_unstable(rank).1 };
    let cost = |base: i64| {
        let (cost, width) = best_width(&widths(residuals, base));
        (cost, width, base)
    };
    if low == least { cost(least) } else { cost(least).min(cost(low)) }
}

/// Buffers that many columns share.
#[derive(Default)]
pub(crate) struct Scratch {
    residuals: Vec<i64>,
    sample: Vec<i64>,
}

fn choose(values: &[i64], place: Place<'_>, scratch: &mut Scratch) -> Predict {
    let mut candidates = vec![Predict::Nothing, Predict::Previous];
    if !place.rows.is_empty() {
        candidates.push(Predict::PreviousByRow);
    }
    if let (Some(at), Some(value)) = (place.times.first(), values.first()) {
        // A clock in the line is within a day of the entry's time.
        let near = |unit: &i64| {
            (at.div_euclid(*unit) - value).unsigned_abs() < (86_400_000_000_000 / unit) as u64 && *value > 1_000_000
        };
        candidates.extend(TIME_UNITS.iter().filter(|unit| near(unit)).map(|unit| Predict::Time(*unit)));
    }
    let mut cost = |predict: &Predict| {
        let residual = |i: usize| {
            let previous = if i == 0 { 0 } else { values[i - 1] };
            values[i].wrapping_sub(place.predicted(*predict, i, previous))
        };
        scratch.residuals.clear();
        scratch.residuals.extend(sampled(values.len()).map(residual));
        scratch.sample.clone_from(&scratch.residuals);
        best_base(&scratch.residuals, &mut scratch.sample).0
    };
    candidates.into_iter().min_by_key(&mut cost).unwrap_or(Predict::Nothing)
}

pub(crate) fn encode(out: &mut Vec<u8>, values: &[i64], place: Place<'_>, scratch: &mut Scratch) {
    let predict = choose(values, place, scratch);
    encode_as(out, values, place, predict, scratch);
}

pub(crate) fn encode_as(out: &mut Vec<u8>, values: &[i64], place: Place<'_>, predict: Predict, scratch: &mut Scratch) {
    let Scratch { residuals, sample } = scratch;
    place.residuals(predict, values, residuals);
    sample.clear();
    sample.extend(sampled(residuals.len()).map(|i| residuals[i]));
    let (_, width, base) = best_base(residuals, sample);
    let is_apart = |distance: u64| width < 64 && distance >> width != 0;
    let mut apart = Vec::new();
    for (i, residual) in residuals.iter_mut().enumerate() {
        *residual = residual.wrapping_sub(base);
        if is_apart(*residual as u64) {
            apart.push((i, *residual));
            *residual = 0;
        }
    }
    out.push(predict.code());
    put_int(out, base);
    out.push(width as u8);
    put_uint(out, apart.len() as u64);
    let mut last = 0;
    for (i, distance) in apart {
        put_uint(out, (i - last) as u64);
        put_int(out, distance);
        last = i;
    }
    pack(out, residuals, width);
}

/// Whether the encoded column can be decoded without knowing its rows and times.
pub(crate) fn needs_no_place(encoded: &[u8]) -> bool {
    encoded.first().is_some_and(|code| *code < Predict::PreviousByRow.code())
}

/// The values of a column of `n`.
pub(crate) fn decode(reader: &mut Reader<'_>, n: usize, place: Place<'_>) -> Result<Vec<i64>, Damaged> {
    let predict = Predict::of_code(reader.byte()?).ok_or_else(|| reader.damaged("an unknown prediction"))?;
    let base = reader.int()?;
    let width = usize::from(reader.byte()?);
    if width > 64 {
        return Err(reader.damaged("values of more than 64 bits"));
    }
    let n_apart = reader.len(n)?;
    let mut apart = Vec::with_capacity(n_apart);
    let mut at = 0_usize;
    for _ in 0..n_apart {
        at = at.saturating_add(reader.len(n)?);
        apart.push((at, reader.int()?));
    }
    let bits = reader.take((n * width).div_ceil(8))?;
    let mut values = unpack(bits, n, width, base);
    for (at, distance) in apart {
        *values.get_mut(at).ok_or_else(|| reader.damaged("a value out of bounds"))? = base.wrapping_add(distance);
    }
    let needs = match predict {
        Predict::PreviousByRow => place.rows.len(),
        Predict::Time(_) => place.times.len(),
        _ => n,
    };
    if needs < n {
        return Err(reader.damaged("a prediction from what is not there"));
    }
    if predict != Predict::Nothing {
        let mut previous = 0;
        for (i, value) in values.iter_mut().enumerate() {
            *value = value.wrapping_add(place.predicted(predict, i, previous));
            previous = *value;
        }
    }
    Ok(values)
}

fn unpack(bits: &[u8], n: usize, width: usize, base: i64) -> Vec<i64> {
    if width == 0 {
        return vec![base; n];
    }
    let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
    let mut values = Vec::with_capacity(n);
    // A value of up to 57 bits lies within eight bytes; the last few are read byte by byte.
    let fast = if width <= 57 { (bits.len().saturating_sub(8) * 8 / width).min(n) } else { 0 };
    for i in 0..fast {
        let at = i * width;
        let word = bits[at / 8..at / 8 + 8].try_into().map_or(0, u64::from_le_bytes);
        values.push(base.wrapping_add((word >> (at % 8) & mask) as i64));
    }
    for i in fast..n {
        let at = i * width;
        let mut word = 0_u128;
        for (k, byte) in bits[at / 8..].iter().take(9).enumerate() {
            word |= u128::from(*byte) << (8 * k);
        }
        values.push(base.wrapping_add(((word >> (at % 8)) as u64 & mask) as i64));
    }
    values
}

/// Appends the lowest `width` bits of each value, which has no others, low ones first, to a whole byte.
fn pack(out: &mut Vec<u8>, values: &[i64], width: usize) {
    if width == 0 {
        return;
    }
    out.reserve((values.len() * width).div_ceil(8) + 8);
    let (mut word, mut used) = (0_u64, 0);
    for value in values {
        let value = *value as u64;
        word |= value << used;
        used += width;
        if used >= 64 {
            out.extend_from_slice(&word.to_le_bytes());
            used -= 64;
            // What did not fit; a shift by all 64 bits is none to the processor.
            word = if used == 0 { 0 } else { value >> (width - used) };
        }
    }
    out.extend_from_slice(&word.to_le_bytes()[..used.div_ceil(8)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(values: &[i64], rows: &[u32], times: &[i64]) -> usize {
        let place = Place { rows, times };
        let mut out = Vec::new();
        encode(&mut out, values, place, &mut Scratch::default());
        assert_eq!(decode(&mut Reader::new("test", &out), values.len(), place).unwrap(), values);
        out.len()
    }

    #[test]
    fn predictable_columns_take_next_to_nothing() {
        let rows: Vec<u32> = (0..10_000).map(|i| i * 3 + i % 2).collect();
        let times: Vec<i64> = (0..10_000).map(|i| 1_800_000_000_000_000_000 + i * 7_777_777).collect();
        let clock: Vec<i64> = times.iter().map(|t| t / 1_000_000).collect();
        assert!(round_trip(&clock, &rows, &times) < 20);
        let offsets: Vec<i64> = rows.iter().map(|r| 5_000_000 + i64::from(*r)).collect();
        let taken = round_trip(&offsets, &rows, &times);
        assert!(taken < 30, "{taken}");
        let mut spiky: Vec<i64> = (0..10_000).map(|i| i % 16).collect();
        spiky[777] = i64::MAX;
        assert!(round_trip(&spiky, &rows, &times) < 5_100);
    }

    proptest! {
        #[test]
        fn any_values_round_trip(values in prop::collection::vec(prop_oneof![any::<i64>(), 0..100_i64, -5..5_i64], 0..300)) {
            let rows: Vec<u32> = (0..values.len() as u32).map(|i| i * 2).collect();
            round_trip(&values, &rows, &values);
            round_trip(&values, &[], &[]);
        }

        #[test]
        fn any_bytes_are_an_error_or_values(bytes in prop::collection::vec(any::<u8>(), 0..60), n in 0_usize..50) {
            let _ = decode(&mut Reader::new("test", &bytes), n, Place::default());
        }
    }
}
