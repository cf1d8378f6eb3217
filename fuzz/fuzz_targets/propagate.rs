#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_propagate::{extract, inject};

fuzz_target!(|data: &[u8]| {
    let names = ["traceparent", "tracestate", "baggage"];
    let values = data.split(|byte| *byte == b'\n');
    let headers: Vec<(String, Vec<u8>)> =
        names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    let mut again: Vec<(String, Vec<u8>)> = Vec::new();
    inject(&extract(&headers), &mut again);
});
