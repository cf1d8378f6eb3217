//! Reads the pages that `encode.rs` writes; bounded, and never trusting a count.

use std::sync::Arc;

use weir_model::span::Attributes;
use weir_model::{
    AttrValue, Nanos, Resource, Scope, Span, SpanEvent, SpanId, SpanKind, SpanLink, SpanStatus, StatusCode, TraceId,
};

use super::bytes::{Corrupt, Reader};
use super::encode::{ARRAY, BOOL, BYTES, Column, DOUBLE, INT, MAP, N_COLUMNS, STR};

/// Values within values; OTLP's decoders stop earlier.
const DEPTH_MAX: usize = 120;

struct Page<'a> {
    columns: [Reader<'a>; N_COLUMNS],
    values: Vec<Reader<'a>>,
    names_and_types: Vec<(usize, u8)>,
    shapes: Vec<Vec<usize>>,
    strings: Strings<'a>,
    resources: Vec<Arc<Resource>>,
    scopes: Vec<Arc<Scope>>,
}

/// Made when they are asked for, then shared.
struct Strings<'a> {
    raw: Vec<&'a [u8]>,
    made: Vec<Option<Arc<str>>>,
}

impl Strings<'_> {
    fn get(&mut self, index: usize) -> Result<Arc<str>, Corrupt> {
        let place = self.made.get_mut(index).ok_or(Corrupt("a text is missing"))?;
        if let Some(text) = place {
            return Ok(text.clone());
        }
        let text = std::str::from_utf8(self.raw[index]).map_err(|_| Corrupt("a text is not UTF-8"))?;
        Ok(place.insert(text.into()).clone())
    }
}

/// Decodes the traces that `wanted` names, by their place in the page; `ids` are those of all.
pub fn decode_page(
    bytes: &[u8],
    ids: &[TraceId],
    mut wanted: impl FnMut(usize) -> bool,
) -> Result<Vec<(usize, Vec<Arc<Span>>)>, Corrupt> {
    let mut page = Page::open(bytes)?;
    let mut found = Vec::new();
    let mut first = 0;
    for (place, id) in ids.iter().enumerate() {
        let n = page.column(Column::TraceLengths).index()?;
        let is_wanted = wanted(place);
        let mut spans: Vec<Span> = Vec::new();
        let mut before = first;
        let mut parents = Vec::new();
        for k in 0..n {
            let (span, parent) = page.span(*id, before, is_wanted)?;
            before = span.start.0;
            if k == 0 {
                first = before;
            }
            if is_wanted {
                parents.push(parent);
                spans.push(span);
            }
        }
        if is_wanted {
            let own: Vec<SpanId> = spans.iter().map(|span| span.span_id).collect();
            for (span, parent) in spans.iter_mut().zip(parents) {
                if let Some(place) = parent {
                    span.parent = Some(*own.get(place).ok_or(Corrupt("a parent is missing"))?);
                }
            }
            found.push((place, spans.into_iter().map(Arc::new).collect()));
        }
    }
    Ok(found)
}

