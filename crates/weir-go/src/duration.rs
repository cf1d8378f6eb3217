//! Two spellings of durations: Prometheus' (`1d2h30m`, whole numbers, largest unit first) and Go's
//! (`1.5h`, `-300ms`, any order).
//!
//! Sources: Prometheus `common/model/time.go`; Go `time.ParseDuration` and `Duration.String`.

use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("empty duration string; write a number and a unit, such as 30s")]
    Empty,
    #[error("not a valid duration string: {text:?}; write units from large to small, such as 1d2h30m or 250ms")]
    Syntax { text: String },
    #[error("duration out of range: {text:?}; the longest is about 292 years")]
    OutOfRange { text: String },
}

const PROMETHEUS_UNITS_MS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Longest duration Go's `time.Duration` can hold, in milliseconds.
const MAX_MS: u64 = i64::MAX as u64 / 1_000_000;

/// `1h30m`, `1d`, `5m0s` is refused only where Prometheus refuses it; `0` alone is allowed.
pub fn parse_prometheus_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let syntax = || DurationError::Syntax { text: text.to_owned() };
    let out_of_range = || DurationError::OutOfRange { text: text.to_owned() };
    let (mut rest, mut total_ms, mut next_unit) = (text, 0_u64, 0_usize);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let unit_len = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = &rest[digits..digits + unit_len];
        let found = PROMETHEUS_UNITS_MS[next_unit..].iter().position(|(name, _)| *name == unit);
        let (true, Some(skipped)) = (digits > 0, found) else { return Err(syntax()) };
        let idx = next_unit + skipped;
        let n: u64 = rest[..digits].parse().map_err(|_| out_of_range())?;
        let ms = n.checked_mul(PROMETHEUS_UNITS_MS[idx].1).ok_or_else(out_of_range)?;
        total_ms = total_ms.checked_add(ms).filter(|sum| *sum <= MAX_MS).ok_or_else(out_of_range)?;
        next_unit = idx + 1;
        rest = &rest[digits + unit_len..];
    }
    Ok(Duration::from_millis(total_ms))
}

/// As Prometheus prints it: years and weeks only when they divide the whole exactly.
pub fn format_prometheus_duration(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (unit, size) in PROMETHEUS_UNITS_MS {
        let exact_only = matches!(unit, "y" | "w" | "d");
        // Days, too, stand only in whole days: 1d2h is printed as 1d2h, but 8d as 8d and 7d as 1w.
        if exact_only && unit != "d" && ms % size != 0 {
            continue;
        }
        let n = ms / size;
        if n > 0 {
            out.push_str(&n.to_string());
            out.push_str(unit);
            ms -= n * size;
        }
    }
    out
}

const GO_UNITS_NS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1000),
    ("µs", 1000),
    ("μs", 1000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// `1h15m30.918s`, `-1.5h`, `0`: nanoseconds.
pub fn parse_go_duration(text: &str) -> Result<i64, DurationError> {
    let syntax = || DurationError::Syntax { text: text.to_owned() };
    let out_of_range = || DurationError::OutOfRange { text: text.to_owned() };
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        Some(_) => (false, text),
        None => return Err(DurationError::Empty),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(syntax());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let whole_len = rest.bytes().take_while(u8::is_ascii_digit).count();
        let whole = &rest[..whole_len];
        rest = &rest[whole_len..];
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            let len = after.bytes().take_while(u8::is_ascii_digit).count();
            fraction = &after[..len];
            rest = &after[len..];
        }
        if whole.is_empty() && fraction.is_empty() {
            return Err(syntax());
        }
        let unit_len = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
        let size = GO_UNITS_NS.iter().find(|(name, _)| *name == &rest[..unit_len]).ok_or_else(syntax)?.1;
        rest = &rest[unit_len..];
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| out_of_range())? };
        let whole = whole.checked_mul(size).ok_or_else(out_of_range)?;
        // Digits beyond the fifteenth are below a nanosecond for every unit.
        let fraction = &fraction[..fraction.len().min(15)];
        let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| syntax())? };
        let part = part * size / 10_i128.pow(fraction.len() as u32);
        total += whole + part;
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return Err(out_of_range());
        }
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| out_of_range())
}

