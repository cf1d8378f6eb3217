//! [`Tailed`]: one file that is followed.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use weir_model::{Labels, Nanos};

use super::entry::Entry;
use super::files::{About, FileId, OpenFile};
use super::pipeline::{Around, Pipeline, after};
use super::positions::{Chunk, Head, Position};
use super::targets::Job;

/// Read at once; more than the longest line.
const CHUNK_BYTES: usize = 512 << 10;
/// A file that was renamed or removed is read on until it was quiet for so long: its writer may not have noticed.
const QUIET: Duration = Duration::from_secs(60);

/// What a line may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineLimit {
    pub bytes_max: usize,
    /// Longer ones are cut; else they are dropped.
    pub cuts: bool,
}

/// As the store has it, and no line is lost whole.
impl Default for LineLimit {
    fn default() -> Self {
        Self { bytes_max: LINE_BYTES_MAX, cuts: true }
    }
}

/// The store takes no longer lines.
pub(super) const LINE_BYTES_MAX: usize = 256 << 10;

pub(super) struct Tailed {
    pub job: Arc<Job>,
    /// Of its target, with the file's name.
    pub labels: Labels,
    /// Where it was found first.
    pub path: String,
    /// Where it was seen last.
    pub at: String,
    pub id: FileId,
    /// `None` while others have their turn.
    file: Option<Box<dyn OpenFile>>,
    /// Whether there may be more to read than is known while it is closed.
    pub wants: bool,
    /// Whether the last look found nothing to read.
    pub is_at_end: bool,
    /// When it was opened, or gave lines last.
    pub gave: Nanos,
    /// Times in a row that it was not found to be opened again.
    pub n_missed: u8,
    head: Head,
    pub pipeline: Pipeline,
    /// The next byte to read.
    read: u64,
    is_skipping: bool,
    /// Everything before was delivered, and whether that place is in a line that is passed over.
    safe: (u64, bool),
    /// What was read since.
    chunks: VecDeque<Chunk>,
    /// What an earlier life had read; its lines get the same times again.
    again: VecDeque<Chunk>,
    /// Length and time of change at the last look.
    seen: Option<(u64, i64)>,
    /// Since when it gave nothing, when its path is another file's now, or nobody's.
    pub leaving: Option<Nanos>,
    pub is_done: bool,
}

/// Times for what is read: never one twice, whatever the clock does.
#[derive(Default)]
pub(crate) struct Times {
    last: i64,
}

impl Times {
    pub fn take(&mut self, now: Nanos, len: u64) -> i64 {
        let at = now.0.max(self.last);
        self.last = at.saturating_add(i64::try_from(len).unwrap_or(i64::MAX));
        at
    }

    /// What an earlier life gave away is not given again.
    pub fn pass(&mut self, chunk: &Chunk) {
        self.last = self.last.max(chunk.at.saturating_add(i64::try_from(chunk.len).unwrap_or(i64::MAX)));
    }
}

pub(super) struct Look<'a> {
    pub around: Around<'a>,
    pub times: &'a mut Times,
    pub limit: LineLimit,
    pub buffer: &'a mut Vec<u8>,
    pub out: &'a mut Vec<Entry>,
}

impl Tailed {
    /// `path`: as its lines are labelled; `at`: where it is. `known`: where an earlier life stood. `start`: where a
    /// file that is not known begins.
    pub fn open(
        file: Box<dyn OpenFile>,
        (job, labels, path, at): (Arc<Job>, Labels, String, String),
        known: Option<Position>,
        start: u64,
    ) -> io::Result<Self> {
        let about = file.about()?;
        let known = match known {
            Some(position) if position.offset <= about.len && position.head.grown(&*file)?.is_some() => Some(position),
            _ => None,
        };
        let head = Head::read(&*file)?;
        let start = if start > about.len { 0 } else { start };
        let mut tailed = Self {
            pipeline: Pipeline::new(&job.stages),
            job,
            labels,
            path,
            at,
            id: about.id,
            file: Some(file),
            wants: true,
            is_at_end: false,
            gave: Nanos(i64::MIN),
            n_missed: 0,
            head,
            read: start,
            is_skipping: false,
            safe: (start, false),
            chunks: VecDeque::new(),
            again: VecDeque::new(),
            seen: None,
            leaving: None,
            is_done: false,
        };
        if let Some(position) = known {
            tailed.read = position.offset;
            tailed.is_skipping = position.skipping;
            tailed.safe = (position.offset, position.skipping);
            tailed.again = position.chunks.into();
        }
        Ok(tailed)
    }

