//! RE2 syntax, as Go's `regexp` reads it, on top of the `regex` crate.
//!
//! The crate descends from RE2 but differs at the edges: its classes are Unicode, a lone brace is an
//! error, `\Q…\E` is unknown, classes have set operators. A pattern is rewritten once, before it is
//! compiled. Source: Go `regexp/syntax` documentation.

/// Largest count in `x{n,m}`, as in RE2.
const REPEAT_MAX: u32 = 1000;
/// Bounds compiled size, so that a pattern of a few bytes cannot take the machine's memory.
const SIZE_LIMIT_BYTES: usize = 10 << 20;

#[derive(Debug, Clone, thiserror::Error)]
#[error("error parsing regexp `{pattern}`: {reason}")]
pub struct RegexError {
    pub pattern: String,
    pub reason: String,
}

/// A regular expression in RE2's syntax, not anchored.
pub fn regex(pattern: &str) -> Result<regex::Regex, RegexError> {
    compile(pattern, "", "")
}

/// Anchored at both ends, as Prometheus' and Loki's matchers are; `.` matches a newline there.
pub fn regex_anchored(pattern: &str) -> Result<regex::Regex, RegexError> {
    compile(pattern, "^(?s:", ")$")
}

fn compile(pattern: &str, before: &str, after: &str) -> Result<regex::Regex, RegexError> {
    let fail = |reason: String| RegexError { pattern: pattern.to_owned(), reason };
    let translated = translate(pattern).map_err(fail)?;
    regex::RegexBuilder::new(&format!("{before}{translated}{after}"))
        .size_limit(SIZE_LIMIT_BYTES)
        .build()
        .map_err(|e| fail(first_line_of_cause(&e.to_string())))
}

/// The crate draws a multi-line picture; one line is enough beside the pattern itself.
fn first_line_of_cause(text: &str) -> String {
    text.lines().rev().find_map(|l| l.strip_prefix("error: ")).unwrap_or(text).to_owned()
}

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str = r"\t\n\f\r ";

/// `pattern` in the crate's syntax with the meaning it has in RE2.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        if let Some(operators) = nested_repetition(rest) {
            return Err(format!("invalid nested repetition operator: `{operators}`"));
        }
        rest = match c {
            '\\' => escape(rest, &mut out)?,
            '[' => class(rest, &mut out)?,
            '{' => brace(rest, &mut out)?,
            // The crate takes `}` as a literal too, but only outside a repetition: say so plainly.
            '}' => {
                out.push_str(r"\}");
                &rest[1..]
            }
            '(' => group_start(rest, &mut out)?,
            c => {
                out.push(c);
                &rest[c.len_utf8()..]
            }
        };
    }
    Ok(out)
}

/// `**`, `+*` and the like, which the crate would take; a `?` after an operator makes it lazy.
fn nested_repetition(rest: &str) -> Option<&str> {
    let is_operator = |b: Option<&u8>| matches!(b, Some(b'*' | b'+' | b'?'));
    let bytes = rest.as_bytes();
    let len = if bytes.get(1) == Some(&b'?') { 2 } else { 1 };
    (is_operator(bytes.first()) && is_operator(bytes.get(len))).then(|| &rest[..=len])
}

/// At a backslash outside a class; gives what follows it.
fn escape<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let Some(c) = rest[1..].chars().next() else {
        return Err("trailing backslash at end of expression".to_owned());
    };
    let after = &rest[1 + c.len_utf8()..];
    match c {
        'Q' => {
            let (literal, after) = after.split_once(r"\E").unwrap_or((after, ""));
            // A group, so that a following `*` repeats the last character alone as RE2 has it.
            for c in literal.chars() {
                push_literal(c, out);
            }
            return Ok(after);
        }
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str(r"[\t\n\f\r ]"),
        'S' => out.push_str(r"[^\t\n\f\r ]"),
        'b' => out.push_str(r"(?-u:\b)"),
        // `(?-u:\B)` may match inside a character, which the crate refuses for text; Unicode's differs
        // from RE2's only beside non-ASCII letters.
        'B' => out.push_str(r"\B"),
        'A' | 'z' => {
            out.push('\\');
            out.push(c);
        }
        'C' => return Err(r"invalid escape sequence: `\C` (a single byte) is not supported".to_owned()),
        'p' | 'P' => return unicode_class(rest, out),
        _ => return char_escape(rest, out),
    }
    Ok(after)
}

