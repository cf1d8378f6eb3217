//! What decoding and storing cost on one thread, without a server:
//! `cargo run --release -p weir-ingest --example ingest_load -- BODIES logs|traces FOLDER [TIMES]`.
//! BODIES is a file of the yardstick: Loki pushes in protobuf, or OTLP traces in protobuf.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a measurement for people")]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use weir_events::{LogStore, LogStoreOptions, SpanStore, SpanStoreOptions};
use weir_ingest::{Encoding, LabelCache, Limits, decompress, loki, otlp};
use weir_model::sink::{LogSink, RawRequest, SpanSink};
use weir_model::{Budget, Clock, SystemClock, TenantId};
use weir_wal::OsDir;

/// The bodies of a file: "YARD1\n", headers, then of each its length, its items, its bytes.
fn bodies(path: &Path) -> Vec<(Vec<u8>, u64)> {
    let data = std::fs::read(path).expect("the file of bodies");
    assert!(data.starts_with(b"YARD1\n"), "no file of bodies");
    let number = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap()) as usize;
    let mut at = 10 + number(6);
    let mut out = Vec::new();
    while at < data.len() {
        let (len, items) = (number(at), number(at + 4));
        out.push((data[at + 8..at + 8 + len].to_vec(), items as u64));
        at += 8 + len;
    }
    out
}

/// Seconds of each phase, summed up over bodies.
#[derive(Default)]
struct Spent {
    unpack: f64,
    decode: f64,
    store: f64,
    drop: f64,
}

fn timed<T>(sum: &mut f64, work: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let done = work();
    *sum += begin.elapsed().as_secs_f64();
    done
}

impl Spent {
    fn show(&self, what: &str, items: u64, last: f64) {
        let each = |seconds: f64| seconds * 1e9 / items as f64;
        println!(
            "{items} {what}, ns each: unpack {:.0}, decode {:.0}, store {:.0}, drop {:.0}, cut at the end {:.0}",
            each(self.unpack),
            each(self.decode),
            each(self.store),
            each(self.drop),
            each(last)
        );
    }
}

fn logs(bodies: &[(Vec<u8>, u64)], folder: &Path) {
    let limits = Limits::default();
    let cache = LabelCache::new(limits.stream_labels);
    let dir = Arc::new(OsDir::open(folder).unwrap());
    let budget = Budget::root(256 << 20);
    let options = LogStoreOptions { requests: Some(loki::decode_logged), ..LogStoreOptions::default() };
    let (store, _) = LogStore::open(dir, &budget, Arc::new(SystemClock), options).unwrap();
    let (mut spent, mut items) = (Spent::default(), 0);
    for (body, n) in bodies {
        let plain =
            timed(&mut spent.unpack, || decompress(Encoding::SnappyBlock, body, limits.body_bytes_max)).unwrap();
        let decoded = timed(&mut spent.decode, || loki::decode_proto(&plain, &limits, &cache)).unwrap();
        timed(&mut spent.store, || {
            let request = RawRequest { kind: loki::PUSH_PROTO, received: SystemClock.now(), body };
            store.append_request(&TenantId::anonymous(), request, &decoded.batch).unwrap();
            store.maintain().unwrap();
        });
        timed(&mut spent.drop, || drop(decoded));
        items += n;
    }
    let mut last = 0.0;
    timed(&mut last, || store.cut()).unwrap();
    spent.show("lines", items, last);
    println!("{:.2} bytes a line", store.stored_bytes() as f64 / items as f64);
}

fn traces(bodies: &[(Vec<u8>, u64)], folder: &Path) {
    let dir = Arc::new(OsDir::open(folder).unwrap());
    let budget = Budget::root(256 << 20);
    let cache = otlp::SpanCache::default();
    let store = SpanStore::open(dir, &budget, SpanStoreOptions::default()).unwrap();
    let (mut spent, mut items) = (Spent::default(), 0);
    for (body, n) in bodies {
        let decoded = timed(&mut spent.decode, || otlp::decode_spans(body, &cache)).unwrap();
        timed(&mut spent.store, || store.append(&TenantId::anonymous(), &decoded.batch)).unwrap();
        timed(&mut spent.drop, || drop(decoded));
        items += n;
    }
    let mut last = 0.0;
    timed(&mut last, || store.flush()).unwrap();
    spent.show("spans", items, last);
    println!("{:.2} bytes a span", store.stats().block_bytes as f64 / items as f64);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, kind, folder, times @ ..] = arguments.as_slice() else {
        println!("usage: ingest_load BODIES logs|traces FOLDER [TIMES]");
        return;
    };
    let bodies = bodies(Path::new(path));
    for round in 0..times.first().map_or(1, |n| n.parse::<u32>().expect("a number of times")) {
        let folder = Path::new(folder).join(round.to_string());
        std::fs::create_dir_all(&folder).expect("the folder");
        match kind.as_str() {
            "logs" => logs(&bodies, &folder),
            _ => traces(&bodies, &folder),
        }
    }
}
