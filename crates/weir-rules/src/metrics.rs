//! What this crate says about itself.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    group: String,
    rule: String,
}

#[derive(Debug)]
pub struct Metrics {
    /// As many as there are rules.
    input_wait: Family<RuleLabels, Gauge<f64, AtomicU64>>,
    evaluations: Counter,
    failures: Counter,
    pub(crate) arrivals: Counter,
    pub(crate) missed: Counter,
    pub(crate) transitions: Counter,
    pub(crate) group_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            input_wait: Family::default(),
            evaluations: Counter::default(),
            failures: Counter::default(),
            arrivals: Counter::default(),
            missed: Counter::default(),
            transitions: Counter::default(),
            group_seconds: Histogram::new([0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0]),
        }
    }
}

impl Metrics {
    pub(crate) fn evaluated(&self, failed: bool) {
        self.evaluations.inc();
        if failed {
            self.failures.inc();
        }
    }

    pub(crate) fn input_wait(&self, group: &str, rule: &str, wait: Duration) {
        let labels = RuleLabels { group: group.to_owned(), rule: rule.to_owned() };
        self.input_wait.get_or_create(&labels).set(wait.as_secs_f64());
    }

    pub(crate) fn forget_wait(&self, group: &str, rule: &str) {
        self.input_wait.remove(&RuleLabels { group: group.to_owned(), rule: rule.to_owned() });
    }

    pub fn register(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, c: &Counter| registry.register(name, help, c.clone());
        counter("weir_rules_evaluations", "Rules evaluated on the interval grid", &self.evaluations);
        counter("weir_rules_evaluation_failures", "Rules whose evaluation failed", &self.failures);
        counter("weir_rules_arrival_evaluations", "Rules evaluated because a commit touched them", &self.arrivals);
        counter("weir_rules_grid_points_missed", "Grid points skipped because a group was late", &self.missed);
        counter("weir_rules_transitions", "Alert transitions told to listeners", &self.transitions);
        registry.register(
            "weir_rules_input_wait_seconds",
            "How long after a grid point the rule is evaluated, for its data to be complete",
            self.input_wait.clone(),
        );
        registry.register(
            "weir_rules_group_evaluation_seconds",
            "Time to evaluate all rules of a group once",
            self.group_seconds.clone(),
        );
    }
}
