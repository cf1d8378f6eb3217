//! Label matchers with Prometheus' semantics: an absent label equals the empty string, regular
//! expressions are anchored at both ends and written in RE2's syntax.

use crate::labels::Labels;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Regex => "=~",
            Self::NotRegex => "!~",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
    regex: Option<regex::Regex>,
}

impl Matcher {
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, weir_go::RegexError> {
        let value = value.into();
        let regex = match op {
            MatchOp::Equal | MatchOp::NotEqual => None,
            MatchOp::Regex | MatchOp::NotRegex => Some(weir_go::regex_anchored(&value)?),
        };
        Ok(Self { name: name.into(), op, value, regex })
    }

    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), op: MatchOp::Equal, value: value.into(), regex: None }
    }

    pub fn matches(&self, value: &str) -> bool {
        let regex = || self.regex.as_ref().is_some_and(|re| re.is_match(value));
        match self.op {
            MatchOp::Equal => self.value == value,
            MatchOp::NotEqual => self.value != value,
            MatchOp::Regex => regex(),
            MatchOp::NotRegex => !regex(),
        }
    }

    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.value(&self.name))
    }

    /// Whether the empty string, and with it every series without the label, is accepted.
    pub fn matches_empty(&self) -> bool {
        self.matches("")
    }
}

/// Equality of what was written; compiled regular expressions do not count.
impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}
impl Eq for Matcher {}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

pub fn all_match(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches_labels(labels))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_label_is_the_empty_string() {
        let labels = Labels::from_pairs([("job", "node")]);
        let check = |name, op, value, want| {
            let m = Matcher::new(name, op, value).unwrap();
            assert_eq!(m.matches_labels(&labels), want, "{m}");
        };
        check("job", MatchOp::Equal, "node", true);
        check("job", MatchOp::Regex, "no", false);
        check("job", MatchOp::Regex, "no.*", true);
        check("x", MatchOp::Equal, "", true);
        check("x", MatchOp::NotEqual, "y", true);
        check("x", MatchOp::Regex, ".+", false);
        check("x", MatchOp::NotRegex, ".+", true);
    }
}
