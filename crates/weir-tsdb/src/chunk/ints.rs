//! A column of 64-bit integers: what is left after a prediction, in blocks of 64 numbers of one
//! width each, with exceptions for the few that need more.
//!
//! All arithmetic wraps, so that any integers come back, however far apart.

use super::ChunkError;
use super::bits::{pack, packed_len, stored_width, unpack};
use super::reader::{Reader, put_varint, put_zigzag, varint_len, zigzag};

/// Numbers of one width.
const BLOCK: usize = 64;
/// Added to the width of a block that has exceptions.
const PATCHED: u8 = 65;
/// Widest block with exceptions, as a byte holds no more.
const PATCHED_WIDTH_MAX: u32 = 56;

/// What a number is predicted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    /// All are the same.
    Constant = 0,
    /// All are on a line.
    Line = 1,
    /// Nothing.
    Level = 2,
    /// A line from the first number.
    Slope = 3,
    /// The number before.
    Delta = 4,
    /// The line through the two numbers before.
    DeltaOfDelta = 5,
}

const HAS_FACTOR: u8 = 0x80;

impl Model {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Constant, Self::Line, Self::Level, Self::Slope, Self::Delta, Self::DeltaOfDelta]
            .into_iter()
            .find(|m| *m as u8 == byte)
    }

    /// Numbers stored as they are, before the predicted ones.
    fn n_seeds(self) -> usize {
        match self {
            Self::Constant | Self::Line | Self::Level | Self::Slope => 0,
            Self::Delta => 1,
            Self::DeltaOfDelta => 2,
        }
    }
}

/// The step of the line from the first to the last number, rounded.
fn mean_step(values: &[i64]) -> i64 {
    let [first, .., last] = values else { return 0 };
    let (span, n) = (i128::from(*last) - i128::from(*first), values.len() as i128 - 1);
    ((span * 2 + n).div_euclid(n * 2)) as i64
}

fn residuals(model: Model, values: &[i64], step: i64, out: &mut Vec<i64>) {
    out.clear();
    match model {
        Model::Constant | Model::Line => {}
        Model::Level => out.extend_from_slice(values),
        Model::Slope => {
            let mut line = 0i64;
            out.extend(values.iter().map(|v| {
                let got = v.wrapping_sub(line);
                line = line.wrapping_add(step);
                got
            }));
        }
        Model::Delta => out.extend(values.windows(2).map(|w| w[1].wrapping_sub(w[0]))),
        Model::DeltaOfDelta => {
            out.extend(values.windows(3).map(|w| w[2].wrapping_sub(w[1]).wrapping_sub(w[1].wrapping_sub(w[0]))))
        }
    }
}

/// How one block is stored.
#[derive(Clone, Copy, Debug)]
struct BlockPlan {
    width: u32,
    n_patched: usize,
    len: usize,
}

fn bit_len(value: u64) -> usize {
    64 - value.leading_zeros() as usize
}

/// The width that makes a block smallest, counting its exceptions.
fn plan_block(block: &[u64]) -> BlockPlan {
    let mut counts = [0u8; 65];
    let mut all = 0u64;
    for value in block {
        counts[bit_len(*value)] += 1;
        all |= value;
    }
    let widest = stored_width(bit_len(all) as u32);
    let mut best = BlockPlan { width: widest, n_patched: 0, len: 1 + packed_len(widest, block.len()) };
    let (mut n_patched, mut patch_bytes) = (0usize, 0usize);
    for width in (0..bit_len(all)).rev() {
        let n = counts[width + 1] as usize;
        n_patched += n;
        // Position and zigzag number.
        patch_bytes += n * (1 + (width + 2).div_ceil(7).min(10));
        if n_patched > block.len() / 4 {
            break;
        }
        let len = 2 + packed_len(width as u32, block.len()) + patch_bytes;
        if len < best.len && width as u32 <= PATCHED_WIDTH_MAX {
            best = BlockPlan { width: width as u32, n_patched, len };
        }
    }
    best
}

