//! Text and actions, and the tokens inside an action.

#[derive(Debug, PartialEq, Clone)]
pub(super) enum Token {
    /// Text outside actions, after trimming.
    Text(String),
    Open,
    Close,
    Ident(String),
    /// `.name`
    Field(String),
    /// `$` or `$name`
    Variable(String),
    Dot,
    Int(i64),
    Float(f64),
    Str(String),
    Pipe,
    LeftParen,
    RightParen,
    Declare,
    Assign,
    Comma,
}

#[derive(Debug, Clone)]
pub(super) struct Spanned {
    pub token: Token,
    pub line: usize,
    /// Whether white space stands before it: `(x).y` is a field of x, `(x) .y` two operands.
    pub spaced: bool,
}

pub(super) struct LexError {
    pub line: usize,
    pub reason: String,
}

const TRIM: &[char] = &[' ', '\t', '\r', '\n'];

pub(super) fn lex(text: &str) -> Result<Vec<Spanned>, LexError> {
    let mut lexer = Lexer { rest: text, line: 1, out: Vec::new() };
    let mut trim_left = false;
    loop {
        let (before, action) = match lexer.rest.split_once("{{") {
            Some((before, action)) => (before, Some(action)),
            None => (lexer.rest, None),
        };
        let starts_trimmed = action.is_some_and(|a| a.starts_with('-') && a[1..].starts_with(TRIM));
        let mut shown = if trim_left { before.trim_start_matches(TRIM) } else { before };
        if starts_trimmed {
            shown = shown.trim_end_matches(TRIM);
        }
        if !shown.is_empty() {
            lexer.push(Token::Text(shown.to_owned()), false);
        }
        lexer.line += count_lines(before);
        let Some(action) = action else { return Ok(lexer.out) };
        lexer.rest = if starts_trimmed { &action[1..] } else { action };
        trim_left = lexer.action()?;
    }
}

fn count_lines(text: &str) -> usize {
    text.bytes().filter(|b| *b == b'\n').count()
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
    out: Vec<Spanned>,
}

impl Lexer<'_> {
    fn push(&mut self, token: Token, spaced: bool) {
        self.out.push(Spanned { token, line: self.line, spaced });
    }

    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, LexError> {
        Err(LexError { line: self.line, reason: reason.into() })
    }

    /// After `{{`; gives whether the action ends with a trim marker.
    fn action(&mut self) -> Result<bool, LexError> {
        let comment = self.rest.trim_start_matches(TRIM);
        if let Some(body) = comment.strip_prefix("/*") {
            let Some((comment, after)) = body.split_once("*/") else { return self.fail("unclosed comment") };
            self.line += count_lines(comment);
            let trimmed = after.starts_with(TRIM) && after.trim_start_matches(TRIM).starts_with("-}}");
            let after = if trimmed { &after.trim_start_matches(TRIM)[1..] } else { after };
            let Some(after) = after.strip_prefix("}}") else {
                return self.fail("comment ends before closing delimiter");
            };
            self.rest = after;
            return Ok(trimmed);
        }
        self.push(Token::Open, false);
        loop {
            let skipped = self.rest.len() - self.rest.trim_start_matches(TRIM).len();
            self.line += count_lines(&self.rest[..skipped]);
            self.rest = &self.rest[skipped..];
            let spaced = skipped > 0;
            let trimmed = spaced && self.rest.starts_with("-}}");
            if trimmed || self.rest.starts_with("}}") {
                self.push(Token::Close, spaced);
                self.rest = &self.rest[if trimmed { 3 } else { 2 }..];
                return Ok(trimmed);
            }
            self.token(spaced)?;
        }
    }

    fn token(&mut self, spaced: bool) -> Result<(), LexError> {
        let Some(c) = self.rest.chars().next() else { return self.fail("unclosed action") };
        let second = self.rest[c.len_utf8()..].chars().next();
        let (token, len) = match c {
            '|' => (Token::Pipe, 1),
            '(' => (Token::LeftParen, 1),
            ')' => (Token::RightParen, 1),
            ',' => (Token::Comma, 1),
            ':' if second == Some('=') => (Token::Declare, 2),
            '=' => (Token::Assign, 1),
            '"' => self.quoted('"')?,
            '\'' => self.char_constant()?,
            '`' => match self.rest[1..].find('`') {
                Some(end) => (Token::Str(self.rest[1..=end].replace('\r', "")), end + 2),
                None => return self.fail("unterminated raw quoted string"),
            },
            '$' => {
                let len = 1 + name_len(&self.rest[1..]);
                (Token::Variable(self.rest[..len].to_owned()), len)
            }
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number()?,
            '.' => match name_len(&self.rest[1..]) {
                0 => (Token::Dot, 1),
                len => (Token::Field(self.rest[1..=len].to_owned()), len + 1),
            },
            '0'..='9' => self.number()?,
            '+' | '-' if second.is_some_and(|c| c.is_ascii_digit() || c == '.') => self.number()?,
            c if c.is_alphabetic() || c == '_' => {
                let len = name_len(self.rest);
                (Token::Ident(self.rest[..len].to_owned()), len)
            }
            c => return self.fail(format!("unexpected {c:?} in action")),
        };
        self.push(token, spaced);
        self.line += count_lines(&self.rest[..len]);
        self.rest = &self.rest[len..];
        Ok(())
    }

    fn quoted(&self, quote: char) -> Result<(Token, usize), LexError> {
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '\n' => break,
                c if c == quote => {
                    return match unquote(&self.rest[1..at]) {
                        Some(text) => Ok((Token::Str(text), at + 1)),
                        None => self.fail(format!("invalid syntax in quoted string {}", &self.rest[..=at])),
                    };
                }
                _ => {}
            }
        }
        self.fail("unterminated quoted string")
    }

    fn char_constant(&self) -> Result<(Token, usize), LexError> {
        let (Token::Str(text), len) = self.quoted('\'')? else { return self.fail("malformed character constant") };
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => Ok((Token::Int(i64::from(u32::from(c))), len)),
            _ => self.fail(format!("malformed character constant: {}", &self.rest[..len])),
        }
    }

    fn number(&self) -> Result<(Token, usize), LexError> {
        let bytes = self.rest.as_bytes();
        let mut len = usize::from(matches!(bytes[0], b'+' | b'-'));
        while let Some(b) = bytes.get(len) {
            let after_exponent = matches!(bytes[len - usize::from(len > 0)], b'e' | b'E' | b'p' | b'P');
            let sign = matches!(b, b'+' | b'-') && after_exponent && len > 0;
            if !(b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_') || sign) {
                break;
            }
            len += 1;
        }
        match parse_number(&self.rest[..len]) {
            Some(token) => Ok((token, len)),
            None => self.fail(format!("bad number syntax: {:?}", &self.rest[..len])),
        }
    }
}

