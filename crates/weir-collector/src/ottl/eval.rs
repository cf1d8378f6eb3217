//! Reading and writing paths, and the value of expressions.

use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint, SummaryDataPoint,
    metric::Data as MetricData, number_data_point::Value as Number,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, span::Event};
use weir_model::Nanos;

use super::parse::{Compare, Expr, Math};
use super::path::{Context, Key, Part, Path};
use super::value::{Value, attributes};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: {reason}")]
pub struct EvalError {
    pub text: String,
    pub reason: String,
}

/// A point of any kind.
pub enum PointRef<'a> {
    Number(&'a mut NumberDataPoint),
    Histogram(&'a mut HistogramDataPoint),
    Exponential(&'a mut ExponentialHistogramDataPoint),
    Summary(&'a mut SummaryDataPoint),
}

impl PointRef<'_> {
    pub fn attributes(&mut self) -> &mut Vec<KeyValue> {
        match self {
            Self::Number(p) => &mut p.attributes,
            Self::Histogram(p) => &mut p.attributes,
            Self::Exponential(p) => &mut p.attributes,
            Self::Summary(p) => &mut p.attributes,
        }
    }
    fn times(&mut self) -> (&mut u64, &mut u64) {
        match self {
            Self::Number(p) => (&mut p.start_time_unix_nano, &mut p.time_unix_nano),
            Self::Histogram(p) => (&mut p.start_time_unix_nano, &mut p.time_unix_nano),
            Self::Exponential(p) => (&mut p.start_time_unix_nano, &mut p.time_unix_nano),
            Self::Summary(p) => (&mut p.start_time_unix_nano, &mut p.time_unix_nano),
        }
    }
    fn flags(&mut self) -> &mut u32 {
        match self {
            Self::Number(p) => &mut p.flags,
            Self::Histogram(p) => &mut p.flags,
            Self::Exponential(p) => &mut p.flags,
            Self::Summary(p) => &mut p.flags,
        }
    }
}

/// The item that an expression is about.
pub enum Subject<'a> {
    /// Only what is around it.
    None,
    Span(&'a mut Span),
    /// The span has its events taken out meanwhile.
    SpanEvent(&'a mut Span, &'a mut Event),
    Metric(&'a mut Metric),
    /// The metric has points of its kind, but not the one that is looked at.
    Point(&'a mut Metric, PointRef<'a>),
    Log(&'a mut LogRecord),
}

/// An item with what is around it.
pub struct Scene<'a> {
    pub resource: &'a mut Resource,
    pub resource_url: &'a mut String,
    pub scope: &'a mut InstrumentationScope,
    pub scope_url: &'a mut String,
    pub subject: Subject<'a>,
    pub now: Nanos,
    /// What statements keep for later ones about the same item.
    pub cache: Vec<KeyValue>,
}

fn bytes_or_nil(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}

fn whole(v: u64) -> i64 {
    i64::try_from(v).unwrap_or(i64::MAX)
}

/// `vendor=value` pairs of a trace state.
pub(crate) fn state_value<'t>(state: &'t str, key: &str) -> Option<&'t str> {
    state.split(',').filter_map(|pair| pair.trim().split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v)
}

fn dig(list: &[KeyValue], keys: &[Key]) -> Value {
    let Some((Key::Name(name), rest)) = keys.split_first() else {
        return if keys.is_empty() { Value::of_attributes(list) } else { Value::Nil };
    };
    let found = list.iter().find(|kv| kv.key == *name).and_then(|kv| kv.value.as_ref());
    found.map_or(Value::Nil, |value| dig_any(value, rest))
}

fn dig_any(value: &AnyValue, keys: &[Key]) -> Value {
    let Some((key, rest)) = keys.split_first() else { return Value::of_any(Some(value)) };
    match (&value.value, key) {
        (Some(Any::KvlistValue(map)), Key::Name(_)) => dig(&map.values, keys),
        (Some(Any::ArrayValue(list)), Key::Index(k)) => {
            let item = usize::try_from(*k).ok().and_then(|k| list.values.get(k));
            item.map_or(Value::Nil, |item| dig_any(item, rest))
        }
        _ => Value::Nil,
    }
}

/// The place of a value below attributes; made where it is missing.
fn place<'v>(list: &'v mut Vec<KeyValue>, keys: &[Key]) -> Result<&'v mut AnyValue, String> {
    let Some((Key::Name(name), rest)) = keys.split_first() else { return Err("a map's keys are texts".to_owned()) };
    let k = match list.iter().position(|kv| kv.key == *name) {
        Some(k) => k,
        None => {
            list.push(KeyValue { key: name.clone(), value: Some(AnyValue::default()), ..KeyValue::default() });
            list.len() - 1
        }
    };
    place_any(list[k].value.get_or_insert_with(AnyValue::default), rest)
}

