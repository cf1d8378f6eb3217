//! Prometheus' XOR chunk, which remote readers decode. Source: `tsdb/chunkenc/xor.go`.

use weir_model::Sample;

/// Most samples of a chunk, as upstream cuts them.
pub(super) const SAMPLES_MAX: usize = 120;

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits free in the last byte.
    free: u32,
}

impl Bits {
    fn bit(&mut self, set: bool) {
        self.bits(u64::from(set), 1);
    }

    /// The lowest `n` bits of `value`, highest first.
    fn bits(&mut self, value: u64, mut n: u32) {
        while n > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = n.min(self.free);
            let part = ((value >> (n - take)) & ((1 << take) - 1)) as u8;
            if let Some(last) = self.bytes.last_mut() {
                *last |= part << (self.free - take);
            }
            self.free -= take;
            n -= take;
        }
    }

    fn uvarint(&mut self, mut v: u64) {
        while v >= 0x80 {
            self.bits(v & 0x7f | 0x80, 8);
            v >>= 7;
        }
        self.bits(v, 8);
    }
}

/// At most 65,535 samples, ascending.
pub(super) fn encode(samples: &[Sample]) -> Vec<u8> {
    let mut out = Bits::default();
    out.bits(samples.len() as u64 & 0xffff, 16);
    let (mut delta_before, mut window) = (0i64, None);
    for (idx, sample) in samples.iter().enumerate() {
        let at = sample.at.0;
        match idx {
            0 => {
                out.uvarint(((at << 1) ^ (at >> 63)) as u64);
                out.bits(sample.value.to_bits(), 64);
                continue;
            }
            1 => {
                delta_before = at.wrapping_sub(samples[0].at.0);
                out.uvarint(delta_before as u64);
            }
            _ => {
                let delta = at.wrapping_sub(samples[idx - 1].at.0);
                delta_of_delta(&mut out, delta.wrapping_sub(delta_before));
                delta_before = delta;
            }
        }
        value(&mut out, samples[idx - 1].value.to_bits() ^ sample.value.to_bits(), &mut window);
    }
    out.bytes
}

fn delta_of_delta(out: &mut Bits, d: i64) {
    let fits = |bits: u32| (-((1i64 << (bits - 1)) - 1)..=1i64 << (bits - 1)).contains(&d);
    if d == 0 {
        return out.bit(false);
    }
    for (bits, prefix, prefix_bits) in [(14, 0b10, 2), (17, 0b110, 3), (20, 0b1110, 4)] {
        if fits(bits) {
            out.bits(prefix, prefix_bits);
            return out.bits(d as u64, bits);
        }
    }
    out.bits(0b1111, 4);
    out.bits(d as u64, 64);
}

/// `window`: leading and trailing zeros of the last value that named them.
fn value(out: &mut Bits, xor: u64, window: &mut Option<(u32, u32)>) {
    if xor == 0 {
        return out.bit(false);
    }
    out.bit(true);
    let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
    if let Some((l, t)) = *window
        && leading >= l
        && trailing >= t
    {
        out.bit(false);
        return out.bits(xor >> t, 64 - l - t);
    }
    *window = Some((leading, trailing));
    let significant = 64 - leading - trailing;
    out.bit(true);
    out.bits(u64::from(leading), 5);
    // 64 does not fit into six bits, and 0 does not occur.
    out.bits(u64::from(significant) & 0x3f, 6);
    out.bits(xor >> trailing, significant);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Reader<'a>(&'a [u8], usize);

    impl Reader<'_> {
        fn bits(&mut self, n: u32) -> u64 {
            (0..n).fold(0, |v, _| {
                let bit = self.0[self.1 / 8] >> (7 - self.1 % 8) & 1;
                self.1 += 1;
                v << 1 | u64::from(bit)
            })
        }
        fn uvarint(&mut self) -> u64 {
            let (mut v, mut shift) = (0, 0);
            loop {
                let byte = self.bits(8);
                v |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return v;
                }
            }
        }
    }

    /// Written from the format's description, bit by bit.
    fn decode(bytes: &[u8]) -> Vec<(i64, u64)> {
        let mut r = Reader(bytes, 0);
        let n = r.bits(16);
        let (mut at, mut delta, mut value, mut window) = (0i64, 0i64, 0u64, (0, 0));
        let mut out = Vec::new();
        for k in 0..n {
            if k == 0 {
                let v = r.uvarint();
                at = (v >> 1) as i64 ^ -((v & 1) as i64);
                value = r.bits(64);
                out.push((at, value));
                continue;
            }
            if k == 1 {
                delta = r.uvarint() as i64;
            } else {
                let ones = (0..4).take_while(|_| r.bits(1) == 1).count();
                let d = match [0, 14, 17, 20, 64][ones] {
                    0 => 0,
                    64 => r.bits(64) as i64,
                    bits => {
                        let raw = r.bits(bits) as i64;
                        if raw > 1 << (bits - 1) { raw - (1 << bits) } else { raw }
                    }
                };
                delta += d;
            }
            at += delta;
            if r.bits(1) == 1 {
                if r.bits(1) == 1 {
                    let (leading, significant) = (r.bits(5) as u32, r.bits(6) as u32);
                    let significant = if significant == 0 { 64 } else { significant };
                    window = (leading, 64 - leading - significant);
                }
                value ^= r.bits(64 - window.0 - window.1) << window.1;
            }
            out.push((at, value));
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            start in -1_000_000_000_000i64..2_000_000_000_000,
            steps in proptest::collection::vec((1i64..3_000_000, any::<u64>(), any::<bool>()), 0..130),
        ) {
            let mut at = start;
            let mut samples = Vec::new();
            let mut value = 1.0f64;
            for (step, bits, jump) in steps {
                at += if jump { step } else { 15_000 };
                value = if jump { f64::from_bits(bits) } else { value + 1.0 };
                samples.push(Sample::new(at, value));
            }
            let want: Vec<_> = samples.iter().map(|s| (s.at.0, s.value.to_bits())).collect();
            prop_assert_eq!(decode(&encode(&samples)), want);
        }
    }
}
