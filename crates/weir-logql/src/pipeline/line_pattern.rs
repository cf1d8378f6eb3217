//! `|> "<_> error <_>"`: literals in order, with anything between.

/// A pattern of literals and `<_>` wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinePattern {
    literals: Vec<String>,
    open_start: bool,
    open_end: bool,
    source: String,
}

impl LinePattern {
    /// `None` for a pattern with two wildcards side by side, where the first could hold anything.
    pub fn parse(source: &str) -> Option<Self> {
        let parts: Vec<&str> = source.split("<_>").collect();
        let inner = if parts.len() > 2 { &parts[1..parts.len() - 1] } else { &[] };
        if inner.iter().any(|p| p.is_empty()) {
            return None;
        }
        Some(Self {
            open_start: parts.len() > 1 && parts[0].is_empty(),
            open_end: parts.len() > 1 && parts[parts.len() - 1].is_empty(),
            literals: parts.iter().filter(|p| !p.is_empty()).map(|p| (*p).to_owned()).collect(),
            source: source.to_owned(),
        })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// Each wildcard stands for at least one character. A pattern that begins with a literal may
    /// match from anywhere in the line; one that ends with a literal must match up to its end. Each
    /// literal is taken where it stands first. Source: Loki `pkg/logql/log/pattern`, `Test`.
    pub fn matches(&self, line: &str) -> bool {
        if line.is_empty() || self.source.is_empty() {
            return line.is_empty() && self.source.is_empty();
        }
        let mut rest = line;
        for (idx, literal) in self.literals.iter().enumerate() {
            let Some(at) = memchr::memmem::find(rest.as_bytes(), literal.as_bytes()) else { return false };
            if at == 0 && (idx > 0 || self.open_start) {
                return false;
            }
            rest = &rest[at + literal.len()..];
        }
        self.open_end != rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_must_come_in_order() {
        let check = |pattern: &str, line: &str, want: bool| {
            assert_eq!(LinePattern::parse(pattern).unwrap().matches(line), want, "{pattern} on {line}");
        };
        check("<_>error<_>", "an error here", true);
        check("<_>error<_>", "fine", false);
        check("error<_>", "an error", false);
        check("error<_>", "an error here", true);
        check("<_>error<_>", "error here", false);
        check("a<_>b<_>c", "a1b2c", true);
        check("a<_>b<_>c", "a1c2b", false);
        check("a<_>c", "abcd", false);
        check("exact", "exact", true);
        check("exact", "exactly", false);
        check("<_>", "anything", true);
        check("<_>", "", false);
        check("<_> bar", "foo bar baz bar", false);
        check("", "", true);
    }

    #[test]
    fn wildcards_side_by_side_are_refused() {
        assert_eq!(LinePattern::parse("a<_><_>b"), None);
    }
}
