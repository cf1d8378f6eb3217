//! Segments while they are wanted: from memory or from disk, kept while the budget lasts.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use weir_model::source::ReadError;
use weir_wal::Dir;

use super::memory::Held;
use super::segment::Segment;
use super::slot::{LoadError, Slot};

pub(crate) struct Loader {
    pub held: Mutex<Held>,
    pub dir: Option<Arc<dyn Dir>>,
}

impl Loader {
    fn keep(&self, bytes: u64) -> bool {
        self.held.lock().grow(bytes).is_ok()
    }

    /// `None`: it is damaged, which was reported. A damaged segment costs itself, a disk that fails the query.
    fn or_damaged<T>(slot: &Slot, got: Result<T, LoadError>) -> Result<Option<T>, ReadError> {
        match got {
            Ok(got) => Ok(Some(got)),
            Err(error) if slot.is_damaged() => {
                tracing::error!(%error, "a log segment is damaged and left out");
                Ok(None)
            }
            Err(error) => Err(ReadError::Storage(error.to_string())),
        }
    }

    pub(crate) fn segment(&self, slot: &Slot) -> Result<Option<Arc<Segment>>, ReadError> {
        if slot.is_damaged() {
            return Ok(None);
        }
        Self::or_damaged(slot, slot.load(self.dir.as_deref(), |bytes| self.keep(bytes)))
    }

    /// For who reads it once: what is not in memory is not kept there.
    pub(crate) fn segment_once(&self, slot: &Slot) -> Result<Option<Arc<Segment>>, ReadError> {
        if slot.is_damaged() {
            return Ok(None);
        }
        Self::or_damaged(slot, slot.load(self.dir.as_deref(), |_| false))
    }

    /// The segment's filter alone.
    pub(crate) fn filter(&self, slot: &Slot) -> Result<Option<Bytes>, ReadError> {
        if slot.is_damaged() {
            return Ok(None);
        }
        Self::or_damaged(slot, slot.filter(self.dir.as_deref(), |bytes| self.keep(bytes)))
    }
}
