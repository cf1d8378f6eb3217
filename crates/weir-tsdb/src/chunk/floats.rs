//! A column of floats, kept to the bit: as decimal integers where they are such, else by their bits.
//!
//! What a sender writes as `12.34` is the double nearest to 1234 / 100, and dividing gives it back.
//! Some programs multiply by 0.01 instead, which rounds once more and gives a neighbour; both ways
//! are tried. Values that neither reaches (NaN, infinities, -0, sums with rounding noise) are listed
//! beside, run by run; when there are many, the column holds the bits of all.

use super::ChunkError;
use super::ints::{self, from_ordered, ordered};
use super::reader::{Reader, put_varint};

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 19] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];
const FRACTIONS: [f64; 19] = [
    1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15, 1e-16, 1e-17,
    1e-18,
];
/// Adding and subtracting it rounds to an integer, below 2^51.
const ROUNDER: f64 = 6_755_399_441_055_744.0;
const ROUNDED_MAX: f64 = 2_251_799_813_685_248.0;

const EXPONENT: u8 = 0x1f;
const MULTIPLIED: u8 = 0x20;
const BITS: u8 = 0x40;
const HAS_EXCEPTIONS: u8 = 0x80;

/// Values looked at before a scale is chosen.
const SAMPLED: usize = 32;

/// How an integer becomes the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    /// Divided by 10^exponent.
    Divide(u8),
    /// Multiplied by the double nearest to 10^-exponent.
    Multiply(u8),
}

