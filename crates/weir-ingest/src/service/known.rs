//! What label sets and resources were resolved to, so that a repeated one is only touched.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use weir_model::entity::{Aliases, EntityTable};
use weir_model::{EntityRefs, Labels, TenantId, Timestamp};

const SHARDS: usize = 16;
/// A million series in all, labels shared with the store. A full shard starts afresh.
const SHARD_ENTRIES_MAX: usize = 65_536;
/// Sightings within this are one: entities need no finer time, and the table is spared.
const TOUCH_EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Known {
    shards: [Mutex<HashMap<(TenantId, Labels), Entry, ahash::RandomState>>; SHARDS],
    seed: ahash::RandomState,
}

struct Entry {
    refs: Arc<EntityRefs>,
    touched: Timestamp,
}

impl Known {
    /// The entities of a label set, noted in `table` as seen at `at`.
    pub fn labels(
        &self,
        tenant: &TenantId,
        labels: &Labels,
        at: Timestamp,
        aliases: &Aliases,
        table: &EntityTable,
    ) -> Arc<EntityRefs> {
        let shard = &self.shards[(self.seed.hash_one(labels) % SHARDS as u64) as usize];
        let key = (tenant.clone(), labels.clone());
        let (refs, is_due) = {
            let mut shard = shard.lock();
            if let Some(entry) = shard.get_mut(&key) {
                let is_due = at.since(entry.touched) >= TOUCH_EVERY;
                if is_due {
                    entry.touched = at;
                }
                (entry.refs.clone(), is_due)
            } else {
                if shard.len() >= SHARD_ENTRIES_MAX {
                    shard.clear();
                }
                let refs = Arc::new(aliases.resolve_labels(labels));
                shard.insert(key, Entry { refs: refs.clone(), touched: at });
                (refs, true)
            }
        };
        if is_due {
            table.observe(tenant, &refs, at);
        }
        refs
    }
}
