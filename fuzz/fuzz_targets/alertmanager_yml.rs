#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = weir_alert::parse_config("alertmanager.yml", text, None);
    let _ = weir_alert::parse_matchers(text);
});
