#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_collector::CollectorConfig;

fuzz_target!(|text: &str| {
    let _ = CollectorConfig::parse(text, &|name| (name.len() % 2 == 0).then(|| name.repeat(3)));
});
