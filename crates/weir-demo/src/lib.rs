//! The demo: a small Kafka-protocol broker, an instrumented pipeline over it, faults, and the drill that scores
//! how weir finds them. Speaks to weir over public APIs only; nothing here knows its stores or engines.
//!
//! Read first: [`topology::Topology`] (what runs where), [`service::run`] (one process) and `service/consume.rs`
//! (the consumer that all stages share).
//!
//! Invariants: a fault is real (an index is dropped, a record cannot be processed, a build has a bug), and nothing
//! that the pipeline reports names it.

pub mod broker;
mod database;
mod drill;
mod error;
mod event;
mod http;
mod logs;
mod metrics;
mod naming;
mod pager;
mod propagate;
mod release;
pub mod service;
mod smoke;
mod supervisor;
mod telemetry;
pub mod topology;

pub use drill::{DrillOptions, DrillResult, run as drill};
pub use error::DemoError;
pub use naming::Names;
pub use pager::Page;
pub use smoke::{Check, run as smoke};
pub use supervisor::{Demo, DemoOptions, Fault, FaultView, ProcessUsage, RULES, Thing, Truth, WeirOptions};
