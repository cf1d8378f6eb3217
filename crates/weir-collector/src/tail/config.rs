//! `tail_sampling` as the file has it.

use std::time::Duration;

use opentelemetry_proto::tonic::trace::v1::Span;

use super::bucket::Bucket;
use super::policy::{Composite, Policy, Rule};
use crate::config::{Field, Section};
use crate::ottl::{Context, Paths};
use crate::process::{ErrorMode, conditions};

#[derive(Clone, Debug)]
pub struct TailSamplingConfig {
    /// From the first span of a trace to its decision.
    pub decision_wait: Duration,
    /// Traces in memory, decided ones included.
    pub num_traces: usize,
    pub sampled_cache_size: usize,
    pub non_sampled_cache_size: usize,
    /// weir's own: an error, or a root that is slow enough, decides at once where nothing can overrule it any more.
    pub early_decision: bool,
    /// The first vote to sample ends the asking.
    pub sample_on_first_match: bool,
    pub policies: Vec<Policy>,
}

const STATUS_ERROR: i32 = 2;
/// Policies within policies.
const DEPTH_MAX: usize = 8;

impl TailSamplingConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let cache = section.section("decision_cache");
        let size = |key| cache.as_ref().map_or(0, |cache| cache.size_or(key, 0));
        let (sampled_cache_size, non_sampled_cache_size) = (size("sampled_cache_size"), size("non_sampled_cache_size"));
        if let Some(cache) = cache {
            cache.finish();
        }
        let read = Self {
            decision_wait: section.duration_or("decision_wait", Duration::from_secs(30)),
            num_traces: section.size_or("num_traces", 50_000),
            sampled_cache_size,
            non_sampled_cache_size,
            early_decision: section.bool_or("early_decision", false),
            sample_on_first_match: section.bool_or("sample_on_first_match", false),
            policies: policies(&section, "policies", 0),
        };
        if read.num_traces == 0 {
            section.error("num_traces is zero: no trace could wait for its decision");
        }
        if read.early_decision && Early::of(&read).is_none() {
            section.at().warn(
                "early_decision has no effect: no policy keeps errors or slow traces, or one that drops, is inverted or \
                 limits a rate could still overrule it",
            );
        }
        // A hint for sizes of tables, which grow as they need here.
        section.get("expected_new_traces_per_sec");
        section.get("drop_pending_traces_on_shutdown").filter(|f| f.bool() == Some(true)).inspect(|f| {
            f.warn("has no effect: traces that wait are in the write-ahead log, and are decided after the restart");
        });
        section.unsupported(&["block_on_overflow", "decision_wait_after_root_received", "maximum_trace_size_bytes"]);
        section.finish();
        read
    }
}

/// What is reason enough to keep a trace, whatever else comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Early {
    pub on_error: bool,
    /// Of a root that lasts at least so long.
    pub slow_ms: Option<u64>,
}

impl Early {
    /// `None` when nothing may be decided before its time.
    pub fn of(config: &TailSamplingConfig) -> Option<Self> {
        if !config.early_decision || config.policies.iter().any(Policy::can_overrule) {
            return None;
        }
        let rules = || config.policies.iter().map(|policy| &policy.rule);
        let keeps_errors = |rule: &Rule| matches!(rule, Rule::StatusCode(codes) if codes.contains(&STATUS_ERROR));
        let slow = |rule: &Rule| match rule {
            Rule::Latency { threshold_ms, upper_ms: 0 } => Some(*threshold_ms),
            _ => None,
        };
        let early = Self { on_error: rules().any(keeps_errors), slow_ms: rules().filter_map(slow).min() };
        (early.on_error || early.slow_ms.is_some()).then_some(early)
    }

    pub fn is_reason(&self, span: &Span) -> bool {
        let is_error = || span.status.as_ref().is_some_and(|status| status.code == STATUS_ERROR);
        let took_ms = || span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano) / 1_000_000;
        (self.on_error && is_error())
            || (span.parent_span_id.is_empty() && self.slow_ms.is_some_and(|threshold| took_ms() >= threshold))
    }
}

fn policies(section: &Section<'_>, key: &'static str, depth: usize) -> Vec<Policy> {
    let items = section.items(key);
    if items.is_empty() {
        section.error(format!("`{key}` is missing or empty"));
    }
    let mut read: Vec<Policy> = Vec::new();
    for item in &items {
        let Some(policy) = policy(item, depth) else { continue };
        if read.iter().any(|known| known.name == policy.name) {
            item.error(format!("the policy `{}` stands here twice", policy.name));
        }
        read.push(policy);
    }
    read
}