fn put_block(block: &[u64], plan: BlockPlan, out: &mut Vec<u8>) {
    if plan.n_patched == 0 {
        out.push(plan.width as u8);
        pack(block, plan.width, out);
        return;
    }
    let too_wide = |value: u64| bit_len(value) > plan.width as usize;
    out.push(plan.width as u8 + PATCHED);
    out.push(plan.n_patched as u8);
    for (idx, value) in block.iter().enumerate().filter(|(_, v)| too_wide(**v)) {
        out.push(idx as u8);
        put_zigzag(out, *value as i64);
    }
    let mut kept = [0u64; BLOCK];
    for (slot, value) in kept.iter_mut().zip(block) {
        *slot = if too_wide(*value) { 0 } else { *value };
    }
    pack(&kept[..block.len()], plan.width, out);
}

/// The number that residuals are counted from: the smallest, or one that leaves the two percent
/// below it to the exceptions when that pays (a counter's reset among its steps).
fn base(residuals: &[i64], scratch: &mut Vec<i64>) -> i64 {
    let Some(min) = residuals.iter().min().copied() else { return 0 };
    if residuals.len() < 16 {
        return min;
    }
    scratch.clear();
    scratch.extend_from_slice(residuals);
    let low = residuals.len() / 50 + 1;
    let (_, low, above) = scratch.select_nth_unstable(low);
    let low = *low;
    let mid = above.len() / 2;
    let high = *above.select_nth_unstable(mid).1;
    let bits_low = bit_len(high.wrapping_sub(low) as u64);
    let bits_min = bit_len(high.wrapping_sub(min) as u64);
    if bits_min > bits_low + 2 { low } else { min }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The largest number that divides all, 1 when there is none; 0 stands for "all are zero".
fn common_factor(values: &[u64]) -> u64 {
    let mut factor = 0;
    for value in values {
        factor = gcd(*value, factor);
        if factor == 1 {
            break;
        }
    }
    factor
}

/// Buffers for [`encode`], kept between columns.
#[derive(Default)]
pub(crate) struct Scratch {
    residuals: Vec<i64>,
    sorted: Vec<i64>,
    offsets: Vec<u64>,
    best: Vec<u64>,
    plans: Vec<BlockPlan>,
    best_plans: Vec<BlockPlan>,
}

/// A candidate: how the column is stored under one model.
struct Candidate {
    model: Model,
    base: i64,
    factor: u64,
    len: usize,
}

fn consider(model: Model, values: &[i64], step: i64, scratch: &mut Scratch) -> Candidate {
    residuals(model, values, step, &mut scratch.residuals);
    let base = base(&scratch.residuals, &mut scratch.sorted);
    scratch.offsets.clear();
    scratch.offsets.extend(scratch.residuals.iter().map(|r| r.wrapping_sub(base) as u64));
    let mut factor = common_factor(&scratch.offsets).max(1);
    if factor > 1 && scratch.offsets.iter().any(|v| *v > i64::MAX as u64) {
        factor = 1; // Numbers below the base wrap; division would not come back.
    }
    if factor > 1 {
        scratch.offsets.iter_mut().for_each(|v| *v /= factor);
    }
    scratch.plans.clear();
    scratch.plans.extend(scratch.offsets.chunks(BLOCK).map(plan_block));
    let seeds: usize = values.iter().take(model.n_seeds()).map(|v| varint_len(zigzag(*v))).sum();
    let factor_len = if factor > 1 { varint_len(factor) } else { 0 };
    let step_len = if model == Model::Slope { varint_len(zigzag(step)) } else { 0 };
    let len = 1
        + seeds
        + factor_len
        + step_len
        + varint_len(zigzag(base))
        + scratch.plans.iter().map(|p| p.len).sum::<usize>();
    Candidate { model, base, factor, len }
}

/// Appends the column to `out`. How many there are is kept by the caller.
pub(crate) fn encode(values: &[i64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let Some(first) = values.first().copied() else { return };
    if values.iter().all(|v| *v == first) {
        out.push(Model::Constant as u8);
        put_zigzag(out, first);
        return;
    }
    let step = values[1].wrapping_sub(first);
    if values.windows(2).all(|w| w[1].wrapping_sub(w[0]) == step) {
        out.push(Model::Line as u8);
        put_zigzag(out, first);
        put_zigzag(out, step);
        return;
    }
    let step = mean_step(values);
    let mut best: Option<Candidate> = None;
    for model in [Model::Delta, Model::Level, Model::DeltaOfDelta, Model::Slope] {
        if model == Model::Slope && step == 0 {
            continue;
        }
        let found = consider(model, values, step, scratch);
        if best.as_ref().is_none_or(|b| found.len < b.len) {
            std::mem::swap(&mut scratch.best, &mut scratch.offsets);
            std::mem::swap(&mut scratch.best_plans, &mut scratch.plans);
            best = Some(found);
        }
    }
    let best = best.expect("three models are always considered");
    out.push(best.model as u8 | if best.factor > 1 { HAS_FACTOR } else { 0 });
    values.iter().take(best.model.n_seeds()).for_each(|v| put_zigzag(out, *v));
    if best.model == Model::Slope {
        put_zigzag(out, step);
    }
    put_zigzag(out, best.base);
    if best.factor > 1 {
        put_varint(out, best.factor);
    }
    for (block, plan) in scratch.best.chunks(BLOCK).zip(&scratch.best_plans) {
        put_block(block, *plan, out);
    }
}

fn block_of(reader: &mut Reader<'_>, out: &mut [u64]) -> Result<(), ChunkError> {
    let header = reader.u8("a block's width is missing")?;
    let patched = header >= PATCHED;
    let width = u32::from(if patched { header - PATCHED } else { header });
    if stored_width(width) != width || (patched && width > PATCHED_WIDTH_MAX) {
        return Err(reader.error("a block's width is out of range"));
    }
    let mut patches = [(0u8, 0u64); BLOCK];
    let mut n_patches = 0;
    if patched {
        n_patches = reader.count(out.len(), "a block has more exceptions than numbers")?;
        for patch in &mut patches[..n_patches] {
            let idx = reader.u8("an exception's place is missing")?;
            if usize::from(idx) >= out.len() {
                return Err(reader.error("an exception lies outside its block"));
            }
            *patch = (idx, reader.zigzag("an exception is cut short")? as u64);
        }
    }
    unpack(reader.rest(), width, out).ok_or_else(|| reader.error("a block is cut short"))?;
    reader.take(packed_len(width, out.len()), "a block is cut short")?;
    for (idx, value) in &patches[..n_patches] {
        out[usize::from(*idx)] = *value;
    }
    Ok(())
}

/// Appends the first `take` of the column's `n` numbers to `out`.
pub(crate) fn decode(reader: &mut Reader<'_>, n: usize, take: usize, out: &mut Vec<i64>) -> Result<(), ChunkError> {
    let take = take.min(n);
    if n == 0 {
        return Ok(());
    }
    let header = reader.u8("a column's header is missing")?;
    let Some(model) = Model::from_byte(header & !HAS_FACTOR) else {
        return Err(reader.error("unknown prediction"));
    };
    out.reserve(take);
    match model {
        Model::Constant => {
            let value = reader.zigzag("a constant is cut short")?;
            out.resize(out.len() + take, value);
            return Ok(());
        }
        Model::Line => {
            let first = reader.zigzag("a line's start is cut short")?;
            let step = reader.zigzag("a line's step is cut short")?;
            out.extend((0..take as i64).map(|k| first.wrapping_add(step.wrapping_mul(k))));
            return Ok(());
        }
        _ => {}
    }
    let mut seeds = [0i64; 2];
    for seed in seeds.iter_mut().take(model.n_seeds().min(n)) {
        *seed = reader.zigzag("a first number is cut short")?;
    }
    let step = if model == Model::Slope { reader.zigzag("a step is cut short")? } else { 0 };
    let base = reader.zigzag("a base is cut short")?;
    let factor = if header & HAS_FACTOR == 0 { 1 } else { reader.varint("a factor is cut short")? as i64 };
    out.extend(seeds.iter().take(model.n_seeds().min(take)));
    let (mut n_left, mut n_wanted) = (n - model.n_seeds().min(n), take - model.n_seeds().min(take));
    let mut state = State { model, step, last: 0, delta: 0 };
    match model {
        Model::Delta => state.last = seeds[0],
        Model::DeltaOfDelta => (state.last, state.delta) = (seeds[1], seeds[1].wrapping_sub(seeds[0])),
        _ => {}
    }
    let mut block = [0u64; BLOCK];
    while n_wanted > 0 {
        let block = &mut block[..n_left.min(BLOCK)];
        block_of(reader, block)?;
        let wanted = &block[..block.len().min(n_wanted)];
        if factor == 1 {
            state.append(wanted.iter().map(|v| base.wrapping_add(*v as i64)), out);
        } else {
            state.append(wanted.iter().map(|v| base.wrapping_add((*v as i64).wrapping_mul(factor))), out);
        }
        n_left -= block.len();
        n_wanted -= wanted.len();
    }
    Ok(())
}

struct State {
    model: Model,
    step: i64,
    /// The last number, or the line's level.
    last: i64,
    delta: i64,
}

impl State {
    fn append(&mut self, residuals: impl Iterator<Item = i64>, out: &mut Vec<i64>) {
        let (mut last, mut delta) = (self.last, self.delta);
        match self.model {
            Model::Delta => out.extend(residuals.map(|r| {
                last = last.wrapping_add(r);
                last
            })),
            Model::DeltaOfDelta => out.extend(residuals.map(|r| {
                delta = delta.wrapping_add(r);
                last = last.wrapping_add(delta);
                last
            })),
            Model::Slope => out.extend(residuals.map(|r| {
                let got = last.wrapping_add(r);
                last = last.wrapping_add(self.step);
                got
            })),
            Model::Level | Model::Constant | Model::Line => out.extend(residuals),
        }
        (self.last, self.delta) = (last, delta);
    }
}

/// Bits of a float as an integer of the same order (`f64::total_cmp`).
pub(crate) fn ordered(bits: u64) -> i64 {
    let bits = bits as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

pub(crate) fn from_ordered(value: i64) -> u64 {
    (value ^ (((value >> 63) as u64) >> 1) as i64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(values: &[i64]) -> usize {
        let mut bytes = Vec::new();
        encode(values, &mut Scratch::default(), &mut bytes);
        for take in [values.len(), values.len() / 2, values.len().min(65)] {
            let (mut got, mut reader) = (Vec::new(), Reader::new(&bytes));
            decode(&mut reader, values.len(), take, &mut got).expect("own bytes");
            assert_eq!(got, values[..take]);
        }
        bytes.len()
    }

    #[test]
    fn sizes() {
        let noise = |k: i64| k.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64).rotate_left(13) & 3;
        assert_eq!(check(&[]), 0);
        assert_eq!(check(&[7; 500]), 2);
        assert!(check(&(0..500).map(|k| k * 15_000).collect::<Vec<_>>()) <= 5);
        let jitter: Vec<_> = (0..512).map(|k| 15_000 * k + noise(k)).collect();
        assert!(check(&jitter) < 512 / 4 + 24, "a grid with jitter costs the jitter: {}", check(&jitter));
        let pages: Vec<_> = (0..512).map(|k| 4096 * (1000 + noise(k))).collect();
        assert!(check(&pages) < 512 / 4 + 24, "multiples cost their quotient: {}", check(&pages));
        let reset: Vec<_> = (0..512).map(|k| if k < 300 { 1 << 40 } else { 0 } + 2 * k + noise(k)).collect();
        assert!(check(&reset) < 512 * 3 / 8 + 40, "a counter's reset is an exception: {}", check(&reset));
    }

    proptest! {
        #[test]
        fn any_integers_come_back(values in prop::collection::vec(any::<i64>(), 0..200)) {
            check(&values);
        }
        #[test]
        fn steps_come_back(start in any::<i64>(), steps in prop::collection::vec((-3i64..900, 0u8..40), 0..300)) {
            let mut at = start;
            let values: Vec<_> = steps.iter().map(|(step, odd)| {
                at = at.wrapping_add(if *odd == 0 { step << 40 } else { *step });
                at
            }).collect();
            check(&values);
        }
        #[test]
        fn foreign_bytes_are_an_error_or_numbers(bytes in prop::collection::vec(any::<u8>(), 0..300), n in 0usize..300) {
            let mut got = Vec::new();
            if decode(&mut Reader::new(&bytes), n, n, &mut got).is_ok() {
                prop_assert_eq!(got.len(), n);
            }
        }
        #[test]
        fn order_keeps(a in any::<f64>(), b in any::<f64>()) {
            prop_assert_eq!(from_ordered(ordered(a.to_bits())), a.to_bits());
            prop_assert_eq!(ordered(a.to_bits()) < ordered(b.to_bits()), a.total_cmp(&b).is_lt());
        }
    }
}
