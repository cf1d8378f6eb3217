//! Text to tokens, each with its byte offset.

use super::ParseError;
use crate::units::{parse_bytes, parse_duration};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    Str(String),
    Number(f64),
    /// Nanoseconds.
    Duration(i64),
    /// Bytes, and the text as written.
    Bytes(f64, String),
    /// `--strict`, `--keep-empty`.
    Flag(&'static str),
    /// Operators and punctuation.
    Op(&'static str),
    End,
}

impl Token {
    /// As an error names it: the token classes of Loki's grammar, or the operator itself.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Ident(name) => format!("IDENTIFIER `{name}`"),
            Self::Str(_) => "STRING".to_owned(),
            Self::Number(_) => "NUMBER".to_owned(),
            Self::Duration(_) => "DURATION".to_owned(),
            Self::Bytes(..) => "BYTES".to_owned(),
            Self::Flag(flag) => (*flag).to_owned(),
            Self::Op(op) => (*op).to_owned(),
            Self::End => "$end".to_owned(),
        }
    }
}

/// Longest first, so that `|=` is not read as `|`.
const OPERATORS: &[&str] = &[
    "|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<=", "{", "}", "(", ")", "[", "]", ",", "=", "|", ">", "<",
    "+", "-", "*", "/", "%", "^",
];

pub(crate) fn lex(text: &str) -> Result<Vec<(Token, usize)>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if c == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if c == '"' || c == '`' {
            let (value, len) = string(rest).map_err(|message| ParseError::at(text, at, message))?;
            tokens.push((Token::Str(value), at));
            at += len;
        } else if c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit())) {
            let (token, len) = number(rest).map_err(|message| ParseError::at(text, at, message))?;
            tokens.push((token, at));
            at += len;
        } else if c.is_ascii_alphabetic() || c == '_' {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
            tokens.push((Token::Ident(rest[..len].to_owned()), at));
            at += len;
        } else if let Some(flag) = ["--strict", "--keep-empty"].into_iter().find(|flag| rest.starts_with(flag)) {
            tokens.push((Token::Flag(flag), at));
            at += flag.len();
        } else if let Some(op) = OPERATORS.iter().find(|op| rest.starts_with(**op)) {
            tokens.push((Token::Op(op), at));
            at += op.len();
        } else {
            return Err(ParseError::at(text, at, format!("syntax error: unexpected character {c:?}")));
        }
    }
    tokens.push((Token::End, text.len()));
    Ok(tokens)
}

/// A number, or a number with a unit.
fn number(rest: &str) -> Result<(Token, usize), String> {
    let mut len =
        rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | 'µ' | 'μ' | '_')).unwrap_or(rest.len());
    // A signed exponent: `1e-5`.
    let is_exponent = rest[..len].ends_with(['e', 'E']) && !rest.starts_with("0x");
    if is_exponent && rest[len..].starts_with(['+', '-']) {
        let digits = rest[len + 1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - len - 1);
        if digits > 0 {
            len += 1 + digits;
        }
    }
    let word = &rest[..len];
    let hex = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X"));
    let token = if let Some(hex) = hex {
        i64::from_str_radix(hex, 16).ok().map(|v| Token::Number(v as f64))
    } else if word.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && word.ends_with(|c: char| c.is_ascii_digit() || c == '.')
        && let Ok(value) = word.parse()
    {
        Some(Token::Number(value))
    } else if let Some(nanos) = parse_duration(word) {
        Some(Token::Duration(nanos))
    } else {
        parse_bytes(word).map(|bytes| Token::Bytes(bytes, word.to_owned()))
    };
    token
        .map(|token| (token, len))
        .ok_or_else(|| format!("syntax error: `{word}` is no number, duration (such as 5m) or size (such as 10KB)"))
}

/// A Go string literal at the start of `rest`: its value and its length in the text.
fn string(rest: &str) -> Result<(String, usize), String> {
    if let Some(raw) = rest.strip_prefix('`') {
        let end = raw.find('`').ok_or("syntax error: literal not terminated")?;
        return Ok((raw[..end].replace('\r', ""), end + 2));
    }
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, at + 1)),
            '\n' => return Err("syntax error: literal not terminated".to_owned()),
            '\\' => {
                let (_, escape) = chars.next().ok_or("syntax error: literal not terminated")?;
                out.push(unescape(escape, &mut chars)?);
            }
            c => out.push(c),
        }
    }
    Err("syntax error: literal not terminated".to_owned())
}

fn unescape(escape: char, chars: &mut impl Iterator<Item = (usize, char)>) -> Result<char, String> {
    let bad = || format!("syntax error: invalid escape `\\{escape}` in a string; write `\\\\` or use backticks");
    let mut digits = |count: usize, radix: u32, first: u32| -> Result<char, String> {
        let mut value = first;
        for _ in 0..count {
            let (_, digit) = chars.next().ok_or_else(bad)?;
            value = value * radix + digit.to_digit(radix).ok_or_else(bad)?;
        }
        char::from_u32(value).ok_or_else(bad)
    };
    Ok(match escape {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' => '\\',
        '"' => '"',
        '\'' => '\'',
        'x' => digits(2, 16, 0)?,
        'u' => digits(4, 16, 0)?,
        'U' => digits(8, 16, 0)?,
        '0'..='7' => digits(2, 8, escape as u32 - '0' as u32)?,
        _ => return Err(bad()),
    })
}
