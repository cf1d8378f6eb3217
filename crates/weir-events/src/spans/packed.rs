//! Numbers packed in runs of 64, each run against its own smallest: any one is read without the others.
//! `docs/format/spans.md` draws the bytes.

use bytes::Bytes;

use super::bytes::{Corrupt, Reader, put, put_signed};

const RUN: usize = 64;
const CONSTANT: u8 = 0;
const RUNS: u8 = 1;
/// Behind the last run, so that each value is read with one load.
const PADDING: usize = 8;
/// More is damage: a group has far fewer rows.
const LEN_MAX: usize = 1 << 26;

/// `values` is not empty.
pub fn encode(values: &[u64], out: &mut Vec<u8>) {
    put(out, values.len() as u64);
    let first = values.first().copied().unwrap_or(0);
    if values.iter().all(|value| *value == first) {
        out.push(CONSTANT);
        put(out, first);
        return;
    }
    out.push(RUNS);
    let range = |run: &[u64]| {
        let (min, max) = run.iter().fold((u64::MAX, 0), |(min, max), v| (min.min(*v), max.max(*v)));
        let width = 64 - (max - min).leading_zeros();
        if width == 64 { (0, 64) } else { (min, width) }
    };
    let runs: Vec<(u64, u32)> = values.chunks(RUN).map(range).collect();
    out.extend(runs.iter().map(|(_, width)| *width as u8));
    let mut before = 0;
    for (min, _) in &runs {
        put_signed(out, min.wrapping_sub(before) as i64);
        before = *min;
    }
    for (run, (min, width)) in values.chunks(RUN).zip(runs) {
        pack(run, min, width, out);
    }
    out.extend_from_slice(&[0; PADDING]);
}

fn pack(run: &[u64], min: u64, width: u32, out: &mut Vec<u8>) {
    let (mut held, mut n_held) = (0_u128, 0);
    for value in run {
        held |= u128::from(value - min) << n_held;
        n_held += width;
        if n_held >= 64 {
            out.extend_from_slice(&(held as u64).to_le_bytes());
            held >>= 64;
            n_held -= 64;
        }
    }
    out.extend_from_slice(&held.to_le_bytes()[..n_held.div_ceil(8) as usize]);
}

#[derive(Clone, Copy, Debug)]
struct Run {
    min: u64,
    width: u32,
    at: u32,
}

/// Packed numbers, as they were read.
#[derive(Clone, Debug)]
pub struct Packed {
    n: usize,
    /// Empty when all values are `constant`.
    runs: Vec<Run>,
    constant: u64,
    data: Bytes,
}

