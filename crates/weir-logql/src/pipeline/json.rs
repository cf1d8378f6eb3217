//! `| json` and `| unpack`: a scanner over the line that allocates nothing but what it hands out.

use std::borrow::Cow;

/// Deeper nesting is an error, so that a hostile line cannot exhaust the stack.
const DEPTH_MAX: usize = 128;

/// A step of `a.b[0]["x y"]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonStep {
    Key(String),
    Index(usize),
}
pub type JsonPath = Vec<JsonStep>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JsonError {
    NotAnObject,
    Malformed,
    /// The reader has seen enough; never handed out.
    Enough,
}

impl JsonError {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAnObject => "the line is not a JSON object",
            Self::Malformed | Self::Enough => "the line is not valid JSON",
        }
    }
}

/// A value as it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub enum JsonValue<'a> {
    Text(Cow<'a, str>),
    /// A number or boolean, verbatim.
    Bare(&'a str),
    Null,
    /// An object or array, verbatim.
    Nested(&'a str),
}

impl<'a> JsonValue<'a> {
    fn into_text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::Bare(text) | Self::Nested(text) => Some(Cow::Borrowed(text)),
            Self::Null => None,
        }
    }
}

/// `a.b[0]["x y"]` to steps. The error says what is wrong.
pub fn parse_path(text: &str) -> Result<JsonPath, String> {
    let bad = || format!("cannot parse expression [{text}]: write a path such as a.b[0] or a[\"x y\"]");
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            if let Some(quoted) = inner.strip_prefix('"') {
                let end = quoted.find("\"]").ok_or_else(bad)?;
                steps.push(JsonStep::Key(quoted[..end].to_owned()));
                rest = &quoted[end + 2..];
            } else {
                let end = inner.find(']').ok_or_else(bad)?;
                steps.push(JsonStep::Index(inner[..end].parse().map_err(|_| bad())?));
                rest = &inner[end + 1..];
            }
        } else {
            let key = match (rest.strip_prefix('.'), steps.is_empty()) {
                (Some(key), false) => key,
                (None, true) => rest,
                _ => return Err(bad()),
            };
            let end = key.find(['.', '[']).unwrap_or(key.len());
            if end == 0 || key[..end].contains([' ', '"', ']']) {
                return Err(bad());
            }
            steps.push(JsonStep::Key(key[..end].to_owned()));
            rest = &key[end..];
        }
    }
    if steps.is_empty() { Err(bad()) } else { Ok(steps) }
}

/// Calls `found` with every scalar of the object: its flattened, sanitised name and its text.
/// Arrays and nulls are left out. What was found before an error has been handed out.
pub fn flatten(line: &str, mut found: impl FnMut(&str, &str)) -> Result<(), JsonError> {
    flatten_while(line, |one| {
        found(one.name, one.value);
        true
    })
}

/// A scalar of an object, and where it stands.
#[derive(Clone, Copy, Debug)]
pub struct Scalar<'a> {
    /// Flattened and sanitised.
    pub name: &'a str,
    pub value: &'a str,
    /// Keys of the objects around it, and its own.
    pub parents: &'a [String],
    pub key: &'a str,
}

/// As [`flatten`], until `found` says false; what follows is not read, valid or not.
pub fn flatten_while(line: &str, mut found: impl FnMut(Scalar<'_>) -> bool) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(line);
    if scanner.peek() != Some(b'{') {
        return Err(JsonError::NotAnObject);
    }
    let (mut name, mut parents) = (String::new(), Vec::new());
    match scanner.flatten_object(&mut name, &mut parents, &mut found) {
        Err(JsonError::Enough) => Ok(()),
        result => result,
    }
}

/// The strings of the topmost object, names as they stand. Used by `unpack`.
pub fn top_level_strings<'a>(line: &'a str, mut found: impl FnMut(&str, Cow<'a, str>)) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(line);
    if scanner.peek() != Some(b'{') {
        return Err(JsonError::NotAnObject);
    }
    scanner.object(0, |key, value, _| {
        if let JsonValue::Text(text) = value {
            found(key, text);
        }
    })
}

/// The value at a path as text; `None` when absent, null, or behind a fault in the text.
pub fn at_path<'a>(line: &'a str, path: &[JsonStep]) -> Option<Cow<'a, str>> {
    let mut value = JsonValue::Nested(line);
    for step in path {
        let JsonValue::Nested(text) = value else { return None };
        let mut scanner = Scanner::new(text);
        let mut hit = None;
        // What was found before a fault stands.
        let _ = match (step, scanner.peek()?) {
            (JsonStep::Key(wanted), b'{') => scanner.object(0, |key, value, _| {
                if hit.is_none() && key == wanted {
                    hit = Some(value);
                }
            }),
            (JsonStep::Index(wanted), b'[') => scanner.array(0, |idx, value| {
                if idx == *wanted {
                    hit = Some(value);
                }
            }),
            _ => return None,
        };
        value = hit?;
    }
    value.into_text()
}

