//! Functions that give values: a row each.

use regex::Regex;
use sha1::Digest as _;

use super::eval::{Scene, Subject};
use super::path::Context;
use super::value::Value;

pub(super) struct Args<'a> {
    /// By position; `None` where an optional one is not given.
    pub values: &'a [Option<Value>],
    /// The pattern among them, where it is a literal.
    pub regex: Option<&'a Regex>,
}

impl Args<'_> {
    fn at(&self, k: usize) -> &Value {
        self.values.get(k).and_then(Option::as_ref).unwrap_or(&Value::Nil)
    }
    fn text(&self, k: usize) -> Result<&str, String> {
        match self.at(k) {
            Value::Str(text) => Ok(text),
            other => Err(format!("expected a string as argument {}, not a {}", k + 1, other.kind())),
        }
    }
    fn int(&self, k: usize) -> Result<i64, String> {
        match self.at(k) {
            Value::Int(v) => Ok(*v),
            other => Err(format!("expected an int as argument {}, not a {}", k + 1, other.kind())),
        }
    }
    /// What the pattern at `k` compiles to.
    fn with_regex<T>(&self, k: usize, run: impl FnOnce(&Regex) -> T) -> Result<T, String> {
        match self.regex {
            Some(regex) => Ok(run(regex)),
            None => Ok(run(&weir_go::regex(self.text(k)?).map_err(|e| e.to_string())?)),
        }
    }
}

type Run = fn(&mut Scene<'_>, &Args<'_>) -> Result<Value, String>;

pub(super) struct Converter {
    pub name: &'static str,
    pub params: &'static [&'static str],
    pub n_required: usize,
    /// Which argument is a regular expression.
    pub pattern: Option<usize>,
    /// What it looks at besides its arguments.
    pub needs: Option<Context>,
    pub run: Run,
}

impl std::fmt::Debug for Converter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

