//! Level and ids inside a line: a JSON object (two levels deep) or logfmt.
//!
//! The reader of JSON builds nothing: it passes over what nobody asked for, eight bytes at a time in texts,
//! and is as strict as a parser, so that it finds in a line what a parser would.

use std::borrow::Cow;

use weir_model::{SpanId, TraceId};

use crate::{ids, level};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub level: Option<&'static str>,
    pub trace_id: Option<TraceId>,
    pub span_id: Option<SpanId>,
}

impl Found {
    /// Takes a field when it is one of the three and the first of its kind.
    fn offer(&mut self, name: &str, value: &str) {
        if self.level.is_none() && level::is_level_key(name) {
            self.level = level::fold(value);
        } else if self.trace_id.is_none() && ids::is_trace_key(name) {
            self.trace_id = ids::trace_id(value);
        } else if self.span_id.is_none() && ids::is_span_key(name) {
            self.span_id = ids::span_id(value);
        }
    }

    fn is_complete(&self) -> bool {
        self.level.is_some() && self.trace_id.is_some() && self.span_id.is_some()
    }
}

fn is_wanted(name: &str) -> bool {
    level::is_level_key(name) || ids::is_trace_key(name) || ids::is_span_key(name)
}

pub(crate) fn fields(line: &str) -> Found {
    let mut found = Found::default();
    if line.trim_start().starts_with('{') {
        // A line cut in the middle still gave what stood before the cut.
        let _ = Json { line, text: line.as_bytes(), at: 0 }.line(&mut found);
    } else if line.contains('=') {
        logfmt(line, &mut found);
    }
    found
}

/// Deeper JSON ends the search, as parsers give up there too.
const DEPTH_MAX: usize = 127;

/// A text inside the line, without its quotes.
#[derive(Clone, Copy)]
struct Text {
    from: usize,
    to: usize,
    has_escape: bool,
}

/// A reader of one JSON object. `None` ends the search: the line is no JSON from there on, or all is found.
struct Json<'a> {
    line: &'a str,
    text: &'a [u8],
    at: usize,
}

