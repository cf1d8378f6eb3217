//! Text to tokens. A newline ends a statement where a value, a name or a closing bracket came before it.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

/// Counted from one; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pos {
    pub line: u32,
    pub column: u32,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub pos: Pos,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}: {}", self.pos.line, self.pos.column, self.what)
    }
}

impl Pos {
    pub fn fault<T>(self, what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { pos: self, what: what.into() })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    Name(String),
    Text(String),
    Number(f64),
    Bool(bool),
    Null,
    /// Operators and brackets.
    Sign(&'static str),
    /// A statement ends.
    End,
    Eof,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::Text(_) => f.write_str("a string"),
            Self::Number(number) => write!(f, "`{number}`"),
            Self::Bool(is) => write!(f, "`{is}`"),
            Self::Null => f.write_str("`null`"),
            Self::Sign(sign) => write!(f, "`{sign}`"),
            Self::End => f.write_str("the end of the line"),
            Self::Eof => f.write_str("the end of the file"),
        }
    }
}

/// The longer ones first.
const SIGNS: [&str; 25] = [
    "||", "&&", "==", "!=", "<=", ">=", "=", "<", ">", "!", "+", "-", "*", "/", "%", "^", "{", "}", "(", ")", "[", "]",
    ",", ".", ":",
];

pub fn scan(text: &str) -> Result<Vec<(Token, Pos)>, Fault> {
    let mut scanner =
        Scanner { text, chars: text.char_indices().peekable(), pos: Pos { line: 1, column: 1 }, ends: false };
    if text.starts_with('\u{feff}') {
        scanner.chars.next();
    }
    let mut out = Vec::new();
    loop {
        let (token, pos) = scanner.next()?;
        let is_over = token == Token::Eof;
        out.push((token, pos));
        if is_over {
            return Ok(out);
        }
    }
}

struct Scanner<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    pos: Pos,
    /// Whether a newline here would end a statement.
    ends: bool,
}

