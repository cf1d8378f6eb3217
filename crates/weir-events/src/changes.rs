//! The log of change events: deployments, flags, configuration, scaling.
//!
//! A few hundred a day at most, so a sorted list per tenant is enough. Opened over a [`State`], it is
//! written down by [`ChangeSink::flush`], a record per change.

use std::collections::{BTreeSet, HashMap};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use weir_model::{Change, ChangeSink, ChangeSource, TenantId, TimeRange};
use weir_state::{Batch, State, StateError};

const TABLE: &str = "events.changes";
/// Of the records.
const VERSION: u8 = 1;

/// Changes kept per tenant; at one a minute, three days.
const CHANGES_PER_TENANT_MAX: usize = 4096;
const TENANTS_MAX: usize = 1024;
/// Texts of a tenant's changes together, so that none holds more than a few megabytes of memory and disk.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// Two reports of one deployment (by the pipeline that did it, and by the version in telemetry)
/// arrive within the time of a rollout.
const SAME_CHANGE_MS: i64 = 180_000;

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    v: u8,
    change: T,
}

/// A change and the number that names its record.
struct Kept {
    id: u64,
    change: Change,
}

#[derive(Default)]
struct Log {
    /// Ascending by time.
    changes: Vec<Kept>,
    text_bytes: usize,
    last_id: u64,
    /// What differs from the disk.
    unwritten: BTreeSet<u64>,
}

/// Bounded, oldest dropped first; a change that repeats a known one is merged into it.
#[derive(Default)]
pub struct ChangeLog {
    tenants: RwLock<HashMap<TenantId, Log>>,
    /// `None`: in memory alone.
    state: Option<State>,
    /// One writer at a time, so that records reach the disk in their order.
    writing: Mutex<()>,
}

fn text_bytes(change: &Change) -> usize {
    let optional = [&change.from, &change.to].into_iter().flatten();
    let texts = optional.chain([&change.title, &change.source]).chain(&change.instances).map(String::len);
    let pairs = change.attributes.iter().map(|(k, v)| k.len() + v.len());
    change.entity.name.len() + texts.chain(pairs).sum::<usize>()
}

impl Log {
    fn insert(&mut self, id: u64, change: Change) {
        self.text_bytes += text_bytes(&change);
        self.last_id = self.last_id.max(id);
        let idx = self.changes.partition_point(|c| c.change.at <= change.at);
        self.changes.insert(idx, Kept { id, change });
        while self.changes.len() > CHANGES_PER_TENANT_MAX
            || (self.text_bytes > TEXT_BYTES_MAX && self.changes.len() > 1)
        {
            let gone = self.changes.remove(0);
            self.text_bytes -= text_bytes(&gone.change);
            self.unwritten.insert(gone.id);
        }
    }

    /// The change goes into one that told it already; it is given back if there is none.
    fn merge(&mut self, change: Change) -> Option<Change> {
        let (start, end) = (change.at.0.saturating_sub(SAME_CHANGE_MS), change.at.0.saturating_add(SAME_CHANGE_MS));
        let first = self.changes.partition_point(|c| c.change.at.0 < start);
        let last = self.changes.partition_point(|c| c.change.at.0 <= end);
        let Some(known) = self.changes[first..last].iter_mut().find(|c| repeats(&c.change, &change)) else {
            return Some(change);
        };
        self.text_bytes -= text_bytes(&known.change);
        merge(&mut known.change, change);
        self.text_bytes += text_bytes(&known.change);
        self.unwritten.insert(known.id);
        self.changes[first..last].sort_by_key(|c| c.change.at);
        None
    }

    fn take_batch(&mut self, tenant: &TenantId, batch: &mut Batch) {
        for id in std::mem::take(&mut self.unwritten) {
            // Sixteen digits, so that the order of keys is that of numbers.
            let key = format!("{id:016x}");
            match self.changes.iter().find(|c| c.id == id) {
                Some(Kept { change, .. }) => {
                    let bytes =
                        serde_json::to_vec(&Stored { v: VERSION, change }).expect("a change has only text keys");
                    batch.put(TABLE, tenant, key, bytes);
                }
                None => batch.remove(TABLE, tenant, key),
            }
        }
    }
}

