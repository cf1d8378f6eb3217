//! Go's time layouts: a time written as the reference time `Mon Jan 2 15:04:05 MST 2006` would be,
//! and read back the same way; and the `time.Time` that templates hold.
//!
//! Source: Go package `time`, documentation of `Layout`, `Format` and `Parse`.

use std::any::Any;
use std::fmt::Write as _;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, Zoned};

use crate::template::{Object, Value};

/// One element of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Year,
    YearOfCentury,
    Month,
    MonthPadded,
    MonthShort,
    MonthLong,
    Day,
    DayPadded,
    DaySpaced,
    DayOfYear,
    DayOfYearSpaced,
    WeekdayShort,
    WeekdayLong,
    Hour,
    Hour12,
    Hour12Padded,
    Minute,
    MinutePadded,
    Second,
    SecondPadded,
    /// Separator, count of digits, and whether trailing zeros are dropped.
    Fraction(char, usize, bool),
    Half(bool),
    Zone,
    /// `Z` for UTC where the first is set; colons; how many of hours, minutes, seconds.
    Offset {
        z: bool,
        colons: bool,
        fields: u8,
    },
}

/// Longest spelling first, so that `January` is not read as `Jan`.
const PARTS: &[(&str, Part<'static>)] = &[
    ("January", Part::MonthLong),
    ("Jan", Part::MonthShort),
    ("Monday", Part::WeekdayLong),
    ("Mon", Part::WeekdayShort),
    ("MST", Part::Zone),
    ("2006", Part::Year),
    ("__2", Part::DayOfYearSpaced),
    ("002", Part::DayOfYear),
    ("_2", Part::DaySpaced),
    ("01", Part::MonthPadded),
    ("02", Part::DayPadded),
    ("03", Part::Hour12Padded),
    ("04", Part::MinutePadded),
    ("05", Part::SecondPadded),
    ("06", Part::YearOfCentury),
    ("15", Part::Hour),
    ("1", Part::Month),
    ("2", Part::Day),
    ("3", Part::Hour12),
    ("4", Part::Minute),
    ("5", Part::Second),
    ("PM", Part::Half(true)),
    ("pm", Part::Half(false)),
    ("Z07:00:00", Part::Offset { z: true, colons: true, fields: 3 }),
    ("Z070000", Part::Offset { z: true, colons: false, fields: 3 }),
    ("Z07:00", Part::Offset { z: true, colons: true, fields: 2 }),
    ("Z0700", Part::Offset { z: true, colons: false, fields: 2 }),
    ("Z07", Part::Offset { z: true, colons: false, fields: 1 }),
    ("-07:00:00", Part::Offset { z: false, colons: true, fields: 3 }),
    ("-070000", Part::Offset { z: false, colons: false, fields: 3 }),
    ("-07:00", Part::Offset { z: false, colons: true, fields: 2 }),
    ("-0700", Part::Offset { z: false, colons: false, fields: 2 }),
    ("-07", Part::Offset { z: false, colons: false, fields: 1 }),
];

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

fn parts(layout: &str) -> Vec<Part<'_>> {
    let mut out = Vec::new();
    let (mut text_from, mut at) = (0, 0);
    while at < layout.len() {
        let rest = &layout[at..];
        let found = fraction(rest).or_else(|| named(rest));
        let Some((part, len)) = found else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        if text_from < at {
            out.push(Part::Text(&layout[text_from..at]));
        }
        out.push(part);
        at += len;
        text_from = at;
    }
    if text_from < layout.len() {
        out.push(Part::Text(&layout[text_from..]));
    }
    out
}

fn named(rest: &str) -> Option<(Part<'static>, usize)> {
    // `_2006` is an underscore and a year.
    if rest.starts_with("_2006") {
        return None;
    }
    let (name, part) = PARTS.iter().find(|(name, _)| rest.starts_with(name))?;
    // `Janet` and `Month` are words, not months and weekdays.
    let cut_word = matches!(part, Part::MonthShort | Part::WeekdayShort)
        && rest[name.len()..].starts_with(|c: char| c.is_ascii_lowercase());
    (!cut_word).then_some((*part, name.len()))
}

/// `.000` or `,999`, not followed by another digit.
fn fraction(rest: &str) -> Option<(Part<'static>, usize)> {
    let separator = rest.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let digit = rest[1..].chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let n = rest[1..].chars().take_while(|c| *c == digit).count();
    let followed = rest[1 + n..].starts_with(|c: char| c.is_ascii_digit());
    (!followed && n <= 9).then_some((Part::Fraction(separator, n, digit == '9'), 1 + n))
}

