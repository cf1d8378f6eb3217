//! [`Tailer`]: which files are followed and what became of what was read; decides, and does nothing but read.
//!
//! Each round reads a batch, has the positions written down with what is under way, and then has the batch
//! delivered. After a crash in between, what was under way is read again and gets the same times, so that a
//! store which keeps equal lines of one time once holds each line once.

mod turns;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{Labels, LogEntry, Nanos};

use super::entry::Entry;
use super::files::{FileId, Files};
use super::metrics::LogMetrics;
use super::pipeline::{Around, Pipeline, after};
use super::positions::{Position, Positions};
use super::tailed::{LINE_BYTES_MAX, LineLimit, Look, Tailed, Times};
use super::targets::{Job, LogTarget};
use turns::Turns;

/// Read before what was read is delivered.
const BATCH_BYTES: usize = 1 << 20;
/// How often patterns are looked at.
const SCAN_EVERY: Duration = Duration::from_secs(1);
/// How often positions that changed without anything to deliver are written.
const SAVE_EVERY: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Files that are followed at once.
const FILES_MAX: usize = 20_000;
/// Positions of files that are gone are kept for so long, as their targets may come back.
const FORGET_MS: i64 = 24 * 3600 * 1000;
/// Names that are looked at when a file is sought that was renamed while nobody followed it.
const SIBLINGS_MAX: usize = 10_000;

/// Entries of one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// As a stage set it.
    pub tenant: Option<String>,
    pub labels: Labels,
    pub entries: Vec<LogEntry>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time may have passed.
    Tick,
    /// What [`Effect::Save`] asked for is on disk, or cannot be written.
    Saved {
        is_ok: bool,
    },
    Delivered,
    /// To be delivered again.
    Failed,
}

/// What is to be done next; its outcome is the next input.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Put these bytes in the place of the positions; answer [`Input::Saved`].
    Save(Vec<u8>),
    /// Answer [`Input::Delivered`] or [`Input::Failed`].
    Deliver(Arc<Vec<Outgoing>>),
    /// Answer [`Input::Tick`] by then.
    Wait(Duration),
}

enum Phase {
    Idle,
    Saving(Option<Arc<Vec<Outgoing>>>),
    Delivering(Arc<Vec<Outgoing>>, Duration),
}

#[derive(Clone, Copy, Debug)]
pub struct TailerOptions {
    /// How long to wait when nothing came.
    pub poll: Duration,
    pub limit: LineLimit,
    /// Files that are open at once; there may be more that take turns.
    pub files_max: usize,
}

impl Default for TailerOptions {
    fn default() -> Self {
        Self { poll: Duration::from_millis(250), limit: LineLimit::default(), files_max: FILES_MAX }
    }
}

/// A file within its job.
type Key = (String, FileId);

pub struct Tailer {
    options: TailerOptions,
    targets: Vec<LogTarget>,
    tailed: BTreeMap<Key, Tailed>,
    /// Where files stood that are not followed now.
    known: HashMap<Key, Position>,
    /// Offsets by path, from Promtail.
    imported: BTreeMap<String, u64>,
    /// The next look begins there, so that one busy file does not starve the others.
    cursor: Option<Key>,
    phase: Phase,
    times: Times,
    scan_due: Nanos,
    save_due: Nanos,
    /// Files of an earlier life that were not found yet.
    lost: BTreeSet<Key>,
    /// Whether positions changed since they were written.
    is_dirty: bool,
    /// What pipelines let go of outside a round.
    carried: Vec<Entry>,
    buffer: Vec<u8>,
    metrics: LogMetrics,
    /// What was complained about, so that it is said once.
    complaints: HashMap<String, String>,
}

impl Tailer {
    /// `saved`: what [`Effect::Save`] wrote last, if anything.
    pub fn new(saved: Option<&[u8]>, options: TailerOptions, metrics: LogMetrics) -> Result<Self, String> {
        let saved = saved.map(Positions::decode).transpose()?.unwrap_or_default();
        let mut times = Times::default();
        saved.files.iter().flat_map(|position| &position.chunks).for_each(|chunk| times.pass(chunk));
        let known: HashMap<Key, Position> = saved.files.into_iter().map(|p| ((p.job.clone(), p.id()), p)).collect();
        Ok(Self {
            options,
            targets: Vec::new(),
            tailed: BTreeMap::new(),
            imported: BTreeMap::new(),
            cursor: None,
            phase: Phase::Idle,
            times,
            scan_due: Nanos(i64::MIN),
            save_due: Nanos(i64::MIN),
            lost: known.keys().cloned().collect(),
            known,
            is_dirty: false,
            carried: Vec::new(),
            buffer: Vec::new(),
            metrics,
            complaints: HashMap::new(),
        })
    }