fn place_any<'v>(value: &'v mut AnyValue, keys: &[Key]) -> Result<&'v mut AnyValue, String> {
    let Some((key, rest)) = keys.split_first() else { return Ok(value) };
    if value.value.is_none() && matches!(key, Key::Name(_)) {
        value.value = Some(Any::KvlistValue(Default::default()));
    }
    match (value.value.as_mut(), key) {
        (Some(Any::KvlistValue(map)), Key::Name(_)) => place(&mut map.values, keys),
        (Some(Any::ArrayValue(list)), Key::Index(k)) => {
            let n = list.values.len();
            let item = usize::try_from(*k).ok().and_then(|k| list.values.get_mut(k));
            place_any(item.ok_or_else(|| format!("index {k} is outside of a list of {n}"))?, rest)
        }
        (_, Key::Name(name)) => Err(format!("`{name}` is looked for in something that is no map")),
        (_, Key::Index(k)) => Err(format!("index {k} into something that is no list")),
    }
}

const KINDS: [&str; 6] = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"];

impl<'a> Scene<'a> {
    fn span(&mut self) -> Option<&mut Span> {
        match &mut self.subject {
            Subject::Span(span) | Subject::SpanEvent(span, _) => Some(span),
            _ => None,
        }
    }
    fn event(&mut self) -> Option<&mut Event> {
        if let Subject::SpanEvent(_, event) = &mut self.subject { Some(event) } else { None }
    }
    fn log(&mut self) -> Option<&mut LogRecord> {
        if let Subject::Log(record) = &mut self.subject { Some(record) } else { None }
    }
    pub(super) fn metric(&mut self) -> Option<&mut Metric> {
        match &mut self.subject {
            Subject::Metric(metric) | Subject::Point(metric, _) => Some(metric),
            _ => None,
        }
    }
    fn point(&mut self) -> Option<&mut PointRef<'a>> {
        if let Subject::Point(_, point) = &mut self.subject { Some(point) } else { None }
    }

    /// The list of attributes of a context.
    fn attributes(&mut self, of: Context) -> Option<&mut Vec<KeyValue>> {
        match of {
            Context::Resource => Some(&mut self.resource.attributes),
            Context::Scope => Some(&mut self.scope.attributes),
            Context::Span => self.span().map(|span| &mut span.attributes),
            Context::SpanEvent => self.event().map(|event| &mut event.attributes),
            Context::Metric => None,
            Context::DataPoint => self.point().map(|point| point.attributes()),
            Context::Log => self.log().map(|record| &mut record.attributes),
        }
    }

    /// The map that a path names, for edits of its entries; `None` when it is none.
    pub(super) fn map_mut(&mut self, path: &Path) -> Option<&mut Vec<KeyValue>> {
        let list = match path.part {
            Part::Attributes => self.attributes(path.of)?,
            Part::Cache => &mut self.cache,
            Part::Body => {
                let body = self.log()?.body.as_mut()?;
                return map_in(body, &path.keys);
            }
            _ => return None,
        };
        let Some((Key::Name(name), rest)) = path.keys.split_first() else {
            return path.keys.is_empty().then_some(list);
        };
        map_in(list.iter_mut().find(|kv| kv.key == *name)?.value.as_mut()?, rest)
    }

    pub(super) fn get(&mut self, path: &Path) -> Value {
        match path.part {
            Part::Cache => dig(&self.cache, &path.keys),
            Part::Attributes => self.attributes(path.of).map_or(Value::Nil, |list| dig(list, &path.keys)),
            _ => match path.of {
                Context::Resource => self.get_around(path),
                Context::Scope => self.get_around(path),
                Context::Span => self.span().map_or(Value::Nil, |span| get_span(span, path)),
                Context::SpanEvent => self.event().map_or(Value::Nil, |event| get_event(event, path)),
                Context::Metric => self.metric().map_or(Value::Nil, |metric| get_metric(metric, path)),
                Context::DataPoint => self.point().map_or(Value::Nil, |point| get_point(point, path)),
                Context::Log => self.log().map_or(Value::Nil, |record| get_log(record, path)),
            },
        }
    }

    fn get_around(&self, path: &Path) -> Value {
        match (path.of, path.part) {
            (Context::Resource, Part::DroppedAttributes) => {
                Value::Int(i64::from(self.resource.dropped_attributes_count))
            }
            (Context::Resource, Part::SchemaUrl) => Value::Str(self.resource_url.clone()),
            (_, Part::DroppedAttributes) => Value::Int(i64::from(self.scope.dropped_attributes_count)),
            (_, Part::SchemaUrl) => Value::Str(self.scope_url.clone()),
            (_, Part::Name) => Value::Str(self.scope.name.clone()),
            (_, Part::Version) => Value::Str(self.scope.version.clone()),
            _ => Value::Nil,
        }
    }

    pub(super) fn set(&mut self, path: &Path, value: Value) -> Result<(), String> {
        match path.part {
            Part::Cache => set_in(&mut self.cache, &path.keys, value),
            Part::Attributes => match self.attributes(path.of) {
                Some(list) => set_in(list, &path.keys, value),
                None => Ok(()),
            },
            _ => match path.of {
                Context::Resource | Context::Scope => self.set_around(path, value),
                Context::Span => self.span().map_or(Ok(()), |span| set_span(span, path, value)),
                Context::SpanEvent => self.event().map_or(Ok(()), |event| set_event(event, path, value)),
                Context::Metric => self.metric().map_or(Ok(()), |metric| set_metric(metric, path, value)),
                Context::DataPoint => self.point().map_or(Ok(()), |point| set_point(point, path, value)),
                Context::Log => self.log().map_or(Ok(()), |record| set_log(record, path, value)),
            },
        }
    }

    fn set_around(&mut self, path: &Path, value: Value) -> Result<(), String> {
        match (path.of, path.part) {
            (Context::Resource, Part::DroppedAttributes) => {
                self.resource.dropped_attributes_count = number(value)?;
            }
            (Context::Resource, Part::SchemaUrl) => *self.resource_url = text(value)?,
            (_, Part::DroppedAttributes) => self.scope.dropped_attributes_count = number(value)?,
            (_, Part::SchemaUrl) => *self.scope_url = text(value)?,
            (_, Part::Name) => self.scope.name = text(value)?,
            (_, Part::Version) => self.scope.version = text(value)?,
            _ => {}
        }
        Ok(())
    }
}

