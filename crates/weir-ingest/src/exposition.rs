//! The formats that scrape targets answer with: Prometheus text 0.0.4 / 1.0.0, OpenMetrics, and protobuf.
//!
//! The text parser walks lines and leaves the series' text as it stands, so that a scraper can look up
//! what it made of the same text last time; [`series_pairs`] takes it apart.
//!
//! Source: Prometheus exposition formats, OpenMetrics 1.0.

mod number;
mod protobuf;
mod series;

pub use number::bound_text;
pub use series::{Pairs, series_pairs};

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use weir_model::{Exemplar, Histogram, Labels, MetricKind, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    OpenMetrics,
    /// Families behind their lengths.
    Protobuf,
}

/// What is made of histograms that are native, classic or both. Only protobuf has native ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histograms {
    /// Native ones are taken; else each is read as a classic one.
    pub native: bool,
    /// The classic series too where there are both.
    pub classic_beside: bool,
}

impl Format {
    /// From a `Content-Type` header; `None` for an empty or unknown one.
    pub fn of_content_type(header: &str) -> Option<Self> {
        match header.split(';').next().unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "text/plain" => Some(Self::Text),
            "application/openmetrics-text" => Some(Self::OpenMetrics),
            "application/vnd.google.protobuf" => {
                let is_delimited =
                    |p: &str| p.trim().to_ascii_lowercase().strip_prefix("encoding=") == Some("delimited");
                header.split(';').any(is_delimited).then_some(Self::Protobuf)
            }
            _ => None,
        }
    }
}

/// Where and why a text is no exposition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// From 1.
    pub line: usize,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Item<'a> {
    Kind { family: &'a str, kind: MetricKind },
    Help { family: &'a str, text: Cow<'a, str> },
    Unit { family: &'a str, unit: &'a str },
    Sample(SampleLine<'a>),
    Histogram(HistogramLine<'a>),
}

/// Where in a body something stands, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Line(usize),
    Metric(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(n) => write!(f, "line {n}"),
            Self::Metric(n) => write!(f, "metric {n}"),
        }
    }
}

/// A native histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct HistogramLine<'a> {
    pub place: Place,
    /// As in [`SampleLine`].
    pub series: &'a str,
    pub histogram: Arc<Histogram>,
    pub at: Option<Timestamp>,
    pub exemplars: Vec<Exemplar>,
}

/// Hands every item of a body to `take`; the first fault, of the body or of `take`, ends it.
pub fn each_item(
    body: &[u8],
    format: Format,
    histograms: Histograms,
    take: &mut dyn FnMut(Item<'_>) -> Result<(), String>,
) -> Result<(), String> {
    if format == Format::Protobuf {
        return protobuf::each_item(body, histograms, take);
    }
    let text = std::str::from_utf8(body).map_err(|e| format!("the body is not UTF-8 at byte {}", e.valid_up_to()))?;
    let mut parser = Parser::new(text, format);
    while let Some(item) = parser.next_item().map_err(|e| e.to_string())? {
        take(item)?;
    }
    Ok(())
}

#[derive(Clone, Debug, PartialEq)]
pub struct SampleLine<'a> {
    pub place: Place,
    /// Name and labels as they stand; [`series_pairs`] reads them.
    pub series: &'a str,
    pub value: f64,
    pub at: Option<Timestamp>,
    pub exemplar: Option<Exemplar>,
}