    pub fn position(&self, now: Nanos) -> Position {
        Position {
            job: self.job.name.clone(),
            path: self.path.clone(),
            device: self.id.device,
            inode: self.id.inode,
            head: self.head.clone(),
            offset: self.safe.0,
            skipping: self.safe.1,
            // What is read again and was not reached yet is still owed its times.
            chunks: self.chunks.iter().chain(&self.again).copied().collect(),
            seen_ms: now.millis().0,
        }
    }

    /// Up to where nothing is needed any more once the batch has arrived.
    fn passed(&self) -> (u64, bool) {
        match self.pipeline.held_from() {
            Some(held) => (held, false),
            None => (self.read, self.is_skipping),
        }
    }

    /// Whether anything was read that is neither held back nor known to have arrived.
    pub fn has_undelivered(&self) -> bool {
        self.safe != self.passed()
    }

    /// Everything that was read and is not held back has arrived.
    pub fn delivered(&mut self) {
        self.safe = self.passed();
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= self.safe.0) {
            self.chunks.pop_front();
        }
    }

    pub fn is_open(&self) -> bool {
        self.file.is_some()
    }

    fn file(&self) -> io::Result<&dyn OpenFile> {
        self.file.as_deref().ok_or_else(|| io::Error::other("the file is closed"))
    }

    /// Others have their turn.
    pub fn close(&mut self) {
        self.file = None;
        self.wants = !self.is_at_end;
    }

    pub fn reopen(&mut self, file: Box<dyn OpenFile>, now: Nanos) {
        (self.file, self.gave, self.n_missed) = (Some(file), now, 0);
    }

    /// What is known of a closed file.
    pub fn notice(&mut self, about: &About) {
        self.wants |= self.seen != Some((about.len, about.changed));
        self.n_missed = 0;
    }

    /// Bytes that were seen and not read.
    pub fn n_unread(&self) -> Option<u64> {
        let (len, _) = self.seen?;
        len.checked_sub(self.read).filter(|n| *n > 0)
    }

    /// While it is closed: what is due without a byte being read.
    pub fn tick(&mut self, around: &Around<'_>, out: &mut Vec<Entry>) {
        self.pipeline.tick(around, out);
        self.wants |= self.leaving.is_some_and(|since| around.now >= after(since, QUIET));
    }

    /// Nothing follows.
    pub fn let_go(&mut self, around: &Around<'_>, out: &mut Vec<Entry>) {
        self.pipeline.finish(around, out);
        self.is_done = true;
    }

    /// Reads what came, at most a chunk; answers how much.
    pub fn look(&mut self, look: &mut Look<'_>) -> io::Result<usize> {
        let About { len, changed, .. } = self.file()?.about()?;
        if self.began_anew(len, changed)? {
            look.around.metrics.truncated_files.inc();
            tracing::info!(path = %self.path, "the file was truncated; it is read from its start");
            self.restart(look);
        }
        self.seen = Some((len, changed));
        let n = if self.read < len { self.read_chunk(len, look)? } else { 0 };
        self.pipeline.tick(&look.around, look.out);
        self.is_at_end = n == 0;
        if n == 0 {
            self.leave_when_quiet(len, look)?;
            return Ok(0);
        }
        self.gave = look.around.now;
        if self.leaving.is_some() {
            self.leaving = Some(look.around.now);
        }
        Ok(n)
    }

    /// Whether what stands there is not what was read: shorter, or with other first bytes.
    fn began_anew(&mut self, len: u64, changed: i64) -> io::Result<bool> {
        if len < self.read {
            return Ok(true);
        }
        if self.seen == Some((len, changed)) {
            return Ok(false);
        }
        match self.head.grown(self.file()?)? {
            Some(head) => {
                self.head = head;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    fn restart(&mut self, look: &mut Look<'_>) {
        self.pipeline.finish(&look.around, look.out);
        self.head = self.file().and_then(Head::read).unwrap_or_default();
        (self.read, self.is_skipping, self.safe) = (0, false, (0, false));
        self.chunks.clear();
        self.again.clear();
    }

    fn read_chunk(&mut self, len: u64, look: &mut Look<'_>) -> io::Result<usize> {
        let again = self.again.front().copied().filter(|chunk| chunk.offset <= self.read && chunk.end() <= len);
        let until = again.map_or(len, |chunk| chunk.end());
        let wanted = usize::try_from(until - self.read).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        look.buffer.resize(wanted, 0);
        let n = self.file()?.read_at(self.read, look.buffer)?;
        let bytes = std::mem::take(look.buffer);
        let taken = self.whole_lines(&bytes[..n], look.limit, again.is_some());
        if taken > 0 {
            let at = match again {
                Some(chunk) => chunk.at.saturating_add_unsigned(self.read - chunk.offset),
                None => look.times.take(look.around.now, taken as u64),
            };
            let chunk = Chunk { offset: self.read, len: taken as u64, at };
            self.take(&bytes[..taken], chunk, look);
            self.chunks.push_back(chunk);
            self.read = chunk.end();
            while self.again.front().is_some_and(|chunk| chunk.end() <= self.read) {
                self.again.pop_front();
            }
        }
        *look.buffer = bytes;
        Ok(taken)
    }

    /// How many of the bytes can be taken now: whole lines, or of a line that is too long what there is.
    fn whole_lines(&self, bytes: &[u8], limit: LineLimit, is_again: bool) -> usize {
        match memchr::memrchr(b'\n', bytes) {
            Some(end) => end + 1,
            None if self.is_skipping || bytes.len() >= limit.bytes_max.min(LINE_BYTES_MAX) || is_again => bytes.len(),
            None => 0,
        }
    }

    fn take(&mut self, bytes: &[u8], chunk: Chunk, look: &mut Look<'_>) {
        let mut from = 0;
        look.around.metrics.bytes.inc_by(bytes.len() as u64);
        while from < bytes.len() {
            let end = memchr::memchr(b'\n', &bytes[from..]).map(|n| from + n);
            let line = &bytes[from..end.unwrap_or(bytes.len())];
            if self.is_skipping {
                self.is_skipping = end.is_none();
            } else {
                self.line(line, chunk, from as u64, look);
                self.is_skipping = end.is_none();
            }
            from = end.map_or(bytes.len(), |end| end + 1);
        }
    }

    fn line(&mut self, line: &[u8], chunk: Chunk, offset: u64, look: &mut Look<'_>) {
        // A file that was truncated under a writer with an offset of its own begins with a hole.
        let line = &line[line.iter().position(|b| *b != 0).unwrap_or(line.len())..];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        look.around.metrics.lines.inc();
        let limit = look.limit.bytes_max.min(LINE_BYTES_MAX);
        let text = if line.len() > limit {
            look.around.metrics.cut_lines.inc();
            if !look.limit.cuts {
                look.around.metrics.drop_line("line_too_long");
                return;
            }
            // A letter that the cut goes through is left out.
            let cut = String::from_utf8_lossy(&line[..limit]);
            cut.strip_suffix('\u{fffd}').unwrap_or(&cut).to_owned()
        } else {
            String::from_utf8_lossy(line).into_owned()
        };
        let at = Nanos(chunk.at.saturating_add_unsigned(offset));
        let entry = Entry::new(self.labels.clone(), at, text, chunk.offset + offset);
        self.pipeline.push(entry, &look.around, look.out);
    }

    /// Whoever renamed or removed the file is given time; then its last line counts, newline or not.
    fn leave_when_quiet(&mut self, len: u64, look: &mut Look<'_>) -> io::Result<()> {
        let Some(since) = self.leaving else { return Ok(()) };
        if look.around.now < after(since, QUIET) {
            return Ok(());
        }
        let rest = usize::try_from(len.saturating_sub(self.read)).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        if rest > 0 {
            let mut bytes = vec![0; rest];
            let n = self.file()?.read_at(self.read, &mut bytes)?;
            let chunk = Chunk { offset: self.read, len: n as u64, at: look.times.take(look.around.now, n as u64) };
            self.take(&bytes[..n], chunk, look);
            self.chunks.push_back(chunk);
            self.read = chunk.end();
        }
        self.let_go(&look.around, look.out);
        Ok(())
    }
}
