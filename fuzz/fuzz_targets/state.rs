#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = weir_state::decode_snapshot(bytes);
    let _ = weir_state::decode_batch(bytes);
});
