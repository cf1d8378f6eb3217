//! Annotations: what is worth knowing about a result that is still an answer.
//! Wording follows Prometheus `util/annotations`.

use crate::ast::Span;
use crate::parse::quote::go_string;

/// Most notes of each kind that are kept: they name metrics, of which there may be many.
const NOTES_MAX: usize = 100;

#[derive(Default)]
pub(super) struct Notes {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

impl Notes {
    pub fn warn(&mut self, text: String, span: Span) {
        add(&mut self.warnings, format!("PromQL warning: {text} ({}:{})", span.line, span.column));
    }
    pub fn info(&mut self, text: String, span: Span) {
        add(&mut self.infos, format!("PromQL info: {text} ({}:{})", span.line, span.column));
    }

    pub fn maybe_no_counter(&mut self, metric: &str, span: Span) {
        let suffixes = ["_total", "_sum", "_count", "_bucket"];
        if !metric.is_empty() && !suffixes.iter().any(|s| metric.ends_with(s)) {
            let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
            self.info(format!("{text} {}", go_string(metric)), span);
        }
    }

    pub fn bad_quantile(&mut self, phi: f64, span: Span) {
        let phi = crate::number::format_literal(phi);
        self.warn(format!("quantile value should be between 0 and 1, got {phi}"), span);
    }

    pub fn bad_bucket(&mut self, metric: &str, le: &str, span: Span) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", go_string(le));
        self.warn(with_metric(text, metric), span);
    }

    pub fn forced_monotonic(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        self.info(with_metric(text.to_owned(), metric), span);
    }
}

fn with_metric(text: String, metric: &str) -> String {
    if metric.is_empty() { text } else { format!("{text} for metric name {}", go_string(metric)) }
}

fn add(notes: &mut Vec<String>, text: String) {
    if notes.len() < NOTES_MAX && !notes.contains(&text) {
        notes.push(text);
    }
}
