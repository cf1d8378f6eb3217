//! `timestamp`: the time that a line names.

use jiff::Zoned;
use jiff::tz::TimeZone;
use serde::Deserialize;
use weir_model::Nanos;

use super::required;
use crate::logs::entry::Entry;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimestampFile {
    source: Option<String>,
    format: Option<String>,
    #[serde(default)]
    fallback_formats: Vec<String>,
    location: Option<String>,
    action_on_failure: Option<String>,
}

#[derive(Debug)]
pub struct Timestamp {
    source: String,
    formats: Vec<Format>,
    zone: TimeZone,
    on_failure: OnFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnFailure {
    /// A nanosecond after the last time that could be read.
    Fudge,
    /// The time at which the line was read stays.
    Skip,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Digits behind the seconds' decimal point; seconds may have a fraction.
    Unix(u32),
    /// Go's reference time as it would be written.
    Layout { layout: String, has_year: bool },
}

impl Format {
    pub fn parse(text: &str) -> Self {
        let layout = match text {
            "Unix" => return Self::Unix(0),
            "UnixMs" => return Self::Unix(3),
            "UnixUs" => return Self::Unix(6),
            "UnixNs" => return Self::Unix(9),
            "ANSIC" => "Mon Jan _2 15:04:05 2006",
            "UnixDate" => "Mon Jan _2 15:04:05 MST 2006",
            "RubyDate" => "Mon Jan 02 15:04:05 -0700 2006",
            "RFC822" => "02 Jan 06 15:04 MST",
            "RFC822Z" => "02 Jan 06 15:04 -0700",
            "RFC850" => "Monday, 02-Jan-06 15:04:05 MST",
            "RFC1123" => "Mon, 02 Jan 2006 15:04:05 MST",
            "RFC1123Z" => "Mon, 02 Jan 2006 15:04:05 -0700",
            "RFC3339" => "2006-01-02T15:04:05Z07:00",
            "RFC3339Nano" => "2006-01-02T15:04:05.999999999Z07:00",
            other => other,
        };
        Self::Layout { layout: layout.to_owned(), has_year: layout.contains("06") }
    }

    pub fn read(&self, text: &str, zone: &TimeZone, now: Nanos) -> Option<Nanos> {
        match self {
            Self::Unix(0) if text.contains('.') => {
                let (secs, fraction) = text.split_once('.')?;
                let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
                let is_number = !fraction.is_empty() && fraction.bytes().all(|b| b.is_ascii_digit());
                let nanos: i64 = digits.parse().ok().filter(|_| is_number)?;
                secs.parse::<i64>().ok()?.checked_mul(1_000_000_000)?.checked_add(nanos).map(Nanos)
            }
            Self::Unix(digits) => text.parse::<i64>().ok()?.checked_mul(10_i64.pow(9 - digits)).map(Nanos),
            Self::Layout { layout, has_year } => {
                let time = weir_go::time::parse_layout(layout, text, zone)?;
                let time = if *has_year { time } else { with_year(&time, now)? };
                i64::try_from(time.timestamp().as_nanosecond()).ok().map(Nanos)
            }
        }
    }
}

/// A time without a year is the one near to now: around New Year, of the year before or after.
fn with_year(time: &Zoned, now: Nanos) -> Option<Zoned> {
    if time.year() != 0 {
        return None;
    }
    let now = jiff::Timestamp::from_nanosecond(now.0.into()).ok()?.to_zoned(time.time_zone().clone());
    let year = match (time.month(), now.month()) {
        (12, 1) => now.year() - 1,
        (1, 12) => now.year() + 1,
        _ => now.year(),
    };
    time.with().year(year).build().ok()
}

impl TimestampFile {
    pub fn check(self) -> Result<Timestamp, String> {
        let format = required("format", self.format)?;
        let zone = match self.location.as_deref() {
            None | Some("" | "UTC") => TimeZone::UTC,
            Some(name) => {
                TimeZone::get(name).map_err(|_| format!("location `{name}` is no time zone, such as Europe/Berlin"))?
            }
        };
        let on_failure = match self.action_on_failure.as_deref() {
            None | Some("fudge") => OnFailure::Fudge,
            Some("skip") => OnFailure::Skip,
            Some(other) => return Err(format!("action_on_failure `{other}`; use fudge or skip")),
        };
        Ok(Timestamp {
            source: required("source", self.source)?,
            formats: std::iter::once(&format).chain(&self.fallback_formats).map(|f| Format::parse(f)).collect(),
            zone,
            on_failure,
        })
    }
}

impl Timestamp {
    pub fn run(&self, entry: &mut Entry, last: &mut Option<Nanos>, now: Nanos) {
        let text = entry.text(&self.source);
        let found = text.and_then(|text| self.formats.iter().find_map(|format| format.read(&text, &self.zone, now)));
        match (found, self.on_failure, *last) {
            (Some(at), ..) => entry.at = at,
            (None, OnFailure::Fudge, Some(last)) => entry.at = Nanos(last.0.saturating_add(1)),
            _ => return,
        }
        *last = Some(entry.at);
    }
}
