//! Service level objectives: read from files, turned into recording rules and burn-rate alerts, and counted.
//!
//! [`parse`] reads weir's short form, OpenSLO and Sloth. [`rules`] writes a rule file that Prometheus would take
//! as well; whoever runs rules runs it. [`Standing`] is the arithmetic of budgets, [`page_times`] says how long a
//! failure takes to page. This crate evaluates nothing, has no clock and no I/O.
//!
//! Read first: [`Slo`], [`Sli`], [`Burn`].
//!
//! Invariants: every query that leaves this crate parses as PromQL; an objective is above 0 and below 1; a
//! key that would change behaviour and is not known is refused by name.

mod burn;
mod period;
mod read;
mod rules;
mod slo;

pub use burn::{Burn, PageTime, Severity, Standing, Timing, page_times};
pub use period::Period;
pub use read::{SloFileError, parse};
pub use rules::{consumed_query, rate_query, rules, window_text};
pub use slo::{Alert, Alerts, Sli, Slo};
