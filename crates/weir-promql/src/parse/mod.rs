//! PromQL text to a checked [`Expr`].
//!
//! Grammar, wording and positions follow Prometheus `promql/parser`. The first error ends parsing.

mod check;
mod lexer;
mod parser;
pub(crate) mod quote;

#[cfg(test)]
mod tests;

use crate::ast::{Expr, Span};

/// Prints as `1:18: parse error: unexpected …`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: parse error: {message}", .span.map_or("unknown position".to_owned(), |s| format!("{}:{}", s.line, s.column)))]
pub struct ParseError {
    /// Where in the query; `None` when the query is empty.
    pub span: Option<Span>,
    pub message: String,
}

/// Parses and type-checks an expression.
pub fn parse(text: &str) -> Result<Expr, ParseError> {
    let mut expr = parser::Parser::new(text).parse()?;
    check::check(&mut expr)?;
    Ok(expr)
}

/// Parses one series selector, as the `match[]` parameters hold it. It may accept every series: the
/// caller decides whether that is too many.
pub fn parse_selector(text: &str) -> Result<Vec<weir_model::Matcher>, ParseError> {
    let expr = parser::Parser::new(text).parse()?;
    match expr.kind {
        crate::ast::ExprKind::Vector(selector) if selector.offset_ms == 0 && selector.at.is_none() => {
            Ok(selector.matchers)
        }
        _ => Err(ParseError {
            span: Some(expr.span),
            message: "expected a series selector such as up{job=\"x\"}".to_owned(),
        }),
    }
}
