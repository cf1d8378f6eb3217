//! Appending, group commit, truncation.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use weir_model::Nanos;

use crate::dir::{Dir, DirError};
use crate::frame::{FRAME_HEADER_BYTES, PAYLOAD_BYTES_MAX, SEGMENT_HEADER_BYTES, frame_header, payload_sum};
use crate::replay::{self, Damage, Replay};
use crate::writer::{Chunk, Target, Writer, segment_of};

/// A place in the log: where a frame ends and the next may begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub segment: u64,
    pub offset: u64,
}

impl Position {
    /// Before every frame.
    pub const START: Self = Self { segment: 0, offset: 0 };

    fn first_of(segment: u64) -> Self {
        Self { segment, offset: SEGMENT_HEADER_BYTES as u64 }
    }
}

/// When an acknowledged frame is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// Before [`Log::sync_to`] returns.
    Always,
    /// At a [`Log::tick`], at most this long later. Frames are in the system's hands when `sync_to`
    /// returns, so that they survive the program's death, but not the machine's.
    Interval(Duration),
}

#[derive(Clone, Debug)]
pub struct LogOptions {
    pub sync: SyncMode,
    /// A segment is closed before it grows past this, unless one frame alone does.
    pub segment_bytes: u64,
    /// From here on [`Log::wants_cut`]; at twice this, appends are refused.
    pub cap_bytes: u64,
    /// Take the room of a whole segment when it is begun, for small logs that must go on while the disk is full.
    pub preallocate: bool,
    #[cfg(feature = "mutants")]
    pub mutant: Option<Mutant>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            sync: SyncMode::Always,
            segment_bytes: 64 << 20,
            cap_bytes: 1 << 30,
            preallocate: false,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }
}

/// Faults that the crash tests must notice.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    SkipSync,
    AcknowledgeBeforeWrite,
    /// Tries a failed sync again, and believes the second.
    RetrySync,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// Nothing is lost but what this error answers; works again when there is room.
    #[error("no room for the write-ahead log: {0}; make room on the device")]
    Full(DirError),
    #[error("write-ahead log {folder} holds {size_bytes} bytes, twice its cap of {cap_bytes}: blocks are not written")]
    OverCap { folder: String, size_bytes: u64, cap_bytes: u64 },
    #[error("a frame of {bytes} bytes is longer than {PAYLOAD_BYTES_MAX}")]
    TooLong { bytes: usize },
    /// The last write or sync failed; [`Log::reopen`] goes on in a new segment.
    #[error("write-ahead log failed: {0}")]
    Failed(DirError),
    #[error("{path} has format version {version}, written by a later weir: start that version, or move the file away")]
    Version { path: String, version: u8 },
    #[error(transparent)]
    Dir(#[from] DirError),
}

impl LogError {
    fn of(error: &DirError) -> Self {
        if error.is_full() { Self::Full(error.clone()) } else { Self::Failed(error.clone()) }
    }
    /// Whether the sender should try again later because a disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_) | Self::OverCap { .. })
    }
}

/// Totals since the log was opened, and its present size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    pub frames: u64,
    pub appended_bytes: u64,
    pub writes: u64,
    pub syncs: u64,
    pub failures: u64,
    pub size_bytes: u64,
    pub segments: u64,
}

/// Encoded frames that wait for a leader; beyond this an append writes them itself.
const PENDING_BYTES_MAX: usize = 64 << 20;
/// Failed ranges told apart; older ones are merged, which can only deny an acknowledgement.
const LOST_MAX: usize = 256;
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A segmented log of opaque frames. Shared by reference between threads.
pub struct Log {
    target: Target,
    options: LogOptions,
    state: Mutex<State>,
    progress: Condvar,
}

struct State {
    /// Where the next frame begins.
    next: Position,
    pending: Vec<Chunk>,
    pending_bytes: usize,
    /// A buffer of the last batch, to be used again.
    spare: Vec<u8>,
    /// With the leader while there is one.
    writer: Option<Writer>,
    has_leader: bool,
    written: Position,
    synced: Position,
    /// Frames that end after the first and not after the second were lost to an error.
    lost: VecDeque<(Position, Position, DirError)>,
    failed: Option<DirError>,
    failed_at: Option<Nanos>,
    synced_at: Option<Nanos>,
    /// Bytes of each segment, the one being written included.
    segments: BTreeMap<u64, u64>,
    stats: LogStats,
}

