//! Patterns of lines: what lines have in common, found by reading them.
//!
//! A line is words and what stands between them. Lines with the same number of words, the same
//! separators and the same level are compared word by word; where more than half agree, they are one
//! pattern, and the words that differ become `<_>`. A word with a digit in it is `<_>` from the start.
//! The idea is that of Drain (He et al., ICWS 2017); a pattern selects its lines again when it is used
//! as a filter, `|> "…"`.

use std::collections::BTreeMap;

use ahash::AHashMap;
use weir_model::source::{LogCursor, ReadContext, ReadError};
use weir_model::{LogEntry, Nanos};

/// Words of a line that count; the rest of a longer line is one `<_>`.
const WORDS_MAX: usize = 120;
/// Patterns of one shape; a line that fits none is counted with the one nearest to it.
const PATTERNS_PER_SHAPE_MAX: usize = 50;
/// Patterns of all shapes; lines of further shapes are not counted.
const PATTERNS_MAX: usize = 2000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPattern {
    /// With `<_>` for what differs.
    pub pattern: String,
    /// The detected level of its lines.
    pub level: String,
    /// Lines from each instant on, for one step; ascending, empty steps left out.
    pub samples: Vec<(Nanos, u64)>,
}

impl LogPattern {
    pub fn count(&self) -> u64 {
        self.samples.iter().map(|(_, n)| n).sum()
    }
}

/// Collects patterns line by line.
pub struct PatternCollector {
    step_nanos: i64,
    shapes: AHashMap<Shape, Vec<Found>>,
    n_patterns: usize,
}

/// Lines that can be one pattern agree in this.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Shape {
    level: String,
    /// What stands before, between and behind the words.
    separators: Vec<String>,
}

struct Found {
    /// `None` where lines differ.
    words: Vec<Option<String>>,
    samples: BTreeMap<i64, u64>,
}

impl PatternCollector {
    pub fn new(step_nanos: i64) -> Self {
        Self { step_nanos: step_nanos.max(1), shapes: AHashMap::new(), n_patterns: 0 }
    }

    /// Reads a cursor to its end, or until so many lines were seen.
    pub fn read(&mut self, cursor: &mut dyn LogCursor, lines_max: u64, context: &ReadContext) -> Result<(), ReadError> {
        let mut n_lines = 0;
        while n_lines < lines_max
            && let Some(batch) = cursor.next(None)?
        {
            context.cancel.check()?;
            n_lines += batch.entries.len() as u64;
            batch.entries.iter().for_each(|entry| self.add(entry));
        }
        Ok(())
    }

    pub fn add(&mut self, entry: &LogEntry) {
        let (words, separators) = split(&entry.line);
        let level = entry.metadata("detected_level").unwrap_or("unknown").to_owned();
        let found = self.shapes.entry(Shape { level, separators }).or_default();
        let step = entry.at.0.div_euclid(self.step_nanos) * self.step_nanos;
        let alike = |one: &Found| {
            let same = |(known, word): (&Option<String>, &Option<&str>)| match (known, word) {
                (Some(known), Some(word)) => known == word,
                _ => true,
            };
            one.words.iter().zip(&words).filter(|pair| same(*pair)).count()
        };
        let best = (0..found.len()).max_by_key(|idx| alike(&found[*idx]));
        let is_near = best.is_some_and(|idx| 2 * alike(&found[idx]) > words.len() || words.is_empty());
        let is_full = found.len() >= PATTERNS_PER_SHAPE_MAX || self.n_patterns >= PATTERNS_MAX;
        match best {
            Some(idx) if is_near || is_full => {
                let one = &mut found[idx];
                for (known, word) in one.words.iter_mut().zip(&words) {
                    if known.as_deref() != *word {
                        *known = None;
                    }
                }
                *one.samples.entry(step).or_default() += 1;
            }
            None if is_full => {}
            _ => {
                let words = words.iter().map(|w| w.map(str::to_owned)).collect();
                found.push(Found { words, samples: BTreeMap::from([(step, 1)]) });
                self.n_patterns += 1;
            }
        }
    }