impl<'a> Json<'a> {
    fn line(&mut self, found: &mut Found) -> Option<()> {
        self.space();
        self.object(found, 0)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Passes over space and the byte.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    /// An object whose fields are offered, and those of objects in it at `depth` 0.
    fn object(&mut self, found: &mut Found, depth: usize) -> Option<()> {
        self.entries(|json, name| {
            if is_wanted(name) {
                json.offer(name, found, depth)?;
                return (!found.is_complete()).then_some(());
            }
            match json.peek()? {
                b'{' if depth == 0 => json.object(found, 1),
                // Texts on this level are read as texts, those below are only passed over.
                b'[' => json.pass(depth + 1, false),
                _ => json.pass(depth + 1, depth == 0),
            }
        })
    }

    /// Calls `value` at each value of an object, with its name.
    fn entries(&mut self, mut value: impl FnMut(&mut Self, &str) -> Option<()>) -> Option<()> {
        if !self.take(b'{') {
            return None;
        }
        if self.take(b'}') {
            return Some(());
        }
        loop {
            self.space();
            let name = self.text()?;
            let name = self.read(name)?;
            if !self.take(b':') {
                return None;
            }
            self.space();
            value(self, &name)?;
            if self.take(b'}') {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn offer(&mut self, name: &str, found: &mut Found, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => {
                let text = self.text()?;
                found.offer(name, &self.read(text)?);
            }
            b'-' | b'0'..=b'9' => {
                let from = self.at;
                self.number(true)?;
                let number = &self.line[from..self.at];
                // Others are written in other ways than ids are.
                if number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok_and(|n| n != 0) {
                    found.offer(name, number);
                }
            }
            _ => self.pass(depth + 1, true)?,
        }
        Some(())
    }

    /// Passes over a value. `strictly`: with all that makes a text or a number one, not only where it ends.
    fn pass(&mut self, depth: usize, strictly: bool) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        match self.peek()? {
            b'"' => {
                let text = self.text()?;
                if strictly { self.read(text).map(drop) } else { Some(()) }
            }
            b'{' => self.pass_object(depth, strictly),
            b'[' => self.pass_array(depth, strictly),
            b'-' | b'0'..=b'9' => self.number(strictly),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => None,
        }
    }

    fn pass_object(&mut self, depth: usize, strictly: bool) -> Option<()> {
        self.at += 1;
        if self.take(b'}') {
            return Some(());
        }
        loop {
            self.space();
            let name = self.text()?;
            if strictly {
                self.read(name)?;
            }
            if !self.take(b':') {
                return None;
            }
            self.space();
            self.pass(depth + 1, strictly)?;
            if self.take(b'}') {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn pass_array(&mut self, depth: usize, strictly: bool) -> Option<()> {
        self.at += 1;
        if self.take(b']') {
            return Some(());
        }
        loop {
            self.space();
            self.pass(depth + 1, strictly)?;
            if self.take(b']') {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let is_there = self.text[self.at..].starts_with(word);
        self.at += word.len();
        is_there.then_some(())
    }

    /// RFC 8259, section 6. `strictly`: and not beyond what a double can hold.
    fn number(&mut self, strictly: bool) -> Option<()> {
        let from = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let leads_with_zero = self.peek() == Some(b'0');
        let n_whole = self.digits()?;
        if leads_with_zero && n_whole > 1 {
            return None;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let has_exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let may_be_huge = strictly && (has_exponent || n_whole > 300);
        let is_finite = || self.line[from..self.at].parse::<f64>().is_ok_and(f64::is_finite);
        (!may_be_huge || is_finite()).then_some(())
    }

    /// At least one.
    fn digits(&mut self) -> Option<usize> {
        let n = self.text[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += n;
        (n > 0).then_some(n)
    }

    /// Passes over a quoted text.
    fn text(&mut self) -> Option<Text> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let from = self.at + 1;
        let (mut at, mut has_escape) = (from, false);
        loop {
            at += plain_bytes(&self.text[at..]);
            match *self.text.get(at)? {
                b'"' => break,
                b'\\' => {
                    has_escape = true;
                    match *self.text.get(at + 1)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                        b'u' if self.text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                        _ => return None,
                    }
                }
                _ => return None,
            }
        }
        self.at = at + 1;
        Some(Text { from, to: at, has_escape })
    }

    /// What the text says.
    fn read(&self, text: Text) -> Option<Cow<'a, str>> {
        if !text.has_escape {
            return Some(Cow::Borrowed(&self.line[text.from..text.to]));
        }
        serde_json::from_str::<String>(&self.line[text.from - 1..=text.to]).ok().map(Cow::Owned)
    }
}

/// Bytes before the first quote, backslash or control character.
fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The highest bit of each byte that is zero, and of some after the first such.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut at = 0;
    while let Some(word) = text.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes) {
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let special = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\'))) | control;
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let rest = text[at..].iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..0x20)).count();
    at + rest
}

/// `key=value` and `key="quoted value"`; words without `=` are passed over.
fn logfmt(line: &str, found: &mut Found) {
    let mut rest = line;
    while let Some(eq) = rest.find('=') {
        let name = last_word(&rest[..eq]);
        rest = &rest[eq + 1..];
        let value;
        if let Some(quoted) = rest.strip_prefix('"') {
            let end = closing_quote(quoted);
            value = &quoted[..end];
            rest = &quoted[(end + 1).min(quoted.len())..];
        } else {
            let end = first_space(rest);
            value = &rest[..end];
            rest = &rest[end..];
        }
        if is_wanted(name) {
            found.offer(name, value);
            if found.is_complete() {
                return;
            }
        }
    }
}

/// What stands behind the last space or quote.
fn last_word(text: &str) -> &str {
    let is_end = |b: &u8| matches!(b, b' ' | b'\t'..=b'\r' | b'"') || !b.is_ascii();
    match text.as_bytes().iter().rposition(is_end) {
        None => text,
        Some(at) if text.as_bytes()[at].is_ascii() => &text[at + 1..],
        Some(_) => text.rsplit(|c: char| c.is_whitespace() || c == '"').next().unwrap_or(""),
    }
}

fn first_space(text: &str) -> usize {
    let is_end = |b: &u8| matches!(b, b' ' | b'\t'..=b'\r') || !b.is_ascii();
    match text.as_bytes().iter().position(is_end) {
        None => text.len(),
        Some(at) if text.as_bytes()[at].is_ascii() => at,
        Some(_) => text.find(char::is_whitespace).unwrap_or(text.len()),
    }
}

fn closing_quote(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' if !escaped => return at,
            b'\\' if !escaped => escaped = true,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
#[path = "line/parsed.rs"]
mod parsed;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(line: &str, level: &str, trace: &str, span: &str) {
        let got = fields(line);
        let trace_id = got.trace_id.map(|id| id.to_string()).unwrap_or_default();
        let span_id = got.span_id.map(|id| id.to_string()).unwrap_or_default();
        assert_eq!((got.level.unwrap_or(""), &*trace_id, &*span_id), (level, trace, span), "{line}");
        assert_eq!(got, parsed::fields(line), "{line}");
    }

    const T: &str = "5b8efff798038103d269b633813fc60c";
    const S: &str = "eee19b7ec3c1b174";

    #[test]
    fn json_two_levels_deep() {
        check(&format!(r#"{{"level":"WARN","trace_id":"{T}","span_id":"{S}"}}"#), "warn", T, S);
        check(
            &format!(r#"{{"a":[1,{{"level":"error"}}],"ctx":{{"traceId":"{T}","x":{{"spanId":"{S}"}}}}}}"#),
            "",
            T,
            "",
        );
        check(
            r#"{"dd":{"trace_id":15163124803265218060},"level":"info"}"#,
            "info",
            "0000000000000000d26e3dabbf89c60c",
            "",
        );
        check(&format!(r#"{{"trace_id":"{T}", "broken"#), "", T, "");
        check(r#"{"level":{"x":1},"trace_id":null}"#, "", "", "");
        check(&format!(r#" {{"\u006cevel":"w\u0061rn","trace_id":"{T}"}} and more"#), "warn", T, "");
        check("\u{a0}{\"level\":\"warn\"}", "", "", "");
        check(r#"{"x":1e999,"level":"info"}"#, "", "", "");
        check(r#"{"x":[1e999,"\ud800",{"level":"warn"}],"level":"info"}"#, "info", "", "");
        check(r#"{"x":"\ud800","level":"info"}"#, "", "", "");
        check(r#"{"x":01,"level":"info"}"#, "", "", "");
        let number = r#"{"trace_id":-123456789012345678,"span_id":12345678901234567890123}"#;
        check(number, "", "00000000000000123456789012345678", "");
    }

    #[test]
    fn logfmt() {
        check(&format!("ts=1 level=error msg=\"a \\\" level=info\" trace_id={T} span_id=\"{S}\""), "error", T, S);
        check("no fields here", "", "", "");
        check("a= b==c level=", "", "", "");
    }

    proptest! {
        #[test]
        fn arbitrary_lines_never_panic(line in "\\PC{0,80}", tail in "[{\"=\\\\a-z: ]{0,40}") {
            fields(&line);
            fields(&format!("{{{tail}"));
            fields(&tail);
        }
    }

    fn value() -> impl Strategy<Value = String> {
        let text = "[a-z ]{0,12}|info|WARN|\\\\[\"\\\\/bfnrtux]|\\\\u[0-9a-d]{4}|\\PC{0,9}|\u{1}";
        let leaf = prop_oneof![
            text.prop_map(|t| format!("\"{t}\"")),
            "-?[0-9]{1,22}(\\.[0-9]{1,2})?([eE][+-]?[0-9]{1,3})?",
            "[0-9a-f]{16}|[0-9A-F-]{32}".prop_map(|t| format!("\"{t}\"")),
            "true|false|null|nul|x|",
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let name = "level|trace_id|traceId|span_id|dd\\.span_id|severity|[a-z]{1,3}|\\\\u006cevel|a\\\\q";
            let entry = (name, inner.clone(), "[ \t]{0,1}").prop_map(|(n, v, s)| format!("\"{n}\"{s}:{s}{v}{s}"));
            prop_oneof![
                prop::collection::vec(entry, 0..6).prop_map(|e| format!("{{{}}}", e.join(","))),
                prop::collection::vec(inner, 0..4).prop_map(|v| format!("[{}]", v.join(", "))),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// What is found is what a parser finds, whole or cut.
        #[test]
        fn json_is_read_as_a_parser_reads_it(
            entries in prop::collection::vec(("level|trace_id|traceId|span_id|[a-z]{1,3}", value()), 0..6),
            cut in any::<prop::sample::Index>(),
            tail in "[ ,x}]{0,2}",
        ) {
            let entries: Vec<String> = entries.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            let line = format!("{{{}}}{tail}", entries.join(","));
            prop_assert_eq!(fields(&line), parsed::fields(&line), "{}", line);
            let mut at = cut.index(line.len());
            while !line.is_char_boundary(at) {
                at -= 1;
            }
            prop_assert_eq!(fields(&line[..at]), parsed::fields(&line[..at]), "{}", &line[..at]);
        }

        #[test]
        fn logfmt_is_read_as_ever(line in "((level|lvl|trace_id|span_id|x| |\u{a0}|é|\"|\\\\)?=?(\"|info|ERROR|[0-9a-f]{16}|[0-9a-f]{32}|\u{85})?[ \t\u{b}]?){0,8}") {
            prop_assume!(!line.trim_start().starts_with('{'));
            prop_assert_eq!(fields(&line), parsed::fields(&line), "{}", line);
        }
    }
}
