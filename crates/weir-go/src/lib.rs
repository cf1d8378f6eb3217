//! The Go dialects that configuration depends on: RE2 syntax, text/template, durations, numbers.
//!
//! This crate knows no metrics and no alerts, and does no I/O. Nobody else builds a regular
//! expression from user input. Read first: [`template::Templates`], [`regex_anchored`],
//! [`parse_prometheus_duration`].
//!
//! Invariants: no input makes a parser here panic or take unbounded memory; what a pattern, a
//! template or a number means is what Go says it means, held by tables that Go programs wrote
//! (`testdata/gen`).

mod duration;
pub mod humanize;
mod number;
mod regex_syntax;
pub mod template;
pub mod time;

pub use duration::{
    DurationError, format_go_duration, format_prometheus_duration, parse_go_duration, parse_prometheus_duration,
};
pub use number::{format_e, format_f, format_sample, format_significant, format_v};
pub use regex_syntax::{RegexError, regex, regex_anchored};