fn map_in<'v>(value: &'v mut AnyValue, keys: &[Key]) -> Option<&'v mut Vec<KeyValue>> {
    match (&mut value.value, keys.split_first()) {
        (Some(Any::KvlistValue(map)), None) => Some(&mut map.values),
        (Some(Any::KvlistValue(map)), Some((Key::Name(name), rest))) => {
            map_in(map.values.iter_mut().find(|kv| kv.key == *name)?.value.as_mut()?, rest)
        }
        (Some(Any::ArrayValue(list)), Some((Key::Index(k), rest))) => {
            map_in(list.values.get_mut(usize::try_from(*k).ok()?)?, rest)
        }
        _ => None,
    }
}

fn set_in(list: &mut Vec<KeyValue>, keys: &[Key], value: Value) -> Result<(), String> {
    if keys.is_empty() {
        let Value::Map(map) = value else { return Err(format!("attributes are a map, not a {}", value.kind())) };
        *list = attributes(map);
        return Ok(());
    }
    // Nil changes nothing, as upstream has it.
    if value != Value::Nil {
        *place(list, keys)? = value.into_any();
    }
    Ok(())
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::Str(text) => Ok(text),
        other => Err(format!("expected a string, not a {}", other.kind())),
    }
}

fn int(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(v) | Value::Time(v) => Ok(*v),
        other => Err(format!("expected an int, not a {}", other.kind())),
    }
}

