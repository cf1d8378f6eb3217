//! A file system in memory, for tests: files renamed, truncated and removed under the reader's hands.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::files::{About, FileId, Files, Kind, OpenFile};

#[derive(Clone, Default)]
pub(crate) struct SimFiles(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    paths: BTreeMap<PathBuf, u64>,
    inodes: BTreeMap<u64, Arc<Mutex<Content>>>,
    next: u64,
    /// Files that are open; counts its clones.
    open: Arc<()>,
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    n_changes: i64,
}

struct SimFile {
    inode: u64,
    content: Arc<Mutex<Content>>,
    _open: Arc<()>,
}

impl SimFiles {
    pub fn n_open(&self) -> usize {
        Arc::strong_count(&self.0.lock().open) - 1
    }

    /// Makes the file if there is none.
    pub fn append(&self, path: &str, text: impl AsRef<[u8]>) {
        let mut state = self.0.lock();
        let known = state.paths.get(Path::new(path)).copied();
        let inode = known.unwrap_or_else(|| {
            state.next += 1;
            let inode = state.next;
            state.inodes.insert(inode, Arc::default());
            state.paths.insert(path.into(), inode);
            inode
        });
        let mut content = state.inodes[&inode].lock();
        content.bytes.extend_from_slice(text.as_ref());
        content.n_changes += 1;
    }

    pub fn rename(&self, from: &str, to: &str) {
        let mut state = self.0.lock();
        let inode = state.paths.remove(Path::new(from)).unwrap();
        state.paths.insert(to.into(), inode);
    }

    pub fn remove(&self, path: &str) {
        self.0.lock().paths.remove(Path::new(path)).unwrap();
    }

    pub fn truncate(&self, path: &str, len: usize) {
        let state = self.0.lock();
        let mut content = state.inodes[&state.paths[Path::new(path)]].lock();
        content.bytes.truncate(len);
        content.n_changes += 1;
    }
}

impl Files for SimFiles {
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, Kind)>> {
        let state = self.0.lock();
        let mut out = BTreeMap::new();
        for path in state.paths.keys() {
            let Ok(below) = path.strip_prefix(folder) else { continue };
            let mut parts = below.components();
            let Some(first) = parts.next() else { continue };
            let kind = if parts.next().is_some() { Kind::Folder } else { Kind::File };
            out.insert(first.as_os_str().to_str().unwrap().to_owned(), kind);
        }
        if out.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(out.into_iter().collect()) }
    }

    fn about(&self, path: &Path) -> io::Result<About> {
        self.open(path)?.about()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        let state = self.0.lock();
        let inode = *state.paths.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { inode, content: state.inodes[&inode].clone(), _open: state.open.clone() }))
    }
}

impl OpenFile for SimFile {
    fn about(&self) -> io::Result<About> {
        let content = self.content.lock();
        let id = FileId { device: 1, inode: self.inode };
        Ok(About { id, len: content.bytes.len() as u64, changed: content.n_changes, is_folder: false })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = &self.content.lock().bytes;
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let n = buffer.len().min(bytes.len() - from);
        buffer[..n].copy_from_slice(&bytes[from..from + n]);
        Ok(n)
    }
}
