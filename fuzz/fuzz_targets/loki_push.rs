#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_ingest::{LabelCache, Limits, loki};
use weir_model::Timestamp;

fuzz_target!(|body: &[u8]| {
    let limits = Limits::default();
    let cache = LabelCache::new(limits.stream_labels);
    let _ = loki::decode_proto(body, &limits, &cache);
    let _ = loki::decode_logged(loki::PUSH_PROTO, Timestamp(0), body);
    let _ = loki::decode_json(body, &limits, &cache);
});
