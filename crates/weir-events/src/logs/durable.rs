//! The store on disk: a write-ahead log before every acknowledgement, files of segments, a manifest.
//!
//! A cut rolls the log, freezes every head at that very place, writes what is not on disk yet to one
//! file per tenant, swaps the manifest, which names the place in the log that the files cover, and only
//! then lets the log forget what lies before. A crash at any byte leaves the old manifest or the new.

use std::sync::Arc;
use std::time::Duration;

use ahash::AHashSet;
use parking_lot::{Mutex, RwLock};
use weir_model::sink::{RawRequest, StreamBatch, WriteError};
use weir_model::source::ReadError;
use weir_model::{Budget, Clock, Nanos, TenantId, Timestamp};
use weir_wal::{Dir, DirError, DirErrorKind, Frame, Log, LogError, LogOptions, Position, Replayed};

use super::compact::Gone;
use super::manifest::{FileMeta, Manifest, PATH};
use super::request::{self, DecodeRequest};
use super::retention::LogRetention;
use super::slot::{Saved, Slot, slots_of};
use super::store::{LogStore, Tenant};

const WAL: &str = "logs/wal";
const BLOCKS: &str = "logs/blocks";
/// A cut is due when so many bytes of segments are in memory alone.
const UNSAVED_BYTES: u64 = 16 << 20;
/// And when the oldest row that is not in a file arrived so long ago.
const UNSAVED_AGE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
pub struct LogStoreOptions {
    /// Entries older than this are deleted, never earlier.
    pub retention: LogRetention,
    pub wal: LogOptions,
    /// Reads requests that the write-ahead log holds as they came; without it none are written so.
    pub requests: Option<DecodeRequest>,
}

impl Default for LogStoreOptions {
    /// 30 days, as the hot tier of the design has it.
    fn default() -> Self {
        Self { retention: Some(Duration::from_secs(30 * 86_400)).into(), wal: LogOptions::default(), requests: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("log segments cannot be merged: {0}")]
    Segment(super::Damaged),
    #[error("the logs' write-ahead log holds requests as they came, and nothing here reads them: start `weir serve`")]
    NoDecoder,
    #[error("{PATH} is damaged ({0}); restore it, or move the folder `logs` away to begin anew")]
    Manifest(super::Damaged),
}

/// What a start found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub files: u64,
    pub segments: u64,
    /// Segments and stretches of the log that could not be read; each was reported.
    pub damaged: u64,
    pub replayed_entries: u64,
}

pub(crate) struct Durable {
    pub dir: Arc<dyn Dir>,
    pub log: Log,
    pub clock: Arc<dyn Clock>,
    pub options: LogStoreOptions,
    /// When files were last searched for streams past their retention.
    pub retention_looked_at: Mutex<Option<Timestamp>>,
    /// Held shared while a frame and the memory it describes change, alone while a cut is placed.
    pub gate: RwLock<()>,
    pub manifest: Mutex<Manifest>,
    /// When the first row that is in no file yet came.
    unsaved_since: Mutex<Option<Timestamp>>,
    /// One cut or merge at a time.
    pub cutting: Mutex<()>,
    /// Files that are not merged, by number.
    pub left_alone: Mutex<AHashSet<u64>>,
    /// Files that go when their last reader does.
    pub gone: Mutex<Vec<Gone>>,
}

pub(crate) fn write_error(error: &LogError) -> WriteError {
    if error.is_full() { WriteError::Full(error.to_string()) } else { WriteError::Storage(error.to_string()) }
}

impl Durable {
    /// Puts the write into the log; what [`Log::sync_to`] must reach before it is acknowledged.
    pub(crate) fn log_write(
        &self,
        tenant: &TenantId,
        request: Option<RawRequest<'_>>,
        streams: &[StreamBatch],
    ) -> Result<Position, WriteError> {
        let now = self.clock.now();
        let logged = match request.filter(|_| self.options.requests.is_some()) {
            Some(raw) => self.log.append(request::KIND_RAW, &[&request::raw_head(tenant, &raw), raw.body]),
            None => self.log.append(request::KIND, &[&request::encode(tenant, now, streams)]),
        };
        let end = logged.map_err(|e| write_error(&e))?;
        self.unsaved_since.lock().get_or_insert(now);
        Ok(end)
    }

    pub(crate) fn swap_manifest(&self, change: impl FnOnce(&mut Manifest)) -> Result<(), DirError> {
        let mut manifest = self.manifest.lock();
        let mut next = manifest.clone();
        change(&mut next);
        self.dir.replace(PATH, &next.encode())?;
        *manifest = next;
        Ok(())
    }
}

