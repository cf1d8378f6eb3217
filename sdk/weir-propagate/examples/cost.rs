//! Nanoseconds per message, with and without instrumentation: `cargo run --release -p weir-propagate --example cost`.
#![allow(clippy::print_stdout, reason = "its answer")]

use std::hint::black_box;
use std::time::Instant;

use opentelemetry::Context;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use weir_propagate::{Message, extract, inject, process, send};

const MESSAGES: u32 = 1_000;
const ROUNDS: usize = 1_000;

type Headers = Vec<(String, Vec<u8>)>;

/// The best of some rounds, so that what else runs does not count.
fn measure(what: &str, mut one: impl FnMut()) {
    let best = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        (0..MESSAGES).for_each(|_| one());
        begun.elapsed().as_nanos() as f64 / f64::from(MESSAGES)
    });
    println!("{what}: {:.0} ns per message", best.fold(f64::INFINITY, f64::min));
}

fn main() {
    measure("a message with a header of its own, nothing propagated", || {
        let mut headers: Headers = Vec::with_capacity(3);
        headers.push(("kind".to_owned(), b"goal".to_vec()));
        black_box(&headers);
    });
    for (name, sampler) in [("sampled", Sampler::AlwaysOn), ("not sampled", Sampler::AlwaysOff)] {
        // Spans are dropped when they end: what an exporter costs depends on the exporter.
        let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
        let tracer = provider.tracer("cost");
        let mut carried: Headers = Vec::new();
        send(&tracer, &Context::new(), &Message::kafka("goals"), &mut carried).span().end();
        let parent = extract(&carried);
        measure(&format!("inject, {name}"), || {
            let mut headers: Headers = Vec::with_capacity(3);
            inject(&parent, &mut headers);
            black_box(&headers);
        });
        measure(&format!("extract, {name}"), || drop(black_box(extract(&carried))));
        measure(&format!("send with its span, {name}"), || {
            let mut headers: Headers = Vec::with_capacity(3);
            send(&tracer, &Context::new(), &Message::kafka("goals").key("m"), &mut headers).span().end();
            black_box(&headers);
        });
        let message = Message::kafka("goals").partition(3).offset(17).group("board");
        measure(&format!("process with its span, {name}"), || process(&tracer, &carried, &message).span().end());
    }
}
