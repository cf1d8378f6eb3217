#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_ingest::exposition::{Format, Histograms, Item, each_item, series_pairs};

fuzz_target!(|body: &[u8]| {
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        let _ = each_item(body, format, Histograms { native: true, classic_beside: true }, &mut |item| {
            if let Item::Sample(sample) = item {
                let _ = series_pairs(sample.series);
            }
            Ok(())
        });
    }
});
