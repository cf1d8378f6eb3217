#![no_main]
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use weir_events::{SpanStore, SpanStoreOptions, decode_frame, decode_tables};
use weir_model::Budget;
use weir_wal::{Dir, SimDir};

// A frame of the log; a block's tables with the ids of as many traces as the first byte says; a manifest; a block
// without its list.
fuzz_target!(|bytes: &[u8]| {
    let _ = decode_frame(bytes);
    if let Some((n, tables)) = bytes.split_first() {
        let ids: Vec<u8> = (0..u32::from(*n)).flat_map(|k| [&[0; 16][..], &k.to_le_bytes()].concat()).collect();
        let _ = decode_tables(tables, ids.into());
    }
    for path in ["spans/manifest", "spans/blocks/a/0000000000000001.spans"] {
        let dir = SimDir::new(1);
        dir.create_folder("spans/blocks/a").expect("a new disk");
        dir.put_new("spans/manifest", b"none").expect("a new disk");
        dir.replace(path, bytes).expect("a new disk");
        let _ = SpanStore::open(Arc::new(dir), &Budget::unlimited(), SpanStoreOptions::default());
    }
});
