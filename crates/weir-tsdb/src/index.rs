//! Which series match: every label of a tenant once, with the series that carry it.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashTable;
use roaring::{MultiOps, RoaringBitmap};
use weir_model::sink::SeriesRef;
use weir_model::{Label, Labels, MatchOp, Matcher};

/// A label and the slots of the series that carry it.
struct Pair {
    name: Arc<str>,
    value: Arc<str>,
    slots: RoaringBitmap,
}

/// What stands at a slot; `pairs` is empty while nothing does.
#[derive(Default)]
struct Entry {
    generation: u32,
    pairs: Box<[u32]>,
}

/// Slots of one tenant's series. A slot is used again for another series, with another generation.
///
/// A series is a list of numbers of pairs, sorted by name: 4 bytes a label, where a `Labels` takes 32.
#[derive(Default)]
pub(crate) struct Index {
    pairs: Vec<Pair>,
    free_pairs: Vec<u32>,
    by_text: HashTable<u32>,
    /// For sorted listings and for regular expressions; touched only when a pair comes or goes.
    names: BTreeMap<Arc<str>, BTreeMap<Arc<str>, u32>>,
    entries: Vec<Entry>,
    free_slots: Vec<u32>,
    by_pairs: HashTable<u32>,
    all: RoaringBitmap,
    hasher: ahash::RandomState,
}

pub(crate) fn series_ref(slot: u32, generation: u32) -> SeriesRef {
    SeriesRef(u64::from(generation) << 32 | u64::from(slot))
}

pub(crate) fn slot_of(series: SeriesRef) -> u32 {
    series.0 as u32
}

pub(crate) fn generation_of(series: SeriesRef) -> u32 {
    (series.0 >> 32) as u32
}

/// What a series costs here: its entry, its place in two tables, and a posting per label.
pub(crate) fn series_bytes(n_labels: usize) -> u64 {
    72 + 16 * n_labels as u64
}

/// What a label costs that no series had before.
const PAIR_BYTES: u64 = 230;

impl Index {
    pub fn len(&self) -> usize {
        self.entries.len() - self.free_slots.len()
    }

