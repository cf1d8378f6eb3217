//! What a metric is about, read from the words of its name: the conventions of OpenTelemetry,
//! Prometheus, cAdvisor and kube-state-metrics share a vocabulary.

use crate::finding::Aspect;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    pub aspect: Aspect,
    /// Only grows but for restarts; read as a rate.
    pub counter: bool,
    /// More is better (availability): only a fall is bad.
    pub good: bool,
    /// Of the machine, shared by all that run on it.
    pub shared: bool,
    /// Measured of what the emitter calls: others' time and errors.
    pub remote: bool,
    /// A share of a whole in percent.
    pub percent: bool,
    pub unit: &'static str,
}

/// Names that say nothing about health: meta data, buckets (their sum and count say it), and
/// what scrapers say of themselves.
fn is_noise(name: &str) -> bool {
    const ENDS: [&str; 7] = ["_bucket", "_info", "_created", "_timestamp", "_limit", "_start_time_seconds", "_config"];
    const STARTS: [&str; 5] = ["scrape_", "go_", "weir_", "promhttp_", "ALERTS"];
    ENDS.iter().any(|e| name.ends_with(e)) || STARTS.iter().any(|s| name.starts_with(s))
}

/// `None` for metrics that are not looked at.
pub fn meaning(name: &str) -> Option<Meaning> {
    if is_noise(name) {
        return None;
    }
    let lower = name.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let any = |list: &[&str]| words.iter().any(|w| list.contains(w));
    let per_second = lower.ends_with("per_second");
    let counter = (any(&["total"]) || matches!(words.last(), Some(&"count" | &"sum"))) && !per_second;
    let good = any(&["availability", "success", "uptime", "healthy", "available"]) || lower == "up";
    let aspect = if any(&["lag", "backlog"]) {
        Aspect::Lag
    } else if any(&[
        "error",
        "errors",
        "failed",
        "failures",
        "failure",
        "exceptions",
        "exception",
        "dropped",
        "rejected",
    ]) || good
    {
        Aspect::Errors
    } else if any(&["restart", "restarts"]) {
        Aspect::Restart
    } else if any(&["network", "net", "tcp", "retransmits", "packets"]) {
        Aspect::Network
    } else if any(&["latency", "duration", "elapsed"]) || (any(&["time"]) && any(&["response", "processing"])) {
        Aspect::Latency
    } else if any(&["cpu", "throttled"]) {
        Aspect::Cpu
    } else if any(&["memory", "mem", "rss", "heap", "swap"]) {
        Aspect::Memory
    } else if any(&["disk", "filesystem", "fs", "io", "iops"]) {
        Aspect::Disk
    } else if any(&["requests", "request", "events", "records", "messages", "calls", "rows", "queries", "operations"]) {
        Aspect::Traffic
    } else {
        return None;
    };
    let percent = any(&["percent", "percentage", "pct", "utilization", "utilisation"]);
    let unit = match () {
        () if percent => "%",
        () if any(&["millicores"]) => "m",
        // Of a histogram or summary: how many, whatever is measured.
        () if counter && lower.ends_with("_count") => "/s",
        () if any(&["seconds"]) && (aspect == Aspect::Latency || !counter) => "s",
        () if any(&["ms", "milliseconds"]) => "ms",
        () if any(&["bytes"]) => "B",
        () if counter || per_second => "/s",
        () => "",
    };
    let remote = matches!(aspect, Aspect::Latency | Aspect::Errors) && any(&["client", "outbound", "upstream"]);
    Some(Meaning { aspect, counter, good, remote, shared: any(&["node", "host", "system"]), percent, unit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_has_no_unit_of_what_is_counted() {
        for (name, want) in [("http_request_duration_seconds_count", "/s"), ("http_request_duration_seconds_sum", "s")]
        {
            assert_eq!(meaning(name).map(|m| m.unit), Some(want), "{name}");
        }
    }

    #[test]
    fn words_tell_what_is_measured() {
        let check = |name: &str, want: Option<(Aspect, bool)>| {
            assert_eq!(meaning(name).map(|m| (m.aspect, m.counter)), want, "{name}");
        };
        check("container_cpu_usage_seconds_total", Some((Aspect::Cpu, true)));
        check("container_memory_working_set_bytes", Some((Aspect::Memory, false)));
        check("http_server_request_duration_seconds_sum", Some((Aspect::Latency, true)));
        check("http_requests_total", Some((Aspect::Traffic, true)));
        check("requests_failed_total", Some((Aspect::Errors, true)));
        check("kafka_consumergroup_group_lag_seconds", Some((Aspect::Lag, false)));
        check("container_network_receive_bytes_per_second", Some((Aspect::Network, false)));
        check("http_server_request_duration_seconds_bucket", None);
        check("app_build_info", None);
        check("answer_to_everything", None);
        assert!(meaning("service_availability_percent").unwrap().good);
        assert!(meaning("node_cpu_usage_percent").unwrap().shared);
    }
}
