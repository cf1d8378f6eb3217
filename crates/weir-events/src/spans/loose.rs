//! Values with their texts inline: of resources and scopes, and those that no column of numbers holds.

use std::sync::Arc;

use weir_model::span::Attributes;
use weir_model::{AttrValue, Nanos, Span, SpanEvent, SpanId, SpanLink, TraceId};

use super::bytes::{Corrupt, Reader, put, put_bytes, put_signed};
use super::encode::{ARRAY, BOOL, BYTES, DOUBLE, INT, MAP, STR, type_of};

/// Values within values; OTLP's decoders stop earlier.
const DEPTH_MAX: usize = 120;

pub fn put_value(out: &mut Vec<u8>, value: &AttrValue) {
    out.push(type_of(value));
    match value {
        AttrValue::Str(text) => put_bytes(out, text.as_bytes()),
        AttrValue::Int(v) => put_signed(out, *v),
        AttrValue::Double(v) => out.extend_from_slice(&v.to_bits().to_le_bytes()),
        AttrValue::Bool(v) => out.push(u8::from(*v)),
        AttrValue::Bytes(bytes) => put_bytes(out, bytes),
        AttrValue::Array(items) => {
            put(out, items.len() as u64);
            items.iter().for_each(|item| put_value(out, item));
        }
        AttrValue::Map(entries) => put_attributes(out, entries),
    }
}

pub fn put_attributes(out: &mut Vec<u8>, attributes: &[(Arc<str>, AttrValue)]) {
    put(out, attributes.len() as u64);
    for (name, value) in attributes {
        put_bytes(out, name.as_bytes());
        put_value(out, value);
    }
}

pub fn value(reader: &mut Reader<'_>) -> Result<AttrValue, Corrupt> {
    value_at(reader, 0)
}

fn value_at(reader: &mut Reader<'_>, depth: usize) -> Result<AttrValue, Corrupt> {
    if depth > DEPTH_MAX {
        return Err(Corrupt("values are nested too deeply"));
    }
    Ok(match reader.byte()? {
        STR => AttrValue::Str(text(reader)?),
        INT => AttrValue::Int(reader.signed()?),
        DOUBLE => AttrValue::Double(f64::from_bits(u64::from_le_bytes(reader.array()?))),
        BOOL => AttrValue::Bool(reader.byte()? != 0),
        BYTES => AttrValue::Bytes(reader.bytes()?.into()),
        ARRAY => {
            let n = reader.count()?;
            AttrValue::Array((0..n).map(|_| value_at(reader, depth + 1)).collect::<Result<_, _>>()?)
        }
        MAP => AttrValue::Map(attributes_at(reader, depth + 1)?),
        _ => return Err(Corrupt("a value has an unknown type")),
    })
}

pub fn text(reader: &mut Reader<'_>) -> Result<Arc<str>, Corrupt> {
    std::str::from_utf8(reader.bytes()?).map(Into::into).map_err(|_| Corrupt("a text is not UTF-8"))
}

pub fn attributes(reader: &mut Reader<'_>) -> Result<Attributes, Corrupt> {
    attributes_at(reader, 0)
}

fn attributes_at(reader: &mut Reader<'_>, depth: usize) -> Result<Attributes, Corrupt> {
    let n = reader.count()?;
    (0..n).map(|_| Ok((text(reader)?, value_at(reader, depth)?))).collect()
}

/// Events and links of a span that has any.
pub fn put_extras(out: &mut Vec<u8>, span: &Span) {
    put(out, span.events.len() as u64);
    for event in &span.events {
        put_signed(out, event.at.0.wrapping_sub(span.start.0));
        put_bytes(out, event.name.as_bytes());
        put_attributes(out, &event.attributes);
    }
    put(out, span.links.len() as u64);
    for link in &span.links {
        out.extend_from_slice(&link.trace_id.0);
        out.extend_from_slice(&link.span_id.0);
        put_bytes(out, link.trace_state.as_bytes());
        put_attributes(out, &link.attributes);
    }
}

pub fn extras(reader: &mut Reader<'_>, start: Nanos) -> Result<(Vec<SpanEvent>, Vec<SpanLink>), Corrupt> {
    let n = reader.count()?;
    let event = |reader: &mut Reader<'_>| {
        let at = Nanos(start.0.wrapping_add(reader.signed()?));
        Ok(SpanEvent { at, name: text(reader)?, attributes: attributes(reader)? })
    };
    let events = (0..n).map(|_| event(reader)).collect::<Result<_, Corrupt>>()?;
    let n = reader.count()?;
    let link = |reader: &mut Reader<'_>| {
        let (trace_id, span_id) = (TraceId(reader.array()?), SpanId(reader.array()?));
        Ok(SpanLink { trace_id, span_id, trace_state: text(reader)?, attributes: attributes(reader)? })
    };
    let links = (0..n).map(|_| link(reader)).collect::<Result<_, Corrupt>>()?;
    Ok((events, links))
}
