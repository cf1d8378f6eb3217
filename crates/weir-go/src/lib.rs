//! The Go dialects that configuration depends on: RE2 syntax, text/template, durations, numbers.

mod regex_syntax;
pub use regex_syntax::{RegexError, regex, regex_anchored};