/// As Go prints a `time.Duration`: `1h0m0s`, `1.5s`, `250ms`, `0s`.
pub fn format_go_duration(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    if magnitude == 0 {
        return "0s".to_owned();
    }
    if magnitude < 1_000_000_000 {
        let (unit, decimals) = match magnitude {
            0..1000 => ("ns", 0),
            1000..1_000_000 => ("µs", 3),
            _ => ("ms", 6),
        };
        return format!("{sign}{}{unit}", with_fraction(magnitude, decimals));
    }
    let minutes_total = magnitude / 60_000_000_000;
    let seconds = with_fraction(magnitude % 60_000_000_000, 9);
    match (minutes_total / 60, minutes_total % 60) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

/// `value` / 10^decimals without trailing zeros.
fn with_fraction(value: u64, decimals: u32) -> String {
    let unit = 10_u64.pow(decimals);
    let (whole, part) = (value / unit, value % unit);
    if part == 0 {
        return whole.to_string();
    }
    let digits = format!("{part:0width$}", width = decimals as usize);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prometheus_durations() {
        let check = |text: &str, want_ms: Option<u64>| {
            let got = parse_prometheus_duration(text).ok().map(|d| d.as_millis() as u64);
            assert_eq!(got, want_ms, "{text:?}");
        };
        check("0", Some(0));
        check("0s", Some(0));
        check("324ms", Some(324));
        check("3s", Some(3000));
        check("5m", Some(300_000));
        check("1h30m", Some(5_400_000));
        check("1d2h", Some(93_600_000));
        check("4d1h", Some(349_200_000));
        check("14d", Some(14 * 86_400_000));
        check("3w2d1h", Some(23 * 86_400_000 + 3_600_000));
        check("8y", Some(8 * 365 * 86_400_000));
        check("1h1m1s1ms", Some(3_661_001));
        for bad in
            ["", "1", "1y1m1d", "-1w", "1.5d", "d", "294y", "200y10400w", "107675d", "2584200h", "1s1s", " 1s", "1µs"]
        {
            check(bad, None);
        }
        check("292y", Some(292 * 365 * 86_400_000));
    }

    #[test]
    fn prometheus_durations_print_as_upstream_does() {
        for text in
            ["0s", "324ms", "3s", "5m", "1h", "4d", "4d1h", "14d1h", "3w", "3w", "8y", "1h30m", "1d2h30m", "1m1s1ms"]
        {
            assert_eq!(format_prometheus_duration(parse_prometheus_duration(text).unwrap()), text);
        }
        assert_eq!(format_prometheus_duration(Duration::from_secs(7 * 86_400)), "1w");
        assert_eq!(format_prometheus_duration(Duration::from_secs(3661)), "1h1m1s");
    }

    #[test]
    fn go_durations_read_and_print() {
        let check = |text: &str, want: &str| {
            assert_eq!(format_go_duration(parse_go_duration(text).unwrap()), want, "{text}");
        };
        check("0", "0s");
        check("1h", "1h0m0s");
        check("-1.5h", "-1h30m0s");
        check("1h15m30.918273645s", "1h15m30.918273645s");
        check("90s", "1m30s");
        check("1500us", "1.5ms");
        check("100ns", "100ns");
        check(".5s", "500ms");
        check("1.s", "1s");
        check("5µs", "5µs");
        check("2562047h47m16.854775807s", "2562047h47m16.854775807s");
        for bad in ["", "-", "3", "s", ".s", "1d", "1h-1m", "3000000h", "1.2.3s", "9223372036854775808ns"] {
            assert!(parse_go_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_go_duration("-9223372036854775808ns"), Ok(i64::MIN));
    }

    proptest! {
        #[test]
        fn parsers_never_panic(text in "\\PC{0,24}") {
            let _ = parse_prometheus_duration(&text);
            let _ = parse_go_duration(&text);
        }
        #[test]
        fn go_durations_survive_a_round_trip(nanos in any::<i64>()) {
            prop_assert_eq!(parse_go_duration(&format_go_duration(nanos)), Ok(nanos));
        }
        #[test]
        fn prometheus_durations_survive_a_round_trip(ms in 0..MAX_MS) {
            let d = Duration::from_millis(ms);
            prop_assert_eq!(parse_prometheus_duration(&format_prometheus_duration(d)), Ok(d));
        }
    }
}