/// The time as the layout shows it.
pub fn format_layout(time: &Zoned, layout: &str) -> String {
    let mut out = String::with_capacity(layout.len() + 8);
    for part in parts(layout) {
        // Writing to a string does not fail.
        let _ = write_part(&mut out, time, part);
    }
    out
}

fn write_part(out: &mut String, time: &Zoned, part: Part<'_>) -> std::fmt::Result {
    let month = MONTHS[time.month() as usize - 1];
    let weekday = WEEKDAYS[time.weekday().to_monday_zero_offset() as usize];
    let hour12 = match time.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    match part {
        Part::Text(text) => out.write_str(text),
        Part::Year => write!(out, "{:04}", time.year()),
        Part::YearOfCentury => write!(out, "{:02}", time.year().rem_euclid(100)),
        Part::Month => write!(out, "{}", time.month()),
        Part::MonthPadded => write!(out, "{:02}", time.month()),
        Part::MonthShort => out.write_str(&month[..3]),
        Part::MonthLong => out.write_str(month),
        Part::Day => write!(out, "{}", time.day()),
        Part::DayPadded => write!(out, "{:02}", time.day()),
        Part::DaySpaced => write!(out, "{:2}", time.day()),
        Part::DayOfYear => write!(out, "{:03}", time.day_of_year()),
        Part::DayOfYearSpaced => write!(out, "{:3}", time.day_of_year()),
        Part::WeekdayShort => out.write_str(&weekday[..3]),
        Part::WeekdayLong => out.write_str(weekday),
        Part::Hour => write!(out, "{:02}", time.hour()),
        Part::Hour12 => write!(out, "{hour12}"),
        Part::Hour12Padded => write!(out, "{hour12:02}"),
        Part::Minute => write!(out, "{}", time.minute()),
        Part::MinutePadded => write!(out, "{:02}", time.minute()),
        Part::Second => write!(out, "{}", time.second()),
        Part::SecondPadded => write!(out, "{:02}", time.second()),
        Part::Fraction(separator, n, trims) => {
            let digits = format!("{:09}", time.subsec_nanosecond());
            let shown = if trims { digits[..n].trim_end_matches('0') } else { &digits[..n] };
            if shown.is_empty() { Ok(()) } else { write!(out, "{separator}{shown}") }
        }
        Part::Half(upper) => out.write_str(match (time.hour() >= 12, upper) {
            (true, true) => "PM",
            (true, false) => "pm",
            (false, true) => "AM",
            (false, false) => "am",
        }),
        Part::Zone => {
            let info = time.time_zone().to_offset_info(time.timestamp());
            let name = info.abbreviation();
            // A zone without a name is shown by its offset.
            if name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                out.write_str(name)
            } else {
                write_offset(out, time.offset(), false, if time.offset().seconds() % 3600 == 0 { 1 } else { 2 })
            }
        }
        Part::Offset { z: true, .. } if time.offset().is_zero() => out.write_str("Z"),
        Part::Offset { colons, fields, .. } => write_offset(out, time.offset(), colons, fields),
    }
}

fn write_offset(out: &mut String, offset: Offset, colons: bool, fields: u8) -> std::fmt::Result {
    let seconds = offset.seconds();
    let (sign, total) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    write!(out, "{sign}{:02}", total / 3600)?;
    let colon = if colons { ":" } else { "" };
    if fields > 1 {
        write!(out, "{colon}{:02}", total / 60 % 60)?;
    }
    if fields > 2 {
        write!(out, "{colon}{:02}", total % 60)?;
    }
    Ok(())
}

/// What a text says about a time, piece by piece.
struct Fields {
    year: i16,
    month: i8,
    day: i8,
    day_of_year: Option<i16>,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    afternoon: Option<bool>,
    offset: Option<i32>,
    /// A zone's abbreviation other than UTC.
    zone: Option<String>,
}

/// Reads `text` as the layout shows a time; without a zone in it the time is one of `zone`.
pub fn parse_layout(layout: &str, text: &str, zone: &TimeZone) -> Option<Zoned> {
    let mut fields = Fields {
        year: 0,
        month: 1,
        day: 1,
        day_of_year: None,
        hour: 0,
        minute: 0,
        second: 0,
        nanosecond: 0,
        afternoon: None,
        offset: None,
        zone: None,
    };
    let mut rest = text;
    let parts = parts(layout);
    for (idx, part) in parts.iter().enumerate() {
        rest = read_part(&mut fields, *part, rest)?;
        // Seconds may have a fraction that the layout does not show.
        let shows_fraction = matches!(parts.get(idx + 1), Some(Part::Fraction(..)));
        if matches!(part, Part::Second | Part::SecondPadded) && !shows_fraction {
            let digits = rest.strip_prefix(['.', ',']).map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
            if digits > 0 {
                fields.nanosecond = nanoseconds(&rest[1..=digits])?;
                rest = &rest[1 + digits..];
            }
        }
    }
    rest.is_empty().then(|| fields.build(zone))?
}

