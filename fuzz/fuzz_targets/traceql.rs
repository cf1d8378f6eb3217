#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = weir_traceql::parse(text).map(|query| weir_traceql::predicates(&query));
    let _ = weir_traceql::parse_field(text);
});
