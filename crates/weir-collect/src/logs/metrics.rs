//! weir's own metrics about collected lines.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::stage::metrics::CustomMetrics;

#[derive(Clone, Debug, Default)]
pub struct LogMetrics {
    pub(crate) files: Gauge,
    pub(crate) open_files: Gauge,
    pub(crate) lines: Counter,
    pub(crate) bytes: Counter,
    pub(crate) cut_lines: Counter,
    pub(crate) truncated_files: Counter,
    pub(crate) unread_files: Counter,
    pub(crate) dropped: Family<Reason, Counter>,
    /// Of `metrics` stages.
    pub(crate) custom: CustomMetrics,
    pub delivered_entries: Counter,
    pub failed_deliveries: Counter,
    pub failed_saves: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    reason: String,
}

impl LogMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("weir_collect_log_files", "Files that are followed", self.files.clone());
        registry.register("weir_collect_log_open_files", "Of them, files that are open", self.open_files.clone());
        let all = [
            ("weir_collect_log_lines", "Lines read from files", &self.lines),
            ("weir_collect_log_bytes", "Bytes read from files", &self.bytes),
            ("weir_collect_log_cut_lines", "Lines that were too long, and cut", &self.cut_lines),
            ("weir_collect_log_truncated_files", "Times that a file began anew under its name", &self.truncated_files),
            ("weir_collect_log_unread_files", "Attempts to read a file that failed", &self.unread_files),
            ("weir_collect_log_delivered_entries", "Entries that were handed on", &self.delivered_entries),
            ("weir_collect_log_failed_deliveries", "Attempts to hand entries on that failed", &self.failed_deliveries),
            ("weir_collect_log_failed_saves", "Attempts to write positions that failed", &self.failed_saves),
        ];
        for (name, help, counter) in all {
            registry.register(name, help, counter.clone());
        }
        let help = "Lines that a stage dropped, by reason";
        registry.register("weir_collect_log_dropped_lines", help, self.dropped.clone());
        registry.register_collector(Box::new(self.custom.clone()));
    }

    pub(crate) fn drop_line(&self, reason: &str) {
        self.drop_lines(reason, 1);
    }

    /// Reasons come from the configuration, so they are few.
    pub fn drop_lines(&self, reason: &str, n: usize) {
        self.dropped.get_or_create(&Reason { reason: reason.to_owned() }).inc_by(n as u64);
    }
}
