#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_collector::tail::decode_record;

// A record of the log of traces that wait for their decision: its kind, then its bytes.
fuzz_target!(|bytes: &[u8]| {
    if let Some((kind, payload)) = bytes.split_first() {
        let _ = decode_record(*kind, payload);
    }
});
