//! An immutable run of log rows, sorted by stream, time and arrival, as columns.
//!
//! `docs/format/log-segment.md` draws the bytes.

use std::sync::Arc;

use bytes::Bytes;
use weir_model::{Label, Labels, Nanos};

use super::bytes::{Damaged, Reader, put_bytes, put_int, put_uint};
use super::column::ColumnMeta;
use super::split::VAR;

/// Most rows of a segment.
pub(crate) const ROWS_MAX: usize = 1 << 22;
pub(crate) const MAGIC: &[u8; 8] = b"WEIRLOG1";
/// Magic, three lengths, three checksums, the checksum of all these.
pub(crate) const HEADER_BYTES: usize = 8 + 3 * 4 + 3 * 4 + 4;
/// Where the header holds the filter's checksum.
pub(crate) const FILTER_SUM_AT: usize = 28;
const HEAD_PLAIN_MAX: usize = 1 << 28;

/// The rows of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub labels: Labels,
    pub first: u32,
    pub n: u32,
    pub min: Nanos,
    pub max: Nanos,
    /// Bytes of its lines.
    pub line_bytes: u64,
}

/// What the lines of some rows have in common.
#[derive(Debug)]
pub(crate) struct Template {
    /// One more than the line has variables.
    pub literals: Vec<Box<[u8]>>,
    pub is_json: bool,
    /// Of the structured metadata; their columns follow those of the line.
    pub names: Vec<Arc<str>>,
    pub n_rows: u32,
    pub columns: Vec<ColumnMeta>,
}

impl Template {
    pub(crate) fn n_line_vars(&self) -> usize {
        self.literals.len() - 1
    }
}

#[derive(Debug)]
pub(crate) struct Head {
    pub n_rows: u32,
    pub min: Nanos,
    pub max: Nanos,
    /// In the order of their labels.
    pub runs: Vec<Run>,
    pub templates: Vec<Template>,
    /// Which template a row has; where its bytes stand in the data.
    pub template_ids: (usize, usize),
    pub times: (usize, usize),
}

impl Head {
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uint(&mut out, u64::from(self.n_rows));
        put_int(&mut out, self.min.0);
        put_int(&mut out, self.max.0.wrapping_sub(self.min.0));
        for (at, len) in [self.template_ids, self.times] {
            put_uint(&mut out, at as u64);
            put_uint(&mut out, len as u64);
        }
        put_uint(&mut out, self.runs.len() as u64);
        for run in &self.runs {
            put_uint(&mut out, run.labels.len() as u64);
            for label in &run.labels {
                put_bytes(&mut out, label.name.as_bytes());
                put_bytes(&mut out, label.value.as_bytes());
            }
            put_uint(&mut out, u64::from(run.n));
            put_int(&mut out, run.min.0.wrapping_sub(self.min.0));
            put_int(&mut out, run.max.0.wrapping_sub(self.min.0));
            put_uint(&mut out, run.line_bytes);
        }
        put_uint(&mut out, self.templates.len() as u64);
        for template in &self.templates {
            let text = template.literals.join(&VAR);
            put_bytes(&mut out, &text);
            out.push(u8::from(template.is_json));
            put_uint(&mut out, template.names.len() as u64);
            template.names.iter().for_each(|name| put_bytes(&mut out, name.as_bytes()));
            put_uint(&mut out, u64::from(template.n_rows));
            template.columns.iter().for_each(|column| column.write(&mut out));
        }
        out
    }

    /// From the written part, its checksum compared with the one in the segment's header.
    pub(crate) fn open(header: &[u8], part: &[u8], data_len: usize) -> Result<Self, Damaged> {
        check("head", header, 20, part)?;
        let mut reader = Reader::new("head", part);
        let plain_len = reader.len(HEAD_PLAIN_MAX)?;
        let plain = zstd::bulk::decompress(reader.rest(), plain_len);
        let plain = plain.map_err(|_| Damaged { part: "head", at: 0, what: "a broken zstd frame" })?;
        Self::read(&plain, data_len)
    }

    fn read(plain: &[u8], data_len: usize) -> Result<Self, Damaged> {
        let mut reader = Reader::new("head", plain);
        let n_rows = reader.len(ROWS_MAX)? as u32;
        let min = reader.int()?;
        let max = min.wrapping_add(reader.int()?);
        let mut place = || -> Result<(usize, usize), Damaged> {
            let at = reader.len(data_len)?;
            Ok((at, reader.len(data_len - at)?))
        };
        let (template_ids, times) = (place()?, place()?);
        let n_runs = reader.count()?;
        let mut runs = Vec::with_capacity(n_runs);
        let mut first = 0;
        for _ in 0..n_runs {
            let run = read_run(&mut reader, min, first, n_rows)?;
            first += run.n;
            runs.push(run);
        }
        let n_templates = reader.count()?;
        let mut templates = Vec::with_capacity(n_templates);
        let mut total = 0_u64;
        for _ in 0..n_templates {
            let template = read_template(&mut reader, data_len)?;
            total += u64::from(template.n_rows);
            templates.push(template);
        }
        if first != n_rows || total != u64::from(n_rows) {
            return Err(reader.damaged("streams or templates do not add up to the rows"));
        }
        Ok(Self { n_rows, min: Nanos(min), max: Nanos(max), runs, templates, template_ids, times })
    }
}