impl Fields {
    fn build(self, zone: &TimeZone) -> Option<Zoned> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let civil = match self.day_of_year {
            Some(day) => {
                let date = jiff::civil::Date::new(self.year, 1, 1).ok()?.with().day_of_year(day).build().ok()?;
                date.at(hour, self.minute, self.second, self.nanosecond)
            }
            None => {
                DateTime::new(self.year, self.month, self.day, hour, self.minute, self.second, self.nanosecond).ok()?
            }
        };
        let zone = match (self.offset, self.zone) {
            (Some(0), _) => TimeZone::UTC,
            (Some(seconds), _) => TimeZone::fixed(Offset::from_seconds(seconds).ok()?),
            // An abbreviation that the zone does not know counts as UTC, as Go's made-up zones do.
            (None, Some(name)) => {
                let local = civil.to_zoned(zone.clone()).ok()?;
                let known = zone.to_offset_info(local.timestamp()).abbreviation() == name;
                if known { zone.clone() } else { TimeZone::UTC }
            }
            (None, None) => zone.clone(),
        };
        civil.to_zoned(zone).ok()
    }
}

/// Takes at least `min` and at most `max` digits.
fn number(rest: &str, min: usize, max: usize) -> Option<(i32, &str)> {
    let n = rest.bytes().take(max).take_while(u8::is_ascii_digit).count();
    (n >= min).then(|| Some((rest[..n].parse().ok()?, &rest[n..])))?
}

fn nanoseconds(digits: &str) -> Option<i32> {
    let kept: String = digits.chars().take(9).collect();
    format!("{kept:0<9}").parse().ok()
}

fn one_of<'t>(rest: &'t str, names: &[&str], len: Option<usize>) -> Option<(i8, &'t str)> {
    names.iter().enumerate().find_map(|(idx, name)| {
        let name = len.map_or(*name, |len| &name[..len]);
        let head = rest.get(..name.len())?;
        head.eq_ignore_ascii_case(name).then(|| (idx as i8 + 1, &rest[name.len()..]))
    })
}

fn read_part<'t>(fields: &mut Fields, part: Part<'_>, rest: &'t str) -> Option<&'t str> {
    let small = |min, max| number(rest, min, max).and_then(|(n, tail)| Some((i8::try_from(n).ok()?, tail)));
    let tail;
    match part {
        Part::Text(text) => tail = rest.strip_prefix(text)?,
        Part::Year => {
            let (year, after) = number(rest, 4, 4)?;
            (fields.year, tail) = (year as i16, after);
        }
        Part::YearOfCentury => {
            let (year, after) = number(rest, 2, 2)?;
            // As Unix does: 69 to 99 are of the last century.
            (fields.year, tail) = (year as i16 + if year >= 69 { 1900 } else { 2000 }, after);
        }
        Part::Month => (fields.month, tail) = small(1, 2)?,
        Part::MonthPadded => (fields.month, tail) = small(2, 2)?,
        Part::MonthShort => (fields.month, tail) = one_of(rest, &MONTHS, Some(3))?,
        Part::MonthLong => (fields.month, tail) = one_of(rest, &MONTHS, None)?,
        Part::Day => (fields.day, tail) = small(1, 2)?,
        Part::DayPadded => (fields.day, tail) = small(2, 2)?,
        Part::DaySpaced => {
            let (day, after) = number(rest.trim_start_matches(' '), 1, 2)?;
            (fields.day, tail) = (day as i8, after);
        }
        Part::DayOfYear | Part::DayOfYearSpaced => {
            let (day, after) = number(rest.trim_start_matches(' '), 1, 3)?;
            fields.day_of_year = Some(day as i16);
            tail = after;
        }
        Part::WeekdayShort => tail = one_of(rest, &WEEKDAYS, Some(3))?.1,
        Part::WeekdayLong => tail = one_of(rest, &WEEKDAYS, None)?.1,
        Part::Hour | Part::Hour12Padded => (fields.hour, tail) = small(2, 2)?,
        Part::Hour12 => (fields.hour, tail) = small(1, 2)?,
        Part::Minute => (fields.minute, tail) = small(1, 2)?,
        Part::MinutePadded => (fields.minute, tail) = small(2, 2)?,
        Part::Second => (fields.second, tail) = small(1, 2)?,
        Part::SecondPadded => (fields.second, tail) = small(2, 2)?,
        Part::Fraction(separator, n, trims) => match rest.strip_prefix(separator) {
            Some(after) => {
                let digits = after.bytes().take_while(u8::is_ascii_digit).count();
                if digits == 0 || (!trims && digits != n) {
                    return None;
                }
                fields.nanosecond = nanoseconds(&after[..digits])?;
                tail = &after[digits..];
            }
            None if trims => tail = rest,
            None => return None,
        },
        Part::Half(_) => {
            let head = rest.get(..2)?;
            fields.afternoon = Some(match head {
                "PM" | "pm" => true,
                "AM" | "am" => false,
                _ => return None,
            });
            tail = &rest[2..];
        }
        Part::Zone => {
            let n = rest.bytes().take(5).take_while(u8::is_ascii_uppercase).count();
            if n < 3 {
                return None;
            }
            if &rest[..n] == "UTC" {
                fields.offset = Some(0);
            } else {
                fields.zone = Some(rest[..n].to_owned());
            }
            tail = &rest[n..];
        }
        Part::Offset { z: true, .. } if rest.starts_with('Z') => {
            fields.offset = Some(0);
            tail = &rest[1..];
        }
        Part::Offset { colons, fields: count, .. } => tail = read_offset(fields, rest, colons, count)?,
    }
    Some(tail)
}

