//! The queue on disk: one log for all receivers, a cursor for each.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_ingest::{LabelCache, Limits};
use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{TenantId, Timestamp};
use weir_wal::{Log, LogOptions, OsDir, Position, Replayed};

use super::frame::{self, Queued};

/// A reader holds a segment in memory while it goes through it.
const SEGMENT_BYTES: u64 = 4 << 20;

pub(super) struct Queue {
    folder: PathBuf,
    log: Log,
    bytes_max: u64,
    cache: LabelCache,
    /// Where the last frame ends that is on disk.
    written: Mutex<Position>,
    readers: Mutex<Vec<Arc<Cursor>>>,
    lost_segments: AtomicU64,
    pub appended: Notify,
}

/// Where a receiver stands; kept in a file beside the log.
pub(super) struct Cursor {
    path: PathBuf,
    at: Mutex<Position>,
}

/// What was read from a place in the queue.
pub(super) struct Taken {
    pub frames: Vec<Queued>,
    /// Behind the last of them.
    pub end: Position,
    /// Whether more is waiting.
    pub has_more: bool,
}

impl Queue {
    pub fn open(folder: &Path, bytes_max: u64) -> Result<Self, String> {
        std::fs::create_dir_all(folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        let dir = Arc::new(OsDir::open(folder).map_err(|e| e.to_string())?);
        let covered = known_cursors(folder)?.into_values().min().unwrap_or(Position::START);
        let options = LogOptions {
            segment_bytes: SEGMENT_BYTES.min(bytes_max / 4).max(1 << 16),
            cap_bytes: bytes_max.saturating_mul(2),
            ..LogOptions::default()
        };
        let (log, damage) = Log::open(dir, "queue", covered, options).map_err(|e| e.to_string())?;
        for part in damage {
            tracing::warn!(%part, "remote write queue repaired");
        }
        let written = log.end();
        Ok(Self {
            folder: folder.to_owned(),
            log,
            bytes_max,
            cache: LabelCache::new(Limits::default().series_labels),
            written: Mutex::new(written),
            readers: Mutex::default(),
            lost_segments: AtomicU64::new(0),
            appended: Notify::new(),
        })
    }

    /// On disk when this returns. Nothing is kept that nobody will read.
    pub fn append(&self, tenant: &TenantId, batch: &MetricBatch, now: Timestamp) -> Result<(), String> {
        if self.readers.lock().is_empty() || batch.series.is_empty() && batch.metadata.is_empty() {
            return Ok(());
        }
        let (head, body) = frame::write(tenant, batch, now)?;
        let end = self.log.append(frame::KIND, &[&head, &body]).map_err(|e| e.to_string())?;
        self.log.sync_to(end).map_err(|e| e.to_string())?;
        let mut written = self.written.lock();
        *written = (*written).max(end);
        drop(written);
        self.appended.notify_waiters();
        self.give_up_oldest();
        Ok(())
    }

    /// Beyond its size the queue loses its oldest segment, whoever has not read it.
    fn give_up_oldest(&self) {
        if self.log.stats().size_bytes <= self.bytes_max {
            return;
        }
        let readers = self.readers.lock().clone();
        let Some(oldest) = readers.iter().map(|r| r.get().segment).min() else { return };
        let next = Position { segment: oldest + 1, offset: 0 };
        if next.segment > self.written.lock().segment {
            return;
        }
        readers.iter().filter(|r| r.get() < next).for_each(|r| r.advance(next));
        self.lost_segments.fetch_add(1, Ordering::Relaxed);
        self.forget();
    }

    pub fn take_lost_segments(&self) -> u64 {
        self.lost_segments.swap(0, Ordering::Relaxed)
    }

    pub fn written(&self) -> Position {
        *self.written.lock()
    }

    /// Frames of one tenant from a place on, about as many samples as wanted. Blocks on the disk.
    pub fn read(&self, from: Position, n_samples: usize) -> Result<Taken, String> {
        let written = self.written();
        let mut taken = Taken { frames: Vec::new(), end: from, has_more: false };
        let mut n = 0;
        if from >= written {
            return Ok(taken);
        }
        for item in self.log.replay(from) {
            let found = match item.map_err(|e| e.to_string())? {
                Replayed::Frame(found) if found.end <= written => found,
                // The end of a segment that is being written.
                Replayed::Frame(_) => break,
                Replayed::Damage(damage) => {
                    tracing::error!(%damage, "remote write queue: what stood there is not sent");
                    continue;
                }
            };
            if n >= n_samples {
                taken.has_more = true;
                break;
            }
            match frame::read_frame(&found.payload, &self.cache) {
                Ok(queued) if taken.frames.first().is_some_and(|first| first.tenant != queued.tenant) => {
                    taken.has_more = true;
                    break;
                }
                Ok(queued) => {
                    n += queued.batch.series.iter().map(SeriesBatch::n_samples).sum::<usize>();
                    taken.frames.push(queued);
                }
                Err(error) => tracing::error!(%error, "remote write queue: a frame cannot be read, and is not sent"),
            }
            taken.end = found.end;
        }
        if !taken.has_more && taken.frames.is_empty() {
            // Only damage up to here.
            taken.end = written;
        }
        Ok(taken)
    }

    /// The cursor of that name: as it was left, or at the end for a new receiver.
    pub fn cursor(&self, name: &str) -> Result<Arc<Cursor>, String> {
        let path = self.folder.join(file_name(name));
        let known = std::fs::read_to_string(&path).ok().and_then(|text| parse(&text));
        let cursor = Cursor { path, at: Mutex::new(known.unwrap_or_else(|| self.written())) };
        cursor.save(cursor.get())?;
        Ok(Arc::new(cursor))
    }

    pub fn set_readers(&self, readers: Vec<Arc<Cursor>>) {
        *self.readers.lock() = readers;
        self.forget();
    }

    /// Takes away the cursors of receivers that are gone.
    pub fn keep_cursors(&self, names: &[&str]) -> Result<(), String> {
        let wanted: Vec<String> = names.iter().map(|name| file_name(name)).collect();
        for name in known_cursors(&self.folder)?.into_keys().filter(|name| !wanted.contains(name)) {
            std::fs::remove_file(self.folder.join(&name)).map_err(|e| format!("cannot remove {name}: {e}"))?;
        }
        Ok(())
    }

    /// Everything before `to` was taken by that receiver.
    pub fn commit(&self, cursor: &Cursor, to: Position) -> Result<(), String> {
        cursor.advance(to);
        cursor.save(cursor.get())?;
        self.forget();
        Ok(())
    }

    /// Removes what every receiver has behind it.
    fn forget(&self) {
        let readers = self.readers.lock();
        let oldest = readers.iter().map(|r| r.get()).min().unwrap_or_else(|| self.written());
        if let Err(error) = self.log.truncate_before(oldest) {
            tracing::warn!(%error, "remote write queue: old segments stay");
        }
    }
}

impl Cursor {
    pub fn get(&self) -> Position {
        *self.at.lock()
    }

