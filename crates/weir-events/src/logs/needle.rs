//! Where a needle can stand in the lines of a template.
//!
//! A line is literal, variable, literal, …, literal. An occurrence lies in a literal (all rows have
//! it), in a variable, or across several: then each variable it covers must end with, equal or
//! begin with a known part of the needle. All such alignments are listed, so that the rows that
//! meet one of them are exactly the rows whose line holds the needle, and no line is rebuilt.

/// How a variable must relate to a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Contains,
    Equals,
    Starts,
    Ends,
}

impl Part {
    pub(crate) fn holds(self, value: &[u8], text: &[u8]) -> bool {
        match self {
            Self::Contains => memchr::memmem::find(value, text).is_some(),
            Self::Equals => value == text,
            Self::Starts => value.starts_with(text),
            Self::Ends => value.ends_with(text),
        }
    }
}

/// One variable's share of an alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Need<'n> {
    pub var: usize,
    pub part: Part,
    pub text: &'n [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Places<'n> {
    Everywhere,
    /// Rows that meet all needs of at least one alignment; none when there is no alignment.
    Alignments(Vec<Vec<Need<'n>>>),
}

struct Search<'n, 'a> {
    literals: &'a [Box<[u8]>],
    may: &'a dyn Fn(Need<'n>) -> bool,
    found: Vec<Vec<Need<'n>>>,
}

/// `literals`: one more than variables. `may`: whether any value of the variable can meet the need.
/// `needle` is not empty.
pub(crate) fn places<'n>(literals: &[Box<[u8]>], needle: &'n [u8], may: &dyn Fn(Need<'n>) -> bool) -> Places<'n> {
    if literals.iter().any(|l| memchr::memmem::find(l, needle).is_some()) {
        return Places::Everywhere;
    }
    let mut search = Search { literals, may, found: Vec::new() };
    for (var, before) in literals[..literals.len() - 1].iter().enumerate() {
        search.keep(&[], Need { var, part: Part::Contains, text: needle });
        search.beginning_in(var, needle);
        for a in 1..needle.len().min(before.len() + 1) {
            if before.ends_with(&needle[..a]) {
                search.at_var(var, &needle[a..], &[]);
            }
        }
    }
    Places::Alignments(search.found)
}

impl<'n> Search<'n, '_> {
    fn keep(&mut self, so_far: &[Need<'n>], need: Need<'n>) {
        if (self.may)(need) {
            self.found.push(so_far.iter().copied().chain([need]).collect());
        }
    }

    /// The occurrence begins inside `var` and goes beyond it.
    fn beginning_in(&mut self, var: usize, needle: &'n [u8]) {
        for a in 1..needle.len() {
            self.leave(Need { var, part: Part::Ends, text: &needle[..a] }, &needle[a..], &[]);
        }
    }

    /// `rest` of the needle, not empty, begins where `var` begins.
    fn at_var(&mut self, var: usize, rest: &'n [u8], so_far: &[Need<'n>]) {
        self.keep(so_far, Need { var, part: Part::Starts, text: rest });
        for a in 0..rest.len() {
            self.leave(Need { var, part: Part::Equals, text: &rest[..a] }, &rest[a..], so_far);
        }
    }

    /// After `need`, `rest` begins with the literal behind the variable.
    fn leave(&mut self, need: Need<'n>, rest: &'n [u8], so_far: &[Need<'n>]) {
        let literal = &self.literals[need.var + 1];
        if rest.len() <= literal.len() {
            if literal.starts_with(rest) {
                self.keep(so_far, need);
            }
            return;
        }
        let is_last = need.var + 2 == self.literals.len();
        if !is_last && rest.starts_with(literal) && (self.may)(need) {
            let so_far: Vec<_> = so_far.iter().copied().chain([need]).collect();
            self.at_var(need.var + 1, &rest[literal.len()..], &so_far);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(literals: &[Box<[u8]>], vars: &[&[u8]], needle: &[u8]) -> bool {
        match places(literals, needle, &|_| true) {
            Places::Everywhere => true,
            Places::Alignments(all) => all.iter().any(|needs| needs.iter().all(|n| n.part.holds(vars[n.var], n.text))),
        }
    }

    proptest! {
        #[test]
        fn alignments_agree_with_a_search(
            literals in prop::collection::vec("[ab.]{0,3}", 1..5),
            vars in prop::collection::vec("[ab1]{0,3}", 4),
            needle in "[ab1.]{1,6}",
        ) {
            let n = literals.len() - 1;
            let mut line = literals[0].clone();
            for i in 0..n {
                line.push_str(&vars[i]);
                line.push_str(&literals[i + 1]);
            }
            let boxed: Vec<Box<[u8]>> = literals.iter().map(|l| l.as_bytes().into()).collect();
            let vars: Vec<&[u8]> = vars.iter().map(|v| v.as_bytes()).collect();
            prop_assert_eq!(holds(&boxed, &vars, needle.as_bytes()), line.contains(&needle), "{} in {}", needle, line);
        }
    }
}
