//! How far each file was read, as it is kept between runs (`docs/format/log-positions.md`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::files::{FileId, OpenFile};
use crate::md5::md5;

/// What tells one file from another with the same number: its first bytes.
const HEAD_BYTES: usize = 1024;

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Positions {
    pub version: u32,
    pub files: Vec<Position>,
}

/// The version written here.
const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Position {
    pub job: String,
    /// Where the file was found first; its lines are labelled with it.
    pub path: String,
    pub device: u64,
    pub inode: u64,
    pub head: Head,
    /// Everything before was taken by the receiver.
    pub offset: u64,
    /// Whether `offset` lies in a line whose start was too long.
    #[serde(default)]
    pub skipping: bool,
    /// What was under way from `offset` on, so that lines that are read again get the times they had.
    #[serde(default)]
    pub chunks: Vec<Chunk>,
    /// When it was last seen, in milliseconds.
    pub seen_ms: i64,
}

impl Position {
    pub fn id(&self) -> FileId {
        FileId { device: self.device, inode: self.inode }
    }
}

/// Bytes that were read at one time. A line at `offset + n` has the time `at + n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Chunk {
    pub offset: u64,
    pub len: u64,
    /// Nanoseconds.
    pub at: i64,
}

impl Chunk {
    pub fn end(&self) -> u64 {
        self.offset + self.len
    }
}

/// The first bytes of a file, as far as there were any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub len: usize,
    /// MD5 in hexadecimal.
    pub digest: String,
}

impl Head {
    pub fn read(file: &dyn OpenFile) -> std::io::Result<Self> {
        let mut buffer = [0; HEAD_BYTES];
        let n = file.read_at(0, &mut buffer)?;
        Ok(Self::of(&buffer[..n]))
    }

    fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len(), digest: md5(bytes).iter().map(|b| format!("{b:02x}")).collect() }
    }

    /// Whether a file still begins like this; the longer head when it does.
    pub fn grown(&self, file: &dyn OpenFile) -> std::io::Result<Option<Self>> {
        let mut buffer = [0; HEAD_BYTES];
        let n = file.read_at(0, &mut buffer)?;
        if n < self.len || Self::of(&buffer[..self.len]) != *self {
            return Ok(None);
        }
        Ok(Some(if n == self.len { self.clone() } else { Self::of(&buffer[..n]) }))
    }
}

impl Positions {
    pub fn new(files: Vec<Position>) -> Self {
        Self { version: VERSION, files }
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and texts")
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if read.version != VERSION {
            return Err(format!("version {} of another weir; this one reads {VERSION}", read.version));
        }
        Ok(read)
    }
}

/// Offsets by path from a positions file of Promtail. Cursors of other targets are passed over.
pub(crate) fn parse_promtail(text: &str) -> Result<BTreeMap<String, u64>, String> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        positions: Option<BTreeMap<String, String>>,
    }
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let file: File = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    let offset = |(path, text): (String, String)| Some((path, text.parse().ok()?));
    Ok(file.positions.unwrap_or_default().into_iter().filter_map(offset).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_come_back_and_promtails_are_read() {
        let position = Position {
            job: "j".into(),
            path: "/a".into(),
            device: 1,
            inode: 2,
            head: Head::of(b"abc"),
            offset: 7,
            skipping: true,
            chunks: vec![Chunk { offset: 7, len: 3, at: 1_700_000_000_000_000_000 }],
            seen_ms: 5,
        };
        let all = Positions::new(vec![position]);
        assert_eq!(Positions::decode(&all.encode()).unwrap(), all);
        assert!(Positions::decode(b"{\"version\":9,\"files\":[]}").unwrap_err().contains("version 9"));
        assert!(Positions::decode(b"{\"vers").is_err());
        let text = "positions:\n  /var/log/a.log: \"123\"\n  cursor-journal: \"s=1;i=2\"\n";
        assert_eq!(parse_promtail(text).unwrap(), BTreeMap::from([("/var/log/a.log".to_owned(), 123)]));
        assert_eq!(parse_promtail("").unwrap(), BTreeMap::new());
        assert!(parse_promtail("positions: [").is_err());
    }
}
