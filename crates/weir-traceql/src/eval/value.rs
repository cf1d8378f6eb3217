//! Values of fields and their comparison, which minds types.

use std::sync::Arc;

use weir_model::{AttrValue, Span, SpanKind, StatusCode, span};

use super::Trace;
use crate::ast::{ArithmeticOp, CompareOp, Field, FieldExpr, Intrinsic, Literal, Scope};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Nil,
    Int(i64),
    Float(f64),
    Text(&'a str),
    Bool(bool),
    Duration(i64),
    Status(StatusCode),
    Kind(SpanKind),
    /// Of an array, or of several events or links; never empty.
    Many(Vec<Value<'a>>),
    /// Text that stands nowhere: ids in hexadecimal.
    Made(Arc<str>),
}

impl<'a> Value<'a> {
    fn of_literal(literal: &'a Literal) -> Self {
        match literal {
            Literal::Nil => Self::Nil,
            Literal::Int(v) => Self::Int(*v),
            Literal::Float(v) => Self::Float(*v),
            Literal::Str(text) => Self::Text(text),
            Literal::Bool(v) => Self::Bool(*v),
            Literal::Duration(v) => Self::Duration(*v),
            Literal::Status(v) => Self::Status(*v),
            Literal::Kind(v) => Self::Kind(*v),
        }
    }

    fn of_attribute(value: &'a AttrValue) -> Self {
        match value {
            AttrValue::Str(text) => Self::Text(text),
            AttrValue::Int(v) => Self::Int(*v),
            AttrValue::Double(v) => Self::Float(*v),
            AttrValue::Bool(v) => Self::Bool(*v),
            AttrValue::Array(items) => Self::many(items.iter().map(Self::of_attribute)),
            // Neither has literals to compare with; presence is all there is.
            AttrValue::Bytes(_) | AttrValue::Map(_) => Self::Made(value.to_text().into()),
        }
    }

    fn many(items: impl Iterator<Item = Value<'a>>) -> Self {
        let mut items: Vec<Value<'a>> = items.filter(|v| *v != Self::Nil).collect();
        match items.len() {
            0 => Self::Nil,
            1 => items.remove(0),
            _ => Self::Many(items),
        }
    }

    fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Made(text) => Some(text),
            _ => None,
        }
    }

    /// Durations in nanoseconds.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Self::Int(v) | Self::Duration(v) => Some(*v as f64),
            Self::Float(v) => Some(*v),
            _ => None,
        }
    }

    pub(crate) fn is_duration(&self) -> bool {
        matches!(self, Self::Duration(_))
    }

    fn is_true(&self) -> bool {
        *self == Self::Bool(true)
    }

    /// As answers carry it; `None` for nil.
    pub(crate) fn to_attribute(&self) -> Option<AttrValue> {
        Some(match self {
            Self::Nil => return None,
            Self::Int(v) => AttrValue::Int(*v),
            Self::Float(v) => AttrValue::Double(*v),
            Self::Text(text) => AttrValue::Str((*text).into()),
            Self::Made(text) => AttrValue::Str(text.clone()),
            Self::Bool(v) => AttrValue::Bool(*v),
            Self::Duration(v) => AttrValue::Str(weir_go::format_go_duration(*v).into()),
            Self::Status(v) => AttrValue::Str(status_name(*v).into()),
            Self::Kind(v) => AttrValue::Str(kind_name(*v).into()),
            Self::Many(items) => AttrValue::Array(items.iter().filter_map(Value::to_attribute).collect()),
        })
    }
}

fn status_name(status: StatusCode) -> &'static str {
    match status {
        StatusCode::Ok => "ok",
        StatusCode::Error => "error",
        StatusCode::Unset => "unset",
    }
}

fn kind_name(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Unspecified => "unspecified",
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

/// A field of one span of a trace, as answers carry it; several values of events and links come
/// as an array. `spans` is the whole trace, `idx` a place in it.
pub fn field_value(spans: &[Arc<Span>], idx: usize, field: &Field) -> Option<AttrValue> {
    // The tree is costly and only some fields look at it.
    let span_only = match field {
        Field::Attribute { of_parent, .. } => !of_parent,
        Field::Intrinsic(intrinsic) => !matches!(
            intrinsic,
            Intrinsic::ChildCount
                | Intrinsic::RootName
                | Intrinsic::RootService
                | Intrinsic::TraceDuration
                | Intrinsic::NestedSetLeft
                | Intrinsic::NestedSetRight
                | Intrinsic::NestedSetParent
                | Intrinsic::Parent
        ),
    };
    if span_only {
        let one = &spans[idx..=idx];
        return field_of(&Trace::new(one), 0, field).to_attribute();
    }
    field_of(&Trace::new(spans), idx, field).to_attribute()
}

pub(crate) fn field_of<'a>(trace: &Trace<'a>, idx: usize, field: &Field) -> Value<'a> {
    match field {
        Field::Intrinsic(intrinsic) => intrinsic_of(trace, idx, *intrinsic),
        Field::Attribute { scope, name, of_parent } => {
            let idx = if *of_parent { trace.parent[idx] } else { Some(idx) };
            idx.map_or(Value::Nil, |idx| attribute_of(&trace.spans[idx], *scope, name))
        }
    }
}