const fn row(name: &'static str, params: &'static [&'static str], n_required: usize, run: Run) -> Converter {
    Converter { name, params, n_required, pattern: None, needs: None, run }
}

const fn matching(name: &'static str, params: &'static [&'static str], n_required: usize, run: Run) -> Converter {
    Converter { name, params, n_required, pattern: Some(1), needs: None, run }
}

const fn about(name: &'static str, params: &'static [&'static str], needs: Context, run: Run) -> Converter {
    Converter { name, params, n_required: params.len(), pattern: None, needs: Some(needs), run }
}

pub(super) const CONVERTERS: &[Converter] = &[
    matching("IsMatch", &["target", "pattern"], 2, is_match),
    row("IsString", &["value"], 1, |_, a| Ok(Value::Bool(matches!(a.at(0), Value::Str(_))))),
    row("IsInt", &["value"], 1, |_, a| Ok(Value::Bool(matches!(a.at(0), Value::Int(_))))),
    row("IsDouble", &["value"], 1, |_, a| Ok(Value::Bool(matches!(a.at(0), Value::Float(_))))),
    row("IsBool", &["value"], 1, |_, a| Ok(Value::Bool(matches!(a.at(0), Value::Bool(_))))),
    row("IsMap", &["value"], 1, |_, a| Ok(Value::Bool(matches!(a.at(0), Value::Map(_))))),
    row("IsList", &["value"], 1, |_, a| Ok(Value::Bool(matches!(a.at(0), Value::List(_))))),
    about("IsRootSpan", &[], Context::Span, is_root_span),
    row("HasPrefix", &["value", "prefix"], 2, |_, a| Ok(Value::Bool(a.text(0)?.starts_with(a.text(1)?)))),
    row("HasSuffix", &["value", "suffix"], 2, |_, a| Ok(Value::Bool(a.text(0)?.ends_with(a.text(1)?)))),
    about("HasAttrKeyOnDatapoint", &["key"], Context::Metric, |scene, a| {
        let key = a.text(0)?;
        Ok(Value::Bool(any_point(scene, |attributes| crate::data::get(attributes, key).is_some())))
    }),
    about("HasAttrOnDatapoint", &["key", "value"], Context::Metric, |scene, a| {
        let (key, wanted) = (a.text(0)?, a.text(1)?);
        Ok(Value::Bool(any_point(scene, |attributes| {
            crate::data::get(attributes, key).is_some_and(|v| crate::data::text_of(v) == wanted)
        })))
    }),
    row("Concat", &["values", "delimiter"], 2, concat),
    row("Split", &["target", "delimiter"], 2, |_, a| {
        let (text, by) = (a.text(0)?, a.text(1)?);
        let parts: Vec<Value> = match by {
            "" => text.chars().map(|c| Value::Str(c.to_string())).collect(),
            by => text.split(by).map(|part| Value::Str(part.to_owned())).collect(),
        };
        Ok(Value::List(parts))
    }),
    row("Substring", &["target", "start", "length"], 3, substring),
    row("Len", &["target"], 1, len),
    row("Int", &["value"], 1, to_int),
    row("Double", &["value"], 1, to_double),
    row("String", &["value"], 1, |_, a| Ok(a.at(0).to_text().map_or(Value::Nil, Value::Str))),
    row("Bool", &["value"], 1, |_, a| {
        Ok(match a.at(0) {
            Value::Bool(v) => Value::Bool(*v),
            Value::Int(v) => Value::Bool(*v != 0),
            Value::Float(v) => Value::Bool(*v != 0.0),
            Value::Str(text) => match &**text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::Bool(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::Bool(false),
                _ => Value::Nil,
            },
            _ => Value::Nil,
        })
    }),
    row("ConvertCase", &["target", "case"], 2, convert_case),
    row("ToLowerCase", &["target"], 1, |_, a| Ok(Value::Str(a.text(0)?.to_lowercase()))),
    row("ToUpperCase", &["target"], 1, |_, a| Ok(Value::Str(a.text(0)?.to_uppercase()))),
    row("Trim", &["target", "cutset"], 1, |_, a| {
        let cut = if a.values[1].is_some() { a.text(1)? } else { " " };
        Ok(Value::Str(a.text(0)?.trim_matches(|c| cut.contains(c)).to_owned()))
    }),
    row("ParseJSON", &["target"], 1, parse_json),
    row("ParseKeyValue", &["target", "delimiter", "pair_delimiter"], 1, parse_key_value),
    matching("ExtractPatterns", &["target", "pattern"], 2, extract_patterns),
    row("Milliseconds", &["value"], 1, |_, a| Ok(Value::Int(nanos_of(a)? / 1_000_000))),
    row("Seconds", &["value"], 1, |_, a| Ok(Value::Float(nanos_of(a)? as f64 / 1e9))),
    row("Minutes", &["value"], 1, |_, a| Ok(Value::Float(nanos_of(a)? as f64 / 6e10))),
    row("Hours", &["value"], 1, |_, a| Ok(Value::Float(nanos_of(a)? as f64 / 3.6e12))),
    row("Microseconds", &["value"], 1, |_, a| Ok(Value::Int(nanos_of(a)? / 1000))),
    row("Nanoseconds", &["value"], 1, |_, a| Ok(Value::Int(nanos_of(a)?))),
    row("Duration", &["value"], 1, |_, a| {
        weir_go::parse_go_duration(a.text(0)?).map(Value::Duration).map_err(|e| e.to_string())
    }),
    row("Now", &[], 0, |scene, _| Ok(Value::Time(scene.now.0))),
    row("Unix", &["seconds", "nanoseconds"], 1, |_, a| {
        let nanos = if a.values[1].is_some() { a.int(1)? } else { 0 };
        Ok(Value::Time(a.int(0)?.saturating_mul(1_000_000_000).saturating_add(nanos)))
    }),
    row("UnixSeconds", &["time"], 1, |_, a| Ok(Value::Int(time_of(a)?.div_euclid(1_000_000_000)))),
    row("UnixMilli", &["time"], 1, |_, a| Ok(Value::Int(time_of(a)?.div_euclid(1_000_000)))),
    row("UnixMicro", &["time"], 1, |_, a| Ok(Value::Int(time_of(a)?.div_euclid(1000)))),
    row("UnixNano", &["time"], 1, |_, a| Ok(Value::Int(time_of(a)?))),
    row("TraceID", &["bytes"], 1, |_, a| id_of(a, 16)),
    row("SpanID", &["bytes"], 1, |_, a| id_of(a, 8)),
    row("SHA1", &["value"], 1, |_, a| Ok(Value::Str(hex::encode(sha1::Sha1::digest(a.text(0)?))))),
    row("SHA256", &["value"], 1, |_, a| Ok(Value::Str(hex::encode(sha2::Sha256::digest(a.text(0)?))))),
    row("MD5", &["value"], 1, |_, a| Ok(Value::Str(hex::encode(md5::Md5::digest(a.text(0)?))))),
    row("FNV", &["value"], 1, |_, a| Ok(Value::Int(crate::hash::fnv1a_64(&[a.text(0)?.as_bytes()]) as i64))),
    row("Hex", &["value"], 1, hex_of),
    row("Base64Decode", &["value"], 1, |_, a| {
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, a.text(0)?);
        let bytes = bytes.map_err(|e| e.to_string())?;
        Ok(Value::Str(String::from_utf8_lossy(&bytes).into_owned()))
    }),
    row("ContainsValue", &["target", "item"], 2, |_, a| match a.at(0) {
        Value::List(items) => Ok(Value::Bool(items.iter().any(|item| item.equals(a.at(1))))),
        other => Err(format!("expected a list, not a {}", other.kind())),
    }),
];

fn is_match(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    let Some(text) = a.at(0).to_text() else { return Ok(Value::Bool(false)) };
    a.with_regex(1, |regex| Value::Bool(regex.is_match(&text)))
}

fn is_root_span(scene: &mut Scene<'_>, _: &Args<'_>) -> Result<Value, String> {
    let (Subject::Span(span) | Subject::SpanEvent(span, _)) = &scene.subject else { return Ok(Value::Bool(false)) };
    Ok(Value::Bool(span.parent_span_id.iter().all(|b| *b == 0)))
}

fn any_point(
    scene: &mut Scene<'_>,
    found: impl Fn(&[opentelemetry_proto::tonic::common::v1::KeyValue]) -> bool,
) -> bool {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    match scene.metric().and_then(|metric| metric.data.as_ref()) {
        None => false,
        Some(Data::Gauge(m)) => m.data_points.iter().any(|p| found(&p.attributes)),
        Some(Data::Sum(m)) => m.data_points.iter().any(|p| found(&p.attributes)),
        Some(Data::Histogram(m)) => m.data_points.iter().any(|p| found(&p.attributes)),
        Some(Data::ExponentialHistogram(m)) => m.data_points.iter().any(|p| found(&p.attributes)),
        Some(Data::Summary(m)) => m.data_points.iter().any(|p| found(&p.attributes)),
    }
}

fn concat(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    let Value::List(values) = a.at(0) else { return Err("expected a list as argument 1".to_owned()) };
    let texts: Vec<String> = values.iter().map(|v| v.to_text().unwrap_or_else(|| "<nil>".to_owned())).collect();
    Ok(Value::Str(texts.join(a.text(1)?)))
}

/// Positions are bytes, as upstream has them; one inside a character is moved to its start.
fn substring(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    let text = a.text(0)?;
    let (start, length) = (usize::try_from(a.int(1)?), usize::try_from(a.int(2)?));
    let range = || format!("start and length must be within the {} bytes of the text", text.len());
    let (Ok(start), Ok(length)) = (start, length) else { return Err(range()) };
    let end = start.checked_add(length).filter(|end| *end <= text.len() && length > 0).ok_or_else(range)?;
    Ok(Value::Str(text[text.floor_char_boundary(start)..text.floor_char_boundary(end)].to_owned()))
}

fn len(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    let n = match a.at(0) {
        Value::Str(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.len(),
        other => return Err(format!("a {} has no length", other.kind())),
    };
    Ok(Value::Int(n as i64))
}

fn to_int(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    Ok(match a.at(0) {
        Value::Int(v) | Value::Duration(v) | Value::Time(v) => Value::Int(*v),
        Value::Float(v) => Value::Int(*v as i64),
        Value::Bool(v) => Value::Int(i64::from(*v)),
        Value::Str(text) => text.parse().map_or(Value::Nil, Value::Int),
        _ => Value::Nil,
    })
}

fn to_double(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    Ok(match a.at(0) {
        Value::Int(v) => Value::Float(*v as f64),
        Value::Float(v) => Value::Float(*v),
        Value::Bool(v) => Value::Float(f64::from(u8::from(*v))),
        Value::Str(text) => text.parse().map_or(Value::Nil, Value::Float),
        _ => Value::Nil,
    })
}

fn convert_case(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    let text = a.text(0)?;
    Ok(Value::Str(match a.text(1)? {
        "lower" => text.to_lowercase(),
        "upper" => text.to_uppercase(),
        "snake" => words(text).join("_").to_lowercase(),
        "camel" => words(text).iter().map(|w| capitalised(w)).collect(),
        other => return Err(format!("`{other}` is no case: lower, upper, snake, camel")),
    }))
}

fn words(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut was_lower = false;
    let mut is_new = true;
    for c in text.chars() {
        if c.is_alphanumeric() {
            if is_new || (was_lower && c.is_uppercase()) {
                out.push(String::new());
            }
            if let Some(word) = out.last_mut() {
                word.push(c);
            }
            is_new = false;
        } else {
            is_new = true;
        }
        was_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    out
}

fn capitalised(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars.flat_map(char::to_lowercase)).collect())
        .unwrap_or_default()
}

/// Numbers are floats, as upstream reads JSON.
fn parse_json(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    fn value(json: serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Nil,
            serde_json::Value::Bool(v) => Value::Bool(v),
            serde_json::Value::Number(v) => Value::Float(v.as_f64().unwrap_or_default()),
            serde_json::Value::String(v) => Value::Str(v),
            serde_json::Value::Array(list) => Value::List(list.into_iter().map(value).collect()),
            serde_json::Value::Object(map) => Value::Map(map.into_iter().map(|(k, v)| (k, value(v))).collect()),
        }
    }
    serde_json::from_str(a.text(0)?).map(value).map_err(|e| e.to_string())
}

fn parse_key_value(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    let delimiter = if a.values[1].is_some() { a.text(1)? } else { "=" };
    let between = if a.values[2].is_some() { a.text(2)? } else { " " };
    if delimiter.is_empty() || between.is_empty() || delimiter == between {
        return Err("the delimiters must differ and not be empty".to_owned());
    }
    let mut entries: Vec<(String, Value)> = Vec::new();
    for pair in a.text(0)?.split(between).filter(|pair| !pair.trim().is_empty()) {
        let (key, value) = pair.split_once(delimiter).ok_or_else(|| format!("`{pair}` has no `{delimiter}`"))?;
        let (key, value) = (key.trim(), value.trim().trim_matches('"'));
        entries.retain(|(known, _)| known != key);
        entries.push((key.to_owned(), Value::Str(value.to_owned())));
    }
    Ok(Value::Map(entries))
}

fn extract_patterns(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    let text = a.text(0)?;
    a.with_regex(1, |regex| {
        if regex.capture_names().flatten().next().is_none() {
            return Err("the pattern has no named groups".to_owned());
        }
        let Some(found) = regex.captures(text) else { return Ok(Value::Map(Vec::new())) };
        let named = regex.capture_names().flatten();
        let entry = |name: &str| {
            (name.to_owned(), Value::Str(found.name(name).map_or(String::new(), |m| m.as_str().to_owned())))
        };
        Ok(Value::Map(named.map(entry).collect()))
    })?
}

fn nanos_of(a: &Args<'_>) -> Result<i64, String> {
    match a.at(0) {
        Value::Duration(nanos) => Ok(*nanos),
        other => Err(format!("expected a duration, not a {}", other.kind())),
    }
}

fn time_of(a: &Args<'_>) -> Result<i64, String> {
    match a.at(0) {
        Value::Time(nanos) => Ok(*nanos),
        other => Err(format!("expected a time, not a {}", other.kind())),
    }
}

fn id_of(a: &Args<'_>, len: usize) -> Result<Value, String> {
    let bytes = match a.at(0) {
        Value::Bytes(bytes) => bytes.clone(),
        Value::Str(text) => hex::decode(text).map_err(|e| format!("`{text}`: {e}"))?,
        other => return Err(format!("expected bytes, not a {}", other.kind())),
    };
    if bytes.len() == len {
        Ok(Value::Bytes(bytes))
    } else {
        Err(format!("an id has {len} bytes, not {}", bytes.len()))
    }
}

fn hex_of(_: &mut Scene<'_>, a: &Args<'_>) -> Result<Value, String> {
    let bytes = match a.at(0) {
        Value::Bytes(bytes) => bytes.clone(),
        Value::Str(text) => text.clone().into_bytes(),
        Value::Int(v) => v.to_be_bytes().to_vec(),
        Value::Float(v) => v.to_be_bytes().to_vec(),
        Value::Bool(v) => vec![u8::from(*v)],
        other => return Err(format!("a {} has no bytes", other.kind())),
    };
    Ok(Value::Str(hex::encode(bytes)))
}
