#![no_main]
use libfuzzer_sys::fuzz_target;
use weir_ingest::otlp::{DeltaState, Format, SpanCache, convert_logs, convert_metrics, convert_traces, decode, decode_spans};
use weir_ingest::{LabelCache, Limits};
use weir_model::{Nanos, TenantId};

fuzz_target!(|body: &[u8]| {
    let limits = Limits::default();
    let cache = LabelCache::new(limits.series_labels);
    let _ = decode_spans(body, &SpanCache::default());
    for format in [Format::Protobuf, Format::Json] {
        if let Ok(request) = decode(format, body) {
            convert_traces(request);
        }
        if let Ok(request) = decode(format, body) {
            convert_metrics(request, &TenantId::anonymous(), &DeltaState::default(), &cache);
        }
        if let Ok(request) = decode(format, body) {
            convert_logs(request, Nanos(0), &cache);
        }
    }
});