fn attribute_of<'a>(span: &'a Span, scope: Scope, name: &str) -> Value<'a> {
    let value = |found: Option<&'a AttrValue>| found.map_or(Value::Nil, Value::of_attribute);
    match scope {
        Scope::None => value(span.get(name).or_else(|| span.resource.get(name))),
        Scope::Span => value(span.get(name)),
        Scope::Resource => value(span.resource.get(name)),
        Scope::Instrumentation => value(span::attr(&span.scope.attributes, name)),
        Scope::Event => Value::many(span.events.iter().map(|e| value(span::attr(&e.attributes, name)))),
        Scope::Link => Value::many(span.links.iter().map(|l| value(span::attr(&l.attributes, name)))),
    }
}

fn intrinsic_of<'a>(trace: &Trace<'a>, idx: usize, intrinsic: Intrinsic) -> Value<'a> {
    let span: &'a Span = &trace.spans[idx];
    let root: Option<&'a Span> = trace.root.map(|i| &*trace.spans[i]);
    let made = |text: String| Value::Made(text.into());
    let non_empty = |text: &'a str| if text.is_empty() { Value::Nil } else { Value::Text(text) };
    match intrinsic {
        Intrinsic::Name => Value::Text(&span.name),
        Intrinsic::Status => Value::Status(span.status.code),
        Intrinsic::StatusMessage => Value::Text(&span.status.message),
        Intrinsic::Kind => Value::Kind(span.kind),
        Intrinsic::Duration => Value::Duration(span.duration_nanos()),
        Intrinsic::SpanId => made(span.span_id.to_string()),
        Intrinsic::ParentId => span.parent.map_or(Value::Nil, |id| made(id.to_string())),
        Intrinsic::ChildCount => Value::Int(i64::from(trace.children[idx])),
        Intrinsic::RootName => root.map_or(Value::Nil, |r| Value::Text(&r.name)),
        Intrinsic::RootService => root.map_or(Value::Nil, |r| Value::Text(r.resource.service())),
        Intrinsic::TraceDuration => Value::Duration(trace.end.0.saturating_sub(trace.start.0)),
        Intrinsic::TraceId => made(span.trace_id.to_string()),
        Intrinsic::NestedSetLeft => Value::Int(trace.left[idx]),
        Intrinsic::NestedSetRight => Value::Int(trace.right[idx]),
        Intrinsic::NestedSetParent => Value::Int(match trace.parent[idx] {
            Some(parent) => trace.left[parent],
            None if span.parent.is_none() => -1,
            None => 0,
        }),
        Intrinsic::EventName => Value::many(span.events.iter().map(|e| Value::Text(&e.name))),
        Intrinsic::EventTimeSinceStart => {
            Value::many(span.events.iter().map(|e| Value::Duration(e.at.0.saturating_sub(span.start.0))))
        }
        Intrinsic::LinkSpanId => Value::many(span.links.iter().map(|l| made(l.span_id.to_string()))),
        Intrinsic::LinkTraceId => Value::many(span.links.iter().map(|l| made(l.trace_id.to_string()))),
        Intrinsic::InstrumentationName => non_empty(&span.scope.name),
        Intrinsic::InstrumentationVersion => non_empty(&span.scope.version),
        Intrinsic::Parent => trace.parent[idx].map_or(Value::Nil, |_| Value::Bool(true)),
    }
}