/// Appends a label name: `[^a-zA-Z0-9_]` becomes `_`, a leading digit gets `_` before it.
pub fn push_sanitised(name: &mut String, key: &str) {
    let key = key.trim();
    if name.is_empty() && key.starts_with(|c: char| c.is_ascii_digit()) {
        name.push('_');
    }
    name.extend(key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }));
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
        bytes.get(self.at).copied()
    }

    fn expect(&mut self, want: u8) -> Result<(), JsonError> {
        if self.peek() == Some(want) {
            self.at += 1;
            Ok(())
        } else {
            Err(JsonError::Malformed)
        }
    }

    /// The raw text between quotes, and whether it holds an escape.
    fn raw_string(&mut self) -> Result<(&'a str, bool), JsonError> {
        self.expect(b'"')?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            let found = memchr::memchr2(b'"', b'\\', &bytes[self.at..]).ok_or(JsonError::Malformed)?;
            self.at += found;
            if bytes[self.at] == b'"' {
                let raw = &self.text[start..self.at];
                self.at += 1;
                return Ok((raw, escaped));
            }
            escaped = true;
            self.at += 2;
            if self.at > bytes.len() {
                return Err(JsonError::Malformed);
            }
        }
    }

    fn string(&mut self) -> Result<Cow<'a, str>, JsonError> {
        let (raw, escaped) = self.raw_string()?;
        if escaped { unescape(raw).map(Cow::Owned) } else { Ok(Cow::Borrowed(raw)) }
    }

    fn bare(&mut self) -> Result<JsonValue<'a>, JsonError> {
        let rest = &self.text[self.at..];
        let len =
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'))).unwrap_or(rest.len());
        let word = &rest[..len];
        self.at += len;
        match word {
            "null" => Ok(JsonValue::Null),
            "true" | "false" => Ok(JsonValue::Bare(word)),
            _ if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') && word.parse::<f64>().is_ok() => {
                Ok(JsonValue::Bare(word))
            }
            _ => Err(JsonError::Malformed),
        }
    }

    fn value(&mut self, depth: usize) -> Result<JsonValue<'a>, JsonError> {
        match self.peek() {
            Some(b'"') => Ok(JsonValue::Text(self.string()?)),
            Some(b'{') => {
                let start = self.at;
                self.object(depth + 1, |_, _, _| {})?;
                Ok(JsonValue::Nested(&self.text[start..self.at]))
            }
            Some(b'[') => {
                let start = self.at;
                self.array(depth + 1, |_, _| {})?;
                Ok(JsonValue::Nested(&self.text[start..self.at]))
            }
            _ => self.bare(),
        }
    }

    fn array(&mut self, depth: usize, mut found: impl FnMut(usize, JsonValue<'a>)) -> Result<(), JsonError> {
        self.members(depth, b'[', b']', |scanner, idx| {
            let value = scanner.value(depth)?;
            found(idx, value);
            Ok(())
        })
    }

    fn object(&mut self, depth: usize, mut found: impl FnMut(&str, JsonValue<'a>, usize)) -> Result<(), JsonError> {
        self.members(depth, b'{', b'}', |scanner, idx| {
            let key = scanner.string()?;
            scanner.expect(b':')?;
            let value = scanner.value(depth)?;
            found(&key, value, idx);
            Ok(())
        })
    }

    fn members(
        &mut self,
        depth: usize,
        open: u8,
        close: u8,
        mut member: impl FnMut(&mut Self, usize) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        if depth > DEPTH_MAX {
            return Err(JsonError::Malformed);
        }
        self.expect(open)?;
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        for idx in 0.. {
            member(self, idx)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b) if b == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(JsonError::Malformed),
            }
        }
        Ok(())
    }

    fn flatten_object(
        &mut self,
        name: &mut String,
        parents: &mut Vec<String>,
        found: &mut dyn FnMut(Scalar<'_>) -> bool,
    ) -> Result<(), JsonError> {
        let depth = parents.len();
        self.members(depth, b'{', b'}', |scanner, _| {
            let key = scanner.string()?;
            scanner.expect(b':')?;
            let parent_len = name.len();
            // A blank key adds nothing to the name.
            let is_blank = key.trim().is_empty();
            if parent_len > 0 && !is_blank {
                name.push('_');
            }
            push_sanitised(name, &key);
            let result = match scanner.peek() {
                Some(b'{') => {
                    parents.push(key.into_owned());
                    let result = scanner.flatten_object(name, parents, found);
                    parents.pop();
                    result
                }
                Some(b'[') => scanner.array(depth + 1, |_, _| {}),
                _ => scanner.value(depth).and_then(|value| match value.into_text() {
                    Some(value) if !found(Scalar { name, value: &value, parents, key: &key }) => Err(JsonError::Enough),
                    _ => Ok(()),
                }),
            };
            name.truncate(parent_len);
            result
        })
    }
}

