#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_ingest::{Detector, Redactor};

fuzz_target!(|text: &str| {
    let redactor = Redactor::new(&Detector::ALL, Vec::new()).expect("there are detectors");
    if let Some(clean) = redactor.text(text) {
        assert!(redactor.text(&clean).is_none(), "{clean}");
    }
});
