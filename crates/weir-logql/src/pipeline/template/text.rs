//! Functions on text.

use std::cell::RefCell;

use ahash::AHashMap;
use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine as _};
use weir_go::template::{FuncResult, Functions, Value};

use super::{MADE_BYTES_MAX, arg, count, int, text};

/// Compiled expressions kept per thread; templates name few.
const REGEXES_MAX: usize = 64;

pub(super) fn register(f: &mut Functions) {
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
    // These two count bytes, as sprig's do; a character cut in two comes out as U+FFFD.
    f.register("trunc", |_, a| {
        let (n, s) = (int(arg(a, 0)?)?, text(a, 1)?);
        let size = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX).min(s.len());
        let range = if n < 0 { s.len() - size..s.len() } else { 0..size };
        Ok(String::from_utf8_lossy(&s.as_bytes()[range]).as_ref().into())
    });
    f.register("substr", |_, a| {
        let (start, end, s) = (int(arg(a, 0)?)?, int(arg(a, 1)?)?, text(a, 2)?);
        let start = usize::try_from(start).unwrap_or(0);
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(s.len());
        let cut = s.as_bytes().get(start..end).ok_or_else(|| format!("slice bounds out of range [{start}:{end}]"))?;
        Ok(String::from_utf8_lossy(cut).as_ref().into())
    });
    f.register("repeat", |_, a| {
        let s = text(a, 1)?;
        Ok(s.repeat(count(a, s.len().max(1))?).into())
    });
    f.register("indent", |_, a| Ok(indent(count(a, 1)?, &text(a, 1)?)?.into()));
    f.register("nindent", |_, a| Ok(format!("\n{}", indent(count(a, 1)?, &text(a, 1)?)?).into()));
    f.register("alignLeft", |_, a| {
        let (Some(n), s) = (width(a)?, text(a, 1)?) else { return text(a, 1).map(Value::from) };
        let kept: String = s.chars().take(n).collect();
        Ok(format!("{kept:<n$}").into())
    });
    f.register("alignRight", |_, a| {
        let (Some(n), s) = (width(a)?, text(a, 1)?) else { return text(a, 1).map(Value::from) };
        let kept: String = s.chars().skip(s.chars().count().saturating_sub(n)).collect();
        Ok(format!("{kept:>n$}").into())
    });
    f.register("urldecode", |_, a| Ok(url_decode(&text(a, 0)?)?.into()));
    f.register("b64enc", |_, a| Ok(STANDARD.encode(text(a, 0)?).into()));
    // What cannot be decoded gives the error as text, as in sprig.
    f.register("b64dec", |_, a| {
        Ok(match STANDARD.decode(text(a, 0)?) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).as_ref().into(),
            Err(error) => {
                let at = match error {
                    DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
                    DecodeError::InvalidLength(at) => at,
                    DecodeError::InvalidPadding => 0,
                };
                format!("illegal base64 data at input byte {at}").into()
            }
        })
    });
    f.register("default", |_, a| {
        let (default, value) = (arg(a, 0)?, a.get(1).unwrap_or(&Value::Nil));
        Ok(if value.truth() { value.clone() } else { default.clone() })
    });
    // What is no JSON is nothing, as in sprig.
    f.register("fromJson", |_, a| Ok(serde_json::from_str(&text(a, 0)?).map_or(Value::Nil, of_json)));
    patterns(f);
}

/// Characters to align to; `None` for a negative count, which aligns nothing.
fn width(args: &[Value]) -> Result<Option<usize>, String> {
    if int(arg(args, 0)?)? < 0 { Ok(None) } else { count(args, 1).map(Some) }
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

fn indent(n: usize, s: &str) -> Result<String, String> {
    let lines = s.matches('\n').count() + 1;
    if lines.saturating_mul(n) > MADE_BYTES_MAX {
        return Err(format!("indent: the result may hold {MADE_BYTES_MAX} bytes"));
    }
    let pad = " ".repeat(n);
    Ok(format!("{pad}{}", s.replace('\n', &format!("\n{pad}"))))
}

fn title(s: &str) -> String {
    // A word begins after anything but a letter, a digit or an underscore, as Go's strings.Title has it.
    let mut inside = false;
    s.chars()
        .map(|c| {
            let shown = if inside { c } else { c.to_uppercase().next().unwrap_or(c) };
            inside = c.is_alphanumeric() || c == '_' || (!c.is_ascii() && !c.is_whitespace());
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