fn name_len(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

fn parse_number(text: &str) -> Option<Token> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, body) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'0'..=b'7' | b'_', ..] if !lower.contains(['.', 'e']) => (8, &lower[1..]),
        _ => (10, &*lower),
    };
    let valid_start = body.as_bytes().first().is_some_and(|b| b.is_ascii_hexdigit() || *b == b'.');
    let body = body.replace('_', "");
    if radix == 10 && lower.contains(['.', 'e']) {
        let value: f64 = body.parse().ok().filter(|v: &f64| v.is_finite() && valid_start)?;
        return Some(Token::Float(if negative { -value } else { value }));
    }
    let value = i128::from_str_radix(&body, radix).ok().filter(|_| valid_start)?;
    i64::try_from(if negative { -value } else { value }).ok().map(Token::Int)
}

/// The inside of a Go interpreted string. Escapes that name bytes above 0x7f become Latin-1
/// characters, as text here is UTF-8 throughout.
fn unquote(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let kind = rest[at + 1..].chars().next()?;
        let after = &rest[at + 1 + kind.len_utf8()..];
        let coded = |len: usize, radix: u32, digits: &str| {
            let digits = digits.get(..len)?;
            let valid = digits.bytes().all(|b| b.is_ascii_hexdigit());
            u32::from_str_radix(digits, radix).ok().filter(|_| valid).and_then(char::from_u32)
        };
        let (c, used) = match kind {
            'a' => ('\x07', 0),
            'b' => ('\x08', 0),
            'f' => ('\x0c', 0),
            'n' => ('\n', 0),
            'r' => ('\r', 0),
            't' => ('\t', 0),
            'v' => ('\x0b', 0),
            '\\' | '"' | '\'' => (kind, 0),
            'x' => (coded(2, 16, after)?, 2),
            'u' => (coded(4, 16, after)?, 4),
            'U' => (coded(8, 16, after)?, 8),
            '0'..='7' => (coded(3, 8, &rest[at + 1..])?, 2),
            _ => return None,
        };
        out.push(c);
        rest = after.get(used..)?;
    }
    out.push_str(rest);
    Some(out)
}