fn number<T: TryFrom<i64>>(value: Value) -> Result<T, String> {
    let v = int(&value)?;
    T::try_from(v).map_err(|_| format!("{v} is out of range"))
}

fn float(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("expected a number, not a {}", value.kind()))
}

fn id(value: Value, len: usize) -> Result<Vec<u8>, String> {
    match value {
        Value::Bytes(bytes) if bytes.len() == len => Ok(bytes),
        Value::Str(text) => match hex::decode(&text) {
            Ok(bytes) if bytes.len() == len => Ok(bytes),
            _ => Err(format!("`{text}` is no id of {len} bytes")),
        },
        other => Err(format!("expected an id of {len} bytes, not a {}", other.kind())),
    }
}

fn get_span(span: &Span, path: &Path) -> Value {
    let code = span.status.as_ref().map_or(0, |s| s.code);
    match path.part {
        Part::Name => Value::Str(span.name.clone()),
        Part::Kind => Value::Int(i64::from(span.kind)),
        Part::KindString => {
            Value::Str(usize::try_from(span.kind).ok().and_then(|k| KINDS.get(k)).unwrap_or(&"").to_string())
        }
        Part::TraceId => bytes_or_nil(&span.trace_id),
        Part::TraceIdString => Value::Str(hex::encode(&span.trace_id)),
        Part::SpanId => bytes_or_nil(&span.span_id),
        Part::SpanIdString => Value::Str(hex::encode(&span.span_id)),
        // Absent and zero are one to those who compare.
        Part::ParentSpanId if span.parent_span_id.is_empty() => Value::Bytes(vec![0; 8]),
        Part::ParentSpanId => bytes_or_nil(&span.parent_span_id),
        Part::ParentSpanIdString => Value::Str(hex::encode(&span.parent_span_id)),
        Part::TraceState => match path.keys.first() {
            Some(Key::Name(key)) => Value::Str(state_value(&span.trace_state, key).unwrap_or("").to_owned()),
            Some(Key::Index(_)) => Value::Nil,
            None => Value::Str(span.trace_state.clone()),
        },
        Part::StartNanos => Value::Int(whole(span.start_time_unix_nano)),
        Part::EndNanos => Value::Int(whole(span.end_time_unix_nano)),
        Part::StartTime => Value::Time(whole(span.start_time_unix_nano)),
        Part::EndTime => Value::Time(whole(span.end_time_unix_nano)),
        Part::StatusCode => Value::Int(i64::from(code)),
        Part::StatusMessage => Value::Str(span.status.as_ref().map(|s| s.message.clone()).unwrap_or_default()),
        Part::Events => Value::List(span.events.iter().map(|e| Value::Str(e.name.clone())).collect()),
        Part::Links => Value::List(span.links.iter().map(|l| Value::Str(hex::encode(&l.trace_id))).collect()),
        Part::DroppedAttributes => Value::Int(i64::from(span.dropped_attributes_count)),
        Part::DroppedEvents => Value::Int(i64::from(span.dropped_events_count)),
        Part::DroppedLinks => Value::Int(i64::from(span.dropped_links_count)),
        Part::Flags => Value::Int(i64::from(span.flags)),
        _ => Value::Nil,
    }
}

