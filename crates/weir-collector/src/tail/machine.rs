//! Traces that wait for their decision: a state machine without a clock or a disk.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::AHashMap;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use weir_model::budget::BudgetExceeded;
use weir_model::{Budget, Nanos, Reservation, TenantId, TraceId};

use super::cache::Lru;
use super::config::{Early, TailSamplingConfig};
use super::policy::{Trace, Verdict, Vote, decide};
use super::trace::{Around, Packed};
use crate::data::set;

pub use weir_model::span::SAMPLING_WEIGHT as WEIGHT;

type Key = (TenantId, TraceId);

/// A trace in memory, decided or not.
struct Held {
    first: Nanos,
    state: State,
    /// Numbers the insertions, so that a queue's entry of an earlier life is known as such.
    life: u64,
}

enum State {
    Waiting {
        spans: Packed,
        bytes: u64,
        /// The segment of the log that has its first frame.
        segment: u64,
    },
    Decided {
        is_sampled: bool,
        weight: f64,
    },
}

/// What becomes of the spans of a request.
#[derive(Default)]
pub(crate) struct Sorted {
    /// Of traces that are kept already.
    pub forward: Vec<ResourceSpans>,
    /// To be held.
    pub hold: Vec<ResourceSpans>,
}

/// A trace whose decision was made.
pub(crate) struct Decided {
    pub tenant: TenantId,
    pub trace: TraceId,
    pub is_sampled: bool,
    /// Empty when it is not kept.
    pub spans: Vec<ResourceSpans>,
    pub segment: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TailStats {
    pub new_traces: u64,
    pub dropped_too_early: u64,
    /// Spans that came after their trace's decision.
    pub late_spans: u64,
    pub sampled: u64,
    pub not_sampled: u64,
    /// Decided before their time.
    pub early: u64,
    pub traces_in_memory: u64,
    pub waiting_bytes: u64,
    /// By policy: how often it voted to sample, and how often it did not.
    pub policies: Vec<(String, u64, u64)>,
}

pub(crate) struct Machine {
    config: TailSamplingConfig,
    traces: AHashMap<Key, Held>,
    /// In the order of arrival, all that are in memory.
    arrived: VecDeque<(Key, u64)>,
    /// Those that are not decided, the same way.
    waiting: VecDeque<(Key, u64)>,
    /// What may be decided before its time, and the traces for which there was reason to.
    early: Option<Early>,
    hurried: VecDeque<(Key, u64)>,
    sampled: Lru<Key>,
    not_sampled: Lru<Key>,
    memory: Reservation,
    life: u64,
    stats: TailStats,
}

impl Machine {
    pub fn new(config: TailSamplingConfig, budget: &Budget) -> Result<Self, BudgetExceeded> {
        let policies = config.policies.iter().map(|p| (p.name.clone(), 0, 0)).collect();
        Ok(Self {
            traces: AHashMap::default(),
            arrived: VecDeque::new(),
            waiting: VecDeque::new(),
            early: Early::of(&config),
            hurried: VecDeque::new(),
            sampled: Lru::new(config.sampled_cache_size),
            not_sampled: Lru::new(config.non_sampled_cache_size),
            memory: budget.try_reserve(0)?,
            life: 0,
            stats: TailStats { policies, ..TailStats::default() },
            config,
        })
    }

    pub fn stats(&self) -> TailStats {
        let mut stats = self.stats.clone();
        stats.traces_in_memory = self.traces.len() as u64;
        stats.waiting_bytes = self.memory.bytes();
        stats
    }

    /// What is known of a trace: whether it is kept, and its weight.
    fn decision(&mut self, key: &Key) -> Option<(bool, f64)> {
        match self.traces.get(key).map(|held| &held.state) {
            Some(State::Decided { is_sampled, weight }) => return Some((*is_sampled, *weight)),
            Some(State::Waiting { .. }) => return None,
            None => {}
        }
        // A cached "sampled" wins.
        if self.sampled.touch(key) {
            return Some((true, 1.0));
        }
        self.not_sampled.touch(key).then_some((false, 1.0))
    }

