//! What rolled blocks cost: writes days of scrapes to a folder, rolls them up, and says times and bytes.
//!
//! `cargo run --release -p weir-tsdb --example rollup_cost -- DIR SERIES DAYS [END]`; END in Unix seconds, the last
//! midnight by default. `weir serve --data-dir DIR` answers queries of what it leaves.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_model::source::Cancel;
use weir_model::{Clock, Labels, SystemClock, TenantId, Timestamp};
use weir_tsdb::block::{Blocks, BlocksOptions, Level, RollupOptions, WINDOW_MS};
use weir_wal::OsDir;

const DAY: i64 = 86_400_000;
const SCRAPE: i64 = 15_000;

/// As scrapes of nodes are: most series never change, the others count, some by fractions, or go up and down.
fn value(series: usize, k: i64, state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let random = (*state >> 33) as i64;
    match series % 20 {
        0..=10 => (series % 7) as f64 * 4096.0,
        11..=13 => (k * 40 + random % 40) as f64,
        14 => (k / 8) as f64,
        15 => (k as f64 * 3.7 + (random % 300) as f64 / 100.0) * 0.01,
        16 => ((k % 40_000) * 11 + random % 10) as f64,
        17 => (random % 1000) as f64 / 10.0,
        18 => 8e9 + ((k + random % 60) % 5_000) as f64 * 4096.0,
        _ => (random % 16) as f64,
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, dir, n_series, n_days, ..] = &args[..] else { panic!("DIR SERIES DAYS [END]") };
    let (n_series, n_days): (usize, i64) = (n_series.parse().unwrap(), n_days.parse().unwrap());
    let end = args.get(4).map_or_else(|| SystemClock.now().0 / DAY * DAY, |end| end.parse::<i64>().unwrap() * 1000);
    let rollup =
        RollupOptions { five: Some(Duration::from_secs(90 * 86_400)), hour: Some(Duration::from_secs(395 * 86_400)) };
    let options = BlocksOptions { rollup, ..BlocksOptions::default() };
    std::fs::create_dir_all(dir).unwrap();
    let blocks = Blocks::open(Arc::new(OsDir::open(dir.as_ref()).unwrap()), "metrics/blocks", options).unwrap().blocks;
    let labels: Vec<Labels> = (0..n_series)
        .map(|s| {
            let (metric, instance) =
                (format!("node_metric_{:04}_total", s % 200), format!("10.0.{}.{}:9100", s / 200 / 250, s / 200 % 250));
            Labels::from_pairs([("__name__", &*metric), ("instance", &*instance), ("job", "node")])
        })
        .collect();
    let mut order: Vec<usize> = (0..n_series).collect();
    order.sort_by(|a, b| labels[*a].cmp(&labels[*b]));
    let mut states: Vec<u64> = (0..n_series as u64).collect();
    for window in 0..n_days * DAY / WINDOW_MS {
        let from = end - n_days * DAY + window * WINDOW_MS;
        let mut cut = blocks.cut();
        for series in &order {
            let jitter = (series / 200) as i64 * 37 % SCRAPE;
            let times: Vec<i64> = (0..WINDOW_MS / SCRAPE).map(|k| from + k * SCRAPE + jitter).collect();
            let state = &mut states[*series];
            let values: Vec<f64> =
                times.iter().map(|at| value(*series, (at - end + n_days * DAY) / SCRAPE, state)).collect();
            cut.add(&TenantId::anonymous(), &labels[*series], &times, &values, &[]).unwrap();
        }
        cut.commit(None).unwrap();
    }
    let now = Timestamp(end + DAY / 4);
    let started = Instant::now();
    while let Some(plan) = blocks.plan(now) {
        blocks.compact(&plan, &Cancel::default()).unwrap();
    }
    println!("merged in {:?}", started.elapsed());
    let (mut five, mut hour) = (Vec::new(), Vec::new());
    while let Some(plan) = blocks.plan_rollup(now) {
        let started = Instant::now();
        blocks.roll(&plan, &Cancel::default()).unwrap();
        if plan.level == Level::Five { five.push(started.elapsed()) } else { hour.push(started.elapsed()) }
    }
    println!("days in {five:?}, weeks in {hour:?}");
    let manifest = blocks.manifest();
    let raw: u64 = manifest.blocks.iter().filter(|b| b.resolution_ms == 0).map(|b| b.n_samples).sum();
    for (resolution, name) in [(0, "raw"), (300_000, "5m"), (3_600_000, "1h")] {
        let of: Vec<_> = manifest.blocks.iter().filter(|b| b.resolution_ms == resolution).collect();
        let (bytes, samples): (u64, u64) = of.iter().fold((0, 0), |(b, s), m| (b + m.n_bytes, s + m.n_samples));
        println!(
            "{name}: {} blocks, {samples} samples, {bytes} bytes, {:.4} bytes per raw sample",
            of.len(),
            bytes as f64 / raw as f64
        );
        for column in weir_tsdb::block::Column::ALL {
            let of = of.iter().filter(|m| m.column == column && resolution > 0);
            let (bytes, series) = of.fold((0, 0), |(b, s), m| (b + m.n_bytes, s + m.n_series));
            if bytes > 0 {
                println!("  {column:?}: {series} series, {bytes} bytes");
            }
        }
    }
}