/// Reads line by line; the first fault ends it.
pub struct Parser<'a> {
    rest: &'a str,
    line: usize,
    format: Format,
    seen_eof: bool,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str, format: Format) -> Self {
        Self { rest: text, line: 0, format, seen_eof: false }
    }

    fn error(&self, reason: impl Into<String>) -> ParseError {
        ParseError { line: self.line, reason: reason.into() }
    }

    fn next_line(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        Some(line.strip_suffix('\r').unwrap_or(line))
    }

    /// The next thing that says something; `None` at the end.
    pub fn next_item(&mut self) -> Result<Option<Item<'a>>, ParseError> {
        while let Some(line) = self.next_line() {
            let line = line.trim_matches([' ', '\t']);
            if line.is_empty() {
                continue;
            }
            if self.seen_eof {
                return Err(self.error("text after `# EOF`"));
            }
            if let Some(comment) = line.strip_prefix('#') {
                if self.format == Format::OpenMetrics && comment == " EOF" {
                    self.seen_eof = true;
                } else if let Some(item) = self.comment(comment)? {
                    return Ok(Some(item));
                }
                continue;
            }
            return self.sample(line).map(|sample| Some(Item::Sample(sample)));
        }
        if self.format == Format::OpenMetrics && !self.seen_eof {
            return Err(self.error("the text does not end with `# EOF`; it may be cut"));
        }
        Ok(None)
    }

    /// `HELP`, `TYPE` and `UNIT`; other comments are passed over.
    fn comment(&self, comment: &'a str) -> Result<Option<Item<'a>>, ParseError> {
        let mut words = comment.trim_start().splitn(3, [' ', '\t']);
        let (keyword, family, text) =
            (words.next().unwrap_or(""), words.next().unwrap_or(""), words.next().unwrap_or(""));
        let family = family.strip_prefix('"').and_then(|f| f.strip_suffix('"')).unwrap_or(family);
        if matches!(keyword, "HELP" | "TYPE" | "UNIT") && family.is_empty() {
            return Err(self.error(format!("`# {keyword}` without the name of a metric")));
        }
        Ok(match keyword {
            "HELP" => Some(Item::Help { family, text: unescape_help(text.trim_start()) }),
            "UNIT" if self.format == Format::OpenMetrics => Some(Item::Unit { family, unit: text.trim() }),
            "TYPE" => Some(Item::Kind { family, kind: self.kind(text.trim())? }),
            _ => None,
        })
    }

    fn kind(&self, word: &str) -> Result<MetricKind, ParseError> {
        Ok(match word {
            "counter" => MetricKind::Counter,
            "gauge" => MetricKind::Gauge,
            "histogram" => MetricKind::Histogram,
            "gaugehistogram" => MetricKind::GaugeHistogram,
            "summary" => MetricKind::Summary,
            "info" => MetricKind::Info,
            "stateset" => MetricKind::Stateset,
            "untyped" | "unknown" => MetricKind::Unknown,
            other => return Err(self.error(format!("`{other}` is no type of metric"))),
        })
    }

    fn sample(&self, line: &'a str) -> Result<SampleLine<'a>, ParseError> {
        let end = series::series_end(line).map_err(|reason| self.error(reason))?;
        let (series, rest) = line.split_at(end);
        let (numbers, exemplar) = match rest.split_once('#') {
            Some((numbers, exemplar)) if self.format == Format::OpenMetrics => (numbers, Some(exemplar)),
            Some(_) => return Err(self.error("`#` after a value; exemplars stand in OpenMetrics only")),
            None => (rest, None),
        };
        let mut words = numbers.split_ascii_whitespace();
        let value = words.next().ok_or_else(|| self.error(format!("`{}` has no value", series.trim())))?;
        let value = number(value).ok_or_else(|| self.error(format!("`{value}` is no number")))?;
        let at = words.next().map(|word| self.timestamp(word)).transpose()?;
        if let Some(extra) = words.next() {
            return Err(self.error(format!("`{extra}` after the timestamp")));
        }
        let exemplar = exemplar.map(|text| self.exemplar(text)).transpose()?;
        Ok(SampleLine { place: Place::Line(self.line), series: series.trim_end(), value, at, exemplar })
    }

    fn timestamp(&self, word: &str) -> Result<Timestamp, ParseError> {
        let bad = || self.error(format!("`{word}` is no timestamp"));
        match self.format {
            Format::Text => word.parse().map(Timestamp).map_err(|_| bad()),
            Format::OpenMetrics | Format::Protobuf => seconds(word).ok_or_else(bad),
        }
    }

    /// `{trace_id="x"} 0.5 1700000000.1`
    fn exemplar(&self, text: &str) -> Result<Exemplar, ParseError> {
        let text = text.trim();
        let end = series::series_end(text).map_err(|reason| self.error(format!("exemplar: {reason}")))?;
        let (labels, numbers) = text.split_at(end);
        let pairs = series_pairs(labels.trim_end()).map_err(|reason| self.error(format!("exemplar: {reason}")))?;
        let mut words = numbers.split_ascii_whitespace();
        let value = words.next().and_then(number).ok_or_else(|| self.error("the exemplar has no value"))?;
        let at = match words.next() {
            Some(word) => seconds(word).ok_or_else(|| self.error(format!("exemplar: `{word}` is no timestamp")))?,
            None => Timestamp(0),
        };
        let labels = Labels::from_pairs(pairs.iter().map(|(n, v)| (&**n, &**v)));
        Ok(Exemplar { labels, at, value })
    }
}

/// Go's floats: `+Inf`, `NaN`, decimal and exponent forms.
fn number(word: &str) -> Option<f64> {
    // Rust's parser takes `infinity` and `nan` in any case, as Go's does.
    word.parse().ok()
}

fn seconds(word: &str) -> Option<Timestamp> {
    let seconds: f64 = word.parse().ok().filter(|s: &f64| s.is_finite())?;
    Some(Timestamp((seconds * 1000.0).round() as i64))
}

fn unescape_help(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(text: &str, format: Format) -> Vec<String> {
        let mut parser = Parser::new(text, format);
        let mut out = Vec::new();
        loop {
            match parser.next_item() {
                Ok(None) => return out,
                Ok(Some(Item::Sample(s))) => {
                    let labels =
                        series_pairs(s.series).map(|p| Labels::from_pairs(p.iter().map(|(n, v)| (&**n, &**v))));
                    let labels = labels.map_or_else(|e| format!("error {e}"), |l| l.to_string());
                    let at = s.at.map_or(String::new(), |t| format!(" @{}", t.0));
                    let exemplar =
                        s.exemplar.map_or(String::new(), |e| format!(" # {} {} @{}", e.labels, e.value, e.at.0));
                    out.push(format!("{labels} {}{at}{exemplar}", s.value));
                }
                Ok(Some(item)) => out.push(format!("{item:?}")),
                Err(e) => {
                    out.push(format!("error {e}"));
                    return out;
                }
            }
        }
    }

    #[test]
    fn text_format() {
        let text = "# HELP a_total Help \\n text\n# TYPE a_total counter\n\n# just a comment\n\
                    a_total{x=\"1\",y=\"a\\\"b}\\n\\\\\",} 1.5 1700000000000\na_total 3\n\
                    b { le = \"+Inf\" } +Inf\n{\"my.metric\", \"l.1\"=\"v\"} NaN\r\nc\t5\n";
        assert_eq!(
            run(text, Format::Text),
            [
                "Help { family: \"a_total\", text: \"Help \\n text\" }",
                "Kind { family: \"a_total\", kind: Counter }",
                "a_total{x=\"1\", y=\"a\\\"b}\\n\\\\\"} 1.5 @1700000000000",
                "a_total 3",
                "b{le=\"+Inf\"} inf",
                "{\"my.metric\", \"l.1\"=\"v\"} NaN",
                "c 5",
            ]
        );
    }

    #[test]
    fn openmetrics() {
        let text = "# TYPE a counter\n# UNIT a_s seconds\na_total 1 1700000000.25 # {trace_id=\"x\"} 0.5 1.5\na_created 5\n# EOF\n";
        assert_eq!(
            run(text, Format::OpenMetrics),
            [
                "Kind { family: \"a\", kind: Counter }",
                "Unit { family: \"a_s\", unit: \"seconds\" }",
                "a_total 1 @1700000000250 # {trace_id=\"x\"} 0.5 @1500",
                "a_created 5",
            ]
        );
    }

    #[test]
    fn faults_name_the_line() {
        let check = |text: &str, format, want: &str| {
            let got = run(text, format);
            assert!(got.last().is_some_and(|last| last.contains(want)), "{text}: {got:?}");
        };
        check("a 1\nb\n", Format::Text, "error line 2: `b` has no value");
        check("a x\n", Format::Text, "line 1: `x` is no number");
        check("a 1 x\n", Format::Text, "line 1: `x` is no timestamp");
        check("a 1 2 3\n", Format::Text, "`3` after the timestamp");
        check("a{b=\"c\" 1\n", Format::Text, "line 1");
        check("a{b=\"c 1\n", Format::Text, "line 1: a quote is not closed");
        check("# TYPE a foo\n", Format::Text, "`foo` is no type");
        check("a 1\n", Format::OpenMetrics, "line 1: the text does not end with `# EOF`");
        check("# EOF\na 1\n", Format::OpenMetrics, "line 2: text after");
        check("a 1 # {x=\"y\"} 1\n", Format::Text, "exemplars");
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[a-z{}=\"\\\\,#0-9 .\\n\u{e4}]{0,80}") {
            for format in [Format::Text, Format::OpenMetrics] {
                run(&text, format);
            }
        }
    }
}
