//! OTLP/JSON: what the generated types do not read themselves.
//!
//! Enumerations may come as names (`SPAN_KIND_SERVER`), unknown fields are ignored, `null` is absence.

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use serde_json::Value;

use crate::DecodeError;

pub fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    let bad = |place: String, reason: String| DecodeError::Malformed { format: "OTLP JSON", place, reason };
    let mut value: Value = serde_json::from_slice(body)
        .map_err(|e| bad(format!("line {} column {}", e.line(), e.column()), strip_place(&e.to_string())))?;
    if !value.is_object() {
        return Err(bad("line 1 column 1".to_owned(), "the body is no object".to_owned()));
    }
    tidy(&mut value);
    serde_json::from_value(value).map_err(|e| bad("body".to_owned(), e.to_string()))
}

/// serde_json appends its own ` at line 1 column 2`.
fn strip_place(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).to_owned()
}

/// Names of enumerations become numbers, nulls go.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            for (name, field) in fields.iter_mut() {
                match enum_number(name, field) {
                    Some(number) => *field = number.into(),
                    None => tidy(field),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn enum_number(field: &str, value: &Value) -> Option<i32> {
    let name = value.as_str()?;
    match field {
        "kind" => SpanKind::from_str_name(name).map(|v| v as i32),
        "code" => StatusCode::from_str_name(name).map(|v| v as i32),
        "severityNumber" => SeverityNumber::from_str_name(name).map(|v| v as i32),
        "aggregationTemporality" => AggregationTemporality::from_str_name(name).map(|v| v as i32),
        _ => None,
    }
}