fn set_span(span: &mut Span, path: &Path, value: Value) -> Result<(), String> {
    match path.part {
        Part::Name => span.name = text(value)?,
        Part::Kind => span.kind = number(value)?,
        Part::KindString => {
            let name = text(value)?;
            let kind = KINDS.iter().position(|k| *k == name).ok_or_else(|| format!("`{name}` is no kind of span"))?;
            span.kind = kind as i32;
        }
        Part::TraceId | Part::TraceIdString => span.trace_id = id(value, 16)?,
        Part::SpanId | Part::SpanIdString => span.span_id = id(value, 8)?,
        Part::ParentSpanId | Part::ParentSpanIdString => span.parent_span_id = id(value, 8)?,
        Part::TraceState => match path.keys.first() {
            None => span.trace_state = text(value)?,
            Some(Key::Name(key)) => span.trace_state = state_with(&span.trace_state, key, &text(value)?),
            Some(Key::Index(_)) => return Err("a trace state's keys are texts".to_owned()),
        },
        Part::StartNanos | Part::StartTime => span.start_time_unix_nano = number(value)?,
        Part::EndNanos | Part::EndTime => span.end_time_unix_nano = number(value)?,
        Part::StatusCode => span.status.get_or_insert_default().code = number(value)?,
        Part::StatusMessage => span.status.get_or_insert_default().message = text(value)?,
        Part::DroppedAttributes => span.dropped_attributes_count = number(value)?,
        Part::DroppedEvents => span.dropped_events_count = number(value)?,
        Part::DroppedLinks => span.dropped_links_count = number(value)?,
        Part::Flags => span.flags = number(value)?,
        _ => return Err("this path cannot be set".to_owned()),
    }
    Ok(())
}

/// The state with one vendor's value in front, as W3C has changed entries.
pub(crate) fn state_with(state: &str, key: &str, value: &str) -> String {
    let others = state
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty() && pair.split_once('=').is_none_or(|(k, _)| k != key));
    let mut out = format!("{key}={value}");
    for pair in others {
        out.push(',');
        out.push_str(pair);
    }
    out
}

fn get_event(event: &Event, path: &Path) -> Value {
    match path.part {
        Part::Name => Value::Str(event.name.clone()),
        Part::Nanos => Value::Int(whole(event.time_unix_nano)),
        Part::Time => Value::Time(whole(event.time_unix_nano)),
        Part::DroppedAttributes => Value::Int(i64::from(event.dropped_attributes_count)),
        _ => Value::Nil,
    }
}

fn set_event(event: &mut Event, path: &Path, value: Value) -> Result<(), String> {
    match path.part {
        Part::Name => event.name = text(value)?,
        Part::Nanos | Part::Time => event.time_unix_nano = number(value)?,
        Part::DroppedAttributes => event.dropped_attributes_count = number(value)?,
        _ => return Err("this path cannot be set".to_owned()),
    }
    Ok(())
}

fn get_metric(metric: &Metric, path: &Path) -> Value {
    match path.part {
        Part::Name => Value::Str(metric.name.clone()),
        Part::Description => Value::Str(metric.description.clone()),
        Part::Unit => Value::Str(metric.unit.clone()),
        Part::Type => Value::Int(match &metric.data {
            None => 0,
            Some(MetricData::Gauge(_)) => 1,
            Some(MetricData::Sum(_)) => 2,
            Some(MetricData::Histogram(_)) => 3,
            Some(MetricData::ExponentialHistogram(_)) => 4,
            Some(MetricData::Summary(_)) => 5,
        }),
        Part::Temporality => match &metric.data {
            Some(MetricData::Sum(m)) => Value::Int(i64::from(m.aggregation_temporality)),
            Some(MetricData::Histogram(m)) => Value::Int(i64::from(m.aggregation_temporality)),
            Some(MetricData::ExponentialHistogram(m)) => Value::Int(i64::from(m.aggregation_temporality)),
            _ => Value::Nil,
        },
        Part::IsMonotonic => match &metric.data {
            Some(MetricData::Sum(m)) => Value::Bool(m.is_monotonic),
            _ => Value::Nil,
        },
        _ => Value::Nil,
    }
}

