//! From the raw bytes of a series' labels to its number in the store, and to whom it belongs.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ahash::AHashMap;
use hashbrown::HashTable;
use parking_lot::RwLock;
use weir_model::entity::EntityTable;
use weir_model::sink::SeriesRef;
use weir_model::usage::Amount;
use weir_model::{EntityRefs, TenantId, Timestamp};

use crate::remote_write::walk::{Key, Seeds, Series};

/// At 33 bytes and up to two places each, 280 MB when full; a full table starts afresh.
const SERIES_MAX: usize = 4 << 20;
/// Different sets of entities; at some 300 bytes each, 150 MB when full.
const OWNERS_MAX: usize = 500_000;
/// Sightings within this are one: entities need no finer time, and the table is spared.
const TOUCH_EVERY: Duration = Duration::from_secs(5);

/// What is known of a series that was seen before.
#[derive(Clone, Copy, Debug)]
struct KnownSeries {
    key: Key,
    series: SeriesRef,
    /// Position in the table of owners.
    owner: u32,
    labels_bytes: u32,
}

/// The entities of a series, noted as seen from time to time.
#[derive(Debug)]
pub(crate) struct Owner {
    pub refs: Arc<EntityRefs>,
    touched: AtomicI64,
}

impl Owner {
    /// Notes the entities as seen at `at`, unless that was done just before.
    pub fn touch(&self, tenant: &TenantId, at: Timestamp, table: &EntityTable) {
        let touched = self.touched.load(Ordering::Relaxed);
        if touched != i64::MIN && at.since(Timestamp(touched)) < TOUCH_EVERY {
            return;
        }
        self.touched.store(at.0.max(touched), Ordering::Relaxed);
        table.observe(tenant, &self.refs, at);
    }
}

/// What one request brought, by owner.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub rows: Vec<(Arc<Owner>, Amount)>,
    /// Positions in `rows` by the owner's address.
    by_owner: AHashMap<usize, usize>,
}

impl Tally {
    fn add(&mut self, owner: &Arc<Owner>, amount: Amount) {
        let address = Arc::as_ptr(owner) as usize;
        let is_last = self.rows.last().is_some_and(|(last, _)| Arc::ptr_eq(last, owner));
        let idx = if is_last {
            self.rows.len() - 1
        } else {
            *self.by_owner.entry(address).or_insert_with(|| {
                self.rows.push((owner.clone(), Amount::default()));
                self.rows.len() - 1
            })
        };
        let row = &mut self.rows[idx].1;
        row.items += amount.items;
        row.bytes += amount.bytes;
    }

    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(|(_, amount)| amount.bytes).sum()
    }
}

/// A sample is a time and a value.
const SAMPLE_BYTES: u64 = 16;

fn amount(labels_bytes: u32, n_samples: u32) -> Amount {
    let items = u64::from(n_samples);
    Amount { items, bytes: u64::from(labels_bytes) + items * SAMPLE_BYTES }
}

/// Bounded by constants. Keys hold the tenant.
#[derive(Default)]
pub(crate) struct SeriesTable {
    pub seeds: Seeds,
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    series: HashTable<KnownSeries>,
    owners: Vec<Arc<Owner>>,
    owner_ids: AHashMap<(TenantId, Arc<EntityRefs>), u32>,
}

/// The key is a hash already, of bits that nobody outside knows.
fn hash(key: &Key) -> u64 {
    key[0]
}

impl SeriesTable {
    /// Numbers of the series that are known, and what they bring.
    pub fn find(&self, series: &[Series], out: &mut Vec<Option<SeriesRef>>, tally: &mut Tally) {
        let inner = self.inner.read();
        out.clear();
        // Apart from the tally, so that the look-ups, each of which misses the caches, overlap.
        let found: Vec<Option<&KnownSeries>> =
            series.iter().map(|s| inner.series.find(hash(&s.key), |known| known.key == s.key)).collect();
        let mut start = 0;
        for (one, known) in series.iter().zip(&found) {
            if let Some(known) = known {
                let owner = &inner.owners[known.owner as usize];
                tally.add(owner, amount(known.labels_bytes, one.samples_end - start));
            }
            start = one.samples_end;
        }
        out.extend(found.iter().map(|known| known.map(|k| k.series)));
    }

    /// Remembers a series and counts its `n_samples`.
    pub fn put(&self, key: Key, made: Made<'_>, n_samples: u32, tally: &mut Tally) {
        let mut inner = self.inner.write();
        if inner.series.len() >= SERIES_MAX || inner.owners.len() >= OWNERS_MAX {
            *inner = Inner::default();
        }
        let refs = Arc::new(made.refs);
        let id = (made.tenant.clone(), refs.clone());
        let owner = match inner.owner_ids.get(&id) {
            Some(owner) => *owner,
            None => {
                let owner = inner.owners.len() as u32;
                inner.owners.push(Arc::new(Owner { refs, touched: AtomicI64::new(i64::MIN) }));
                inner.owner_ids.insert(id, owner);
                owner
            }
        };
        let labels_bytes = u32::try_from(made.labels_bytes).unwrap_or(u32::MAX);
        tally.add(&inner.owners[owner as usize], amount(labels_bytes, n_samples));
        let known = KnownSeries { key, series: made.series, owner, labels_bytes };
        // An entry whose series died is replaced.
        match inner.series.find_mut(hash(&key), |there| there.key == key) {
            Some(there) => *there = known,
            None => {
                inner.series.insert_unique(hash(&key), known, |known| hash(&known.key));
            }
        }
    }
}

/// A series as the store registered it.
pub(crate) struct Made<'a> {
    pub tenant: &'a TenantId,
    pub series: SeriesRef,
    pub refs: EntityRefs,
    pub labels_bytes: usize,
}
