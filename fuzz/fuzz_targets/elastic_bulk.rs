#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_ingest::{LabelCache, Limits, elastic};
use weir_model::Nanos;

fuzz_target!(|body: &[u8]| {
    let limits = Limits::default();
    let cache = LabelCache::new(limits.stream_labels);
    let _ = elastic::decode(body, "index", Nanos(0), &limits, &cache);
});
