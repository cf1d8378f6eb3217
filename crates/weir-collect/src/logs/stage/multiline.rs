//! `multiline`: lines from one that begins a block up to the next are one entry.

use std::time::Duration;

use serde::Deserialize;
use weir_model::Nanos;

use super::{Next, required};
use crate::logs::entry::Entry;
use crate::logs::pipeline::{Block, Held, after};

/// A block that grows beyond is let go: memory is bounded, and the store takes no longer lines.
const BLOCK_BYTES_MAX: usize = 256 << 10;
/// Streams of one file with a block under way.
const STREAMS_MAX: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MultilineFile {
    firstline: Option<String>,
    max_lines: Option<usize>,
    max_wait_time: Option<String>,
}

#[derive(Debug)]
pub struct Multiline {
    first: regex::Regex,
    lines_max: usize,
    wait: Duration,
}

impl MultilineFile {
    pub fn check(self) -> Result<Multiline, String> {
        let first = required("firstline", self.firstline)?;
        let wait = match self.max_wait_time {
            None => Duration::from_secs(3),
            Some(text) => {
                let nanos = weir_go::parse_go_duration(&text).map_err(|e| format!("max_wait_time: {e}"))?;
                Duration::from_nanos(u64::try_from(nanos).map_err(|_| "max_wait_time is negative")?)
            }
        };
        Ok(Multiline {
            first: weir_go::regex(&first).map_err(|e| e.to_string())?,
            lines_max: self.max_lines.unwrap_or(128).max(1),
            wait,
        })
    }
}

impl Multiline {
    pub fn run(&self, entry: Entry, held: &mut Held, now: Nanos) -> Next {
        let due = after(now, self.wait);
        let mut out = Vec::new();
        if self.first.is_match(&entry.line) {
            out.extend(held.take(&entry.labels).map(|block| block.entry));
            Self::begin(entry, held, due, &mut out);
        } else if let Some(block) = held.get(&entry.labels) {
            block.entry.line.push('\n');
            block.entry.line.push_str(&entry.line);
            block.n_lines += 1;
            block.due = due;
            if block.n_lines >= self.lines_max || block.entry.line.len() >= BLOCK_BYTES_MAX {
                let stream = entry.labels;
                out.extend(held.take(&stream).map(|block| block.entry));
            }
        } else if held.has_begun(&entry.labels) {
            // The rest of a block that was let go.
            Self::begin(entry, held, due, &mut out);
        } else {
            // The file begins in the middle of a block.
            return Next::One(entry);
        }
        if out.is_empty() { Next::None } else { Next::Many(out) }
    }

    fn begin(entry: Entry, held: &mut Held, due: Nanos, out: &mut Vec<Entry>) {
        if held.len() >= STREAMS_MAX {
            out.extend(held.take_oldest().map(|block| block.entry));
        }
        held.put(Block { stream: entry.labels.clone(), entry, n_lines: 1, due });
    }
}
