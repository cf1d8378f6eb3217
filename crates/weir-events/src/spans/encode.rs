//! Spans as columns: a page of whole traces, in a block or in a frame of the log.
//!
//! `docs/format/spans.md` draws the bytes; `decode.rs` reads them.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::span::Attributes;
use weir_model::{AttrValue, Resource, Scope, Span, SpanKind, StatusCode};

use super::build::Places;
use super::bytes::{put, put_bytes, put_signed};
use super::texts::place_of;

/// The fixed columns, in the order in which they are stored.
#[derive(Clone, Copy)]
pub(super) enum Column {
    Strings,
    Resources,
    Scopes,
    Shapes,
    TraceLengths,
    SpanIds,
    Parents,
    ForeignParents,
    Starts,
    Durations,
    Names,
    Kinds,
    ResourceOf,
    ScopeOf,
    StatusMessages,
    TraceStates,
    Flags,
    ShapeOf,
    Events,
    Links,
    /// Types of the value columns that follow, one for each entry of `Shapes`' keys.
    ValueKeys,
}
pub(super) const N_COLUMNS: usize = 21;

pub(super) const STR: u8 = 0;
pub(super) const INT: u8 = 1;
pub(super) const DOUBLE: u8 = 2;
pub(super) const BOOL: u8 = 3;
pub(super) const BYTES: u8 = 4;
pub(super) const ARRAY: u8 = 5;
pub(super) const MAP: u8 = 6;

pub(super) fn type_of(value: &AttrValue) -> u8 {
    match value {
        AttrValue::Str(_) => STR,
        AttrValue::Int(_) => INT,
        AttrValue::Double(_) => DOUBLE,
        AttrValue::Bool(_) => BOOL,
        AttrValue::Bytes(_) => BYTES,
        AttrValue::Array(_) => ARRAY,
        AttrValue::Map(_) => MAP,
    }
}

pub(super) fn kind_number(kind: SpanKind) -> u8 {
    match kind {
        SpanKind::Unspecified => 0,
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}

pub(super) fn status_number(code: StatusCode) -> u8 {
    match code {
        StatusCode::Unset => 0,
        StatusCode::Ok => 1,
        StatusCode::Error => 2,
    }
}

/// Texts that are known by address.
const ADDRESSES: usize = 512;

struct Strings<'a> {
    index: AHashMap<&'a str, u64>,
    list: Vec<&'a str>,
    /// The same by address: spans share the texts that repeat.
    shared: Vec<(&'a str, u64)>,
}

impl Default for Strings<'_> {
    fn default() -> Self {
        Self { index: AHashMap::new(), list: Vec::new(), shared: vec![("", u64::MAX); ADDRESSES] }
    }
}

impl<'a> Strings<'a> {
    fn of(&mut self, text: &'a str) -> u64 {
        let place = place_of(text.as_ptr().addr(), ADDRESSES);
        let (known, number) = self.shared[place];
        if std::ptr::eq(known, text) && number != u64::MAX {
            return number;
        }
        let next = self.list.len() as u64;
        let number = *self.index.entry(text).or_insert_with(|| {
            self.list.push(text);
            next
        });
        self.shared[place] = (text, number);
        number
    }
}

/// Equal things once, found by address first.
struct Table<T> {
    last: *const T,
    last_index: u64,
    index: AHashMap<Vec<u8>, u64>,
    entries: Vec<u8>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { last: std::ptr::null(), last_index: 0, index: AHashMap::new(), entries: Vec::new() }
    }
}

impl<T> Table<T> {
    fn of(&mut self, item: &Arc<T>, encode: impl FnOnce(&mut Vec<u8>)) -> u64 {
        if self.last == Arc::as_ptr(item) {
            return self.last_index;
        }
        let mut bytes = Vec::new();
        encode(&mut bytes);
        let next = self.index.len() as u64;
        let entries = &mut self.entries;
        let index = *self.index.entry(bytes).or_insert_with_key(|bytes| {
            entries.extend_from_slice(bytes);
            next
        });
        (self.last, self.last_index) = (Arc::as_ptr(item), index);
        index
    }
}

#[derive(Default)]
struct Page<'a> {
    columns: [Vec<u8>; N_COLUMNS],
    strings: Strings<'a>,
    resources: Table<Resource>,
    scopes: Table<Scope>,
    shapes: AHashMap<Vec<(u64, u8)>, u64>,
    /// The shape of the span at hand.
    shape: Vec<(u64, u8)>,
    /// Of each attribute's name and type, the values.
    values: AHashMap<(u64, u8), usize>,
    value_columns: Vec<Vec<u8>>,
}

/// Encodes traces; the ids of the traces themselves are not in it.
pub fn encode_page(traces: &[&[Arc<Span>]]) -> Vec<u8> {
    let mut page = Page::default();
    let mut first = 0;
    for spans in traces {
        put(page.column(Column::TraceLengths), spans.len() as u64);
        let places = Places::of(spans);
        // A trace begins near the one before it, a span near the one before it.
        let mut before = first;
        first = spans.first().map_or(first, |span| span.start.0);
        for span in *spans {
            page.span(span, &places, before);
            before = span.start.0;
        }
    }
    page.finish()
}

impl<'a> Page<'a> {
    fn column(&mut self, column: Column) -> &mut Vec<u8> {
        &mut self.columns[column as usize]
    }

    fn text(&mut self, column: Column, text: &'a str) {
        let index = self.strings.of(text);
        put(self.column(column), index);
    }

