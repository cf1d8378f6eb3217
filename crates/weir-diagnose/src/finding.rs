//! Findings: what moved, where, and how much that says about the place.

use std::sync::Arc;

use weir_model::Timestamp;

use crate::stats::Shift;
use crate::types::{CauseKind, Chart, Signal, Thing};

/// What moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aspect {
    Cpu,
    Memory,
    Disk,
    Network,
    /// Time spent in the service itself, its callees' time taken off.
    SelfTime,
    /// A statement or a callee that does not speak for itself got slower.
    Dependency,
    /// Calls that an operation makes or no longer makes.
    Structure,
    /// Failed spans and exceptions, error counters, availability.
    Errors,
    /// Latency with everything that is waited for in it.
    Latency,
    Traffic,
    Lag,
    Logs,
    /// Gone, or began again.
    Restart,
}

impl Aspect {
    /// What it means for the service that it was found in.
    pub fn kind(self) -> CauseKind {
        match self {
            Self::Cpu => CauseKind::Cpu,
            Self::Memory => CauseKind::Memory,
            Self::Disk => CauseKind::Disk,
            Self::Network => CauseKind::Network,
            Self::SelfTime | Self::Dependency | Self::Latency | Self::Lag => CauseKind::Latency,
            Self::Structure | Self::Logs => CauseKind::Code,
            Self::Errors => CauseKind::Error,
            Self::Traffic => CauseKind::Traffic,
            Self::Restart => CauseKind::Other,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Finding {
    pub service: Arc<str>,
    pub instance: Option<Arc<str>>,
    pub aspect: Aspect,
    pub signal: Signal,
    /// How much it says, from 0; about 1 is notable, 3 and more is loud.
    pub weight: f64,
    pub before: f64,
    pub during: f64,
    pub unit: &'static str,
    pub since: Timestamp,
    /// What was measured, as the start of a sentence: `self time of GET /orders`.
    pub subject: String,
    pub chart: Option<Chart>,
    pub thing: Thing,
    /// Of a changed number of calls: who is called more or less.
    pub callee: Option<Arc<str>>,
    /// Of a statement: it reads or returns more rows than before, so it is not merely waiting.
    pub work_grew: bool,
}

impl Finding {
    pub fn text(&self) -> String {
        let Self { subject, before, during, unit, .. } = self;
        let space = if unit.is_empty() || *unit == "%" { "" } else { " " };
        format!("{subject}: {} to {}{space}{unit}", short(*before), short(*during))
    }
}

/// Three digits that count.
pub fn short(value: f64) -> String {
    let size = value.abs();
    let digits = match size {
        _ if size == 0.0 || size >= 100.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => (2 - size.log10().floor() as i32).clamp(2, 6) as usize,
    };
    let text = format!("{value:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// Evidence in a shift: zero below three deviations, then the product of surprise and effect.
pub fn weigh(shift: &Shift, effect_floor: f64) -> f64 {
    if shift.z.abs() < 3.0 {
        return 0.0;
    }
    (shift.surprise() * shift.effect(effect_floor)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, want) in [(0.0, "0"), (1234.56, "1235"), (12.34, "12.3"), (0.01234, "0.0123"), (2.5, "2.5")] {
            assert_eq!(short(value), want);
        }
    }
}
