//! What weir says of its own process on `/metrics`: the `process_` series that every Prometheus client
//! library has (names and units of prometheus/client_golang's process collector), and its memory accounts.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use weir_model::Budget;

/// `USER_HZ` of proc(5): 100 on every architecture that weir is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads the kernel's files and the accounts at each scrape.
#[derive(Debug)]
pub struct OwnMetrics {
    accounts: Vec<Budget>,
}

impl OwnMetrics {
    /// `accounts`: those told by name.
    pub fn new(accounts: Vec<Budget>) -> Self {
        Self { accounts }
    }
}

impl Collector for OwnMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for (name, help, value) in process() {
            let kind = if name.ends_with("_total") { MetricType::Counter } else { MetricType::Gauge };
            // A counter gets its suffix from the encoder.
            let name = name.strip_suffix("_total").unwrap_or(name);
            let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
            match kind {
                MetricType::Counter => metric.encode_counter::<NoLabelSet, f64, f64>(&value, None)?,
                _ => metric.encode_gauge(&value)?,
            }
        }
        type Figure = fn(&Budget) -> u64;
        let figures: [(&str, &str, Figure); 2] = [
            ("weir_memory_reserved_bytes", "Memory that an account holds, its children's included", Budget::used_bytes),
            ("weir_memory_limit_bytes", "Most that an account may hold", Budget::limit_bytes),
        ];
        for (name, help, figure) in figures {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for account in &self.accounts {
                let labels = [("account", account.name())];
                ConstGauge::new(figure(account) as f64).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

/// Name, help and value; what the kernel does not tell is left out.
fn process() -> Vec<(&'static str, &'static str, f64)> {
    let mut out = Vec::new();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kib) = number_after(&status, "VmRSS:") {
        out.push(("process_resident_memory_bytes", "Resident memory size in bytes", kib * 1024.0));
    }
    if let Some(kib) = number_after(&status, "VmSize:") {
        out.push(("process_virtual_memory_bytes", "Virtual memory size in bytes", kib * 1024.0));
    }
    if let Ok(folder) = fs::read_dir("/proc/self/fd") {
        out.push(("process_open_fds", "Number of open file descriptors", folder.count() as f64));
    }
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    if let Some(n) = number_after(&limits, "Max open files") {
        out.push(("process_max_fds", "Maximum number of open file descriptors", n));
    }
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may hold anything; fields 14, 15 and 22 of proc(5) count from behind it.
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    if let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) {
        let seconds = (user + system) / TICKS_PER_SECOND;
        out.push(("process_cpu_seconds_total", "User and system CPU time spent in seconds", seconds));
    }
    let boot = number_after(&fs::read_to_string("/proc/stat").unwrap_or_default(), "btime");
    if let (Some(boot), Some(ticks)) = (boot, fields.get(19)) {
        let at = boot + ticks / TICKS_PER_SECOND;
        out.push(("process_start_time_seconds", "Start time of the process since the Unix epoch in seconds", at));
    }
    out
}

/// The first number behind `key` at the beginning of a line.
fn number_after(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;
    use weir_model::{Clock, SystemClock};

    use super::*;

    #[test]
    fn the_process_and_its_accounts_are_told() {
        let root = Budget::root(1_000);
        let logs = root.child("logs", 500);
        let _held = logs.try_reserve(7).unwrap();
        let mut registry = Registry::default();
        registry.register_collector(Box::new(OwnMetrics::new(vec![root, logs])));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        let value = |series: &str| number_after(&page, series).unwrap_or_else(|| panic!("{series} is not in\n{page}"));
        assert_eq!(value("weir_memory_reserved_bytes{account=\"process\"} "), 7.0);
        assert_eq!(value("weir_memory_reserved_bytes{account=\"process/logs\"} "), 7.0);
        assert_eq!(value("weir_memory_limit_bytes{account=\"process/logs\"} "), 500.0);
        let resident = value("process_resident_memory_bytes ");
        assert!(resident > 1e6 && resident <= value("process_virtual_memory_bytes "), "{page}");
        assert!(value("process_open_fds ") <= value("process_max_fds "), "{page}");
        let now = SystemClock.now().0 as f64 / 1e3;
        let start = value("process_start_time_seconds ");
        assert!(start <= now + 1.0 && start > now - 86_400.0, "{page}");
        assert!(value("process_cpu_seconds_total ") >= 0.0);
    }
}
