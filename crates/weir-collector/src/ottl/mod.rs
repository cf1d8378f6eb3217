//! The transformation language of the OpenTelemetry Collector, as far as `docs/collector.md` lists it: conditions
//! of `filter` and `tail_sampling`, statements of `transform`.
//!
//! [`Condition::parse`] and [`Statement::parse`] check everything that can be known without data: names of paths,
//! functions, arguments, regular expressions. Evaluation reads and changes OTLP's own messages through [`Scene`].

mod convert;
mod edit;
mod eval;
mod lex;
mod parse;
mod path;
mod value;

pub use eval::{EvalError, PointRef, Scene, Subject};
pub(crate) use eval::{state_value, state_with};
pub use path::Context;
pub use value::Value;

use eval::truth;
use parse::{Expr, Parser};

/// Why a condition or statement is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` at column {column}: {reason}")]
pub struct OttlError {
    pub text: String,
    /// From 1, in characters.
    pub column: usize,
    pub reason: String,
}

impl OttlError {
    fn new(text: &str, at: usize, reason: impl Into<String>) -> Self {
        let column = text.get(..at).map_or(0, |before| before.chars().count()) + 1;
        Self { text: text.to_owned(), column, reason: reason.into() }
    }
}

/// How paths without the name of a context are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paths {
    /// They belong to this one.
    Of(Context),
    /// There are none: every path names its context.
    Prefixed,
}

/// Something that is true or false of an item.
#[derive(Clone, Debug)]
pub struct Condition {
    pub text: String,
    expr: Expr,
    /// What it must be evaluated on.
    pub context: Context,
}

impl Condition {
    pub fn parse(text: &str, paths: Paths) -> Result<Self, OttlError> {
        let mut parser = Parser::new(text, paths)?;
        let expr = parser.condition()?;
        parser.end()?;
        let context = parser.context()?;
        Ok(Self { text: text.to_owned(), expr, context })
    }

    pub fn is_true(&self, scene: &mut Scene<'_>) -> Result<bool, EvalError> {
        truth(&self.expr, scene).map_err(|reason| EvalError { text: self.text.clone(), reason })
    }
}

/// An edit, and when it applies.
#[derive(Clone, Debug)]
pub struct Statement {
    pub text: String,
    edit: edit::Edit,
    condition: Option<Expr>,
    pub context: Context,
}

impl Statement {
    pub fn parse(text: &str, paths: Paths) -> Result<Self, OttlError> {
        let mut parser = Parser::new(text, paths)?;
        let edit = parser.edit()?;
        let condition = parser.has_where().then(|| parser.condition()).transpose()?;
        parser.end()?;
        let context = parser.context()?;
        Ok(Self { text: text.to_owned(), edit, condition, context })
    }

    /// Changes the scene; `false` when the condition does not hold.
    pub fn apply(&self, scene: &mut Scene<'_>) -> Result<bool, EvalError> {
        let fail = |reason| EvalError { text: self.text.clone(), reason };
        if let Some(condition) = &self.condition
            && !truth(condition, scene).map_err(fail)?
        {
            return Ok(false);
        }
        edit::apply(&self.edit, scene).map_err(fail)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
