//! What tailing asks of a file system, so that a test can hand it a simulated one.

use std::io;
use std::path::Path;

/// Which file, whatever it is called: a renamed file keeps it, and a number may come again once its file is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    pub id: FileId,
    pub len: u64,
    /// When its bytes changed last, in nanoseconds.
    pub changed: i64,
    pub is_folder: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    /// Of a file or a folder.
    Link,
}

/// An open file; stays readable when it is renamed or removed.
pub trait OpenFile: Send {
    fn about(&self) -> io::Result<About>;
    /// Reads until `buffer` is full or the file ends; answers how much.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

/// All calls block.
pub trait Files: Send + Sync {
    /// Names in a folder that are UTF-8, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, Kind)>>;
    /// Through links.
    fn about(&self, path: &Path) -> io::Result<About>;
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
}

/// The machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsFiles;

impl Files for OsFiles {
    fn list(&self, folder: &Path) -> io::Result<Vec<(String, Kind)>> {
        let mut out = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(kind) = entry.file_type() else { continue };
            let kind = match (kind.is_dir(), kind.is_symlink()) {
                (true, _) => Kind::Folder,
                (_, true) => Kind::Link,
                _ => Kind::File,
            };
            out.push((name, kind));
        }
        Ok(out)
    }

    fn about(&self, path: &Path) -> io::Result<About> {
        std::fs::metadata(path).map(|m| about(&m))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        // A pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(Box::new(std::fs::File::open(path)?))
    }
}

impl OpenFile for std::fs::File {
    fn about(&self) -> io::Result<About> {
        self.metadata().map(|m| about(&m))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let mut n = 0;
        while n < buffer.len() {
            match FileExt::read_at(self, &mut buffer[n..], offset + n as u64) {
                Ok(0) => break,
                Ok(more) => n += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(n)
    }
}

fn about(metadata: &std::fs::Metadata) -> About {
    use std::os::unix::fs::MetadataExt;
    About {
        id: FileId { device: metadata.dev(), inode: metadata.ino() },
        len: metadata.len(),
        changed: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        is_folder: metadata.is_dir(),
    }
}
