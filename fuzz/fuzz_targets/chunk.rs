#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_model::TimeRange;
use weir_tsdb::chunk::{self, CHUNK_SAMPLES_MAX};

fuzz_target!(|bytes: &[u8]| {
    let mut scratch = chunk::Scratch::default();
    let (mut times, mut values) = (Vec::new(), Vec::new());
    if let Ok(n) = chunk::decode(bytes, TimeRange::ALL, &mut scratch, &mut times, &mut values) {
        assert!(n <= CHUNK_SAMPLES_MAX && times.len() == n && values.len() == n);
        // What decodes can be encoded, and comes back.
        let again = chunk::encode(&times, &values, &mut scratch);
        let (mut times_again, mut values_again) = (Vec::new(), Vec::new());
        chunk::decode(&again, TimeRange::ALL, &mut scratch, &mut times_again, &mut values_again).expect("own bytes");
        assert_eq!(times, times_again);
        assert!(values.iter().map(|v| v.to_bits()).eq(values_again.iter().map(|v| v.to_bits())));
    }
});