    fn advance(&self, to: Position) {
        let mut at = self.at.lock();
        *at = (*at).max(to);
    }

    /// Whole or not at all: the new file takes the old one's place.
    fn save(&self, at: Position) -> Result<(), String> {
        let fail = |e: std::io::Error| format!("cannot write {}: {e}", self.path.display());
        let next = self.path.with_extension("next");
        let mut file = std::fs::File::create(&next).map_err(fail)?;
        writeln!(file, "{} {}", at.segment, at.offset).map_err(fail)?;
        file.sync_data().map_err(fail)?;
        std::fs::rename(&next, &self.path).map_err(fail)
    }
}

/// Names may hold anything; files are called by what is safe, and a digest.
fn file_name(name: &str) -> String {
    let safe: String = name.chars().take(40).map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let digest = crate::md5::md5(name.as_bytes());
    format!("{safe}-{:02x}{:02x}{:02x}.cursor", digest[0], digest[1], digest[2])
}

fn parse(text: &str) -> Option<Position> {
    let (segment, offset) = text.trim().split_once(' ')?;
    Some(Position { segment: segment.parse().ok()?, offset: offset.parse().ok()? })
}

fn known_cursors(folder: &Path) -> Result<BTreeMap<String, Position>, String> {
    let fail = |e: std::io::Error| format!("cannot read {}: {e}", folder.display());
    let mut out = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|n| n.ends_with(".cursor")) else { continue };
        let known = std::fs::read_to_string(&path).ok().and_then(|text| parse(&text));
        out.insert(name.to_owned(), known.unwrap_or(Position::START));
    }
    Ok(out)
}