impl Scanner<'_> {
    fn bump(&mut self) -> Option<char> {
        let (_, c) = self.chars.next()?;
        if c == '\n' {
            (self.pos.line, self.pos.column) = (self.pos.line + 1, 1);
        } else {
            self.pos.column += 1;
        }
        Some(c)
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn rest(&mut self) -> &str {
        let at = self.chars.peek().map_or(self.text.len(), |(at, _)| *at);
        &self.text[at..]
    }

    fn next(&mut self) -> Result<(Token, Pos), Fault> {
        if let Some(end) = self.skip()? {
            return Ok(end);
        }
        let pos = self.pos;
        let Some(first) = self.peek() else {
            // The last statement needs no newline.
            let token = if std::mem::take(&mut self.ends) { Token::End } else { Token::Eof };
            return Ok((token, pos));
        };
        let token = match first {
            '"' => self.quoted(pos)?,
            '`' => self.raw(pos)?,
            '\'' => return pos.fault("a string stands between double quotes"),
            c if c.is_alphabetic() || c == '_' => self.name(),
            c if c.is_ascii_digit() || c == '.' && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                self.number(pos)?
            }
            _ => self.sign(pos)?,
        };
        self.ends = !matches!(&token, Token::Sign(sign) if !matches!(*sign, "}" | ")" | "]"));
        Ok((token, pos))
    }

    /// Blanks and comments; the end of a statement when it lies among them.
    fn skip(&mut self) -> Result<Option<(Token, Pos)>, Fault> {
        while let Some(c) = self.peek() {
            let pos = self.pos;
            match c {
                '\n' if self.ends => {
                    self.bump();
                    self.ends = false;
                    return Ok(Some((Token::End, pos)));
                }
                ' ' | '\t' | '\r' | '\n' => {
                    self.bump();
                }
                '/' if self.rest().starts_with("//") => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.bump();
                    }
                }
                '/' if self.rest().starts_with("/*") => {
                    self.comment(pos)?;
                    if self.ends && self.pos.line > pos.line {
                        self.ends = false;
                        return Ok(Some((Token::End, pos)));
                    }
                }
                _ => break,
            }
        }
        Ok(None)
    }

    fn comment(&mut self, pos: Pos) -> Result<(), Fault> {
        let Some(len) = self.rest()[2..].find("*/") else {
            return pos.fault("the comment has no end; close it with `*/`");
        };
        let n = self.rest()[..len + 4].chars().count();
        for _ in 0..n {
            self.bump();
        }
        Ok(())
    }

    fn name(&mut self) -> Token {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| c.is_alphanumeric() || *c == '_') {
            name.push(c);
            self.bump();
        }
        match name.as_str() {
            "true" => Token::Bool(true),
            "false" => Token::Bool(false),
            "null" => Token::Null,
            _ => Token::Name(name),
        }
    }

    fn number(&mut self, pos: Pos) -> Result<Token, Fault> {
        let mut text = String::new();
        let mut last = ' ';
        while let Some(c) = self.peek() {
            let is_sign = matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
            if !(c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E') || is_sign) {
                break;
            }
            text.push(c);
            last = c;
            self.bump();
        }
        match text.parse() {
            Ok(number) => Ok(Token::Number(number)),
            Err(_) => pos.fault(format!("`{text}` is no number")),
        }
    }

    fn sign(&mut self, pos: Pos) -> Result<Token, Fault> {
        let rest = self.rest();
        match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            Some(sign) => {
                for _ in sign.chars() {
                    self.bump();
                }
                Ok(Token::Sign(sign))
            }
            None => pos.fault(format!("`{}` means nothing here", rest.chars().next().unwrap_or(' '))),
        }
    }

    fn raw(&mut self, pos: Pos) -> Result<Token, Fault> {
        self.bump();
        let mut out = String::new();
        while let Some(c) = self.bump() {
            match c {
                '`' => return Ok(Token::Text(out)),
                // As Go reads raw strings.
                '\r' => {}
                c => out.push(c),
            }
        }
        pos.fault("the string has no end; close it with a backquote")
    }

    fn quoted(&mut self, pos: Pos) -> Result<Token, Fault> {
        self.bump();
        // Escapes may write bytes one by one.
        let mut out = Vec::new();
        loop {
            let at = self.pos;
            match self.bump() {
                None | Some('\n') => return pos.fault("the string has no end; close it with a double quote"),
                Some('"') => break,
                Some('\\') => self.escape(at, &mut out)?,
                Some(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        match String::from_utf8(out) {
            Ok(text) => Ok(Token::Text(text)),
            Err(_) => pos.fault("the string is no UTF-8"),
        }
    }

    fn escape(&mut self, at: Pos, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Some(c) = self.bump() else { return at.fault("the string ends with a backslash") };
        let plain = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            '"' => b'"',
            'x' => return self.digits(at, 2, 16, 0).map(|n| out.push(n as u8)),
            '0'..='7' => {
                let first = c.to_digit(8).unwrap_or_default();
                let n = self.digits(at, 2, 8, first)?;
                let Ok(byte) = u8::try_from(n) else { return at.fault("an octal escape is at most \\377") };
                out.push(byte);
                return Ok(());
            }
            'u' | 'U' => {
                let n = self.digits(at, if c == 'u' { 4 } else { 8 }, 16, 0)?;
                let Some(c) = char::from_u32(n) else { return at.fault("the escape is no character of Unicode") };
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            other => return at.fault(format!("`\\{other}` is no escape; a backslash is written `\\\\`")),
        };
        out.push(plain);
        Ok(())
    }

    fn digits(&mut self, at: Pos, n: usize, base: u32, first: u32) -> Result<u32, Fault> {
        (0..n).try_fold(first, |sum, _| match self.bump().and_then(|c| c.to_digit(base)) {
            Some(digit) => Ok(sum.wrapping_mul(base).wrapping_add(digit)),
            None => at.fault("the escape has too few digits"),
        })
    }
}