    /// The series with these labels (sorted by name, each once, no empty value), made if need be. Answers
    /// how many bytes were taken; none for a known series.
    pub fn register(&mut self, labels: &[(&str, &str)]) -> (SeriesRef, u64) {
        let n_pairs = self.by_text.len();
        let pairs: Vec<u32> = labels.iter().map(|(name, value)| self.pair(name, value)).collect();
        let hash = self.hasher.hash_one(&pairs);
        if let Some(slot) = self.by_pairs.find(hash, |slot| *self.entries[*slot as usize].pairs == *pairs) {
            return (series_ref(*slot, self.entries[*slot as usize].generation), 0);
        }
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            u32::try_from(self.entries.len() - 1).expect("the budget is spent long before 2^32 series")
        });
        for pair in &pairs {
            self.pairs[*pair as usize].slots.insert(slot);
        }
        self.all.insert(slot);
        self.entries[slot as usize].pairs = pairs.into();
        let Self { by_pairs, entries, hasher, .. } = self;
        by_pairs.insert_unique(hash, slot, |slot| hasher.hash_one(&*entries[*slot as usize].pairs));
        let new_pairs = (self.by_text.len() - n_pairs) as u64;
        let series = series_ref(slot, self.entries[slot as usize].generation);
        (series, series_bytes(labels.len()) + new_pairs * PAIR_BYTES)
    }

    /// The series with these labels, if it is known.
    pub fn find(&self, labels: &[(&str, &str)]) -> Option<SeriesRef> {
        let id = |(name, value): &(&str, &str)| {
            let is_it =
                |id: &u32| *self.pairs[*id as usize].value == **value && *self.pairs[*id as usize].name == **name;
            self.by_text.find(self.hasher.hash_one((name, value)), is_it).copied()
        };
        let pairs: Vec<u32> = labels.iter().map(id).collect::<Option<_>>()?;
        let is_it = |slot: &u32| *self.entries[*slot as usize].pairs == *pairs;
        self.by_pairs.find(self.hasher.hash_one(&pairs), is_it).map(|slot| self.series(*slot))
    }

    fn pair(&mut self, name: &str, value: &str) -> u32 {
        let hash = self.hasher.hash_one((name, value));
        let is_it = |id: &u32| {
            let pair = &self.pairs[*id as usize];
            *pair.value == *value && *pair.name == *name
        };
        if let Some(id) = self.by_text.find(hash, is_it) {
            return *id;
        }
        let name = self.names.get_key_value(name).map_or_else(|| name.into(), |(name, _)| name.clone());
        let pair = Pair { name, value: value.into(), slots: RoaringBitmap::new() };
        self.names.entry(pair.name.clone()).or_default();
        let (name, value) = (pair.name.clone(), pair.value.clone());
        let id = match self.free_pairs.pop() {
            Some(id) => {
                self.pairs[id as usize] = pair;
                id
            }
            None => {
                self.pairs.push(pair);
                u32::try_from(self.pairs.len() - 1).expect("the budget is spent long before 2^32 labels")
            }
        };
        self.names.entry(name).or_default().insert(value, id);
        let Self { by_text, pairs, hasher, .. } = self;
        by_text.insert_unique(hash, id, |id| {
            let pair = &pairs[*id as usize];
            hasher.hash_one((&*pair.name, &*pair.value))
        });
        id
    }

    /// Forgets a series; its number is never valid again. Answers how many bytes were given back.
    pub fn remove(&mut self, slot: u32) -> u64 {
        let pairs = std::mem::take(&mut self.entries[slot as usize].pairs);
        let hash = self.hasher.hash_one(&*pairs);
        // The entry was just emptied, so the slot itself is compared.
        if let Ok(found) = self.by_pairs.find_entry(hash, |known| *known == slot) {
            found.remove();
        }
        let mut freed = series_bytes(pairs.len());
        for id in &pairs {
            let pair = &mut self.pairs[*id as usize];
            pair.slots.remove(slot);
            if pair.slots.is_empty() {
                self.remove_pair(*id);
                freed += PAIR_BYTES;
            }
        }
        self.all.remove(slot);
        let entry = &mut self.entries[slot as usize];
        entry.generation = entry.generation.wrapping_add(1);
        self.free_slots.push(slot);
        freed
    }

    fn remove_pair(&mut self, id: u32) {
        let empty: Arc<str> = Arc::from("");
        let pair = &mut self.pairs[id as usize];
        let (name, value) =
            (std::mem::replace(&mut pair.name, empty.clone()), std::mem::replace(&mut pair.value, empty));
        let hash = self.hasher.hash_one((&*name, &*value));
        if let Ok(found) = self.by_text.find_entry(hash, |known| *known == id) {
            found.remove();
        }
        if let Some(values) = self.names.get_mut(&name) {
            values.remove(&value);
            if values.is_empty() {
                self.names.remove(&name);
            }
        }
        self.free_pairs.push(id);
    }

    /// `None` when the series is dead.
    pub fn labels(&self, series: SeriesRef) -> Option<Labels> {
        let entry = self.entries.get(slot_of(series) as usize)?;
        let is_alive = entry.generation == generation_of(series) && self.all.contains(slot_of(series));
        is_alive.then(|| {
            let label = |id: &u32| {
                let pair = &self.pairs[*id as usize];
                Label { name: pair.name.clone(), value: pair.value.clone() }
            };
            Labels::from_sorted(entry.pairs.iter().map(label).collect())
        })
    }

    pub fn series(&self, slot: u32) -> SeriesRef {
        series_ref(slot, self.entries[slot as usize].generation)
    }

    /// Slots of the series that all matchers accept.
    pub fn select(&self, matchers: &[Matcher]) -> RoaringBitmap {
        let mut found: Option<RoaringBitmap> = None;
        // A matcher that accepts the empty value accepts series without the label: it can only take away.
        let (takes_away, mut keeps): (Vec<_>, Vec<_>) = matchers.iter().partition(|m| m.matches_empty());
        keeps.sort_by_key(|m| m.op != MatchOp::Equal);
        for matcher in keeps {
            if found.as_ref().is_some_and(RoaringBitmap::is_empty) {
                break;
            }
            let accepted = self.union(matcher, |value| matcher.matches(value));
            found = Some(match found {
                Some(found) => found & accepted,
                None => accepted,
            });
        }
        let mut found = found.unwrap_or_else(|| self.all.clone());
        for matcher in takes_away {
            found -= self.union(matcher, |value| !matcher.matches(value));
        }
        found
    }

    /// Slots of the series whose value of the matcher's label `wanted` accepts.
    fn union(&self, matcher: &Matcher, wanted: impl Fn(&str) -> bool) -> RoaringBitmap {
        let Some(values) = self.names.get(matcher.name.as_str()) else { return RoaringBitmap::new() };
        let slots = |id: &u32| &self.pairs[*id as usize].slots;
        // Of `=` and `!=` only the value itself is of interest.
        if matches!(matcher.op, MatchOp::Equal | MatchOp::NotEqual) && !matcher.value.is_empty() {
            return values.get(matcher.value.as_str()).map(slots).cloned().unwrap_or_default();
        }
        values.iter().filter(|(value, _)| wanted(value)).map(|(_, id)| slots(id)).union()
    }

    /// Sorted names, when nothing is asked of the series.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    /// Sorted values of a name, each with the slots that have it.
    pub fn values(&self, name: &str) -> impl Iterator<Item = (&Arc<str>, &RoaringBitmap)> {
        let values = self.names.get(name).into_iter().flatten();
        values.map(|(value, id)| (value, &self.pairs[*id as usize].slots))
    }

    /// Sorted names of the labels of these slots.
    pub fn names_of(&self, slots: impl Iterator<Item = u32>) -> Vec<&Arc<str>> {
        let mut pairs = RoaringBitmap::new();
        for slot in slots {
            pairs.extend(self.entries[slot as usize].pairs.iter());
        }
        let mut names: Vec<_> = pairs.iter().map(|id| &self.pairs[id as usize].name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Slots of the series that carry this label.
    pub fn slots_of(&self, name: &str, value: &str) -> Option<&RoaringBitmap> {
        self.names.get(name)?.get(value).map(|id| &self.pairs[*id as usize].slots)
    }

    /// Labels of what stands at a slot, by name.
    pub fn labels_at(&self, slot: u32) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.entries[slot as usize].pairs.iter().map(|id| {
            let pair = &self.pairs[*id as usize];
            (&pair.name, &pair.value)
        })
    }

    pub fn all(&self) -> &RoaringBitmap {
        &self.all
    }

    /// All series with what their labels are sorted by; [`LabelOrder::sorted`] needs no lock.
    pub fn label_order(&self) -> LabelOrder {
        let mut ranks = vec![0; self.pairs.len()];
        for (rank, id) in (0..).zip(self.names.values().flat_map(BTreeMap::values)) {
            ranks[*id as usize] = rank;
        }
        let mut order = LabelOrder { ranks: Vec::new(), series: Vec::with_capacity(self.len()) };
        for slot in &self.all {
            let start = order.ranks.len();
            order.ranks.extend(self.entries[slot as usize].pairs.iter().map(|id| ranks[*id as usize]));
            order.series.push((self.series(slot), start..order.ranks.len()));
        }
        order
    }

    /// Labels, each with the number of its series.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        let pairs = self.names.values().flat_map(BTreeMap::values).map(|id| &self.pairs[*id as usize]);
        pairs.map(|pair| (&*pair.name, &*pair.value, pair.slots.len()))
    }
}

