//! Which resources are one, and keys of series.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};

use crate::data::{get, text_of};

/// What a store of metrics can tell resources apart by: its labels `job` and `instance` are made of these.
pub(super) const IDENTITY: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// Adds a part of a key. Each has its length before it, so that no two lists of parts look alike.
pub(super) fn put(key: &mut Vec<u8>, part: Option<&str>) {
    match part {
        Some(text) => {
            key.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX - 1).to_le_bytes());
            key.extend_from_slice(text.as_bytes());
        }
        None => key.extend_from_slice(&u32::MAX.to_le_bytes()),
    }
}

pub(super) fn put_value(key: &mut Vec<u8>, value: Option<&Any>) {
    match value {
        Some(Any::StringValue(text)) => put(key, Some(text)),
        Some(other) => put(key, Some(&text_of(other))),
        None => put(key, None),
    }
}

/// The key of a resource by some of its attributes.
pub(super) fn identity<'k>(attributes: &[KeyValue], by: impl IntoIterator<Item = &'k str>) -> Vec<u8> {
    let mut key = Vec::new();
    by.into_iter().for_each(|name| put_value(&mut key, get(attributes, name)));
    key
}

/// Leaves what two resources have in common: what is said of both together must hold for each.
pub(super) fn keep_common(mine: &mut Vec<KeyValue>, other: &[KeyValue]) {
    if mine != other {
        mine.retain(|kv| other.iter().any(|theirs| theirs.key == kv.key && theirs.value == kv.value));
    }
}

pub(super) fn attribute(key: &str, value: Any) -> KeyValue {
    use opentelemetry_proto::tonic::common::v1::AnyValue;
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

pub(super) fn text_attribute(key: &str, value: &str) -> KeyValue {
    attribute(key, Any::StringValue(value.to_owned()))
}
