#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_collect::logs::{LogDiscovery, PromtailConfig};

fuzz_target!(|text: &str| {
    if let Ok(config) = PromtailConfig::parse(text, std::path::Path::new(".")) {
        let _ = LogDiscovery::default().targets(&config, "here");
    }
});
