//! A line into template and variables.
//!
//! The template is the line with each variable replaced by [`VAR`]; putting the variables back gives
//! the line, byte for byte, whatever the rules below call a variable: they decide how well columns
//! compress, never what is stored.
//!
//! In a JSON object every value is a variable. In other text, words that hold a digit are, and so is
//! what follows `=`. A message inside a value that holds digits and spaces is split as text.

/// Stands for a variable; no byte of UTF-8.
pub(crate) const VAR: u8 = 0xff;
/// Deeper JSON is taken for text.
const DEPTH_MAX: usize = 16;

/// Buffers of one split line, used line after line.
#[derive(Default)]
pub(crate) struct Split {
    pub template: Vec<u8>,
    /// Where variables stand in the line. Between two there is at least a byte of template.
    pub vars: Vec<(u32, u32)>,
    /// The line is one JSON object that a parser accepts in full.
    pub is_json: bool,
}

impl Split {
    pub(crate) fn line(&mut self, line: &str) {
        self.reset();
        let text = line.as_bytes();
        if text.first() == Some(&b'{') {
            self.is_json = Json { text, at: 0, out: self }.line();
            if self.is_json {
                return;
            }
            self.reset();
        }
        self.text(text, 0, text.len());
    }

    fn reset(&mut self) {
        self.template.clear();
        self.vars.clear();
        self.is_json = false;
    }

    fn var(&mut self, from: usize, to: usize) {
        match self.vars.last_mut() {
            Some(last) if self.template.last() == Some(&VAR) => last.1 = to as u32,
            _ => {
                self.template.push(VAR);
                self.vars.push((from as u32, to as u32));
            }
        }
    }

    fn text(&mut self, text: &[u8], from: usize, to: usize) {
        let mut at = from;
        while at < to {
            let byte = text[at];
            if is_word(byte) {
                at = self.word(text, at, to);
            } else if byte == b'=' && at > from && is_word(text[at - 1]) {
                self.template.push(byte);
                at = self.assigned(text, at + 1, to);
            } else {
                self.template.push(byte);
                at += 1;
            }
        }
    }

