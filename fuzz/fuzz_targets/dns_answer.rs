#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    let _ = weir_collect::parse_dns_answer(message);
});