impl<'a> Page<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Corrupt> {
        let mut all = Reader::new(bytes);
        let mut columns = [Reader::default(); N_COLUMNS];
        for column in &mut columns {
            *column = Reader::new(all.bytes()?);
        }
        let mut values = Vec::new();
        while !all.is_empty() {
            values.push(Reader::new(all.bytes()?));
        }
        let mut raw = Vec::new();
        let texts = &mut columns[Column::Strings as usize];
        while !texts.is_empty() {
            raw.push(texts.bytes()?);
        }
        let made = vec![None; raw.len()];
        let mut page = Self {
            columns,
            values,
            names_and_types: Vec::new(),
            shapes: Vec::new(),
            strings: Strings { raw, made },
            resources: Vec::new(),
            scopes: Vec::new(),
        };
        page.tables()?;
        Ok(page)
    }

    fn tables(&mut self) -> Result<(), Corrupt> {
        while !self.column(Column::ValueKeys).is_empty() {
            let key = (self.column(Column::ValueKeys).index()?, self.column(Column::ValueKeys).byte()?);
            self.names_and_types.push(key);
        }
        if self.names_and_types.len() != self.values.len() {
            return Err(Corrupt("value columns do not fit their names"));
        }
        while !self.column(Column::Shapes).is_empty() {
            let n = self.column(Column::Shapes).count()?;
            let shape: Result<Vec<usize>, Corrupt> = (0..n).map(|_| self.column(Column::Shapes).index()).collect();
            self.shapes.push(shape?);
        }
        while !self.column(Column::Resources).is_empty() {
            let attributes = attributes(&mut self.columns[Column::Resources as usize], &mut self.strings)?;
            self.resources.push(Arc::new(Resource { attributes }));
        }
        while !self.column(Column::Scopes).is_empty() {
            let reader = &mut self.columns[Column::Scopes as usize];
            let name = self.strings.get(reader.index()?)?;
            let version = self.strings.get(reader.index()?)?;
            let attributes = attributes(reader, &mut self.strings)?;
            self.scopes.push(Arc::new(Scope { name, version, attributes }));
        }
        Ok(())
    }

    fn column(&mut self, column: Column) -> &mut Reader<'a> {
        &mut self.columns[column as usize]
    }

    fn text(&mut self, column: Column, is_wanted: bool) -> Result<Arc<str>, Corrupt> {
        let index = self.column(column).index()?;
        // One text for all that nobody will see.
        self.strings.get(if is_wanted { index } else { 0 })
    }

    /// The span, and its parent's place when that is in the same trace here.
    fn span(&mut self, trace_id: TraceId, before: i64, is_wanted: bool) -> Result<(Span, Option<usize>), Corrupt> {
        let span_id = SpanId(self.column(Column::SpanIds).array()?);
        let (parent, parent_place) = match self.column(Column::Parents).index()? {
            0 => (None, None),
            1 => (Some(SpanId(self.column(Column::ForeignParents).array()?)), None),
            place => (None, Some(place - 2)),
        };
        let start = Nanos(before.wrapping_add(self.column(Column::Starts).signed()?));
        let end = Nanos(start.0.wrapping_add(self.column(Column::Durations).signed()?));
        let name = self.text(Column::Names, is_wanted)?;
        let kind = self.column(Column::Kinds).byte()?;
        let resource = self.column(Column::ResourceOf).index()?;
        let scope = self.column(Column::ScopeOf).index()?;
        let message = self.text(Column::StatusMessages, is_wanted)?;
        let trace_state = self.text(Column::TraceStates, is_wanted)?;
        let flags = self.column(Column::Flags).get()? as u32;
        let span = Span {
            trace_id,
            span_id,
            parent,
            name,
            kind: kind_of(kind >> 4)?,
            start,
            end,
            status: SpanStatus { code: status_of(kind & 15)?, message },
            attributes: self.attributes(is_wanted)?,
            events: self.events(start)?,
            links: self.links()?,
            trace_state,
            flags,
            resource: self.resources.get(resource).ok_or(Corrupt("a resource is missing"))?.clone(),
            scope: self.scopes.get(scope).ok_or(Corrupt("a scope is missing"))?.clone(),
        };
        Ok((span, parent_place))
    }

    fn attributes(&mut self, is_wanted: bool) -> Result<Attributes, Corrupt> {
        let shape = self.column(Column::ShapeOf).index()?;
        let shape = self.shapes.get(shape).ok_or(Corrupt("a shape is missing"))?;
        let mut out = Vec::with_capacity(if is_wanted { shape.len() } else { 0 });
        for column in shape {
            let reader = self.values.get_mut(*column).ok_or(Corrupt("a value column is missing"))?;
            let (name, kind) = self.names_and_types[*column];
            match kind {
                // The common ones of spans that are passed over.
                STR | INT if !is_wanted => {
                    reader.get()?;
                }
                _ => {
                    let value = value(reader, kind, &mut self.strings, 0)?;
                    if is_wanted {
                        out.push((self.strings.get(name)?, value));
                    }
                }
            }
        }
        Ok(out)
    }

    fn events(&mut self, start: Nanos) -> Result<Vec<SpanEvent>, Corrupt> {
        let reader = &mut self.columns[Column::Events as usize];
        let n = reader.count()?;
        (0..n)
            .map(|_| {
                let at = Nanos(start.0.wrapping_add(reader.signed()?));
                let name = self.strings.get(reader.index()?)?;
                Ok(SpanEvent { at, name, attributes: attributes(reader, &mut self.strings)? })
            })
            .collect()
    }

    fn links(&mut self) -> Result<Vec<SpanLink>, Corrupt> {
        let reader = &mut self.columns[Column::Links as usize];
        let n = reader.count()?;
        (0..n)
            .map(|_| {
                let (trace_id, span_id) = (TraceId(reader.array()?), SpanId(reader.array()?));
                let trace_state = self.strings.get(reader.index()?)?;
                Ok(SpanLink { trace_id, span_id, trace_state, attributes: attributes(reader, &mut self.strings)? })
            })
            .collect()
    }
}

fn attributes(reader: &mut Reader<'_>, strings: &mut Strings<'_>) -> Result<Attributes, Corrupt> {
    let n = reader.count()?;
    (0..n)
        .map(|_| {
            let name = strings.get(reader.index()?)?;
            let kind = reader.byte()?;
            Ok((name, value(reader, kind, strings, 0)?))
        })
        .collect()
}

fn value(reader: &mut Reader<'_>, kind: u8, strings: &mut Strings<'_>, depth: usize) -> Result<AttrValue, Corrupt> {
    if depth > DEPTH_MAX {
        return Err(Corrupt("values are nested too deeply"));
    }
    let typed = |reader: &mut Reader<'_>, strings: &mut Strings<'_>| {
        let kind = reader.byte()?;
        value(reader, kind, strings, depth + 1)
    };
    Ok(match kind {
        STR => AttrValue::Str(strings.get(reader.index()?)?),
        INT => AttrValue::Int(reader.signed()?),
        DOUBLE => AttrValue::Double(f64::from_bits(u64::from_le_bytes(reader.array()?))),
        BOOL => AttrValue::Bool(reader.byte()? != 0),
        BYTES => AttrValue::Bytes(reader.bytes()?.into()),
        ARRAY => {
            let n = reader.count()?;
            AttrValue::Array((0..n).map(|_| typed(reader, strings)).collect::<Result<_, _>>()?)
        }
        MAP => {
            let n = reader.count()?;
            let mut entries = Vec::new();
            for _ in 0..n {
                let name = strings.get(reader.index()?)?;
                entries.push((name, typed(reader, strings)?));
            }
            AttrValue::Map(entries)
        }
        _ => return Err(Corrupt("a value has an unknown type")),
    })
}

pub(super) fn kind_of(number: u8) -> Result<SpanKind, Corrupt> {
    Ok(match number {
        0 => SpanKind::Unspecified,
        1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => return Err(Corrupt("a span has an unknown kind")),
    })
}

pub(super) fn status_of(number: u8) -> Result<StatusCode, Corrupt> {
    Ok(match number {
        0 => StatusCode::Unset,
        1 => StatusCode::Ok,
        2 => StatusCode::Error,
        _ => return Err(Corrupt("a span has an unknown status")),
    })
}