impl LogStore {
    /// Opens the store in `dir`, makes it if there is none, and brings back all that was acknowledged.
    pub fn open(
        dir: Arc<dyn Dir>,
        budget: &Budget,
        clock: Arc<dyn Clock>,
        options: LogStoreOptions,
    ) -> Result<(Self, Recovered), LogStoreError> {
        let mut recovered = Recovered::default();
        dir.create_folder(BLOCKS)?;
        let manifest = match dir.read(PATH) {
            Ok(bytes) => Manifest::decode(&bytes).map_err(LogStoreError::Manifest)?,
            Err(error) if error.kind == DirErrorKind::NotFound => Manifest::default(),
            Err(error) => return Err(error.into()),
        };
        remove_unlisted(&*dir, &manifest)?;
        let (log, damage) = Log::open(dir.clone(), WAL, manifest.covered, options.wal.clone())?;
        damage.iter().for_each(|d| tracing::warn!(damage = %d, "log write-ahead log repaired"));
        recovered.damaged += damage.iter().filter(|d| !d.is_torn_tail).count() as u64;
        let durable = Durable {
            dir,
            log,
            clock,
            options,
            retention_looked_at: Mutex::new(None),
            gate: RwLock::new(()),
            manifest: Mutex::new(manifest.clone()),
            unsaved_since: Mutex::new(None),
            cutting: Mutex::new(()),
            left_alone: Mutex::default(),
            gone: Mutex::default(),
        };
        let store = Self::with(budget, Some(durable), manifest.next_segment);
        for meta in &manifest.files {
            store.add_file(meta, &mut recovered)?;
        }
        store.replay(manifest.covered, &mut recovered)?;
        Ok((store, recovered))
    }

    fn add_file(&self, meta: &FileMeta, recovered: &mut Recovered) -> Result<(), LogStoreError> {
        let Some(durable) = &self.durable else { return Ok(()) };
        let (slots, damage) = match slots_of(&*durable.dir, meta) {
            Ok(found) => found,
            Err(error) => {
                // A lost file costs itself.
                tracing::error!(%error, "a file of log segments cannot be read");
                recovered.damaged += 1;
                durable.left_alone.lock().insert(meta.number);
                return Ok(());
            }
        };
        if !damage.is_empty() {
            durable.left_alone.lock().insert(meta.number);
        }
        for error in &damage {
            tracing::error!(%error, "a log segment is damaged and left out");
        }
        recovered.files += 1;
        recovered.damaged += damage.len() as u64;
        recovered.segments += slots.len() as u64;
        let tenant = self.tenant_or_new(&meta.tenant);
        for slot in slots {
            self.account_head(&slot);
            tenant.add_slot(Arc::new(slot));
        }
        Ok(())
    }

    fn replay(&self, from: Position, recovered: &mut Recovered) -> Result<(), LogStoreError> {
        let Some(durable) = &self.durable else { return Ok(()) };
        for replayed in durable.log.replay(from) {
            match replayed? {
                Replayed::Damage(damage) => {
                    tracing::error!(%damage, "a stretch of the logs' write-ahead log is lost");
                    recovered.damaged += 1;
                }
                Replayed::Frame(frame) => match self.read_frame(durable, &frame)? {
                    Ok((tenant, streams)) => {
                        durable.unsaved_since.lock().get_or_insert(durable.clock.now());
                        recovered.replayed_entries += streams.iter().map(|s| s.entries.len() as u64).sum::<u64>();
                        self.take(&tenant, &streams);
                    }
                    Err(error) => {
                        tracing::error!(%error, end = ?frame.end, "a write in the logs' write-ahead log cannot be read");
                        recovered.damaged += 1;
                    }
                },
            }
        }
        Ok(())
    }

    /// The streams of a write, or why it is lost; an error when it would not be lost to others.
    fn read_frame(
        &self,
        durable: &Durable,
        frame: &Frame,
    ) -> Result<Result<(TenantId, Vec<StreamBatch>), String>, LogStoreError> {
        match frame.kind {
            request::KIND => Ok(request::decode(&frame.payload).map_err(|damaged| damaged.to_string())),
            request::KIND_RAW => {
                let decode = durable.options.requests.ok_or(LogStoreError::NoDecoder)?;
                let read = request::read_raw(&frame.payload).map_err(|damaged| damaged.to_string());
                Ok(read.and_then(|(tenant, raw)| Ok((tenant, decode(raw.kind, raw.received, raw.body)?))))
            }
            kind => Ok(Err(format!("a frame of kind {kind}, of a later version"))),
        }
    }

    /// What is due at this time: the log's interval, a cut, deletion by age, a merge. Meant for every second.
    pub fn maintain(&self) -> Result<(), LogStoreError> {
        let Some(durable) = &self.durable else { return Ok(()) };
        let now = durable.clock.now();
        durable.log.tick(now.nanos())?;
        let is_old = durable.unsaved_since.lock().is_some_and(|since| now.since(since) >= UNSAVED_AGE);
        if is_old || durable.log.wants_cut() || self.unsaved_bytes() >= UNSAVED_BYTES.min(self.limit_bytes / 8) {
            self.cut()?;
        }
        self.delete_old(now)?;
        self.compact()?;
        self.remove_gone(durable)
    }

