//! What the log store makes of lines: bytes a line, encoding and search speed, beside zstd.
//!
//! `cargo run --release -p weir-events --example log_encoding -- LABEL FILE…`: plain text, a line an
//! entry, or a yardstick body file (`gen-logs`), whose entries keep their streams and times.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::io::Read;

use weir_events::LogStore;
use weir_model::sink::{LogSink, StreamBatch};
use weir_model::source::{Direction, LinePredicate, LogFragment, LogSource, ReadContext};
use weir_model::{Budget, Labels, LogEntry, Nanos, TenantId};

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

/// Fields of a protobuf message that are varints or bytes.
fn fields<'a>(mut bytes: &'a [u8], mut each: impl FnMut(u64, u64, &'a [u8])) {
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = varint(&mut bytes);
        if key & 7 == 2 {
            each(key >> 3, 0, &bytes[..value as usize]);
            bytes = &bytes[value as usize..];
        } else {
            each(key >> 3, value, &[]);
        }
    }
}

fn labels(text: &str) -> Labels {
    let pairs = text.trim_matches(['{', '}']).split(", ").filter_map(|p| p.split_once('='));
    let labels = Labels::from_pairs(pairs.map(|(n, v)| (n, v.trim_matches('"'))));
    labels.with("service_name", labels.value("app"))
}

fn body(raw: &[u8]) -> Vec<StreamBatch> {
    let mut streams = Vec::new();
    fields(raw, |_, _, stream| {
        let mut batch = StreamBatch { labels: Labels::empty(), entries: Vec::new() };
        fields(stream, |field, _, part| {
            if field == 1 {
                batch.labels = labels(std::str::from_utf8(part).unwrap());
                return;
            }
            let mut entry = LogEntry { at: Nanos(0), line: "".into(), metadata: Vec::new() };
            fields(part, |field, _, part| match field {
                1 => fields(part, |field, value, _| {
                    entry.at.0 += value as i64 * if field == 1 { 1_000_000_000 } else { 1 }
                }),
                _ => entry.line = std::str::from_utf8(part).unwrap().into(),
            });
            batch.entries.push(entry);
        });
        streams.push(batch);
    });
    streams
}

fn load(path: &str) -> Vec<Vec<StreamBatch>> {
    let mut data = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut data).unwrap();
    if !data.starts_with(b"YARD1\n") {
        let text = String::from_utf8_lossy(&data).into_owned();
        let labels = Labels::from_pairs([("filename", path)]);
        let entry = |(i, line): (usize, &str)| LogEntry {
            at: Nanos(i as i64 * 1_000_000),
            line: line.into(),
            metadata: vec![],
        };
        let entries: Vec<LogEntry> = text.lines().enumerate().map(entry).collect();
        return entries
            .chunks(1_000)
            .map(|c| vec![StreamBatch { labels: labels.clone(), entries: c.to_vec() }])
            .collect();
    }
    let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 10 + word(6);
    let mut bodies = Vec::new();
    while at < data.len() {
        let len = word(at);
        bodies.push(body(&snap::raw::Decoder::new().decompress_vec(&data[at + 8..at + 8 + len]).unwrap()));
        at += 8 + len;
    }
    bodies
}

/// Seconds that this thread ran.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn search(store: &LogStore, needle: &str) -> (usize, f64) {
    let fragment = LogFragment {
        matchers: vec![],
        start: Nanos::MIN,
        end: Nanos::MAX,
        direction: Direction::Forward,
        predicates: vec![LinePredicate::Contains(needle.to_owned())],
    };
    let begin = cpu();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut cursor =
        runtime.block_on(store.open(&TenantId::anonymous(), &fragment, &ReadContext::unlimited())).unwrap();
    let mut n = 0;
    while let Some(batch) = cursor.next(None).unwrap() {
        n += batch.entries.iter().filter(|e| e.line.contains(needle)).count();
    }
    (n, (cpu() - begin) * 1e3)
}

fn main() {
    let mut args = std::env::args().skip(1);
    let label = args.next().unwrap();
    let bodies: Vec<_> = args.flat_map(|path| load(&path)).collect();
    let lines: usize = bodies.iter().flatten().map(|s| s.entries.len()).sum();
    let text: usize = bodies.iter().flatten().flat_map(|s| &s.entries).map(|e| e.line.len()).sum();
    let budget = Budget::unlimited();
    let store = LogStore::new(&budget);
    let begin = cpu();
    for body in &bodies {
        store.append(&TenantId::anonymous(), body).unwrap();
    }
    store.freeze_all();
    let seconds = cpu() - begin;
    let stored = store.stored_bytes();
    // The same lines in the order they came, times beside, in frames of 4 MiB.
    let begin = cpu();
    let (mut zstd_bytes, mut frame) = (0, Vec::new());
    for entry in bodies.iter().flatten().flat_map(|s| &s.entries) {
        frame.extend_from_slice(entry.line.as_bytes());
        frame.push(b'\n');
        if frame.len() > 4 << 20 {
            zstd_bytes += zstd::bulk::compress(&frame, 3).unwrap().len();
            frame.clear();
        }
    }
    zstd_bytes += zstd::bulk::compress(&frame, 3).unwrap().len();
    let zstd_seconds = cpu() - begin;
    let per = |bytes: usize| bytes as f64 / lines as f64;
    println!(
        "{label}: {lines} lines of {:.1} B; weir {:.2} B a line with times and filters, {:.0}k lines/s; lines alone by zstd -3 {:.2} B, {:.0}k lines/s",
        per(text),
        per(stored as usize),
        lines as f64 / seconds / 1e3,
        per(zstd_bytes),
        lines as f64 / zstd_seconds / 1e3
    );
    for needle in ["timed out", "needle-000001", "ERROR", "4bf92f3577b34da6a3ce929d0e0e4736", "no such thing"] {
        let (n, ms) = search(&store, needle);
        println!("  |= {needle:?}: {n} lines in {ms:.1} ms");
    }
}
