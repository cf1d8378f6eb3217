//! Floating point numbers as Go prints them: always the shortest digits that read back equal, in
//! three layouts.
//!
//! Source: Go `strconv.FormatFloat` with precision -1; Prometheus `util/jsonutil`.

/// As Prometheus writes a sample value: plain digits, exponent form below 1e-6 and from 1e21 on.
pub fn format_sample(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) { format_e(value) } else { format_f(value) }
}

/// Plain digits, never an exponent (`FormatFloat(v, 'f', -1, 64)`).
pub fn format_f(value: f64) -> String {
    special(value).unwrap_or_else(|| format!("{value}"))
}

/// Exponent form with at least two exponent digits: `1e+00`, `1.5e-07`.
pub fn format_e(value: f64) -> String {
    special(value).unwrap_or_else(|| go_exponent(&format!("{value:e}")))
}

/// What `%v` and `%g` print: exponent form when the exponent is below -4 or at least 6.
pub fn format_v(value: f64) -> String {
    format_g(value, 6)
}

/// `%g` with shortest digits; exponent form below -4 and from `exponent_max` on.
pub(crate) fn format_g(value: f64, exponent_max: i32) -> String {
    if let Some(text) = special(value) {
        return text;
    }
    let scientific = format!("{value:e}");
    let exponent = scientific.rsplit_once('e').and_then(|(_, e)| e.parse::<i32>().ok()).unwrap_or(0);
    if exponent < -4 || exponent >= exponent_max { go_exponent(&scientific) } else { format!("{value}") }
}

/// `%.3g`: so many digits, trailing zeros dropped.
pub fn format_significant(f: f64, digits: usize) -> String {
    if !f.is_finite() {
        return format_f(f);
    }
    let rounded = format!("{f:.*e}", digits - 1);
    let (mantissa, exponent) = rounded.split_once('e').unwrap_or((&rounded, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim =
        |s: &str| if s.contains('.') { s.trim_end_matches('0').trim_end_matches('.').to_owned() } else { s.to_owned() };
    if exponent < -4 || exponent >= digits as i32 {
        return go_exponent(&format!("{}e{exponent}", trim(mantissa)));
    }
    let decimals = usize::try_from(digits as i32 - 1 - exponent).unwrap_or(0);
    trim(&format!("{f:.decimals$}"))
}

fn special(value: f64) -> Option<String> {
    if value.is_nan() {
        Some("NaN".to_owned())
    } else if value.is_infinite() {
        Some(if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned())
    } else {
        None
    }
}

/// Rust writes `1e-7`, Go `1e-07`.
pub(crate) fn go_exponent(scientific: &str) -> String {
    let Some((mantissa, exponent)) = scientific.rsplit_once('e') else { return scientific.to_owned() };
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(digits) => ('-', digits),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_as_go_prints_them() {
        // sample, f, e, v; made with strconv.FormatFloat and fmt.Sprint of Go 1.26.
        let check = |value: f64, sample: &str, f: &str, e: &str, v: &str| {
            assert_eq!(
                [&*format_sample(value), &*format_f(value), &*format_e(value), &*format_v(value)],
                [sample, f, e, v]
            );
        };
        check(0.0, "0", "0", "0e+00", "0");
        check(-0.0, "-0", "-0", "-0e+00", "-0");
        check(1.0, "1", "1", "1e+00", "1");
        check(0.1, "0.1", "0.1", "1e-01", "0.1");
        check(123456789.125, "123456789.125", "123456789.125", "1.23456789125e+08", "1.23456789125e+08");
        check(1e-6, "0.000001", "0.000001", "1e-06", "1e-06");
        check(9.5e-7, "9.5e-07", "0.00000095", "9.5e-07", "9.5e-07");
        check(1e20, "100000000000000000000", "100000000000000000000", "1e+20", "1e+20");
        check(1234567.0, "1234567", "1234567", "1.234567e+06", "1.234567e+06");
        check(123456.0, "123456", "123456", "1.23456e+05", "123456");
        check(1e21, "1e+21", "1000000000000000000000", "1e+21", "1e+21");
        check(f64::NAN, "NaN", "NaN", "NaN", "NaN");
        check(f64::INFINITY, "+Inf", "+Inf", "+Inf", "+Inf");
        check(f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf", "-Inf");
        check(1e-300, "1e-300", &format!("0.{}1", "0".repeat(299)), "1e-300", "1e-300");
    }
}
