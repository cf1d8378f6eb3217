//! Megabytes and syncs a second of the log on a real disk, and what an append costs beside copy and
//! checksum: `cargo run --release -p weir-wal --example throughput -- FOLDER [SECONDS]`.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement for people")]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_wal::{Log, LogOptions, OsDir, Position, SyncMode};

fn main() {
    let mut args = std::env::args().skip(1);
    let folder: PathBuf = args.next().expect("give a folder to write to").into();
    let seconds = args.next().map_or(3.0, |s| s.parse().unwrap());
    let (append, floor) = append_cost();
    println!("append: {append:.0} ns/KiB, copy and checksum alone: {floor:.0} ns/KiB");
    for (threads, frame_bytes) in
        [(1, 4 << 10), (1, 64 << 10), (1, 1 << 20), (4, 64 << 10), (4, 1 << 20), (16, 4 << 10)]
    {
        measure(&folder, threads, frame_bytes, Duration::from_secs_f64(seconds));
    }
}

fn append_cost() -> (f64, f64) {
    let dir = Arc::new(weir_wal::SimDir::new(1));
    let options = LogOptions { sync: SyncMode::Interval(Duration::MAX), ..LogOptions::default() };
    let frame = vec![7; 64 << 10];
    // Stays under the bound past which an append writes by itself.
    let rounds = 900;
    let (log, _) = Log::open(dir, "append", Position::START, options).unwrap();
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(log.append(1, &[&frame]).unwrap());
    }
    let append = start.elapsed();
    let mut copies = Vec::new();
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(crc32c::crc32c(black_box(&frame)));
        copies.extend_from_slice(black_box(&frame));
    }
    let floor = start.elapsed();
    let per_kib = |time: Duration| time.as_nanos() as f64 / (f64::from(rounds) * 64.0);
    (per_kib(append), per_kib(floor))
}

fn measure(folder: &std::path::Path, threads: usize, frame_bytes: usize, time: Duration) {
    let dir = Arc::new(OsDir::open(folder).unwrap());
    let name = format!("throughput-{threads}-{frame_bytes}");
    let (log, _) = Log::open(dir, &name, Position::START, LogOptions::default()).unwrap();
    let frame: Vec<u8> = (0..frame_bytes).map(|k| (k * 31) as u8).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while start.elapsed() < time {
                    let end = log.append(1, &[&frame]).unwrap();
                    log.sync_to(end).unwrap();
                    if log.wants_cut() {
                        log.truncate_before(end).unwrap();
                    }
                }
            });
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let stats = log.stats();
    println!(
        "{threads:>2} writers of {:>4} KiB: {:>7.1} MB/s, {:>6.0} frames/s, {:>6.0} syncs/s",
        frame_bytes >> 10,
        stats.appended_bytes as f64 / 1e6 / seconds,
        stats.frames as f64 / seconds,
        stats.syncs as f64 / seconds
    );
    drop(log);
    std::fs::remove_dir_all(folder.join(name)).unwrap();
}
