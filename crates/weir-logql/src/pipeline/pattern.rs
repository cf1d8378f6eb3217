//! `| pattern "<ip> - <_> [<ts>]"`: named captures between literals.

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternParser {
    parts: Vec<Part>,
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `None` for `<_>`.
    Capture(Option<String>),
}

impl PatternParser {
    /// Refuses patterns without a named capture, with two captures side by side, or with one name
    /// twice. Source: Loki `pkg/logql/log/pattern`.
    pub fn parse(source: &str) -> Result<Self, String> {
        let mut parts: Vec<Part> = Vec::new();
        let mut literal = String::new();
        let mut rest = source;
        while let Some(c) = rest.chars().next() {
            if let Some((name, tail)) = capture(rest) {
                if !literal.is_empty() {
                    parts.push(Part::Literal(std::mem::take(&mut literal)));
                }
                if let Some(Part::Capture(previous)) = parts.last() {
                    let show = |n: &Option<String>| n.clone().unwrap_or_else(|| "_".to_owned());
                    return Err(format!(
                        "found consecutive capture '<{}><{name}>': put a literal between them",
                        show(previous)
                    ));
                }
                parts.push(Part::Capture((name != "_").then(|| name.to_owned())));
                rest = tail;
            } else {
                literal.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        let mut names: Vec<&str> = parts.iter().filter_map(Part::name).collect();
        if names.is_empty() {
            return Err("at least one capture is required".to_owned());
        }
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("duplicate capture name ({})", pair[0]));
        }
        Ok(Self { parts, source: source.to_owned() })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Calls `found` for each named capture in order.
    pub fn extract<'l>(&self, line: &'l str, mut found: impl FnMut(&str, &'l str)) {
        let mut rest = line;
        let mut parts = self.parts.iter();
        let mut open = match parts.next() {
            Some(Part::Literal(literal)) => match rest.strip_prefix(literal.as_str()) {
                Some(tail) => {
                    rest = tail;
                    None
                }
                None => return,
            },
            Some(capture) => Some(capture),
            None => return,
        };
        for part in parts {
            match (part, open) {
                (Part::Capture(_), _) => open = Some(part),
                (Part::Literal(literal), Some(capture)) => {
                    let Some(at) = memchr::memmem::find(rest.as_bytes(), literal.as_bytes()) else {
                        break;
                    };
                    if let Some(name) = capture.name() {
                        found(name, &rest[..at]);
                    }
                    rest = &rest[at + literal.len()..];
                    open = None;
                }
                (Part::Literal(_), None) => {}
            }
        }
        if let Some(name) = open.and_then(Part::name) {
            found(name, rest);
        }
    }
}

impl Part {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Capture(Some(name)) => Some(name),
            _ => None,
        }
    }
}

/// `<name>` at the start of the text, and what follows it.
fn capture(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('<')?;
    let end = inner.find('>')?;
    let name = &inner[..end];
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (starts && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then(|| (name, &inner[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, line: &str, want: &[(&str, &str)]) {
        let mut got = Vec::new();
        let parser = PatternParser::parse(pattern).unwrap();
        parser.extract(line, |name, value| got.push((name.to_owned(), value.to_owned())));
        let want: Vec<_> = want.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(got, want, "{pattern} on {line}");
    }

    #[test]
    fn captures_stand_between_literals() {
        check("<ip> - <_> [<ts>]", "1.2.3.4 - bob [now]", &[("ip", "1.2.3.4"), ("ts", "now")]);
        check("level=<level> ", "level=info msg=x", &[("level", "info")]);
        check("<a> <b>", "one two three", &[("a", "one"), ("b", "two three")]);
    }

    #[test]
    fn a_leading_literal_must_stand_at_the_start() {
        check("x <a>", "yx b", &[]);
        check("x <a>", "x b", &[("a", "b")]);
    }

    #[test]
    fn a_capture_before_a_missing_literal_takes_the_rest() {
        check("<a>|<b>|<c>", "1|2", &[("a", "1"), ("b", "2")]);
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in ["", "no capture", "<_> <_>", "<a><b>", "<a> <a>"] {
            assert!(PatternParser::parse(pattern).is_err(), "{pattern}");
        }
    }
}