fn read_offset<'t>(fields: &mut Fields, rest: &'t str, colons: bool, count: u8) -> Option<&'t str> {
    let sign = match rest.chars().next()? {
        '+' => 1,
        '-' => -1,
        _ => return None,
    };
    let mut rest = &rest[1..];
    let mut total = 0;
    for (idx, scale) in [3600, 60, 1].into_iter().take(usize::from(count)).enumerate() {
        if idx > 0 && colons {
            rest = rest.strip_prefix(':')?;
        }
        let (n, after) = number(rest, 2, 2)?;
        total += n * scale;
        rest = after;
    }
    fields.offset = Some(sign * total);
    Some(rest)
}

/// Go's `time.Time` as templates hold it.
#[derive(Clone, Debug)]
pub struct GoTime(pub Zoned);

impl GoTime {
    /// In UTC; `None` beyond the year 9999.
    pub fn at_nanos(nanos: i64) -> Option<Self> {
        Timestamp::from_nanosecond(i128::from(nanos)).ok().map(|t| Self(t.to_zoned(TimeZone::UTC)))
    }
    /// What a time that was never set is: the first second of the year 1.
    pub fn zero() -> Self {
        let start = DateTime::constant(1, 1, 1, 0, 0, 0, 0);
        Self(start.to_zoned(TimeZone::UTC).expect("the year 1 is within range"))
    }
    /// The time in a value, if it holds one.
    pub fn of(value: &Value) -> Option<&Self> {
        match value {
            Value::Object(object) => object.as_any()?.downcast_ref(),
            _ => None,
        }
    }
}

