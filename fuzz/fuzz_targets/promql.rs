#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(expr) = weir_promql::parse(text) {
        let _ = weir_promql::pretty(&expr);
    }
    let _ = weir_promql::script::Script::parse(text);
});
