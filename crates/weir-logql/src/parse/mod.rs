//! Recursive descent over LogQL's tokens. Each error names line and column, as Loki's do.

mod labels;
mod lexer;
mod log;
mod metric;

use lexer::Token;

use crate::ast::{Expr, LogExpr};

/// Longest query text that is read.
const QUERY_BYTES_MAX: usize = 128 << 10;
/// Deepest nesting of parentheses and functions, so that a hostile query cannot exhaust the stack.
const DEPTH_MAX: usize = 100;

/// `line` and `column` count from 1; both are 0 for an error about the query as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    pub line: usize,
    /// In characters.
    pub column: usize,
    pub message: String,
}

impl std::error::Error for ParseError {}

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            write!(f, "parse error : {}", self.message)
        } else {
            write!(f, "parse error at line {}, col {}: {}", self.line, self.column, self.message)
        }
    }
}

impl ParseError {
    pub(crate) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text[..offset.min(text.len())];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self { line: 0, column: 0, message: message.into() }
    }
}

/// Reads a log or a metric query.
///
/// ```
/// let error = weir_logql::parse("{app=\"x\"} |= 5").unwrap_err();
/// assert!(error.to_string().starts_with("parse error at line 1, col 14: syntax error: unexpected NUMBER"));
/// ```
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        return Err(ParseError::whole(format!("query has {} bytes, more than {QUERY_BYTES_MAX}", text.len())));
    }
    if text.trim().is_empty() {
        return Err(ParseError::whole("syntax error: unexpected $end"));
    }
    let mut parser = Parser { text, tokens: lexer::lex(text)?, at: 0, depth: 0 };
    let expr = parser.expr()?;
    parser.end()?;
    Ok(expr)
}

/// Reads a selector with an optional pipeline, and refuses a metric query.
pub fn parse_log(text: &str) -> Result<LogExpr, ParseError> {
    match parse(text)? {
        Expr::Log(log) => Ok(log),
        Expr::Metric(_) => Err(ParseError::at(text, 0, "syntax error: expected a log query, found a metric query")),
    }
}

/// Reads a selector alone, as the metadata endpoints take it; `{}` selects everything here.
pub fn parse_selector(text: &str) -> Result<Vec<weir_model::Matcher>, ParseError> {
    let mut parser = Parser { text, tokens: lexer::lex(text)?, at: 0, depth: 0 };
    let matchers = parser.selector()?;
    parser.end()?;
    Ok(matchers)
}

pub(crate) struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(Token, usize)>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }
    fn peek_at(&self, ahead: usize) -> &Token {
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)].0
    }
    fn offset(&self) -> usize {
        self.tokens[self.at].1
    }
    fn advance(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }
    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(o) if *o == op)
    }
    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Ident(w) if w == word)
    }
    fn take_op(&mut self, op: &str) -> bool {
        let hit = self.is_op(op);
        if hit {
            self.advance();
        }
        hit
    }
    fn take_word(&mut self, word: &str) -> bool {
        let hit = self.is_word(word);
        if hit {
            self.advance();
        }
        hit
    }
    fn expect_op(&mut self, op: &str) -> Result<(), ParseError> {
        if self.take_op(op) { Ok(()) } else { Err(self.unexpected(op)) }
    }
    fn string(&mut self) -> Result<String, ParseError> {
        match self.peek() {
            Token::Str(_) => {
                let Token::Str(value) = self.advance() else { unreachable!("peeked") };
                Ok(value)
            }
            _ => Err(self.unexpected("STRING")),
        }
    }
    fn ident(&mut self) -> Result<String, ParseError> {
        match self.peek() {
            Token::Ident(_) => {
                let Token::Ident(value) = self.advance() else { unreachable!("peeked") };
                Ok(value)
            }
            _ => Err(self.unexpected("IDENTIFIER")),
        }
    }
    fn number(&mut self) -> Result<f64, ParseError> {
        let negative = self.take_op("-");
        if !negative {
            self.take_op("+");
        }
        match self.peek() {
            Token::Number(value) => {
                let value = if negative { -value } else { *value };
                self.advance();
                Ok(value)
            }
            _ => Err(self.unexpected("NUMBER")),
        }
    }
    fn end(&self) -> Result<(), ParseError> {
        if *self.peek() == Token::End { Ok(()) } else { Err(self.unexpected("")) }
    }
    fn unexpected(&self, expected: &str) -> ParseError {
        let mut message = format!("syntax error: unexpected {}", self.peek().describe());
        if !expected.is_empty() {
            message = format!("{message}, expecting {expected}");
        }
        self.error(message)
    }
    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::at(self.text, self.offset(), message)
    }
    fn error_at(&self, offset: usize, message: impl Into<String>) -> ParseError {
        ParseError::at(self.text, offset, message)
    }
    /// Runs `inner` one level deeper.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth >= DEPTH_MAX {
            return Err(self.error(format!("syntax error: nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }
    /// `a, b, c` in parentheses; may be empty.
    fn name_list(&mut self) -> Result<Vec<String>, ParseError> {
        self.expect_op("(")?;
        let mut names = Vec::new();
        while !self.take_op(")") {
            if !names.is_empty() {
                self.expect_op(",")?;
            }
            names.push(self.ident()?);
        }
        Ok(names)
    }
}
