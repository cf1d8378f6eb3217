#![no_main]
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use weir_collect::logs::syslog::{Frames, SyslogPipe};
use weir_collect::logs::{LogMetrics, PromtailConfig};
use weir_model::Nanos;

const CONFIG: &str = "scrape_configs: [{job_name: j, syslog: {listen_address: 'a:1', label_structured_data: true, use_incoming_timestamp: true}}]";

fuzz_target!(|bytes: &[u8]| {
    let config = PromtailConfig::parse(CONFIG, Path::new(".")).expect("a configuration of our own");
    let syslog = config.syslog().next().expect("one").clone();
    let mut pipe = SyslogPipe::new(syslog, LogMetrics::default());
    let (now, from) = (Nanos(1_700_000_000_000_000_000), [127, 0, 0, 1].into());
    pipe.push(bytes, from, now);
    let mut frames = Frames::new(64);
    for part in bytes.chunks(7) {
        if frames.push(part, |message| pipe.push(message, from, now)).is_err() {
            break;
        }
    }
    frames.end(|message| pipe.push(message, from, now));
    let _ = pipe.finish(now);
});
