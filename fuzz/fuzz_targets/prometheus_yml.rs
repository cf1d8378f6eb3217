#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_collect::{PrometheusConfig, targets};

fuzz_target!(|text: &str| {
    if let Ok(config) = PrometheusConfig::parse(text, std::path::Path::new(".")) {
        for scrape in &config.scrape_configs {
            let _ = targets(scrape, &[]);
        }
    }
});
