//! Files as a parameter: what durable stores ask of a disk, so that a test can hand them a simulated one.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

/// What a caller treats differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirErrorKind {
    NotFound,
    Exists,
    /// No room on the device, or over a quota. Goes away when somebody makes room.
    Full,
    Other,
}

/// A failed operation, with the path it was about.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {action} {path}: {cause}")]
pub struct DirError {
    pub kind: DirErrorKind,
    pub action: &'static str,
    pub path: String,
    pub cause: String,
}

impl DirError {
    pub fn new(action: &'static str, path: impl fmt::Display, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => DirErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => DirErrorKind::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DirErrorKind::Full,
            _ => DirErrorKind::Other,
        };
        Self { kind, action, path: path.to_string(), cause: error.to_string() }
    }
    pub fn is_full(&self) -> bool {
        self.kind == DirErrorKind::Full
    }
}

/// An open file. Writers keep their own offset; one writer at a time, any number of readers.
pub trait DirFile: Send + Sync {
    /// Writes all of `bytes`; the file grows as needed. Durable only after [`DirFile::sync`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DirError>;
    /// Reads until `buffer` is full or the file ends; answers how much.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DirError>;
    fn len(&self) -> Result<u64, DirError>;
    fn is_empty(&self) -> Result<bool, DirError> {
        Ok(self.len()? == 0)
    }
    /// Content and length become durable (`fdatasync`). After an error nothing is known of what was
    /// written since the last success, and a second try proves nothing: use another file.
    fn sync(&self) -> Result<(), DirError>;
    fn truncate(&self, len: u64) -> Result<(), DirError>;
    /// Takes room for the first `len` bytes, zero until written, so that writes there cannot hit a full disk.
    fn preallocate(&self, len: u64) -> Result<(), DirError>;
    /// `len` bytes from `offset`; fewer in the file is an error.
    fn read_exact_at(&self, offset: u64, len: usize) -> Result<Bytes, DirError> {
        let mut buffer = vec![0; len];
        let n = self.read_at(offset, &mut buffer)?;
        if n < len {
            let short = io::Error::new(io::ErrorKind::UnexpectedEof, format!("{n} of {len} bytes at {offset}"));
            return Err(DirError::new("read", "an open file", &short));
        }
        Ok(buffer.into())
    }
}

/// A folder and what is below it. Paths are relative, parts separated by `/`; `""` is the folder itself.
///
/// All calls block. A new, renamed or removed name is durable after [`Dir::sync_folder`] of its folder,
/// and a file's content after [`DirFile::sync`]; [`Dir::put_new`] and [`Dir::replace`] do both.
pub trait Dir: Send + Sync {
    /// An empty file that did not exist.
    fn create(&self, path: &str) -> Result<Arc<dyn DirFile>, DirError>;
    /// An existing file, for reading and writing.
    fn open(&self, path: &str) -> Result<Arc<dyn DirFile>, DirError>;
    /// The folder and its parents, durable; fine when they exist.
    fn create_folder(&self, path: &str) -> Result<(), DirError>;
    fn sync_folder(&self, path: &str) -> Result<(), DirError>;
    /// Replaces `to` if it exists.
    fn rename(&self, from: &str, to: &str) -> Result<(), DirError>;
    fn remove(&self, path: &str) -> Result<(), DirError>;
    /// A folder that is empty.
    fn remove_folder(&self, path: &str) -> Result<(), DirError>;
    /// Sorted names in a folder; sub-folders end in `/`. A folder that does not exist is empty.
    fn list(&self, folder: &str) -> Result<Vec<String>, DirError>;
    /// A whole new file, durable, visible at once or not at all; [`DirErrorKind::Exists`] when there is one.
    fn put_new(&self, path: &str, bytes: &[u8]) -> Result<(), DirError>;
    /// A whole file in place of another or of none, durable, visible at once or not at all.
    fn replace(&self, path: &str, bytes: &[u8]) -> Result<(), DirError>;
    /// Room left on the device.
    fn free_bytes(&self) -> Result<u64, DirError>;

    /// A whole file.
    fn read(&self, path: &str) -> Result<Bytes, DirError> {
        let file = self.open(path)?;
        let len = usize::try_from(file.len()?).unwrap_or(usize::MAX);
        let mut buffer = vec![0; len];
        let n = file.read_at(0, &mut buffer)?;
        buffer.truncate(n);
        Ok(buffer.into())
    }
}

/// The folder of a path; `""` for a bare name.
pub fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The name that a file has until it is whole. Left-overs of a crash end like this and can be removed.
pub const TEMPORARY: &str = ".tmp";
