//! Recorded and generated series.

use std::collections::HashMap;

pub struct Series {
    /// Of the metric.
    pub name: String,
    /// Name and labels as the exposition has them.
    pub key: String,
    pub values: Vec<f64>,
}

pub fn recording(path: &str) -> Vec<Series> {
    let raw = std::fs::read(path).expect("the recording can be read");
    let text = String::from_utf8(zstd::decode_all(&raw[..]).expect("zstd")).expect("text");
    let mut index: HashMap<&str, usize> = HashMap::new();
    let mut found: Vec<Series> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with('@')) {
        let Some((key, value)) = line.rsplit_once(' ') else { continue };
        let idx = *index.entry(key).or_insert_with(|| {
            let name = key.split('{').next().unwrap_or(key).to_owned();
            found.push(Series { name, key: key.to_owned(), values: Vec::new() });
            found.len() - 1
        });
        found[idx].values.push(value.parse().expect("a number"));
    }
    found
}

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    /// 0 to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Instances whose counter steps and gauge levels are scaled and drawn anew at the recorded
/// resolution, as the load generator does, so that no two share their values.
pub fn redrawn(recorded: &[Series], n_instances: usize, n: usize) -> Vec<Vec<f64>> {
    let mut random = Random(88_172_645_463_325_252);
    let mut rows = Vec::new();
    for _ in 0..n_instances {
        let (factor, offset) = (0.5 + 1.5 * random.unit(), (random.next() % 1000) as usize);
        for series in recorded {
            rows.push(redraw(series, n, factor, offset, &mut random));
        }
    }
    rows
}

fn redraw(series: &Series, n: usize, factor: f64, offset: usize, random: &mut Random) -> Vec<f64> {
    let row = &series.values;
    if row.iter().all(|v| *v == row[0]) {
        return vec![row[0]; n];
    }
    let counter = ["_total", "_count", "_sum", "_bucket"].iter().any(|end| series.name.ends_with(end));
    let is_multiple = |r: &f64| row.iter().all(|v| (v * r - (v * r).round()).abs() < 1e-6);
    let resolution = (0..9).map(|d| 10f64.powi(d)).find(is_multiple).unwrap_or(1e9);
    let mut running = (row[offset % row.len()] * resolution).round() / resolution;
    (0..n)
        .map(|k| {
            let at = (offset + k) % row.len();
            let before = if k == 0 { at } else { (offset + k - 1) % row.len() };
            if counter {
                let step = (row[at] - row[before]).max(0.0) * factor * (0.6 + 0.8 * random.unit());
                running = ((running + step) * resolution).round() / resolution;
                running
            } else {
                (row[at] * factor * (0.98 + 0.04 * random.unit()) * resolution).round() / resolution
            }
        })
        .collect()
}

/// Kinds of series that a node exporter does not have, sixty of each.
pub fn generated(n: usize) -> Vec<(&'static str, Vec<Vec<f64>>)> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut sixty = |draw: fn(&mut Random, usize) -> Vec<f64>| (0..60).map(|_| draw(&mut random, n)).collect();
    vec![
        ("integer counters with a reset", sixty(counter)),
        ("counters that rarely step", sixty(rare_counter)),
        ("histogram buckets", sixty(bucket)),
        ("latency sums, rounding noise", sixty(latency_sum)),
        ("latency gauges, 17 digits", sixty(latency)),
        ("gauges, two decimals", sixty(percent)),
        ("byte gauges in pages", sixty(pages)),
    ]
}

fn counter(random: &mut Random, n: usize) -> Vec<f64> {
    let rate = 10f64.powf(random.unit() * 5.0);
    let mut count = (random.unit() * 1e9).floor();
    let step = |k| {
        if k == n * 2 / 3 {
            count = 0.0;
        }
        count += (rate * (0.5 + random.unit())).floor();
        count
    };
    (0..n).map(step).collect()
}

fn rare_counter(random: &mut Random, n: usize) -> Vec<f64> {
    let chance = 0.02 + 0.1 * random.unit();
    let mut count = (random.unit() * 1e4).floor();
    let step = |_| {
        if random.unit() < chance {
            count += 1.0 + (random.unit() * 3.0).floor();
        }
        count
    };
    (0..n).map(step).collect()
}

fn bucket(random: &mut Random, n: usize) -> Vec<f64> {
    let (share, mut count) = (random.unit(), 0.0);
    let step = |_| {
        let n_requests = 40 + (20.0 * random.unit()) as usize;
        count += (0..n_requests).filter(|_| random.unit() < share).count() as f64;
        count
    };
    (0..n).map(step).collect()
}

fn latency_sum(random: &mut Random, n: usize) -> Vec<f64> {
    let mut sum = random.unit() * 1e3;
    let step = |_| {
        for _ in 0..5 {
            sum -= random.unit().ln() * 0.02;
        }
        sum
    };
    (0..n).map(step).collect()
}

fn latency(random: &mut Random, n: usize) -> Vec<f64> {
    let least = 0.01 + random.unit();
    (0..n).map(|_| least * (1.0 - random.unit().ln())).collect()
}

fn percent(random: &mut Random, n: usize) -> Vec<f64> {
    let mut level = 50.0;
    let step = |_| {
        level += (random.unit() - 0.5) * 2.0;
        (level * 100.0f64).round() / 100.0
    };
    (0..n).map(step).collect()
}

fn pages(random: &mut Random, n: usize) -> Vec<f64> {
    let mut level = 1e6;
    let step = |_| {
        level += ((random.unit() - 0.5) * 200.0).round();
        level * 4096.0
    };
    (0..n).map(step).collect()
}
