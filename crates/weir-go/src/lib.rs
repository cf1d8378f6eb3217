//! The Go dialects that configuration depends on: RE2 syntax, text/template, durations, numbers.

mod duration;
mod number;
mod regex_syntax;

pub use duration::{
    DurationError, format_go_duration, format_prometheus_duration, parse_go_duration, parse_prometheus_duration,
};
pub use number::{format_e, format_f, format_sample, format_v};
pub use regex_syntax::{RegexError, regex, regex_anchored};
