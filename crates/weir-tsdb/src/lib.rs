//! The metrics store.
//!
//! [`Head`] keeps series and their newest samples in memory, under a budget; [`block`] keeps samples on disk.
//!
//! Read first: [`Head`], then `series.rs` (samples of one series) and `index.rs` (which series match).
//!
//! Invariants: a series' samples ascend by time without duplicates; a series' number is never given to
//! another one; readers never block writers for longer than one series' copy; no lock of a shard is
//! held while another one is taken.

pub mod block;
pub mod chunk;
mod head;
mod index;
mod open;
mod run;
mod series;

pub use head::{Head, WhenFull};
