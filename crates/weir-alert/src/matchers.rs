//! Alertmanager's matcher language: `{severity="page", team=~"a|b"}`.
//!
//! Source: Alertmanager `pkg/labels/parse.go` (classic) and `matcher/parse` (UTF-8).

use weir_model::{MatchOp, Matcher};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad matcher format: {text}: {reason}")]
pub struct MatcherError {
    pub text: String,
    pub reason: String,
}

/// One matcher: `name op value`, the value quoted or not.
pub fn parse_matcher(text: &str) -> Result<Matcher, MatcherError> {
    match &mut parse_matchers(text)?[..] {
        [one] => Ok(one.clone()),
        _ => Err(MatcherError { text: text.to_owned(), reason: "expected one matcher".to_owned() }),
    }
}

/// Matchers with commas between, in braces or not. The empty list is valid. Read in the UTF-8 form; if
/// that fails, or means something else, in the classic form, as upstream does while both are in use.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, MatcherError> {
    let fail = |reason: String| MatcherError { text: text.to_owned(), reason };
    match (utf8(text), classic(text)) {
        (Ok(new), Ok(old)) if new == old => Ok(new),
        (_, Ok(old)) => {
            tracing::debug!(matchers = text, "read in the classic form; quote names and values for the UTF-8 form");
            Ok(old)
        }
        (Ok(new), Err(_)) => Ok(new),
        (Err(_), Err(reason)) => Err(fail(reason)),
    }
}

const OPERATORS: [(&str, MatchOp); 4] =
    [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)];

fn operator(text: &str) -> Result<(MatchOp, &str), String> {
    let found = OPERATORS.iter().find_map(|(sign, op)| Some((*op, text.strip_prefix(sign)?)));
    found.ok_or_else(|| "expected one of =, !=, =~, !~".to_owned())
}

/// What is between the braces, if there are any.
fn inside(text: &str) -> Result<&str, String> {
    let text = text.trim();
    match (text.strip_prefix('{'), text.strip_suffix('}')) {
        (Some(inner), Some(_)) if text.len() > 1 => Ok(inner[..inner.len() - 1].trim()),
        (Some(_), _) => Err("missing closing brace".to_owned()),
        (None, _) => Ok(text),
    }
}

fn utf8(text: &str) -> Result<Vec<Matcher>, String> {
    let mut rest = inside(text)?;
    let mut matchers = Vec::new();
    while !rest.is_empty() {
        let (name, after) = word(rest)?;
        if name.is_empty() {
            return Err("expected a label name".to_owned());
        }
        let (op, after) = operator(after.trim_start())?;
        let (value, after) = word(after.trim_start())?;
        matchers.push(Matcher::new(name, op, value).map_err(|e| e.to_string())?);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => after,
            None => return Err("expected a comma between matchers".to_owned()),
        };
    }
    Ok(matchers)
}

/// A name or value of the UTF-8 form: quoted with Go's escapes, or free of reserved characters.
fn word(text: &str) -> Result<(String, &str), String> {
    if text.starts_with('"') {
        return quoted(text);
    }
    let reserved = |c: char| c.is_whitespace() || "{}!=~,\\\"'`".contains(c);
    let end = text.find(reserved).unwrap_or(text.len());
    if end == 0 && !text.is_empty() && !text.starts_with(['=', '!', '~']) {
        return Err("expected a name or value; quote it".to_owned());
    }
    Ok((text[..end].to_owned(), &text[end..]))
}

fn quoted(text: &str) -> Result<(String, &str), String> {
    let mut out = Vec::new();
    let mut chars = text.char_indices().skip(1);
    let unfinished = || "missing closing quote".to_owned();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let text_out = String::from_utf8(out).map_err(|_| "escapes do not give UTF-8".to_owned())?;
                return Ok((text_out, &text[at + 1..]));
            }
            '\\' => {
                let (_, escape) = chars.next().ok_or_else(unfinished)?;
                let mut number = |n: usize, radix: u32| {
                    let digits: String = chars.by_ref().take(n).map(|(_, c)| c).collect();
                    u32::from_str_radix(&digits, radix).map_err(|_| format!("bad escape \\{escape}{digits}"))
                };
                match escape {
                    'x' => out.push(number(2, 16)? as u8),
                    'u' | 'U' => {
                        let code = number(if escape == 'u' { 4 } else { 8 }, 16)?;
                        let c = char::from_u32(code).ok_or_else(|| format!("bad escape \\{escape}"))?;
                        out.extend(c.encode_utf8(&mut [0; 4]).bytes());
                    }
                    _ => {
                        const PLAIN: [(char, u8); 9] = [
                            ('a', 7),
                            ('b', 8),
                            ('f', 12),
                            ('n', b'\n'),
                            ('r', b'\r'),
                            ('t', b'\t'),
                            ('v', 11),
                            ('\\', b'\\'),
                            ('"', b'"'),
                        ];
                        let found = PLAIN.iter().find(|(name, _)| *name == escape);
                        out.push(found.ok_or_else(|| format!("unknown escape \\{escape}"))?.1);
                    }
                }
            }
            '\n' => return Err("a line break in quotes".to_owned()),
            c => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Err(unfinished())
}

