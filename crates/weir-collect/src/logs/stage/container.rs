//! `cri` and `docker`: lines as container runtimes write them.

use std::time::Duration;

use serde::Deserialize;
use weir_model::Nanos;

use super::Next;
use crate::logs::entry::{Entry, Value};
use crate::logs::pipeline::{Around, Block, Held, after};

/// A part of a line whose end does not come is let go: its container may have died.
const PART_WAIT: Duration = Duration::from_secs(60);
/// Parts of one line together.
const LINE_BYTES_MAX: usize = 256 << 10;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CriFile {
    max_partial_lines: Option<usize>,
    max_partial_line_size: usize,
    max_partial_line_size_truncate: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DockerFile {}

/// `2026-01-01T00:00:00.000000001Z stdout F text`; `P` is a part of a line that goes on in the next.
#[derive(Debug)]
pub struct Cri {
    streams_max: usize,
    line_bytes_max: usize,
}

impl CriFile {
    pub fn check(self) -> Cri {
        let bytes = if self.max_partial_line_size_truncate { self.max_partial_line_size } else { 0 };
        Cri {
            streams_max: self.max_partial_lines.filter(|n| *n > 0).unwrap_or(100),
            line_bytes_max: if bytes == 0 { LINE_BYTES_MAX } else { bytes.min(LINE_BYTES_MAX) },
        }
    }
}

struct CriLine<'a> {
    time: &'a str,
    stream: &'a str,
    flags: &'a str,
    content: &'a str,
}

/// `None` for anything else.
fn cri_line(line: &str) -> Option<CriLine<'_>> {
    let (time, rest) = line.split_once(' ')?;
    let (stream, rest) = rest.split_once(' ')?;
    // Lines without text end behind the flags in some runtimes.
    let (flags, content) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_line = !time.is_empty() && matches!(stream, "stdout" | "stderr") && !flags.is_empty();
    is_line.then_some(CriLine { time, stream, flags, content })
}

impl Cri {
    pub fn run(&self, mut entry: Entry, held: &mut Held, around: &Around<'_>) -> Next {
        let Some(CriLine { time, stream, flags, content }) = cri_line(&entry.line) else { return Next::One(entry) };
        let at = rfc3339(time);
        // The first tag says; others may follow behind a colon.
        let is_part = flags.split(':').next() == Some("P");
        let found = [("time", time), ("stream", stream), ("flags", flags), ("content", content)];
        let found: Vec<(&str, Value)> = found.iter().map(|(name, text)| (*name, Value::from(*text))).collect();
        let (labels, content) = (entry.labels.with("stream", stream), content.to_owned());
        found.into_iter().for_each(|(name, value)| entry.extract(name, value));
        entry.labels = labels;
        entry.at = at.unwrap_or(entry.at);
        entry.line = content;
        if !is_part {
            let Some(block) = held.take(&entry.labels) else { return Next::One(entry) };
            entry.from = block.entry.from;
            let mut line = block.entry.line;
            self.append(&mut line, &entry.line, around);
            entry.line = line;
            return Next::One(entry);
        }
        if let Some(block) = held.get(&entry.labels) {
            self.append(&mut block.entry.line, &entry.line, around);
            block.due = after(around.now, PART_WAIT);
            return Next::None;
        }
        // Too many unfinished lines: the one that waits longest is let go as it is.
        let oldest = if held.len() >= self.streams_max { held.take_oldest() } else { None };
        let due = after(around.now, PART_WAIT);
        held.put(Block { stream: entry.labels.clone(), entry, n_lines: 1, due });
        oldest.map_or(Next::None, |block| Next::Many(vec![block.entry]))
    }

    fn append(&self, line: &mut String, part: &str, around: &Around<'_>) {
        let room = self.line_bytes_max.saturating_sub(line.len());
        if part.len() > room {
            around.metrics.cut_lines.inc();
        }
        line.push_str(&part[..part.floor_char_boundary(room)]);
    }
}

#[derive(Deserialize)]
struct DockerLine {
    log: Option<String>,
    stream: Option<String>,
    time: Option<String>,
}

/// `{"log": "text\n", "stream": "stdout", "time": "…"}`; anything else stays as it is.
pub(super) fn docker(entry: &mut Entry) {
    let Ok(line) = serde_json::from_str::<DockerLine>(&entry.line) else { return };
    if let Some(stream) = &line.stream {
        entry.extract("stream", Value::from(&**stream));
        entry.labels = entry.labels.with("stream", stream);
    }
    if let Some(time) = &line.time {
        entry.extract("timestamp", Value::from(&**time));
        entry.at = rfc3339(time).unwrap_or(entry.at);
    }
    if let Some(log) = line.log {
        entry.extract("output", Value::from(&*log));
        // The newline belongs to the file that the container wrote, not to the line.
        entry.line = log
            .strip_suffix('\n')
            .map_or_else(|| log.clone(), |text| text.strip_suffix('\r').unwrap_or(text).to_owned());
    }
}

/// With nanoseconds.
pub(crate) fn rfc3339(text: &str) -> Option<Nanos> {
    let time: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(time.as_nanosecond()).ok().map(Nanos)
}
