//! Spans, in OpenTelemetry's terms.

use std::fmt;
use std::sync::Arc;

use crate::time::Nanos;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct TraceId(pub [u8; 16]);

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SpanId(pub [u8; 8]);

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Lower-case digits, two for each byte.
fn hex<const N: usize>(bytes: &[u8], text: &mut [u8; N]) {
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

macro_rules! id {
    ($name:ident, $len:expr) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.with_hex(|text| f.write_str(text))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.with_hex(|text| f.write_str(text))
            }
        }
        impl $name {
            pub fn is_zero(self) -> bool {
                self.0 == [0; $len]
            }
            /// Its digits, as [`fmt::Display`] writes them, without a buffer on the heap.
            pub fn with_hex<T>(self, use_text: impl FnOnce(&str) -> T) -> T {
                let mut text = [0u8; 2 * $len];
                hex(&self.0, &mut text);
                use_text(std::str::from_utf8(&text).expect("digits are ASCII"))
            }
            /// Its digits in an allocation of their own.
            pub fn to_text(self) -> Arc<str> {
                self.with_hex(|text| Arc::from(text))
            }
            /// Hexadecimal digits of either case, dashes ignored, leading zeros optional.
            pub fn parse_hex(text: &str) -> Option<Self> {
                let mut out = [0u8; $len];
                let mut n = 0;
                for byte in text.bytes().rev().filter(|b| *b != b'-') {
                    let digit = char::from(byte).to_digit(16)? as u8;
                    let place = ($len - 1_usize).checked_sub(n / 2)?;
                    out[place] |= digit << (4 * (n % 2));
                    n += 1;
                }
                (n > 0).then_some(Self(out))
            }
        }
    };
}
id!(TraceId, 16);
id!(SpanId, 8);

#[derive(Clone, Debug, PartialEq)]
pub enum AttrValue {
    Str(Arc<str>),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bytes(Arc<[u8]>),
    Array(Vec<AttrValue>),
    Map(Vec<(Arc<str>, AttrValue)>),
}

impl AttrValue {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(s) => Some(s),
            _ => None,
        }
    }
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(v) => Some(*v as f64),
            Self::Double(v) => Some(*v),
            _ => None,
        }
    }
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Str(s) => serde_json::Value::String(s.to_string()),
            Self::Int(v) => (*v).into(),
            Self::Double(v) => serde_json::Number::from_f64(*v).map_or(serde_json::Value::Null, Into::into),
            Self::Bool(v) => (*v).into(),
            Self::Bytes(b) => b.iter().map(|b| format!("{b:02x}")).collect::<String>().into(),
            Self::Array(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => {
                serde_json::Value::Object(entries.iter().map(|(k, v)| (k.to_string(), v.to_json())).collect())
            }
        }
    }
    /// Text as a label value shows it: strings bare, arrays and maps as JSON.
    pub fn to_text(&self) -> String {
        match self {
            Self::Str(s) => s.to_string(),
            other => other.to_json().to_string(),
        }
    }
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Str(s) => s.len(),
            Self::Bytes(b) => b.len(),
            Self::Int(_) | Self::Double(_) => 8,
            Self::Bool(_) => 1,
            Self::Array(items) => items.iter().map(Self::size_bytes).sum(),
            Self::Map(entries) => entries.iter().map(|(k, v)| k.len() + v.size_bytes()).sum(),
        }
    }
}

impl From<&str> for AttrValue {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

pub type Attributes = Vec<(Arc<str>, AttrValue)>;

/// Attribute of the spans of a trace that was kept by a draw: how many traces it stands for.
pub const SAMPLING_WEIGHT: &str = "weir.sampling.weight";

/// How many spans one stands for, as [`SAMPLING_WEIGHT`] says; one without it stands for itself.
pub fn weight_of(value: Option<&AttrValue>) -> f64 {
    let weight = match value {
        Some(AttrValue::Double(v)) => *v,
        Some(AttrValue::Int(v)) => *v as f64,
        _ => 1.0,
    };
    if weight.is_finite() && weight >= 1.0 { weight } else { 1.0 }
}

pub fn attr<'a>(attributes: &'a [(Arc<str>, AttrValue)], name: &str) -> Option<&'a AttrValue> {
    attributes.iter().find(|(n, _)| &**n == name).map(|(_, v)| v)
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    pub attributes: Attributes,
}

impl Resource {
    pub fn get(&self, name: &str) -> Option<&AttrValue> {
        attr(&self.attributes, name)
    }
    /// `service.name`, or the name that OpenTelemetry gives to those who did not say.
    pub fn service(&self) -> &str {
        self.get("service.name").and_then(AttrValue::as_str).unwrap_or("unknown_service")
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scope {
    pub name: Arc<str>,
    pub version: Arc<str>,
    pub attributes: Attributes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SpanKind {
    #[default]
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum StatusCode {
    #[default]
    Unset,
    Ok,
    Error,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpanStatus {
    pub code: StatusCode,
    pub message: Arc<str>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SpanEvent {
    pub at: Nanos,
    pub name: Arc<str>,
    pub attributes: Attributes,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SpanLink {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub trace_state: Arc<str>,
    pub attributes: Attributes,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    /// `None` for a root.
    pub parent: Option<SpanId>,
    pub name: Arc<str>,
    pub kind: SpanKind,
    pub start: Nanos,
    pub end: Nanos,
    pub status: SpanStatus,
    pub attributes: Attributes,
    pub events: Vec<SpanEvent>,
    pub links: Vec<SpanLink>,
    pub trace_state: Arc<str>,
    pub flags: u32,
    pub resource: Arc<Resource>,
    pub scope: Arc<Scope>,
}

impl Span {
    pub fn duration_nanos(&self) -> i64 {
        self.end.0.saturating_sub(self.start.0).max(0)
    }
    pub fn get(&self, name: &str) -> Option<&AttrValue> {
        attr(&self.attributes, name)
    }
    pub fn is_error(&self) -> bool {
        self.status.code == StatusCode::Error
    }
    pub fn size_bytes(&self) -> usize {
        let attrs = |a: &Attributes| a.iter().map(|(k, v)| k.len() + v.size_bytes()).sum::<usize>();
        64 + self.name.len()
            + self.status.message.len()
            + attrs(&self.attributes)
            + self.events.iter().map(|e| e.name.len() + 8 + attrs(&e.attributes)).sum::<usize>()
            + self.links.iter().map(|l| 24 + attrs(&l.attributes)).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_with_dashes_and_without_leading_zeros() {
        let id = TraceId::parse_hex("2f3e0cee77ae5dc9c17ade3689eb2e54").unwrap();
        assert_eq!(id.to_string(), "2f3e0cee77ae5dc9c17ade3689eb2e54");
        assert_eq!(TraceId::parse_hex("2F3E0CEE-77ae-5dc9-c17a-de3689eb2e54"), Some(id));
        assert_eq!(SpanId::parse_hex("a1").unwrap().to_string(), "00000000000000a1");
        assert_eq!(SpanId::parse_hex("xyz"), None);
        assert_eq!(SpanId::parse_hex("00112233445566778"), None);
    }
}