/// The form before UTF-8: narrow names, and values that may hold nearly anything.
fn classic(text: &str) -> Result<Vec<Matcher>, String> {
    let inner = match inside(text) {
        Ok(inner) => inner,
        // An unquoted value may end with a brace.
        Err(e) if text.trim().starts_with('{') => return Err(e),
        Err(_) => text.trim(),
    };
    let (mut parts, mut start, mut in_quotes, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in inner.char_indices() {
        match c {
            '"' if !escaped => in_quotes = !in_quotes,
            ',' if !in_quotes => {
                parts.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&inner[start..]);
    if parts.last().is_some_and(|p| p.trim().is_empty()) {
        parts.pop();
    }
    parts.into_iter().map(classic_one).collect()
}

fn classic_one(text: &str) -> Result<Matcher, String> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(text.len());
    let (name, after) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("expected a label name".to_owned());
    }
    let (op, value) = operator(after.trim_start())?;
    let value = value.trim();
    let (body, quoted) = match value.strip_prefix('"') {
        Some(body) => (body, true),
        None => (value, false),
    };
    let (mut out, mut chars) = (String::new(), body.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(c @ ('"' | '\\')) => out.push(c),
                // In a regular expression `\.` and the like stand for themselves.
                Some(c) => out.extend(['\\', c]),
                None => out.push('\\'),
            },
            '"' if quoted && chars.as_str().is_empty() => {
                return Matcher::new(name, op, out).map_err(|e| e.to_string());
            }
            '"' => return Err("unexpected quote; escape it, or quote the whole value".to_owned()),
            c => out.push(c),
        }
    }
    if quoted {
        return Err("missing closing quote".to_owned());
    }
    Matcher::new(name, op, out).map_err(|e| e.to_string())
}

/// As Alertmanager prints a list: `{a="b",c=~"d"}`.
pub fn show_matchers(matchers: &[Matcher]) -> String {
    let parts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn matchers_read_as_upstream_reads_them() {
        let check = |text: &str, want: &str| {
            let got = parse_matchers(text).map(|m| show_matchers(&m)).unwrap_or_else(|e| e.reason);
            assert_eq!(got, want, "{text}");
        };
        check(r#"severity="page""#, r#"{severity="page"}"#);
        check("severity = page", r#"{severity="page"}"#);
        check(r#"{a="b", c=~"d|e",f!=g , h!~"i",}"#, r#"{a="b",c=~"d|e",f!="g",h!~"i"}"#);
        check("{}", "{}");
        check("a=", r#"{a=""}"#);
        check(r#""my label"="x y""#, r#"{my label="x y"}"#);
        check(r#"a="q\"x\\y""#, r#"{a="q\"x\\y"}"#);
        check("foo=bar baz", r#"{foo="bar baz"}"#);
        // The classic form where the UTF-8 form has none.
        check(r#"a=~"x\.y\d+""#, r#"{a=~"x\\.y\\d+"}"#);
        check("a={b}", r#"{a="{b}"}"#);
        // The UTF-8 form where the classic form has none.
        check(r#""service.name"="\u00e4\x41 \t""#, "{service.name=\"äA \\t\"}");
        check("größe=groß,b=c", r#"{größe="groß",b="c"}"#);
        check("a=b,,c=d", "expected a label name");
        check("a='b'", r#"{a="'b'"}"#);
        check("foo", "expected one of =, !=, =~, !~");
        check("=x", "expected a label name");
        check("{a=b", "missing closing brace");
        check(r#"a="b"#, "missing closing quote");
        check(r#"a="b"c"#, "unexpected quote; escape it, or quote the whole value");
        assert!(parse_matchers("a=~\"(\"").unwrap_err().reason.contains("error parsing regexp"));
        assert!(parse_matcher("a=b,c=d").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[{}a-b=!~,\"\\\\ é]{0,16}") {
            let _ = parse_matchers(&text);
        }
    }
}
