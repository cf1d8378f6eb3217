//! The time that a budget is for.

use std::time::Duration;

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use weir_model::Timestamp;

#[derive(Clone, Debug, PartialEq)]
pub enum Period {
    Rolling(Duration),
    Calendar { every: Every, zone: TimeZone },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    Week,
    Month,
    Quarter,
    Year,
}

impl Period {
    /// `30d`, or `week`, `month`, `quarter` or `year` in a time zone, UTC when it is empty.
    pub fn parse(text: &str, zone: &str) -> Result<Self, String> {
        let every = match text {
            "week" => Every::Week,
            "month" => Every::Month,
            "quarter" => Every::Quarter,
            "year" => Every::Year,
            _ if !zone.is_empty() => return Err(format!("a rolling window of `{text}` has no time zone")),
            _ => {
                let length = weir_go::parse_prometheus_duration(text)
                    .map_err(|e| format!("`{text}` is neither week, month, quarter, year nor a duration: {e}"))?;
                if length < Duration::from_secs(86_400) || length > Duration::from_secs(366 * 86_400) {
                    return Err(format!("a window of `{text}`: give one from 1d to 366d"));
                }
                return Ok(Self::Rolling(length));
            }
        };
        let zone = match zone {
            "" => TimeZone::UTC,
            name => TimeZone::get(name).map_err(|e| format!("time zone `{name}`: {e}"))?,
        };
        Ok(Self::Calendar { every, zone })
    }

    /// The one that burn rates are reckoned with: of a calendar's the usual length.
    pub fn length(&self) -> Duration {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        match self {
            Self::Rolling(length) => *length,
            Self::Calendar { every: Every::Week, .. } => days(7),
            Self::Calendar { every: Every::Month, .. } => days(30),
            Self::Calendar { every: Every::Quarter, .. } => days(90),
            Self::Calendar { every: Every::Year, .. } => days(365),
        }
    }

    /// Start and end of the period that `now` lies in; a rolling one ends now.
    pub fn bounds(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        match self {
            Self::Rolling(length) => (now.minus(*length), now),
            Self::Calendar { every, zone } => calendar(*every, zone, now).unwrap_or((now.minus(self.length()), now)),
        }
    }
}

/// `None` outside the calendar's years.
fn calendar(every: Every, zone: &TimeZone, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let today = jiff::Timestamp::from_millisecond(now.0).ok()?.to_zoned(zone.clone()).date();
    let first = |year: i16, month: i8| Date::new(year, month, 1).ok();
    let (start, length) = match every {
        Every::Week => {
            let since_monday = i64::from(today.weekday().to_monday_zero_offset());
            (today.checked_sub(since_monday.days()).ok()?, 1.week())
        }
        Every::Month => (first(today.year(), today.month())?, 1.month()),
        Every::Quarter => (first(today.year(), (today.month() - 1) / 3 * 3 + 1)?, 3.months()),
        Every::Year => (first(today.year(), 1)?, 1.year()),
    };
    let midnight = |day: Date| Some(Timestamp(day.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond()));
    Some((midnight(start)?, midnight(start.checked_add(length).ok()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calendars_begin_at_midnight_of_their_zone() {
        let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
        let check = |text: &str, zone: &str, now: &str, want: [&str; 2]| {
            let (start, end) = Period::parse(text, zone).unwrap().bounds(at(now));
            assert_eq!((start, end), (at(want[0]), at(want[1])), "{text} {zone} {now}");
        };
        check("month", "", "2026-02-10T12:00:00Z", ["2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"]);
        check("week", "", "2026-11-22T23:59:59Z", ["2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"]);
        check("quarter", "", "2026-12-31T00:00:00Z", ["2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"]);
        check("year", "", "2026-12-31T00:00:00Z", ["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"]);
        // A month with the clocks put forward, and one whose first evening is still the last month in UTC.
        check("month", "Europe/Berlin", "2026-03-31T22:30:00Z", ["2026-03-31T22:00:00Z", "2026-04-30T22:00:00Z"]);
        check("month", "Europe/Berlin", "2026-03-15T00:00:00Z", ["2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"]);
        check("30d", "", "2026-01-31T00:00:00Z", ["2026-01-01T00:00:00Z", "2026-01-31T00:00:00Z"]);
    }

    #[test]
    fn what_is_no_period_is_refused() {
        let check = |text: &str, zone: &str, want: &str| {
            let got = Period::parse(text, zone).unwrap_err();
            assert!(got.contains(want), "{got}");
        };
        check("fortnight", "", "`fortnight` is neither");
        check("5m", "", "from 1d to 366d");
        check("month", "Mars/Olympus", "Mars/Olympus");
        check("30d", "UTC", "has no time zone");
    }
}
