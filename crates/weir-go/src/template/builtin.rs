//! The functions that Go's text/template defines, and the registry for those of others.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::exec::Call;
use super::printf::printf;
use super::value::Value;

pub type FuncResult = Result<Value, String>;
type Function = Arc<dyn Fn(&Call<'_>, &[Value]) -> FuncResult + Send + Sync>;

/// Functions by name. A later registration replaces an earlier one.
#[derive(Clone)]
pub struct Functions(BTreeMap<&'static str, Function>);

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Functions {
    /// Go's own: comparison, `and`, `or`, `not`, `len`, `index`, `slice`, printing, escaping.
    pub fn builtin() -> Self {
        let mut functions = Self(BTreeMap::new());
        // Decided by the renderer, which must not evaluate what follows; known here by name.
        functions.register("and", |_, args| first_of(args));
        functions.register("or", |_, args| first_of(args));
        functions.register("not", |_, args| Ok(Value::Bool(!one(args)?.truth())));
        functions.register("eq", |_, args| eq(args));
        functions.register("ne", |_, args| {
            let [a, b] = exactly(args)?;
            Ok(Value::Bool(!equal(a, b)?))
        });
        functions.register("lt", |_, args| ordered(args, |o| o == Some(Ordering::Less)));
        functions.register("le", |_, args| ordered(args, |o| o.is_some_and(Ordering::is_le)));
        functions.register("gt", |_, args| ordered(args, |o| o == Some(Ordering::Greater)));
        functions.register("ge", |_, args| ordered(args, |o| o.is_some_and(Ordering::is_ge)));
        functions.register("len", |_, args| len(one(args)?));
        functions.register("index", |_, args| index(args));
        functions.register("slice", |_, args| slice(args));
        functions.register("print", |_, args| Ok(print(args).into()));
        functions.register("println", |_, args| Ok(println(args).into()));
        functions.register("printf", |_, args| match args.split_first() {
            Some((Value::Str(format), args)) => Ok(printf(format, args)?.into()),
            Some((other, _)) => Err(format!("wrong type for value; expected string; got {}", other.type_name())),
            None => Err("wrong number of args for printf: want at least 1 got 0".to_owned()),
        });
        functions.register("html", |_, args| Ok(escape_html(&print(args)).into()));
        functions.register("js", |_, args| Ok(escape_js(&print(args)).into()));
        functions.register("urlquery", |_, args| Ok(escape_query(&print(args)).into()));
        functions
    }

    pub fn register(
        &mut self,
        name: &'static str,
        function: impl Fn(&Call<'_>, &[Value]) -> FuncResult + Send + Sync + 'static,
    ) {
        self.0.insert(name, Arc::new(function));
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
    pub(super) fn get(&self, name: &str) -> Option<&Function> {
        self.0.get(name)
    }
}

fn exactly<const N: usize>(args: &[Value]) -> Result<&[Value; N], String> {
    args.try_into().map_err(|_| format!("wrong number of args: want {N} got {}", args.len()))
}
fn one(args: &[Value]) -> Result<&Value, String> {
    exactly::<1>(args).map(|[v]| v)
}
fn first_of(args: &[Value]) -> FuncResult {
    args.first().cloned().ok_or_else(|| "wrong number of args: want at least 1 got 0".to_owned())
}

fn eq(args: &[Value]) -> FuncResult {
    let Some((first, rest)) = args.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return Err("missing argument for comparison".to_owned());
    };
    for other in rest {
        if equal(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::List(_) | Value::Map(_) | Value::Object(_), _)
        | (_, Value::List(_) | Value::Map(_) | Value::Object(_)) => Err("non-comparable type".to_owned()),
        _ => compare(a, b).map(|o| o == Some(Ordering::Equal)),
    }
}

/// `None` beside NaN.
fn compare(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Ok(Some(a.cmp(b))),
        (Value::Float(a), Value::Float(b)) => Ok(a.partial_cmp(b)),
        (Value::Str(a), Value::Str(b)) => Ok(Some(a.cmp(b))),
        (
            Value::Int(_) | Value::Float(_) | Value::Str(_) | Value::Bool(_),
            Value::Int(_) | Value::Float(_) | Value::Str(_) | Value::Bool(_),
        ) => Err("incompatible types for comparison".to_owned()),
        _ => Err("invalid type for comparison".to_owned()),
    }
}

fn ordered(args: &[Value], holds: impl Fn(Option<Ordering>) -> bool) -> FuncResult {
    let [a, b] = exactly(args)?;
    if matches!((a, b), (Value::Bool(_), Value::Bool(_))) {
        return Err("invalid type for comparison".to_owned());
    }
    compare(a, b).map(|o| Value::Bool(holds(o)))
}

fn len(value: &Value) -> FuncResult {
    let n = match value.plain() {
        Value::Str(s) => s.len(),
        Value::List(l) => l.len(),
        Value::Map(m) => m.len(),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(n as i64))
}

fn index(args: &[Value]) -> FuncResult {
    let (first, keys) = args.split_first().ok_or("wrong number of args for index: want at least 1 got 0")?;
    let mut value = first.clone();
    for key in keys {
        value = match (value.plain(), key) {
            (Value::List(list), Value::Int(i)) => {
                let item = usize::try_from(*i).ok().and_then(|i| list.get(i)).cloned();
                item.ok_or_else(|| format!("index out of range: {i}"))?
            }
            (Value::Str(s), Value::Int(i)) => {
                let byte = usize::try_from(*i).ok().and_then(|i| s.as_bytes().get(i)).copied();
                Value::Int(i64::from(byte.ok_or_else(|| format!("index out of range: {i}"))?))
            }
            (Value::Map(map), Value::Str(key)) => map.get(key).cloned().unwrap_or_else(|| Value::from("")),
            (Value::Nil, _) => return Err("index of untyped nil".to_owned()),
            (Value::List(_) | Value::Str(_), key) => {
                return Err(format!("cannot index slice/array with type {}", key.type_name()));
            }
            (Value::Map(_), key) => return Err(format!("value has type {}; should be string", key.type_name())),
            (other, _) => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(value)
}

fn slice(args: &[Value]) -> FuncResult {
    let (value, bounds) = args.split_first().ok_or("wrong number of args for slice: want at least 1 got 0")?;
    if bounds.len() > 2 {
        return Err(format!("too many slice indexes: {}", bounds.len()));
    }
    let plain = value.plain();
    let n = match &plain {
        Value::Str(s) => s.len(),
        Value::List(l) => l.len(),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    let mut range = [0, n];
    for (at, bound) in bounds.iter().enumerate() {
        let Value::Int(i) = bound else {
            return Err(format!("cannot index slice/array with type {}", bound.type_name()));
        };
        range[at] = usize::try_from(*i).ok().filter(|i| *i <= n).ok_or_else(|| format!("index out of range: {i}"))?;
    }
    let [from, to] = range;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match plain {
        // Go cuts bytes; a cut inside a character would not be text any more.
        Value::Str(s) => s.get(from..to).ok_or("slice cuts a character in two")?.into(),
        Value::List(l) => Value::list(l[from..to].iter().cloned()),
        other => other,
    })
}

/// As Go's `Sprint`: a space between two operands of which neither is a string.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (idx, arg) in args.iter().enumerate() {
        let is_str = |v: &Value| matches!(v, Value::Str(_));
        if idx > 0 && !is_str(arg) && !is_str(&args[idx - 1]) {
            out.push(' ');
        }
        out.push_str(&nil_as_go(arg));
    }
    out
}

fn println(args: &[Value]) -> String {
    let words: Vec<String> = args.iter().map(nil_as_go).collect();
    format!("{}\n", words.join(" "))
}

fn nil_as_go(value: &Value) -> String {
    if matches!(value, Value::Nil) { "<nil>".to_owned() } else { value.text() }
}

/// Text for markup, between tags and in quoted attributes. Source: Go `html/template`, `HTMLEscapeString`.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '\0' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn escape_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(b)),
            b' ' => out.push('+'),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}
