//! The labels text of a stream: `{app="x", env="prod"}`, equality only.

use weir_model::Labels;
use weir_model::sink::{Refused, RefusedReason};

use crate::cache::LabelCache;

/// The label set of a text, found in the cache when it came before; `service_name` is added.
pub(super) fn parse(text: &str, cache: &LabelCache) -> Result<Labels, Refused> {
    let mut hasher = cache.hasher("loki labels");
    hasher.write(text.as_bytes());
    let key = hasher.finish();
    if let Some(labels) = cache.get(key) {
        return Ok(labels);
    }
    let pairs = pairs(text).map_err(|(at, reason)| {
        let shown: String = text.chars().take(200).collect();
        let column = text[..at].chars().count() + 1;
        invalid(format!("error parsing labels `{shown}`: parse error at line 1, col {column}: {reason}"))
    })?;
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    from_pairs(&pairs, cache).inspect(|labels| cache.put(key, labels))
}

/// Checks names and sizes, and adds `service_name`.
pub(super) fn from_pairs(pairs: &[(&str, &str)], cache: &LabelCache) -> Result<Labels, Refused> {
    if pairs.is_empty() {
        return Err(invalid("error at least one label pair is required per stream".to_owned()));
    }
    if let Some((name, _)) = pairs.iter().find(|(name, _)| !is_name(name)) {
        return Err(invalid(format!("`{name}` is no label name; use letters, digits and `_`")));
    }
    cache.build(pairs).map(super::with_service_name)
}

fn invalid(example: String) -> Refused {
    Refused { reason: RefusedReason::InvalidLabels, example, count: 1 }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

type Fault = (usize, String);

impl Cursor<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }
    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }
    fn eat(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }
    fn expect(&mut self, token: &str) -> Result<(), Fault> {
        if self.eat(token) { Ok(()) } else { Err((self.at, format!("expected `{token}`"))) }
    }
    fn name(&mut self) -> Result<String, Fault> {
        self.skip_space();
        let end = self
            .rest()
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
            .unwrap_or(self.rest().len());
        if end == 0 {
            return Err((self.at, "expected a label name".to_owned()));
        }
        let name = self.rest()[..end].to_owned();
        self.at += end;
        Ok(name)
    }
    fn value(&mut self) -> Result<String, Fault> {
        self.skip_space();
        let start = self.at;
        if self.eat("`") {
            let end = self.rest().find('`').ok_or((start, "the quote is not closed".to_owned()))?;
            let value = self.rest()[..end].to_owned();
            self.at += end + 1;
            return Ok(value);
        }
        if !self.eat("\"") {
            return Err((self.at, "expected a quoted value".to_owned()));
        }
        let (value, used) = unquote(self.rest()).map_err(|reason| (start, reason.to_owned()))?;
        self.at += used;
        Ok(value)
    }
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut cursor = Cursor { text, at: 0 };
    let mut out = Vec::new();
    cursor.expect("{")?;
    while !cursor.eat("}") {
        if !out.is_empty() {
            cursor.expect(",")?;
            if cursor.eat("}") {
                break;
            }
        }
        let name = cursor.name()?;
        cursor.expect("=")?;
        if cursor.rest().starts_with('~') {
            return Err((cursor.at, "a stream's labels are written with `=` only".to_owned()));
        }
        out.push((name, cursor.value()?));
    }
    cursor.skip_space();
    if cursor.rest().is_empty() { Ok(out) } else { Err((cursor.at, "text after `}`".to_owned())) }
}

/// Go's double-quoted text, without the opening quote; answers the bytes used with the closing one.
fn unquote(text: &str) -> Result<(String, usize), &'static str> {
    let mut out: Vec<u8> = Vec::new();
    let mut chars = text.char_indices();
    let mut utf8 = [0; 4];
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((String::from_utf8_lossy(&out).into_owned(), at + 1)),
            '\\' => {
                let (_, escape) = chars.next().ok_or("the quote is not closed")?;
                let (digits, radix) = match escape {
                    'x' => (2, 16),
                    'u' => (4, 16),
                    'U' => (8, 16),
                    '0'..='7' => (2, 8),
                    _ => (0, 0),
                };
                if digits == 0 {
                    out.push(simple_escape(escape).ok_or("unknown escape in the value")?);
                    continue;
                }
                let mut number = if radix == 8 { escape.to_digit(8).unwrap_or(0) } else { 0 };
                for _ in 0..digits {
                    let digit =
                        chars.next().and_then(|(_, c)| c.to_digit(radix)).ok_or("a short escape in the value")?;
                    number = number.checked_mul(radix).ok_or("an escape out of range")? + digit;
                }
                if matches!(escape, 'u' | 'U') {
                    let c = char::from_u32(number).ok_or("an escape out of range")?;
                    out.extend(c.encode_utf8(&mut utf8).bytes());
                } else {
                    out.push(u8::try_from(number).map_err(|_| "an escape out of range")?);
                }
            }
            c => out.extend(c.encode_utf8(&mut utf8).bytes()),
        }
    }
    Err("the quote is not closed")
}

fn simple_escape(c: char) -> Option<u8> {
    Some(match c {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        '\\' => b'\\',
        '"' => b'"',
        '\'' => b'\'',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;
    use proptest::prelude::*;

    fn run(text: &str) -> String {
        match parse(text, &LabelCache::new(Limits::default().stream_labels)) {
            Ok(labels) => labels.to_string(),
            Err(refused) => refused.example,
        }
    }

    #[test]
    fn labels_are_read_and_named() {
        let check = |text: &str, want: &str| assert_eq!(run(text), want, "{text}");
        check(r#"{b="2", a="1"}"#, r#"{a="1", b="2", service_name="unknown_service"}"#);
        check(r#"{app="x",}"#, r#"{app="x", service_name="x"}"#);
        check(r#"{ job = `a\b` }"#, r#"{job="a\\b", service_name="a\\b"}"#);
        check(r#"{a="\"\\\n\u00e4\x41\101", service_name="s"}"#, "{a=\"\\\"\\\\\\näAA\", service_name=\"s\"}");
    }

    #[test]
    fn faults_name_the_column() {
        let check = |text: &str, want: &str| {
            let got = run(text);
            assert!(got.contains(want), "{text}: {got}");
        };
        check("", "col 1: expected `{`");
        check("{}", "at least one label pair");
        check("{a=1}", "col 4: expected a quoted value");
        check("{a=~\"x\"}", "col 4: a stream's labels are written with `=`");
        check("{a=\"x\"", "expected `,`");
        check("{a=\"x", "not closed");
        check("{a=\"x\"} b", "col 9: text after `}`");
        check("{a=\"\\q\"}", "unknown escape");
        check("{1a=\"x\"}", "no label name");
        check(&format!("{{a=\"{}\"}}", "x".repeat(3000)), "the limit is 2048");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,40}", inner in "[a-z=\"\\\\xuU0-9,` {}ä]{0,40}") {
            run(&text);
            run(&format!("{{{inner}"));
        }
    }
}
