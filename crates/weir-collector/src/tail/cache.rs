//! Keys used last, as many as fit.

use std::hash::Hash;

use ahash::AHashMap;
use std::collections::VecDeque;

/// Least recently used goes first. Uses are noted in a queue whose stale entries are skipped, and which is swept
/// when it has grown to several times the keys.
pub(crate) struct Lru<K> {
    capacity: usize,
    used: AHashMap<K, u64>,
    order: VecDeque<(K, u64)>,
    clock: u64,
}

impl<K: Clone + Eq + Hash> Lru<K> {
    pub fn new(capacity: usize) -> Self {
        Self { capacity, used: AHashMap::default(), order: VecDeque::new(), clock: 0 }
    }

    /// Whether the key is there, which makes it the latest.
    pub fn touch(&mut self, key: &K) -> bool {
        if !self.used.contains_key(key) {
            return false;
        }
        self.note(key.clone());
        true
    }

    pub fn put(&mut self, key: K) {
        if self.capacity == 0 {
            return;
        }
        self.note(key);
        while self.used.len() > self.capacity {
            let Some((oldest, at)) = self.order.pop_front() else { break };
            if self.used.get(&oldest) == Some(&at) {
                self.used.remove(&oldest);
            }
        }
    }

    fn note(&mut self, key: K) {
        self.clock += 1;
        self.used.insert(key.clone(), self.clock);
        self.order.push_back((key, self.clock));
        if self.order.len() > 4 * self.used.len() + 16 {
            let used = &self.used;
            self.order.retain(|(key, at)| used.get(key) == Some(at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_not_used_for_longest_goes() {
        let mut lru = Lru::new(2);
        lru.put(1);
        lru.put(2);
        assert!(lru.touch(&1));
        lru.put(3);
        assert!(lru.touch(&1) && lru.touch(&3) && !lru.touch(&2));
        for _ in 0..1000 {
            assert!(lru.touch(&1));
        }
        assert!(lru.order.len() < 100);
        let mut none = Lru::new(0);
        none.put(1);
        assert!(!none.touch(&1));
    }
}