    /// What follows `key=`, quoted or up to a separator.
    fn assigned(&mut self, text: &[u8], from: usize, to: usize) -> usize {
        if text.get(from) == Some(&b'"') && from < to {
            if let Some(end) = closing_quote(text, from + 1, to) {
                self.template.push(b'"');
                self.value(text, from + 1, end);
                self.template.push(b'"');
                return end + 1;
            }
            return from;
        }
        let is_end =
            |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b',' | b';' | b'&' | b')' | b']' | b'}' | b'"' | b'\'');
        let end = text[from..to].iter().position(is_end).map_or(to, |n| from + n);
        if text[from..end].iter().any(u8::is_ascii_digit) {
            self.text(text, from, end);
        } else if from < end {
            self.var(from, end);
        }
        end
    }

    /// The inside of a quoted value.
    fn value(&mut self, text: &[u8], from: usize, to: usize) {
        let inside = &text[from..to];
        let digits = inside.iter().filter(|b| b.is_ascii_digit()).count();
        let letters = inside.iter().filter(|b| is_word(**b)).count() - digits;
        let is_message = digits > 0 && inside.contains(&b' ');
        // Times, addresses and numbers with units are worth taking apart; names are not.
        if is_message || (digits > 0 && 2 * digits >= letters) {
            self.text(text, from, to);
        } else {
            self.var(from, to);
        }
    }

    fn word(&mut self, text: &[u8], from: usize, to: usize) -> usize {
        if text[from].is_ascii_digit() {
            return self.number(text, from, to);
        }
        let end = run(text, from, to, is_word);
        let word = &text[from..end];
        let Some(prefix) = word.iter().position(u8::is_ascii_digit) else {
            self.template.extend_from_slice(word);
            return end;
        };
        let is_counter = word[prefix..].iter().all(u8::is_ascii_digit);
        if is_counter && (word.len() < 8 || word[..prefix].iter().any(|b| !b.is_ascii_hexdigit())) {
            self.template.extend_from_slice(&word[..prefix]);
            self.var(from + prefix, end);
        } else {
            self.var(from, end);
        }
        end
    }

    /// A word that begins with a digit: an integer, a decimal, a number with its unit, or an id.
    fn number(&mut self, text: &[u8], from: usize, to: usize) -> usize {
        let is_digit = |b: u8| b.is_ascii_digit();
        let whole = run(text, from, to, is_digit);
        let dotted = |at: usize| at + 1 < to && text[at] == b'.' && text[at + 1].is_ascii_digit();
        let mut end = whole;
        if dotted(whole) {
            end = run(text, whole + 1, to, is_digit);
        }
        if end > whole && dotted(end) {
            // An address or a version: each number for itself.
            let (mut at, mut group) = (from, whole);
            loop {
                self.var(at, group);
                if !dotted(group) {
                    return group;
                }
                self.template.push(b'.');
                at = group + 1;
                group = run(text, at, to, is_digit);
            }
        }
        let word_end = run(text, end, to, is_word);
        let suffix = &text[end..word_end];
        let is_unit = !suffix.iter().any(u8::is_ascii_digit) && suffix.iter().any(|b| !b.is_ascii_hexdigit());
        if is_unit || suffix.is_empty() {
            self.var(from, end);
            self.template.extend_from_slice(suffix);
        } else {
            self.var(from, word_end);
        }
        word_end
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn run(text: &[u8], from: usize, to: usize, belongs: fn(u8) -> bool) -> usize {
    text[from..to].iter().position(|b| !belongs(*b)).map_or(to, |n| from + n)
}

fn closing_quote(text: &[u8], from: usize, to: usize) -> Option<usize> {
    let mut at = from;
    while at < to {
        match text[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// A strict reader of one JSON object: what it accepts, every JSON parser does.
struct Json<'a, 'b> {
    text: &'a [u8],
    at: usize,
    out: &'b mut Split,
}

impl Json<'_, '_> {
    fn line(&mut self) -> bool {
        self.object(0) && {
            self.space();
            self.at == self.text.len()
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.peek() {
            self.out.template.push(byte);
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is_there = self.peek() == Some(byte);
        if is_there {
            self.out.template.push(byte);
            self.at += 1;
        }
        is_there
    }

    fn object(&mut self, depth: usize) -> bool {
        if depth > DEPTH_MAX || !self.take(b'{') {
            return false;
        }
        if self.take(b'}') {
            return true;
        }
        loop {
            self.space();
            let Some((from, to)) = self.string() else { return false };
            self.out.template.extend_from_slice(&self.text[from - 1..=to]);
            if !self.take(b':') || !self.value(depth) {
                return false;
            }
            if self.take(b'}') {
                return true;
            }
            if !self.take(b',') {
                return false;
            }
        }
    }

    fn array(&mut self, depth: usize) -> bool {
        if depth > DEPTH_MAX || !self.take(b'[') {
            return false;
        }
        if self.take(b']') {
            return true;
        }
        loop {
            if !self.value(depth) {
                return false;
            }
            if self.take(b']') {
                return true;
            }
            if !self.take(b',') {
                return false;
            }
        }
    }

    fn value(&mut self, depth: usize) -> bool {
        self.space();
        match self.peek() {
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => {
                let Some((from, to)) = self.string() else { return false };
                self.out.template.push(b'"');
                self.out.value(self.text, from, to);
                self.out.template.push(b'"');
                true
            }
            _ => self.bare(),
        }
    }

    /// The inside of a string, as positions; moves behind it.
    fn string(&mut self) -> Option<(usize, usize)> {
        if self.peek() != Some(b'"') {
            return None;
        }
        let from = self.at + 1;
        let mut at = from;
        loop {
            match *self.text.get(at)? {
                b'"' => break,
                b'\\' => match *self.text.get(at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                    b'u' if self.text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                    _ => return None,
                },
                0..0x20 => return None,
                _ => at += 1,
            }
        }
        self.at = at + 1;
        Some((from, at))
    }

    fn bare(&mut self) -> bool {
        let from = self.at;
        let end =
            run(self.text, from, self.text.len(), |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.'));
        let word = &self.text[from..end];
        if !matches!(word, b"true" | b"false" | b"null") && !is_json_number(word) {
            return false;
        }
        self.out.var(from, end);
        self.at = end;
        true
    }
}

/// RFC 8259, section 6.
fn is_json_number(word: &[u8]) -> bool {
    let digits = |at: usize| word[at..].iter().take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(word.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || (whole > 1 && word[at] == b'0') {
        return false;
    }
    at += whole;
    if word.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    if let Some(b'e' | b'E') = word.get(at) {
        at += 1 + usize::from(matches!(word.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        if exponent == 0 {
            return false;
        }
        at += exponent;
    }
    at == word.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn show(line: &str) -> String {
        let mut split = Split::default();
        split.line(line);
        let mut vars = split.vars.iter();
        let mut out = Vec::new();
        for byte in &split.template {
            match *byte {
                VAR => {
                    let (from, to) = *vars.next().unwrap();
                    out.push(b'<');
                    out.extend_from_slice(&line.as_bytes()[from as usize..to as usize]);
                    out.push(b'>');
                }
                byte => out.push(byte),
            }
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_split() {
        let check = |line: &str, want: &str| assert_eq!(show(line), want, "{line}");
        check("connected to 10.0.3.17:9092 in 12.5ms", "connected to <10>.<0>.<3>.<17>:<9092> in <12.5>ms");
        check("GET /v1/odds/123 HTTP/1.1", "GET /v<1>/odds/<123> HTTP/<1.1>");
        check("id 4bf92f3577b34da6a3ce929d0e0e4736 done", "id <4bf92f3577b34da6a3ce929d0e0e4736> done");
        check("level=info msg=\"all done\" n=3 x=", "level=<info> msg=\"<all done>\" n=<3> x=");
        check("msg=\"took 5s for order-12\"", "msg=\"took <5>s for order-<12>\"");
        check(
            r#"{"a":1.5,"b":{"c":"x y","d":[true,null]},"e":"n 1"}"#,
            r#"{"a":<1.5>,"b":{"c":"<x y>","d":[<true>,<null>]},"e":"n <1>"}"#,
        );
        check(r#"{"a":01}"#, r#"{"a":<01>}"#);
        check("", "");
        check("ünï 5", "ünï <5>");
    }

    proptest! {
        #[test]
        fn putting_back_gives_the_line(line in "(\\PC|[\\n{}\":,=0-9a-f. ]){0,60}") {
            let mut split = Split::default();
            split.line(&line);
            let mut out = Vec::new();
            let mut vars = split.vars.iter();
            for byte in &split.template {
                match *byte {
                    VAR => {
                        let (from, to) = *vars.next().unwrap();
                        out.extend_from_slice(&line.as_bytes()[from as usize..to as usize]);
                    }
                    byte => out.push(byte),
                }
            }
            prop_assert!(vars.next().is_none());
            prop_assert_eq!(out, line.as_bytes());
            prop_assert!(!split.template.windows(2).any(|w| w == [VAR, VAR]));
            let literals: Vec<u8> = split.template.iter().copied().filter(|b| *b != VAR).collect();
            prop_assert!(std::str::from_utf8(&literals).is_ok());
        }
    }
}
