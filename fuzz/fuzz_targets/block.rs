#![no_main]
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use weir_model::{Matcher, TimeRange};
use weir_tsdb::block::BlockIndex;
use weir_wal::{Dir, SimDir};

// The input is a page, then the sections, each behind its length; checksums are made right, so that
// what lies behind them is reached.
fuzz_target!(|input: &[u8]| {
    let mut left = input;
    let mut part = || {
        let (len, rest) = left.split_first_chunk::<2>().unwrap_or((&[0, 0], left));
        let (part, rest) = rest.split_at(rest.len().min(u16::from_le_bytes(*len).into()));
        left = rest;
        part
    };
    let checked = |bytes: &[u8]| [bytes, &crc32c::crc32c(bytes).to_le_bytes()].concat();
    let mut file = b"weirblk1".to_vec();
    file.extend(checked(part()));
    let mut footer = Vec::new();
    for _ in 0..5 {
        let section = part();
        let mut len = section.len();
        while len >= 0x80 {
            footer.push(len as u8 | 0x80);
            len >>= 7;
        }
        footer.push(len as u8);
        file.extend(checked(section));
    }
    footer.extend([0, 0, 0]);
    file.extend(checked(&footer));
    file.extend((footer.len() as u32).to_le_bytes());
    file.extend(b"weirblk1");
    let dir = Arc::new(SimDir::new(1));
    dir.put_new("block", &file).expect("an empty disk takes it");
    if let Ok(index) = BlockIndex::open(&*dir, "block") {
        let index = Arc::new(index);
        let _ = index.read_all(&[], TimeRange::ALL);
        let _ = index.read_all(&[Matcher::equal("job", "a")], TimeRange::ALL);
    }
});
