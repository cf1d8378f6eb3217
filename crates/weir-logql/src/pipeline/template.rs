//! `line_format` and `label_format`: Go templates over a row's labels.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, LazyLock};

use ahash::AHashMap;
use weir_go::template::{FuncResult, Functions, Template, Templates, Value};

use super::row::Row;
use crate::units::{parse_bytes, parse_duration};

/// Longest text that a function may make out of a count (`repeat`, `indent`, `alignLeft`).
const MADE_BYTES_MAX: usize = 1 << 20;
/// Compiled expressions kept per thread; templates name few.
const REGEXES_MAX: usize = 64;

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::new(functions()));

#[derive(Clone)]
pub struct LineTemplate {
    source: String,
    template: Template,
}

impl fmt::Debug for LineTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LineTemplate({:?})", self.source)
    }
}

/// What `__line__` and `__timestamp__` give.
struct LineEnv {
    line: Arc<str>,
    nanos: i64,
}

impl LineTemplate {
    pub fn parse(source: &str) -> Result<Self, String> {
        let template = TEMPLATES.parse("line", source).map_err(|e| e.to_string())?;
        Ok(Self { source: source.to_owned(), template })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    pub(crate) fn render(&self, row: &Row<'_>) -> Result<String, String> {
        let mut pairs: Vec<(Arc<str>, Value)> = Vec::new();
        row.for_each(|_, name, value| pairs.push((name.into(), value.into())));
        if let Some((error, details)) = row.error() {
            pairs.push(("__error__".into(), error.as_str().into()));
            pairs.push(("__error_details__".into(), details.into()));
        }
        let env = LineEnv { line: row.line().into(), nanos: row.entry.at.0 };
        TEMPLATES.render_with(&self.template, &Value::map(pairs), &env).map_err(|e| e.to_string())
    }
}

fn functions() -> Functions {
    let mut f = Functions::builtin();
    f.register("__line__", |call, _| {
        let env = call.env.downcast_ref::<LineEnv>().ok_or("no line here")?;
        Ok(Value::Str(env.line.clone()))
    });
    // The instant as Unix nanoseconds; `unixEpoch` and its kin read it.
    f.register("__timestamp__", |call, _| {
        let env = call.env.downcast_ref::<LineEnv>().ok_or("no line here")?;
        Ok(Value::Int(env.nanos))
    });
    texts(&mut f);
    patterns(&mut f);
    numbers(&mut f);
    f.register("unixEpoch", |_, a| Ok(int(arg(a, 0)?)?.div_euclid(1_000_000_000).to_string().into()));
    f.register("unixEpochMillis", |_, a| Ok(int(arg(a, 0)?)?.div_euclid(1_000_000).to_string().into()));
    f.register("unixEpochNanos", |_, a| Ok(int(arg(a, 0)?)?.to_string().into()));
    f.register("default", |_, a| {
        let (default, value) = (arg(a, 0)?, arg(a, 1)?);
        Ok(if value.truth() { value.clone() } else { default.clone() })
    });
    f.register("fromJson", |_, a| {
        let json: serde_json::Value = serde_json::from_str(&text(a, 0)?).map_err(|e| e.to_string())?;
        Ok(of_json(json))
    });
    f
}

fn texts(f: &mut Functions) {
    type OfText = fn(&str) -> String;
    let of_one: [(&'static str, OfText); 9] = [
        ("lower", str::to_lowercase),
        ("ToLower", str::to_lowercase),
        ("upper", str::to_uppercase),
        ("ToUpper", str::to_uppercase),
        ("title", title),
        ("trim", |s| s.trim().to_owned()),
        ("trimSpace", |s| s.trim().to_owned()),
        ("TrimSpace", |s| s.trim().to_owned()),
        ("urlencode", url_encode),
    ];
    for (name, function) in of_one {
        f.register(name, move |_, a| Ok(function(&text(a, 0)?).into()));
    }
    let cut = |s: &str, set: &str| s.trim_matches(|c| set.contains(c)).to_owned();
    f.register("trimAll", move |_, a| Ok(cut(&text(a, 1)?, &text(a, 0)?).into()));
    f.register("Trim", move |_, a| Ok(cut(&text(a, 0)?, &text(a, 1)?).into()));
    f.register("TrimLeft", |_, a| {
        let set = text(a, 1)?;
        Ok(text(a, 0)?.trim_start_matches(|c| set.contains(c)).into())
    });
    f.register("TrimRight", |_, a| {
        let set = text(a, 1)?;
        Ok(text(a, 0)?.trim_end_matches(|c| set.contains(c)).into())
    });
    let without_prefix = |s: &str, p: &str| s.strip_prefix(p).unwrap_or(s).to_owned();
    let without_suffix = |s: &str, p: &str| s.strip_suffix(p).unwrap_or(s).to_owned();
    f.register("trimPrefix", move |_, a| Ok(without_prefix(&text(a, 1)?, &text(a, 0)?).into()));
    f.register("TrimPrefix", move |_, a| Ok(without_prefix(&text(a, 0)?, &text(a, 1)?).into()));
    f.register("trimSuffix", move |_, a| Ok(without_suffix(&text(a, 1)?, &text(a, 0)?).into()));
    f.register("TrimSuffix", move |_, a| Ok(without_suffix(&text(a, 0)?, &text(a, 1)?).into()));
    f.register("contains", |_, a| Ok(text(a, 1)?.contains(&text(a, 0)?).into()));
    f.register("hasPrefix", |_, a| Ok(text(a, 1)?.starts_with(&text(a, 0)?).into()));
    f.register("hasSuffix", |_, a| Ok(text(a, 1)?.ends_with(&text(a, 0)?).into()));
    f.register("replace", |_, a| Ok(text(a, 2)?.replace(&text(a, 0)?, &text(a, 1)?).into()));
    f.register("Replace", |_, a| {
        let (s, old, new, n) = (text(a, 0)?, text(a, 1)?, text(a, 2)?, int(arg(a, 3)?)?);
        Ok(usize::try_from(n).map_or_else(|_| s.replace(&old, &new), |n| s.replacen(&old, &new, n)).into())
    });
    f.register("trunc", |_, a| {
        let (n, s) = (int(arg(a, 0)?)?, text(a, 1)?);
        let chars = s.chars().count();
        let skip = if n < 0 { chars.saturating_sub(n.unsigned_abs() as usize) } else { 0 };
        let take = if n < 0 { chars } else { n as usize };
        Ok(s.chars().skip(skip).take(take).collect::<String>().into())
    });
    f.register("substr", |_, a| {
        let (start, end, s) = (int(arg(a, 0)?)?, int(arg(a, 1)?)?, text(a, 2)?);
        let start = usize::try_from(start).unwrap_or(0);
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        Ok(s.chars().skip(start).take(end.saturating_sub(start)).collect::<String>().into())
    });
    f.register("repeat", |_, a| {
        let s = text(a, 1)?;
        Ok(s.repeat(count(a, s.len().max(1))?).into())
    });
    f.register("indent", |_, a| Ok(indent(count(a, 1)?, &text(a, 1)?)?.into()));
    f.register("nindent", |_, a| Ok(format!("\n{}", indent(count(a, 1)?, &text(a, 1)?)?).into()));
    f.register("alignLeft", |_, a| {
        let (n, s) = (count(a, 1)?, text(a, 1)?);
        let kept: String = s.chars().take(n).collect();
        Ok(format!("{kept:<n$}").into())
    });
    f.register("alignRight", |_, a| {
        let (n, s) = (count(a, 1)?, text(a, 1)?);
        let kept: String = s.chars().skip(s.chars().count().saturating_sub(n)).collect();
        Ok(format!("{kept:>n$}").into())
    });
    f.register("urldecode", |_, a| Ok(url_decode(&text(a, 0)?)?.into()));
}

fn patterns(f: &mut Functions) {
    f.register("regexReplaceAll", |_, a| {
        let (s, with) = (text(a, 1)?, text(a, 2)?);
        with_regex(&text(a, 0)?, |re| re.replace_all(&s, &*with).into_owned().into())
    });
    f.register("regexReplaceAllLiteral", |_, a| {
        let (s, with) = (text(a, 1)?, text(a, 2)?);
        with_regex(&text(a, 0)?, |re| re.replace_all(&s, regex::NoExpand(&with)).into_owned().into())
    });
    f.register("count", |_, a| {
        let s = text(a, 1)?;
        with_regex(&text(a, 0)?, |re| Value::Int(re.find_iter(&s).count() as i64))
    });
}

fn numbers(f: &mut Functions) {
    type OfInts = fn(i64, i64) -> Option<i64>;
    let ints: [(&'static str, OfInts); 7] = [
        ("add", i64::checked_add),
        ("sub", i64::checked_sub),
        ("mul", i64::checked_mul),
        ("div", i64::checked_div),
        ("mod", i64::checked_rem),
        ("max", |a, b| Some(a.max(b))),
        ("min", |a, b| Some(a.min(b))),
    ];
    for (name, function) in ints {
        f.register(name, move |_, a| {
            let mut total = int(arg(a, 0)?)?;
            for one in &a[1..] {
                total = function(total, int(one)?).ok_or_else(|| format!("{name}: division by zero or overflow"))?;
            }
            Ok(Value::Int(total))
        });
    }
    type OfFloats = fn(f64, f64) -> f64;
    let floats: [(&'static str, OfFloats); 6] = [
        ("addf", |a, b| a + b),
        ("subf", |a, b| a - b),
        ("mulf", |a, b| a * b),
        ("divf", |a, b| a / b),
        ("maxf", f64::max),
        ("minf", f64::min),
    ];
    for (name, function) in floats {
        f.register(name, move |_, a| {
            let mut total = float(arg(a, 0)?)?;
            for one in &a[1..] {
                total = function(total, float(one)?);
            }
            Ok(Value::Float(total))
        });
    }
    f.register("int", |_, a| Ok(Value::Int(float(arg(a, 0)?)? as i64)));
    f.register("float64", |_, a| Ok(Value::Float(float(arg(a, 0)?)?)));
    f.register("ceil", |_, a| Ok(Value::Float(float(arg(a, 0)?)?.ceil())));
    f.register("floor", |_, a| Ok(Value::Float(float(arg(a, 0)?)?.floor())));
    f.register("round", |_, a| {
        let power = 10_f64.powi(int(arg(a, 1)?)?.clamp(-300, 300) as i32);
        Ok(Value::Float((float(arg(a, 0)?)? * power).round() / power))
    });
    f.register("bytes", |_, a| {
        let s = text(a, 0)?;
        parse_bytes(&s).map(Value::Float).ok_or_else(|| format!("cannot read {s:?} as bytes"))
    });
    for name in ["duration", "duration_seconds"] {
        f.register(name, |_, a| {
            let s = text(a, 0)?;
            let nanos = parse_duration(&s).ok_or_else(|| format!("cannot read {s:?} as a duration"))?;
            Ok(Value::Float(nanos as f64 / 1e9))
        });
    }
}

fn arg(args: &[Value], idx: usize) -> Result<&Value, String> {
    args.get(idx).ok_or_else(|| format!("wrong number of args: want at least {} got {}", idx + 1, args.len()))
}
fn text(args: &[Value], idx: usize) -> Result<String, String> {
    arg(args, idx).map(Value::text)
}
fn float(value: &Value) -> Result<f64, String> {
    match value {
        Value::Int(v) => Ok(*v as f64),
        Value::Float(v) => Ok(*v),
        // An absent or unreadable label counts as zero, as in sprig's casts.
        other => Ok(other.text().trim().parse().unwrap_or(0.0)),
    }
}
fn int(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(v) => Ok(*v),
        other => Ok(float(other)? as i64),
    }
}

/// The first argument as a count of things of `size` bytes.
fn count(args: &[Value], size: usize) -> Result<usize, String> {
    let n = usize::try_from(int(arg(args, 0)?)?).unwrap_or(0);
    if n.saturating_mul(size) > MADE_BYTES_MAX {
        return Err(format!("{n} is too many; the result may hold {MADE_BYTES_MAX} bytes"));
    }
    Ok(n)
}

fn indent(n: usize, s: &str) -> Result<String, String> {
    let lines = s.matches('\n').count() + 1;
    if lines.saturating_mul(n) > MADE_BYTES_MAX {
        return Err(format!("indent: the result may hold {MADE_BYTES_MAX} bytes"));
    }
    let pad = " ".repeat(n);
    Ok(format!("{pad}{}", s.replace('\n', &format!("\n{pad}"))))
}

fn title(s: &str) -> String {
    let mut at_start = true;
    s.chars()
        .map(|c| {
            let shown = if at_start { c.to_uppercase().next().unwrap_or(c) } else { c };
            at_start = c.is_whitespace();
            shown
        })
        .collect()
}

fn url_encode(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    for b in s.bytes() {
        match b {
            b' ' => out.push('+'),
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(b as char),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

fn url_decode(s: &str) -> Result<String, String> {
    let bad = || format!("invalid URL escape in {s:?}");
    let mut out = Vec::with_capacity(s.len());
    let mut bytes = s.bytes();
    while let Some(b) = bytes.next() {
        match b {
            b'+' => out.push(b' '),
            b'%' => {
                let mut digit = || bytes.next().and_then(|b| (b as char).to_digit(16)).ok_or_else(bad);
                out.push((digit()? * 16 + digit()?) as u8);
            }
            b => out.push(b),
        }
    }
    String::from_utf8(out).map_err(|_| bad())
}

fn of_json(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(v) => Value::Bool(v),
        serde_json::Value::Number(n) => Value::Float(n.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(s) => s.into(),
        serde_json::Value::Array(items) => Value::list(items.into_iter().map(of_json)),
        serde_json::Value::Object(entries) => Value::map(entries.into_iter().map(|(k, v)| (k, of_json(v)))),
    }
}

thread_local! {
    static REGEXES: RefCell<AHashMap<String, regex::Regex>> = RefCell::default();
}

/// Patterns of templates are the same line after line, so each is compiled once per thread.
fn with_regex(pattern: &str, apply: impl FnOnce(&regex::Regex) -> Value) -> FuncResult {
    REGEXES.with_borrow_mut(|known| {
        if !known.contains_key(pattern) {
            if known.len() >= REGEXES_MAX {
                known.clear();
            }
            known.insert(pattern.to_owned(), weir_go::regex(pattern).map_err(|e| e.to_string())?);
        }
        Ok(apply(&known[pattern]))
    })
}
