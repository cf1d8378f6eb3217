//! Recording and alert rules: Prometheus' rule files, evaluated on the interval grid and on arrival.
//!
//! This crate knows no receivers and sends nothing over the network: alerts go to
//! [`weir_model::AlertListener`]s, recorded series to a [`weir_model::sink::MetricSink`].
//!
//! Read first: [`Rules`] (handle and executor), [`AlertMachine`] (the pure state of one rule),
//! [`parse_rule_file`].
//!
//! Invariants: recorded series, `ALERTS`, `for` and resets follow the interval grid alone and equal
//! plain interval evaluation; an evaluation on arrival may announce pending or firing earlier, never
//! take anything back, and only for expressions to which missing data cannot add
//! ([`grows_with_data`]). Rules of one tenant see that tenant's series only.

mod arrival;
mod expand;
mod file;
mod group;
mod inputs;
mod language;
mod machine;
mod manager;
mod metrics;
mod offline;
pub mod pack;
mod promql;
mod spread;
mod stored;
mod view;

#[cfg(test)]
mod simulation;

pub use arrival::grows_with_data;
pub use expand::{Element, Surroundings};
pub use file::{Rule, RuleFileError, RuleGroup, RuleKind, parse_rule_file, parse_rules, read_rule_files, read_rules};
pub use inputs::{Input, Series, Standing, Watched};
pub use language::{Evaluators, Language, RuleExpr};
pub use machine::{Active, AlertMachine, AlertState, RESEND_DELAY, Sight, StepError, StoredAlert, Timing, Transition};
pub use manager::{Evaluate, MissingInput, Options, Recorded, Rules};
pub use metrics::Metrics;
pub use offline::Offline;
pub use promql::PromqlEvaluator;
pub use view::{AlertView, GroupView, Health, HistoryEntry, RuleKindView, RuleView};
