//! Measures encodings of sample values; prints the table of `docs/decisions/0003-chunk-encodings.md`.
//!
//! `cargo run --release -- PATH/scrapes.txt.zst` (recorded node exporter scrapes, `@UNIX_MS` before
//! each, then lines of the text exposition format). With a folder as second argument: sizes of whole
//! blocks, written there.

mod blocks;
mod data;
mod gorilla;

use weir_tsdb::chunk;

/// CPU time of this thread in nanoseconds; the wall clock measures the neighbours too.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number first")
}

trait Encoding {
    fn name(&self) -> &'static str;
    fn encode(&mut self, values: &[f64]) -> Vec<u8>;
    fn decode(&mut self, bytes: &[u8], n: usize, out: &mut Vec<f64>);
}

struct Gorilla;

impl Encoding for Gorilla {
    fn name(&self) -> &'static str {
        "XOR (Gorilla)"
    }
    fn encode(&mut self, values: &[f64]) -> Vec<u8> {
        gorilla::encode(values)
    }
    fn decode(&mut self, bytes: &[u8], n: usize, out: &mut Vec<f64>) {
        gorilla::decode(bytes, n, out);
    }
}

struct Pco;

impl Encoding for Pco {
    fn name(&self) -> &'static str {
        "pco"
    }
    fn encode(&mut self, values: &[f64]) -> Vec<u8> {
        pco::standalone::simple_compress(values, &pco::ChunkConfig::default()).expect("any floats")
    }
    fn decode(&mut self, bytes: &[u8], _: usize, out: &mut Vec<f64>) {
        out.extend(pco::standalone::simple_decompress::<f64>(bytes).expect("own bytes"));
    }
}

/// Decimal integers with frame-of-reference blocks: what weir writes.
struct Weir(chunk::Scratch);

impl Encoding for Weir {
    fn name(&self) -> &'static str {
        "weir"
    }
    fn encode(&mut self, values: &[f64]) -> Vec<u8> {
        let mut out = Vec::with_capacity(values.len());
        chunk::encode_values(values, &mut self.0, &mut out);
        out
    }
    fn decode(&mut self, bytes: &[u8], n: usize, out: &mut Vec<f64>) {
        chunk::decode_values(bytes, n, 0..n, &mut self.0, out).expect("own bytes");
    }
}

fn measure(title: &str, rows: &[Vec<f64>]) {
    let n = rows[0].len();
    let n_samples = rows.len() * n;
    let encodings: [Box<dyn Encoding>; 3] =
        [Box::new(Gorilla), Box::new(Pco), Box::new(Weir(chunk::Scratch::default()))];
    for mut encoding in encodings {
        // The scheduler counts in ticks of a few milliseconds: many rounds.
        let n_rounds = (10_000_000 / n_samples).max(1);
        let mut encoded = Vec::new();
        let start = cpu_ns();
        for _ in 0..n_rounds.div_ceil(10) {
            encoded = rows.iter().map(|row| encoding.encode(row)).collect::<Vec<_>>();
        }
        let encode_ns = (cpu_ns() - start) as f64 / n_rounds.div_ceil(10) as f64;
        let n_bytes: usize = encoded.iter().map(Vec::len).sum();
        let mut out = Vec::with_capacity(n);
        for (bytes, row) in encoded.iter().zip(rows) {
            out.clear();
            encoding.decode(bytes, n, &mut out);
            assert!(out.iter().map(|v| v.to_bits()).eq(row.iter().map(|v| v.to_bits())), "{}", encoding.name());
        }
        let start = cpu_ns();
        for _ in 0..n_rounds {
            for bytes in &encoded {
                out.clear();
                encoding.decode(bytes, n, &mut out);
            }
        }
        let decode_ns = cpu_ns() - start;
        println!(
            "| {title} | {n} | {} | {:.3} | {:.1} | {:.1} |",
            encoding.name(),
            n_bytes as f64 / n_samples as f64,
            encode_ns / n_samples as f64,
            decode_ns as f64 / (n_samples * n_rounds) as f64
        );
    }
}

fn main() {
    let path = std::env::args().nth(1).expect("path of the recorded scrapes");
    let recorded = data::recording(&path);
    if let Some(folder) = std::env::args().nth(2) {
        return blocks::measure(&recorded, &folder);
    }
    println!("| data | samples | encoding | bytes/sample | encode, ns/sample | decode, ns/sample |");
    println!("|---|---|---|---|---|---|");
    for n in [120, 480] {
        let rows: Vec<_> = recorded.iter().filter(|s| s.values.len() >= n).map(|s| s.values[..n].to_vec()).collect();
        measure("node exporter", &rows);
    }
    for n in [120, 480, 5760] {
        let rows = data::redrawn(&recorded, 3, n);
        measure("node exporter, re-drawn", &rows);
        let changing: Vec<_> = rows.into_iter().filter(|row| row.iter().any(|v| *v != row[0])).collect();
        measure("the same, only what changes", &changing);
    }
    for n in [120, 480, 5760] {
        for (title, rows) in data::generated(n) {
            measure(title, &rows);
        }
    }
}