fn policy(item: &Field<'_>, depth: usize) -> Option<Policy> {
    let section = item.section();
    if depth > DEPTH_MAX {
        section.error(format!("policies are nested deeper than {DEPTH_MAX}"));
        return None;
    }
    let name = section.required("name").and_then(|f| f.text()).unwrap_or_default();
    let kind = section.required("type").and_then(|f| f.text())?;
    let rule = rule(&section, &kind, depth);
    section.finish();
    Some(Policy { name, rule: rule? })
}

fn rule(section: &Section<'_>, kind: &str, depth: usize) -> Option<Rule> {
    // The key of a policy's own settings is the name of its type, but for those that hold others.
    let inner = |key: &'static str| {
        let found = section.section(key);
        if found.is_none() {
            section.error(format!("a policy of type `{kind}` needs `{key}`"));
        }
        found
    };
    let (rule, settings) = match kind {
        "always_sample" => return Some(Rule::AlwaysSample),
        "trace_flags" => return Some(Rule::TraceFlags),
        "latency" => {
            let s = inner("latency")?;
            let (threshold_ms, upper_ms) = (s.unsigned_or("threshold_ms", 0), s.unsigned_or("upper_threshold_ms", 0));
            if upper_ms != 0 && upper_ms <= threshold_ms {
                s.error("upper_threshold_ms is not above threshold_ms: no trace could match");
            }
            (Some(Rule::Latency { threshold_ms, upper_ms }), s)
        }
        "status_code" => {
            let s = inner("status_code")?;
            let codes = s.items("status_codes").iter().filter_map(status_code).collect::<Vec<_>>();
            if codes.is_empty() {
                s.error("`status_codes` is missing or empty");
            }
            (Some(Rule::StatusCode(codes)), s)
        }
        "probabilistic" => {
            let s = inner("probabilistic")?;
            let percentage = s.float("sampling_percentage").unwrap_or(0.0);
            let salt = s.text("hash_salt").filter(|salt| !salt.is_empty());
            (Some(Rule::Probabilistic { percentage, salt: salt.unwrap_or_else(|| "default-hash-seed".to_owned()) }), s)
        }
        "string_attribute" => {
            let s = inner("string_attribute")?;
            (string_attribute(&s), s)
        }
        "numeric_attribute" => {
            let s = inner("numeric_attribute")?;
            let bound = |key| s.int(key).filter(|v| *v != 0);
            let (min, max) = (bound("min_value"), bound("max_value"));
            if min.is_none() && max.is_none() {
                s.error("`min_value` and `max_value` are both absent, or zero, which counts as absent");
            }
            let (min, max, key) = (min.unwrap_or(i64::MIN), max.unwrap_or(i64::MAX), required_text(&s, "key"));
            (key.map(|key| Rule::NumericAttribute { key, min, max, invert: s.bool_or("invert_match", false) }), s)
        }
        "boolean_attribute" => {
            let s = inner("boolean_attribute")?;
            let (key, value) = (required_text(&s, "key"), s.bool_or("value", false));
            (key.map(|key| Rule::BooleanAttribute { key, value, invert: s.bool_or("invert_match", false) }), s)
        }
        "rate_limiting" => {
            let s = inner("rate_limiting")?;
            (bucket(&s, "spans_per_second").map(Rule::RateLimiting), s)
        }
        "bytes_limiting" => {
            let s = inner("bytes_limiting")?;
            (bucket(&s, "bytes_per_second").map(Rule::BytesLimiting), s)
        }
        "span_count" => {
            let s = inner("span_count")?;
            let (min, max) = (s.unsigned_or("min_spans", 0), s.unsigned_or("max_spans", 0));
            if max != 0 && max < min {
                s.error("max_spans is below min_spans: no trace could match");
            }
            (Some(Rule::SpanCount { min, max }), s)
        }
        "trace_state" => {
            let s = inner("trace_state")?;
            let (key, values) = (required_text(&s, "key"), s.texts("values"));
            (key.map(|key| Rule::TraceState { key, values }), s)
        }
        "ottl_condition" => {
            let s = inner("ottl_condition")?;
            let error_mode = ErrorMode::read(s.get("error_mode"));
            let span = conditions(&s.items("span"), Paths::Of(Context::Span));
            let event = conditions(&s.items("spanevent"), Paths::Of(Context::SpanEvent));
            if s.items("span").is_empty() && s.items("spanevent").is_empty() {
                s.error("has no condition: give `span` or `spanevent`");
            }
            (Some(Rule::OttlCondition { error_mode, span, event }), s)
        }
        "and" => {
            let s = inner("and")?;
            (Some(Rule::And(policies(&s, "and_sub_policy", depth + 1))), s)
        }
        "not" => {
            let s = inner("not")?;
            let part = s.required("not_sub_policy").and_then(|field| policy(&field, depth + 1));
            (part.map(|part| Rule::Not(Box::new(part))), s)
        }
        "drop" => {
            let s = inner("drop")?;
            (Some(Rule::Drop(policies(&s, "drop_sub_policy", depth + 1))), s)
        }
        "composite" => {
            let s = inner("composite")?;
            (composite(&s, depth), s)
        }
        other => {
            section.error(format!("unknown type of policy `{other}`"));
            return None;
        }
    };
    settings.finish();
    rule
}

