#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = weir_rules::parse_rule_file("rules.yml", text);
});
