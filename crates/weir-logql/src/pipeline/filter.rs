//! Line filters and label filters.

use std::net::IpAddr;
use std::str::FromStr;

use weir_model::{MatchOp, Matcher};

use super::row::{PipelineError, Row};
use crate::ast::{LabelFilter, LineFilter, Needle};
use crate::units::{parse_bytes, parse_duration};

pub(crate) fn line_passes(filter: &LineFilter, line: &str) -> bool {
    let hit = filter.needles.iter().any(|needle| match needle {
        Needle::Text(text) => memchr::memmem::find(line.as_bytes(), text.as_bytes()).is_some(),
        Needle::Regex(regex) => regex.is_match(line),
        Needle::Pattern(pattern) => pattern.matches(line),
        Needle::Ip(ip) => ip.matches_line(line),
    });
    hit != filter.op.is_negative()
}

/// Whether the row stays. A value that cannot be read as the filter wants it marks the row with
/// an error, and the row stays.
pub(crate) fn label_passes(filter: &LabelFilter, row: &mut Row<'_>) -> bool {
    match filter {
        LabelFilter::And(a, b) => label_passes(a, row) && label_passes(b, row),
        LabelFilter::Or(a, b) => label_passes(a, row) || label_passes(b, row),
        LabelFilter::Text(matcher) => text_passes(matcher, row),
        LabelFilter::Number { name, op, value } => {
            quantity(row, name, |text| text.trim().parse::<f64>().ok(), |got| op.holds(got, *value))
        }
        LabelFilter::Duration { name, op, value } => {
            quantity(row, name, |text| parse_duration(text).map(|d| d as f64), |got| op.holds(got, *value as f64))
        }
        LabelFilter::Bytes { name, op, value, .. } => quantity(row, name, parse_bytes, |got| op.holds(got, *value)),
        LabelFilter::Ip { name, negated, ip } => {
            quantity(row, name, |text| IpAddr::from_str(text).ok(), |address| ip.contains(address) != *negated)
        }
    }
}

fn text_passes(matcher: &Matcher, row: &Row<'_>) -> bool {
    match row.get(&matcher.name) {
        Some(value) => matcher.matches(value),
        // An absent label is the empty string.
        None => match matcher.op {
            MatchOp::Equal => matcher.value.is_empty(),
            MatchOp::NotEqual => !matcher.value.is_empty(),
            MatchOp::Regex | MatchOp::NotRegex => matcher.matches_empty(),
        },
    }
}

fn quantity<T>(row: &mut Row<'_>, name: &str, read: impl Fn(&str) -> Option<T>, holds: impl Fn(T) -> bool) -> bool {
    if row.error().is_some() {
        return true;
    }
    let Some(text) = row.get(name) else { return false };
    match read(text) {
        Some(value) => holds(value),
        None => {
            let details = format!("cannot convert `{text}` of label {name}");
            row.set_error(PipelineError::LabelFilter, details);
            true
        }
    }
}
