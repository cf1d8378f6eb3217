//! Annotations: what is worth knowing about a result that is still an answer.
//! Wording follows Prometheus `util/annotations`.

use std::collections::BTreeMap;

use weir_model::source::Coarse;
use weir_model::{TimeRange, Timestamp};

use crate::ast::Span;
use crate::number::{format_duration, format_literal};
use crate::parse::quote::go_string;
use crate::plan::millis;

/// Most notes of each kind that are kept: they name metrics, of which there may be many.
const NOTES_MAX: usize = 100;

#[derive(Default)]
pub(crate) struct Notes {
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
    forced: Vec<Forced>,
    /// First and last time with buckets of a length in milliseconds.
    coarse: BTreeMap<i64, (Timestamp, Timestamp)>,
}

/// Counts of classic buckets that had to be raised, over all steps and series of one place.
struct Forced {
    text: String,
    span: Span,
    steps: (i64, i64),
    buckets: (f64, f64),
    difference: f64,
    n: u64,
}

/// What is being done with histograms.
#[derive(Clone, Copy)]
pub(crate) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Addition => "addition",
            Self::Subtraction => "subtraction",
            Self::Aggregation => "aggregation",
        }
    }
}

impl Notes {
    pub fn warn(&mut self, text: String, span: Span) {
        add(&mut self.warnings, format!("PromQL warning: {text} ({}:{})", span.line, span.column));
    }
    pub fn info(&mut self, text: String, span: Span) {
        add(&mut self.infos, format!("PromQL info: {text} ({}:{})", span.line, span.column));
    }

    /// Those of another part of the same work.
    pub fn add(&mut self, other: Self) {
        other.warnings.into_iter().for_each(|text| add(&mut self.warnings, text));
        other.infos.into_iter().for_each(|text| add(&mut self.infos, text));
        self.forced.extend(other.forced);
    }

    /// Of weir's own: a budget of series was used up.
    pub fn folded(&mut self, metric: &str, labels: &str) {
        let values = "its values beyond the budget of series are one, `other`";
        add(&mut self.warnings, format!("weir: {} is folded by {}: {values}", go_string(metric), go_string(labels)));
    }

    /// Of weir's own: where samples that were read stand for buckets.
    pub fn coarse(&mut self, stretch: &Coarse, read: TimeRange) {
        let (from, until) = (stretch.range.start.max(read.start), stretch.range.end.min(read.end));
        if from <= until {
            let known = self.coarse.entry(millis(stretch.resolution)).or_insert((from, until));
            *known = (known.0.min(from), known.1.max(until));
        }
    }

    /// Of weir's own: a range is shorter than the buckets under it.
    pub fn widened(&mut self, range_ms: i64, bucket_ms: i64, span: Span) {
        let (range, bucket) = (format_duration(range_ms), format_duration(bucket_ms));
        let text = format!("weir: range [{range}] is taken as [{bucket}] where samples are that far apart, and what");
        add(&mut self.infos, format!("{text} grows with it is scaled back ({}:{})", span.line, span.column));
    }

    pub fn maybe_no_counter(&mut self, metric: &str, span: Span) {
        let suffixes = ["_total", "_sum", "_count", "_bucket"];
        if !metric.is_empty() && !suffixes.iter().any(|s| metric.ends_with(s)) {
            let text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:";
            self.info(format!("{text} {}", go_string(metric)), span);
        }
    }

    pub fn no_counter_type(&mut self, metric: &str, kind: &str, span: Span) {
        if !metric.is_empty() && kind != "counter" && kind != "histogram" {
            let text = "metric might not be a counter, __type__ label is not set to \"counter\" or \"histogram\", got";
            self.info(format!("{text} {}: {}", go_string(kind), go_string(metric)), span);
        }
    }

    pub fn bad_quantile(&mut self, phi: f64, span: Span) {
        let phi = format_literal(phi);
        self.warn(format!("quantile value should be between 0 and 1, got {phi}"), span);
    }

    pub fn bad_ratio(&mut self, ratio: f64, capped: f64, span: Span) {
        let (ratio, capped) = (format_literal(ratio), format_literal(capped));
        self.warn(format!("ratio value should be between -1 and 1, got {ratio}, capping to {capped}"), span);
    }

    pub fn bad_bucket(&mut self, metric: &str, le: &str, span: Span) {
        let text = format!("bucket label \"le\" is missing or has a malformed value of {}", go_string(le));
        self.warn(with_metric(text, metric), span);
    }

    /// `lowest` to `highest` are the bounds of the buckets that were raised, at step `at`.
    pub fn forced_monotonic(&mut self, metric: &str, span: Span, at: i64, (lowest, highest): (f64, f64), by: f64) {
        let text = "input to histogram_quantile needed to be fixed for monotonicity (see \
                    https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)";
        let text = with_metric(text.to_owned(), metric);
        if let Some(known) = self.forced.iter_mut().find(|f| f.text == text && f.span == span) {
            known.steps = (known.steps.0.min(at), known.steps.1.max(at));
            known.buckets = (known.buckets.0.min(lowest), known.buckets.1.max(highest));
            known.difference = known.difference.max(by);
            known.n += 1;
        } else if self.forced.len() < NOTES_MAX {
            let (steps, buckets) = ((at, at), (lowest, highest));
            self.forced.push(Forced { text, span, steps, buckets, difference: by, n: 1 });
        }
    }

