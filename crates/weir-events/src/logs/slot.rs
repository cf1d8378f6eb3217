//! A segment's place in the store: its head always, its bytes while there is memory for them.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use weir_model::Nanos;
use weir_wal::{Dir, DirError, DirFile};

use super::bytes::Damaged;
use super::manifest::FileMeta;
use super::segment::{FILTER_SUM_AT, HEADER_BYTES, Head, Segment, check, lengths};

/// What a head costs beside its bytes: parsed labels, templates, columns.
const HEAD_BYTES: u64 = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error("{path}, offset {offset}: {damaged}")]
    Damaged { path: String, offset: u64, damaged: Damaged },
}

/// Where a segment lies.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub file: u64,
    pub path: Arc<str>,
    pub offset: u64,
}

#[derive(Default)]
struct State {
    loaded: Option<Arc<Segment>>,
    /// Its filter alone: read before the rest, which it often spares.
    filter: Option<Bytes>,
    saved: Option<Saved>,
    /// Read and found damaged: reported once, left out from then on.
    is_damaged: bool,
}

pub(crate) struct Slot {
    pub id: u64,
    pub head: Arc<Head>,
    /// Of the whole segment.
    pub bytes: u64,
    /// Of its end.
    filter_bytes: usize,
    header: Box<[u8]>,
    state: Mutex<State>,
}

