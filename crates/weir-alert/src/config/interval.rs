//! Time intervals: when a route is muted, or the only time that it is active.
//!
//! Source: Alertmanager `timeinterval/timeinterval.go`.

use std::ops::RangeInclusive;

use jiff::tz::TimeZone;
use serde::Deserialize;
use weir_model::Timestamp;

/// Alternatives under one name.
#[derive(Clone, Debug)]
pub struct TimeInterval {
    pub name: String,
    pub alternatives: Vec<Alternative>,
}

impl TimeInterval {
    pub fn contains(&self, at: Timestamp) -> bool {
        self.alternatives.iter().any(|a| a.contains(at))
    }
}

/// All that is given must hold; an empty list holds always.
#[derive(Clone, Debug)]
pub struct Alternative {
    /// Minutes of the day; the end is not part of it.
    minutes: Vec<(u32, u32)>,
    /// 0 is Sunday.
    weekdays: Vec<RangeInclusive<i32>>,
    /// Negative counts from the month's end.
    days_of_month: Vec<RangeInclusive<i32>>,
    months: Vec<RangeInclusive<i32>>,
    years: Vec<RangeInclusive<i32>>,
    zone: TimeZone,
}

impl Alternative {
    fn contains(&self, at: Timestamp) -> bool {
        let Ok(at) = jiff::Timestamp::from_millisecond(at.0) else { return false };
        let at = at.to_zoned(self.zone.clone());
        let minute = at.hour().unsigned_abs() as u32 * 60 + at.minute().unsigned_abs() as u32;
        let holds =
            |ranges: &[RangeInclusive<i32>], value: i32| ranges.is_empty() || ranges.iter().any(|r| r.contains(&value));
        let (day, last) = (i32::from(at.day()), i32::from(at.days_in_month()));
        (self.minutes.is_empty() || self.minutes.iter().any(|(start, end)| (*start..*end).contains(&minute)))
            && holds(&self.weekdays, i32::from(at.weekday().to_sunday_zero_offset()))
            && (self.days_of_month.is_empty() || self.days_of_month.iter().any(|r| day_within(r, day, last)))
            && holds(&self.months, i32::from(at.month()))
            && holds(&self.years, i32::from(at.year()))
    }
}