    /// Takes a request apart by what is known of its traces.
    pub fn sort(&mut self, tenant: &TenantId, groups: Vec<ResourceSpans>) -> Sorted {
        let mut sorted = Sorted::default();
        for group in groups {
            let ResourceSpans { resource, scope_spans, schema_url } = group;
            let (mut forward, mut hold) = (Vec::new(), Vec::new());
            for scope in scope_spans {
                let (mut late, mut held) = (Vec::new(), Vec::new());
                for mut span in scope.spans {
                    let Ok(id) = <[u8; 16]>::try_from(&span.trace_id[..]) else { continue };
                    match self.decision(&(tenant.clone(), TraceId(id))) {
                        None => held.push(span),
                        Some((is_sampled, weight)) => {
                            self.stats.late_spans += 1;
                            if is_sampled {
                                weigh(&mut span.attributes, weight);
                                late.push(span);
                            }
                        }
                    }
                }
                let again =
                    |spans| ScopeSpans { scope: scope.scope.clone(), spans, schema_url: scope.schema_url.clone() };
                if !late.is_empty() {
                    forward.push(again(late));
                }
                if !held.is_empty() {
                    hold.push(again(held));
                }
            }
            let again =
                |scope_spans| ResourceSpans { resource: resource.clone(), scope_spans, schema_url: schema_url.clone() };
            if !forward.is_empty() {
                sorted.forward.push(again(forward));
            }
            if !hold.is_empty() {
                sorted.hold.push(again(hold));
            }
        }
        sorted
    }

    /// Takes the memory for what is to be held, so that a refusal comes before anything is.
    pub fn reserve(&mut self, hold: &[ResourceSpans]) -> Result<Grant, BudgetExceeded> {
        use prost::Message as _;
        let bytes: usize = hold.iter().map(|group| group.encoded_len() + 256).sum();
        self.memory.grow(bytes as u64)?;
        Ok(Grant(bytes as u64))
    }

    pub fn give_back(&mut self, grant: Grant) {
        self.memory.shrink(grant.0);
    }

    /// Holds what [`Machine::sort`] set apart, first seen `now`, written in `segment` of the log.
    pub fn hold(&mut self, tenant: &TenantId, groups: Vec<ResourceSpans>, now: Nanos, segment: u64, grant: Grant) {
        let mut grown = 0;
        let mut touched = Vec::new();
        for group in groups {
            for scope in group.scope_spans {
                let around = Arc::new(Around {
                    resource: group.resource.clone(),
                    resource_url: group.schema_url.clone(),
                    scope: scope.scope,
                    scope_url: scope.schema_url,
                });
                for span in &scope.spans {
                    let Ok(id) = <[u8; 16]>::try_from(&span.trace_id[..]) else { continue };
                    let key = (tenant.clone(), TraceId(id));
                    let is_reason = self.early.is_some_and(|early| early.is_reason(span));
                    let held = self.trace(&key, now, segment);
                    let life = held.life;
                    if let State::Waiting { spans, bytes, .. } = &mut held.state {
                        let more = spans.push(&around, span);
                        *bytes += more;
                        grown += more;
                    }
                    if is_reason {
                        self.hurried.push_back((key.clone(), life));
                    }
                    touched.push(key);
                }
            }
        }
        for key in touched {
            if let Some(Held { state: State::Waiting { spans, .. }, .. }) = self.traces.get_mut(&key) {
                spans.shrink();
            }
        }
        // What was asked for is what the request had encoded; the rest is given back, or taken without a
        // limit where fragments cost more than they hold.
        if grown < grant.0 {
            self.memory.shrink(grant.0 - grown);
        } else {
            let _ = self.memory.grow(grown - grant.0);
        }
    }

    /// The trace, made if it is new; the oldest goes when there are too many.
    fn trace(&mut self, key: &Key, now: Nanos, segment: u64) -> &mut Held {
        if !self.traces.contains_key(key) {
            while self.traces.len() >= self.config.num_traces.max(1) {
                if !self.evict() {
                    break;
                }
            }
            self.life += 1;
            self.stats.new_traces += 1;
            self.arrived.push_back((key.clone(), self.life));
            self.waiting.push_back((key.clone(), self.life));
            let state = State::Waiting { spans: Packed::default(), bytes: 0, segment };
            self.traces.insert(key.clone(), Held { first: now, state, life: self.life });
        }
        self.traces.get_mut(key).expect("it was there or has just been put there")
    }

