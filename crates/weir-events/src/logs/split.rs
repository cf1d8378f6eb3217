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
        let text = line.as_bytes();
        self.vars.clear();
        self.is_json = text.first() == Some(&b'{') && Json { text, at: 0, out: self }.line();
        if !self.is_json {
            self.vars.clear();
            self.text(text, 0, text.len());
        }
        self.template.clear();
        let mut at = 0;
        for (from, to) in &self.vars {
            self.template.extend_from_slice(&text[at..*from as usize]);
            self.template.push(VAR);
            at = *to as usize;
        }
        self.template.extend_from_slice(&text[at..]);
    }

    fn var(&mut self, from: usize, to: usize) {
        match self.vars.last_mut() {
            Some(last) if last.1 as usize == from => last.1 = to as u32,
            _ => self.vars.push((from as u32, to as u32)),
        }
    }

    fn text(&mut self, text: &[u8], from: usize, to: usize) {
        let mut at = from;
        let mut value = Unquoted::default();
        while at < to {
            let byte = text[at];
            if is(byte, WORD) {
                at = self.word(text, at, to);
            } else if byte == b'=' && at > from && is(text[at - 1], WORD) {
                at = self.assigned(text, at + 1, to, &mut value);
            } else {
                at += 1;
            }
        }
    }

    /// What follows `key=`, quoted or up to a separator. Of an unquoted value that holds digits nothing is taken:
    /// it is text like any other.
    fn assigned(&mut self, text: &[u8], from: usize, to: usize, value: &mut Unquoted) -> usize {
        if from < to && text[from] == b'"' {
            let Some(end) = closing_quote(text, from + 1, to) else { return from };
            self.value(text, from + 1, end);
            return end + 1;
        }
        if value.end <= from {
            *value = Unquoted::at(text, from, to);
        }
        if from < value.digits_end {
            return from;
        }
        if from < value.end {
            self.var(from, value.end);
        }
        value.end
    }

    /// The inside of a quoted value.
    fn value(&mut self, text: &[u8], from: usize, to: usize) {
        let (mut digits, mut words, mut spaces) = (0, 0, 0);
        for byte in &text[from..to] {
            digits += usize::from(is(*byte, DIGIT));
            words += usize::from(is(*byte, WORD));
            spaces += usize::from(*byte == b' ');
        }
        // Times, addresses, numbers with units and messages are worth taking apart; names are not.
        if digits > 0 && (spaces > 0 || 3 * digits >= words) {
            self.text(text, from, to);
        } else {
            self.var(from, to);
        }
    }

    fn word(&mut self, text: &[u8], from: usize, to: usize) -> usize {
        if is(text[from], DIGIT) {
            return self.number(text, from, to);
        }
        let end = run(text, from, to, WORD);
        let word = &text[from..end];
        let Some(prefix) = word.iter().position(u8::is_ascii_digit) else { return end };
        let is_counter = word[prefix..].iter().all(u8::is_ascii_digit);
        if is_counter && (word.len() < 8 || word[..prefix].iter().any(|b| !b.is_ascii_hexdigit())) {
            self.var(from + prefix, end);
        } else {
            self.var(from, end);
        }
        end
    }

    /// A word that begins with a digit: an integer, a decimal, a number with its unit, or an id.
    fn number(&mut self, text: &[u8], from: usize, to: usize) -> usize {
        let whole = run(text, from, to, DIGIT);
        let dotted = |at: usize| at + 1 < to && text[at] == b'.' && is(text[at + 1], DIGIT);
        let mut end = whole;
        if dotted(whole) {
            end = run(text, whole + 1, to, DIGIT);
        }
        if end > whole && dotted(end) {
            // An address or a version: each number for itself.
            let (mut at, mut group) = (from, whole);
            loop {
                self.var(at, group);
                if !dotted(group) {
                    return group;
                }
                at = group + 1;
                group = run(text, at, to, DIGIT);
            }
        }
        let word_end = run(text, end, to, WORD);
        let suffix = &text[end..word_end];
        let is_unit = !suffix.iter().any(u8::is_ascii_digit) && suffix.iter().any(|b| !b.is_ascii_hexdigit());
        self.var(from, if is_unit { end } else { word_end });
        word_end
    }
}

/// The unquoted value that is being read: where it ends, and where its last digit does. Known once for all the `=`
/// in it, so that a line of them is not read again for each.
#[derive(Default)]
struct Unquoted {
    end: usize,
    digits_end: usize,
}

impl Unquoted {
    fn at(text: &[u8], from: usize, to: usize) -> Self {
        let is_end =
            |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | b',' | b';' | b'&' | b')' | b']' | b'}' | b'"' | b'\'');
        let end = text[from..to].iter().position(is_end).map_or(to, |n| from + n);
        let digits_end = text[from..end].iter().rposition(u8::is_ascii_digit).map_or(0, |n| from + n + 1);
        Self { end, digits_end }
    }
}

const WORD: u8 = 1;
const DIGIT: u8 = 2;

/// What each byte is: of a word, a digit.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    loop {
        let is_digit = byte.is_ascii_digit();
        let is_word = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        classes[byte as usize] = if is_word { WORD } else { 0 } | if is_digit { DIGIT } else { 0 };
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Where the run of bytes of a class ends.
fn run(text: &[u8], from: usize, to: usize, class: u8) -> usize {
    text[from..to].iter().position(|b| !is(*b, class)).map_or(to, |n| from + n)
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
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
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
            if self.string().is_none() || !self.take(b':') || !self.value(depth) {
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
                self.out.value(self.text, from, to);
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
            at += plain_bytes(&self.text[at..]);
            match *self.text.get(at)? {
                b'"' => break,
                b'\\' => match *self.text.get(at + 1)? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                    b'u' if self.text.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                    _ => return None,
                },
                _ => return None,
            }
        }
        self.at = at + 1;
        Some((from, at))
    }

    fn bare(&mut self) -> bool {
        let from = self.at;
        let is_in = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
        let end = from + self.text[from..].iter().take_while(|b| is_in(b)).count();
        let word = &self.text[from..end];
        if !matches!(word, b"true" | b"false" | b"null") && !is_json_number(word) {
            return false;
        }
        self.out.var(from, end);
        self.at = end;
        true
    }
}

/// Bytes before the first quote, backslash or control character.
fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The highest bit of each byte that is zero, and of some behind the first such.
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
    at + text[at..].iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..0x20)).count()
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
        check("a=b=c1=d e=f", "a=b=c<1>=<d> e=<f>");
        check(r#"{"a":"","b":"\"1\u00e4\"","c":"\"x"}"#, r#"{"a":"<>","b":"\"<1>\<u00e4>\"","c":"<\"x>"}"#);
        check("{\"a\":\"x\ty\"}", "{\"a\":\"x\ty\"}");
    }

    /// Neither a stack nor a square of steps for each `=`.
    #[test]
    fn a_line_of_assignments_is_split_in_one_go() {
        let line = format!("x={}1", "a=".repeat(1 << 20));
        assert_eq!(show(&line).len(), line.len() + 2);
    }

    #[test]
    fn plain_bytes_end_where_a_text_may() {
        for n in 0..40 {
            for end in ["", "\"", "\\", "\u{1f}", "\u{0}"] {
                let text = format!("{}{end} \"ü", "é~ !#[]\u{7f}".repeat(8).chars().take(n).collect::<String>());
                let want = text.bytes().position(|b| matches!(b, b'"' | b'\\' | 0..0x20)).unwrap();
                assert_eq!(plain_bytes(text.as_bytes()), want, "{text:?}");
            }
        }
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
