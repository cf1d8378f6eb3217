//! What this crate says about itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Debug)]
pub struct Metrics {
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

    pub fn register(&self, registry: &mut Registry) {
        let mut counter = |name: &str, help: &str, c: &Counter| registry.register(name, help, c.clone());
        counter("weir_rules_evaluations", "Rules evaluated on the interval grid", &self.evaluations);
        counter("weir_rules_evaluation_failures", "Rules whose evaluation failed", &self.failures);
        counter("weir_rules_arrival_evaluations", "Rules evaluated because a commit touched them", &self.arrivals);
        counter("weir_rules_grid_points_missed", "Grid points skipped because a group was late", &self.missed);
        counter("weir_rules_transitions", "Alert transitions told to listeners", &self.transitions);
        registry.register(
            "weir_rules_group_evaluation_seconds",
            "Time to evaluate all rules of a group once",
            self.group_seconds.clone(),
        );
    }
}
