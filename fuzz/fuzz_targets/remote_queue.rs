#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_collect::remote::read_frame;
use weir_ingest::{LabelCache, Limits};

fuzz_target!(|payload: &[u8]| {
    let _ = read_frame(payload, &LabelCache::new(Limits::default().series_labels));
});