    fn span(&mut self, span: &'a Span, places: &Places<'_>, before: i64) {
        self.column(Column::SpanIds).extend_from_slice(&span.span_id.0);
        // No parent, a parent outside of this page's part of the trace, or its place in it.
        match span.parent.map(|parent| (parent, places.get(parent))) {
            None => self.column(Column::Parents).push(0),
            Some((parent, None)) => {
                self.column(Column::Parents).push(1);
                self.column(Column::ForeignParents).extend_from_slice(&parent.0);
            }
            Some((_, Some(place))) => put(self.column(Column::Parents), place + 2),
        }
        put_signed(self.column(Column::Starts), span.start.0.wrapping_sub(before));
        put_signed(self.column(Column::Durations), span.end.0.wrapping_sub(span.start.0));
        self.text(Column::Names, &span.name);
        self.column(Column::Kinds).push(kind_number(span.kind) << 4 | status_number(span.status.code));
        let strings = &mut self.strings;
        let resource = self.resources.of(&span.resource, |out| put_attributes(out, &span.resource.attributes, strings));
        put(self.column(Column::ResourceOf), resource);
        let strings = &mut self.strings;
        let scope = self.scopes.of(&span.scope, |out| {
            put(out, strings.of(&span.scope.name));
            put(out, strings.of(&span.scope.version));
            put_attributes(out, &span.scope.attributes, strings);
        });
        put(self.column(Column::ScopeOf), scope);
        self.text(Column::StatusMessages, &span.status.message);
        self.text(Column::TraceStates, &span.trace_state);
        put(self.column(Column::Flags), u64::from(span.flags));
        self.attributes(&span.attributes);
        put(self.column(Column::Events), span.events.len() as u64);
        for event in &span.events {
            let out = &mut self.columns[Column::Events as usize];
            put_signed(out, event.at.0.wrapping_sub(span.start.0));
            put(out, self.strings.of(&event.name));
            put_attributes(out, &event.attributes, &mut self.strings);
        }
        put(self.column(Column::Links), span.links.len() as u64);
        for link in &span.links {
            let out = &mut self.columns[Column::Links as usize];
            out.extend_from_slice(&link.trace_id.0);
            out.extend_from_slice(&link.span_id.0);
            put(out, self.strings.of(&link.trace_state));
            put_attributes(out, &link.attributes, &mut self.strings);
        }
    }

    /// The names and types as a shape, each value into the column of its name and type.
    fn attributes(&mut self, attributes: &'a Attributes) {
        let mut shape = std::mem::take(&mut self.shape);
        shape.clear();
        for (name, value) in attributes {
            let key = (self.strings.of(name), type_of(value));
            let next = self.value_columns.len();
            let column = *self.values.entry(key).or_insert(next);
            if column == next {
                self.value_columns.push(Vec::new());
                put(&mut self.columns[Column::ValueKeys as usize], key.0);
                self.columns[Column::ValueKeys as usize].push(key.1);
            }
            put_value(&mut self.value_columns[column], value, &mut self.strings);
            shape.push((column as u64, key.1));
        }
        let index = self.shapes.get(&shape).copied().unwrap_or_else(|| {
            let next = self.shapes.len() as u64;
            let out = &mut self.columns[Column::Shapes as usize];
            put(out, shape.len() as u64);
            shape.iter().for_each(|(column, _)| put(out, *column));
            self.shapes.insert(shape.clone(), next);
            next
        });
        put(self.column(Column::ShapeOf), index);
        self.shape = shape;
    }

    fn finish(mut self) -> Vec<u8> {
        let mut strings = Vec::new();
        self.strings.list.iter().for_each(|text| put_bytes(&mut strings, text.as_bytes()));
        self.columns[Column::Strings as usize] = strings;
        self.columns[Column::Resources as usize] = self.resources.entries;
        self.columns[Column::Scopes as usize] = self.scopes.entries;
        let all = self.columns.iter().chain(&self.value_columns);
        let mut out = Vec::with_capacity(all.clone().map(|column| column.len() + 5).sum());
        all.for_each(|column| put_bytes(&mut out, column));
        out
    }
}

fn put_attributes<'a>(out: &mut Vec<u8>, attributes: &'a Attributes, strings: &mut Strings<'a>) {
    put(out, attributes.len() as u64);
    for (name, value) in attributes {
        put(out, strings.of(name));
        put_typed(out, value, strings);
    }
}

fn put_typed<'a>(out: &mut Vec<u8>, value: &'a AttrValue, strings: &mut Strings<'a>) {
    out.push(type_of(value));
    put_value(out, value, strings);
}

fn put_value<'a>(out: &mut Vec<u8>, value: &'a AttrValue, strings: &mut Strings<'a>) {
    match value {
        AttrValue::Str(text) => put(out, strings.of(text)),
        AttrValue::Int(v) => put_signed(out, *v),
        AttrValue::Double(v) => out.extend_from_slice(&v.to_bits().to_le_bytes()),
        AttrValue::Bool(v) => out.push(u8::from(*v)),
        AttrValue::Bytes(bytes) => put_bytes(out, bytes),
        AttrValue::Array(items) => {
            put(out, items.len() as u64);
            items.iter().for_each(|item| put_typed(out, item, strings));
        }
        AttrValue::Map(entries) => {
            put(out, entries.len() as u64);
            for (name, value) in entries {
                put(out, strings.of(name));
                put_typed(out, value, strings);
            }
        }
    }
}
