//! What diagnosis measures of itself.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug)]
pub struct DiagnoseMetrics {
    pub diagnoses: Counter,
    pub diagnoses_failed: Counter,
    pub diagnosis_seconds: Histogram,
    pub incidents_open: Gauge,
    pub alerts_dropped: Counter,
}

impl Default for DiagnoseMetrics {
    fn default() -> Self {
        let buckets = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0];
        Self {
            diagnoses: Counter::default(),
            diagnoses_failed: Counter::default(),
            diagnosis_seconds: Histogram::new(buckets),
            incidents_open: Gauge::default(),
            alerts_dropped: Counter::default(),
        }
    }
}

impl DiagnoseMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let name = |what: &str| format!("weir_diagnose_{what}");
        registry.register(name("runs"), "Diagnoses made for incidents", self.diagnoses.clone());
        registry.register(name("runs_failed"), "Diagnoses that could not read", self.diagnoses_failed.clone());
        registry.register_with_unit(
            name("run_duration"),
            "Time of one diagnosis",
            Unit::Seconds,
            self.diagnosis_seconds.clone(),
        );
        registry.register(name("incidents_open"), "Incidents pending or firing", self.incidents_open.clone());
        registry.register(
            name("alerts_dropped"),
            "Alert transitions not heard because the queue was full",
            self.alerts_dropped.clone(),
        );
    }
}
