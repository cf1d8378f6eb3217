//! Policies: what each asks of a trace, and how their votes are combined.
//!
//! Source: opentelemetry-collector-contrib, `processor/tailsamplingprocessor`, behaviour only.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use regex::Regex;
use weir_model::{Nanos, TraceId};

use super::bucket::Bucket;
use crate::data::{Data, get};
use crate::hash::fnv1a_64;
use crate::ottl::{Condition, Context, EvalError, state_value};
use crate::process::{ErrorMode, walk::retain};

/// A policy as the file has it.
#[derive(Clone, Debug)]
pub struct Policy {
    pub name: String,
    pub rule: Rule,
}

#[derive(Clone, Debug)]
pub enum Rule {
    AlwaysSample,
    Latency {
        threshold_ms: u64,
        upper_ms: u64,
    },
    StatusCode(Vec<i32>),
    Probabilistic {
        percentage: f64,
        salt: String,
    },
    StringAttribute {
        key: String,
        values: Vec<String>,
        regexes: Vec<Regex>,
        invert: bool,
    },
    /// Both ends included.
    NumericAttribute {
        key: String,
        min: i64,
        max: i64,
        invert: bool,
    },
    BooleanAttribute {
        key: String,
        value: bool,
        invert: bool,
    },
    RateLimiting(Bucket),
    BytesLimiting(Bucket),
    SpanCount {
        min: u64,
        max: u64,
    },
    TraceState {
        key: String,
        values: Vec<String>,
    },
    TraceFlags,
    OttlCondition {
        error_mode: ErrorMode,
        span: Vec<Condition>,
        event: Vec<Condition>,
    },
    And(Vec<Policy>),
    Not(Box<Policy>),
    Drop(Vec<Policy>),
    Composite(Composite),
}

/// Sub-policies that share a number of spans a second.
#[derive(Clone, Debug)]
pub struct Composite {
    /// In the order in which they are asked, each with its share in spans a second.
    pub parts: Vec<(Policy, u64)>,
    /// Kept in the present second, by part.
    pub(crate) kept: Vec<u64>,
    pub(crate) second: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    Sample,
    NotSample,
    InvertedSample,
    InvertedNotSample,
    Drop,
}

/// A trace about to be decided.
pub(crate) struct Trace<'a> {
    pub id: TraceId,
    pub groups: &'a mut Vec<ResourceSpans>,
    pub n_spans: u64,
    pub bytes: u64,
    pub now: Nanos,
}

impl Trace<'_> {
    fn spans(&self) -> impl Iterator<Item = &Span> {
        self.groups.iter().flat_map(|g| &g.scope_spans).flat_map(|s| &s.spans)
    }

    /// Resources first, as upstream looks.
    fn any_attributes(&self, found: impl Fn(&[KeyValue]) -> bool) -> bool {
        self.groups.iter().filter_map(|g| g.resource.as_ref()).any(|r| found(&r.attributes))
            || self.spans().any(|span| found(&span.attributes))
    }

    fn duration_ms(&self) -> u64 {
        let start = self.spans().map(|s| s.start_time_unix_nano).min().unwrap_or(0);
        let end = self.spans().map(|s| s.end_time_unix_nano).max().unwrap_or(0);
        end.saturating_sub(start) / 1_000_000
    }
}

fn plain(matched: bool) -> Vote {
    if matched { Vote::Sample } else { Vote::NotSample }
}

fn inverted(matched: bool, invert: bool) -> Vote {
    match (invert, matched) {
        (false, matched) => plain(matched),
        (true, true) => Vote::InvertedNotSample,
        (true, false) => Vote::InvertedSample,
    }
}

impl Vote {
    fn is_sample(self) -> bool {
        matches!(self, Self::Sample | Self::InvertedSample)
    }
}

/// Whether a policy's hash keeps a trace: equal in every instance with the same salt.
fn is_drawn(id: TraceId, percentage: f64, salt: &str) -> bool {
    let below = (percentage / 100.0).clamp(0.0, 1.0) * 2_f64.powi(64);
    fnv1a_64(&[salt.as_bytes(), &id.0]) <= below as u64 && percentage > 0.0
}

