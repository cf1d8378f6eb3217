//! Processors without a memory of their own, and what all processors are.

mod actions;
mod filter;
mod include;
mod probabilistic;
mod redaction;
mod transform;
pub(crate) mod walk;

pub use actions::AttributesConfig;
pub use filter::FilterConfig;
pub use probabilistic::SamplerConfig;
pub use redaction::RedactionConfig;
pub use transform::TransformConfig;

pub(crate) use filter::conditions;

use weir_model::Nanos;

use crate::config::Field;
use crate::data::Data;
use crate::ottl::{EvalError, OttlError};

/// What becomes of an item on which a condition or statement fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorMode {
    /// The whole batch is refused.
    #[default]
    Propagate,
    /// It is told, and the next one is looked at.
    Ignore,
    /// The next one is looked at.
    Silent,
}

impl ErrorMode {
    pub(crate) fn read(field: Option<Field<'_>>) -> Self {
        let Some(field) = field else { return Self::default() };
        match field.text().as_deref() {
            Some("propagate") => Self::Propagate,
            Some("ignore") => Self::Ignore,
            Some("silent") => Self::Silent,
            Some(other) => {
                field.error(format!("`{other}` is no mode: propagate, ignore, silent"));
                Self::default()
            }
            None => Self::default(),
        }
    }

    /// `Ok` when the error is passed over.
    pub(crate) fn settle(self, error: EvalError) -> Result<(), EvalError> {
        match self {
            Self::Propagate => Err(error),
            Self::Ignore => {
                tracing::debug!(%error, "an expression of the Collector's configuration failed");
                Ok(())
            }
            Self::Silent => Ok(()),
        }
    }
}

/// Says where an expression is wrong.
pub(crate) fn report(field: &Field<'_>, error: &OttlError) {
    field.error(error.to_string());
}

/// A processor that needs nothing but the batch.
pub trait Stateless: Send + Sync {
    /// Changes the batch, which may be empty then. An error refuses all of it.
    fn process(&self, data: &mut Data, now: Nanos) -> Result<(), EvalError>;
}

#[cfg(test)]
mod tests;
