//! Records in memory, their log, and the snapshot that lets the log begin anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use weir_model::TenantId;
use weir_wal::{Dir, DirError, DirErrorKind, Log, LogError, LogOptions, Position, Replayed};

use crate::codec::{
    Change, DecodeError, NAME_BYTES_MAX, VALUE_BYTES_MAX, decode_batch, decode_snapshot, encode_change, encode_snapshot,
};

const SNAPSHOT: &str = "state/snapshot";
const LOG: &str = "state/log";
/// Taken beforehand: some ten thousand notifications when the disk is full.
const SEGMENT_BYTES: u64 = 4 << 20;
/// A snapshot is written when the log is longer.
const LOG_BYTES: u64 = 8 << 20;
/// Kind of a batch's frame.
const BATCH: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{path}: {error}; move the file away to start without silences and without what was notified")]
    Snapshot { path: &'static str, error: DecodeError },
    /// The other records of the batch are committed.
    #[error("a record of {bytes} bytes in {table} is longer than {VALUE_BYTES_MAX}, or its name than {NAME_BYTES_MAX}")]
    TooLong { table: String, bytes: usize },
    #[error("state is kept in memory only until it can be written: {0}")]
    Log(#[from] LogError),
    #[error(transparent)]
    Dir(#[from] DirError),
}

/// Changes that become durable together.
#[derive(Clone, Debug, Default)]
pub struct Batch(Vec<Change>);

impl Batch {
    pub fn put(&mut self, table: &str, tenant: &TenantId, key: impl Into<String>, value: impl Into<Bytes>) {
        let (table, tenant) = (table.to_owned(), tenant.clone());
        self.0.push(Change { table, tenant, key: key.into(), value: Some(value.into()) });
    }
    pub fn remove(&mut self, table: &str, tenant: &TenantId, key: impl Into<String>) {
        self.0.push(Change { table: table.to_owned(), tenant: tenant.clone(), key: key.into(), value: None });
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

type Name = (String, TenantId, String);

/// Cheap to clone. All calls block.
#[derive(Clone)]
pub struct State(Arc<Inner>);

struct Inner {
    /// `None`: kept in memory alone.
    disk: Option<Disk>,
    records: Mutex<Records>,
}

struct Disk {
    dir: Arc<dyn Dir>,
    log: Log,
}

#[derive(Default)]
struct Records {
    all: BTreeMap<Name, Change>,
    /// What could not be written yet, the newest of each name.
    unwritten: BTreeMap<Name, Change>,
}

impl Records {
    fn apply(&mut self, change: Change) {
        let name = name_of(&change);
        match change.value {
            Some(_) => self.all.insert(name, change),
            None => self.all.remove(&name),
        };
    }
}

fn fits(change: &Change) -> bool {
    let names = [change.table.len(), change.tenant.as_str().len(), change.key.len()];
    names.iter().all(|len| *len <= NAME_BYTES_MAX) && change.value.as_ref().is_none_or(|v| v.len() <= VALUE_BYTES_MAX)
}

fn name_of(change: &Change) -> Name {
    (change.table.clone(), change.tenant.clone(), change.key.clone())
}

impl State {
    /// Without a disk: forgotten when the program ends.
    pub fn in_memory() -> Self {
        Self(Arc::new(Inner { disk: None, records: Mutex::default() }))
    }

    /// Reads what is there; damage in the log costs the batches it touches and is told in the log.
    pub fn open(dir: Arc<dyn Dir>) -> Result<Self, StateError> {
        let mut records = Records::default();
        let position = match dir.read(SNAPSHOT) {
            Ok(bytes) => {
                let decoded = decode_snapshot(&bytes);
                let (position, found) = decoded.map_err(|error| StateError::Snapshot { path: SNAPSHOT, error })?;
                found.into_iter().for_each(|change| records.apply(change));
                position
            }
            Err(e) if e.kind == DirErrorKind::NotFound => Position::START,
            Err(e) => return Err(e.into()),
        };
        let options = LogOptions {
            segment_bytes: SEGMENT_BYTES,
            cap_bytes: LOG_BYTES,
            preallocate: true,
            ..LogOptions::default()
        };
        let (log, damage) = Log::open(dir.clone(), LOG, position, options)?;
        for damage in damage {
            tracing::error!(%damage, "state: the log is damaged");
        }
        for replayed in log.replay(position) {
            match replayed? {
                Replayed::Frame(frame) => match decode_batch(&frame.payload) {
                    Ok(changes) => changes.into_iter().for_each(|change| records.apply(change)),
                    Err(error) => tracing::error!(%error, "state: a batch cannot be read"),
                },
                Replayed::Damage(damage) => tracing::error!(%damage, "state: the log is damaged"),
            }
        }
        Ok(Self(Arc::new(Inner { disk: Some(Disk { dir, log }), records: Mutex::new(records) })))
    }

    /// Records of one table, in the order of tenants and keys.
    pub fn scan(&self, table: &str) -> Vec<(TenantId, String, Bytes)> {
        let records = self.0.records.lock();
        let of_table = records.all.iter().filter(|((t, ..), _)| t == table);
        of_table.filter_map(|((_, tenant, key), c)| Some((tenant.clone(), key.clone(), c.value.clone()?))).collect()
    }

    /// Durable when it returns `Ok`. After an error the change stands in memory, and goes to the disk
    /// with the next commit that can write.
    pub fn commit(&self, batch: Batch) -> Result<(), StateError> {
        let (fitting, long): (Vec<Change>, Vec<Change>) = batch.0.into_iter().partition(fits);
        self.write(fitting)?;
        long.into_iter().next().map_or(Ok(()), |c| {
            Err(StateError::TooLong { bytes: c.value.as_ref().map_or(0, Bytes::len), table: c.table })
        })
    }

    fn write(&self, changes: Vec<Change>) -> Result<(), StateError> {
        let Some(disk) = &self.0.disk else {
            let mut records = self.0.records.lock();
            changes.into_iter().for_each(|change| records.apply(change));
            return Ok(());
        };
        // One commit at a time, as batches must reach the log in the order in which they were made.
        let mut records = self.0.records.lock();
        for change in changes {
            records.unwritten.insert(name_of(&change), change.clone());
            records.apply(change);
        }
        if records.unwritten.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        records.unwritten.values().for_each(|change| encode_change(change, &mut bytes));
        let written = disk.log.append(BATCH, &[&bytes]).and_then(|end| disk.log.sync_to(end));
        if let Err(error) = written {
            // What the log does not take may fit into a snapshot: it is shorter than its history.
            disk.log.reopen();
            return self.cut(disk, &mut records).map_err(|_| error.into());
        }
        records.unwritten.clear();
        if disk.log.wants_cut()
            && let Err(error) = self.cut(disk, &mut records)
        {
            tracing::warn!(%error, "state: no snapshot could be written; the log grows on");
        }
        Ok(())
    }

    fn cut(&self, disk: &Disk, records: &mut Records) -> Result<(), StateError> {
        let position = disk.log.roll();
        disk.dir.replace(SNAPSHOT, &encode_snapshot(position, records.all.values()))?;
        records.unwritten.clear();
        Ok(disk.log.truncate_before(position)?)
    }

    /// Everything in one file, as a snapshot is written: [`crate::decode_snapshot`] reads it.
    pub fn export(&self) -> Vec<u8> {
        encode_snapshot(Position::START, self.0.records.lock().all.values())
    }
}

#[cfg(test)]
mod tests {
    use weir_wal::SimDir;

    use super::*;

    fn put(state: &State, key: u64, value: u64) -> Result<(), StateError> {
        let mut batch = Batch::default();
        // Two records that always change together.
        for table in ["a", "b"] {
            batch.put(table, &TenantId::anonymous(), key.to_string(), value.to_string());
        }
        state.commit(batch)
    }

    fn read(state: &State, table: &str) -> BTreeMap<String, u64> {
        let parse = |v: Bytes| std::str::from_utf8(&v).unwrap().parse().unwrap();
        state.scan(table).into_iter().map(|(_, k, v)| (k, parse(v))).collect()
    }

    /// Crashes after each number of disk operations: what was acknowledged is there, what was not is
    /// there whole or not at all.
    #[test]
    fn a_crash_at_any_step_loses_nothing_acknowledged() {
        for seed in 0..120 {
            let dir = SimDir::new(seed);
            let state = State::open(Arc::new(dir.clone())).unwrap();
            dir.crash_after(seed % 40 + 1);
            let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
            let mut tried: BTreeMap<String, u64> = BTreeMap::new();
            for n in 0..20 {
                let key = n % 3;
                tried.insert(key.to_string(), n);
                if put(&state, key, n).is_err() {
                    break;
                }
                acknowledged.insert(key.to_string(), n);
            }
            drop(state);
            dir.restart();
            let state = State::open(Arc::new(dir.clone())).unwrap();
            let (a, b) = (read(&state, "a"), read(&state, "b"));
            assert_eq!(a, b, "seed {seed}: a batch was seen in part");
            for (key, value) in &acknowledged {
                let got = a.get(key);
                assert!(got == Some(value) || got == tried.get(key), "seed {seed}: {key} is {got:?}, not {value}");
            }
            // It goes on after the crash.
            put(&state, 9, 9).unwrap();
            assert_eq!(read(&state, "b").get("9"), Some(&9));
        }
    }

    #[test]
    fn small_batches_go_on_while_the_disk_is_full_and_nothing_is_lost_later() {
        let dir = SimDir::new(7);
        let state = State::open(Arc::new(dir.clone())).unwrap();
        put(&state, 0, 0).unwrap();
        dir.set_capacity(dir.used_bytes());
        for n in 1..200 {
            put(&state, n, n).unwrap();
        }
        // A record too large for the room that was taken fails, and stands in memory.
        let mut large = Batch::default();
        large.put("large", &TenantId::anonymous(), "x", vec![7; 5 << 20]);
        assert!(state.commit(large).is_err());
        assert_eq!(state.scan("large").len(), 1);
        dir.set_capacity(u64::MAX);
        put(&state, 200, 200).unwrap();
        drop(state);
        dir.restart();
        let state = State::open(Arc::new(dir)).unwrap();
        assert_eq!((read(&state, "a").len(), state.scan("large").len()), (201, 1));
    }

    #[test]
    fn the_log_is_cut_and_the_export_holds_everything() {
        let dir = SimDir::new(3);
        let state = State::open(Arc::new(dir.clone())).unwrap();
        for n in 0..40 {
            let mut batch = Batch::default();
            batch.put("t", &TenantId::anonymous(), (n % 4).to_string(), vec![n as u8; 1 << 20]);
            state.commit(batch).unwrap();
        }
        let mut batch = Batch::default();
        batch.remove("t", &TenantId::anonymous(), "1");
        state.commit(batch).unwrap();
        assert!(dir.used_bytes() < 30 << 20, "{} bytes for four records of a mebibyte", dir.used_bytes());
        let (_, exported) = decode_snapshot(&state.export()).unwrap();
        drop(state);
        dir.restart();
        let state = State::open(Arc::new(dir)).unwrap();
        let found: Vec<(String, u8)> = state.scan("t").into_iter().map(|(_, k, v)| (k, v[0])).collect();
        assert_eq!(found, [("0".to_owned(), 36), ("2".to_owned(), 38), ("3".to_owned(), 39)]);
        assert_eq!(exported.len(), 3);
    }
}
