//! The stages of a pipeline, applied to one entry after another.

pub(crate) mod filter;
pub mod ip;
pub mod json;
pub mod line_pattern;
pub mod logfmt;
pub mod pattern;
pub mod row;
mod run;
pub(crate) mod symbolic;
pub mod template;

pub use row::{Origin, PipelineError, Row, Scratch};
pub(crate) use run::{Needed, apply, apply_unwrap, convert, is_predicate, predicates};