impl Object for GoTime {
    fn type_name(&self) -> &str {
        "time.Time"
    }
    fn member(&self, name: &str, args: &[Value]) -> Option<Result<Value, String>> {
        let time = &self.0;
        let int = |n: i64| Some(Ok(Value::Int(n)));
        match (name, args) {
            ("Format", [layout]) => Some(Ok(format_layout(time, &layout.text()).into())),
            ("Format", _) => Some(Err("wrong number of args for Format: want 1".to_owned())),
            ("UTC", []) => Some(Ok(Value::object(Self(time.with_time_zone(TimeZone::UTC))))),
            ("Unix", []) => int(time.timestamp().as_nanosecond().div_euclid(1_000_000_000) as i64),
            ("UnixMilli", []) => int(time.timestamp().as_nanosecond().div_euclid(1_000_000) as i64),
            ("UnixMicro", []) => int(time.timestamp().as_nanosecond().div_euclid(1000) as i64),
            ("UnixNano", []) => int(time.timestamp().as_nanosecond() as i64),
            ("Year", []) => int(i64::from(time.year())),
            ("Month", []) => Some(Ok(MONTHS[time.month() as usize - 1].into())),
            ("Day", []) => int(i64::from(time.day())),
            ("YearDay", []) => int(i64::from(time.day_of_year())),
            ("Weekday", []) => Some(Ok(WEEKDAYS[time.weekday().to_monday_zero_offset() as usize].into())),
            ("Hour", []) => int(i64::from(time.hour())),
            ("Minute", []) => int(i64::from(time.minute())),
            ("Second", []) => int(i64::from(time.second())),
            ("Nanosecond", []) => int(i64::from(time.subsec_nanosecond())),
            ("IsZero", []) => Some(Ok(Value::Bool(*time == Self::zero().0))),
            _ => None,
        }
    }
    fn print(&self) -> Option<String> {
        Some(format_layout(&self.0, "2006-01-02 15:04:05.999999999 -0700 MST"))
    }
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    /// The layouts that Go's documentation names, on the time it shows them with.
    #[test]
    fn layouts_show_a_time() {
        let time = at("2006-01-02T15:04:05.123456789-07:00[America/Phoenix]");
        let check = |layout: &str, want: &str| assert_eq!(format_layout(&time, layout), want, "{layout}");
        check("Mon Jan _2 15:04:05 2006", "Mon Jan  2 15:04:05 2006");
        check("Monday, 02-Jan-06 15:04:05 MST", "Monday, 02-Jan-06 15:04:05 MST");
        check("2006-01-02T15:04:05.999999999Z07:00", "2006-01-02T15:04:05.123456789-07:00");
        check("3:04PM", "3:04PM");
        check("Jan _2 15:04:05.000", "Jan  2 15:04:05.123");
        check("15h4m5s,000 on day 002 and __2", "15h4m5s,123 on day 002 and   2");
        check("_2006 -0700 -07 Z0700", "_2006 -0700 -07 -0700");
        check("Janet met Monique", "Janet met Monique");
        check("1/2/06 03:04 pm", "1/2/06 03:04 pm");
        let utc = at("2023-11-14T22:13:20+00:00[UTC]");
        assert_eq!(format_layout(&utc, "2006-01-02T15:04:05.999Z07:00"), "2023-11-14T22:13:20Z");
        assert_eq!(format_layout(&utc, "2006 MST -0700"), "2023 UTC +0000");
    }

    #[test]
    fn layouts_read_a_time() {
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let check = |layout: &str, text: &str, want: Option<&str>| {
            let got = parse_layout(layout, text, &berlin).map(|t| t.timestamp().to_string());
            assert_eq!(got.as_deref(), want, "{layout}: {text}");
        };
        check("2006-01-02", "2023-06-01", Some("2023-05-31T22:00:00Z"));
        check("2006-01-02 15:04:05", "2023-06-01 12:00:00.25", Some("2023-06-01T10:00:00.25Z"));
        check("2006-01-02T15:04:05Z07:00", "2023-06-01T12:00:00Z", Some("2023-06-01T12:00:00Z"));
        check("2006-01-02T15:04:05Z07:00", "2023-06-01T12:00:00+05:30", Some("2023-06-01T06:30:00Z"));
        check("Jan _2 2006 3:04PM MST", "Jun  1 2023 1:30PM CEST", Some("2023-06-01T11:30:00Z"));
        check("02/Jan/2006:15:04:05 -0700", "10/Oct/2000:13:55:36 -0700", Some("2000-10-10T20:55:36Z"));
        check("2006-01-02", "2023-13-01", None);
        check("2006-01-02", "2023-06-01x", None);
        check("2006-01-02", "nonsense", None);
    }

    #[test]
    fn times_print_as_go_prints_them() {
        let value = Value::object(GoTime::at_nanos(1_700_000_000_500_000_000).unwrap());
        assert_eq!(value.text(), "2023-11-14 22:13:20.5 +0000 UTC");
        assert_eq!(Value::object(GoTime::zero()).text(), "0001-01-01 00:00:00 +0000 UTC");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(seconds in -2_000_000_000_i64..4_000_000_000) {
            let time = Timestamp::from_second(seconds).unwrap().to_zoned(TimeZone::UTC);
            for layout in ["2006-01-02T15:04:05Z07:00", "Mon Jan _2 03:04:05PM 2006", "2006 002 15:04:05"] {
                let text = format_layout(&time, layout);
                let back = parse_layout(layout, &text, &TimeZone::UTC);
                prop_assert_eq!(back.as_ref(), Some(&time), "{}", text);
            }
        }

        #[test]
        fn arbitrary_layouts_never_panic(layout in "[0-9JanMonPMZ:.,_ é-]{0,24}", text in "\\PC{0,24}") {
            let time = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
            let shown = format_layout(&time, &layout);
            let _ = (parse_layout(&layout, &shown, &TimeZone::UTC), parse_layout(&layout, &text, &TimeZone::UTC));
        }
    }
}