    /// The most frequent first, equal ones by their text.
    pub fn finish(self) -> Vec<LogPattern> {
        let mut merged: BTreeMap<(String, String), BTreeMap<i64, u64>> = BTreeMap::new();
        for (shape, found) in self.shapes {
            for one in found {
                let samples = merged.entry((join(&one.words, &shape.separators), shape.level.clone())).or_default();
                one.samples.iter().for_each(|(step, n)| *samples.entry(*step).or_default() += n);
            }
        }
        let mut out: Vec<LogPattern> = merged
            .into_iter()
            .map(|((pattern, level), samples)| LogPattern {
                pattern,
                level,
                samples: samples.into_iter().map(|(step, n)| (Nanos(step), n)).collect(),
            })
            .collect();
        out.sort_by_key(|pattern| std::cmp::Reverse(pattern.count()));
        out
    }
}

/// A pattern's text. Two wildcards side by side are one.
fn join(words: &[Option<String>], separators: &[String]) -> String {
    let mut out = String::new();
    for (idx, separator) in separators.iter().enumerate() {
        out.push_str(separator);
        match words.get(idx) {
            Some(Some(word)) => out.push_str(word),
            Some(None) if !out.ends_with("<_>") => out.push_str("<_>"),
            _ => {}
        }
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | '%' | '+' | '$' | '#' | '&' | '~' | '\\')
}

/// Words (`None` for one with a digit), and what stands around them: one more than there are words.
fn split(line: &str) -> (Vec<Option<&str>>, Vec<String>) {
    let (mut words, mut separators) = (Vec::new(), Vec::new());
    let mut rest = line;
    loop {
        let gap = rest.find(is_word).unwrap_or(rest.len());
        separators.push(rest[..gap].to_owned());
        rest = &rest[gap..];
        if rest.is_empty() {
            return (words, separators);
        }
        if words.len() == WORDS_MAX {
            words.push(None);
            separators.push(String::new());
            return (words, separators);
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        words.push((!word.contains(|c: char| c.is_ascii_digit())).then_some(word));
        rest = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::LinePattern;

    fn collect(lines: &[&str]) -> Vec<LogPattern> {
        let mut collector = PatternCollector::new(10);
        for (idx, line) in lines.iter().enumerate() {
            collector.add(&LogEntry { at: Nanos(idx as i64), line: (*line).into(), metadata: Vec::new() });
        }
        collector.finish()
    }

    #[track_caller]
    fn check(lines: &[&str], want: &[(&str, u64)]) {
        let got = collect(lines);
        let got: Vec<(&str, u64)> = got.iter().map(|p| (p.pattern.as_str(), p.count())).collect();
        assert_eq!(got, want);
    }

    #[test]
    fn what_differs_becomes_a_wildcard() {
        check(
            &[
                "order 1 placed by ann in 20ms",
                "order 2 placed by bo in 7ms",
                "cache is cold",
                "order 3 placed by cy in 1s",
            ],
            &[("order <_> placed by <_> in <_>", 3), ("cache is cold", 1)],
        );
        check(
            &[r#"{"level":"info","ms":10,"msg":"done"}"#, r#"{"level":"info","ms":99,"msg":"done"}"#],
            &[(r#"{"level":"info","ms":<_>,"msg":"done"}"#, 2)],
        );
        check(&["a=1 b=x", "a=2 b=y"], &[("a=<_> b=<_>", 2)]);
        check(&["connection refused.", "connection closed."], &[("connection closed.", 1), ("connection refused.", 1)]);
        check(&["", ""], &[("", 2)]);
    }

    #[test]
    fn counts_stand_by_step() {
        let samples = collect(&["x 1"; 25])[0].samples.clone();
        assert_eq!(samples, [(Nanos(0), 10), (Nanos(10), 10), (Nanos(20), 5)]);
    }

    proptest! {
        /// No line is lost while there is room, and a pattern finds the lines it was made of.
        #[test]
        fn every_line_is_counted_and_found(lines in prop::collection::vec("[a-c1-3 =.,{}\"]{0,14}", 1..30)) {
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let found = collect(&lines);
            prop_assert_eq!(found.iter().map(LogPattern::count).sum::<u64>(), lines.len() as u64);
            if let [one] = collect(&lines[..1]).as_slice() {
                let pattern = LinePattern::parse(&one.pattern);
                prop_assert!(pattern.is_some_and(|p| p.matches(lines[0])), "{} on {:?}", one.pattern, lines[0]);
            }
        }
    }
}