impl Scale {
    fn byte(self) -> u8 {
        match self {
            Self::Divide(exponent) => exponent,
            Self::Multiply(exponent) => exponent | MULTIPLIED,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        let exponent = byte & EXPONENT;
        let known = usize::from(exponent) < POWERS.len();
        known.then_some(if byte & MULTIPLIED == 0 { Self::Divide(exponent) } else { Self::Multiply(exponent) })
    }

    /// The integer that gives exactly this value back.
    #[inline]
    fn integer(self, value: f64) -> Option<i64> {
        let (exponent, back) = match self {
            Self::Divide(0) | Self::Multiply(0) => {
                // The cast saturates; 2^63 - 1 as a float is 2^63, which is out of range.
                let integer = value as i64;
                return ((integer as f64).to_bits() == value.to_bits() && integer != i64::MAX).then_some(integer);
            }
            Self::Divide(exponent) => (exponent, None),
            Self::Multiply(exponent) => (exponent, Some(FRACTIONS[usize::from(exponent)])),
        };
        let power = POWERS[usize::from(exponent)];
        let scaled = value * power;
        let rounded = (scaled + ROUNDER) - ROUNDER;
        let again = back.map_or_else(|| rounded / power, |fraction| rounded * fraction);
        // Written so that NaN is refused too.
        let fits = scaled.abs() < ROUNDED_MAX && again.to_bits() == value.to_bits();
        (fits && (rounded != 0.0 || value.to_bits() == 0)).then_some(rounded as i64)
    }

    fn n_misfits(self, values: &[f64]) -> usize {
        values.iter().filter(|v| self.integer(**v).is_none()).count()
    }
}

/// The smallest exponents that a few of the values need, ascending; values that none suits are left out.
fn exponents(values: &[f64], scale: fn(u8) -> Scale) -> Vec<u8> {
    let stride = values.len().div_ceil(SAMPLED).max(1);
    let mut from = 0;
    let mut found = Vec::with_capacity(SAMPLED);
    for value in values.iter().step_by(stride) {
        let suits = |exponent: u8| scale(exponent).integer(*value).is_some();
        // Neighbours mostly need the same; a smaller one is looked for only then.
        if let Some(exponent) = (from..POWERS.len() as u8).find(|e| suits(*e)) {
            let least = (0..exponent).find(|e| suits(*e)).unwrap_or(exponent);
            found.push(least);
            from = least;
        } else if let Some(exponent) = (0..from).find(|e| suits(*e)) {
            found.push(exponent);
        }
    }
    found.sort_unstable();
    found
}

/// The scale that suits most values, and how many it does not.
fn choose(values: &[f64], scale: fn(u8) -> Scale) -> Option<(Scale, usize)> {
    let found = exponents(values, scale);
    let (most, usual) = (*found.last()?, found[found.len() * 9 / 10]);
    let mut best = (scale(most), scale(most).n_misfits(values));
    if best.1 > values.len() / 32 {
        // The few looked at can all be round ones, when rounds come at their distance.
        let misfits: Vec<_> = values.iter().copied().filter(|v| best.0.integer(*v).is_none()).collect();
        if let Some(more) = exponents(&misfits, scale).last().copied().filter(|e| *e > most) {
            let n_misfits = scale(more).n_misfits(values);
            if n_misfits < best.1 {
                best = (scale(more), n_misfits);
            }
        }
    }
    if usual + 2 < most {
        // A few long numbers are better exceptions than a reason to lengthen all.
        let n_misfits = scale(usual).n_misfits(values);
        if n_misfits <= best.1 + values.len() / 32 {
            best = (scale(usual), n_misfits);
        }
    }
    Some(best)
}

/// Buffers for [`encode`] and [`decode`], kept between columns.
#[derive(Default)]
pub(crate) struct Scratch {
    column: Vec<i64>,
    ints: ints::Scratch,
    other: Vec<u8>,
}

/// Appends the column to `out`. How many there are is kept by the caller.
pub(crate) fn encode(values: &[f64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let Some(first) = values.first() else { return };
    if values.iter().all(|v| v.to_bits() == first.to_bits()) {
        return encode_constant(*first, values.len(), scratch, out);
    }
    let mut chosen = choose(values, Scale::Divide);
    if chosen.is_none_or(|(_, n_misfits)| n_misfits > values.len() / 32) {
        let other = choose(values, Scale::Multiply);
        if other.map_or(usize::MAX, |o| o.1) < chosen.map_or(usize::MAX, |c| c.1) {
            chosen = other;
        }
    }
    match chosen {
        Some((scale, n_misfits)) if n_misfits <= values.len() / 8 => {
            encode_decimal(values, scale, scratch, out);
            // Many digits can make the integers wider than the bits would be.
            let many_digits = scratch.column.iter().any(|v| v.unsigned_abs() >> 44 != 0) || n_misfits > 0;
            if many_digits {
                replace_by_bits(values, scratch, out);
            }
        }
        Some((scale, _)) => {
            encode_decimal(values, scale, scratch, out);
            replace_by_bits(values, scratch, out);
        }
        None => encode_bits(values, scratch, out),
    }
}

fn encode_constant(value: f64, n: usize, scratch: &mut Scratch, out: &mut Vec<u8>) {
    let scale = (0..POWERS.len() as u8).map(Scale::Divide).find(|s| s.integer(value).is_some());
    let (byte, integer) = match scale {
        Some(scale) => (scale.byte(), scale.integer(value).expect("just found")),
        None => (BITS, ordered(value.to_bits())),
    };
    out.push(byte);
    scratch.column.clear();
    scratch.column.resize(n, integer);
    ints::encode(&scratch.column, &mut scratch.ints, out);
}

fn encode_decimal(values: &[f64], scale: Scale, scratch: &mut Scratch, out: &mut Vec<u8>) {
    scratch.column.clear();
    let mut misfits: Vec<(usize, usize, u64)> = Vec::new();
    let mut last = 0;
    for (idx, value) in values.iter().enumerate() {
        match scale.integer(*value) {
            Some(integer) => last = integer,
            None => match misfits.last_mut() {
                Some((start, n, bits)) if *start + *n == idx && *bits == value.to_bits() => *n += 1,
                _ => misfits.push((idx, 1, value.to_bits())),
            },
        }
        // A misfit repeats the integer before it, which costs least.
        scratch.column.push(last);
    }
    out.push(scale.byte() | if misfits.is_empty() { 0 } else { HAS_EXCEPTIONS });
    if !misfits.is_empty() {
        put_varint(out, misfits.len() as u64);
        let mut after = 0;
        for (start, n, bits) in misfits {
            put_varint(out, (start - after) as u64);
            put_varint(out, n as u64);
            out.extend_from_slice(&bits.to_le_bytes());
            after = start + n;
        }
    }
    ints::encode(&scratch.column, &mut scratch.ints, out);
}

fn encode_bits(values: &[f64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    out.push(BITS);
    scratch.column.clear();
    scratch.column.extend(values.iter().map(|v| ordered(v.to_bits())));
    ints::encode(&scratch.column, &mut scratch.ints, out);
}

/// Puts the column of bits in place of `out`'s column when it is smaller.
fn replace_by_bits(values: &[f64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let mut other = std::mem::take(&mut scratch.other);
    other.clear();
    encode_bits(values, scratch, &mut other);
    if other.len() < out.len() {
        std::mem::swap(&mut other, out);
    }
    scratch.other = other;
}

/// Appends the first `take` of the column's `n` values to `out`.
pub(crate) fn decode(
    reader: &mut Reader<'_>,
    n: usize,
    take: usize,
    scratch: &mut Scratch,
    out: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    if n == 0 {
        return Ok(());
    }
    let header = reader.u8("the values' header is missing")?;
    let runs = if header & HAS_EXCEPTIONS == 0 { Vec::new() } else { read_runs(reader, n)? };
    scratch.column.clear();
    let start = out.len();
    if header & BITS != 0 {
        ints::decode(reader, n, take, &mut scratch.column)?;
        out.extend(scratch.column.iter().map(|v| f64::from_bits(from_ordered(*v))));
    } else {
        let scale = Scale::from_byte(header).ok_or_else(|| reader.error("a scale is out of range"))?;
        ints::decode(reader, n, take, &mut scratch.column)?;
        let column = scratch.column.iter().map(|v| *v as f64);
        match scale {
            Scale::Divide(0) | Scale::Multiply(0) => out.extend(column),
            Scale::Divide(exponent) => {
                let power = POWERS[usize::from(exponent)];
                out.extend(column.map(|v| v / power));
            }
            Scale::Multiply(exponent) => {
                let fraction = FRACTIONS[usize::from(exponent)];
                out.extend(column.map(|v| v * fraction));
            }
        }
    }
    let added = &mut out[start..];
    for (from, to, bits) in runs {
        let (from, to) = (from.min(added.len()), to.min(added.len()));
        added[from..to].fill(f64::from_bits(bits));
    }
    Ok(())
}

fn read_runs(reader: &mut Reader<'_>, n: usize) -> Result<Vec<(usize, usize, u64)>, ChunkError> {
    let n_runs = reader.count(n, "more exceptions than values")?;
    let mut runs = Vec::with_capacity(n_runs.min(reader.rest().len() / 10 + 1));
    let mut after = 0;
    for _ in 0..n_runs {
        let from = after + reader.count(n - after, "an exception lies outside the chunk")?;
        let to = from + reader.count(n - from, "exceptions reach past the chunk")?;
        let raw = reader.take(8, "an exception is cut short")?;
        runs.push((from, to, u64::from_le_bytes(raw.try_into().expect("eight bytes were taken"))));
        after = to;
    }
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(values: &[f64]) -> usize {
        let (mut bytes, mut scratch) = (Vec::new(), Scratch::default());
        encode(values, &mut scratch, &mut bytes);
        let want: Vec<_> = values.iter().map(|v| v.to_bits()).collect();
        for take in [values.len(), values.len() / 3] {
            let mut got = Vec::new();
            decode(&mut Reader::new(&bytes), values.len(), take, &mut scratch, &mut got).expect("own bytes");
            let got: Vec<_> = got.iter().map(|v| v.to_bits()).collect();
            assert_eq!(got, want[..take]);
        }
        bytes.len()
    }

    #[test]
    fn odd_values_keep_their_bits() {
        let stale = f64::from_bits(weir_model::STALE_NAN_BITS);
        let payload = f64::from_bits(0xfff8_dead_beef_0001);
        let odd = [
            0.0,
            -0.0,
            stale,
            payload,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MIN_POSITIVE / 2.0,
            5e-324,
            f64::MAX,
            f64::MIN,
            i64::MAX as f64,
            i64::MIN as f64,
            9_007_199_254_740_993.0,
            0.1 + 0.2,
            1e300,
            1e-300,
            6.169_000_000_000_000_5,
        ];
        check(&odd);
        for value in odd {
            check(&[value; 130]);
            let mut amid = vec![12.5; 130];
            amid[77] = value;
            check(&amid);
        }
    }

    #[test]
    fn sizes() {
        assert!(check(&[0.0; 480]) <= 3);
        let noise = |k: i64| k.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64).rotate_left(13) & 7;
        let cents: Vec<_> = (0..480).map(|k| (k * 100 + noise(k)) as f64 / 100.0).collect();
        assert!(check(&cents) < 480 / 2, "decimals are small integers: {}", check(&cents));
        let millis: Vec<_> = (0..480).map(|k| (6000 + k * 3 + noise(k)) as f64 * 0.001).collect();
        assert!(check(&millis) < 480 / 2, "multiplied decimals too: {}", check(&millis));
        let mut ended = cents.clone();
        ended[479] = f64::from_bits(weir_model::STALE_NAN_BITS);
        assert!(
            check(&ended) < check(&cents) + 20,
            "one stale marker costs one exception: {} {}",
            check(&ended),
            check(&cents)
        );
        let gap: Vec<_> = (0..480).map(|k| if k > 440 { f64::NAN } else { k as f64 }).collect();
        assert!(check(&gap) < 120, "a run of NaN is one exception: {}", check(&gap));
    }

    proptest! {
        #[test]
        fn any_bits_come_back(bits in prop::collection::vec(any::<u64>(), 0..200)) {
            check(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>());
        }
        #[test]
        fn decimals_come_back(
            exponent in 0u8..15,
            multiplied in any::<bool>(),
            ints in prop::collection::vec((-100_000i64..100_000, 0u8..50), 1..300),
        ) {
            let odd = [f64::NAN, -0.0, f64::from_bits(weir_model::STALE_NAN_BITS), 1e-310, f64::INFINITY];
            let values: Vec<_> = ints.into_iter().map(|(v, pick)| match odd.get(usize::from(pick)) {
                Some(odd) => *odd,
                None if multiplied => v as f64 * FRACTIONS[usize::from(exponent)],
                None => v as f64 / POWERS[usize::from(exponent)],
            }).collect();
            check(&values);
        }
    }
}
