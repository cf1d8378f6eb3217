//! Connectors: the end of pipelines of one signal and the beginning of pipelines of metrics.
//!
//! A connector is a [`Machine`]: batches in, metrics out when their time has come, no clock and no task. What it holds
//! between two collections is bounded by constants and by the limits of its configuration; what finds no room is counted.

mod count;
mod family;
mod graph;
mod histogram;
mod resource;
mod spans;

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use weir_model::{Nanos, TenantId};

use crate::data::Data;

pub use count::CountConfig;
pub use graph::ServiceGraphConfig;
pub use spans::SpanMetricsConfig;

/// A connector between two signals; `forward` only joins pipelines and is none of these.
#[derive(Clone, Debug)]
pub enum ConnectorConfig {
    Count(CountConfig),
    ServiceGraph(ServiceGraphConfig),
    SpanMetrics(SpanMetricsConfig),
}

/// Batches of deltas that no pipeline took yet. Cumulative ones need no place: the next collection has them in it.
const LATER_MAX: usize = 1000;

/// When something is taken or collected, and when it was last collected: series begin there, at zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub before: Nanos,
    pub now: Nanos,
}

/// What became of the items that were handed in, by a name for each outcome.
pub(crate) type Outcomes = Vec<(&'static str, u64)>;

pub(crate) trait Machine: Send {
    fn take(&mut self, tenant: &TenantId, data: Data, at: At);
    /// Lets go of what has waited long enough.
    fn expire(&mut self, _at: At) {}
    fn collect(&mut self, at: At) -> Vec<(TenantId, Data)>;
    /// Whether a collection empties it, so that what it gave must not get lost.
    fn is_delta(&self) -> bool;
    fn outcomes(&self) -> Outcomes;
}

/// A connector at work, one for all pipelines that it stands in.
pub(crate) struct Connector {
    every: Duration,
    state: Mutex<State>,
}

struct State {
    machine: Box<dyn Machine>,
    last: Option<Nanos>,
    /// Whether anything came since the last collection.
    is_touched: bool,
    later: VecDeque<(TenantId, Data)>,
    n_lost: u64,
}

impl Connector {
    pub fn new(config: &ConnectorConfig) -> Self {
        let (every, machine): (Duration, Box<dyn Machine>) = match config {
            ConnectorConfig::Count(config) => (count::EVERY, Box::new(count::Count::new(config.clone()))),
            ConnectorConfig::ServiceGraph(config) => {
                (config.metrics_flush_interval, Box::new(graph::ServiceGraph::new(config.clone())))
            }
            ConnectorConfig::SpanMetrics(config) => {
                (config.metrics_flush_interval, Box::new(spans::SpanMetrics::new(config.clone())))
            }
        };
        let state = State { machine, last: None, is_touched: false, later: VecDeque::new(), n_lost: 0 };
        Self { every, state: Mutex::new(state) }
    }

    pub fn take(&self, tenant: &TenantId, data: Data, now: Nanos) {
        let mut state = self.state.lock();
        let at = state.at(now);
        state.is_touched = true;
        state.machine.take(tenant, data, at);
    }

    /// What is due: what could not be handed on before, then a collection when its time has come.
    pub fn tick(&self, now: Nanos) -> Vec<(TenantId, Data)> {
        let mut state = self.state.lock();
        let at = state.at(now);
        state.machine.expire(at);
        let waited = now.0.saturating_sub(at.before.0);
        let is_due = match self.every.is_zero() {
            true => state.is_touched && waited > 0,
            false => u128::try_from(waited).is_ok_and(|waited| waited >= self.every.as_nanos()),
        };
        let mut out: Vec<(TenantId, Data)> = state.later.drain(..).collect();
        if is_due {
            out.extend(state.collect(at));
        }
        out
    }

    /// What it holds, whatever its time, if anything came since the last collection.
    pub fn flush(&self, now: Nanos) -> Vec<(TenantId, Data)> {
        let mut state = self.state.lock();
        let at = state.at(now);
        let mut out: Vec<(TenantId, Data)> = state.later.drain(..).collect();
        if state.is_touched {
            out.extend(state.collect(at));
        }
        out
    }

    /// Takes back what could not be handed on; the oldest goes when there is no room.
    pub fn keep_for_later(&self, tenant: TenantId, data: Data) {
        let mut state = self.state.lock();
        if !state.machine.is_delta() {
            return;
        }
        if state.later.len() >= LATER_MAX
            && let Some((_, lost)) = state.later.pop_front()
        {
            state.n_lost += lost.n_items() as u64;
        }
        state.later.push_back((tenant, data));
    }

    pub fn outcomes(&self) -> Outcomes {
        let state = self.state.lock();
        let mut outcomes = state.machine.outcomes();
        outcomes.push(("lost_points", state.n_lost));
        outcomes
    }
}

impl State {
    /// Time never goes backward here, so that points of a series have times that ascend.
    fn at(&mut self, now: Nanos) -> At {
        let before = *self.last.get_or_insert(now);
        At { before, now: Nanos(now.0.max(before.0)) }
    }

    fn collect(&mut self, at: At) -> Vec<(TenantId, Data)> {
        // Stores count in milliseconds: two collections within one would be one point, and the second a repeat.
        let now = Nanos(at.now.0.max(at.before.0.saturating_add(1_000_000)));
        self.last = Some(now);
        self.is_touched = false;
        self.machine.collect(At { now, ..at })
    }
}

#[cfg(test)]
mod tests;
