//! One suite per store trait, run by every implementation.
//!
//! A suite takes an empty store and panics, with the case's name, where the store breaks the trait's
//! contract. It reads only through the traits.

mod logs;
mod metrics;
mod spans;

pub use logs::logs;
pub use metrics::metrics;
pub use spans::spans;