    /// Offsets of a positions file of Promtail, for files that were never followed here.
    pub fn import(&mut self, promtail: &str) -> Result<(), String> {
        self.imported = super::positions::parse_promtail(promtail)?;
        Ok(())
    }

    pub fn set_options(&mut self, options: TailerOptions) {
        self.options = options;
    }

    /// What is followed from now on. Files of targets that are gone are read to their end.
    pub fn set_targets(&mut self, targets: Vec<LogTarget>, now: Nanos) {
        let jobs: HashMap<&str, &Arc<Job>> = targets.iter().map(|t| (t.job.name.as_str(), &t.job)).collect();
        for tailed in self.tailed.values_mut() {
            let Some(job) = jobs.get(tailed.job.name.as_str()) else { continue };
            if !Arc::ptr_eq(job, &tailed.job) {
                let around = Around { now, metrics: &self.metrics };
                tailed.pipeline.finish(&around, &mut self.carried);
                tailed.pipeline = Pipeline::new(&job.stages);
                tailed.job = (*job).clone();
            }
        }
        self.targets = targets;
        self.scan_due = now;
    }

    pub fn n_files(&self) -> usize {
        self.tailed.len()
    }

    pub fn step(&mut self, input: Input, now: Nanos, files: &dyn Files) -> Effect {
        match (std::mem::replace(&mut self.phase, Phase::Idle), input) {
            (Phase::Idle, _) => self.round(now, files),
            (Phase::Saving(batch), Input::Saved { is_ok }) => {
                // What is read is delivered even so: a full disk is no reason to stop. Some of it may come twice.
                self.is_dirty = !is_ok;
                self.save_due = after(now, SAVE_EVERY);
                match batch {
                    Some(batch) => self.deliver(batch, BACKOFF_MIN),
                    None => Effect::Wait(self.options.poll),
                }
            }
            (Phase::Delivering(batch, _), Input::Delivered) => {
                let n: usize = batch.iter().map(|stream| stream.entries.len()).sum();
                self.metrics.delivered_entries.inc_by(n as u64);
                self.delivered(now);
                // More may be waiting in the files.
                Effect::Wait(Duration::ZERO)
            }
            (Phase::Delivering(batch, backoff), Input::Failed) => {
                self.phase = Phase::Delivering(batch, (backoff * 2).min(BACKOFF_MAX));
                Effect::Wait(backoff)
            }
            (Phase::Delivering(batch, backoff), _) => self.deliver(batch, backoff),
            (phase @ Phase::Saving(_), _) => {
                self.phase = phase;
                Effect::Wait(self.options.poll)
            }
        }
    }

    fn deliver(&mut self, batch: Arc<Vec<Outgoing>>, backoff: Duration) -> Effect {
        self.phase = Phase::Delivering(batch.clone(), backoff);
        Effect::Deliver(batch)
    }

    fn delivered(&mut self, now: Nanos) {
        self.is_dirty = true;
        for tailed in self.tailed.values_mut() {
            tailed.delivered();
        }
        let done: Vec<Key> = self.tailed.iter().filter(|(_, t)| t.is_done).map(|(key, _)| key.clone()).collect();
        for key in done {
            let Some(tailed) = self.tailed.remove(&key) else { continue };
            tracing::info!(path = %tailed.path, "the file is read to its end and not followed any more");
            self.known.insert(key, tailed.position(now));
        }
        self.metrics.files.set(i64::try_from(self.tailed.len()).unwrap_or(i64::MAX));
    }

    fn round(&mut self, now: Nanos, files: &dyn Files) -> Effect {
        let mut turns = self.turns();
        if now >= self.scan_due {
            self.scan(now, &mut turns, files);
            self.scan_due = after(now, SCAN_EVERY);
        }
        let entries = self.read(now, &mut turns, files);
        self.metrics.open_files.set(i64::try_from(turns.n_open).unwrap_or(i64::MAX));
        let batch = group(entries, self.options.limit, &self.metrics);
        // Lines may all be dropped by stages, or held back.
        let batch = (!batch.is_empty()).then(|| Arc::new(batch));
        if batch.is_none() {
            let has_read = self.tailed.values().any(Tailed::has_undelivered);
            if has_read || self.tailed.values().any(|t| t.is_done) {
                self.delivered(now);
            }
            if !self.is_dirty || now < self.save_due {
                return Effect::Wait(if has_read { Duration::ZERO } else { self.options.poll });
            }
        }
        self.phase = Phase::Saving(batch);
        Effect::Save(self.positions(now).encode())
    }

