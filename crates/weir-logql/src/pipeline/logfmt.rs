//! `| logfmt`: `key=value` pairs, values bare or quoted.

use std::borrow::Cow;

/// Where and why a strict reading stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("logfmt syntax error at pos {} : {reason}", .at + 1)]
pub struct LogfmtError {
    /// In bytes from 0.
    pub at: usize,
    pub reason: String,
}

impl LogfmtError {
    fn new(at: usize, reason: impl Into<String>) -> Self {
        Self { at, reason: reason.into() }
    }
}

/// Calls `found` with each key and its value (empty for a lone key). A lenient reading skips what
/// is no pair; a strict one stops there.
pub fn pairs<'a>(line: &'a str, strict: bool, mut found: impl FnMut(&'a str, Cow<'a, str>)) -> Result<(), LogfmtError> {
    pairs_while(line, strict, |key, value| {
        found(key, value);
        true
    })
}

/// As [`pairs`], until `found` says false; what follows is not read.
pub fn pairs_while<'a>(
    line: &'a str,
    strict: bool,
    mut found: impl FnMut(&'a str, Cow<'a, str>) -> bool,
) -> Result<(), LogfmtError> {
    let bytes = line.as_bytes();
    let mut at = 0;
    loop {
        at += bytes[at..].iter().take_while(|b| **b <= b' ').count();
        if at >= bytes.len() {
            return Ok(());
        }
        let start = at;
        at += bytes[at..].iter().take_while(|b| **b > b' ' && **b != b'=' && **b != b'"').count();
        let key = &line[start..at];
        let pair = match bytes.get(at) {
            Some(b'=') if !key.is_empty() => value(line, at + 1),
            Some(b @ (b'=' | b'"')) => Err((LogfmtError::new(at, unexpected(*b)), skip_word(bytes, at))),
            _ => Ok((Cow::Borrowed(""), at)),
        };
        match pair {
            Ok((text, end)) => {
                at = end;
                if !found(key, text) {
                    return Ok(());
                }
            }
            Err((error, _)) if strict => return Err(error),
            Err((_, end)) => at = end,
        }
    }
}

fn unexpected(b: u8) -> String {
    format!("unexpected '{}'", char::from(b))
}

fn skip_word(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b <= b' ').map_or(bytes.len(), |n| at + n)
}

/// A value and where it ends; after a fault, where reading goes on.
fn value(line: &str, start: usize) -> Result<(Cow<'_, str>, usize), (LogfmtError, usize)> {
    let bytes = line.as_bytes();
    if bytes.get(start) != Some(&b'"') {
        let end = skip_word(bytes, start);
        return match bytes[start..end].iter().position(|b| matches!(b, b'"' | b'=')) {
            Some(n) => Err((LogfmtError::new(start + n, unexpected(bytes[start + n])), end)),
            None => Ok((line[start..end].into(), end)),
        };
    }
    let mut at = start + 1;
    let mut escaped = false;
    loop {
        match bytes.get(at) {
            None => return Err((LogfmtError::new(bytes.len(), "unterminated quoted value"), bytes.len())),
            Some(b'"') => break,
            Some(b'\\') => {
                escaped = true;
                at += 2;
            }
            Some(_) => at += 1,
        }
    }
    let raw = &line[start + 1..at];
    if !escaped {
        return Ok((raw.into(), at + 1));
    }
    match super::json::unescape(&raw.replace("\\'", "'")) {
        Ok(text) => Ok((text.into(), at + 1)),
        Err(_) => Err((LogfmtError::new(at + 1, "invalid quoted value"), at + 1)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str, strict: bool) -> (String, bool) {
        let mut out = Vec::new();
        let result = pairs(line, strict, |key, value| out.push(format!("{key}={value}")));
        (out.join("|"), result.is_ok())
    }

    #[test]
    fn pairs_are_read() {
        let check = |line: &str, want: &str| assert_eq!(read(line, false), (want.to_owned(), true), "{line}");
        check(r#"level=info msg="hello \"you\"" dur=1.5ms"#, r#"level=info|msg=hello "you"|dur=1.5ms"#);
        check("flag other=", "flag=|other=");
        check(r#"a=1 ="x" b=2"#, "a=1|b=2");
        check(r#"a=1 b="open"#, "a=1");
        check("", "");
    }

    #[test]
    fn a_strict_reading_stops_at_a_fault() {
        assert_eq!(read("a=1 =x b=2", true), ("a=1".to_owned(), false));
        assert_eq!(read("a=1 b=x\"y c=3", true), ("a=1".to_owned(), false));
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in "\\PC{0,60}", tricky in "[a=\" \\\\é]{0,40}") {
            let _ = (read(&line, true), read(&tricky, false), read(&tricky, true));
        }
    }
}
