//! Puts batches of frames into segment files. One thread at a time: whoever leads the group commit.

use std::sync::Arc;

use crate::dir::{Dir, DirError, DirFile};
use crate::frame::{SEGMENT_HEADER_BYTES, segment_header};
use crate::log::Position;

pub(crate) fn segment_path(folder: &str, segment: u64) -> String {
    format!("{folder}/{segment:016x}.wal")
}

pub(crate) fn segment_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Encoded frames that follow each other in one segment.
pub(crate) struct Chunk {
    pub segment: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

/// Where the files go and how.
pub(crate) struct Target {
    pub dir: Arc<dyn Dir>,
    pub folder: String,
    pub preallocate_bytes: u64,
    #[cfg(feature = "mutants")]
    pub mutant: Option<crate::log::Mutant>,
}

/// The segment that is written to.
pub(crate) struct Writer {
    pub segment: u64,
    file: Arc<dyn DirFile>,
    /// Up to where the file is known to be durable.
    synced_bytes: u64,
    written_bytes: u64,
    sync_failed: bool,
}

impl Target {
    pub fn path(&self, segment: u64) -> String {
        segment_path(&self.folder, segment)
    }

    fn create(&self, segment: u64) -> Result<Writer, DirError> {
        let path = self.path(segment);
        let file = self.dir.create(&path)?;
        let mut writer = Writer { segment, file, synced_bytes: 0, written_bytes: 0, sync_failed: false };
        let start = || {
            if self.preallocate_bytes > 0 {
                writer.file.preallocate(self.preallocate_bytes)?;
            }
            writer.file.write_at(0, &segment_header(segment))?;
            self.dir.sync_folder(&self.folder)
        };
        if let Err(error) = start() {
            // It holds nothing; if it stays, it is an empty segment.
            let _ = self.dir.remove(&path);
            return Err(error);
        }
        writer.written_bytes = SEGMENT_HEADER_BYTES as u64;
        Ok(writer)
    }

    fn sync(&self, writer: &mut Writer) -> Result<(), DirError> {
        if writer.synced_bytes < writer.written_bytes {
            self.sync_file(&*writer.file).inspect_err(|_| writer.sync_failed = true)?;
            writer.synced_bytes = writer.written_bytes;
        }
        Ok(())
    }

    #[cfg(not(feature = "mutants"))]
    fn sync_file(&self, file: &dyn DirFile) -> Result<(), DirError> {
        file.sync()
    }

    #[cfg(feature = "mutants")]
    fn sync_file(&self, file: &dyn DirFile) -> Result<(), DirError> {
        use crate::log::Mutant;
        match self.mutant {
            Some(Mutant::SkipSync) => Ok(()),
            Some(Mutant::RetrySync) => file.sync().or_else(|_| file.sync()),
            _ => file.sync(),
        }
    }

    /// Writes `chunks`, opening segments as they ask, and syncs if `sync`. After an error the writer is
    /// as far as it came.
    pub fn write(&self, writer: &mut Option<Writer>, chunks: &[Chunk], sync: bool) -> Result<(), DirError> {
        for chunk in chunks {
            if let Some(full) = writer.as_mut().filter(|w| w.segment != chunk.segment) {
                // Before the next segment holds anything, so that what is durable is a prefix.
                self.sync(full)?;
            }
            let open = match writer.take_if(|w| w.segment == chunk.segment) {
                Some(same) => writer.insert(same),
                None => writer.insert(self.create(chunk.segment)?),
            };
            open.file.write_at(chunk.offset, &chunk.bytes)?;
            open.written_bytes = chunk.offset + chunk.bytes.len() as u64;
        }
        if let Some(open) = writer.as_mut().filter(|_| sync) {
            self.sync(open)?;
        }
        Ok(())
    }

    /// After an error: leaves in the file what is durable and cuts off the rest, so that nobody reads
    /// from the page cache what may not be on the disk. As good as it can be done on a failing disk.
    pub fn give_up(&self, writer: &mut Writer) {
        if !writer.sync_failed {
            // A write failed, perhaps for want of room; what was written before it is still good.
            let _ = self.sync(writer);
        }
        if writer.synced_bytes > SEGMENT_HEADER_BYTES as u64 {
            let _ = writer.file.truncate(writer.synced_bytes).and_then(|()| writer.file.sync());
        } else {
            let _ = self.dir.remove(&self.path(writer.segment));
        }
    }
}

impl Writer {
    pub fn synced(&self) -> Position {
        Position { segment: self.segment, offset: self.synced_bytes }
    }
}
