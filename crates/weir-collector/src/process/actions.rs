//! `attributes` and `resource`: actions on attributes, one after another.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use regex::Regex;
use sha2::Digest as _;
use weir_model::Nanos;

use super::Stateless;
use super::include::{Include, include_blocks};
use super::walk::retain;
use crate::config::{Field, Node, Scalar, Section};
use crate::data::{Data, Signal, get, set, text_of};
use crate::ottl::{Context, EvalError, Subject};

/// Actions on the attributes of items, or of resources.
#[derive(Clone, Debug)]
pub struct AttributesConfig {
    of_resource: bool,
    /// By signal, as the fields differ.
    include: Vec<(Signal, Include)>,
    actions: Vec<Action>,
}

#[derive(Clone, Debug)]
enum Value {
    Fixed(Any),
    Of(String),
    /// Of another attribute, and what stands in when there is none.
    OfOr(String, Any),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Into {
    Int,
    Double,
    Text,
}

#[derive(Clone, Debug)]
enum Action {
    Insert(String, Value),
    Update(String, Value),
    Upsert(String, Value),
    Delete(Option<String>, Option<Regex>),
    Hash(Option<String>, Option<Regex>),
    Extract(String, Regex),
    Convert(String, Into),
}

impl AttributesConfig {
    /// `attributes`, used in pipelines of `signals`.
    pub(crate) fn read(section: Section<'_>, signals: &[Signal]) -> Self {
        let actions: Vec<Action> = section.items("actions").iter().filter_map(Action::read).collect();
        if actions.is_empty() {
            section.error("`actions` is missing or empty");
        }
        // A block is read for each signal whose pipelines it stands in, as its keys differ.
        let of_signal = |signal: &Signal| include_blocks(&section, *signal).map(|include| (*signal, include));
        let include = signals.iter().filter_map(of_signal).collect();
        section.finish();
        Self { of_resource: false, include, actions }
    }

    /// `resource`.
    pub(crate) fn read_resource(section: Section<'_>) -> Self {
        let actions: Vec<Action> = section.items("attributes").iter().filter_map(Action::read).collect();
        if actions.is_empty() {
            section.error("`attributes` is missing or empty");
        }
        section.finish();
        Self { of_resource: true, include: Vec::new(), actions }
    }
}

fn any_of(field: &Field<'_>) -> Option<Any> {
    match field.node {
        Node::Scalar(Scalar::Str(text)) => Some(Any::StringValue(text.clone())),
        Node::Scalar(Scalar::Int(v)) => Some(Any::IntValue(*v)),
        Node::Scalar(Scalar::Float(v)) => Some(Any::DoubleValue(*v)),
        Node::Scalar(Scalar::Bool(v)) => Some(Any::BoolValue(*v)),
        _ => {
            field.error("give a text, a number, true or false");
            None
        }
    }
}

impl Action {
    fn read(field: &Field<'_>) -> Option<Self> {
        let section = field.section();
        let action = section.required("action").and_then(|f| f.text());
        let key = section.text("key").filter(|key| !key.is_empty());
        let pattern = section.get("pattern").and_then(|f| match weir_go::regex(&f.text()?) {
            Ok(regex) => Some(regex),
            Err(error) => {
                f.error(error.to_string());
                None
            }
        });
        let value = Self::value(&section);
        let into = section.get("converted_type");
        let made = Self::of(&section, &action?, key, pattern, value, into);
        section.finish();
        made
    }

    fn value(section: &Section<'_>) -> Option<Value> {
        if let Some(field) = section.get("from_context") {
            field.error("is not supported: metadata of requests are not kept with the data");
        }
        let fixed = section.get("value").and_then(|f| any_of(&f));
        let default = section.get("default_value").and_then(|f| any_of(&f));
        match (fixed, section.text("from_attribute"), default) {
            (Some(_), Some(_), _) => {
                section.error("give either `value` or `from_attribute`");
                None
            }
            (Some(value), None, _) => Some(Value::Fixed(value)),
            (None, Some(from), None) => Some(Value::Of(from)),
            (None, Some(from), Some(default)) => Some(Value::OfOr(from, default)),
            (None, None, _) => None,
        }
    }

    fn of(
        section: &Section<'_>,
        action: &str,
        key: Option<String>,
        pattern: Option<Regex>,
        value: Option<Value>,
        into: Option<Field<'_>>,
    ) -> Option<Self> {
        let missing = |what: &str| {
            section.error(format!("`{action}` needs {what}"));
            None
        };
        match action {
            "insert" | "update" | "upsert" => match (key, value) {
                (Some(key), Some(value)) => Some(match action {
                    "insert" => Self::Insert(key, value),
                    "update" => Self::Update(key, value),
                    _ => Self::Upsert(key, value),
                }),
                (None, _) => missing("`key`"),
                (_, None) => missing("`value` or `from_attribute`"),
            },
            "delete" | "hash" if key.is_none() && pattern.is_none() => missing("`key` or `pattern`"),
            "delete" => Some(Self::Delete(key, pattern)),
            "hash" => Some(Self::Hash(key, pattern)),
            "extract" => match (key, pattern) {
                (Some(_), Some(regex)) if regex.capture_names().flatten().next().is_none() => {
                    missing("named groups in `pattern`, such as (?P<name>.*)")
                }
                (Some(key), Some(regex)) => Some(Self::Extract(key, regex)),
                _ => missing("`key` and `pattern`"),
            },
            "convert" => match (key, into.as_ref().and_then(|f| f.text()).as_deref()) {
                (None, _) => missing("`key`"),
                (Some(key), Some("int")) => Some(Self::Convert(key, Into::Int)),
                (Some(key), Some("double")) => Some(Self::Convert(key, Into::Double)),
                (Some(key), Some("string")) => Some(Self::Convert(key, Into::Text)),
                _ => missing("`converted_type`: int, double or string"),
            },
            other => {
                let known = "insert, update, upsert, delete, hash, extract, convert";
                section.error(format!("unknown action `{other}`; known are {known}"));
                None
            }
        }
    }

