//! More files may be followed than the process may open: those that gave nothing for longest are closed, and opened
//! again, wherever they were renamed to, when they changed.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use weir_model::Nanos;

use super::{Key, SIBLINGS_MAX, Tailer};
use crate::logs::entry::Entry;
use crate::logs::files::{FileId, Files, OpenFile};
use crate::logs::pipeline::Around;
use crate::logs::tailed::Tailed;

/// Times that a closed file is not found before it counts as removed: a rename can hide it from one look.
const MISSES_MAX: u8 = 3;

/// What one round knows.
pub(super) struct Turns {
    pub n_open: usize,
    /// Open files, the first to be closed first.
    queue: Option<VecDeque<Key>>,
    folders: HashMap<PathBuf, HashMap<FileId, String>>,
}

impl Turns {
    pub fn new(n_open: usize) -> Self {
        Self { n_open, queue: None, folders: HashMap::new() }
    }

    /// A file was opened.
    pub fn opened(&mut self, key: &Key) {
        self.n_open += 1;
        if let Some(queue) = &mut self.queue {
            queue.push_back(key.clone());
        }
    }

    /// What the file that was at `path` is called now.
    fn find(&mut self, path: &str, id: FileId, files: &dyn Files) -> Option<String> {
        let folder = Path::new(path).parent()?;
        let known = self.folders.entry(folder.to_owned()).or_insert_with(|| names(folder, files));
        known.get(&id).cloned()
    }
}

fn names(folder: &Path, files: &dyn Files) -> HashMap<FileId, String> {
    let listed = files.list(folder).unwrap_or_default().into_iter().take(SIBLINGS_MAX);
    let one = |path: PathBuf| {
        let about = files.about(&path).ok().filter(|about| !about.is_folder)?;
        Some((about.id, path.into_os_string().into_string().ok()?))
    };
    listed.filter_map(|(name, _)| one(folder.join(name))).collect()
}

/// `None`: another file stands there, or none.
fn open_as(path: &str, id: FileId, files: &dyn Files) -> io::Result<Option<Box<dyn OpenFile>>> {
    match files.open(Path::new(path)) {
        Ok(file) => Ok((file.about()?.id == id).then_some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Tailer {
    pub(super) fn turns(&self) -> Turns {
        Turns::new(self.tailed.values().filter(|tailed| tailed.is_open()).count())
    }

    /// Whether one more file may be opened, if need be in the place of another.
    pub(super) fn make_room(&mut self, turns: &mut Turns, files: &dyn Files) -> bool {
        while turns.n_open >= self.options.files_max.max(1) {
            let mut queue = turns.queue.take().unwrap_or_else(|| self.queue());
            let next = queue.pop_front();
            turns.queue = Some(queue);
            let Some(key) = next else { return false };
            let Some(tailed) = self.tailed.get_mut(&key).filter(|tailed| tailed.is_open()) else { continue };
            if tailed.leaving.is_some() {
                // Closed, a file that was removed is gone.
                let Some(path) = turns.find(&tailed.at, key.1, files) else { continue };
                tailed.at = path;
            }
            tailed.close();
            turns.n_open -= 1;
        }
        true
    }

    /// Those of which nothing is expected come first.
    fn queue(&self) -> VecDeque<Key> {
        let mut open: Vec<(&Key, &Tailed)> = self.tailed.iter().filter(|(_, tailed)| tailed.is_open()).collect();
        open.sort_by_key(|(_, tailed)| (tailed.leaving.is_some(), !tailed.is_at_end, tailed.gave));
        open.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// Opens a file that was closed. One that nobody finds any more is let go.
    pub(super) fn reopen(
        &mut self,
        key: &Key,
        now: Nanos,
        turns: &mut Turns,
        files: &dyn Files,
        out: &mut Vec<Entry>,
    ) -> bool {
        if !self.make_room(turns, files) {
            return false;
        }
        let Some(tailed) = self.tailed.get_mut(key) else { return false };
        let mut opened = open_as(&tailed.at, key.1, files);
        if let Ok(None) = opened
            && let Some(path) = turns.find(&tailed.at, key.1, files)
        {
            opened = open_as(&path, key.1, files);
            tailed.at = path;
        }
        match opened {
            Ok(Some(file)) => {
                tailed.reopen(file, now);
                turns.opened(key);
                true
            }
            Ok(None) => {
                tailed.n_missed += 1;
                if tailed.n_missed >= MISSES_MAX {
                    if let Some(n) = tailed.n_unread() {
                        tracing::warn!(path = %tailed.path, n, "the file was removed before its last bytes were read");
                        self.metrics.unread_files.inc();
                    }
                    tailed.let_go(&Around { now, metrics: &self.metrics }, out);
                }
                false
            }
            Err(error) => {
                self.metrics.unread_files.inc();
                let path = tailed.path.clone();
                self.complain(path, format!("cannot be opened: {error}; tried again"));
                false
            }
        }
    }
}
