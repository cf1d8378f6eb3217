//! Makes a block, trace by trace: columns by group of rows, texts and what many spans share in tables.
//! `docs/format/spans.md` draws the bytes.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::{AttrValue, Nanos, Resource, Scope, Span, SpanId, TraceId};

use super::bytes::{put, put_bytes, put_signed};
use super::class::Class;
use super::encode::{BOOL, DOUBLE, INT, STR, kind_number, status_number, type_of};
use super::loose;
use super::packed;
use super::section::{Section, Sections, put_section, zstd};
use super::texts::{TextsWriter, place_of};

pub const MAGIC: &[u8; 8] = b"weirspn\x02";
/// A group ends when it has this many rows; a trace is in one group.
pub const GROUP_ROWS: usize = 1024;

/// Columns that every block has, before those of the attributes.
pub mod fixed {
    pub const IDS: usize = 0;
    pub const FORMS: usize = 1;
    pub const PARENTS: usize = 2;
    pub const STARTS: usize = 3;
    pub const DURATIONS: usize = 4;
    /// Of spans whose shape has them: parents outside of the trace's part here, events and links.
    pub const FOREIGN: usize = 5;
    pub const EXTRAS: usize = 6;
    pub const N: usize = 7;
}

/// An order-preserving number for a signed one.
pub fn ordered(v: i64) -> u64 {
    (v as u64) ^ (1 << 63)
}

pub fn unordered(v: u64) -> i64 {
    (v ^ (1 << 63)) as i64
}

/// What a span has in common with many others.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    name: u32,
    message: u32,
    state: u32,
    kind: u8,
    flags: u32,
    resource: u32,
    scope: u32,
    shape: u32,
}

/// Equal things once, found by address first; what is beside an address keeps it from being used again.
struct Table<T> {
    by_address: AHashMap<usize, (Arc<T>, u32)>,
    by_bytes: AHashMap<Vec<u8>, u32>,
    entries: Vec<u8>,
    scratch: Vec<u8>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { by_address: AHashMap::new(), by_bytes: AHashMap::new(), entries: Vec::new(), scratch: Vec::new() }
    }
}

const ADDRESSES_MAX: usize = 1024;
/// Names of attributes that are known by address.
const NAMES: usize = 256;

/// Where in its trace a span is.
pub enum Places<'a> {
    /// So few are looked through.
    Few(&'a [Arc<Span>]),
    Many(AHashMap<SpanId, u64>),
}

const FEW: usize = 32;

impl<'a> Places<'a> {
    pub fn of(spans: &'a [Arc<Span>]) -> Self {
        if spans.len() <= FEW {
            return Self::Few(spans);
        }
        // Of those with one id the first counts.
        Self::Many(spans.iter().enumerate().rev().map(|(place, span)| (span.span_id, place as u64)).collect())
    }
    pub fn get(&self, id: SpanId) -> Option<u64> {
        match self {
            Self::Few(spans) => spans.iter().position(|span| span.span_id == id).map(|place| place as u64),
            Self::Many(places) => places.get(&id).copied(),
        }
    }
}

impl<T> Table<T> {
    fn of(&mut self, item: &Arc<T>, encode: impl FnOnce(&mut Vec<u8>, &T)) -> u32 {
        if let Some((_, number)) = self.by_address.get(&Arc::as_ptr(item).addr()) {
            return *number;
        }
        self.scratch.clear();
        encode(&mut self.scratch, item);
        let number = match self.by_bytes.get(&self.scratch) {
            Some(number) => *number,
            None => {
                let number = self.by_bytes.len() as u32;
                self.by_bytes.insert(self.scratch.clone(), number);
                self.entries.extend_from_slice(&self.scratch);
                number
            }
        };
        if self.by_address.len() >= ADDRESSES_MAX {
            self.by_address.clear();
        }
        self.by_address.insert(Arc::as_ptr(item).addr(), (item.clone(), number));
        number
    }
}

#[derive(Default)]
struct Column {
    /// Of the group at hand.
    values: Vec<u64>,
    /// The parts of the groups before it, and of each its group, length and checksum.
    bytes: Vec<u8>,
    parts: Vec<(u32, u32, u32)>,
}

struct Group {
    rows: usize,
    traces: usize,
    first: Nanos,
    last: Nanos,
}

const NO_GROUP: Group = Group { rows: 0, traces: 0, first: Nanos::MAX, last: Nanos::MIN };

/// A block in the making. Traces come newest first start first, then by id.
pub struct Builder {
    group_rows: usize,
    class: Class,
    columns: Vec<Column>,
    /// Numbers of attribute columns by type and name.
    numbers: [AHashMap<Arc<str>, u32>; 7],
    /// The same by address and type, as spans share their names.
    shared_names: Vec<Option<(Arc<str>, u8, u32)>>,
    names: Vec<u8>,
    texts: TextsWriter,
    resources: Table<Resource>,
    scopes: Table<Scope>,
    shapes: AHashMap<Vec<u32>, u32>,
    shape_bytes: Vec<u8>,
    forms: AHashMap<Form, u32>,
    form_list: Vec<Form>,
    groups: Vec<Group>,
    group: Group,
    ids: Vec<TraceId>,
    lengths: Vec<u8>,
    n_spans: u64,
    scratch: Vec<u8>,
    shape: Vec<u32>,
}