impl Log {
    /// Opens the log in `folder`, makes it if there is none, and cuts a torn tail off its last segment.
    /// New frames go to a new segment, after `covered`: the position before which the store's blocks
    /// hold everything, or [`Position::START`]. Without it, a log whose segments are all truncated would
    /// begin anew before the position that the store remembers.
    pub fn open(
        dir: Arc<dyn Dir>,
        folder: &str,
        covered: Position,
        options: LogOptions,
    ) -> Result<(Self, Vec<Damage>), LogError> {
        dir.create_folder(folder)?;
        let mut segments = BTreeMap::new();
        for name in dir.list(folder)? {
            let Some(segment) = segment_of(&name) else { continue };
            segments.insert(segment, dir.open(&format!("{folder}/{name}"))?.len()?);
        }
        let last = segments.last_key_value().map(|(segment, _)| *segment);
        let mut damage = Vec::new();
        if let Some(last) = last {
            let repaired = replay::repair(&*dir, folder, last)?;
            damage.extend(repaired.damage);
            match repaired.len {
                Some(len) => segments.insert(last, len),
                None => segments.remove(&last),
            };
        }
        let next = Position::first_of(last.unwrap_or(0).max(covered.segment) + 1);
        let preallocate_bytes = if options.preallocate { options.segment_bytes } else { 0 };
        let state = State {
            next,
            pending: Vec::new(),
            pending_bytes: 0,
            spare: Vec::new(),
            writer: None,
            has_leader: false,
            written: next,
            synced: next,
            lost: VecDeque::new(),
            failed: None,
            failed_at: None,
            synced_at: None,
            segments,
            stats: LogStats::default(),
        };
        let target = Target {
            dir,
            folder: folder.to_owned(),
            preallocate_bytes,
            #[cfg(feature = "mutants")]
            mutant: options.mutant,
        };
        Ok((Self { target, options, state: Mutex::new(state), progress: Condvar::new() }, damage))
    }

    /// Takes a frame whose payload is `parts` together; answers where it ends. It is in the log's memory
    /// only: acknowledge after [`Log::sync_to`]. `kind`, not zero, is the caller's, for kinds or versions.
    pub fn append(&self, kind: u8, parts: &[&[u8]]) -> Result<Position, LogError> {
        assert!(kind != 0, "kind 0 means unwritten room");
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        let len = u32::try_from(bytes).ok().filter(|_| bytes <= PAYLOAD_BYTES_MAX);
        let len = len.ok_or(LogError::TooLong { bytes })?;
        let sum = payload_sum(parts);
        let frame_bytes = FRAME_HEADER_BYTES + bytes;
        let mut state = self.state.lock();
        if state.pending_bytes + frame_bytes > PENDING_BYTES_MAX && state.pending_bytes > 0 {
            let end = state.next;
            self.advance(&mut state, end, |state| state.written >= end, false)?;
        }
        state.refuse_if_failed()?;
        let size_bytes = state.size_bytes();
        if size_bytes >= self.options.cap_bytes.saturating_mul(2) {
            let folder = self.target.folder.clone();
            return Err(LogError::OverCap { folder, size_bytes, cap_bytes: self.options.cap_bytes });
        }
        let at = state.make_room(frame_bytes as u64, self.options.segment_bytes);
        let buffer = state.buffer(at, frame_bytes);
        buffer.extend_from_slice(&frame_header(at, kind, len, sum));
        parts.iter().for_each(|part| buffer.extend_from_slice(part));
        state.pending_bytes += frame_bytes;
        state.next.offset += frame_bytes as u64;
        state.stats.frames += 1;
        state.stats.appended_bytes += frame_bytes as u64;
        Ok(state.next)
    }

    /// Waits until every frame that ends at or before `end` is as safe as [`SyncMode`] says. One caller
    /// writes and syncs for all who wait.
    pub fn sync_to(&self, end: Position) -> Result<(), LogError> {
        #[cfg(feature = "mutants")]
        if self.options.mutant == Some(Mutant::AcknowledgeBeforeWrite) {
            return Ok(());
        }
        let mut state = self.state.lock();
        match self.options.sync {
            SyncMode::Always => self.advance(&mut state, end, |state| state.synced >= end, true),
            SyncMode::Interval(_) => self.advance(&mut state, end, |state| state.written >= end, false),
        }
    }