impl Slot {
    pub(crate) fn new(segment: Arc<Segment>) -> Self {
        let state = State { loaded: Some(segment.clone()), ..State::default() };
        Self {
            id: segment.id,
            head: segment.head.clone(),
            bytes: segment.bytes.len() as u64,
            filter_bytes: segment.filter.len(),
            header: segment.bytes[..HEADER_BYTES].into(),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn head_bytes(&self) -> u64 {
        HEAD_BYTES
    }
    pub(crate) fn max(&self) -> Nanos {
        self.head.max
    }
    pub(crate) fn saved(&self) -> Option<Saved> {
        self.state.lock().saved.clone()
    }
    pub(crate) fn set_saved(&self, saved: Saved) {
        self.state.lock().saved = Some(saved);
    }
    pub(crate) fn loaded(&self) -> Option<Arc<Segment>> {
        self.state.lock().loaded.clone()
    }
    pub(crate) fn is_damaged(&self) -> bool {
        self.state.lock().is_damaged
    }
    /// Whether its bytes are in memory and on disk too.
    pub(crate) fn can_be_evicted(&self) -> bool {
        let state = self.state.lock();
        state.loaded.is_some() && state.saved.is_some()
    }
    /// Bytes freed.
    pub(crate) fn evict(&self) -> u64 {
        let mut state = self.state.lock();
        if state.saved.is_some() && state.loaded.take().is_some() { self.bytes } else { 0 }
    }
    /// Bytes freed.
    pub(crate) fn evict_filter(&self) -> u64 {
        if self.state.lock().filter.take().is_some() { self.filter_bytes as u64 } else { 0 }
    }
    /// Bytes freed when it leaves the store, its head among them.
    pub(crate) fn let_go(&self) -> u64 {
        self.head_bytes() + self.evict() + self.evict_filter()
    }
    pub(crate) fn has_filter(&self) -> bool {
        self.state.lock().filter.is_some()
    }

    /// Its bytes from memory or disk. `keep` decides whether bytes that were read stay.
    pub(crate) fn load(
        &self,
        dir: Option<&dyn Dir>,
        keep: impl FnOnce(u64) -> bool,
    ) -> Result<Arc<Segment>, LoadError> {
        let saved = {
            let state = self.state.lock();
            if let Some(segment) = &state.loaded {
                return Ok(segment.clone());
            }
            state.saved.clone()
        };
        let (saved, dir) = on_disk(saved, dir)?;
        let bytes = dir.open(&saved.path)?.read_exact_at(saved.offset, self.bytes as usize)?;
        let segment = Segment::open(self.id, bytes).map_err(|damaged| self.lost(&saved, damaged))?;
        let segment = Arc::new(segment);
        let mut state = self.state.lock();
        if state.loaded.is_none() && keep(self.bytes) {
            state.loaded = Some(segment.clone());
        }
        Ok(segment)
    }

    fn lost(&self, saved: &Saved, damaged: Damaged) -> LoadError {
        self.state.lock().is_damaged = true;
        LoadError::Damaged { path: saved.path.to_string(), offset: saved.offset, damaged }
    }

    /// Its filter from memory or disk, without the rest.
    pub(crate) fn filter(&self, dir: Option<&dyn Dir>, keep: impl FnOnce(u64) -> bool) -> Result<Bytes, LoadError> {
        let saved = {
            let state = self.state.lock();
            if let Some(filter) = state.loaded.as_ref().map(|s| &s.filter).or(state.filter.as_ref()) {
                return Ok(filter.clone());
            }
            state.saved.clone()
        };
        let (saved, dir) = on_disk(saved, dir)?;
        let at = saved.offset + self.bytes - self.filter_bytes as u64;
        let bytes = dir.open(&saved.path)?.read_exact_at(at, self.filter_bytes)?;
        check("filter", &self.header, FILTER_SUM_AT, &bytes).map_err(|damaged| self.lost(&saved, damaged))?;
        let mut state = self.state.lock();
        if state.filter.is_none() && keep(self.filter_bytes as u64) {
            state.filter = Some(bytes.clone());
        }
        Ok(bytes)
    }
}

fn on_disk(saved: Option<Saved>, dir: Option<&dyn Dir>) -> Result<(Saved, &dyn Dir), LoadError> {
    saved.zip(dir).ok_or_else(|| {
        let damaged = Damaged { part: "segment", at: 0, what: "neither in memory nor on disk" };
        LoadError::Damaged { path: "memory".to_owned(), offset: 0, damaged }
    })
}

/// The segments of a file, their heads read and checked. What is damaged is reported and left out.
pub(crate) fn slots_of(dir: &dyn Dir, meta: &FileMeta) -> Result<(Vec<Slot>, Vec<LoadError>), DirError> {
    let path: Arc<str> = meta.path().into();
    let file = dir.open(&path)?;
    let (mut slots, mut damage) = (Vec::new(), Vec::new());
    let mut offset = 0;
    for id in &meta.segments {
        match slot_at(&*file, *id, meta.number, &path, offset) {
            Ok((slot, len)) => {
                slots.extend(slot.map_err(|error| damage.push(error)).ok());
                offset += len;
            }
            // Without its header nobody knows where the next segment begins.
            Err(error) => {
                damage.push(error);
                break;
            }
        }
    }
    Ok((slots, damage))
}

/// The slot, or why not, and the segment's length; an error when not even that is known.
fn slot_at(
    file: &dyn DirFile,
    id: u64,
    number: u64,
    path: &Arc<str>,
    offset: u64,
) -> Result<(Result<Slot, LoadError>, u64), LoadError> {
    let damaged = |damaged| LoadError::Damaged { path: path.to_string(), offset, damaged };
    let header = file.read_exact_at(offset, HEADER_BYTES)?;
    let [head_len, data_len, filter_len] = lengths(&header).map_err(damaged)?;
    let bytes = (HEADER_BYTES + head_len + data_len + filter_len) as u64;
    let read = || -> Result<Slot, LoadError> {
        let head = file.read_exact_at(offset + HEADER_BYTES as u64, head_len)?;
        let head = Arc::new(Head::open(&header, &head, data_len).map_err(damaged)?);
        let saved = Saved { file: number, path: path.clone(), offset };
        let state = State { saved: Some(saved), ..State::default() };
        Ok(Slot { id, head, bytes, filter_bytes: filter_len, header: header[..].into(), state: Mutex::new(state) })
    };
    Ok((read(), bytes))
}
