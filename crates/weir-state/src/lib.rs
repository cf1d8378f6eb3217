//! Small durable records: silences, what was notified, states of alerts, incidents.
//!
//! A record is a value under table, tenant and key; what a value holds is its owner's business.
//! [`State::commit`] makes a [`Batch`] durable as a whole or not at all, and every owner reads its table
//! once at start with [`State::scan`]. On disk it is a log of batches over a snapshot, which is also what
//! [`State::export`] gives: one file with everything. The bytes are drawn in `docs/format/state.md`.
//!
//! Read first: [`State`], [`Batch`].
//!
//! Invariants: what `commit` answered `Ok` for survives a crash at any byte; a batch is never seen in
//! part; after a failed commit the next one carries what it could not write, so that a full disk loses
//! nothing that memory still knows; the log's room is taken beforehand, so that small batches go on for
//! a while when the disk is full. Absent: queries, large values, I/O on the caller's behalf (all calls
//! block).

mod codec;
mod store;

pub use codec::{Change, DecodeError, decode_batch, decode_snapshot};
pub use store::{Batch, State, StateError};
