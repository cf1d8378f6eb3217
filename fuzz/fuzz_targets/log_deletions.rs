//! The file of delete requests for logs: any bytes behind its magic are requests or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = weir_events::decode_deletions(bytes);
});
