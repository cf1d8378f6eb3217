//! `| logfmt`: `key=value` pairs, values bare or quoted.

use std::borrow::Cow;

/// Where a strict reading stopped, in bytes from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogfmtError {
    pub at: usize,
    pub reason: &'static str,
}

/// Calls `found` with each key and its value (empty for a lone key). A lenient reading skips what
/// is no pair; a strict one stops there.
pub fn pairs<'a>(line: &'a str, strict: bool, mut found: impl FnMut(&'a str, Cow<'a, str>)) -> Result<(), LogfmtError> {
    let bytes = line.as_bytes();
    let mut at = 0;
    loop {
        while at < bytes.len() && bytes[at] <= b' ' {
            at += 1;
        }
        if at >= bytes.len() {
            return Ok(());
        }
        let start = at;
        while at < bytes.len() && bytes[at] > b' ' && bytes[at] != b'=' && bytes[at] != b'"' {
            at += 1;
        }
        let key = &line[start..at];
        let fault = |at, reason| if strict { Err(LogfmtError { at, reason }) } else { Ok(()) };
        match bytes.get(at) {
            Some(b'=') if key.is_empty() => {
                fault(at, "unexpected '='")?;
                at = skip_word(bytes, at);
            }
            Some(b'"') => {
                fault(at, "unexpected '\"'")?;
                at = skip_word(bytes, at);
            }
            Some(b'=') => {
                at += 1;
                match value(line, at) {
                    Ok((text, end)) => {
                        found(key, text);
                        at = end;
                    }
                    Err(reason) => {
                        fault(at, reason)?;
                        at = skip_word(bytes, at);
                    }
                }
            }
            _ => found(key, Cow::Borrowed("")),
        }
    }
}

fn skip_word(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| *b <= b' ').map_or(bytes.len(), |n| at + n)
}

fn value(line: &str, start: usize) -> Result<(Cow<'_, str>, usize), &'static str> {
    let bytes = line.as_bytes();
    if bytes.get(start) != Some(&b'"') {
        let end = skip_word(bytes, start);
        let text = &line[start..end];
        return if text.contains(['"', '=']) { Err("unexpected character in a value") } else { Ok((text.into(), end)) };
    }
    let mut at = start + 1;
    let mut escaped = false;
    loop {
        match bytes.get(at) {
            None => return Err("unterminated quoted value"),
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
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some('r') => out.push('\r'),
                Some(other) => out.push(other),
                None => {}
            },
            (c, false) => out.push(c),
        }
    }
    Ok((out.into(), at + 1))
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
