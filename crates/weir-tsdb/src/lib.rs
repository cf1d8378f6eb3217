//! The metrics store.
//!
//! [`Head`] keeps series and their newest samples in memory, under a budget; [`block`] keeps samples on disk.
//! [`MetricStore`] is what a server uses: every write is in a log on disk before it is acknowledged.
//!
//! Read first: [`MetricStore`], [`Head`], then `series.rs` (samples of one series) and `index.rs` (which match).
//!
//! Invariants: a series' samples ascend by time without duplicates; a series' number is never given to
//! another one; readers never block writers for longer than one series' copy; no lock of a shard is
//! held while another one is taken.

pub mod block;
pub mod chunk;
mod frame;
mod head;
mod index;
mod open;
mod run;
mod series;
mod store;

pub use frame::decode_batch;
pub use head::{Head, WhenFull};
pub use store::{Logged, MetricStore, MetricStoreError, MetricStoreOptions, Recovered, ReplayError};