    /// What is to be remembered when nothing more will be done.
    pub fn checkpoint(&mut self, now: Nanos) -> Vec<u8> {
        self.positions(now).encode()
    }

    fn positions(&mut self, now: Nanos) -> Positions {
        self.known.retain(|_, position| now.millis().0.saturating_sub(position.seen_ms) < FORGET_MS);
        let living = self.tailed.values().map(|tailed| tailed.position(now));
        Positions::new(living.chain(self.known.values().cloned()).collect())
    }

    /// A batch from the files, in turn.
    fn read(&mut self, now: Nanos, turns: &mut Turns, files: &dyn Files) -> Vec<Entry> {
        let mut out = std::mem::take(&mut self.carried);
        let mut n_bytes = 0;
        let start = self.cursor.take();
        let keys: Vec<Key> = match &start {
            Some(start) => self
                .tailed
                .range(start.clone()..)
                .chain(self.tailed.range(..start.clone()))
                .map(|(k, _)| k.clone())
                .collect(),
            None => self.tailed.keys().cloned().collect(),
        };
        for key in keys {
            if n_bytes >= BATCH_BYTES {
                self.cursor = Some(key);
                break;
            }
            let Some(tailed) = self.tailed.get_mut(&key) else { continue };
            if tailed.is_done || tailed.job.stages.iter().any(|stage| stage.is_throttled(now)) {
                continue;
            }
            let around = Around { now, metrics: &self.metrics };
            if !tailed.is_open() {
                tailed.tick(&around, &mut out);
                if !tailed.wants || !self.reopen(&key, now, turns, files, &mut out) {
                    continue;
                }
            }
            let Some(tailed) = self.tailed.get_mut(&key) else { continue };
            let around = Around { now, metrics: &self.metrics };
            let mut look = Look {
                around,
                times: &mut self.times,
                limit: self.options.limit,
                buffer: &mut self.buffer,
                out: &mut out,
            };
            match tailed.look(&mut look) {
                Ok(n) => n_bytes += n,
                Err(error) => {
                    self.metrics.unread_files.inc();
                    let path = tailed.path.clone();
                    self.complain(path, format!("cannot be read: {error}; tried again"));
                }
            }
        }
        out
    }

    /// Which files there are.
    fn scan(&mut self, now: Nanos, turns: &mut Turns, files: &dyn Files) {
        let targets = std::mem::take(&mut self.targets);
        let mut here: HashMap<Key, usize> = HashMap::new();
        for target in &targets {
            let (paths, error) = target.pattern.find(files);
            match error {
                Some(error) => self.complain(target.path().to_owned(), error),
                None => drop(self.complaints.remove(target.path())),
            }
            for (idx, path) in paths.into_iter().enumerate() {
                if target.exclude.as_ref().is_some_and(|exclude| exclude.matches(&path)) || is_compressed(&path) {
                    continue;
                }
                let Ok(about) = files.about(Path::new(&path)) else { continue };
                let key = (target.job.name.clone(), about.id);
                // A file that two targets of a job name is the first one's.
                if here.insert(key.clone(), idx).is_some() {
                    continue;
                }
                match self.tailed.get_mut(&key) {
                    Some(tailed) => {
                        tailed.leaving = None;
                        tailed.labels = labels(target, &tailed.path);
                        tailed.notice(&about);
                        tailed.at = path;
                    }
                    None => self.open(target, &path, key, turns, files),
                }
            }
        }
        for (key, tailed) in &mut self.tailed {
            if here.contains_key(key) {
                continue;
            }
            tailed.leaving = tailed.leaving.or(Some(now));
            if !tailed.is_open() {
                match files.about(Path::new(&tailed.at)) {
                    Ok(about) if about.id == key.1 => tailed.notice(&about),
                    _ => tailed.wants = true,
                }
            }
        }
        self.find_renamed(&targets, now, turns, files);
        self.targets = targets;
        self.metrics.files.set(i64::try_from(self.tailed.len()).unwrap_or(i64::MAX));
    }

