//! Durations and byte sizes as LogQL writes them.

use std::fmt::Write;

const NANOS: &[(&str, f64)] = &[
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
    ("d", 8.64e13),
    ("w", 6.048e14),
    ("y", 3.1536e16),
];

/// Nanoseconds of `1h30m`, `1.5s`, `-2ms`, with Prometheus' `d`, `w` and `y` beside Go's units.
/// `None` when it is no duration or does not fit.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit_len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = &rest[..unit_len];
        total += number * NANOS.iter().find(|(name, _)| *name == unit)?.1;
        rest = &rest[unit_len..];
    }
    // 2^63 as a float; anything from there on does not fit.
    (total < 9.223_372_036_854_775e18).then(|| if negative { -(total as i64) } else { total as i64 })
}

/// Bytes of `10KB` (1000s), `1MiB` (1024s), `5B`, `7`; the case of the letters and a space between
/// number and unit do not matter. Source: go-humanize, `ParseBytes`.
pub fn parse_bytes(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
    let number: f64 = text[..digits].replace(',', "").parse().ok()?;
    let unit = text[digits..].trim().to_ascii_lowercase();
    let (base, letters): (f64, &str) = match unit.as_str() {
        "" | "b" => return Some(number),
        u if u.ends_with("ib") => (1024.0, &unit[..unit.len() - 2]),
        u if u.ends_with('b') => (1000.0, &unit[..unit.len() - 1]),
        u if u.ends_with('i') => (1024.0, &unit[..unit.len() - 1]),
        _ => (1000.0, unit.as_str()),
    };
    let power = ["k", "m", "g", "t", "p", "e"].iter().position(|p| *p == letters)? as i32 + 1;
    Some(number * base.powi(power))
}

/// The shortest exact form in the units `h m s ms us ns`, days and longer as hours: `1h30m`, `5m`.
pub fn format_duration(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if nanos < 0 {
        out.push('-');
    }
    let mut rest = nanos.unsigned_abs();
    for (unit, size) in [("h", 3_600_000_000_000), ("m", 60_000_000_000), ("s", 1_000_000_000)] {
        if rest >= size {
            let _ = write!(out, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    for (unit, size) in [("ms", 1_000_000), ("us", 1_000), ("ns", 1)] {
        if rest >= size {
            let _ = write!(out, "{}{unit}", rest / size);
            rest %= size;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_go_and_prometheus_units() {
        let check = |text: &str, want: Option<i64>| assert_eq!(parse_duration(text), want, "{text}");
        check("5m", Some(300_000_000_000));
        check("1h30m", Some(5_400_000_000_000));
        check("1.5s", Some(1_500_000_000));
        check("-2ms", Some(-2_000_000));
        check("1d", Some(86_400_000_000_000));
        check("3us", Some(3_000));
        check("0", Some(0));
        check("", None);
        check("5", None);
        check("5x", None);
        check("999999999y", None);
    }

    #[test]
    fn sizes_are_decimal_or_binary_by_their_unit() {
        let check = |text: &str, want: Option<f64>| assert_eq!(parse_bytes(text), want, "{text}");
        check("10KB", Some(10_000.0));
        check("1MiB", Some(1_048_576.0));
        check("1.5 kb", Some(1500.0));
        check("7", Some(7.0));
        check("7B", Some(7.0));
        check("1,024B", Some(1024.0));
        check("KB", None);
        check("3xB", None);
    }

    #[test]
    fn formatted_durations_read_back() {
        for nanos in [1, 1_500_000_000, 300_000_000_000, -2_000_000, 90_000_000_000_001] {
            assert_eq!(parse_duration(&format_duration(nanos)), Some(nanos), "{nanos}");
        }
    }
}
