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
        LabelFilter::Text(_) => judge(filter, row.get(filter_name(filter))) == Verdict::Pass,
        LabelFilter::Ip { .. } if row.error().is_some() => true,
        _ => {
            let name = filter_name(filter);
            let verdict = judge(filter, row.get(name));
            if verdict == Verdict::Unreadable {
                let details = format!("cannot convert `{}` of label {name}", row.get(name).unwrap_or_default());
                row.set_first_error(PipelineError::LabelFilter, &details);
            }
            verdict != Verdict::Fail
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fail,
    Pass,
    /// The value is not what the filter compares: the row stays, marked with an error.
    Unreadable,
}

impl From<bool> for Verdict {
    fn from(passes: bool) -> Self {
        if passes { Self::Pass } else { Self::Fail }
    }
}

/// The label that a filter which is neither `and` nor `or` looks at.
pub(crate) fn filter_name(filter: &LabelFilter) -> &str {
    match filter {
        LabelFilter::And(..) | LabelFilter::Or(..) => "",
        LabelFilter::Text(matcher) => &matcher.name,
        LabelFilter::Number { name, .. }
        | LabelFilter::Duration { name, .. }
        | LabelFilter::Bytes { name, .. }
        | LabelFilter::Ip { name, .. } => name,
    }
}

/// What a filter that is neither `and` nor `or` says of a value, `None` where there is no such label.
pub(crate) fn judge(filter: &LabelFilter, value: Option<&str>) -> Verdict {
    let measured = |holds: Option<bool>| holds.map_or(Verdict::Unreadable, Verdict::from);
    let Some(text) = value else {
        return match filter {
            LabelFilter::Text(matcher) => lacks(matcher).into(),
            _ => Verdict::Fail,
        };
    };
    match filter {
        LabelFilter::And(..) | LabelFilter::Or(..) => Verdict::Fail,
        LabelFilter::Text(matcher) => matcher.matches(text).into(),
        LabelFilter::Number { op, value, .. } => measured(text.parse::<f64>().ok().map(|got| op.holds(got, *value))),
        LabelFilter::Duration { op, value, .. } => {
            measured(weir_go::parse_go_duration(text).ok().map(|got| op.holds(got as f64, *value as f64)))
        }
        LabelFilter::Bytes { op, value, .. } => measured(parse_bytes(text).map(|got| op.holds(got, *value))),
        LabelFilter::Ip { negated, ip, .. } => (ip.matches_line(text) != *negated).into(),
    }
}

/// An absent label is the empty string.
fn lacks(matcher: &Matcher) -> bool {
    match matcher.op {
        MatchOp::Equal => matcher.value.is_empty(),
        MatchOp::NotEqual => !matcher.value.is_empty(),
        MatchOp::Regex | MatchOp::NotRegex => matcher.matches_empty(),
    }
}
