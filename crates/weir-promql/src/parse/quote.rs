//! Go's quoting: `%q` for messages and canonical text, `strconv.Unquote` for string literals.

use std::fmt::Write as _;

/// `%q` of a rune; `None` is the end of input.
pub(crate) fn go_char(c: Option<char>) -> String {
    match c {
        None => "'\\ufffd'".to_owned(),
        Some('\'') => "'\\''".to_owned(),
        Some('"') => "'\"'".to_owned(),
        Some(c) => format!("'{}'", go_string(&c.to_string()).trim_matches('"')),
    }
}

/// `%q` of a string.
pub(crate) fn go_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a literal's body. Bytes that escapes produce must be UTF-8 in the end.
pub(crate) fn unquote(body: &str, quote: char) -> Result<String, String> {
    if quote == '`' {
        return Ok(body.replace('\r', ""));
    }
    if !body.contains('\\') {
        return Ok(body.to_owned());
    }
    let mut out = Vec::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let Some(escape) = chars.next() else { return Err("escape sequence not terminated".to_owned()) };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            c if c == quote => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            'x' => out.push(number(&mut chars, 2, 16)? as u8),
            'u' => push_code_point(&mut out, number(&mut chars, 4, 16)?)?,
            'U' => push_code_point(&mut out, number(&mut chars, 8, 16)?)?,
            '0'..='7' => {
                let first = escape as u32 - '0' as u32;
                let value = first * 64 + number(&mut chars, 2, 8)?;
                out.push(u8::try_from(value).map_err(|_| "escape sequence is an invalid code point".to_owned())?);
            }
            c => return Err(format!("unknown escape sequence U+{:04X} {}", c as u32, go_char(Some(c)))),
        }
    }
    String::from_utf8(out).map_err(|_| "escape sequence is not valid UTF-8".to_owned())
}

fn number(chars: &mut std::str::Chars<'_>, digits: usize, radix: u32) -> Result<u32, String> {
    let mut value = 0u32;
    for _ in 0..digits {
        let c = chars.next().ok_or("escape sequence not terminated")?;
        let digit = c
            .to_digit(radix)
            .ok_or_else(|| format!("illegal character U+{:04X} {} in escape sequence", c as u32, go_char(Some(c))))?;
        value = value.wrapping_mul(radix).wrapping_add(digit);
    }
    Ok(value)
}

fn push_code_point(out: &mut Vec<u8>, value: u32) -> Result<(), String> {
    let c = char::from_u32(value).ok_or("escape sequence is an invalid Unicode code point")?;
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(())
}
