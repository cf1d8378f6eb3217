//! The `eval` command, and what its block expects.

use weir_model::Labels;

use super::values::{self, Point, SeriesLine};
use super::{Eval, Times};
use crate::{QueryResult, parse_duration};

#[derive(Debug, Default)]
pub(super) struct Expected {
    pub series: Vec<SeriesLine>,
    pub scalar: Option<f64>,
    pub text: Option<String>,
    /// Times of the samples, for an instant query of a range vector.
    pub range_vector: Option<(i64, i64, i64)>,
    ordered: bool,
    fails: Vec<Text>,
    warnings: Notes,
    infos: Notes,
}

#[derive(Debug, Default)]
struct Notes {
    none: bool,
    wanted: Vec<Text>,
}

#[derive(Debug)]
enum Text {
    Any,
    Exactly(String),
    Regex(regex::Regex),
}

impl Text {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(want) => want == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

type Parsed<T> = Result<T, (usize, String)>;

pub(super) fn eval(number: usize, line: &str, block: &[&str]) -> Parsed<Eval> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let mut expected = Expected::default();
    match word {
        "eval" => {}
        "eval_fail" => expected.fails.push(Text::Any),
        "eval_warn" => expected.warnings.wanted.push(Text::Any),
        "eval_info" => expected.infos.wanted.push(Text::Any),
        "eval_ordered" => expected.ordered = true,
        other => return Err((0, format!("`{other}` is no command"))),
    }
    let (when, query) = times(rest.trim_start()).map_err(|e| (0, e))?;
    for (k, line) in block.iter().enumerate() {
        expected.line(line).map_err(|e| (k + 1, e))?;
    }
    Ok(Eval { line: number, query, when, expected })
}

/// `instant at 5m QUERY` or `range from 0 to 5m step 1m QUERY`.
fn times(text: &str) -> Result<(Times, String), String> {
    let (kind, mut rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let mut time = |keyword: &str| -> Result<i64, String> {
        let trimmed = rest.trim_start();
        let after = trimmed.strip_prefix(keyword).filter(|after| after.starts_with(char::is_whitespace));
        let after = after.ok_or_else(|| format!("expected `{keyword}` and a time before `{trimmed}`"))?.trim_start();
        let (word, left) = after.split_once(char::is_whitespace).unwrap_or((after, ""));
        rest = left;
        moment(word).ok_or_else(|| format!("`{word}` is no time"))
    };
    let when = match kind {
        "instant" => Times::Instant(time("at")?),
        "range" => {
            let (start, end, step) = (time("from")?, time("to")?, time("step")?);
            Times::Range { start, end, step }
        }
        other => return Err(format!("`{other}` is neither `instant` nor `range`")),
    };
    Ok((when, rest.trim().to_owned()))
}

fn moment(word: &str) -> Option<i64> {
    let (sign, plain) = word.strip_prefix('-').map_or((1, word), |plain| (-1, plain));
    let secs = || values::number(plain).filter(|s| s.is_finite()).map(|s| (s * 1000.0).round() as i64);
    Some(sign * parse_duration(plain).or_else(secs)?)
}

impl Expected {
    pub(super) fn is_ordered(&self) -> bool {
        self.ordered
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("expect ") {
            return self.expectation(rest.trim());
        }
        if let Some(text) = line.strip_prefix("expected_fail_message ") {
            self.fails.push(Text::Exactly(text.trim().to_owned()));
            return Ok(());
        }
        if let Some(text) = line.strip_prefix("expected_fail_regexp ") {
            self.fails.push(regex(text.trim())?);
            return Ok(());
        }
        if let Some(value) = values::number(line) {
            self.scalar = Some(value);
            return Ok(());
        }
        self.series.push(values::series_line(line)?);
        Ok(())
    }

    fn expectation(&mut self, rest: &str) -> Result<(), String> {
        if let Some(times) = rest.strip_prefix("range vector ") {
            let words: Vec<&str> = times.split_whitespace().collect();
            let ["from", start, "to", end, "step", step] = words[..] else {
                return Err(format!("`{times}` is no `from … to … step …`"));
            };
            let time = |word: &str| moment(word).ok_or_else(|| format!("`{word}` is no time"));
            self.range_vector = Some((time(start)?, time(end)?, time(step)?));
            return Ok(());
        }
        if let Some(text) = rest.strip_prefix("string ") {
            let quote = text.chars().next().filter(|c| matches!(c, '"' | '`' | '\''));
            let quote = quote.ok_or_else(|| format!("`{text}` is no quoted text"))?;
            let body = text[1..].strip_suffix(quote).ok_or_else(|| format!("`{text}` is no quoted text"))?;
            self.text = Some(crate::parse::quote::unquote(body, quote)?);
            return Ok(());
        }
        let (what, how) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let how = how.trim();
        let text = match (how.strip_prefix("msg:"), how.strip_prefix("regex:")) {
            (Some(text), _) => Text::Exactly(text.trim().to_owned()),
            (_, Some(text)) => regex(text.trim())?,
            _ if how.is_empty() => Text::Any,
            _ => return Err(format!("`{how}` is neither `msg:` nor `regex:`")),
        };
        match what {
            "ordered" => self.ordered = true,
            "fail" => self.fails.push(text),
            "warn" => self.warnings.wanted.push(text),
            "info" => self.infos.wanted.push(text),
            "no_warn" => self.warnings.none = true,
            "no_info" => self.infos.none = true,
            other => return Err(format!("`{other}` cannot be expected")),
        }
        Ok(())
    }

    pub(super) fn check(&self, when: Times, got: &Result<QueryResult, String>) -> Result<(), String> {
        let got = match got {
            Err(error) if self.fails.is_empty() => return Err(format!("the query failed: {error}")),
            Err(error) => {
                return match self.fails.iter().find(|want| !want.matches(error)) {
                    Some(want) => Err(format!("the query failed with `{error}`, expected {want:?}")),
                    None => Ok(()),
                };
            }
            Ok(_) if !self.fails.is_empty() => return Err("the query did not fail".to_owned()),
            Ok(got) => got,
        };
        self.warnings.check("warning", &got.warnings)?;
        self.infos.check("info", &got.infos)?;
        super::check::value(self, when, &got.value)
    }

    /// Expected points of a series by labels.
    pub(super) fn points(&self, labels: &Labels) -> Option<&[Point]> {
        self.series.iter().find(|s| s.labels == *labels).map(|s| &s.values[..])
    }
}

fn regex(pattern: &str) -> Result<Text, String> {
    weir_go::regex(pattern).map(Text::Regex).map_err(|e| format!("`{pattern}` is no regular expression: {e}"))
}

impl Notes {
    fn check(&self, what: &str, got: &[String]) -> Result<(), String> {
        if self.none && !got.is_empty() {
            return Err(format!("unexpected {what}: {}", got.join("; ")));
        }
        if let Some(missing) = self.wanted.iter().find(|want| !got.iter().any(|text| want.matches(text))) {
            return Err(format!("no {what} like {missing:?}, got {got:?}"));
        }
        let unexpected = got.iter().find(|text| !self.wanted.iter().any(|want| want.matches(text)));
        match unexpected.filter(|_| !self.wanted.is_empty()) {
            Some(text) => Err(format!("unexpected {what}: {text}")),
            None => Ok(()),
        }
    }
}
