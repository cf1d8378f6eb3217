//! Files of the operating system.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::dir::{Dir, DirError, DirFile, TEMPORARY, folder_of};

/// A folder on disk.
pub struct OsDir {
    root: PathBuf,
}

impl OsDir {
    /// Makes the folder if there is none.
    pub fn open(root: &Path) -> Result<Self, DirError> {
        fs::create_dir_all(root).map_err(|e| DirError::new("create folder", root.display(), &e))?;
        Ok(Self { root: root.to_owned() })
    }

    fn full(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn fail(&self, action: &'static str, path: &str) -> impl FnOnce(io::Error) -> DirError {
        let full = self.full(path);
        move |error| DirError::new(action, full.display(), &error)
    }

    fn file(&self, path: &str, file: File) -> Arc<dyn DirFile> {
        Arc::new(OsFile { file, path: self.full(path) })
    }

    /// The whole content under a temporary name of its own, synced; nothing is left of it after an error.
    fn put_temporary(&self, path: &str, bytes: &[u8]) -> Result<String, DirError> {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let n = LAST.fetch_add(1, Ordering::Relaxed);
        let temporary = format!("{path}.{}-{n}{TEMPORARY}", std::process::id());
        let written = File::create(self.full(&temporary)).and_then(|file| {
            file.write_all_at(bytes, 0)?;
            file.sync_all()
        });
        written.map_err(self.fail("write", path)).inspect_err(|_| {
            // The first error is the one to tell; what stays has a name that says it can go.
            let _ = fs::remove_file(self.full(&temporary));
        })?;
        Ok(temporary)
    }
}

struct OsFile {
    file: File,
    path: PathBuf,
}

impl OsFile {
    fn fail(&self, action: &'static str) -> impl FnOnce(io::Error) -> DirError {
        move |error| DirError::new(action, self.path.display(), &error)
    }
}

impl DirFile for OsFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DirError> {
        self.file.write_all_at(bytes, offset).map_err(self.fail("write"))
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DirError> {
        let mut n = 0;
        while n < buffer.len() {
            match self.file.read_at(&mut buffer[n..], offset + n as u64) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fail("read")(error)),
            }
        }
        Ok(n)
    }
    fn len(&self) -> Result<u64, DirError> {
        Ok(self.file.metadata().map_err(self.fail("read the length of"))?.len())
    }
    fn sync(&self) -> Result<(), DirError> {
        self.file.sync_data().map_err(self.fail("sync"))
    }
    fn truncate(&self, len: u64) -> Result<(), DirError> {
        self.file.set_len(len).map_err(self.fail("truncate"))
    }
    fn preallocate(&self, len: u64) -> Result<(), DirError> {
        fallocate(&self.file, FallocateFlags::empty(), 0, len).map_err(|e| self.fail("preallocate")(e.into()))
    }
}

impl Dir for OsDir {
    fn create(&self, path: &str) -> Result<Arc<dyn DirFile>, DirError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(self.full(path));
        Ok(self.file(path, file.map_err(self.fail("create", path))?))
    }
    fn open(&self, path: &str) -> Result<Arc<dyn DirFile>, DirError> {
        let file = OpenOptions::new().read(true).write(true).open(self.full(path));
        Ok(self.file(path, file.map_err(self.fail("open", path))?))
    }
    fn create_folder(&self, path: &str) -> Result<(), DirError> {
        let mut made = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let parent = made.clone();
            if !made.is_empty() {
                made.push('/');
            }
            made.push_str(part);
            match fs::create_dir(self.full(&made)) {
                Ok(()) => self.sync_folder(&parent)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.fail("create folder", &made)(error)),
            }
        }
        Ok(())
    }
    fn sync_folder(&self, path: &str) -> Result<(), DirError> {
        let folder = File::open(self.full(path)).map_err(self.fail("open folder", path))?;
        folder.sync_all().map_err(self.fail("sync folder", path))
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DirError> {
        fs::rename(self.full(from), self.full(to)).map_err(self.fail("rename", from))
    }
    fn remove(&self, path: &str) -> Result<(), DirError> {
        fs::remove_file(self.full(path)).map_err(self.fail("remove", path))
    }
    fn remove_folder(&self, path: &str) -> Result<(), DirError> {
        fs::remove_dir(self.full(path)).map_err(self.fail("remove folder", path))
    }
    fn list(&self, folder: &str) -> Result<Vec<String>, DirError> {
        let entries = match fs::read_dir(self.full(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.fail("list", folder)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(self.fail("list", folder))?;
            let is_folder = entry.file_type().map_err(self.fail("list", folder))?.is_dir();
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(if is_folder { format!("{name}/") } else { name });
            }
        }
        names.sort_unstable();
        Ok(names)
    }
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<(), DirError> {
        let temporary = self.put_temporary(path, bytes)?;
        // A hard link, unlike a rename, fails when the name is taken.
        let linked = fs::hard_link(self.full(&temporary), self.full(path)).map_err(self.fail("create", path));
        self.remove(&temporary)?;
        linked?;
        self.sync_folder(folder_of(path))
    }
    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DirError> {
        let temporary = self.put_temporary(path, bytes)?;
        self.rename(&temporary, path)?;
        self.sync_folder(folder_of(path))
    }
    fn free_bytes(&self) -> Result<u64, DirError> {
        let stat = statvfs(&self.root).map_err(|e| self.fail("ask the free room of", "")(e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}
