//! Expressions worth a chart, from the names of the metrics that an entity has.

use serde::Serialize;
use weir_model::labels::METRIC_NAME;
use weir_model::source::ReadError;
use weir_model::{Matcher, TenantId, TimeRange};

use crate::App;

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Golden {
    pub title: String,
    pub unit: &'static str,
    pub query: String,
}

/// A page shows a handful.
const CHARTS_MAX: usize = 8;

pub async fn find(app: &App, tenant: &TenantId, matcher: &Matcher, range: TimeRange) -> Result<Vec<Golden>, ReadError> {
    let names = app.metrics.label_values(tenant, METRIC_NAME, std::slice::from_ref(matcher), range).await?;
    Ok(choose(&names, &matcher.to_string()))
}

/// Words in names, most telling first. Names of general conventions, none of any one system.
const WORDS: [&str; 14] = [
    "lag",
    "error",
    "fail",
    "request",
    "duration",
    "latency",
    "event",
    "message",
    "record",
    "call",
    "delivered",
    "cpu",
    "memory",
    "queue",
];

fn rank(name: &str) -> usize {
    WORDS.iter().position(|word| name.contains(word)).unwrap_or(WORDS.len())
}

/// What weir and client libraries say of themselves or of the act of scraping.
fn is_plumbing(name: &str) -> bool {
    const PREFIXES: [&str; 7] = ["scrape_", "go_", "promhttp_", "python_gc_", "target_info", "up", "otel_sdk_"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with("_created") || name.ends_with("_info")
}

fn unit(name: &str) -> &'static str {
    const UNITS: [(&str, &str); 6] = [
        ("seconds", "s"),
        ("milliseconds", "ms"),
        ("bytes", "B"),
        ("ratio", "ratio"),
        ("percent", "%"),
        ("celsius", "°C"),
    ];
    let stem = name.trim_end_matches("_total").trim_end_matches("_bucket");
    UNITS.iter().find(|(word, _)| stem.rsplit('_').next() == Some(word)).map_or("", |(_, unit)| unit)
}

fn choose(names: &[String], selector: &str) -> Vec<Golden> {
    let mut names: Vec<&String> = names.iter().filter(|name| !is_plumbing(name) && is_plain(name)).collect();
    names.sort_by_key(|name| (rank(name), (*name).clone()));
    let is_histogram = |stem: &str| names.iter().any(|name| name.strip_suffix("_bucket") == Some(stem));
    let mut out = Vec::new();
    for name in &names {
        let stem = |suffix: &str| name.strip_suffix(suffix);
        if stem("_sum").or(stem("_count")).is_some_and(is_histogram) {
            continue;
        }
        out.push(chart(name, selector));
    }
    out.truncate(CHARTS_MAX);
    out
}

/// Other names need quotes that not every client writes.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

fn chart(name: &str, selector: &str) -> Golden {
    let words = |name: &str| name.replace('_', " ");
    if let Some(stem) = name.strip_suffix("_bucket") {
        let query = format!("histogram_quantile(0.99, sum by (le) (rate({name}{{{selector}}}[1m])))");
        return Golden { title: format!("{} p99", words(stem)), unit: unit(name), query };
    }
    if let Some(stem) = name.strip_suffix("_total") {
        // Seconds spent per second are cores, not seconds.
        let unit = if unit(name) == "B" {
            "B/s"
        } else if unit(name) == "s" {
            ""
        } else {
            "1/s"
        };
        return Golden {
            title: format!("{} per second", words(stem)),
            unit,
            query: format!("sum(rate({name}{{{selector}}}[1m]))"),
        };
    }
    let aggregate = if name.contains("lag") { "max" } else { "sum" };
    Golden { title: words(name), unit: unit(name), query: format!("{aggregate}({name}{{{selector}}})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_follow_the_kind_of_metric() {
        let names: Vec<String> = [
            "go_goroutines",
            "http_request_duration_seconds_bucket",
            "http_request_duration_seconds_count",
            "http_request_duration_seconds_sum",
            "process_resident_memory_bytes",
            "up",
            "x_errors_total",
        ]
        .map(str::to_owned)
        .to_vec();
        let got: Vec<(String, &str)> = choose(&names, "app=\"x\"").into_iter().map(|g| (g.query, g.unit)).collect();
        let want = [
            ("sum(rate(x_errors_total{app=\"x\"}[1m]))", "1/s"),
            ("histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{app=\"x\"}[1m])))", "s"),
            ("sum(process_resident_memory_bytes{app=\"x\"})", "B"),
        ];
        assert_eq!(got, want.map(|(query, unit)| (query.to_owned(), unit)));
    }
}