    /// Waits until everything appended so far is on the disk, whatever the mode.
    pub fn sync_all(&self) -> Result<(), LogError> {
        let mut state = self.state.lock();
        let end = state.next;
        self.advance(&mut state, end, |state| state.synced >= end, true)
    }

    /// Follows the leader, or leads, until `is_done`.
    fn advance(
        &self,
        state: &mut MutexGuard<'_, State>,
        end: Position,
        is_done: impl Fn(&State) -> bool,
        sync: bool,
    ) -> Result<(), LogError> {
        loop {
            if let Some((_, _, error)) = state.lost.iter().find(|(from, to, _)| *from < end && end <= *to) {
                return Err(LogError::of(error));
            }
            if is_done(state) {
                return Ok(());
            }
            if state.has_leader {
                self.progress.wait(state);
            } else {
                self.lead(state, sync);
            }
        }
    }

    /// Writes all that is pending, and syncs if asked; the lock is free meanwhile.
    fn lead(&self, state: &mut MutexGuard<'_, State>, sync: bool) {
        state.has_leader = true;
        let mut batch = std::mem::take(&mut state.pending);
        state.pending_bytes = 0;
        let mut writer = state.writer.take();
        let end = state.next;
        let result = MutexGuard::unlocked(state, || self.target.write(&mut writer, &batch, sync));
        for chunk in &batch {
            state.segments.insert(chunk.segment, chunk.offset + chunk.bytes.len() as u64);
        }
        if let Some(mut chunk) = batch.pop().filter(|chunk| chunk.bytes.capacity() <= 4 << 20) {
            chunk.bytes.clear();
            state.spare = chunk.bytes;
        }
        state.has_leader = false;
        state.stats.writes += 1;
        match result {
            Ok(()) => {
                state.written = end;
                if sync {
                    state.synced = end;
                    state.stats.syncs += 1;
                }
                state.writer = writer;
            }
            Err(error) => self.fail(state, writer, error),
        }
        self.progress.notify_all();
    }

    /// Nothing that was not synced will be acknowledged, and its file is not used any more.
    fn fail(&self, state: &mut MutexGuard<'_, State>, writer: Option<Writer>, error: DirError) {
        tracing::warn!(%error, folder = %self.target.folder, "write-ahead log: frames refused");
        if let Some(mut writer) = writer {
            self.target.give_up(&mut writer);
            let synced = writer.synced();
            state.segments.insert(synced.segment, synced.offset);
            state.synced = state.synced.max(synced);
        }
        let synced = state.synced;
        state.written = synced;
        state.segments.retain(|segment, bytes| *segment <= synced.segment && *bytes > SEGMENT_HEADER_BYTES as u64);
        let (from, to) = (state.synced, state.next);
        state.note_lost(from, to, &error);
        state.pending.clear();
        state.pending_bytes = 0;
        state.next = Position::first_of(state.next.segment + 1);
        state.stats.failures += 1;
        if !error.is_full() {
            state.failed = Some(error);
            state.failed_at = None;
        }
    }

    /// After [`LogError::Failed`]: the next frame goes to a new segment.
    pub fn reopen(&self) {
        self.state.lock().failed = None;
    }

    /// Does what is due at `now`: the sync of [`SyncMode::Interval`], and reopening a second after a failure.
    pub fn tick(&self, now: Nanos) -> Result<(), LogError> {
        let is_past = |since: Nanos, wait: Duration| now.0.saturating_sub(since.0) as u128 >= wait.as_nanos();
        let mut state = self.state.lock();
        if state.failed.is_some() {
            let since = *state.failed_at.get_or_insert(now);
            if is_past(since, RETRY_AFTER) {
                state.failed = None;
            }
        }
        let SyncMode::Interval(every) = self.options.sync else { return Ok(()) };
        if state.synced == state.next || state.synced_at.is_some_and(|at| !is_past(at, every)) {
            return Ok(());
        }
        state.synced_at = Some(now);
        let end = state.next;
        self.advance(&mut state, end, |state| state.synced >= end, true)
    }

