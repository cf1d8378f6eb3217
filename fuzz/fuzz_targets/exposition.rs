#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_ingest::exposition::{Format, Item, Parser, series_pairs};

fuzz_target!(|text: &str| {
    for format in [Format::Text, Format::OpenMetrics] {
        let mut parser = Parser::new(text, format);
        while let Ok(Some(item)) = parser.next_item() {
            if let Item::Sample(sample) = item {
                let _ = series_pairs(sample.series);
            }
        }
    }
});