impl ChangeLog {
    /// With what an earlier run wrote down.
    pub fn open(state: State) -> Self {
        let mut tenants: HashMap<TenantId, Log> = HashMap::new();
        for (tenant, key, bytes) in state.scan(TABLE) {
            let id = u64::from_str_radix(&key, 16).ok();
            match (id, serde_json::from_slice::<Stored<Change>>(&bytes)) {
                (Some(id), Ok(stored)) if stored.v == VERSION => {
                    tenants.entry(tenant).or_default().insert(id, stored.change);
                }
                (_, Ok(stored)) => {
                    tracing::error!(%tenant, key, version = stored.v, "a change of another version is left alone");
                }
                (_, Err(error)) => tracing::error!(%tenant, key, %error, "a change of an earlier run cannot be read"),
            }
        }
        Self { tenants: RwLock::new(tenants), state: Some(state), writing: Mutex::new(()) }
    }

    fn write(&self) -> Result<(), StateError> {
        let Some(state) = &self.state else { return Ok(()) };
        let _one_at_a_time = self.writing.lock();
        let mut batch = Batch::default();
        for (tenant, log) in self.tenants.write().iter_mut() {
            log.take_batch(tenant, &mut batch);
        }
        if batch.is_empty() { Ok(()) } else { state.commit(batch) }
    }
}

/// Whether `b` tells what `a` told already.
fn repeats(a: &Change, b: &Change) -> bool {
    if a.kind != b.kind || a.entity != b.entity || a.at.0.abs_diff(b.at.0) > SAME_CHANGE_MS.unsigned_abs() {
        return false;
    }
    match (&a.to, &b.to) {
        (Some(x), Some(y)) => x == y && (a.from.is_none() || b.from.is_none() || a.from == b.from),
        (None, None) => a.title == b.title,
        _ => false,
    }
}

/// What both know: the earlier time, each field from whoever has it.
fn merge(known: &mut Change, other: Change) {
    known.at = known.at.min(other.at);
    if known.from.is_none() {
        known.from = other.from;
    }
    // A person's words beat derived ones.
    if known.source == "telemetry" && other.source != "telemetry" {
        known.title = other.title;
        known.source = other.source;
    }
    for instance in other.instances {
        if !known.instances.contains(&instance) && known.instances.len() < 64 {
            known.instances.push(instance);
        }
    }
    for (name, value) in other.attributes {
        known.attributes.entry(name).or_insert(value);
    }
}

impl ChangeSink for ChangeLog {
    fn record(&self, tenant: &TenantId, change: Change) {
        let mut tenants = self.tenants.write();
        if !tenants.contains_key(tenant) && tenants.len() >= TENANTS_MAX {
            tracing::warn!(%tenant, "change dropped: too many tenants hold changes");
            return;
        }
        let log = tenants.entry(tenant.clone()).or_default();
        if let Some(change) = log.merge(change) {
            let id = log.last_id + 1;
            log.unwritten.insert(id);
            log.insert(id, change);
        }
    }

    fn flush(&self) -> Result<(), String> {
        self.write().map_err(|e| e.to_string())
    }
}

