//! Values of OTTL, and how they compare.

use std::cmp::Ordering;

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value as Any};

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
    /// Nanoseconds since 1970.
    Time(i64),
    /// Nanoseconds.
    Duration(i64),
}

impl Value {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Map(_) => "map",
            Self::Time(_) => "time",
            Self::Duration(_) => "duration",
        }
    }

    pub fn of_any(value: Option<&AnyValue>) -> Self {
        value.and_then(|v| v.value.as_ref()).map_or(Self::Nil, Self::of)
    }

    pub fn of(value: &Any) -> Self {
        match value {
            Any::StringValue(v) => Self::Str(v.clone()),
            Any::BoolValue(v) => Self::Bool(*v),
            Any::IntValue(v) => Self::Int(*v),
            Any::DoubleValue(v) => Self::Float(*v),
            Any::BytesValue(v) => Self::Bytes(v.clone()),
            Any::ArrayValue(list) => Self::List(list.values.iter().map(|v| Self::of_any(Some(v))).collect()),
            Any::KvlistValue(map) => Self::of_attributes(&map.values),
            Any::StringValueStrindex(_) => Self::Nil,
        }
    }

    pub fn of_attributes(list: &[KeyValue]) -> Self {
        Self::Map(list.iter().map(|kv| (kv.key.clone(), Self::of_any(kv.value.as_ref()))).collect())
    }

    /// As a value of an attribute. Times are texts, durations nanoseconds.
    pub fn into_any(self) -> AnyValue {
        let value = match self {
            Self::Nil => None,
            Self::Bool(v) => Some(Any::BoolValue(v)),
            Self::Int(v) | Self::Duration(v) => Some(Any::IntValue(v)),
            Self::Float(v) => Some(Any::DoubleValue(v)),
            Self::Str(v) => Some(Any::StringValue(v)),
            Self::Bytes(v) => Some(Any::BytesValue(v)),
            Self::List(list) => {
                Some(Any::ArrayValue(ArrayValue { values: list.into_iter().map(Self::into_any).collect() }))
            }
            Self::Map(map) => Some(Any::KvlistValue(KeyValueList { values: attributes(map) })),
            Self::Time(nanos) => Some(Any::StringValue(rfc3339(nanos))),
        };
        AnyValue { value }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Int(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// As upstream's `String` has it; `None` for nil.
    pub fn to_text(&self) -> Option<String> {
        Some(match self {
            Self::Nil => return None,
            Self::Bool(v) => v.to_string(),
            Self::Int(v) => v.to_string(),
            Self::Float(v) => weir_go::format_v(*v),
            Self::Str(v) => v.clone(),
            Self::Bytes(v) => hex::encode(v),
            Self::List(_) | Self::Map(_) => crate::data::json_of(&self.clone().into_any().value?).to_string(),
            Self::Time(nanos) => rfc3339(*nanos),
            Self::Duration(nanos) => weir_go::format_go_duration(*nanos),
        })
    }

    /// `a == b`, where numbers of both types are one.
    pub fn equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Int(a), Self::Float(b)) | (Self::Float(b), Self::Int(a)) => *a as f64 == *b,
            (a, b) => a == b,
        }
    }

    /// `None` where the two have no order: of nil, of different types, of lists and maps.
    pub fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Str(a), Self::Str(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Self::Bytes(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Time(a), Self::Time(b)) | (Self::Duration(a), Self::Duration(b)) => Some(a.cmp(b)),
            (a, b) => a.as_f64()?.partial_cmp(&b.as_f64()?),
        }
    }
}

pub(crate) fn rfc3339(nanos: i64) -> String {
    weir_model::Nanos(nanos).millis().rfc3339()
}

pub(crate) fn attributes(map: Vec<(String, Value)>) -> Vec<KeyValue> {
    let entry = |(key, value): (String, Value)| KeyValue { key, value: Some(value.into_any()), ..KeyValue::default() };
    map.into_iter().map(entry).collect()
}