    fn open(&mut self, target: &LogTarget, path: &str, key: Key, turns: &mut Turns, files: &dyn Files) {
        if self.tailed.len() >= FILES_MAX {
            return self.complain(
                "files".to_owned(),
                format!("more than {FILES_MAX} files match; {path} and others are not followed"),
            );
        }
        if !self.make_room(turns, files) {
            // The next scan comes back to it.
            return;
        }
        let known = self.known.remove(&key);
        // What comes later under that path is another file.
        let imported = self.imported.remove(path);
        let start = if known.is_some() { 0 } else { imported.unwrap_or(0) };
        // A file that was renamed keeps the name that its first lines have.
        let named = known.as_ref().map_or(path, |position| &position.path).to_owned();
        let about = (target.job.clone(), labels(target, &named), named, path.to_owned());
        let opened = files.open(Path::new(path)).and_then(|file| Tailed::open(file, about, known.clone(), start));
        match opened {
            // The path may be another file's by now; the next scan finds that one.
            Ok(tailed) if tailed.id == key.1 => {
                tracing::info!(path, "follows a file");
                self.complaints.remove(path);
                self.is_dirty = true;
                turns.opened(&key);
                self.tailed.insert(key, tailed);
            }
            Ok(_) => self.known.extend(known.map(|known| (key, known))),
            Err(error) => {
                self.metrics.unread_files.inc();
                self.known.extend(known.map(|known| (key, known)));
                self.complain(path.to_owned(), format!("cannot be opened: {error}; tried again"));
            }
        }
    }

    /// Files that were renamed while nobody followed them: what is left in them is read.
    fn find_renamed(&mut self, targets: &[LogTarget], now: Nanos, turns: &mut Turns, files: &dyn Files) {
        for key in self.lost.clone() {
            let Some(position) = self.known.get(&key).cloned() else {
                self.lost.remove(&key);
                continue;
            };
            // Its target may yet be discovered.
            let Some(target) = targets.iter().find(|t| t.job.name == key.0 && t.holds(&position.path)) else {
                continue;
            };
            if !self.make_room(turns, files) {
                return;
            }
            self.lost.remove(&key);
            let Some(folder) = Path::new(&position.path).parent() else { continue };
            let names = files.list(folder).unwrap_or_default();
            let found = names
                .into_iter()
                .take(SIBLINGS_MAX)
                .map(|(name, _)| folder.join(name))
                .find(|path| files.about(path).is_ok_and(|about| about.id == key.1 && !about.is_folder));
            let Some(path) = found.and_then(|path| path.into_os_string().into_string().ok()) else { continue };
            if is_compressed(&path) || !is_same(&path, &position, files) {
                continue;
            }
            self.open(target, &path, key.clone(), turns, files);
            if let Some(tailed) = self.tailed.get_mut(&key) {
                tailed.leaving = Some(now);
            }
        }
    }

    fn complain(&mut self, about: String, what: String) {
        if self.complaints.get(&about) != Some(&what) && self.complaints.len() < FILES_MAX {
            tracing::warn!("{about}: {what}");
            self.complaints.insert(about, what);
        }
    }
}

fn is_same(path: &str, position: &Position, files: &dyn Files) -> bool {
    let grown = files.open(Path::new(path)).and_then(|file| position.head.grown(&*file));
    matches!(grown, Ok(Some(_)))
}

/// What rotation packed was read before.
fn is_compressed(path: &str) -> bool {
    [".gz", ".zst", ".bz2", ".xz", ".lz4", ".Z", ".zip"].iter().any(|ending| path.ends_with(ending))
}

fn labels(target: &LogTarget, path: &str) -> Labels {
    target.labels.with("filename", path)
}

/// Entries by stream, in their order; lines that stages made too long are cut.
pub(crate) fn group(entries: Vec<Entry>, limit: LineLimit, metrics: &LogMetrics) -> Vec<Outgoing> {
    let mut out: Vec<Outgoing> = Vec::new();
    let mut streams: HashMap<(Option<String>, Labels), usize> = HashMap::new();
    for mut entry in entries {
        let bytes_max = limit.bytes_max.min(LINE_BYTES_MAX);
        if entry.line.len() > bytes_max {
            metrics.cut_lines.inc();
            if !limit.cuts {
                metrics.drop_line("line_too_long");
                continue;
            }
            entry.line.truncate(entry.line.floor_char_boundary(bytes_max));
        }
        let log = LogEntry { at: entry.at, line: entry.line.into(), metadata: entry.metadata };
        let idx = *streams.entry((entry.tenant, entry.labels)).or_insert_with_key(|(tenant, labels)| {
            out.push(Outgoing { tenant: tenant.clone(), labels: labels.clone(), entries: Vec::new() });
            out.len() - 1
        });
        out[idx].entries.push(log);
    }
    out
}
