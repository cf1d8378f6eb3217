//! Tokens of OTTL with their positions.

use super::OttlError;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// Begins with a lower-case letter or `_`.
    Lower(String),
    /// Begins with an upper-case letter.
    Upper(String),
    Str(String),
    Int(i64),
    Float(f64),
    Bytes(Vec<u8>),
    /// One of `( ) [ ] { } , . : = + - * / == != < <= > >=`.
    Sign(&'static str),
    End,
}

impl Token {
    pub fn shown(&self) -> String {
        match self {
            Self::Lower(text) | Self::Upper(text) => format!("`{text}`"),
            Self::Str(text) => format!("the text {text:?}"),
            Self::Int(v) => format!("the number {v}"),
            Self::Float(v) => format!("the number {v}"),
            Self::Bytes(_) => "bytes".to_owned(),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".to_owned(),
        }
    }
}

const SIGNS: [&str; 22] =
    ["==", "!=", "<=", ">=", "(", ")", "[", "]", "{", "}", ",", ".", ":", "=", "+", "-", "*", "/", "<", ">", ";", "!"];

/// Tokens with the byte at which each begins; the last is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, OttlError> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let start = at;
        let rest = &text[at..];
        let token = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c == '"' {
            let (value, len) = quoted(rest).ok_or_else(|| OttlError::new(text, start, "a text that is not closed"))?;
            at += len;
            Token::Str(value)
        } else if let Some(digits) = rest.strip_prefix("0x") {
            let len = digits.bytes().take_while(u8::is_ascii_hexdigit).count();
            let bytes = hex::decode(&digits[..len]).ok().filter(|b| !b.is_empty());
            at += 2 + len;
            Token::Bytes(bytes.ok_or_else(|| OttlError::new(text, start, "bytes need pairs of hex digits after 0x"))?)
        } else if c.is_ascii_digit() {
            let (token, len) = number(rest).ok_or_else(|| OttlError::new(text, start, "not a number"))?;
            at += len;
            token
        } else if c.is_ascii_alphabetic() || c == '_' {
            let len = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            at += len;
            let word = rest[..len].to_owned();
            if c.is_ascii_uppercase() { Token::Upper(word) } else { Token::Lower(word) }
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| OttlError::new(text, start, format!("`{c}` has no meaning here")))?;
            at += sign.len();
            Token::Sign(sign)
        };
        out.push((start, token));
    }
    out.push((text.len(), Token::End));
    Ok(out)
}

/// What stands between the quotes at the start of `text`, and how long it is with them.
fn quoted(text: &str) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, at + 1)),
            '\\' => match chars.next()?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                '"' => out.push('"'),
                '\\' => out.push('\\'),
                // Regular expressions are full of them: `\d` stays what it is.
                other => out.extend(['\\', other]),
            },
            c => out.push(c),
        }
    }
    None
}

fn number(text: &str) -> Option<(Token, usize)> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut len = digits(text);
    let mut is_float = false;
    let after = &text[len..];
    if after.starts_with('.') && digits(&after[1..]) > 0 {
        is_float = true;
        len += 1 + digits(&after[1..]);
    }
    let after = &text[len..];
    if after.starts_with(['e', 'E']) {
        let sign = usize::from(after[1..].starts_with(['+', '-']));
        let n = digits(&after[1 + sign..]);
        if n > 0 {
            is_float = true;
            len += 1 + sign + n;
        }
    }
    let token = if is_float { Token::Float(text[..len].parse().ok()?) } else { Token::Int(text[..len].parse().ok()?) };
    Some((token, len))
}