pub(crate) fn unescape(raw: &str) -> Result<String, JsonError> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next().ok_or(JsonError::Malformed)? {
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'u' => {
                let mut unit = hex4(&mut chars)?;
                if (0xd800..0xdc00).contains(&unit) {
                    let mut ahead = chars.clone();
                    if ahead.next() == Some('\\') && ahead.next() == Some('u') {
                        let low = hex4(&mut ahead)?;
                        if (0xdc00..0xe000).contains(&low) {
                            unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                            chars = ahead;
                        }
                    }
                }
                // A lone surrogate is no character; the replacement character marks the place.
                out.push(char::from_u32(unit).unwrap_or('\u{fffd}'));
            }
            c @ ('"' | '\\' | '/') => out.push(c),
            _ => return Err(JsonError::Malformed),
        }
    }
    Ok(out)
}

fn hex4(chars: &mut std::str::Chars<'_>) -> Result<u32, JsonError> {
    (0..4).try_fold(0, |value, _| {
        let digit = chars.next().and_then(|c| c.to_digit(16)).ok_or(JsonError::Malformed)?;
        Ok(value * 16 + digit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat(line: &str) -> (String, Result<(), JsonError>) {
        let mut out = Vec::new();
        let result = flatten(line, |name, value| out.push(format!("{name}={value}")));
        (out.join(" "), result)
    }

    #[test]
    fn objects_are_flattened() {
        let check = |line: &str, want: &str| assert_eq!(flat(line), (want.to_owned(), Ok(())), "{line}");
        check(r#"{"a":1,"b":{"c":"x","d":{"e":true}},"f":[1,2],"g":null}"#, "a=1 b_c=x b_d_e=true");
        check(r#"{"a-b":"1","0x":"2","a b":3.50}"#, "a_b=1 _0x=2 a_b=3.50");
        check(r#"  {"m":"l\"1\"\n\u00e9\ud83d\ude00"} trailing"#, "m=l\"1\"\né😀");
        check("{}", "");
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert_eq!(flat("plain"), (String::new(), Err(JsonError::NotAnObject)));
        assert_eq!(flat("[1]"), (String::new(), Err(JsonError::NotAnObject)));
        assert_eq!(flat(r#"{"a":1,"b"#), ("a=1".to_owned(), Err(JsonError::Malformed)));
        assert_eq!(flat(r#"{"a":x}"#), (String::new(), Err(JsonError::Malformed)));
        assert_eq!(flat(&"{\"a\":".repeat(100_000)).1, Err(JsonError::Malformed));
        assert_eq!(flat(&format!("{{\"a\":{}", "[".repeat(100_000))).1, Err(JsonError::Malformed));
    }

    #[test]
    fn paths_reach_into_arrays() {
        let line = r#"{"a":{"b":[10,{"x y":"z"}]},"n":null}"#;
        let check = |path: &str, want: Option<&str>| {
            let got = at_path(line, &parse_path(path).unwrap());
            assert_eq!(got.as_deref(), want, "{path}");
        };
        check("a.b[0]", Some("10"));
        check("a.b[1][\"x y\"]", Some("z"));
        check("a.b", Some(r#"[10,{"x y":"z"}]"#));
        check("a.c", None);
        check("n", None);
        check("a.b[9]", None);
        for bad in ["", "a.", ".a", "a[", "a[x]", "a b"] {
            assert!(parse_path(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in "\\PC{0,60}", json in "[{}\\[\\]\":,a1\\\\u ]{0,60}") {
            let _ = flat(&line);
            let _ = flat(&json);
            let _ = at_path(&json, &[JsonStep::Key("a".into()), JsonStep::Index(1)]);
        }

        #[test]
        fn agrees_with_serde_on_strings(text in "\\PC{0,40}") {
            let line = serde_json::json!({"k": text}).to_string();
            let mut got = None;
            flatten(&line, |_, value| got = Some(value.to_owned())).unwrap();
            prop_assert_eq!(got, Some(text));
        }
    }
}