fn read_run(reader: &mut Reader<'_>, min: i64, first: u32, n_rows: u32) -> Result<Run, Damaged> {
    let n_labels = reader.count()?;
    let mut labels = Vec::with_capacity(n_labels);
    for _ in 0..n_labels {
        labels.push(Label { name: reader.text()?.into(), value: reader.text()?.into() });
    }
    let labels = Labels::try_from_vec(labels).map_err(|_| reader.damaged("a label twice in a stream"))?;
    let n = reader.len((n_rows - first) as usize)? as u32;
    let mut time = || reader.int().map(|t| Nanos(min.wrapping_add(t)));
    let (from, to) = (time()?, time()?);
    Ok(Run { labels, first, n, min: from, max: to, line_bytes: reader.uint()? })
}

fn read_template(reader: &mut Reader<'_>, data_len: usize) -> Result<Template, Damaged> {
    let text = reader.bytes()?;
    let literals: Vec<Box<[u8]>> = text.split(|b| *b == VAR).map(Into::into).collect();
    if literals.iter().any(|l| std::str::from_utf8(l).is_err()) {
        return Err(reader.damaged("a template that is no UTF-8"));
    }
    let is_json = reader.byte()? != 0;
    let names: Vec<Arc<str>> = (0..reader.count()?).map(|_| reader.text().map(Into::into)).collect::<Result<_, _>>()?;
    let n_rows = reader.len(ROWS_MAX)? as u32;
    let mut columns = Vec::new();
    for _ in 0..literals.len() - 1 + names.len() {
        let column = ColumnMeta::read(reader, &columns, data_len)?;
        columns.push(column);
    }
    Ok(Template { literals, is_json, names, n_rows, columns })
}

/// Compares a part with its checksum in the header.
pub(crate) fn check(part: &'static str, header: &[u8], at: usize, bytes: &[u8]) -> Result<(), Damaged> {
    let is_right = header.get(at..at + 4) == Some(&crc32c::crc32c(bytes).to_le_bytes());
    if is_right { Ok(()) } else { Err(Damaged { part, at: 0, what: "wrong checksum" }) }
}

/// A segment in memory.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Grows with each segment: of equal times, the lower one's row came first.
    pub id: u64,
    pub head: Arc<Head>,
    pub data: Bytes,
    /// See [`super::bloom`].
    pub filter: Bytes,
    /// Header, head, data and filter as they are written.
    pub bytes: Bytes,
}

/// The lengths in a segment's header: head, data, filter.
pub(crate) fn lengths(header: &[u8]) -> Result<[usize; 3], Damaged> {
    let damaged = |what| Damaged { part: "header", at: 0, what };
    let word = |at: usize| header.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    if header.len() < HEADER_BYTES || !header.starts_with(MAGIC) {
        return Err(damaged("no log segment of this version"));
    }
    if word(HEADER_BYTES - 4) != Some(crc32c::crc32c(&header[..HEADER_BYTES - 4])) {
        return Err(damaged("wrong checksum"));
    }
    Ok([8, 12, 16].map(|at| word(at).unwrap_or(0) as usize))
}

impl Segment {
    /// Head, data and filter into the bytes of a segment.
    pub(crate) fn assemble(head: &Head, data: &[u8], filter: &[u8]) -> Bytes {
        let plain = head.write();
        let mut written = Vec::with_capacity(plain.len() / 2 + 16);
        put_uint(&mut written, plain.len() as u64);
        written.extend_from_slice(&super::text::compress(&plain));
        let parts = [written.as_slice(), data, filter];
        let mut bytes = Vec::with_capacity(HEADER_BYTES + parts.iter().map(|p| p.len()).sum::<usize>());
        bytes.extend_from_slice(MAGIC);
        parts.iter().for_each(|p| bytes.extend_from_slice(&(p.len() as u32).to_le_bytes()));
        parts.iter().for_each(|p| bytes.extend_from_slice(&crc32c::crc32c(p).to_le_bytes()));
        let sum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        parts.iter().for_each(|p| bytes.extend_from_slice(p));
        bytes.into()
    }

    /// Checks every checksum.
    pub(crate) fn open(id: u64, bytes: Bytes) -> Result<Self, Damaged> {
        let [head_len, data_len, filter_len] = lengths(&bytes)?;
        let data_at = HEADER_BYTES + head_len;
        let filter_at = data_at + data_len;
        let end = filter_at + filter_len;
        if end > bytes.len() {
            return Err(Damaged { part: "segment", at: bytes.len(), what: "ends too early" });
        }
        let bytes = bytes.slice(..end);
        let (data, filter) = (bytes.slice(data_at..filter_at), bytes.slice(filter_at..));
        check("data", &bytes, 24, &data)?;
        check("filter", &bytes, FILTER_SUM_AT, &filter)?;
        let head = Arc::new(Head::open(&bytes, &bytes[HEADER_BYTES..data_at], data_len)?);
        Ok(Self { id, head, data, filter, bytes })
    }

    pub(crate) fn slice(&self, place: (usize, usize)) -> &[u8] {
        self.data.get(place.0..place.0 + place.1).unwrap_or_default()
    }
}
