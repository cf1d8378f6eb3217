#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_model::{Labels, LogEntry, Nanos};

// The query before the first NUL, a line for its parsers behind it.
fuzz_target!(|text: &str| {
    let (query, line) = text.split_once('\0').unwrap_or((text, ""));
    let _ = weir_logql::parse(query);
    let _ = weir_logql::parse_selector(query);
    if let Ok(expr) = weir_logql::parse_log(query) {
        let entry = LogEntry { at: Nanos(0), line: line.into(), metadata: Vec::new() };
        let _ = weir_logql::TailFilter::new(expr).apply(&Labels::default(), &entry, Nanos(0));
    }
});