impl Rule {
    /// Within `and`, inverted votes are plain ones; limits stay limits.
    fn spends(&self) -> bool {
        match self {
            Self::RateLimiting(_) | Self::BytesLimiting(_) | Self::Composite(_) => true,
            Self::And(all) | Self::Drop(all) => all.iter().any(|policy| policy.rule.spends()),
            Self::Not(one) => one.rule.spends(),
            _ => false,
        }
    }
}

impl Policy {
    /// Whether its vote could turn another one's to sample, or spends what is limited.
    pub(super) fn can_overrule(&self) -> bool {
        match &self.rule {
            Rule::StringAttribute { invert, .. }
            | Rule::NumericAttribute { invert, .. }
            | Rule::BooleanAttribute { invert, .. } => *invert,
            other => other.spends() || matches!(other, Rule::Drop(_) | Rule::Not(_)),
        }
    }

    /// Limits spend when asked.
    pub(crate) fn vote(&mut self, trace: &mut Trace<'_>) -> Result<Vote, EvalError> {
        Ok(match &mut self.rule {
            Rule::AlwaysSample => Vote::Sample,
            Rule::Latency { threshold_ms, upper_ms: 0 } => plain(trace.duration_ms() >= *threshold_ms),
            Rule::Latency { threshold_ms, upper_ms } => {
                let duration = trace.duration_ms();
                plain(*threshold_ms < duration && duration <= *upper_ms)
            }
            Rule::StatusCode(codes) => {
                plain(trace.spans().any(|s| codes.contains(&s.status.as_ref().map_or(0, |s| s.code))))
            }
            Rule::Probabilistic { percentage, salt } => plain(is_drawn(trace.id, *percentage, salt)),
            Rule::StringAttribute { key, values, regexes, invert } => {
                let fits = |text: &str| values.iter().any(|v| v == text) || regexes.iter().any(|r| r.is_match(text));
                let found = |list: &[KeyValue]| matches!(get(list, key), Some(Any::StringValue(t)) if fits(t));
                inverted(trace.any_attributes(found), *invert)
            }
            Rule::NumericAttribute { key, min, max, invert } => {
                let found =
                    |list: &[KeyValue]| matches!(get(list, key), Some(Any::IntValue(v)) if (*min..=*max).contains(v));
                inverted(trace.any_attributes(found), *invert)
            }
            Rule::BooleanAttribute { key, value, invert } => {
                let found = |list: &[KeyValue]| matches!(get(list, key), Some(Any::BoolValue(v)) if v == value);
                inverted(trace.any_attributes(found), *invert)
            }
            Rule::RateLimiting(bucket) => plain(bucket.take(trace.n_spans, trace.now)),
            Rule::BytesLimiting(bucket) => plain(bucket.take(trace.bytes, trace.now)),
            Rule::SpanCount { min, max } => plain(*min <= trace.n_spans && (*max == 0 || trace.n_spans <= *max)),
            Rule::TraceState { key, values } => plain(trace.spans().any(|span| {
                state_value(&span.trace_state, key).is_some_and(|found| values.iter().any(|v| v == found))
            })),
            Rule::TraceFlags => plain(trace.spans().any(|span| span.flags & 1 == 1)),
            Rule::OttlCondition { error_mode, span, event } => {
                let any = any_holds(span, Context::Span, *error_mode, trace)?
                    || any_holds(event, Context::SpanEvent, *error_mode, trace)?;
                plain(any)
            }
            Rule::And(parts) => plain(all_sample(parts, trace)?),
            Rule::Not(part) => plain(!part.vote(trace)?.is_sample()),
            Rule::Drop(parts) => {
                if all_sample(parts, trace)? {
                    Vote::Drop
                } else {
                    Vote::NotSample
                }
            }
            Rule::Composite(composite) => plain(composite.keeps(trace)?),
        })
    }