/// `\pN`, `\p{Greek}`, `\P{^Greek}`.
fn unicode_class<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let negated_outside = rest[1..].starts_with('P');
    let body = &rest[2..];
    let (name, after) = match body.strip_prefix('{') {
        Some(inner) => inner.split_once('}').ok_or("invalid character class range: missing `}`")?,
        None => {
            let len = body.chars().next().map_or(0, char::len_utf8);
            body.split_at(len)
        }
    };
    let (negated_inside, name) = name.strip_prefix('^').map_or((false, name), |n| (true, n));
    if name == "Any" {
        out.push_str(if negated_outside == negated_inside { r"[\x{0}-\x{10FFFF}]" } else { r"[^\x{0}-\x{10FFFF}]" });
        return Ok(after);
    }
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(format!("invalid character class range: `{}`", &rest[..rest.len() - after.len()]));
    }
    out.push_str(if negated_outside == negated_inside { r"\p{" } else { r"\P{" });
    out.push_str(name);
    out.push('}');
    Ok(after)
}

/// An escape that stands for one character, inside or outside a class.
fn char_escape<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let c = rest[1..].chars().next().ok_or("trailing backslash at end of expression")?;
    let after = &rest[1 + c.len_utf8()..];
    let bad = || format!("invalid escape sequence: `\\{c}`");
    match c {
        'a' | 'f' | 't' | 'n' | 'r' | 'v' => {
            out.push('\\');
            out.push(c);
            Ok(after)
        }
        '0'..='7' => {
            // `\123` and `\0`; a single non-zero digit would be a back reference.
            let digits = 1 + after.bytes().take(2).take_while(|b| (b'0'..=b'7').contains(b)).count();
            if c != '0' && digits == 1 {
                return Err(bad());
            }
            let code = u32::from_str_radix(&rest[1..=digits], 8).map_err(|_| bad())?;
            out.push_str(&format!(r"\x{{{code:x}}}"));
            Ok(&rest[1 + digits..])
        }
        'x' => {
            let (hex, after) = match after.strip_prefix('{') {
                Some(inner) => inner.split_once('}').ok_or_else(bad)?,
                None if after.len() >= 2 && after.is_char_boundary(2) => after.split_at(2),
                None => return Err(bad()),
            };
            let valid = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
            let code = u32::from_str_radix(hex, 16).ok().filter(|_| valid).and_then(char::from_u32).ok_or_else(bad)?;
            out.push_str(&format!(r"\x{{{:x}}}", u32::from(code)));
            Ok(after)
        }
        c if c.is_ascii_punctuation() => {
            push_literal(c, out);
            Ok(after)
        }
        _ => Err(bad()),
    }
}

fn push_literal(c: char, out: &mut String) {
    // `\<` and `\>` are word boundaries to the crate, so only what needs a backslash gets one.
    if c.is_ascii_punctuation() && !matches!(c, '_' | '<' | '>' | '/' | '"' | '\'') {
        out.push('\\');
    }
    out.push(c);
}

/// At `{`: a repetition with sane counts, or a literal brace.
fn brace<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let Some((body, len)) = rest.find('}').map(|end| (&rest[1..end], end + 1)) else {
        out.push_str(r"\{");
        return Ok(&rest[1..]);
    };
    fn number(text: &str) -> Option<&str> {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
    }
    let (low, high) = match body.split_once(',') {
        Some((low, "")) => (number(low), None),
        Some((low, high)) => (number(low), Some(number(high))),
        None => (number(body), None),
    };
    let (Some(low), true) = (low, high != Some(None)) else {
        out.push_str(r"\{");
        return Ok(&rest[1..]);
    };
    let count = |text: &str| text.parse::<u32>().ok().filter(|n| *n <= REPEAT_MAX);
    let limits = (count(low), high.flatten().map(count));
    let valid = matches!(limits, (Some(_), None)) || matches!(limits, (Some(l), Some(Some(h))) if l <= h);
    if !valid {
        return Err(format!("invalid repeat count: `{{{body}}}`"));
    }
    out.push_str(&rest[..len]);
    Ok(&rest[len..])
}

/// At `(`: RE2's group kinds and flags; what the crate knows beyond them (`x`, `R`, `u`) is refused.
fn group_start<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let Some(after) = rest.strip_prefix("(?") else {
        out.push('(');
        return Ok(&rest[1..]);
    };
    if let Some(named) = after.strip_prefix("P<").or_else(|| after.strip_prefix('<')) {
        let (name, after) = named.split_once('>').ok_or("invalid named capture: missing `>`")?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!("invalid named capture: `{name}`"));
        }
        // RE2 allows a leading digit, the crate does not, and nobody else can spell this prefix.
        let digit = if name.as_bytes()[0].is_ascii_digit() { "_" } else { "" };
        out.push_str(&format!("(?P<{digit}{name}>"));
        return Ok(after);
    }
    let flags_len = after.bytes().take_while(|b| b"imsU-".contains(b)).count();
    match after[flags_len..].chars().next() {
        Some(end @ (':' | ')')) => {
            out.push_str("(?");
            out.push_str(&after[..flags_len]);
            out.push(end);
            Ok(&after[flags_len + 1..])
        }
        _ => Err(format!("invalid or unsupported Perl syntax: `{}`", rest.chars().take(4).collect::<String>())),
    }
}