fn set_metric(metric: &mut Metric, path: &Path, value: Value) -> Result<(), String> {
    match path.part {
        Part::Name => metric.name = text(value)?,
        Part::Description => metric.description = text(value)?,
        Part::Unit => metric.unit = text(value)?,
        Part::Temporality => {
            let temporality = number(value)?;
            match &mut metric.data {
                Some(MetricData::Sum(m)) => m.aggregation_temporality = temporality,
                Some(MetricData::Histogram(m)) => m.aggregation_temporality = temporality,
                Some(MetricData::ExponentialHistogram(m)) => m.aggregation_temporality = temporality,
                _ => {}
            }
        }
        Part::IsMonotonic => match (value, &mut metric.data) {
            (Value::Bool(v), Some(MetricData::Sum(m))) => m.is_monotonic = v,
            (Value::Bool(_), _) => {}
            (other, _) => return Err(format!("expected a bool, not a {}", other.kind())),
        },
        _ => return Err("this path cannot be set".to_owned()),
    }
    Ok(())
}

fn get_point(point: &mut PointRef<'_>, path: &Path) -> Value {
    match (path.part, &mut *point) {
        (Part::StartNanos, point) => return Value::Int(whole(*point.times().0)),
        (Part::StartTime, point) => return Value::Time(whole(*point.times().0)),
        (Part::Nanos, point) => return Value::Int(whole(*point.times().1)),
        (Part::Time, point) => return Value::Time(whole(*point.times().1)),
        (Part::Flags, point) => return Value::Int(i64::from(*point.flags())),
        _ => {}
    }
    match (path.part, &*point) {
        (Part::ValueDouble, PointRef::Number(p)) => match p.value {
            Some(Number::AsDouble(v)) => Value::Float(v),
            _ => Value::Float(0.0),
        },
        (Part::ValueInt, PointRef::Number(p)) => match p.value {
            Some(Number::AsInt(v)) => Value::Int(v),
            _ => Value::Int(0),
        },
        (Part::Count, PointRef::Histogram(p)) => Value::Int(whole(p.count)),
        (Part::Count, PointRef::Exponential(p)) => Value::Int(whole(p.count)),
        (Part::Count, PointRef::Summary(p)) => Value::Int(whole(p.count)),
        (Part::Sum, PointRef::Histogram(p)) => p.sum.map_or(Value::Nil, Value::Float),
        (Part::Sum, PointRef::Exponential(p)) => p.sum.map_or(Value::Nil, Value::Float),
        (Part::Sum, PointRef::Summary(p)) => Value::Float(p.sum),
        (Part::BucketCounts, PointRef::Histogram(p)) => {
            Value::List(p.bucket_counts.iter().map(|v| Value::Int(whole(*v))).collect())
        }
        (Part::ExplicitBounds, PointRef::Histogram(p)) => {
            Value::List(p.explicit_bounds.iter().map(|v| Value::Float(*v)).collect())
        }
        _ => Value::Nil,
    }
}