    /// Everything accepted so far into files; the write-ahead log forgets it.
    pub fn cut(&self) -> Result<(), LogStoreError> {
        let Some(durable) = &self.durable else { return Ok(()) };
        let _one = durable.cutting.lock();
        let unsaved_since = durable.unsaved_since.lock().take();
        let done = self.cut_now(durable);
        if done.is_err() {
            let mut since = durable.unsaved_since.lock();
            *since = unsaved_since.or(*since);
        }
        done
    }

    fn cut_now(&self, durable: &Durable) -> Result<(), LogStoreError> {
        let (position, limit) = {
            let _alone = durable.gate.write();
            let position = durable.log.roll();
            for (_, tenant) in self.all_tenants() {
                tenant.groups.iter().for_each(|group| drop(self.begin_freeze(group, 1)));
            }
            (position, self.next_id.load(std::sync::atomic::Ordering::Relaxed))
        };
        let mut files = Vec::new();
        for (id, tenant) in self.all_tenants() {
            tenant.groups.iter().for_each(|group| self.finish_freezing(group, limit));
            let unsaved = tenant.unsaved(limit);
            if !unsaved.is_empty() {
                files.push(self.save(durable, &id, &unsaved)?);
            }
        }
        durable.swap_manifest(|manifest| {
            manifest.covered = position;
            manifest.next_segment = manifest.next_segment.max(limit);
            manifest.files.extend(files.iter().map(|(meta, _)| meta.clone()));
        })?;
        for (slot, saved) in files.into_iter().flat_map(|(_, slots)| slots) {
            slot.set_saved(saved);
        }
        durable.log.truncate_before(position)?;
        Ok(())
    }

    /// Segments, none empty, into a new file that no manifest lists yet.
    pub(crate) fn save(
        &self,
        durable: &Durable,
        tenant: &TenantId,
        slots: &[Arc<Slot>],
    ) -> Result<(FileMeta, Vec<(Arc<Slot>, Saved)>), LogStoreError> {
        let number = {
            let mut manifest = durable.manifest.lock();
            manifest.next_file += 1;
            manifest.next_file - 1
        };
        let meta = FileMeta {
            tenant: tenant.clone(),
            number,
            bytes: slots.iter().map(|s| s.bytes).sum(),
            min: slots.iter().map(|s| s.head.min).min().unwrap_or(Nanos::MIN),
            max: slots.iter().map(|s| s.head.max).max().unwrap_or(Nanos::MAX),
            segments: slots.iter().map(|s| s.id).collect(),
        };
        let path: Arc<str> = meta.path().into();
        let mut bytes = Vec::with_capacity(meta.bytes as usize);
        let mut saved = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(segment) = slot.loaded() else { continue };
            let place = Saved { file: number, path: path.clone(), offset: bytes.len() as u64 };
            saved.push((slot.clone(), place));
            bytes.extend_from_slice(&segment.bytes);
        }
        durable.dir.create_folder(&meta.folder())?;
        durable.dir.put_new(&path, &bytes)?;
        Ok((meta, saved))
    }
}

/// Left-overs of a crash between a file and its manifest.
fn remove_unlisted(dir: &dyn Dir, manifest: &Manifest) -> Result<(), DirError> {
    let listed: Vec<String> = manifest.files.iter().map(FileMeta::path).collect();
    for folder in dir.list(BLOCKS)? {
        let Some(tenant) = folder.strip_suffix('/') else { continue };
        for name in dir.list(&format!("{BLOCKS}/{tenant}"))? {
            let path = format!("{BLOCKS}/{tenant}/{name}");
            if !name.ends_with('/') && !listed.contains(&path) {
                dir.remove(&path)?;
                tracing::info!(path, "a file that no manifest lists was removed");
            }
        }
    }
    Ok(())
}

impl Tenant {
    fn unsaved(&self, limit: u64) -> Vec<Arc<Slot>> {
        let mut slots: Vec<Arc<Slot>> = Vec::new();
        for group in &self.groups {
            let group = group.read();
            slots.extend(group.slots.iter().filter(|s| s.id < limit && s.saved().is_none()).cloned());
        }
        slots.sort_by_key(|s| s.id);
        slots
    }

    /// Its segments, which no new reader finds.
    pub(super) fn remove_file(&self, number: u64) -> Vec<Arc<Slot>> {
        let mut gone = Vec::new();
        for group in &self.groups {
            group.write().slots.retain(|slot| {
                let stays = slot.saved().is_none_or(|saved| saved.file != number);
                if !stays {
                    gone.push(slot.clone());
                }
                stays
            });
        }
        gone
    }
}