impl Packed {
    pub fn decode(bytes: Bytes) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(&bytes);
        let n = reader.index()?;
        if n > LEN_MAX {
            return Err(Corrupt("a column is too long"));
        }
        if reader.byte()? == CONSTANT {
            let constant = reader.get()?;
            return Ok(Self { n, runs: Vec::new(), constant, data: Bytes::new() });
        }
        let widths = reader.take(n.div_ceil(RUN))?;
        let mut runs = Vec::with_capacity(widths.len());
        let (mut at, mut min) = (0_usize, 0_u64);
        for (k, width) in widths.iter().map(|width| u32::from(*width)).enumerate() {
            min = min.wrapping_add(reader.signed()? as u64);
            if width > 64 {
                return Err(Corrupt("a column is too wide"));
            }
            let len = (n - k * RUN).min(RUN);
            runs.push(Run { min, width, at: u32::try_from(at).map_err(|_| Corrupt("a column is too long"))? });
            at += (len * width as usize).div_ceil(8);
        }
        let data = bytes.slice_ref(reader.rest());
        if data.len() != at + PADDING || runs.is_empty() {
            return Err(Corrupt("a column does not have the length that its widths say"));
        }
        Ok(Self { n, runs, constant: 0, data })
    }

    pub fn len(&self) -> usize {
        self.n
    }

    /// The one value of all, where there is one.
    pub fn constant(&self) -> Option<u64> {
        self.runs.is_empty().then_some(self.constant)
    }

    /// No value is larger.
    pub fn max_bound(&self) -> u64 {
        let max = |run: &Run| run.min.saturating_add(if run.width == 64 { u64::MAX } else { (1 << run.width) - 1 });
        self.runs.iter().map(max).max().unwrap_or(self.constant)
    }

    /// `None` past the end.
    pub fn get(&self, i: usize) -> Option<u64> {
        if i >= self.n {
            return None;
        }
        let Some(run) = self.runs.get(i / RUN) else { return Some(self.constant) };
        Some(run.min.wrapping_add(self.bits(run, i % RUN)))
    }

    fn bits(&self, run: &Run, i: usize) -> u64 {
        let bit = i * run.width as usize;
        let (at, shift) = (run.at as usize + bit / 8, (bit % 8) as u32);
        let word = self.data.get(at..at + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap_or_default()));
        let mut value = word >> shift;
        if shift + run.width > 64 {
            value |= u64::from(self.data.get(at + 8).copied().unwrap_or(0)) << (64 - shift);
        }
        if run.width == 64 { value } else { value & ((1 << run.width) - 1) }
    }

    /// All values, appended.
    pub fn unpack<T>(&self, out: &mut Vec<T>, of: impl Fn(u64) -> T) {
        if self.runs.is_empty() {
            out.extend((0..self.n).map(|_| of(self.constant)));
            return;
        }
        out.reserve(self.n);
        for k in 0..self.runs.len() {
            self.run(k, |value| out.push(of(value)));
        }
    }

    #[inline]
    fn run(&self, k: usize, mut f: impl FnMut(u64)) {
        let run = self.runs[k];
        let len = (self.n - k * RUN).min(RUN);
        if run.width > 56 {
            (0..len).for_each(|i| f(run.min.wrapping_add(self.bits(&run, i))));
            return;
        }
        // One load holds a value wherever it begins; the padding keeps the last loads inside.
        let mask = (1_u64 << run.width) - 1;
        let data = &self.data[run.at as usize..];
        let mut bit = 0;
        for _ in 0..len {
            let word: [u8; 8] = data[bit / 8..bit / 8 + 8].try_into().unwrap_or_default();
            f(run.min.wrapping_add(u64::from_le_bytes(word) >> (bit % 8) & mask));
            bit += run.width as usize;
        }
    }

    /// Places of the values that equal `wanted`; runs whose range excludes it are not looked at.
    pub fn places_of(&self, wanted: u64, mut f: impl FnMut(usize)) {
        if self.runs.is_empty() {
            if self.constant == wanted {
                (0..self.n).for_each(f);
            }
            return;
        }
        self.places_where(
            |min, width| wanted >= min && (width == 64 || wanted - min < 1 << width),
            |value| value == wanted,
            &mut f,
        );
    }

    /// Places of the values of at least `least`.
    pub fn places_from(&self, least: u64, mut f: impl FnMut(usize)) {
        if self.runs.is_empty() {
            if self.constant >= least {
                (0..self.n).for_each(f);
            }
            return;
        }
        let can = |min: u64, width: u32| width == 64 || min.saturating_add((1 << width) - 1) >= least;
        self.places_where(can, |value| value >= least, &mut f);
    }

    fn places_where(&self, can: impl Fn(u64, u32) -> bool, is: impl Fn(u64) -> bool, f: &mut impl FnMut(usize)) {
        for (k, run) in self.runs.iter().enumerate() {
            if can(run.min, run.width) {
                let mut place = k * RUN;
                self.run(k, |value| {
                    if is(value) {
                        f(place);
                    }
                    place += 1;
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = Vec<u64>> {
        let width = prop_oneof![Just(0_u32), 1..64_u32, Just(64)];
        (width, any::<u64>(), proptest::collection::vec(any::<u64>(), 1..300)).prop_map(|(width, base, raw)| {
            let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
            let base = base & !mask;
            raw.into_iter().map(|v| base | (v & mask)).collect()
        })
    }

    proptest! {
        #[test]
        fn comes_back_as_it_went(values in values(), other in any::<u64>()) {
            let mut bytes = Vec::new();
            encode(&values, &mut bytes);
            let packed = Packed::decode(bytes.into()).unwrap();
            let mut all = Vec::new();
            packed.unpack(&mut all, |v| v);
            prop_assert_eq!(&all, &values);
            prop_assert!((0..values.len()).all(|i| packed.get(i) == Some(values[i])));
            prop_assert_eq!(packed.get(values.len()), None);
            for wanted in [values[0], other] {
                let places = |f: &dyn Fn(u64) -> bool| {
                    (0..values.len()).filter(|i| f(values[*i])).collect::<Vec<_>>()
                };
                let mut found = Vec::new();
                packed.places_of(wanted, |i| found.push(i));
                prop_assert_eq!(found, places(&|v| v == wanted));
                let mut found = Vec::new();
                packed.places_from(wanted, |i| found.push(i));
                prop_assert_eq!(found, places(&|v| v >= wanted));
            }
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(packed) = Packed::decode(bytes.into()) {
                prop_assert!(packed.len() == 0 || packed.get(0).is_some());
                if packed.constant().is_none() {
                    packed.unpack(&mut Vec::new(), |v| v);
                }
            }
        }
    }
}
