#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for language in [weir_rules::Language::Promql, weir_rules::Language::Logql, weir_rules::Language::Traceql] {
        let _ = weir_rules::parse_rules("rules.yml", text, language);
    }
});
