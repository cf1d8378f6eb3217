//! Text to tokens. Braces and brackets change what a character may mean, as upstream's lexer has it.
//!
//! Wording and positions of errors follow Prometheus `promql/parser/lex.go`.

use super::quote::{go_char, go_string, unquote};
use crate::number::{parse_duration, parse_number};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tok {
    Eof,
    /// Text of the error; the last token.
    Error(String),
    /// An identifier or keyword without a colon, as written.
    Ident,
    /// An identifier with a colon.
    MetricIdent,
    /// The value, without quotes and escapes.
    Str(String),
    Number(f64),
    /// Milliseconds.
    Duration(i64),
    /// An operator or punctuation mark, as written.
    Op(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub tok: Tok,
    pub start: usize,
    pub end: usize,
}

#[derive(Default)]
struct State {
    braces: bool,
    brackets: bool,
    colon: bool,
    parens: usize,
}

/// All tokens of `text`, ending with [`Tok::Eof`] or [`Tok::Error`].
pub(crate) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, pos: 0, state: State::default() };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_space_and_comments();
        let start = lexer.pos;
        let tok = lexer.next().unwrap_or_else(Tok::Error);
        let last = matches!(tok, Tok::Eof | Tok::Error(_));
        tokens.push(Token { tok, start, end: lexer.pos.max(start) });
        if last {
            return tokens;
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    pos: usize,
    state: State,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.text[self.pos..]
    }
    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }
    fn peek_byte(&self, ahead: usize) -> u8 {
        self.text.as_bytes().get(self.pos + ahead).copied().unwrap_or(0)
    }

    fn skip_space_and_comments(&mut self) {
        loop {
            match self.peek_byte(0) {
                b' ' | b'\t' | b'\n' | b'\r' => self.pos += 1,
                b'#' if !self.state.braces => {
                    self.pos += self.rest().find(['\n', '\r']).unwrap_or(self.rest().len());
                }
                _ => return,
            }
        }
    }

    fn next(&mut self) -> Result<Tok, String> {
        let Some(c) = self.peek() else { return self.end() };
        if self.state.braces { self.inside_braces(c) } else { self.statement(c) }
    }

    fn end(&self) -> Result<Tok, String> {
        let State { braces, brackets, parens, .. } = self.state;
        match () {
            () if braces => Err("unexpected end of input inside braces".to_owned()),
            () if parens > 0 => Err("unclosed left parenthesis".to_owned()),
            () if brackets => Err("unclosed left bracket".to_owned()),
            () => Ok(Tok::Eof),
        }
    }

    fn op(&mut self, text: &'static str) -> Result<Tok, String> {
        self.pos += text.len();
        Ok(Tok::Op(text))
    }

    fn statement(&mut self, c: char) -> Result<Tok, String> {
        let second = self.text[self.pos + c.len_utf8()..].chars().next();
        match c {
            ',' => self.op(","),
            '*' => self.op("*"),
            '/' => self.op("/"),
            '%' => self.op("%"),
            '+' => self.op("+"),
            '-' => self.op("-"),
            '^' => self.op("^"),
            '@' => self.op("@"),
            '=' => match second {
                Some('=') => self.op("=="),
                Some('~') => Err("unexpected character after '=': '~'".to_owned()),
                _ => self.op("="),
            },
            '!' => match second {
                Some('=') => self.op("!="),
                other => Err(format!("unexpected character after '!': {}", go_char(other))),
            },
            '<' if second == Some('=') => self.op("<="),
            '<' if second == Some('/') => self.op("</"),
            '<' => self.op("<"),
            '>' if second == Some('=') => self.op(">="),
            '>' if second == Some('/') => self.op(">/"),
            '>' => self.op(">"),
            '0'..='9' => self.number_or_duration(),
            '.' if second.is_some_and(|c| c.is_ascii_digit()) => self.number_or_duration(),
            '"' | '\'' | '`' => self.string(c),
            ':' if self.state.brackets => {
                if self.state.colon {
                    return Err("unexpected colon ':'".to_owned());
                }
                self.state.colon = true;
                self.op(":")
            }
            'a'..='z' | 'A'..='Z' | '_' | ':' => Ok(self.identifier()),
            '(' => {
                self.state.parens += 1;
                self.op("(")
            }
            ')' => match self.state.parens.checked_sub(1) {
                Some(parens) => {
                    self.state.parens = parens;
                    self.op(")")
                }
                None => Err("unexpected right parenthesis ')'".to_owned()),
            },
            '{' => {
                self.state.braces = true;
                self.op("{")
            }
            '[' if self.state.brackets => Err("unexpected left bracket '['".to_owned()),
            '[' => {
                (self.state.brackets, self.state.colon) = (true, false);
                self.op("[")
            }
            ']' if !self.state.brackets => Err("unexpected right bracket ']'".to_owned()),
            ']' => {
                self.state.brackets = false;
                self.op("]")
            }
            c => Err(format!("unexpected character: {}", go_char(Some(c)))),
        }
    }

    fn inside_braces(&mut self, c: char) -> Result<Tok, String> {
        let second = self.text[self.pos + c.len_utf8()..].chars().next();
        match c {
            'a'..='z' | 'A'..='Z' | '_' => {
                self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
                Ok(Tok::Ident)
            }
            ',' => self.op(","),
            '"' | '\'' | '`' => self.string(c),
            '=' if second == Some('~') => self.op("=~"),
            '=' => self.op("="),
            '!' => match second {
                Some('~') => self.op("!~"),
                Some('=') => self.op("!="),
                other => Err(format!("unexpected character after '!' inside braces: {}", go_char(other))),
            },
            '{' => Err("unexpected left brace '{'".to_owned()),
            '}' => {
                self.state.braces = false;
                self.op("}")
            }
            c => Err(format!("unexpected character inside braces: {}", go_char(Some(c)))),
        }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &str {
        let start = self.pos;
        self.pos += self.rest().find(|c| !accept(c)).unwrap_or(self.rest().len());
        &self.text[start..self.pos]
    }

    fn identifier(&mut self) -> Tok {
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
        match word.to_ascii_lowercase().as_str() {
            "inf" => Tok::Number(f64::INFINITY),
            "nan" => Tok::Number(f64::NAN),
            _ if word.contains(':') => Tok::MetricIdent,
            _ => Tok::Ident,
        }
    }

    /// Takes the longest run that could belong to a number or a duration, then asks which it is.
    fn number_or_duration(&mut self) -> Result<Tok, String> {
        let start = self.pos;
        let hex = self.peek_byte(0) == b'0' && matches!(self.peek_byte(1), b'x' | b'X');
        if hex {
            self.pos += 2;
            self.take_while(|c| c.is_ascii_hexdigit() || c == '_');
        } else {
            self.take_while(|c| c.is_ascii_digit() || c == '_');
            if self.peek_byte(0) == b'.' {
                self.pos += 1;
                self.take_while(|c| c.is_ascii_digit() || c == '_');
            }
            let sign = usize::from(matches!(self.peek_byte(1), b'+' | b'-'));
            if matches!(self.peek_byte(0), b'e' | b'E') {
                self.pos += 1 + sign;
                self.take_while(|c| c.is_ascii_digit() || c == '_');
            }
        }
        let ends = |c: u8| !(c.is_ascii_alphanumeric() || c == b'_');
        if ends(self.peek_byte(0))
            && let Some(number) = parse_number(&self.text[start..self.pos])
        {
            return Ok(Tok::Number(number));
        }
        let plain = self.text[start..self.pos].bytes().all(|b| b.is_ascii_digit());
        let bad = |end: usize| Err(format!("bad number or duration syntax: {}", go_string(&self.text[start..end])));
        if !plain || hex {
            return bad((self.pos + self.peek().map_or(0, char::len_utf8)).min(self.text.len()));
        }
        let end = self.pos + self.rest().find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest().len());
        match parse_duration(&self.text[start..end]) {
            Some(ms) => {
                self.pos = end;
                Ok(Tok::Duration(ms))
            }
            None => bad(end),
        }
    }

    fn string(&mut self, quote: char) -> Result<Tok, String> {
        let body = self.pos + 1;
        let mut escaped = false;
        for (idx, c) in self.text[body..].char_indices() {
            if escaped {
                escaped = false;
            } else if c == '\\' && quote != '`' {
                escaped = true;
            } else if c == quote {
                let value = unquote(&self.text[body..body + idx], quote)?;
                self.pos = body + idx + 1;
                return Ok(Tok::Str(value));
            } else if c == '\n' && quote != '`' {
                break;
            }
        }
        Err(if quote == '`' { "unterminated raw string" } else { "unterminated quoted string" }.to_owned())
    }
}