fn set_point(point: &mut PointRef<'_>, path: &Path, value: Value) -> Result<(), String> {
    match path.part {
        Part::StartNanos | Part::StartTime => *point.times().0 = number(value)?,
        Part::Nanos | Part::Time => *point.times().1 = number(value)?,
        Part::Flags => *point.flags() = number(value)?,
        Part::ValueDouble => {
            if let PointRef::Number(p) = point {
                p.value = Some(Number::AsDouble(float(&value)?));
            }
        }
        Part::ValueInt => {
            if let PointRef::Number(p) = point {
                p.value = Some(Number::AsInt(int(&value)?));
            }
        }
        Part::Count => match point {
            PointRef::Histogram(p) => p.count = number(value)?,
            PointRef::Exponential(p) => p.count = number(value)?,
            PointRef::Summary(p) => p.count = number(value)?,
            PointRef::Number(_) => {}
        },
        Part::Sum => match point {
            PointRef::Histogram(p) => p.sum = Some(float(&value)?),
            PointRef::Exponential(p) => p.sum = Some(float(&value)?),
            PointRef::Summary(p) => p.sum = float(&value)?,
            PointRef::Number(_) => {}
        },
        _ => return Err("this path cannot be set".to_owned()),
    }
    Ok(())
}

fn get_log(record: &LogRecord, path: &Path) -> Value {
    match path.part {
        Part::Body => record.body.as_ref().map_or(Value::Nil, |body| dig_any(body, &path.keys)),
        Part::BodyString => Value::of_any(record.body.as_ref()).to_text().map_or(Value::Nil, Value::Str),
        Part::SeverityNumber => Value::Int(i64::from(record.severity_number)),
        Part::SeverityText => Value::Str(record.severity_text.clone()),
        Part::Nanos => Value::Int(whole(record.time_unix_nano)),
        Part::Time => Value::Time(whole(record.time_unix_nano)),
        Part::ObservedNanos => Value::Int(whole(record.observed_time_unix_nano)),
        Part::ObservedTime => Value::Time(whole(record.observed_time_unix_nano)),
        Part::TraceId => bytes_or_nil(&record.trace_id),
        Part::TraceIdString => Value::Str(hex::encode(&record.trace_id)),
        Part::SpanId => bytes_or_nil(&record.span_id),
        Part::SpanIdString => Value::Str(hex::encode(&record.span_id)),
        Part::DroppedAttributes => Value::Int(i64::from(record.dropped_attributes_count)),
        Part::Flags => Value::Int(i64::from(record.flags)),
        Part::EventName => Value::Str(record.event_name.clone()),
        _ => Value::Nil,
    }
}

fn set_log(record: &mut LogRecord, path: &Path, value: Value) -> Result<(), String> {
    match path.part {
        Part::Body if path.keys.is_empty() => record.body = Some(value.into_any()),
        Part::Body => {
            if value != Value::Nil {
                *place_any(record.body.get_or_insert_with(AnyValue::default), &path.keys)? = value.into_any();
            }
        }
        Part::BodyString => record.body = Some(Value::Str(text(value)?).into_any()),
        Part::SeverityNumber => record.severity_number = number(value)?,
        Part::SeverityText => record.severity_text = text(value)?,
        Part::Nanos | Part::Time => record.time_unix_nano = number(value)?,
        Part::ObservedNanos | Part::ObservedTime => record.observed_time_unix_nano = number(value)?,
        Part::TraceId | Part::TraceIdString => record.trace_id = id(value, 16)?,
        Part::SpanId | Part::SpanIdString => record.span_id = id(value, 8)?,
        Part::DroppedAttributes => record.dropped_attributes_count = number(value)?,
        Part::Flags => record.flags = number(value)?,
        Part::EventName => record.event_name = text(value)?,
        _ => return Err("this path cannot be set".to_owned()),
    }
    Ok(())
}