impl Builder {
    pub fn new(group_rows: usize, class: Class) -> Self {
        Self {
            group_rows,
            class,
            columns: (0..fixed::N).map(|_| Column::default()).collect(),
            numbers: Default::default(),
            shared_names: vec![None; NAMES],
            names: Vec::new(),
            texts: TextsWriter::default(),
            resources: Table::default(),
            scopes: Table::default(),
            shapes: AHashMap::new(),
            shape_bytes: Vec::new(),
            forms: AHashMap::new(),
            form_list: Vec::new(),
            groups: Vec::new(),
            group: NO_GROUP,
            ids: Vec::new(),
            lengths: Vec::new(),
            n_spans: 0,
            scratch: Vec::new(),
            shape: Vec::new(),
        }
    }

    /// `spans` ascend by start; there is at least one.
    pub fn push(&mut self, id: TraceId, spans: &[Arc<Span>]) {
        if self.group.rows > 0 && self.group.rows + spans.len() > self.group_rows {
            self.end_group();
        }
        let places = Places::of(spans);
        for span in spans {
            self.span(span, &places);
            self.group.first = self.group.first.min(span.start);
            self.group.last = self.group.last.max(span.start);
        }
        self.group.rows += spans.len();
        self.group.traces += 1;
        self.n_spans += spans.len() as u64;
        self.ids.push(id);
        put(&mut self.lengths, spans.len() as u64);
    }

    fn span(&mut self, span: &Span, places: &Places<'_>) {
        let mut shape = std::mem::take(&mut self.shape);
        shape.clear();
        let parent = match span.parent.map(|parent| (parent, places.get(parent))) {
            None => 0,
            Some((_, Some(place))) => place + 1,
            Some((parent, None)) => {
                shape.push(fixed::FOREIGN as u32);
                self.columns[fixed::FOREIGN].values.push(u64::from_be_bytes(parent.0));
                0
            }
        };
        for (name, value) in &span.attributes {
            let column = self.column(name, type_of(value));
            let value = self.value(value);
            self.columns[column as usize].values.push(value);
            shape.push(column);
        }
        if !span.events.is_empty() || !span.links.is_empty() {
            self.scratch.clear();
            loose::put_extras(&mut self.scratch, span);
            let number = self.texts.of(&self.scratch);
            self.columns[fixed::EXTRAS].values.push(u64::from(number));
            shape.push(fixed::EXTRAS as u32);
        }
        let form = Form {
            name: self.texts.of_shared(&span.name),
            message: self.texts.of_shared(&span.status.message),
            state: self.texts.of_shared(&span.trace_state),
            kind: kind_number(span.kind) << 4 | status_number(span.status.code),
            flags: span.flags,
            resource: self.resources.of(&span.resource, |out, r| loose::put_attributes(out, &r.attributes)),
            scope: self.scopes.of(&span.scope, |out, scope| {
                put_bytes(out, scope.name.as_bytes());
                put_bytes(out, scope.version.as_bytes());
                loose::put_attributes(out, &scope.attributes);
            }),
            shape: self.shape_of(&shape),
        };
        self.shape = shape;
        let next = self.form_list.len() as u32;
        let number = *self.forms.entry(form).or_insert(next);
        if number == next {
            self.form_list.push(form);
        }
        let mut add = |column: usize, value: u64| self.columns[column].values.push(value);
        add(fixed::IDS, u64::from_be_bytes(span.span_id.0));
        add(fixed::FORMS, u64::from(number));
        add(fixed::PARENTS, parent);
        add(fixed::STARTS, ordered(span.start.0));
        add(fixed::DURATIONS, ordered(span.end.0.wrapping_sub(span.start.0)));
    }

    fn column(&mut self, name: &Arc<str>, kind: u8) -> u32 {
        let place = place_of(Arc::as_ptr(name).addr(), NAMES);
        if let Some((known, of, number)) = &self.shared_names[place]
            && *of == kind
            && Arc::ptr_eq(known, name)
        {
            return *number;
        }
        let number = self.column_of(name, kind);
        self.shared_names[place] = Some((name.clone(), kind, number));
        number
    }

    fn column_of(&mut self, name: &Arc<str>, kind: u8) -> u32 {
        let numbers = &mut self.numbers[usize::from(kind)];
        if let Some(number) = numbers.get(name) {
            return *number;
        }
        let number = self.columns.len() as u32;
        numbers.insert(name.clone(), number);
        self.columns.push(Column::default());
        put_bytes(&mut self.names, name.as_bytes());
        self.names.push(kind);
        number
    }

