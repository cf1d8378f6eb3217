//! RE2 syntax on top of the `regex` crate.

#[derive(Debug, Clone, thiserror::Error)]
#[error("error parsing regexp `{pattern}`: {reason}")]
pub struct RegexError {
    pub pattern: String,
    pub reason: String,
}

/// A regular expression in RE2's syntax, not anchored.
pub fn regex(pattern: &str) -> Result<regex::Regex, RegexError> {
    compile(pattern, pattern)
}

/// Anchored at both ends, as Prometheus' and Loki's matchers are; `.` matches a newline there.
pub fn regex_anchored(pattern: &str) -> Result<regex::Regex, RegexError> {
    compile(pattern, &format!("^(?s:{pattern})$"))
}

fn compile(pattern: &str, full: &str) -> Result<regex::Regex, RegexError> {
    regex::RegexBuilder::new(full)
        .size_limit(10 << 20)
        .build()
        .map_err(|e| RegexError { pattern: pattern.to_owned(), reason: e.to_string() })
}