    /// Warnings and infos.
    pub fn finish(mut self) -> (Vec<String>, Vec<String>) {
        let time = |ms: i64| Timestamp(ms.div_euclid(1000) * 1000).rfc3339();
        for (length, (from, until)) in std::mem::take(&mut self.coarse).into_iter().rev() {
            let (from, until, length) = (time(from.0), time(until.0), format_duration(length));
            add(&mut self.infos, format!("weir: from {from} until {until} there is one sample for each {length}"));
        }
        for Forced { text, span, steps, buckets, difference, n } in std::mem::take(&mut self.forced) {
            let (from, to) = (time(steps.0), time(steps.1));
            let (low, high) = (format_literal(buckets.0), format_literal(buckets.1));
            let difference = two_digits(difference);
            self.info(
                format!("{text}, from buckets {low} to {high}, with a max diff of {difference}, over {n} samples from {from} to {to}"),
                span,
            );
        }
        (self.warnings, self.infos)
    }

    // ---- native histograms -------------------------------------------------------------------

    pub fn mixed_in_range(&mut self, metric: &str, span: Span) {
        let text = "encountered a mix of histograms and floats for metric name";
        self.warn(format!("{text} {}", go_string(metric)), span);
    }
    pub fn mixed_in_aggregation(&mut self, span: Span) {
        self.warn("encountered a mix of histograms and floats for aggregation".to_owned(), span);
    }
    pub fn mixed_classic_native(&mut self, metric: &str, span: Span) {
        self.warn(with_metric("vector contains a mix of classic and native histograms".to_owned(), metric), span);
    }
    pub fn not_counter(&mut self, metric: &str, span: Span) {
        self.warn(format!("this native histogram metric is not a counter: {}", go_string(metric)), span);
    }
    pub fn not_gauge(&mut self, metric: &str, span: Span) {
        self.warn(format!("this native histogram metric is not a gauge: {}", go_string(metric)), span);
    }
    pub fn mixed_schemas(&mut self, metric: &str, span: Span) {
        let text = "vector contains a mix of histograms with exponential and custom buckets schemas for metric name";
        self.warn(format!("{text} {}", go_string(metric)), span);
    }
    pub fn incompatible_layout(&mut self, operator: &str, span: Span) {
        self.warn(format!("incompatible bucket layout encountered for binary operator {operator}"), span);
    }
    pub fn incompatible_types(&mut self, left: &str, operator: &str, right: &str, span: Span) {
        let text = "incompatible sample types encountered for binary operator";
        self.info(format!("{text} {}: {left} {operator} {right}", go_string(operator)), span);
    }
    pub fn ignored_in_aggregation(&mut self, aggregation: &str, span: Span) {
        self.info(format!("ignored histogram in {aggregation} aggregation"), span);
    }
    pub fn histogram_ignored_in_range(&mut self, metric: &str, span: Span) {
        let text = "ignored histograms in a range containing both floats and histograms for metric name";
        self.info(format!("{text} {}", go_string(metric)), span);
    }
    pub fn quantile_nan_result(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_quantile has NaN observations, result is NaN";
        self.info(with_metric(text.to_owned(), metric), span);
    }
    pub fn quantile_nan_skew(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_quantile has NaN observations, result is skewed higher";
        self.info(with_metric(text.to_owned(), metric), span);
    }
    pub fn fraction_nans(&mut self, metric: &str, span: Span) {
        let text = "input to histogram_fraction has NaN observations, which are excluded from all fractions";
        self.info(with_metric(text.to_owned(), metric), span);
    }
    pub fn hints_collide(&mut self, operation: Operation, span: Span) {
        self.warn(format!("conflicting counter resets during histogram {}", operation.as_str()), span);
    }
    pub fn bounds_differ(&mut self, operation: Operation, span: Span) {
        self.info(format!("mismatched custom buckets were reconciled during {}", operation.as_str()), span);
    }
}

fn with_metric(text: String, metric: &str) -> String {
    if metric.is_empty() { text } else { format!("{text} for metric name {}", go_string(metric)) }
}

/// Go's `%.2g`.
fn two_digits(v: f64) -> String {
    let rounded: f64 = format!("{v:.1e}").parse().unwrap_or(v);
    if rounded != 0.0 && (rounded.abs() >= 100.0 || rounded.abs() < 1e-4) {
        let text = format!("{rounded:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{rounded}")
}

fn add(notes: &mut Vec<String>, text: String) {
    if notes.len() < NOTES_MAX && !notes.contains(&text) {
        notes.push(text);
    }
}
