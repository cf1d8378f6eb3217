#![no_main]
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use weir_wal::{Dir, Log, LogOptions, Position, SimDir};

fuzz_target!(|bytes: &[u8]| {
    let dir = Arc::new(SimDir::new(1));
    dir.create_folder("log").expect("a new disk");
    // One that is read in the middle, one that is repaired at the end.
    for segment in 1..=2 {
        dir.put_new(&format!("log/{segment:016x}.wal"), bytes).expect("a new disk");
    }
    if let Ok((log, _)) = Log::open(dir, "log", Position::START, LogOptions::default()) {
        log.replay(Position::START).for_each(drop);
    }
});
