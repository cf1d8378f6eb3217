#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_ingest::{Encoding, LabelCache, Limits, decompress, remote_write};

fuzz_target!(|body: &[u8]| {
    let cache = LabelCache::new(Limits::default().series_labels);
    for plain in [Ok(body.into()), decompress(Encoding::SnappyBlock, body, 1 << 20)].into_iter().flatten() {
        let _ = remote_write::decode_v1(&plain, &cache);
        let _ = remote_write::decode_v2(&plain, &cache);
    }
});
