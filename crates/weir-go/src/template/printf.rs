//! Go's `fmt.Sprintf` over template values. Wrong verbs and counts print as Go prints them.

use super::value::Value;
use crate::number::{format_e, format_f, format_g, format_significant, format_v, go_exponent};

/// Widest padding; a width comes from the template and would otherwise fill memory.
const WIDTH_MAX: usize = 4096;

#[derive(Default, Clone)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

pub(super) fn printf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut out = String::with_capacity(format.len() + 16);
    let mut next_arg = 0;
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut spec = Spec::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | '#' | ' ' | '0')) {
            match flag {
                '-' => spec.minus = true,
                '+' => spec.plus = true,
                '#' => spec.sharp = true,
                ' ' => spec.space = true,
                _ => spec.zero = true,
            }
        }
        let mut number = |chars: &mut std::iter::Peekable<std::str::Chars<'_>>| {
            if chars.next_if_eq(&'*').is_some() {
                let value = args.get(next_arg);
                next_arg += 1;
                return match value {
                    Some(Value::Int(i)) => usize::try_from(i.unsigned_abs()).ok().map(|n| (n, *i < 0)),
                    _ => None,
                };
            }
            let mut n = None;
            while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
                chars.next();
                n = Some(n.unwrap_or(0_usize).saturating_mul(10).saturating_add(digit as usize));
            }
            n.map(|n| (n, false))
        };
        if let Some((width, negative)) = number(&mut chars) {
            spec.width = Some(width);
            spec.minus |= negative;
        }
        if chars.next_if_eq(&'.').is_some() {
            spec.precision = Some(number(&mut chars).map_or(0, |(n, _)| n));
        }
        if spec.width.max(spec.precision).unwrap_or(0) > WIDTH_MAX {
            return Err(format!("width or precision above {WIDTH_MAX}"));
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        match args.get(next_arg) {
            Some(value) => out.push_str(&format_one(&spec, verb, value)),
            None => {
                out.push_str("%!");
                out.push(verb);
                out.push_str("(MISSING)");
            }
        }
        next_arg += 1;
    }
    if next_arg < args.len() {
        let extra: Vec<String> = args[next_arg..].iter().map(|v| format!("{}={v}", v.type_name())).collect();
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

fn format_one(spec: &Spec, verb: char, value: &Value) -> String {
    let plain = match value.plain() {
        Value::Object(o) => Value::from(Value::Object(o).text()),
        other => other,
    };
    let formatted = match (&plain, verb) {
        (v, 'T') => Some(text_pad(spec, v.type_name())),
        (Value::Nil, 'v') => Some(text_pad(spec, "<nil>")),
        (Value::Str(s), 'v' | 's' | 'q' | 'x' | 'X') => Some(format_str(spec, verb, s)),
        (Value::Bool(b), 't' | 'v') => Some(text_pad(spec, if *b { "true" } else { "false" })),
        (Value::Int(i), _) => format_int(spec, verb, *i),
        (Value::Float(f), _) => format_float(spec, verb, *f),
        (Value::List(items), 'v' | 's' | 'q' | 'd') => {
            let items: Vec<String> = items.iter().map(|v| format_one(spec, verb, v)).collect();
            Some(format!("[{}]", items.join(" ")))
        }
        (Value::Map(map), 'v' | 's' | 'q' | 'd') => {
            let key = |k: &str| if verb == 'd' { bad_verb(verb, &Value::from(k)) } else { format_str(spec, verb, k) };
            let pairs: Vec<String> =
                map.iter().map(|(k, v)| format!("{}:{}", key(k), format_one(spec, verb, v))).collect();
            Some(format!("map[{}]", pairs.join(" ")))
        }
        _ => None,
    };
    formatted.unwrap_or_else(|| bad_verb(verb, &plain))
}

fn bad_verb(verb: char, value: &Value) -> String {
    match value {
        Value::Nil => format!("%!{verb}(<nil>)"),
        v => format!("%!{verb}({}={v})", v.type_name()),
    }
}

fn format_str(spec: &Spec, verb: char, s: &str) -> String {
    let cut: String = match spec.precision {
        Some(n) if !matches!(verb, 'x' | 'X') => s.chars().take(n).collect(),
        _ => s.to_owned(),
    };
    let text = match verb {
        'q' if spec.sharp && !cut.contains('`') => format!("`{cut}`"),
        'q' => quote(&cut),
        'v' if spec.sharp => quote(&cut),
        'x' => cut.bytes().map(|b| format!("{b:02x}")).collect(),
        'X' => cut.bytes().map(|b| format!("{b:02X}")).collect(),
        _ => cut,
    };
    text_pad(spec, &text)
}

/// As Go's `strconv.Quote`.
fn quote(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_control() && u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn format_int(spec: &Spec, verb: char, i: i64) -> Option<String> {
    let n = i.unsigned_abs();
    let as_char = || u32::try_from(i).ok().and_then(char::from_u32).unwrap_or('\u{fffd}');
    let digits = match verb {
        'v' | 'd' => n.to_string(),
        'b' if spec.sharp => format!("0b{n:b}"),
        'b' => format!("{n:b}"),
        'o' if spec.sharp => format!("0{n:o}"),
        'o' => format!("{n:o}"),
        'O' => format!("0o{n:o}"),
        'x' if spec.sharp => format!("0x{n:x}"),
        'x' => format!("{n:x}"),
        'X' if spec.sharp => format!("0X{n:X}"),
        'X' => format!("{n:X}"),
        'c' => return Some(text_pad(spec, &as_char().to_string())),
        'q' => return Some(text_pad(spec, &format!("'{}'", as_char()))),
        'U' => return Some(text_pad(spec, &format!("U+{n:04X}"))),
        _ => return None,
    };
    let digits = match spec.precision {
        Some(p) => format!("{digits:0>p$}"),
        None => digits,
    };
    Some(number_pad(spec, i < 0, &digits, spec.precision.is_none()))
}

fn format_float(spec: &Spec, verb: char, f: f64) -> Option<String> {
    let text = match (verb, spec.precision) {
        ('f' | 'F', precision) => fixed(f, precision.unwrap_or(6)),
        ('e' | 'E', precision) => scientific(f, precision.unwrap_or(6)),
        ('v', None) if spec.sharp => format_g(f, 21),
        ('g' | 'G' | 'v', None) => format_v(f),
        ('g' | 'G' | 'v', Some(precision)) => format_significant(f, precision.max(1)),
        _ => return None,
    };
    let text = if matches!(verb, 'E' | 'G') { text.replace('e', "E") } else { text };
    let finite = f.is_finite();
    let (negative, digits) = match text.strip_prefix(['-', '+']) {
        Some(digits) => (text.starts_with('-'), digits),
        None => (false, &*text),
    };
    // Go prints +Inf with its sign only when asked to, or by %v and %g as +Inf.
    let infinite_plus = f == f64::INFINITY;
    let spec = Spec { plus: (spec.plus && !f.is_nan()) || infinite_plus, ..spec.clone() };
    Some(number_pad(&spec, negative, digits, finite))
}

fn fixed(f: f64, precision: usize) -> String {
    if f.is_finite() { format!("{f:.precision$}") } else { format_f(f) }
}

fn scientific(f: f64, precision: usize) -> String {
    if f.is_finite() { go_exponent(&format!("{f:.precision$e}")) } else { format_e(f) }
}

fn text_pad(spec: &Spec, text: &str) -> String {
    let width = spec.width.unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    let fill = if spec.zero && !spec.minus { "0" } else { " " }.repeat(missing);
    if spec.minus { format!("{text}{fill}") } else { format!("{fill}{text}") }
}

fn number_pad(spec: &Spec, negative: bool, digits: &str, zeros_allowed: bool) -> String {
    let sign = match (negative, spec.plus, spec.space) {
        (true, ..) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        _ => "",
    };
    if spec.zero && !spec.minus && zeros_allowed {
        let width = spec.width.unwrap_or(0).saturating_sub(sign.len());
        return format!("{sign}{digits:0>width$}");
    }
    text_pad(&Spec { zero: false, ..spec.clone() }, &format!("{sign}{digits}"))
}
