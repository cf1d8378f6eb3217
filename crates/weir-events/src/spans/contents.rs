//! What an open block keeps in memory: where its columns are, what many of its spans share, its ids.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use weir_model::{Nanos, Resource, Scope, SpanKind, StatusCode, TraceId};
use weir_wal::DirFile;

use super::build::fixed;
use super::bytes::{Corrupt, Reader};
use super::decode::{kind_of, status_of};
use super::encode::MAP;
use super::loose;
use super::packed::Packed;
use super::section::{Fault, Section};
use super::texts::Texts;

pub const ID_BYTES: usize = 20;

/// Consecutive rows whose columns are read together; traces are whole.
#[derive(Clone, Debug)]
pub struct Group {
    pub rows: Range<u32>,
    pub ordinals: Range<u32>,
    /// Of the starts.
    pub first: Nanos,
    pub last: Nanos,
}

#[derive(Clone, Copy, Debug)]
struct Part {
    group: u32,
    section: Section,
}

pub struct Column {
    /// Empty for the fixed ones.
    pub name: Arc<str>,
    pub kind: u8,
    parts: Vec<Part>,
}

/// What many spans share, by the numbers of its parts.
#[derive(Clone, Debug)]
pub struct Form {
    pub kind: SpanKind,
    pub status: StatusCode,
    pub name: u32,
    pub message: u32,
    pub state: u32,
    pub flags: u32,
    pub resource: u32,
    pub scope: u32,
    pub shape: u32,
}

pub struct Contents {
    pub groups: Vec<Group>,
    pub columns: Vec<Column>,
    /// Columns that a span of the shape has values in, in the order of its attributes.
    pub shapes: Vec<Vec<u32>>,
    pub forms: Vec<Form>,
    pub resources: Vec<Arc<Resource>>,
    pub scopes: Vec<Arc<Scope>>,
    pub texts: Texts,
    /// Of each trace its first row; then the number of rows.
    first_rows: Vec<u32>,
    /// Ascending ids, each with its ordinal.
    ids: Bytes,
    /// Of each ordinal its place in `ids`.
    places: Vec<u32>,
}

fn small(v: u64) -> Result<u32, Corrupt> {
    u32::try_from(v).map_err(|_| Corrupt("a number is too large"))
}

impl Contents {
    pub fn decode(tables: &[u8], ids: Bytes) -> Result<Self, Corrupt> {
        let mut reader = Reader::new(tables);
        let groups = read_groups(&mut reader)?;
        let first_rows = read_lengths(&mut reader, &groups)?;
        let n_traces = first_rows.len() - 1;
        if ids.len() != n_traces * ID_BYTES {
            return Err(Corrupt("the ids are not those of the traces"));
        }
        let mut places = vec![u32::MAX; n_traces];
        for (place, entry) in ids.chunks_exact(ID_BYTES).enumerate() {
            let (_, ordinal) = id_entry(entry);
            *places.get_mut(ordinal as usize).ok_or(Corrupt("an ordinal is too large"))? = place as u32;
        }
        if places.contains(&u32::MAX) {
            return Err(Corrupt("a trace has no id"));
        }
        let columns = read_columns(&mut reader, groups.len())?;
        let mut rest = Reader::new(reader.bytes()?);
        let mut resources = Vec::new();
        while !rest.is_empty() {
            resources.push(Arc::new(Resource { attributes: loose::attributes(&mut rest)? }));
        }
        let mut rest = Reader::new(reader.bytes()?);
        let mut scopes = Vec::new();
        while !rest.is_empty() {
            let (name, version) = (loose::text(&mut rest)?, loose::text(&mut rest)?);
            scopes.push(Arc::new(Scope { name, version, attributes: loose::attributes(&mut rest)? }));
        }
        let shapes = read_shapes(Reader::new(reader.bytes()?), columns.len())?;
        let forms = read_forms(&mut reader)?;
        let is_known = |form: &Form| {
            (form.resource as usize) < resources.len()
                && (form.scope as usize) < scopes.len()
                && (form.shape as usize) < shapes.len()
        };
        if !forms.iter().all(is_known) {
            return Err(Corrupt("a form names what is not there"));
        }
        let texts = Texts::decode(&mut reader)?;
        Ok(Self { groups, columns, shapes, forms, resources, scopes, texts, first_rows, ids, places })
    }

    pub fn size_bytes(&self) -> usize {
        let parts: usize = self.columns.iter().map(|column| 60 + column.parts.len() * size_of::<Part>()).sum();
        let shapes: usize = self.shapes.iter().map(|shape| 24 + shape.len() * 4).sum();
        let shared = self.resources.len() * 1000 + self.scopes.len() * 200 + self.forms.len() * size_of::<Form>();
        parts
            + shapes
            + shared
            + self.groups.len() * 48
            + self.ids.len()
            + self.places.len() * 8
            + self.texts.size_bytes()
    }

