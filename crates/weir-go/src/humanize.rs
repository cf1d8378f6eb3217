//! Numbers as people read them, in the forms that Prometheus' and Alertmanager's templates give.
//!
//! Source: Prometheus `template/template.go`, `common/helpers/templates/time.go`.

use crate::number::format_significant;

const SMALL: [&str; 8] = ["m", "u", "n", "p", "f", "a", "z", "y"];

fn four(value: f64) -> String {
    format_significant(value, 4)
}

/// Divides or multiplies by `step` while `again`, and gives the prefix reached.
fn scale(mut value: f64, prefixes: &[&'static str], factor: f64, again: impl Fn(f64) -> bool) -> (f64, &'static str) {
    let mut prefix = "";
    for p in prefixes {
        if !again(value) {
            break;
        }
        prefix = p;
        value *= factor;
    }
    (value, prefix)
}

/// With metric prefixes: `1234567` is `1.235M`, `0.02` is `20m`.
pub fn humanize(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return four(value);
    }
    let (value, prefix) = if value.abs() >= 1.0 {
        scale(value, &["k", "M", "G", "T", "P", "E", "Z", "Y"], 1e-3, |v| v.abs() >= 1000.0)
    } else {
        scale(value, &SMALL, 1e3, |v| v.abs() < 1.0)
    };
    four(value) + prefix
}

/// With binary prefixes: `2048` is `2ki`.
pub fn humanize_1024(value: f64) -> String {
    if value.abs() <= 1.0 || !value.is_finite() {
        return four(value);
    }
    let (value, prefix) =
        scale(value, &["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"], 1.0 / 1024.0, |v| v.abs() >= 1024.0);
    four(value) + prefix
}

/// Seconds as `1d 2h 3m 4s`, or with a prefix below a second.
pub fn humanize_duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return four(seconds);
    }
    if seconds == 0.0 {
        return "0s".to_owned();
    }
    if seconds.abs() < 1.0 {
        let (value, prefix) = scale(seconds, &SMALL, 1e3, |v| v.abs() < 1.0);
        return format!("{}{prefix}s", four(value));
    }
    let sign = if seconds < 0.0 { "-" } else { "" };
    let whole = seconds.abs() as u64;
    let (d, h, m, s) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (d, h, m) {
        (1.., ..) => format!("{sign}{d}d {h}h {m}m {s}s"),
        (0, 1.., _) => format!("{sign}{h}h {m}m {s}s"),
        (0, 0, 1..) => format!("{sign}{m}m {s}s"),
        _ => format!("{}s", four(seconds)),
    }
}

/// A ratio as per cent: `0.1234` is `12.34%`.
pub fn humanize_percentage(ratio: f64) -> String {
    four(ratio * 100.0) + "%"
}

/// Unix seconds as Go prints a UTC time: `2015-03-08 23:28:16.91 +0000 UTC`.
pub fn humanize_timestamp(seconds: f64) -> String {
    if !seconds.is_finite() {
        return four(seconds);
    }
    let nanos = (seconds * 1e9) as i128;
    match jiff::Timestamp::from_nanosecond(nanos) {
        Ok(t) => go_time(t),
        Err(_) => four(seconds),
    }
}

/// As Go prints a time in UTC.
pub fn go_time(t: jiff::Timestamp) -> String {
    let text = t.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC");
    text.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_upstream_prints_them() {
        // Pairs from Prometheus' template_test.go.
        let check = |f: fn(f64) -> String, value: f64, want: &str| assert_eq!(f(value), want, "{value}");
        check(humanize, 0.0, "0");
        check(humanize, 1.0, "1");
        check(humanize, 1234567.0, "1.235M");
        check(humanize, 0.12, "120m");
        check(humanize, f64::NAN, "NaN");
        check(humanize, f64::INFINITY, "+Inf");
        check(humanize_1024, 0.0, "0");
        check(humanize_1024, 1.0, "1");
        check(humanize_1024, 1048576.0, "1Mi");
        check(humanize_1024, 0.12, "0.12");
        check(humanize_duration, 0.0, "0s");
        check(humanize_duration, 1.0, "1s");
        check(humanize_duration, 60.0, "1m 0s");
        check(humanize_duration, 3600.0, "1h 0m 0s");
        check(humanize_duration, 86400.0, "1d 0h 0m 0s");
        check(humanize_duration, 86400.0 + 3600.0, "1d 1h 0m 0s");
        check(humanize_duration, -(86400.0 * 2.0 + 3600.0 * 3.0 + 60.0 * 4.0 + 5.0), "-2d 3h 4m 5s");
        check(humanize_duration, 0.1, "100ms");
        check(humanize_duration, 0.0001, "100us");
        check(humanize_duration, 0.12345, "123.5ms");
        check(humanize_duration, 60.1, "1m 0s");
        check(humanize_duration, 899.99, "14m 59s");
        check(humanize_duration, 12.345678, "12.35s");
        check(humanize_percentage, 0.1234567, "12.35%");
        check(humanize_percentage, -0.22222, "-22.22%");
        check(humanize_timestamp, 1435065584.128, "2015-06-23 13:19:44.128 +0000 UTC");
        check(humanize_timestamp, 0.0, "1970-01-01 00:00:00 +0000 UTC");
    }
}
