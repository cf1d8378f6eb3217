#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_model::Timestamp;

fuzz_target!(|text: &str| {
    let Ok(config) = weir_alert::oncall::parse_oncall("oncall.yml", text, None) else { return };
    for schedule in &config.schedules {
        // A week around a change of the clock.
        let start = Timestamp(1_792_540_800_000);
        let shifts = schedule.shifts(&[], start, Timestamp(start.0 + 604_800_000));
        assert!(shifts.windows(2).all(|w| w[0].end == w[1].start));
    }
});
