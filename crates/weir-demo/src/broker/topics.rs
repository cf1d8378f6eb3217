//! Topics and their partitions.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use uuid::Uuid;

use super::batch::Batch;
use super::log::{Appended, PartitionLog, Retention};
use super::producers::SequenceError;

/// Partitions of all topics together; each costs a log and its index.
const PARTITIONS_MAX: usize = 20_000;

pub struct Partition {
    inner: Mutex<Inner>,
}

struct Inner {
    log: PartitionLog,
    /// Fetches that wait for the next append. One per connection, so bounded by connections.
    waiting: Vec<Weak<Notify>>,
}

impl Partition {
    fn new(retention: Retention) -> Self {
        Self { inner: Mutex::new(Inner { log: PartitionLog::new(retention), waiting: Vec::new() }) }
    }

    /// Appends and wakes the fetches that wait here.
    pub fn append(&self, batch: &Batch) -> Result<Appended, SequenceError> {
        let mut inner = self.inner.lock();
        let appended = inner.log.append(batch)?;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        for notify in waiting.iter().filter_map(Weak::upgrade) {
            notify.notify_one();
        }
        Ok(appended)
    }

    /// Reads the log under its lock.
    pub fn with<R>(&self, read: impl FnOnce(&PartitionLog) -> R) -> R {
        read(&self.inner.lock().log)
    }

    /// Notifies `waiter` once at the next append.
    pub fn wake_on_append(&self, waiter: &Arc<Notify>) {
        let mut inner = self.inner.lock();
        if inner.waiting.iter().any(|w| std::ptr::eq(w.as_ptr(), Arc::as_ptr(waiter))) {
            return;
        }
        inner.waiting.retain(|w| w.strong_count() > 0);
        inner.waiting.push(Arc::downgrade(waiter));
    }
}

pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: Vec<Arc<Partition>>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CreateError {
    #[error("topic `{0}` already exists")]
    Exists(String),
    #[error("`{0}` is not a topic name: use 1 to 249 of the characters a-z A-Z 0-9 . _ -")]
    Name(String),
    #[error("a topic needs 1 to {PARTITIONS_MAX} partitions, {0} were asked")]
    Partitions(i32),
    #[error("this broker holds at most {PARTITIONS_MAX} partitions; delete a topic first")]
    Full,
}

pub struct Topics {
    retention: Retention,
    by_name: RwLock<BTreeMap<String, Arc<Topic>>>,
}

impl Topics {
    pub fn new(retention: Retention) -> Self {
        Self { retention, by_name: RwLock::default() }
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().get(name).cloned()
    }
    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.by_name.read().values().find(|t| t.id == id).cloned()
    }
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.read().values().cloned().collect()
    }
    pub fn partition(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let topics = self.by_name.read();
        topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?).cloned()
    }

    /// Whether [`Self::create`] would succeed.
    pub fn check(&self, name: &str, n_partitions: i32) -> Result<(), CreateError> {
        check(&self.by_name.read(), name, n_partitions)
    }

    pub fn create(&self, name: &str, n_partitions: i32) -> Result<Arc<Topic>, CreateError> {
        let mut topics = self.by_name.write();
        check(&topics, name, n_partitions)?;
        let partitions = (0..n_partitions).map(|_| Arc::new(Partition::new(self.retention))).collect();
        let id = Uuid::from_u128(rand::random());
        let topic = Arc::new(Topic { name: name.to_owned(), id, partitions });
        topics.insert(name.to_owned(), Arc::clone(&topic));
        Ok(topic)
    }

    pub fn delete(&self, name: &str) -> Option<Arc<Topic>> {
        let deleted = self.by_name.write().remove(name)?;
        Some(deleted)
    }
}

fn check(topics: &BTreeMap<String, Arc<Topic>>, name: &str, n_partitions: i32) -> Result<(), CreateError> {
    if topics.contains_key(name) {
        return Err(CreateError::Exists(name.to_owned()));
    }
    let valid = (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if !valid {
        return Err(CreateError::Name(name.chars().take(249).collect()));
    }
    let asked = usize::try_from(n_partitions).unwrap_or(0);
    if asked == 0 || asked > PARTITIONS_MAX {
        return Err(CreateError::Partitions(n_partitions));
    }
    let held: usize = topics.values().map(|t| t.partitions.len()).sum();
    if held + asked > PARTITIONS_MAX { Err(CreateError::Full) } else { Ok(()) }
}