impl ChangeSource for ChangeLog {
    fn changes(&self, tenant: &TenantId, range: TimeRange) -> Vec<Change> {
        let tenants = self.tenants.read();
        let Some(log) = tenants.get(tenant) else { return Vec::new() };
        let first = log.changes.partition_point(|c| c.change.at < range.start);
        let last = log.changes.partition_point(|c| c.change.at <= range.end);
        let found = log.changes.get(first..last).unwrap_or_default();
        found.iter().map(|c| c.change.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use weir_model::{ChangeKind, EntityId, EntityKind, Timestamp};
    use weir_wal::SimDir;

    use super::*;

    fn change(at: i64, service: &str, to: &str, source: &str) -> Change {
        Change {
            at: Timestamp(at),
            kind: ChangeKind::Deployment,
            entity: EntityId::new(EntityKind::Service, service),
            title: format!("{service} {to}"),
            from: None,
            to: Some(to.to_owned()),
            instances: Vec::new(),
            source: source.to_owned(),
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn one_deployment_told_twice_is_one_change() {
        let log = ChangeLog::default();
        let tenant = TenantId::anonymous();
        log.record(&tenant, change(100_000, "a", "v2", "telemetry"));
        log.record(&tenant, change(95_000, "a", "v2", "api"));
        log.record(&tenant, change(95_000, "b", "v2", "api"));
        log.record(&tenant, change(900_000, "a", "v2", "api"));
        let got = log.changes(&tenant, TimeRange::ALL);
        let told: Vec<_> = got.iter().map(|c| (c.at.0, &*c.entity.name, c.source.as_str())).collect();
        assert_eq!(told, [(95_000, "a", "api"), (95_000, "b", "api"), (900_000, "a", "api")]);
    }

    #[test]
    fn ranges_include_both_ends_and_tenants_are_apart() {
        let log = ChangeLog::default();
        let (a, b) = (TenantId::anonymous(), TenantId::parse("b").unwrap());
        for at in [30_000, 10_000, 20_000] {
            log.record(&a, change(at, "s", &format!("v{at}"), "api"));
        }
        let got = log.changes(&a, TimeRange::new(Timestamp(10_000), Timestamp(20_000)));
        assert_eq!(got.iter().map(|c| c.at.0).collect::<Vec<_>>(), [10_000, 20_000]);
        assert!(log.changes(&b, TimeRange::ALL).is_empty());
    }

    /// Kills at each number of disk operations: what `flush` answered for is there.
    #[test]
    fn what_was_flushed_survives_a_crash_at_any_step() {
        let tenant = TenantId::anonymous();
        for seed in 0..60 {
            let dir = SimDir::new(seed);
            let log = ChangeLog::open(State::open(Arc::new(dir.clone())).unwrap());
            dir.crash_after(seed % 30 + 1);
            let mut flushed = 0;
            for k in 0..10 {
                log.record(&tenant, change(k * 1_000_000, "s", &format!("v{k}"), "telemetry"));
                if log.flush().is_err() {
                    break;
                }
                flushed += 1;
            }
            drop(log);
            dir.restart();
            let log = ChangeLog::open(State::open(Arc::new(dir)).unwrap());
            let found = log.changes(&tenant, TimeRange::ALL);
            assert!((flushed..=flushed + 1).contains(&found.len()), "seed {seed}: {} of {flushed}", found.len());
            // It goes on: a report of the same change is merged into what came back.
            log.record(&tenant, change(0, "s", "v0", "api"));
            log.record(&tenant, change(99_000_000, "s", "v99", "api"));
            log.flush().unwrap();
            let again = ChangeLog::open(log.state.clone().unwrap()).changes(&tenant, TimeRange::ALL);
            let v0 = again.iter().filter(|c| c.to.as_deref() == Some("v0")).collect::<Vec<_>>();
            assert_eq!((v0.len(), &*v0[0].source), (1, "api"), "seed {seed}");
            assert_eq!(again.len(), found.len() + if found.is_empty() { 2 } else { 1 }, "seed {seed}");
        }
    }

    #[test]
    fn long_texts_push_out_the_oldest_also_on_disk() {
        let tenant = TenantId::anonymous();
        let state = State::in_memory();
        let log = ChangeLog::open(state.clone());
        for k in 0..10 {
            let mut long = change(k, "s", &format!("v{k}"), "api");
            long.title = "x".repeat(1 << 20);
            log.record(&tenant, long);
        }
        log.flush().unwrap();
        let kept = log.changes(&tenant, TimeRange::ALL);
        assert_eq!((kept.len(), kept[0].at.0), (3, 7));
        assert_eq!(state.scan(TABLE).len(), 3);
    }

    #[test]
    fn the_oldest_go_when_the_log_is_full() {
        let log = ChangeLog::default();
        let tenant = TenantId::anonymous();
        for k in 0..CHANGES_PER_TENANT_MAX as i64 + 10 {
            log.record(&tenant, change(k, "s", &format!("v{k}"), "api"));
        }
        let got = log.changes(&tenant, TimeRange::ALL);
        assert_eq!((got.len(), got[0].at.0), (CHANGES_PER_TENANT_MAX, 10));
    }
}