    /// Ends the segment: the next frame begins a new one, at the answered position, so that
    /// [`Log::truncate_before`] it can remove everything appended so far.
    pub fn roll(&self) -> Position {
        let mut state = self.state.lock();
        if state.next.offset > SEGMENT_HEADER_BYTES as u64 {
            state.next = Position::first_of(state.next.segment + 1);
        }
        state.next
    }

    /// Removes segments that hold only frames before `position`. Frames that are not synced stay.
    pub fn truncate_before(&self, position: Position) -> Result<(), LogError> {
        let mut state = self.state.lock();
        let next = state.next;
        // Nothing is on its way to a file, so that a segment that is not written any more is whole.
        let is_quiet = !state.has_leader && state.pending.is_empty() && state.synced == state.written;
        let position = position.min(if is_quiet { next } else { state.synced });
        let is_past = |segment: u64, bytes: u64| {
            let is_last = segment == position.segment && is_quiet && segment < next.segment;
            segment < position.segment || (is_last && bytes <= position.offset)
        };
        let gone: Vec<u64> = state.segments.iter().filter(|(s, b)| is_past(**s, **b)).map(|(s, _)| *s).collect();
        if gone.is_empty() {
            return Ok(());
        }
        if !state.has_leader && state.writer.as_ref().is_some_and(|writer| gone.contains(&writer.segment)) {
            state.writer = None;
        }
        drop(state);
        for segment in gone {
            self.target.dir.remove(&self.target.path(segment))?;
            self.state.lock().segments.remove(&segment);
        }
        Ok(self.target.dir.sync_folder(&self.target.folder)?)
    }

    /// Frames that end after `from` and were written before this call, oldest first. Meant for the
    /// start, before anything is appended: it reads the files.
    pub fn replay(&self, from: Position) -> Replay {
        let segments = self.state.lock().segments.keys().copied().filter(|s| *s >= from.segment).collect();
        Replay::new(self.target.dir.clone(), self.target.folder.clone(), segments, from)
    }

    /// Where the next frame will begin.
    pub fn end(&self) -> Position {
        self.state.lock().next
    }

    /// Whether the log has grown to its cap, so that its store should write blocks and truncate it.
    pub fn wants_cut(&self) -> bool {
        self.state.lock().size_bytes() >= self.options.cap_bytes
    }

    /// Why appends are refused now, if they are.
    pub fn check(&self) -> Result<(), LogError> {
        self.state.lock().refuse_if_failed()
    }

    pub fn stats(&self) -> LogStats {
        let state = self.state.lock();
        LogStats { size_bytes: state.size_bytes(), segments: state.segments.len() as u64, ..state.stats }
    }
}

impl State {
    fn size_bytes(&self) -> u64 {
        self.segments.values().sum::<u64>() + self.pending_bytes as u64
    }

    fn refuse_if_failed(&self) -> Result<(), LogError> {
        self.failed.as_ref().map_or(Ok(()), |error| Err(LogError::of(error)))
    }

    /// Where a frame of that size goes.
    fn make_room(&mut self, frame_bytes: u64, segment_bytes: u64) -> Position {
        let is_begun = self.next.offset > SEGMENT_HEADER_BYTES as u64;
        if is_begun && self.next.offset + frame_bytes > segment_bytes {
            self.next = Position::first_of(self.next.segment + 1);
        }
        self.next
    }

    /// The pending bytes that end at `at`.
    fn buffer(&mut self, at: Position, frame_bytes: usize) -> &mut Vec<u8> {
        if self.pending.last().is_none_or(|chunk| chunk.segment != at.segment) {
            let mut bytes = std::mem::take(&mut self.spare);
            bytes.reserve(frame_bytes);
            self.pending.push(Chunk { segment: at.segment, offset: at.offset, bytes });
        }
        let chunk = self.pending.last_mut().expect("pushed above if there was none");
        &mut chunk.bytes
    }

    fn note_lost(&mut self, from: Position, to: Position, error: &DirError) {
        match self.lost.back_mut() {
            // Nothing succeeded in between: one range.
            Some((_, last, of)) if from <= *last => (*last, *of) = (to, error.clone()),
            _ => self.lost.push_back((from, to, error.clone())),
        }
        if self.lost.len() > LOST_MAX
            && let Some((oldest, _, _)) = self.lost.pop_front()
            && let Some((from, _, _)) = self.lost.front_mut()
        {
            *from = oldest;
        }
    }
}
