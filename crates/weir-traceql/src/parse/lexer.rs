//! Text to tokens, each with its byte offset. Attributes are tokens of their own, as almost any
//! character may stand in their names.

use std::sync::Arc;

use super::ParseError;
use crate::ast::{Field, Intrinsic, Literal, Scope};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A keyword, a function, or an intrinsic without scope.
    Word(String),
    Field(Field),
    Literal(Literal),
    Op(&'static str),
    End,
}

impl Token {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Field(field) => format!("`{field}`"),
            Self::Literal(Literal::Str(_)) => "STRING".to_owned(),
            Self::Literal(Literal::Int(_)) => "INTEGER".to_owned(),
            Self::Literal(Literal::Float(_)) => "FLOAT".to_owned(),
            Self::Literal(Literal::Duration(_)) => "DURATION".to_owned(),
            Self::Literal(_) => "LITERAL".to_owned(),
            Self::Op(op) => (*op).to_owned(),
            Self::End => "$end".to_owned(),
        }
    }
}

/// Longest first.
const OPERATORS: &[&str] = &[
    "&>>", "&<<", "!>>", "!<<", "&&", "||", ">>", "<<", "&>", "&<", "&~", "!>", "!<", "!~", "!=", "=~", ">=", "<=",
    "{", "}", "(", ")", ",", "=", ">", "<", "~", "|", "+", "-", "*", "/", "%", "^", "!",
];

pub(super) fn lex(text: &str) -> Result<Vec<(Token, usize)>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let fail = |message: String| ParseError::at(text, at, message);
        let (token, len) = if c.is_whitespace() {
            at += c.len_utf8();
            continue;
        } else if c == '"' || c == '`' {
            let (value, len) = string(rest).map_err(|m| fail(m.to_owned()))?;
            (Token::Literal(Literal::Str(value.into())), len)
        } else if c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit())) {
            number(rest).map_err(fail)?
        } else if c == '.' {
            let (name, len) = attribute_name(&rest[1..]).map_err(|m| fail(m.to_owned()))?;
            (Token::Field(Field::Attribute { scope: Scope::None, name, of_parent: false }), len + 1)
        } else if c.is_ascii_alphabetic() || c == '_' {
            word(rest).map_err(fail)?
        } else if let Some(op) = OPERATORS.iter().find(|op| rest.starts_with(**op)) {
            (Token::Op(op), op.len())
        } else {
            return Err(fail(format!("syntax error: unexpected character {c:?}")));
        };
        tokens.push((token, at));
        at += len;
    }
    tokens.push((Token::End, text.len()));
    Ok(tokens)
}

fn scope(word: &str) -> Option<Scope> {
    Some(match word {
        "span" => Scope::Span,
        "resource" => Scope::Resource,
        "event" => Scope::Event,
        "link" => Scope::Link,
        "instrumentation" => Scope::Instrumentation,
        _ => return None,
    })
}

fn word(rest: &str) -> Result<(Token, usize), String> {
    let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let first = &rest[..len];
    let tail = &rest[len..];
    if let Some(inner) = tail.strip_prefix(':') {
        let inner_len = inner.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
        let full = &rest[..len + 1 + inner_len];
        let intrinsic = Intrinsic::parse(full).ok_or_else(|| format!("syntax error: unknown intrinsic `{full}`"))?;
        return Ok((Token::Field(Field::Intrinsic(intrinsic)), full.len()));
    }
    let Some(dotted) = tail.strip_prefix('.') else { return Ok((Token::Word(first.to_owned()), len)) };
    if first == "parent" {
        // `parent.span.a`, `parent.resource.a`, `parent.a`.
        let inner_len = dotted.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(dotted.len());
        let inner = scope(&dotted[..inner_len]).filter(|_| dotted[inner_len..].starts_with('.'));
        let (scope, skip) = match inner {
            Some(scope) => (scope, inner_len + 1),
            None => (Scope::None, 0),
        };
        let (name, name_len) = attribute_name(&dotted[skip..])?;
        return Ok((Token::Field(Field::Attribute { scope, name, of_parent: true }), len + 1 + skip + name_len));
    }
    let Some(scope) = scope(first) else {
        return Err(format!(
            "syntax error: unknown scope `{first}`: use span, resource, event, link, instrumentation or ."
        ));
    };
    let (name, name_len) = attribute_name(dotted)?;
    Ok((Token::Field(Field::Attribute { scope, name, of_parent: false }), len + 1 + name_len))
}

/// A name with quoted parts: `http.url`, `"a b".c`. The length is that in the text.
fn attribute_name(text: &str) -> Result<(String, usize), &'static str> {
    let mut name = String::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        if c == '"' {
            let (part, len) = string(&text[at..])?;
            name.push_str(&part);
            at += len;
        } else if c.is_whitespace() || "{}()=~!<>&|^,`".contains(c) {
            break;
        } else {
            name.push(c);
            at += c.len_utf8();
        }
    }
    if name.is_empty() { Err("syntax error: an attribute needs a name after the dot") } else { Ok((name, at)) }
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | 'µ')).unwrap_or(rest.len());
    let word = &rest[..len];
    let literal = if let Ok(value) = word.parse::<i64>() {
        Literal::Int(value)
    } else if word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E'))
        && let Ok(value) = word.parse::<f64>()
    {
        Literal::Float(value)
    } else {
        let nanos = weir_go::parse_go_duration(word)
            .map_err(|_| format!("syntax error: `{word}` is no number and no duration such as 1.5s"))?;
        Literal::Duration(nanos)
    };
    Ok((Token::Literal(literal), len))
}

/// A string at the start of the text: its value and its length there.
fn string(rest: &str) -> Result<(String, usize), &'static str> {
    const OPEN: &str = "syntax error: literal not terminated";
    if let Some(raw) = rest.strip_prefix('`') {
        let end = raw.find('`').ok_or(OPEN)?;
        return Ok((raw[..end].to_owned(), end + 2));
    }
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, at + 1)),
            '\\' => match chars.next().ok_or(OPEN)?.1 {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                other @ ('"' | '\\' | '\'') => out.push(other),
                // Patterns are often written with one backslash: keep it.
                other => out.extend(['\\', other]),
            },
            c => out.push(c),
        }
    }
    Err(OPEN)
}

/// The text of a literal token back as a shared string.
pub(super) fn as_text(token: &Token) -> Option<Arc<str>> {
    match token {
        Token::Literal(Literal::Str(text)) => Some(text.clone()),
        _ => None,
    }
}