    fn value(&mut self, value: &AttrValue) -> u64 {
        match value {
            AttrValue::Str(text) => u64::from(self.texts.of_shared(text)),
            AttrValue::Int(v) => ordered(*v),
            AttrValue::Double(v) => v.to_bits(),
            AttrValue::Bool(v) => u64::from(*v),
            AttrValue::Bytes(_) | AttrValue::Array(_) | AttrValue::Map(_) => {
                self.scratch.clear();
                loose::put_value(&mut self.scratch, value);
                u64::from(self.texts.of(&self.scratch))
            }
        }
    }

    fn shape_of(&mut self, shape: &[u32]) -> u32 {
        if let Some(number) = self.shapes.get(shape) {
            return *number;
        }
        let number = self.shapes.len() as u32;
        self.shapes.insert(shape.to_vec(), number);
        put(&mut self.shape_bytes, shape.len() as u64);
        shape.iter().for_each(|column| put(&mut self.shape_bytes, u64::from(*column)));
        number
    }

    fn end_group(&mut self) {
        let number = self.groups.len() as u32;
        for column in self.columns.iter_mut().filter(|column| !column.values.is_empty()) {
            let begin = column.bytes.len();
            packed::encode(&column.values, &mut column.bytes);
            column.values.clear();
            let part = &column.bytes[begin..];
            column.parts.push((number, part.len() as u32, crc32c::crc32c(part)));
        }
        self.groups.push(std::mem::replace(&mut self.group, NO_GROUP));
    }

    pub fn n_spans(&self) -> u64 {
        self.n_spans
    }

    /// The bytes of the block.
    pub fn finish(mut self) -> Vec<u8> {
        if self.group.rows > 0 {
            self.end_group();
        }
        let mut block = Sections(MAGIC.to_vec());
        let mut tables = Vec::new();
        self.put_groups(&mut tables);
        self.put_columns(&mut block, &mut tables);
        self.put_shared(&mut tables);
        let (first, last) = self
            .groups
            .iter()
            .fold((i64::MAX, i64::MIN), |(first, last), group| (first.min(group.first.0), last.max(group.last.0)));
        std::mem::take(&mut self.texts).finish(&mut block, &mut tables);
        let ids = self.put_ids(&mut block);
        let tables = block.add(&zstd(&tables));
        let mut footer = Vec::new();
        put(&mut footer, self.ids.len() as u64);
        put(&mut footer, self.n_spans);
        put_signed(&mut footer, first);
        put_signed(&mut footer, last);
        put_section(&mut footer, ids);
        put_section(&mut footer, tables);
        footer.push(self.class.code());
        let mut out = block.0;
        out.extend_from_slice(&footer);
        out.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
        out.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        out.extend_from_slice(MAGIC);
        out
    }

    fn put_groups(&self, tables: &mut Vec<u8>) {
        put(tables, self.groups.len() as u64);
        let mut before = 0;
        for group in &self.groups {
            put(tables, group.rows as u64);
            put(tables, group.traces as u64);
            put_signed(tables, group.first.0.wrapping_sub(before));
            put_signed(tables, group.last.0.wrapping_sub(group.first.0));
            before = group.first.0;
        }
        put_bytes(tables, &self.lengths);
    }

    fn put_columns(&self, block: &mut Sections, tables: &mut Vec<u8>) {
        put_bytes(tables, &self.names);
        for column in &self.columns {
            put(tables, column.parts.len() as u64);
            put(tables, block.0.len() as u64);
            let mut before = 0;
            for (group, bytes, sum) in &column.parts {
                put(tables, u64::from(group - before));
                put(tables, u64::from(*bytes));
                tables.extend_from_slice(&sum.to_le_bytes());
                before = *group;
            }
            block.0.extend_from_slice(&column.bytes);
        }
    }

    fn put_shared(&self, tables: &mut Vec<u8>) {
        put_bytes(tables, &self.resources.entries);
        put_bytes(tables, &self.scopes.entries);
        put_bytes(tables, &self.shape_bytes);
        put(tables, self.form_list.len() as u64);
        for form in &self.form_list {
            tables.push(form.kind);
            for number in [form.name, form.message, form.state, form.flags, form.resource, form.scope, form.shape] {
                put(tables, u64::from(number));
            }
        }
    }

    fn put_ids(&self, block: &mut Sections) -> Section {
        let mut by_id: Vec<(TraceId, u32)> = self.ids.iter().enumerate().map(|(k, id)| (*id, k as u32)).collect();
        by_id.sort_unstable();
        let mut bytes = Vec::with_capacity(by_id.len() * 20);
        for (id, ordinal) in by_id {
            bytes.extend_from_slice(&id.0);
            bytes.extend_from_slice(&ordinal.to_le_bytes());
        }
        block.add(&bytes)
    }
}

/// Whether values of this type are numbers of texts.
pub fn is_text(kind: u8) -> bool {
    !matches!(kind, INT | DOUBLE | BOOL)
}

/// Whether those texts are values with their type before them.
pub fn is_loose(kind: u8) -> bool {
    is_text(kind) && kind != STR
}