/// Series, each with the ranks of its labels among all labels by name and value.
pub(crate) struct LabelOrder {
    ranks: Vec<u32>,
    series: Vec<(SeriesRef, std::ops::Range<usize>)>,
}

impl LabelOrder {
    /// Ascending by labels.
    pub fn sorted(mut self) -> impl Iterator<Item = SeriesRef> {
        let ranks = self.ranks;
        self.series.sort_unstable_by(|(_, a), (_, b)| ranks[a.clone()].cmp(&ranks[b.clone()]));
        self.series.into_iter().map(|(series, _)| series)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn series() -> impl Strategy<Value = Vec<(u8, u8)>> {
        proptest::collection::btree_map(0u8..4, 0u8..4, 1..4).prop_map(|m| m.into_iter().collect())
    }

    proptest! {
        /// After any registrations and removals, a selection is what a scan over all series finds.
        #[test]
        fn the_index_agrees_with_a_scan(all in proptest::collection::vec((series(), any::<bool>()), 1..40)) {
            let mut index = Index::default();
            let mut model: std::collections::BTreeMap<Vec<(String, String)>, SeriesRef> = Default::default();
            for (labels, keep) in all {
                let labels: Vec<_> = labels.iter().map(|(n, v)| (format!("n{n}"), format!("v{v}"))).collect();
                let borrowed: Vec<_> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                let (series, _) = index.register(&borrowed);
                if let Some(known) = model.get(&labels) {
                    prop_assert_eq!(*known, series);
                }
                if keep {
                    model.insert(labels, series);
                } else {
                    index.remove(slot_of(series));
                    prop_assert_eq!(index.labels(series), None);
                    model.remove(&labels);
                }
            }
            prop_assert_eq!(index.len(), model.len());
            let sorted: Vec<_> = index.label_order().sorted().collect();
            let labels: Vec<_> = sorted.iter().map(|s| index.labels(*s).unwrap()).collect();
            prop_assert!(labels.len() == model.len() && labels.is_sorted());
            for (op, value) in [
                (MatchOp::Equal, "v1"), (MatchOp::Equal, ""), (MatchOp::NotEqual, "v1"), (MatchOp::NotEqual, ""),
                (MatchOp::Regex, "v1|v2"), (MatchOp::Regex, "v1|"), (MatchOp::NotRegex, "v.*"), (MatchOp::NotRegex, "v1"),
            ] {
                let matchers = [Matcher::new("n1", op, value).unwrap(), Matcher::new("n2", MatchOp::NotEqual, "v3").unwrap()];
                let mut got: Vec<_> = index.select(&matchers).iter().map(|slot| index.series(slot)).collect();
                let mut want: Vec<_> = model.iter().filter(|(labels, _)| {
                    weir_model::matcher::all_match(&matchers, &Labels::from_pairs(labels.iter().map(|(n, v)| (n.as_str(), v.as_str()))))
                }).map(|(_, series)| *series).collect();
                got.sort();
                want.sort();
                prop_assert_eq!(got, want, "{} {}", op.as_str(), value);
            }
        }
    }
}
