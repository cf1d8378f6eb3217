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

/// Matchers with commas between, in braces or not. The empty list is valid.
pub fn parse_matchers(text: &str) -> Result<Vec<Matcher>, MatcherError> {
    let fail = |reason: &str| MatcherError { text: text.to_owned(), reason: reason.to_owned() };
    let trimmed = text.trim();
    let mut rest = match (trimmed.strip_prefix('{'), trimmed.ends_with('}')) {
        (Some(inner), true) => &inner[..inner.len() - 1],
        (None, false) => trimmed,
        (Some(_), false) => return Err(fail("missing closing brace")),
        // Unquoted values may hold braces in the classic form.
        (None, true) => trimmed,
    }
    .trim();
    let mut matchers = Vec::new();
    while !rest.is_empty() {
        let (name, after) = token(rest, |c| matches!(c, '=' | '!' | '~' | ',') || c.is_whitespace()).map_err(&fail)?;
        let after = after.trim_start();
        let (op, after) =
            [("=~", MatchOp::Regex), ("!~", MatchOp::NotRegex), ("!=", MatchOp::NotEqual), ("=", MatchOp::Equal)]
                .iter()
                .find_map(|(sign, op)| after.strip_prefix(sign).map(|a| (*op, a)))
                .ok_or_else(|| fail("expected one of =, !=, =~, !~"))?;
        if name.is_empty() {
            return Err(fail("expected a label name"));
        }
        let after = after.trim_start();
        let (value, after) = token(after, |c| c == ',').map_err(&fail)?;
        let value = if after.len() < rest.len() && rest.contains('"') { value } else { value.trim_end().to_owned() };
        matchers.push(Matcher::new(name, op, value).map_err(|e| fail(&e.to_string()))?);
        rest = match after.trim_start() {
            "" => "",
            after => after.strip_prefix(',').ok_or_else(|| fail("expected a comma between matchers"))?.trim_start(),
        };
    }
    Ok(matchers)
}

/// A quoted string, or all up to where `ends` says.
fn token(text: &str, ends: impl Fn(char) -> bool) -> Result<(String, &str), &'static str> {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find(ends).unwrap_or(text.len());
        let word = text[..end].trim_end();
        if word.contains('"') {
            return Err("unexpected quote; quote the whole name or value");
        }
        return Ok((word.to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((out, &inner[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, c @ ('"' | '\\'))) => out.push(c),
                // In a regular expression `\.` and the like stand for themselves.
                Some((_, c)) => out.extend(['\\', c]),
                None => break,
            },
            c => out.push(c),
        }
    }
    Err("missing closing quote")
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
        check("foo", "expected one of =, !=, =~, !~");
        check("=x", "expected a label name");
        check("{a=b", "missing closing brace");
        check(r#"a="b"#, "missing closing quote");
        check(r#"a="b"c"#, "expected a comma between matchers");
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
