//! Line filters and label filters.

use weir_model::{MatchOp, Matcher};

use super::row::{PipelineError, Row};
use crate::ast::{LabelFilter, LineFilter, Needle};
use crate::units::parse_bytes;

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
        // Both sides are looked at: a value that cannot be read marks the row in any case.
        LabelFilter::And(a, b) => label_passes(a, row) & label_passes(b, row),
        LabelFilter::Or(a, b) => label_passes(a, row) || label_passes(b, row),
        LabelFilter::Text(matcher) => text_passes(matcher, row),
        LabelFilter::Number { name, op, value } => {
            quantity(row, name, |text| text.parse::<f64>().ok(), |got| op.holds(got, *value))
        }
        LabelFilter::Duration { name, op, value } => quantity(
            row,
            name,
            |text| weir_go::parse_go_duration(text).ok().map(|d| d as f64),
            |got| op.holds(got, *value as f64),
        ),
        LabelFilter::Bytes { name, op, value, .. } => quantity(row, name, parse_bytes, |got| op.holds(got, *value)),
        LabelFilter::Ip { name, negated, ip } => {
            row.error().is_some() || row.get(name).is_some_and(|text| ip.matches_line(text) != *negated)
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
    let Some(text) = row.get(name) else { return false };
    match read(text) {
        Some(value) => holds(value),
        None => {
            let details = format!("cannot convert `{text}` of label {name}");
            row.set_first_error(PipelineError::LabelFilter, &details);
            true
        }
    }
}
