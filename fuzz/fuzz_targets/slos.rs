#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(slos) = weir_slo::parse("slos.yaml", text) {
        let _ = weir_rules::parse_rule_file("slos", &weir_slo::rules(&slos));
    }
});