/// The value of an expression.
pub(super) fn value(expr: &Expr, scene: &mut Scene<'_>) -> Result<Value, String> {
    Ok(match expr {
        Expr::Literal(value) => value.clone(),
        Expr::Path(path) => scene.get(path),
        Expr::List(items) => Value::List(items.iter().map(|e| value(e, scene)).collect::<Result<_, _>>()?),
        Expr::Map(entries) => {
            let entry = |(key, e): &(String, Expr)| Ok((key.clone(), value(e, scene)?));
            Value::Map(entries.iter().map(entry).collect::<Result<_, String>>()?)
        }
        Expr::Index(inner, keys) => keys.iter().fold(value(inner, scene)?, |value, key| match (value, key) {
            (Value::Map(map), Key::Name(name)) => {
                map.into_iter().find(|(k, _)| k == name).map_or(Value::Nil, |(_, v)| v)
            }
            (Value::List(list), Key::Index(k)) => {
                usize::try_from(*k).ok().and_then(|k| list.into_iter().nth(k)).unwrap_or(Value::Nil)
            }
            _ => Value::Nil,
        }),
        Expr::Call(call) => {
            let evaluated = |arg: &Option<Expr>| arg.as_ref().map(|e| value(e, scene)).transpose();
            let args: Vec<Option<Value>> = call.args.iter().map(evaluated).collect::<Result<_, _>>()?;
            let done = (call.converter.run)(scene, &super::convert::Args { values: &args, regex: call.regex.as_ref() });
            done.map_err(|reason| format!("{}: {reason}", call.converter.name))?
        }
        Expr::Math(math, left, right) => calculate(*math, value(left, scene)?, value(right, scene)?)?,
        Expr::Compare(..) | Expr::Not(_) | Expr::And(..) | Expr::Or(..) => Value::Bool(truth(expr, scene)?),
    })
}

fn calculate(math: Math, left: Value, right: Value) -> Result<Value, String> {
    use Value::{Duration, Float, Int, Time};
    let of_ints = |a: i64, b: i64| match math {
        Math::Add => a.checked_add(b),
        Math::Sub => a.checked_sub(b),
        Math::Mul => a.checked_mul(b),
        Math::Div => a.checked_div(b),
    };
    let too_far = || "the result is out of range, or a division by zero".to_owned();
    Ok(match (&left, &right) {
        (Int(a), Int(b)) => Int(of_ints(*a, *b).ok_or_else(too_far)?),
        (Time(a), Time(b)) if math == Math::Sub => Duration(a.saturating_sub(*b)),
        (Time(a), Duration(b)) if matches!(math, Math::Add | Math::Sub) => Time(of_ints(*a, *b).ok_or_else(too_far)?),
        (Duration(a), Duration(b)) if matches!(math, Math::Add | Math::Sub) => {
            Duration(of_ints(*a, *b).ok_or_else(too_far)?)
        }
        _ => match (left.as_f64(), right.as_f64()) {
            (Some(a), Some(b)) => Float(match math {
                Math::Add => a + b,
                Math::Sub => a - b,
                Math::Mul => a * b,
                Math::Div if b == 0.0 => return Err(too_far()),
                Math::Div => a / b,
            }),
            _ => return Err(format!("a {} and a {} cannot be calculated with", left.kind(), right.kind())),
        },
    })
}

/// Whether an expression holds.
pub(super) fn truth(expr: &Expr, scene: &mut Scene<'_>) -> Result<bool, String> {
    Ok(match expr {
        Expr::And(left, right) => truth(left, scene)? && truth(right, scene)?,
        Expr::Or(left, right) => truth(left, scene)? || truth(right, scene)?,
        Expr::Not(inner) => !truth(inner, scene)?,
        Expr::Compare(compare, left, right) => {
            let (left, right) = (value(left, scene)?, value(right, scene)?);
            match compare {
                Compare::Eq => left.equals(&right),
                Compare::Ne => !left.equals(&right),
                Compare::Lt => left.order(&right).is_some_and(|o| o.is_lt()),
                Compare::Le => left.order(&right).is_some_and(|o| o.is_le()),
                Compare::Gt => left.order(&right).is_some_and(|o| o.is_gt()),
                Compare::Ge => left.order(&right).is_some_and(|o| o.is_ge()),
            }
        }
        other => match value(other, scene)? {
            Value::Bool(v) => v,
            Value::Nil => false,
            other => return Err(format!("a {} is neither true nor false", other.kind())),
        },
    })
}
