//! The metrics store.
//!
//! [`MemMetrics`] keeps everything in memory, under a budget, oldest samples dropped first; nothing
//! survives a restart. It is *not* durable and says so: the page and the start-up line carry the
//! same words.
//!
//! Read first: [`MemMetrics`], then `series.rs` (samples of one series) and `index.rs` (which series
//! match).
//!
//! Invariants: a series' samples ascend by time without duplicates; a series is in the index
//! exactly while it holds samples; readers never block writers for longer than one series' copy.

pub mod block;
pub mod chunk;
mod index;
mod mem;
mod series;

pub use mem::MemMetrics;
