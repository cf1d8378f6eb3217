//! Series with their values: `x{a="b"} 1 2+3x4 _ stale {{schema:1 count:3 sum:4 buckets:[1 2]}}`.

use std::sync::Arc;

use weir_model::histogram::ResetHint;
use weir_model::{FloatHistogram, Labels, MatchOp, STALE_NAN_BITS};

use crate::number::parse_number;
use crate::parse_selector;

#[derive(Clone, Debug)]
pub(super) struct SeriesLine {
    pub labels: Labels,
    /// One per step.
    pub values: Vec<Point>,
}

#[derive(Clone, Debug)]
pub(super) enum Point {
    Nothing,
    Float(f64),
    /// The flag says whether the hint was written down.
    Histogram(Arc<FloatHistogram>, bool),
}

/// Bound on `x100000`: a typing mistake shall not fill the memory.
const REPEAT_MAX: usize = 10_000_000;

pub(super) fn series_line(line: &str) -> Result<SeriesLine, String> {
    let end = series_end(line);
    Ok(SeriesLine { labels: labels(&line[..end])?, values: values(&line[end..])? })
}

fn series_end(line: &str) -> usize {
    let name = line.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(line.len());
    if !line[name..].starts_with('{') {
        return name;
    }
    let mut quote = None;
    let mut escaped = false;
    for (idx, c) in line[name..].char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(q) if c == q => quote = None,
            Some(q) => escaped = c == '\\' && q != '`',
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == '}' => return name + idx + 1,
            None => {}
        }
    }
    line.len()
}

fn labels(series: &str) -> Result<Labels, String> {
    if series.trim() == "{}" {
        return Ok(Labels::empty());
    }
    let matchers = parse_selector(series).map_err(|e| format!("`{series}` is no series: {e}"))?;
    if let Some(m) = matchers.iter().find(|m| m.op != MatchOp::Equal) {
        return Err(format!("`{series}` is no series: `{}` needs a value", m.name));
    }
    Ok(Labels::from_pairs(matchers.iter().map(|m| (m.name.as_str(), m.value.as_str()))))
}

/// Values between spaces; histograms hold spaces of their own.
fn words(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut end = 0;
        let mut depth = 0usize;
        while end < rest.len() {
            if rest[end..].starts_with("{{") {
                depth += 1;
                end += 2;
            } else if rest[end..].starts_with("}}") {
                depth = depth.saturating_sub(1);
                end += 2;
            } else if depth == 0 && rest[end..].starts_with(char::is_whitespace) {
                break;
            } else {
                end += rest[end..].chars().next().map_or(1, char::len_utf8);
            }
        }
        words.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    words
}

pub(super) fn values(text: &str) -> Result<Vec<Point>, String> {
    let mut out = Vec::new();
    for word in words(text) {
        if word.contains("{{") { histograms(word, &mut out)? } else { floats(word, &mut out)? }
    }
    Ok(out)
}

fn times(word: &str) -> Result<(&str, Option<usize>), String> {
    let Some((body, n)) = word.rsplit_once('x') else {
        return Ok((word, None));
    };
    match n.parse::<usize>() {
        Ok(n) if n <= REPEAT_MAX => Ok((body, Some(n))),
        _ => Err(format!("`{word}` is no value: `{n}` is no number of repetitions")),
    }
}

fn floats(word: &str, out: &mut Vec<Point>) -> Result<(), String> {
    let (body, n) = times(word)?;
    if body == "_" {
        out.extend(std::iter::repeat_n(Point::Nothing, n.unwrap_or(1)));
        return Ok(());
    }
    let bad = || format!("`{word}` is no value");
    // A sign that is neither the first character nor an exponent's begins the increment.
    let signs =
        body.char_indices().skip(1).filter(|(at, c)| matches!(c, '+' | '-') && !(body[..*at].ends_with(['e', 'E'])));
    match (signs.last(), n) {
        (Some((at, _)), Some(n)) => {
            let (mut value, step) = (number(&body[..at]).ok_or_else(bad)?, number(&body[at..]).ok_or_else(bad)?);
            for _ in 0..=n {
                out.push(Point::Float(value));
                value += step;
            }
        }
        (_, n) => {
            let value = number(body).ok_or_else(bad)?;
            out.extend(std::iter::repeat_n(Point::Float(value), n.unwrap_or(0) + 1));
        }
    }
    Ok(())
}