    fn apply(&self, attributes: &mut Vec<KeyValue>) {
        let has = |attributes: &[KeyValue], key: &str| attributes.iter().any(|kv| kv.key == key);
        match self {
            Self::Insert(key, value) if !has(attributes, key) => put(attributes, key, value),
            Self::Update(key, value) if has(attributes, key) => put(attributes, key, value),
            Self::Upsert(key, value) => put(attributes, key, value),
            Self::Insert(..) | Self::Update(..) => {}
            Self::Delete(key, pattern) => attributes.retain(|kv| !names(key, pattern, &kv.key)),
            Self::Hash(key, pattern) => {
                for kv in attributes.iter_mut().filter(|kv| names(key, pattern, &kv.key)) {
                    if let Some(value) = kv.value.as_mut().and_then(|v| v.value.as_mut()) {
                        *value = Any::StringValue(hash(value));
                    }
                }
            }
            Self::Extract(key, regex) => {
                let Some(Any::StringValue(text)) = get(attributes, key).cloned() else { return };
                let Some(found) = regex.captures(&text) else { return };
                for name in regex.capture_names().flatten() {
                    if let Some(part) = found.name(name) {
                        set(attributes, name, Any::StringValue(part.as_str().to_owned()));
                    }
                }
            }
            Self::Convert(key, into) => {
                if let Some(converted) = get(attributes, key).and_then(|value| convert(value, *into)) {
                    set(attributes, key, converted);
                }
            }
        }
    }
}

fn names(key: &Option<String>, pattern: &Option<Regex>, name: &str) -> bool {
    key.as_deref() == Some(name) || pattern.as_ref().is_some_and(|regex| regex.is_match(name))
}

fn put(attributes: &mut Vec<KeyValue>, key: &str, value: &Value) {
    let value = match value {
        Value::Fixed(value) => Some(value.clone()),
        Value::Of(from) => get(attributes, from).cloned(),
        Value::OfOr(from, default) => Some(get(attributes, from).unwrap_or(default).clone()),
    };
    if let Some(value) = value {
        set(attributes, key, value);
    }
}

/// SHA-256 of the bytes that upstream hashes: texts as they are, numbers in little-endian order.
fn hash(value: &Any) -> String {
    let bytes = match value {
        Any::StringValue(text) => text.clone().into_bytes(),
        Any::BoolValue(v) => vec![u8::from(*v)],
        Any::IntValue(v) => v.to_le_bytes().to_vec(),
        Any::DoubleValue(v) => v.to_bits().to_le_bytes().to_vec(),
        Any::BytesValue(v) => v.clone(),
        other => text_of(other).into_bytes(),
    };
    hex::encode(sha2::Sha256::digest(bytes))
}

/// `None` where it cannot be converted, and stays.
fn convert(value: &Any, into: Into) -> Option<Any> {
    Some(match into {
        Into::Text => Any::StringValue(match value {
            Any::DoubleValue(v) => weir_go::format_v(*v),
            other => text_of(other),
        }),
        Into::Int => Any::IntValue(match value {
            Any::IntValue(v) => *v,
            Any::DoubleValue(v) => *v as i64,
            Any::BoolValue(v) => i64::from(*v),
            Any::StringValue(text) => text.parse().ok()?,
            _ => return None,
        }),
        Into::Double => Any::DoubleValue(match value {
            Any::IntValue(v) => *v as f64,
            Any::DoubleValue(v) => *v,
            Any::BoolValue(v) => f64::from(u8::from(*v)),
            Any::StringValue(text) => text.parse().ok()?,
            _ => return None,
        }),
    })
}

impl Stateless for AttributesConfig {
    fn process(&self, data: &mut Data, now: Nanos) -> Result<(), EvalError> {
        let signal = data.signal();
        let include = self.include.iter().find(|(s, _)| *s == signal).map(|(_, include)| include);
        let at = match (self.of_resource, signal) {
            (true, _) => Context::Resource,
            (false, Signal::Traces) => Context::Span,
            (false, Signal::Metrics) => Context::DataPoint,
            (false, Signal::Logs) => Context::Log,
        };
        retain(data, at, now, &mut |scene| {
            if include.is_none_or(|include| include.applies(scene)) {
                let attributes = match &mut scene.subject {
                    Subject::None => &mut scene.resource.attributes,
                    Subject::Span(span) => &mut span.attributes,
                    Subject::Log(record) => &mut record.attributes,
                    Subject::Point(_, point) => point.attributes(),
                    Subject::SpanEvent(_, event) => &mut event.attributes,
                    Subject::Metric(_) => return Ok(true),
                };
                self.actions.iter().for_each(|action| action.apply(attributes));
            }
            Ok(true)
        })
    }
}