pub(crate) fn eval<'a>(expr: &'a FieldExpr, trace: &Trace<'a>, idx: usize) -> Value<'a> {
    match expr {
        FieldExpr::Literal(literal) => Value::of_literal(literal),
        FieldExpr::Field(field) => field_of(trace, idx, field),
        FieldExpr::Not(inner) => match eval(inner, trace, idx) {
            Value::Bool(v) => Value::Bool(!v),
            _ => Value::Nil,
        },
        FieldExpr::Negate(inner) => match eval(inner, trace, idx) {
            Value::Int(v) => Value::Int(v.wrapping_neg()),
            Value::Float(v) => Value::Float(-v),
            Value::Duration(v) => Value::Duration(v.wrapping_neg()),
            _ => Value::Nil,
        },
        FieldExpr::And(a, b) => Value::Bool(eval(a, trace, idx).is_true() && eval(b, trace, idx).is_true()),
        FieldExpr::Or(a, b) => Value::Bool(eval(a, trace, idx).is_true() || eval(b, trace, idx).is_true()),
        FieldExpr::Compare(op, a, b) => {
            let is_nil = |e: &FieldExpr| matches!(e, FieldExpr::Literal(Literal::Nil));
            let nil_written = is_nil(a) || is_nil(b);
            let (a, b) = (eval(a, trace, idx), eval(b, trace, idx));
            // Only a written `nil` asks for presence; two absent attributes are not equal.
            Value::Bool(if nil_written { equality(*op, a == b) } else { compare(*op, &a, &b) })
        }
        FieldExpr::Match { negated, value, regex } => {
            let value = eval(value, trace, idx);
            let hit = |v: &Value<'_>| v.text().map(|text| regex.is_match(text));
            Value::Bool(match &value {
                // Any element for `=~`, no element for `!~`.
                Value::Many(items) if items.iter().any(|v| v.text().is_some()) => {
                    items.iter().filter_map(hit).any(|h| h) != *negated
                }
                one => hit(one).is_some_and(|h| h != *negated),
            })
        }
        FieldExpr::Arithmetic(op, a, b) => arithmetic(*op, &eval(a, trace, idx), &eval(b, trace, idx)),
    }
}

pub(crate) fn holds(expr: &FieldExpr, trace: &Trace<'_>, idx: usize) -> bool {
    eval(expr, trace, idx).is_true()
}

/// False across types and for what is absent.
fn compare(op: CompareOp, a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Nil, _) | (_, Value::Nil) => false,
        (Value::Many(items), one) | (one, Value::Many(items)) if op == CompareOp::NotEqual => {
            let comparable = items.iter().any(|v| same_type(v, one));
            comparable && !items.iter().any(|v| compare(CompareOp::Equal, v, one))
        }
        (Value::Many(items), one) => items.iter().any(|v| compare(op, v, one)),
        (one, Value::Many(items)) => items.iter().any(|v| compare(op, one, v)),
        (Value::Int(a) | Value::Duration(a), Value::Int(b) | Value::Duration(b)) => op.holds(a, b),
        (Value::Bool(a), Value::Bool(b)) => op.holds(a, b),
        (Value::Status(a), Value::Status(b)) => equality(op, a == b),
        (Value::Kind(a), Value::Kind(b)) => equality(op, a == b),
        _ => match (a.number(), b.number(), a.text(), b.text()) {
            (Some(a), Some(b), ..) => op.holds(&a, &b),
            (_, _, Some(a), Some(b)) => op.holds(&a, &b),
            _ => false,
        },
    }
}

fn same_type(a: &Value<'_>, b: &Value<'_>) -> bool {
    (a.number().is_some() && b.number().is_some())
        || (a.text().is_some() && b.text().is_some())
        || matches!((a, b), (Value::Bool(_), Value::Bool(_)))
}

fn equality(op: CompareOp, equal: bool) -> bool {
    match op {
        CompareOp::Equal => equal,
        CompareOp::NotEqual => !equal,
        _ => false,
    }
}

fn arithmetic<'a>(op: ArithmeticOp, a: &Value<'_>, b: &Value<'_>) -> Value<'a> {
    let (Some(x), Some(y)) = (a.number(), b.number()) else { return Value::Nil };
    if let (Value::Int(a), Value::Int(b)) = (a, b) {
        let exact = match op {
            ArithmeticOp::Add => a.checked_add(*b),
            ArithmeticOp::Sub => a.checked_sub(*b),
            ArithmeticOp::Mul => a.checked_mul(*b),
            ArithmeticOp::Div => a.checked_div(*b),
            ArithmeticOp::Mod => a.checked_rem(*b),
            ArithmeticOp::Pow => u32::try_from(*b).ok().and_then(|b| a.checked_pow(b)),
        };
        return exact.map_or_else(|| Value::Float(op.apply(x, y)), Value::Int);
    }
    let result = op.apply(x, y);
    if a.is_duration() || b.is_duration() { Value::Duration(result as i64) } else { Value::Float(result) }
}
