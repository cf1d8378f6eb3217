//! XOR of neighbours, as described in "Gorilla: A Fast, Scalable, In-Memory Time Series Database"
//! (VLDB 2015), values only: the reference.

#[derive(Default)]
struct Writer {
    out: Vec<u8>,
    held: u128,
    n_held: u32,
}

impl Writer {
    fn put(&mut self, value: u64, width: u32) {
        let value = if width == 64 { value } else { value & ((1 << width) - 1) };
        self.held = (self.held << width) | u128::from(value);
        self.n_held += width;
        while self.n_held >= 8 {
            self.n_held -= 8;
            self.out.push((self.held >> self.n_held) as u8);
        }
        self.held &= (1 << self.n_held) - 1;
    }
    fn finish(mut self) -> Vec<u8> {
        if self.n_held > 0 {
            self.out.push((self.held << (8 - self.n_held)) as u8);
        }
        self.out
    }
}

pub fn encode(values: &[f64]) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut before = values[0].to_bits();
    writer.put(before, 64);
    let mut window: Option<(u32, u32)> = None;
    for value in &values[1..] {
        let xor = value.to_bits() ^ before;
        before = value.to_bits();
        if xor == 0 {
            writer.put(0, 1);
            continue;
        }
        let (leading, trailing) = (xor.leading_zeros().min(31), xor.trailing_zeros());
        match window {
            Some((l, t)) if l <= leading && t <= trailing => {
                writer.put(0b10, 2);
                writer.put(xor >> t, 64 - l - t);
            }
            _ => {
                window = Some((leading, trailing));
                let width = 64 - leading - trailing;
                writer.put(0b11, 2);
                writer.put(u64::from(leading), 5);
                writer.put(u64::from(width & 63), 6);
                writer.put(xor >> trailing, width);
            }
        }
    }
    writer.finish()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    n_held: u32,
}

impl Reader<'_> {
    fn get(&mut self, width: u32) -> u64 {
        if width > 32 {
            let high = self.get(width - 32);
            return (high << 32) | self.get(32);
        }
        while self.n_held < width {
            self.held = (self.held << 8) | u64::from(self.bytes[self.at]);
            self.at += 1;
            self.n_held += 8;
        }
        self.n_held -= width;
        let value = (self.held >> self.n_held) & ((1 << width) - 1);
        self.held &= (1 << self.n_held) - 1;
        value
    }
}

pub fn decode(bytes: &[u8], n: usize, out: &mut Vec<f64>) {
    let mut reader = Reader { bytes, at: 0, held: 0, n_held: 0 };
    let mut bits = reader.get(64);
    out.push(f64::from_bits(bits));
    let (mut width, mut trailing) = (0, 0);
    for _ in 1..n {
        if reader.get(1) == 1 {
            if reader.get(1) == 1 {
                let leading = reader.get(5) as u32;
                width = match reader.get(6) as u32 {
                    0 => 64,
                    width => width,
                };
                trailing = 64 - leading - width;
            }
            bits ^= reader.get(width) << trailing;
        }
        out.push(f64::from_bits(bits));
    }
}