/// At `[`. Inside, the crate's set operators (`&&`, `--`, `~~`, nested `[`) are plain characters in RE2.
fn class<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let missing = || format!("missing closing ]: `{rest}`");
    out.push('[');
    let mut inner = &rest[1..];
    if let Some(after) = inner.strip_prefix('^') {
        out.push('^');
        inner = after;
    }
    let mut first = true;
    loop {
        let c = inner.chars().next().ok_or_else(missing)?;
        if c == ']' && !first {
            out.push(']');
            return Ok(&inner[1..]);
        }
        first = false;
        if let Some(named) = inner.strip_prefix("[:")
            && let Some((name, after)) = named.split_once(":]")
        {
            if !ASCII_CLASSES.contains(&name.trim_start_matches('^')) {
                return Err(format!("invalid character class range: `[:{name}:]`"));
            }
            out.push_str(&inner[..inner.len() - after.len()]);
            inner = after;
            continue;
        }
        let is_set = inner.starts_with('\\') && inner[1..].starts_with(['d', 'D', 's', 'S', 'w', 'W', 'p', 'P']);
        if is_set {
            inner = class_escape(inner, out)?;
            continue;
        }
        inner = class_char(inner, out)?;
        // A range has two ends; before the closing bracket the dash is a character of its own.
        if inner.starts_with('-') && !inner[1..].starts_with(']') && inner.len() > 1 {
            out.push('-');
            inner = class_char(&inner[1..], out)?;
        }
    }
}

const ASCII_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

fn class_char<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    match rest.chars().next() {
        Some('\\') => char_escape(rest, out),
        Some(c) => {
            push_literal(c, out);
            Ok(&rest[c.len_utf8()..])
        }
        None => Err("missing closing ]".to_owned()),
    }
}

fn class_escape<'a>(rest: &'a str, out: &mut String) -> Result<&'a str, String> {
    let after = || &rest[2..];
    match rest[1..].chars().next() {
        Some('d') => out.push_str(DIGIT),
        Some('w') => out.push_str(WORD),
        Some('s') => out.push_str(SPACE),
        Some('D') => out.push_str("[^0-9]"),
        Some('W') => out.push_str("[^0-9A-Za-z_]"),
        Some('S') => out.push_str(r"[^\t\n\f\r ]"),
        Some('p' | 'P') => return unicode_class(rest, out),
        _ => return char_escape(rest, out),
    }
    Ok(after())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lines of `pattern \t text \t want`, quoted as Go quotes, made by testdata/gen/regex.go.
    #[test]
    fn patterns_match_what_go_matches() {
        let cases: Vec<(String, String, Option<bool>)> =
            serde_json::from_str(include_str!("../testdata/regex.json")).unwrap();
        assert!(cases.len() > 100);
        let mut wrong = Vec::new();
        for (pattern, text, want) in cases {
            let got = regex(&pattern).ok().map(|re| re.is_match(&text));
            if got != want {
                wrong.push(format!("pattern {pattern:?} on {text:?}: {got:?}, Go says {want:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn anchored_patterns_match_the_whole_text_with_newlines() {
        let check = |pattern: &str, text: &str, want: bool| {
            assert_eq!(regex_anchored(pattern).unwrap().is_match(text), want, "{pattern} on {text:?}");
        };
        check("a|b", "b", true);
        check("a|b", "ab", false);
        check("a.c", "a\nc", true);
        check("", "", true);
        check(".*", "\n", true);
    }

    #[test]
    fn errors_name_the_pattern() {
        let error = regex("a(b").unwrap_err().to_string();
        assert_eq!(error, "error parsing regexp `a(b`: unclosed group");
        assert!(regex(r"\C").is_err());
        assert!(regex("a{1001}").is_err());
    }

    proptest! {
        #[test]
        fn never_panics(pattern in r"[\\\[\]{}()|^$.*+?a-c0-9QEpP:,<>é-]{0,20}") {
            let _ = regex(&pattern);
            let _ = regex_anchored(&pattern);
        }
    }
}