fn required_text(section: &Section<'_>, key: &'static str) -> Option<String> {
    section.required(key).and_then(|field| field.text())
}

fn status_code(item: &Field<'_>) -> Option<i32> {
    match item.text()?.as_str() {
        "UNSET" => Some(0),
        "OK" => Some(1),
        "ERROR" => Some(2),
        other => {
            item.error(format!("`{other}` is no status: OK, ERROR, UNSET"));
            None
        }
    }
}

fn string_attribute(section: &Section<'_>) -> Option<Rule> {
    let is_regex = section.bool_or("enabled_regex_matching", false);
    // Compiled expressions need no cache of results.
    section.get("cache_max_size");
    let items = section.items("values");
    if items.is_empty() {
        section.error("`values` is missing or empty");
    }
    let (mut values, mut regexes) = (Vec::new(), Vec::new());
    for item in &items {
        match item.text() {
            Some(text) if is_regex => match weir_go::regex(&text) {
                Ok(regex) => regexes.push(regex),
                Err(error) => item.error(error.to_string()),
            },
            Some(text) => values.push(text),
            None => {}
        }
    }
    let invert = section.bool_or("invert_match", false);
    let key = required_text(section, "key")?;
    Some(Rule::StringAttribute { key, values, regexes, invert })
}

fn bucket(section: &Section<'_>, key: &'static str) -> Option<Bucket> {
    let rate = section.required(key).and_then(|field| field.unsigned());
    let burst = section.get("burst_capacity").and_then(|field| field.unsigned()).filter(|v| *v > 0);
    let rate = rate?;
    Some(Bucket::new(rate, burst.unwrap_or(rate.saturating_mul(2))))
}

fn composite(section: &Section<'_>, depth: usize) -> Option<Rule> {
    let total = section.required("max_total_spans_per_second").and_then(|field| field.unsigned());
    let order = section.items("policy_order");
    let mut parts: Vec<Policy> = policies(section, "composite_sub_policy", depth + 1);
    let mut shares: Vec<(String, f64)> = Vec::new();
    for item in section.items("rate_allocation") {
        let inner = item.section();
        let policy = required_text(&inner, "policy");
        let percent = inner.required("percent").and_then(|field| field.float());
        inner.finish();
        if let (Some(policy), Some(percent)) = (policy, percent) {
            if !parts.iter().any(|p| p.name == policy) {
                item.error(format!("there is no sub-policy `{policy}`"));
            }
            shares.push((policy, percent));
        }
    }
    if order.is_empty() {
        section.error("`policy_order` is missing or empty: no sub-policy would be asked");
    }
    let total = total?;
    let mut ordered = Vec::new();
    for item in &order {
        let Some(name) = item.text() else { continue };
        let Some(k) = parts.iter().position(|p| p.name == name) else {
            item.error(format!("there is no sub-policy `{name}`, or it stands here twice"));
            continue;
        };
        let share = shares.iter().find(|(policy, _)| *policy == name);
        // Without an entry it may take everything.
        let limit = share.map_or(total, |(_, percent)| (total as f64 * percent / 100.0) as u64);
        ordered.push((parts.remove(k), limit));
    }
    for left in parts {
        section.at().warn(format!("the sub-policy `{}` is not in policy_order and is never asked", left.name));
    }
    Some(Rule::Composite(Composite { parts: ordered, kept: Vec::new(), second: 0 }))
}