fn day_within(range: &RangeInclusive<i32>, day: i32, last: i32) -> bool {
    let absolute = |d: i32| if d < 0 { last + d + 1 } else { d };
    (absolute(*range.start())..=absolute(*range.end()).min(last)).contains(&day)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTimeInterval {
    pub name: String,
    #[serde(default)]
    time_intervals: Vec<RawAlternative>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RawAlternative {
    times: Vec<RawTimes>,
    weekdays: Vec<String>,
    days_of_month: Vec<String>,
    months: Vec<String>,
    years: Vec<String>,
    location: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTimes {
    start_time: String,
    end_time: String,
}

const WEEKDAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

impl RawTimeInterval {
    pub fn check(&self) -> Result<TimeInterval, String> {
        if self.name.is_empty() {
            return Err("missing name in time interval".to_owned());
        }
        let alternatives = self.time_intervals.iter().map(RawAlternative::check).collect::<Result<_, _>>();
        let alternatives = alternatives.map_err(|e| format!("time interval {:?}: {e}", self.name))?;
        Ok(TimeInterval { name: self.name.clone(), alternatives })
    }
}

impl RawAlternative {
    fn check(&self) -> Result<Alternative, String> {
        let zone = match self.location.as_deref() {
            None | Some("" | "UTC") => TimeZone::UTC,
            Some("Local") => TimeZone::system(),
            Some(name) => TimeZone::get(name).map_err(|e| format!("location {name:?} is not known: {e}"))?,
        };
        let all = |texts: &[String], read: &dyn Fn(&str) -> Result<RangeInclusive<i32>, String>| {
            texts.iter().map(|t| read(&t.trim().to_lowercase())).collect::<Result<Vec<_>, _>>()
        };
        Ok(Alternative {
            minutes: self.times.iter().map(minutes).collect::<Result<_, _>>()?,
            weekdays: all(&self.weekdays, &|t| {
                range(t, |d| {
                    let found = WEEKDAYS.iter().position(|w| *w == d);
                    found.map(|i| i as i32).ok_or_else(|| format!("{d} is not a valid weekday"))
                })
            })?,
            days_of_month: all(&self.days_of_month, &days)?,
            months: all(&self.months, &|t| {
                range(t, |m| {
                    let named = MONTHS.iter().position(|n| *n == m).map(|i| i as i32 + 1);
                    let number = named.or_else(|| m.parse().ok());
                    number.filter(|n| (1..=12).contains(n)).ok_or_else(|| format!("{m} is not a valid month"))
                })
            })?,
            years: all(&self.years, &|t| range(t, number))?,
            zone,
        })
    }
}

fn number(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

/// `a` or `a:b`.
fn range(text: &str, read: impl Fn(&str) -> Result<i32, String>) -> Result<RangeInclusive<i32>, String> {
    let (start, end) = text.split_once(':').unwrap_or((text, text));
    let (start, end) = (read(start.trim())?, read(end.trim())?);
    if start > end {
        return Err(format!("{text:?}: the start cannot be after the end"));
    }
    Ok(start..=end)
}

fn days(text: &str) -> Result<RangeInclusive<i32>, String> {
    let (start, end) = text.split_once(':').unwrap_or((text, text));
    let (start, end) = (number(start.trim())?, number(end.trim())?);
    for day in [start, end] {
        if day == 0 || !(-31..=31).contains(&day) {
            return Err(format!("{day} is not a valid day of the month: out of range"));
        }
    }
    if start < 0 && end > 0 {
        return Err(format!("{text:?}: the end day must be negative if the start day is negative"));
    }
    // A month of 31 days decides; in shorter ones the range may be empty.
    let absolute = |d: i32| if d < 0 { 31 + d + 1 } else { d };
    if absolute(start) > absolute(end) {
        return Err(format!("{text:?}: the end day is always before the start day"));
    }
    Ok(start..=end)
}

fn minutes(times: &RawTimes) -> Result<(u32, u32), String> {
    let read = |text: &str| {
        let fail = || format!("{text:?} is not a time of day such as 09:30");
        let (h, m) = text.split_once(':').ok_or_else(fail)?;
        let (hour, minute): (u32, u32) = (h.parse().map_err(|_| fail())?, m.parse().map_err(|_| fail())?);
        let valid = h.len() == 2 && m.len() == 2 && minute < 60 && (hour < 24 || (hour == 24 && minute == 0));
        if valid { Ok(hour * 60 + minute) } else { Err(fail()) }
    };
    let (start, end) = (read(&times.start_time)?, read(&times.end_time)?);
    if start >= end {
        return Err("start time cannot be equal or greater than end time".to_owned());
    }
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(body: &str) -> Result<TimeInterval, String> {
        let text = format!("name: n\ntime_intervals: [{{{body}}}]");
        serde_saphyr::from_str::<RawTimeInterval>(&text).map_err(|e| e.to_string())?.check()
    }

    #[test]
    fn times_are_inside_or_outside() {
        let check = |body: &str, at: &str, want: bool| {
            let at: jiff::Timestamp = at.parse().unwrap();
            assert_eq!(interval(body).unwrap().contains(Timestamp(at.as_millisecond())), want, "{body} {at}");
        };
        let hours = "times: [{start_time: '09:00', end_time: '17:00'}]";
        check(hours, "2026-03-04T09:00:00Z", true);
        check(hours, "2026-03-04T16:59:59Z", true);
        check(hours, "2026-03-04T17:00:00Z", false);
        check("times: [{start_time: '23:00', end_time: '24:00'}]", "2026-03-04T23:59:59Z", true);
        // 4 March 2026 is a Wednesday.
        check("weekdays: ['monday:friday']", "2026-03-04T00:00:00Z", true);
        check("weekdays: ['saturday', 'sunday']", "2026-03-04T00:00:00Z", false);
        check("weekdays: ['saturday', 'Sunday']", "2026-03-01T00:00:00Z", true);
        check("days_of_month: ['1:5']", "2026-03-04T00:00:00Z", true);
        check("days_of_month: ['-3:-1']", "2026-02-26T00:00:00Z", true);
        check("days_of_month: ['-3:-1']", "2026-02-25T23:59:59Z", false);
        check("days_of_month: ['30:31']", "2026-02-28T00:00:00Z", false);
        check("months: ['1:3', december]", "2026-12-04T00:00:00Z", true);
        check("months: ['january:march']", "2026-04-01T00:00:00Z", false);
        check("years: ['2026:2027']", "2028-01-01T00:00:00Z", false);
        check("years: ['2026'], weekdays: [monday]", "2026-03-04T00:00:00Z", false);
        // Nine in Berlin is eight in UTC in winter, seven in summer; the night of the change has both.
        let berlin = "location: Europe/Berlin, times: [{start_time: '09:00', end_time: '10:00'}]";
        check(berlin, "2026-03-28T08:00:00Z", true);
        check(berlin, "2026-03-29T08:00:00Z", false);
        check(berlin, "2026-03-29T07:00:00Z", true);
        check("location: Australia/Sydney, weekdays: [thursday]", "2026-03-04T20:00:00Z", true);
        check("", "2026-03-04T20:00:00Z", true);
    }

    #[test]
    fn mistakes_are_named() {
        let check = |body: &str, want: &str| {
            let got = interval(body).unwrap_err();
            assert!(got.contains(want), "{body}: {got}");
        };
        check("times: [{start_time: '17:00', end_time: '09:00'}]", "start time cannot be equal or greater");
        check("times: [{start_time: '9:00', end_time: '24:01'}]", "not a time of day");
        check("weekdays: ['friday:monday']", "start cannot be after the end");
        check("weekdays: [mon]", "mon is not a valid weekday");
        check("days_of_month: ['0']", "not a valid day of the month");
        check("days_of_month: ['-3:5']", "must be negative");
        check("months: ['13']", "not a valid month");
        check("location: Mars/Base", "not known");
        check("hours: []", "hours");
    }
}
