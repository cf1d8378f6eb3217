//! Parts of a UTC date, from seconds since 1970.

/// Year, month (1 to 12), day (1 to 31) of a count of days since 1970-01-01, in the proleptic
/// Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Years that start in March put the leap day last; 400 years are 146,097 days.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Whole seconds, within what the calendar arithmetic can hold (some 30 million years).
fn seconds(v: f64) -> i64 {
    (v as i64).clamp(-1_000_000_000_000_000, 1_000_000_000_000_000)
}
fn parts(v: f64) -> (i64, i64, i64) {
    civil(seconds(v).div_euclid(86_400))
}

pub(crate) fn year(v: f64) -> f64 {
    parts(v).0 as f64
}
pub(crate) fn month(v: f64) -> f64 {
    parts(v).1 as f64
}
pub(crate) fn day_of_month(v: f64) -> f64 {
    parts(v).2 as f64
}
pub(crate) fn days_in_month(v: f64) -> f64 {
    let (year, month, _) = parts(v);
    month_days(year, month) as f64
}
/// 0 is Sunday.
pub(crate) fn day_of_week(v: f64) -> f64 {
    (seconds(v).div_euclid(86_400) + 4).rem_euclid(7) as f64
}
pub(crate) fn day_of_year(v: f64) -> f64 {
    let (year, month, day) = parts(v);
    ((1..month).map(|m| month_days(year, m)).sum::<i64>() + day) as f64
}
pub(crate) fn hour(v: f64) -> f64 {
    (seconds(v).rem_euclid(86_400) / 3600) as f64
}
pub(crate) fn minute(v: f64) -> f64 {
    (seconds(v).rem_euclid(3600) / 60) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against jiff, day by day over four centuries.
    #[test]
    fn agrees_with_a_calendar() {
        for day in (-80_000i64..80_000).step_by(37) {
            let at = day * 86_400 + 12_345;
            let want = jiff::Timestamp::from_second(at).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            let v = at as f64;
            let got = [year(v), month(v), day_of_month(v), day_of_year(v), days_in_month(v), hour(v), minute(v)];
            let want_parts = [
                want.year() as f64,
                want.month() as f64,
                want.day() as f64,
                want.day_of_year() as f64,
                want.days_in_month() as f64,
                want.hour() as f64,
                want.minute() as f64,
            ];
            assert_eq!(got, want_parts, "{want}");
            assert_eq!(day_of_week(v), want.weekday().to_sunday_zero_offset() as f64, "{want}");
        }
    }
}
