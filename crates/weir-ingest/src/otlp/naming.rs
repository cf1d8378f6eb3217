//! Metric and label names after Prometheus' default translation (`UnderscoreEscapingWithSuffixes`).
//!
//! Source: spec section 8; upstream `prometheus/otlptranslator`.

use super::common::underscored;

/// What decides about suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    MonotonicSum,
    Gauge,
    Other,
}

fn unit_word(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "%" => "percent",
        _ => return None,
    })
}

fn per_word(unit: &str) -> Option<&'static str> {
    Some(match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        _ => return None,
    })
}

/// Letters, digits and `:` make words.
fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !(c.is_alphanumeric() || c == ':'))
        .map(|word| word.chars().filter(|c| c.is_ascii()).collect::<String>())
        .filter(|word| !word.is_empty())
        .collect()
}

fn unit_words(unit: &str, known: fn(&str) -> Option<&'static str>) -> Vec<String> {
    let unit = unit.trim();
    if unit.is_empty() || unit == "1" || unit.contains(['{', '}']) {
        return Vec::new();
    }
    known(unit).map_or_else(|| words(unit), |word| vec![word.to_owned()])
}

/// `process.runtime.memory`, `By`, gauge → `process_runtime_memory_bytes`.
pub fn metric_name(name: &str, unit: &str, shape: Shape) -> String {
    let mut tokens = words(name);
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    for word in unit_words(main, unit_word) {
        if !tokens.contains(&word) {
            tokens.push(word);
        }
    }
    let per = unit_words(per, per_word);
    if !per.is_empty() && !per.iter().all(|word| tokens.contains(word)) {
        tokens.push("per".to_owned());
        tokens.extend(per);
    }
    if shape == Shape::MonotonicSum {
        tokens.retain(|token| token != "total");
        tokens.push("total".to_owned());
    }
    if shape == Shape::Gauge && unit.trim() == "1" {
        tokens.retain(|token| token != "ratio");
        tokens.push("ratio".to_owned());
    }
    let joined = tokens.join("_");
    if joined.starts_with(|c: char| c.is_ascii_digit()) { format!("_{joined}") } else { joined }
}

/// `http.route` → `http_route`, `1a` → `key_1a`, `_x` → `key_x`; `__x` is left for internal use.
pub fn label_name(name: &str) -> String {
    let clean = underscored(name);
    if clean.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("key_{clean}");
    }
    if clean.starts_with('_') && !clean.starts_with("__") {
        return format!("key{clean}");
    }
    clean
}

/// A float as it stands in `le` and `quantile`: Go's shortest form, `10` and `0.005`.
pub fn bound(value: f64) -> String {
    if value == f64::INFINITY {
        return "+Inf".to_owned();
    }
    let text = format!("{value}");
    // Go's shortest form turns to exponents at these sizes.
    if value != 0.0 && (value.abs() >= 1e21 || value.abs() < 1e-4) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(("+", exponent), |digits| ("-", digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_units_and_suffixes() {
        let check = |name: &str, unit: &str, shape, want: &str| {
            assert_eq!(metric_name(name, unit, shape), want, "{name} {unit}")
        };
        check("http.server.duration", "ms", Shape::Other, "http_server_duration_milliseconds");
        check("system.io", "foo/bar", Shape::MonotonicSum, "system_io_foo_per_bar_total");
        check("system.network.io", "By/s", Shape::Gauge, "system_network_io_bytes_per_second");
        check("events.total.seen", "{event}", Shape::MonotonicSum, "events_seen_total");
        check("memory_bytes", "By", Shape::Gauge, "memory_bytes");
        check("cpu.utilization", "1", Shape::Gauge, "cpu_utilization_ratio");
        check("jobs", "1", Shape::MonotonicSum, "jobs_total");
        check("2xx", "", Shape::Gauge, "_2xx");
        check("a__b..c:d", "", Shape::Other, "a_b_c:d");
        check("t", "%", Shape::Gauge, "t_percent");
        check("rate", "m/s", Shape::Gauge, "rate_meters_per_second");
    }

    #[test]
    fn labels_are_clean() {
        for (name, want) in [
            ("http.route", "http_route"),
            ("1a", "key_1a"),
            ("_x", "key_x"),
            ("__x", "__x"),
            ("ä", "key_"),
            ("a-b", "a_b"),
        ] {
            assert_eq!(label_name(name), want, "{name}");
        }
    }

    #[test]
    fn bounds_are_shortest() {
        for (value, want) in
            [(0.005, "0.005"), (10.0, "10"), (f64::INFINITY, "+Inf"), (1e-5, "1e-05"), (2.5e22, "2.5e+22")]
        {
            assert_eq!(bound(value), want);
        }
    }
}
