//! Numbers and durations as PromQL reads and writes them.

/// A literal in Go's syntax: decimal, hexadecimal, leading-zero octal, `_` between digits.
pub(crate) fn parse_number(text: &str) -> Option<f64> {
    if text.contains('_') && (text.starts_with('_') || text.ends_with('_') || text.contains("__")) {
        return None;
    }
    let plain = text.replace('_', "");
    if let Some(hex) = plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16).ok().map(|n| n as f64);
    }
    let digits = plain.bytes().all(|b| b.is_ascii_digit());
    if digits
        && plain.len() > 1
        && plain.starts_with('0')
        && let Ok(octal) = i64::from_str_radix(&plain, 8)
    {
        return Some(octal as f64);
    }
    plain.parse().ok().filter(|_| plain.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b)))
}

/// Units from long to short, in milliseconds; the flag says that text uses it only when it divides evenly.
const UNITS: [(&str, i64, bool); 7] = [
    ("y", 365 * 86_400_000, true),
    ("w", 7 * 86_400_000, true),
    ("d", 86_400_000, false),
    ("h", 3_600_000, false),
    ("m", 60_000, false),
    ("s", 1000, false),
    ("ms", 1, false),
];

/// `1d2h30m` to milliseconds: each unit at most once, long before short. Source: `model.ParseDuration`.
pub fn parse_duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut next_unit, mut total) = (text, 0, 0i64);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value: i64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let unit = next_unit + UNITS[next_unit..].iter().position(|(name, ..)| *name == &rest[..letters])?;
        total = total.checked_add(value.checked_mul(UNITS[unit].1)?)?;
        next_unit = unit + 1;
        rest = &rest[letters..];
    }
    Some(total)
}

/// Milliseconds as `1d2h`; negative values carry a sign. Source: `model.Duration.String`.
pub fn format_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = ms.unsigned_abs();
    if ms < 0 {
        out.push('-');
    }
    for (name, unit, whole_only) in UNITS {
        let unit = unit.unsigned_abs();
        if rest == 0 || (whole_only && !rest.is_multiple_of(unit)) {
            continue;
        }
        if rest >= unit {
            out.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    out
}

/// A sample value as the HTTP API writes it: shortest form, exponent below 1e-6 and from 1e21.
pub fn format_value(value: f64) -> String {
    format_with(value, 1e-6)
}

/// A number literal as Go's `%v` prints it: exponent below 1e-4 and from 1e21.
pub(crate) fn format_literal(value: f64) -> String {
    format_with(value, 1e-4)
}

fn format_with(value: f64, small: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size == 0.0 || (small..1e21).contains(&size) {
        return format!("{value}");
    }
    // Rust writes `1e-7`, Go `1e-07`.
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// Never an exponent, as label values made of numbers have it (`count_values`).
pub(crate) fn format_plain(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { format_value(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (text, want) in [
            ("1", Some(1.0)),
            ("0x1f", Some(31.0)),
            ("010", Some(8.0)),
            ("09", Some(9.0)),
            ("1_000", Some(1000.0)),
            ("1__0", None),
            ("1e3", Some(1000.0)),
            (".5", Some(0.5)),
            ("5.", Some(5.0)),
            ("1e", None),
        ] {
            assert_eq!(parse_number(text), want, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, want) in [
            ("5m", Some(300_000)),
            ("1h30m", Some(5_400_000)),
            ("1y2w3d", Some((365 + 14 + 3) * 86_400_000)),
            ("100ms", Some(100)),
            ("5m1h", None),
            ("5mm", None),
            ("5m5m", None),
            ("m", None),
            ("99999999999999999y", None),
        ] {
            assert_eq!(parse_duration(text), want, "{text}");
        }
        for (ms, want) in
            [(0, "0s"), (300_000, "5m"), (5_400_000, "1h30m"), (8 * 86_400_000, "8d"), (-1500, "-1s500ms")]
        {
            assert_eq!(format_duration(ms), want);
        }
        assert_eq!(format_duration(14 * 86_400_000), "2w");
    }

    #[test]
    fn values() {
        for (value, want) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-07"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-0.0, "-0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(format_value(value), want);
        }
        assert_eq!(format_literal(0.00001), "1e-05");
    }
}
