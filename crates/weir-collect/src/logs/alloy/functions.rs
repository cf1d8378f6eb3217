//! Alloy's standard library, as far as it computes from what stands in the file and the environment.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::eval::{SETS_MAX, Value};
use super::scan::Pos;

/// With their old names, which stay valid.
const FUNCTIONS: [(&str, &str); 16] = [
    ("env", "sys.env"),
    ("nonsensitive", "convert.nonsensitive"),
    ("concat", "array.concat"),
    ("json_decode", "encoding.from_json"),
    ("yaml_decode", "encoding.from_yaml"),
    ("base64_decode", "encoding.from_base64"),
    ("format", "string.format"),
    ("join", "string.join"),
    ("replace", "string.replace"),
    ("split", "string.split"),
    ("to_lower", "string.to_lower"),
    ("to_upper", "string.to_upper"),
    ("trim", "string.trim"),
    ("trim_prefix", "string.trim_prefix"),
    ("trim_suffix", "string.trim_suffix"),
    ("trim_space", "string.trim_space"),
];
/// Those that never had another name.
const OTHERS: [&str; 5] =
    ["coalesce", "file.path_join", "encoding.to_base64", "encoding.from_URLbase64", "encoding.to_URLbase64"];

pub fn is_function(name: &str) -> bool {
    OTHERS.contains(&name) || FUNCTIONS.iter().any(|(old, new)| *old == name || *new == name)
}

pub fn call(name: &str, args: Vec<Value>, env: &dyn Fn(&str) -> Option<String>) -> Result<Value, String> {
    let name = FUNCTIONS.iter().find(|(old, _)| *old == name).map_or(name, |(_, new)| new);
    match name {
        "coalesce" => return Ok(coalesce(args)),
        "array.concat" => return concat(args),
        "string.format" => return format(&args),
        "file.path_join" => return path_join(&args),
        _ => {}
    }
    if let ("string.join", [Value::List(list), Value::Text(between)]) = (name, &*args) {
        let parts: Option<Vec<&str>> = list.iter().map(as_text).collect();
        let parts = parts.ok_or("string.join: the list holds something that is no string")?;
        return Ok(Value::Text(parts.join(between)));
    }
    let texts: Option<Vec<&str>> = args.iter().map(as_text).collect();
    let wrong = || {
        let kinds: Vec<&str> = args.iter().map(Value::kind).collect();
        format!("{name} does not take ({})", kinds.join(", "))
    };
    Ok(match (name, &*texts.ok_or_else(wrong)?) {
        // As in the shell, one that is not set is empty.
        ("sys.env", [name]) => Value::Text(env(name).unwrap_or_default()),
        ("convert.nonsensitive", [text]) => Value::Text((*text).to_owned()),
        ("string.replace", [text, old, new]) => Value::Text(text.replace(old, new)),
        ("string.split", [text, ""]) => {
            Value::List(text.chars().map(|letter| Value::Text(letter.to_string())).collect())
        }
        ("string.split", [text, between]) => {
            Value::List(text.split(between).map(|part| Value::Text(part.to_owned())).collect())
        }
        ("string.to_lower", [text]) => Value::Text(text.to_lowercase()),
        ("string.to_upper", [text]) => Value::Text(text.to_uppercase()),
        ("string.trim", [text, letters]) => Value::Text(text.trim_matches(|c: char| letters.contains(c)).to_owned()),
        ("string.trim_prefix", [text, prefix]) => Value::Text(text.strip_prefix(prefix).unwrap_or(text).to_owned()),
        ("string.trim_suffix", [text, suffix]) => Value::Text(text.strip_suffix(suffix).unwrap_or(text).to_owned()),
        ("string.trim_space", [text]) => Value::Text(text.trim().to_owned()),
        ("encoding.to_base64", [text]) => Value::Text(STANDARD.encode(text)),
        ("encoding.to_URLbase64", [text]) => Value::Text(URL_SAFE.encode(text)),
        ("encoding.from_base64", [text]) => Value::Text(decoded(name, STANDARD.decode(text))?),
        ("encoding.from_URLbase64", [text]) => Value::Text(decoded(name, URL_SAFE.decode(text))?),
        ("encoding.from_json", [text]) => from_json(serde_json::from_str(text).map_err(|e| format!("{name}: {e}"))?),
        ("encoding.from_yaml", [text]) => from_json(serde_saphyr::from_str(text).map_err(|e| format!("{name}: {e}"))?),
        _ => return Err(wrong()),
    })
}

fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// As labels and formats show it.
pub fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(is) => is.to_string(),
        other => other.kind().to_owned(),
    }
}

/// `None` for what cannot be compared.
pub fn equal(left: &Value, right: &Value) -> Option<bool> {
    Some(left.json()? == right.json()?)
}

/// The first that is neither null nor its kind's zero; else the last.
fn coalesce(args: Vec<Value>) -> Value {
    let is_zero = |value: &Value| match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => *number == 0.0,
        Value::Text(text) => text.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Targets(sets) => sets.is_empty(),
        Value::Bool(true) | Value::Rules(_) | Value::Receiver(_) | Value::Function(_) => false,
    };
    let idx = args.iter().position(|value| !is_zero(value)).unwrap_or(args.len().saturating_sub(1));
    args.into_iter().nth(idx).unwrap_or(Value::Null)
}

fn concat(args: Vec<Value>) -> Result<Value, String> {
    if args.iter().any(|value| matches!(value, Value::Targets(_))) {
        let mut all = Vec::new();
        for value in args {
            let sets =
                value.targets(Pos { line: 0, column: 0 }).map_err(|fault| format!("array.concat: {}", fault.what))?;
            all.extend(sets);
        }
        if all.len() > SETS_MAX {
            return Err(format!("array.concat: more than {SETS_MAX} origins of targets"));
        }
        return Ok(Value::Targets(all));
    }
    let mut all = Vec::new();
    for value in args {
        match value {
            Value::List(list) => all.extend(list),
            other => return Err(format!("array.concat takes lists, not {}", other.kind())),
        }
    }
    Ok(Value::List(all))
}

/// `%s`, `%v`, `%q`, `%d`, `%t` and `%%`; the rest of Go's format is refused.
fn format(args: &[Value]) -> Result<Value, String> {
    let Some((Value::Text(format), args)) = args.split_first() else {
        return Err("string.format takes a format and its values".to_owned());
    };
    let (mut out, mut letters, mut args) = (String::new(), format.chars(), args.iter());
    while let Some(c) = letters.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let verb = letters.next().unwrap_or(' ');
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = args.next().ok_or_else(|| format!("string.format: there is no value for `%{verb}`"))?;
        match (verb, value) {
            ('s', Value::Text(_)) | ('v', _) | ('d', Value::Number(_)) | ('t', Value::Bool(_)) => out += &text(value),
            ('q', Value::Text(text)) => out += &format!("{text:?}"),
            (verb, value) => return Err(format!("string.format: `%{verb}` is not read here for {}", value.kind())),
        }
    }
    match args.next() {
        Some(_) => Err("string.format: there are more values than verbs".to_owned()),
        None => Ok(Value::Text(out)),
    }
}

/// Go's `filepath.Join`: one slash between parts, `.` and `..` resolved.
fn path_join(args: &[Value]) -> Result<Value, String> {
    let parts: Option<Vec<&str>> = args.iter().map(as_text).collect();
    let parts = parts.ok_or("file.path_join takes strings")?;
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    let is_absolute = parts.first().is_some_and(|part| part.starts_with('/'));
    let mut out: Vec<&str> = Vec::new();
    for part in parts.iter().flat_map(|part| part.split('/')) {
        match part {
            "" | "." => {}
            ".." if out.last().is_some_and(|last| *last != "..") => {
                out.pop();
            }
            ".." if is_absolute => {}
            part => out.push(part),
        }
    }
    let joined = out.join("/");
    Ok(Value::Text(match (is_absolute, parts.is_empty(), joined.is_empty()) {
        (true, ..) => format!("/{joined}"),
        (false, false, true) => ".".to_owned(),
        _ => joined,
    }))
}

fn decoded(name: &str, bytes: Result<Vec<u8>, base64::DecodeError>) -> Result<String, String> {
    let bytes = bytes.map_err(|e| format!("{name}: {e}"))?;
    String::from_utf8(bytes).map_err(|_| format!("{name}: what is encoded is no UTF-8"))
}

fn from_json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(is) => Value::Bool(is),
        serde_json::Value::Number(number) => Value::Number(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(text) => Value::Text(text),
        serde_json::Value::Array(list) => Value::List(list.into_iter().map(from_json).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.into_iter().map(|(name, value)| (name, from_json(value))).collect())
        }
    }
}
