//! Reading the log back, and repairing its end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::dir::{Dir, DirError};
use crate::frame::{Found, SEGMENT_HEADER_BYTES, SegmentHeader, find, read_segment_header};
use crate::log::{LogError, Position};
use crate::writer::segment_path;

/// A stretch of a segment that could not be read as frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub path: String,
    pub offset: u64,
    pub bytes: u64,
    /// Whether it was the torn end of the last segment, which was cut off: frames that were being
    /// written when the machine went off, and so never acknowledged.
    pub is_torn_tail: bool,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, offset, bytes, is_torn_tail } = self;
        if *is_torn_tail {
            write!(f, "{path}: torn end of {bytes} bytes cut off at offset {offset}")
        } else {
            write!(f, "{path}: {bytes} damaged bytes at offset {offset} skipped")
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    /// Shares the memory of its whole segment.
    pub payload: Bytes,
    pub end: Position,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    Frame(Frame),
    Damage(Damage),
}

/// Holds one segment in memory at a time. After an error it goes on with the next segment.
pub struct Replay {
    dir: Arc<dyn Dir>,
    folder: String,
    segments: VecDeque<u64>,
    from: Position,
    current: Option<Segment>,
}

struct Segment {
    number: u64,
    path: String,
    bytes: Bytes,
    at: usize,
}

impl Replay {
    pub(crate) fn new(dir: Arc<dyn Dir>, folder: String, segments: VecDeque<u64>, from: Position) -> Self {
        Self { dir, folder, segments, from, current: None }
    }

    fn open(&mut self, number: u64) -> Result<Option<Damage>, LogError> {
        let path = segment_path(&self.folder, number);
        let (segment, damage) = open(&*self.dir, path, number)?;
        self.current = Some(segment);
        Ok(damage)
    }
}

fn open(dir: &dyn Dir, path: String, number: u64) -> Result<(Segment, Option<Damage>), LogError> {
    let bytes = dir.read(&path)?;
    let damage = match read_segment_header(&bytes, number) {
        SegmentHeader::Fine => None,
        SegmentHeader::Version(version) => return Err(LogError::Version { path, version }),
        SegmentHeader::Damaged => {
            let bytes = bytes.len().min(SEGMENT_HEADER_BYTES) as u64;
            Some(Damage { path: path.clone(), offset: 0, bytes, is_torn_tail: false })
        }
    };
    Ok((Segment { number, path, at: SEGMENT_HEADER_BYTES.min(bytes.len()), bytes }, damage))
}

impl Segment {
    fn next(&mut self) -> Option<Replayed> {
        match find(&self.bytes, self.number, self.at) {
            Found::Frame { kind, payload } => {
                self.at = payload.end;
                let end = Position { segment: self.number, offset: payload.end as u64 };
                Some(Replayed::Frame(Frame { kind, payload: self.bytes.slice(payload), end }))
            }
            Found::Damage { end } => {
                let offset = self.at as u64;
                self.at = end;
                let bytes = end as u64 - offset;
                Some(Replayed::Damage(Damage { path: self.path.clone(), offset, bytes, is_torn_tail: false }))
            }
            Found::End => None,
        }
    }
}

impl Segment {
    /// Where the last readable frame ends; 0 when there is none.
    fn whole_bytes(&mut self) -> u64 {
        let mut whole = 0;
        while let Some(found) = self.next() {
            if let Replayed::Frame(frame) = found {
                whole = frame.end.offset;
            }
        }
        whole
    }
}

impl Iterator for Replay {
    type Item = Result<Replayed, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(segment) = &mut self.current else {
                let number = self.segments.pop_front()?;
                match self.open(number) {
                    Ok(None) => continue,
                    Ok(Some(damage)) => return Some(Ok(Replayed::Damage(damage))),
                    Err(error) => return Some(Err(error)),
                }
            };
            match segment.next() {
                None => self.current = None,
                Some(Replayed::Frame(frame)) if frame.end <= self.from => {}
                Some(item) => return Some(Ok(item)),
            }
        }
    }
}

pub(crate) struct Repaired {
    pub damage: Option<Damage>,
    /// Length of the segment now; `None` when nothing was in it and it is gone.
    pub len: Option<u64>,
}

/// Cuts what follows the last readable frame of the last segment; removes a segment without any.
pub(crate) fn repair(dir: &dyn Dir, folder: &str, last: u64) -> Result<Repaired, LogError> {
    let path = segment_path(folder, last);
    // Twice, as what a single read got wrong must not be cut off.
    let (mut segment, mut header) = open(dir, path.clone(), last)?;
    let mut whole = segment.whole_bytes();
    if whole < segment.bytes.len() as u64 {
        let (mut again, header_again) = open(dir, path.clone(), last)?;
        let whole_again = again.whole_bytes();
        if whole < whole_again {
            (segment, header, whole) = (again, header_again, whole_again);
        }
    }
    let len = segment.bytes.len() as u64;
    if whole == 0 {
        dir.remove(&path)?;
        dir.sync_folder(folder)?;
        let is_empty = header.is_none() && segment.bytes[SEGMENT_HEADER_BYTES..].iter().all(|b| *b == 0);
        let damage = (!is_empty && len > 0).then_some(Damage { path, offset: 0, bytes: len, is_torn_tail: true });
        return Ok(Repaired { damage, len: None });
    }
    let tail = &segment.bytes[usize::try_from(whole).unwrap_or(usize::MAX)..];
    if tail.is_empty() {
        return Ok(Repaired { damage: None, len: Some(len) });
    }
    let is_room = tail.iter().all(|b| *b == 0);
    cut(dir, &path, whole)?;
    let damage = (!is_room).then_some(Damage { path, offset: whole, bytes: len - whole, is_torn_tail: true });
    Ok(Repaired { damage, len: Some(whole) })
}

fn cut(dir: &dyn Dir, path: &str, len: u64) -> Result<(), DirError> {
    let file = dir.open(path)?;
    file.truncate(len)?;
    file.sync()
}