    /// The share of traces that this policy keeps of those that it is for; `None` where it cannot be known.
    pub(crate) fn share(&self) -> Option<f64> {
        match &self.rule {
            Rule::Probabilistic { percentage, .. } => Some((percentage / 100.0).clamp(0.0, 1.0)),
            Rule::RateLimiting(_) | Rule::BytesLimiting(_) | Rule::Composite(_) => None,
            Rule::And(parts) => {
                let shares: Option<Vec<f64>> = parts.iter().map(Self::share).collect();
                // The same salt draws the same traces: of several the smallest counts.
                shares.map(|shares| shares.into_iter().fold(1.0, f64::min))
            }
            _ => Some(1.0),
        }
    }
}

/// Stops at the first refusal, so that limits listed last are not spent.
fn all_sample(parts: &mut [Policy], trace: &mut Trace<'_>) -> Result<bool, EvalError> {
    for part in parts {
        if !part.vote(trace)?.is_sample() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn any_holds(
    conditions: &[Condition],
    context: Context,
    mode: ErrorMode,
    trace: &mut Trace<'_>,
) -> Result<bool, EvalError> {
    if conditions.is_empty() {
        return Ok(false);
    }
    let mut holds = false;
    let mut data = Data::Traces(std::mem::take(trace.groups));
    let asked = retain(&mut data, context, trace.now, &mut |scene| {
        for condition in conditions {
            if holds {
                break;
            }
            match condition.is_true(scene) {
                Ok(is_true) => holds = is_true,
                Err(error) => mode.settle(error)?,
            }
        }
        Ok(true)
    });
    if let Data::Traces(groups) = data {
        *trace.groups = groups;
    }
    asked.map(|()| holds)
}

impl Composite {
    fn keeps(&mut self, trace: &mut Trace<'_>) -> Result<bool, EvalError> {
        let second = trace.now.0.div_euclid(1_000_000_000);
        if self.second != second || self.kept.len() != self.parts.len() {
            self.second = second;
            self.kept = vec![0; self.parts.len()];
        }
        for ((policy, limit), kept) in self.parts.iter_mut().zip(&mut self.kept) {
            if policy.vote(trace)?.is_sample() {
                let fits = *kept + trace.n_spans <= *limit;
                if fits {
                    *kept += trace.n_spans;
                }
                return Ok(fits);
            }
        }
        Ok(false)
    }
}

/// What was decided, and how.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub is_sampled: bool,
    /// By the position of policies; `None` of those that were not asked or failed.
    pub votes: Vec<Option<Vote>>,
    /// How many traces this one stands for.
    pub weight: f64,
}

/// Asks the policies, those that drop first, and combines their votes.
pub(crate) fn decide(policies: &mut [Policy], first_match: bool, trace: &mut Trace<'_>) -> Verdict {
    let mut votes = vec![None; policies.len()];
    let is_drop = |policy: &Policy| matches!(policy.rule, Rule::Drop(_));
    let order: Vec<usize> = (0..policies.len())
        .filter(|k| is_drop(&policies[*k]))
        .chain((0..policies.len()).filter(|k| !is_drop(&policies[*k])))
        .collect();
    let mut share: Option<f64> = Some(0.0);
    for k in order {
        match policies[k].vote(trace) {
            Ok(vote) => votes[k] = Some(vote),
            Err(error) => {
                tracing::debug!(%error, policy = policies[k].name, "a sampling policy abstains");
                continue;
            }
        }
        match votes[k] {
            Some(Vote::Drop) => break,
            Some(Vote::Sample | Vote::InvertedSample) => {
                share = share.zip(policies[k].share()).map(|(a, b)| a.max(b));
                if first_match && votes[k] == Some(Vote::Sample) {
                    break;
                }
            }
            _ => {}
        }
    }
    let has = |vote: Vote| votes.contains(&Some(vote));
    let is_sampled = match () {
        () if has(Vote::Drop) || has(Vote::InvertedNotSample) => false,
        () if has(Vote::Sample) => true,
        () => has(Vote::InvertedSample) && !has(Vote::NotSample),
    };
    let weight = share.filter(|share| *share > 0.0).map_or(1.0, |share| 1.0 / share);
    Verdict { is_sampled, votes, weight }
}