    pub fn n_traces(&self) -> u32 {
        self.places.len() as u32
    }

    pub fn id(&self, ordinal: u32) -> TraceId {
        let place = self.places[ordinal as usize] as usize;
        id_entry(&self.ids[place * ID_BYTES..][..ID_BYTES]).0
    }

    /// Ascending ids with their ordinals.
    pub fn ids(&self) -> impl Iterator<Item = (TraceId, u32)> {
        self.ids.chunks_exact(ID_BYTES).map(id_entry)
    }

    pub fn find(&self, id: TraceId) -> Option<u32> {
        let entry = |place: usize| id_entry(&self.ids[place * ID_BYTES..][..ID_BYTES]);
        let (mut low, mut high) = (0, self.places.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let (found, ordinal) = entry(middle);
            match found.cmp(&id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(ordinal),
            }
        }
        None
    }

    /// Rows of a trace.
    pub fn rows(&self, ordinal: u32) -> Range<u32> {
        self.first_rows[ordinal as usize]..self.first_rows[ordinal as usize + 1]
    }

    /// The trace of a row.
    pub fn ordinal_of(&self, row: u32) -> u32 {
        let at = self.first_rows.partition_point(|first| *first <= row).saturating_sub(1) as u32;
        at.min(self.n_traces().saturating_sub(1))
    }

    pub fn group_of(&self, ordinal: u32) -> usize {
        self.groups.partition_point(|group| group.ordinals.end <= ordinal)
    }

    /// The attribute columns of this name.
    pub fn columns_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = usize> + 'a {
        (fixed::N..self.columns.len()).filter(move |k| *self.columns[*k].name == *name)
    }

    /// How often a span of each form has a value in a column.
    pub fn times_in(&self, column: usize) -> Vec<u32> {
        let of_shape = |shape: &Vec<u32>| shape.iter().filter(|of| **of as usize == column).count() as u32;
        let of_shapes: Vec<u32> = self.shapes.iter().map(of_shape).collect();
        self.forms.iter().map(|form| of_shapes[form.shape as usize]).collect()
    }

    /// A column's parts of some groups, in one read.
    pub fn load(&self, file: &dyn DirFile, column: usize, groups: Range<usize>) -> Result<Loaded, Fault> {
        let parts = &self.columns[column].parts;
        let from = parts.partition_point(|part| (part.group as usize) < groups.start);
        let to = parts.partition_point(|part| (part.group as usize) < groups.end);
        let mut loaded = Loaded { first: groups.start, parts: vec![None; groups.len()] };
        let (Some(first), Some(last)) = (parts[from..to].first(), parts[from..to].last()) else { return Ok(loaded) };
        let len = usize::try_from(last.section.end() - first.section.offset).unwrap_or(usize::MAX);
        if last.section.end() > file.len()? {
            return Err(last.section.fault("outside of the file"));
        }
        let bytes = file.read_exact_at(first.section.offset, len)?;
        for part in &parts[from..to] {
            let at = (part.section.offset - first.section.offset) as usize;
            let bytes = part.section.checked(bytes.slice(at..at + part.section.bytes as usize))?;
            let packed = Packed::decode(bytes).map_err(|corrupt| part.section.fault(corrupt.0))?;
            let rows = self.groups[part.group as usize].rows.len();
            if is_of_each_row(column) && packed.len() != rows {
                return Err(part.section.fault("a column does not have as many values as rows"));
            }
            loaded.parts[part.group as usize - groups.start] = Some(packed);
        }
        if is_of_each_row(column) && loaded.parts.iter().any(Option::is_none) {
            return Err(first.section.fault("a column has no values of a group"));
        }
        Ok(loaded)
    }
}

fn is_of_each_row(column: usize) -> bool {
    column < fixed::FOREIGN
}

/// A column's values of some groups.
pub struct Loaded {
    first: usize,
    parts: Vec<Option<Packed>>,
}

impl Loaded {
    pub fn group(&self, group: usize) -> Option<&Packed> {
        self.parts.get(group.checked_sub(self.first)?)?.as_ref()
    }
}

