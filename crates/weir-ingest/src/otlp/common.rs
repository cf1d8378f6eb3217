//! Attributes, resources and scopes; names as labels.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource as ProtoResource;
use weir_model::span::Attributes;
use weir_model::{AttrValue, Resource, Scope};

/// Nesting past this is cut: a sender could otherwise exhaust the stack. Prost stops at 100 itself.
pub(super) const DEPTH_MAX: usize = 32;

pub(super) fn attributes(list: Vec<KeyValue>) -> Attributes {
    attributes_at(list, 0)
}

fn attributes_at(list: Vec<KeyValue>, depth: usize) -> Attributes {
    list.into_iter().filter_map(|kv| Some((Arc::from(kv.key), value_at(kv.value?, depth)?))).collect()
}

pub(super) fn value(value: AnyValue) -> Option<AttrValue> {
    value_at(value, 0)
}

fn value_at(value: AnyValue, depth: usize) -> Option<AttrValue> {
    if depth > DEPTH_MAX {
        return None;
    }
    Some(match value.value? {
        any_value::Value::StringValue(v) => AttrValue::Str(v.into()),
        any_value::Value::BoolValue(v) => AttrValue::Bool(v),
        any_value::Value::IntValue(v) => AttrValue::Int(v),
        any_value::Value::DoubleValue(v) => AttrValue::Double(v),
        any_value::Value::BytesValue(v) => AttrValue::Bytes(v.into()),
        any_value::Value::ArrayValue(list) => {
            AttrValue::Array(list.values.into_iter().filter_map(|v| value_at(v, depth + 1)).collect())
        }
        any_value::Value::KvlistValue(list) => AttrValue::Map(attributes_at(list.values, depth + 1)),
        // An index into a string table, which only profiles carry.
        _ => return None,
    })
}

pub(super) fn resource(resource: Option<ProtoResource>) -> Resource {
    Resource { attributes: resource.map(|r| attributes(r.attributes)).unwrap_or_default() }
}

pub(super) fn scope(scope: Option<InstrumentationScope>) -> Scope {
    let Some(scope) = scope else { return Scope::default() };
    Scope { name: scope.name.into(), version: scope.version.into(), attributes: attributes(scope.attributes) }
}

/// Nanoseconds of OTLP as weir has them; what does not fit (past 2262) is the end of time.
pub(super) fn nanos(t: u64) -> weir_model::Nanos {
    weir_model::Nanos(i64::try_from(t).unwrap_or(i64::MAX))
}

/// Letters, digits and `_` stay, everything else becomes `_`, each on its own.
pub(super) fn underscored(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}