pub(super) fn number(text: &str) -> Option<f64> {
    let (negative, plain) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let value = match plain.to_ascii_lowercase().as_str() {
        "stale" => return Some(f64::from_bits(STALE_NAN_BITS)),
        "inf" => f64::INFINITY,
        "nan" => f64::NAN,
        _ => parse_number(plain)?,
    };
    Some(if negative { -value } else { value })
}

fn histograms(word: &str, out: &mut Vec<Point>) -> Result<(), String> {
    let bad = || format!("`{word}` is no histogram");
    let end = word.find("}}").ok_or_else(bad)? + 2;
    let (first, hinted) = histogram(&word[..end])?;
    let rest = &word[end..];
    let point = |h: &FloatHistogram| Point::Histogram(Arc::new(h.clone()), hinted);
    if rest.is_empty() {
        out.push(point(&first));
        return Ok(());
    }
    if let Some(n) = rest.strip_prefix('x') {
        let n = n.parse::<usize>().ok().filter(|n| *n <= REPEAT_MAX).ok_or_else(bad)?;
        out.extend(std::iter::repeat_n(point(&first), n + 1));
        return Ok(());
    }
    let (sign, rest) = rest.split_at_checked(1).ok_or_else(bad)?;
    let end = rest.find("}}").ok_or_else(bad)? + 2;
    let (step, _) = histogram(&rest[..end])?;
    let n = rest[end..].strip_prefix('x').and_then(|n| n.parse::<usize>().ok()).filter(|n| *n <= REPEAT_MAX);
    let mut value = first;
    for k in 0..=n.ok_or_else(bad)? {
        if k > 0 {
            let hint = value.hint;
            let done = match sign {
                "+" => value.add(&step),
                "-" => value.subtract(&step),
                _ => return Err(bad()),
            };
            done.map_err(|e| format!("`{word}`: {e}"))?;
            value.hint = hint;
        }
        out.push(point(&value));
    }
    Ok(())
}

/// `{{schema:1 sum:3 count:22 z_bucket:1 buckets:[5 10 7] n_buckets:[1] offset:-1}}`; answers
/// whether the hint was written down.
fn histogram(text: &str) -> Result<(FloatHistogram, bool), String> {
    let bad = |what: &str| format!("`{text}`: `{what}` is no part of a histogram");
    let inner = text.trim_start_matches("{{").trim_end_matches("}}").trim();
    let mut h = FloatHistogram::<f64>::default();
    let (mut positive, mut negative) = ((0i32, Vec::new()), (0i32, Vec::new()));
    let mut hinted = false;
    let mut rest = inner;
    while !rest.is_empty() {
        let (key, after) = rest.split_once(':').ok_or_else(|| bad(rest))?;
        let (value, after) = match after.strip_prefix('[') {
            Some(list) => list.split_once(']').ok_or_else(|| bad(after))?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        let one = || number(value).ok_or_else(|| bad(value));
        let index = || value.parse::<i32>().map_err(|_| bad(value));
        let list = || value.split_whitespace().map(|v| number(v).ok_or_else(|| bad(v))).collect::<Result<Vec<_>, _>>();
        match key.trim() {
            "schema" => h.schema = index()?,
            "sum" => h.sum = one()?,
            "count" => h.count = one()?,
            "z_bucket" => h.zero_count = one()?,
            "z_bucket_w" => h.zero_threshold = one()?,
            "custom_values" => h.custom_bounds = list()?.into(),
            "buckets" => positive.1 = list()?,
            "offset" => positive.0 = index()?,
            "n_buckets" => negative.1 = list()?,
            "n_offset" => negative.0 = index()?,
            "counter_reset_hint" => {
                hinted = true;
                h.hint = match value {
                    "unknown" => ResetHint::Unknown,
                    "reset" => ResetHint::Reset,
                    "not_reset" => ResetHint::NotReset,
                    "gauge" => ResetHint::Gauge,
                    other => return Err(bad(other)),
                };
            }
            other => return Err(bad(other)),
        }
        rest = after.trim_start();
    }
    let pairs = |(offset, counts): (i32, Vec<f64>)| {
        counts.into_iter().enumerate().map(|(k, n)| (offset.saturating_add(k as i32), n)).collect()
    };
    (h.positive, h.negative) = (pairs(positive), pairs(negative));
    Ok((h, hinted))
}
