//! Recursive descent over TraceQL's tokens. Each error names line and column.

mod field;
mod lexer;
mod metrics;
mod spanset;

use lexer::Token;

use crate::ast::{Field, Literal, Query};

/// Longest query text that is read (Tempo's own limit).
const QUERY_BYTES_MAX: usize = 128 << 10;
/// Deepest nesting, so that a hostile query cannot exhaust the stack.
const DEPTH_MAX: usize = 100;

/// `line` and `column` count from 1, columns in characters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("parse error at line {line}, col {column}: {message}")]
pub struct ParseError {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

impl ParseError {
    fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = &text[..offset.min(text.len())];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: message.into(),
        }
    }
}

/// Reads a search or a metrics query; the empty text is `{}`.
///
/// ```
/// let error = weir_traceql::parse("{ duration > }").unwrap_err();
/// assert_eq!(error.to_string(), "parse error at line 1, col 14: syntax error: unexpected }");
/// ```
pub fn parse(text: &str) -> Result<Query, ParseError> {
    if text.len() > QUERY_BYTES_MAX {
        let message = format!("query has {} bytes, more than {QUERY_BYTES_MAX}", text.len());
        return Err(ParseError::at(text, 0, message));
    }
    let text = if text.trim().is_empty() { "{}" } else { text };
    let mut parser = Parser { text, tokens: lexer::lex(text)?, at: 0, depth: 0 };
    let mut query = Query { pipeline: parser.pipeline()?, metrics: None, hints: Vec::new() };
    query.metrics = parser.metrics()?;
    if parser.take_word("with") {
        query.hints = parser.hints()?;
    }
    match parser.peek() {
        Token::End => Ok(query),
        _ => Err(parser.unexpected()),
    }
}

/// Reads one attribute or intrinsic, as tag endpoints take it in their path.
pub fn parse_field(text: &str) -> Result<Field, ParseError> {
    let mut parser = Parser { text, tokens: lexer::lex(text)?, at: 0, depth: 0 };
    let field = parser.field()?;
    match parser.peek() {
        Token::End => Ok(field),
        _ => Err(parser.unexpected()),
    }
}

struct Parser<'a> {
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
    fn advance(&mut self) -> Token {
        let token = self.tokens[self.at].0.clone();
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
        token
    }
    fn op(&self) -> Option<&'static str> {
        match self.peek() {
            Token::Op(op) => Some(op),
            _ => None,
        }
    }
    fn take_op(&mut self, op: &str) -> bool {
        let hit = self.op() == Some(op);
        if hit {
            self.advance();
        }
        hit
    }
    fn expect_op(&mut self, op: &str) -> Result<(), ParseError> {
        if self.take_op(op) {
            Ok(())
        } else {
            Err(self.error(format!("{}, expecting {op}", self.unexpected().message)))
        }
    }
    fn take_word(&mut self, word: &str) -> bool {
        let hit = matches!(self.peek(), Token::Word(w) if w == word);
        if hit {
            self.advance();
        }
        hit
    }
    fn unexpected(&self) -> ParseError {
        self.error(format!("syntax error: unexpected {}", self.peek().describe()))
    }
    fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError::at(self.text, self.tokens[self.at].1, message)
    }
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, ParseError>) -> Result<T, ParseError> {
        if self.depth >= DEPTH_MAX {
            return Err(self.error(format!("syntax error: nested deeper than {DEPTH_MAX} levels")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn hints(&mut self) -> Result<Vec<(String, Literal)>, ParseError> {
        let mut hints = Vec::new();
        self.expect_op("(")?;
        while !self.take_op(")") {
            if !hints.is_empty() {
                self.expect_op(",")?;
            }
            let Token::Word(name) = self.advance() else { return Err(self.unexpected()) };
            self.expect_op("=")?;
            hints.push((name, self.literal()?));
        }
        Ok(hints)
    }
}
