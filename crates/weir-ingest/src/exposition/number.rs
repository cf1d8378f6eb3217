//! How upstream writes the bounds of buckets and quantiles.

/// As OpenMetrics has it, so that `1`, `1.0` and `1e0` are one bound: `1.0`, `0.25`, `1e+06`, `+Inf`.
///
/// Source: Prometheus `model/textparse`, which brings `le` and `quantile` to this form since 3.0.
pub fn bound_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let shortest = format!("{value:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = value.to_string();
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_have_one_form() {
        let check = |value: f64, want: &str| assert_eq!(bound_text(value), want);
        check(1.0, "1.0");
        check(0.0, "0.0");
        check(-2.0, "-2.0");
        check(0.005, "0.005");
        check(0.0001, "0.0001");
        check(0.00001, "1e-05");
        check(100_000.0, "100000.0");
        check(1_000_000.0, "1e+06");
        check(1_234_567.5, "1.2345675e+06");
        check(1e100, "1e+100");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
        check(f64::NAN, "NaN");
    }

    proptest! {
        #[test]
        fn a_bound_is_read_back(value in any::<f64>()) {
            let back: f64 = bound_text(value).parse().unwrap();
            prop_assert!(back == value || (back.is_nan() && value.is_nan()));
        }
    }
}