fn read_groups(reader: &mut Reader<'_>) -> Result<Vec<Group>, Corrupt> {
    let n = reader.count()?;
    let mut groups = Vec::with_capacity(n);
    let (mut row, mut ordinal, mut first) = (0_u32, 0_u32, 0_i64);
    for _ in 0..n {
        let too_many = Corrupt("too many rows");
        let row_end = row.checked_add(small(reader.get()?)?).ok_or(too_many)?;
        let ordinal_end = ordinal.checked_add(small(reader.get()?)?).ok_or(too_many)?;
        first = first.wrapping_add(reader.signed()?);
        let last = first.wrapping_add(reader.signed()?);
        groups.push(Group {
            rows: row..row_end,
            ordinals: ordinal..ordinal_end,
            first: Nanos(first),
            last: Nanos(last),
        });
        (row, ordinal) = (row_end, ordinal_end);
    }
    Ok(groups)
}

fn read_lengths(reader: &mut Reader<'_>, groups: &[Group]) -> Result<Vec<u32>, Corrupt> {
    let mut lengths = Reader::new(reader.bytes()?);
    let mut first_rows = vec![0_u32];
    let mut row = 0_u32;
    while !lengths.is_empty() {
        let n = small(lengths.get()?)?;
        row = row.checked_add(n).filter(|_| n > 0).ok_or(Corrupt("a trace has a wrong length"))?;
        first_rows.push(row);
    }
    let is_right = |group: &Group| {
        first_rows.get(group.ordinals.start as usize) == Some(&group.rows.start)
            && first_rows.get(group.ordinals.end as usize) == Some(&group.rows.end)
    };
    let n = groups.last().map_or(0, |group| group.ordinals.end);
    if n as usize + 1 != first_rows.len() || !groups.iter().all(is_right) {
        return Err(Corrupt("the groups do not have as many rows as their traces"));
    }
    Ok(first_rows)
}

fn read_columns(reader: &mut Reader<'_>, n_groups: usize) -> Result<Vec<Column>, Corrupt> {
    let mut names = Reader::new(reader.bytes()?);
    let mut columns: Vec<Column> =
        (0..fixed::N).map(|_| Column { name: "".into(), kind: 0, parts: Vec::new() }).collect();
    while !names.is_empty() {
        let (name, kind) = (loose::text(&mut names)?, names.byte()?);
        if kind > MAP {
            return Err(Corrupt("a value has an unknown type"));
        }
        columns.push(Column { name, kind, parts: Vec::new() });
    }
    for column in &mut columns {
        let n = reader.count()?;
        let mut offset = reader.get()?;
        let mut group = 0_u32;
        for k in 0..n {
            let after = small(reader.get()?)?;
            group = group.checked_add(after).ok_or(Corrupt("too many groups"))?;
            if group as usize >= n_groups || (k > 0 && after == 0) {
                return Err(Corrupt("a column has values of a group that is not there"));
            }
            let bytes = small(reader.get()?)?;
            let section = Section { offset, bytes, sum: u32::from_le_bytes(reader.array()?) };
            offset = offset.checked_add(u64::from(bytes)).ok_or(Corrupt("a section is too long"))?;
            column.parts.push(Part { group, section });
        }
    }
    Ok(columns)
}

fn read_shapes(mut reader: Reader<'_>, n_columns: usize) -> Result<Vec<Vec<u32>>, Corrupt> {
    let mut shapes = Vec::new();
    while !reader.is_empty() {
        let n = reader.count()?;
        let shape = (0..n).map(|_| small(reader.get()?)).collect::<Result<Vec<u32>, _>>()?;
        if shape.iter().any(|column| *column as usize >= n_columns || is_of_each_row(*column as usize)) {
            return Err(Corrupt("a shape names what is not there"));
        }
        shapes.push(shape);
    }
    Ok(shapes)
}

fn read_forms(reader: &mut Reader<'_>) -> Result<Vec<Form>, Corrupt> {
    let n = reader.count()?;
    let mut forms = Vec::with_capacity(n);
    for _ in 0..n {
        let kind = reader.byte()?;
        let mut number = || small(reader.get()?);
        forms.push(Form {
            kind: kind_of(kind >> 4)?,
            status: status_of(kind & 15)?,
            name: number()?,
            message: number()?,
            state: number()?,
            flags: number()?,
            resource: number()?,
            scope: number()?,
            shape: number()?,
        });
    }
    Ok(forms)
}

/// Whether bytes are the tables of a block, for those who try to break the decoder.
pub fn decode_tables(tables: &[u8], ids: Bytes) -> Result<u32, Corrupt> {
    Ok(Contents::decode(tables, ids)?.n_traces())
}

pub fn id_entry(bytes: &[u8]) -> (TraceId, u32) {
    let (id, ordinal) = bytes.split_at(16);
    let mut trace = TraceId::default();
    trace.0.copy_from_slice(id);
    (trace, u32::from_le_bytes([ordinal[0], ordinal[1], ordinal[2], ordinal[3]]))
}