    /// Forgets the oldest; `false` when there is none.
    fn evict(&mut self) -> bool {
        while let Some((key, life)) = self.arrived.pop_front() {
            if self.traces.get(&key).is_none_or(|held| held.life != life) {
                continue;
            }
            match self.traces.remove(&key).map(|held| held.state) {
                Some(State::Decided { is_sampled, .. }) => self.remember(key, is_sampled),
                Some(State::Waiting { bytes, .. }) => {
                    self.stats.dropped_too_early += 1;
                    self.memory.shrink(bytes);
                }
                None => {}
            }
            return true;
        }
        false
    }

    fn remember(&mut self, key: Key, is_sampled: bool) {
        if is_sampled { self.sampled.put(key) } else { self.not_sampled.put(key) }
    }

    /// Decides every trace whose time has come.
    pub fn tick(&mut self, now: Nanos, limit: usize) -> Vec<Decided> {
        let mut decided = Vec::new();
        let wait = i64::try_from(self.config.decision_wait.as_nanos()).unwrap_or(i64::MAX);
        while decided.len() < limit
            && let Some((key, life)) = self.hurried.pop_front()
        {
            if self.traces.get(&key).is_some_and(|held| held.life == life) {
                let made = self.decide(key, now);
                self.stats.early += u64::from(made.is_some());
                decided.extend(made);
            }
        }
        while decided.len() < limit {
            let Some((key, life)) = self.waiting.front() else { break };
            let due = match self.traces.get(key) {
                Some(held) if held.life == *life => held.first.0.saturating_add(wait) <= now.0,
                // Gone, or in another life.
                _ => {
                    self.waiting.pop_front();
                    continue;
                }
            };
            if !due {
                break;
            }
            let Some((key, _)) = self.waiting.pop_front() else { break };
            decided.extend(self.decide(key, now));
        }
        decided
    }

    fn decide(&mut self, key: Key, now: Nanos) -> Option<Decided> {
        let held = self.traces.get_mut(&key)?;
        let State::Waiting { spans, bytes, segment } = &held.state else { return None };
        let (mut groups, bytes, segment) = (spans.unpack(), *bytes, *segment);
        let (n_spans, spans_bytes) = (spans.n_spans(), spans.spans_bytes());
        let mut trace = Trace { id: key.1, groups: &mut groups, n_spans, bytes: spans_bytes, now };
        let Verdict { is_sampled, votes, weight } =
            decide(&mut self.config.policies, self.config.sample_on_first_match, &mut trace);
        for (row, vote) in self.stats.policies.iter_mut().zip(votes) {
            match vote {
                Some(Vote::Sample | Vote::InvertedSample) => row.1 += 1,
                Some(_) => row.2 += 1,
                None => {}
            }
        }
        held.state = State::Decided { is_sampled, weight };
        self.memory.shrink(bytes);
        if is_sampled {
            self.stats.sampled += 1;
            groups.iter_mut().flat_map(|g| &mut g.scope_spans).flat_map(|s| &mut s.spans).for_each(|span| {
                weigh(&mut span.attributes, weight);
            });
        } else {
            self.stats.not_sampled += 1;
            groups = Vec::new();
        }
        let (tenant, trace) = key;
        Some(Decided { tenant, trace, is_sampled, spans: groups, segment })
    }

    /// After a restart: a decision that was made before it.
    pub fn restore_decision(&mut self, tenant: &TenantId, trace: TraceId, is_sampled: bool) {
        let key = (tenant.clone(), trace);
        if let Some(held) = self.traces.get_mut(&key) {
            if let State::Waiting { bytes, .. } = &held.state {
                self.memory.shrink(*bytes);
            }
            held.state = State::Decided { is_sampled, weight: 1.0 };
        } else {
            self.remember(key, is_sampled);
        }
    }

    /// The first segment of the log with a frame of an undecided trace.
    pub fn first_segment(&self) -> Option<u64> {
        let segment = |held: &Held| match held.state {
            State::Waiting { segment, .. } => Some(segment),
            State::Decided { .. } => None,
        };
        // In order of arrival, and so of segments: the first that still waits has the oldest.
        let still = |(key, life): &(Key, u64)| self.traces.get(key).filter(|held| held.life == *life).and_then(segment);
        self.waiting.iter().find_map(still)
    }
}

/// Bytes taken for spans about to be held.
#[must_use]
pub(crate) struct Grant(u64);

/// A trace that stands for more than itself says so on each of its spans.
fn weigh(attributes: &mut Vec<opentelemetry_proto::tonic::common::v1::KeyValue>, weight: f64) {
    if weight > 1.0 {
        set(attributes, WEIGHT, Any::DoubleValue(weight));
    }
}
