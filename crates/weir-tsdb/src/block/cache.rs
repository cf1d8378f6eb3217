//! Opened blocks, bounded by what their indexes take in memory.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

use super::BlockIndex;

/// Two generations: what is used moves to the young one; when that is full, the old one is forgotten.
pub(super) struct Cache {
    half_bytes: usize,
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: AHashMap<u64, Arc<BlockIndex>>,
    young_bytes: usize,
    old: AHashMap<u64, Arc<BlockIndex>>,
}

impl Cache {
    pub fn new(bytes_max: usize) -> Self {
        Self { half_bytes: bytes_max / 2, generations: Mutex::default() }
    }

    pub fn get(&self, id: u64) -> Option<Arc<BlockIndex>> {
        let mut all = self.generations.lock();
        if let Some(found) = all.young.get(&id) {
            return Some(found.clone());
        }
        let found = all.old.remove(&id)?;
        self.put_young(&mut all, id, found.clone());
        Some(found)
    }

    pub fn put(&self, id: u64, index: Arc<BlockIndex>) {
        self.put_young(&mut self.generations.lock(), id, index);
    }

    fn put_young(&self, all: &mut Generations, id: u64, index: Arc<BlockIndex>) {
        let bytes = index.size_bytes();
        if all.young_bytes + bytes > self.half_bytes {
            all.old = std::mem::take(&mut all.young);
            all.young_bytes = 0;
        }
        all.young_bytes += bytes;
        all.young.insert(id, index);
    }

    pub fn remove(&self, id: u64) {
        let mut all = self.generations.lock();
        all.old.remove(&id);
        if let Some(index) = all.young.remove(&id) {
            all.young_bytes = all.young_bytes.saturating_sub(index.size_bytes());
        }
    }
}
