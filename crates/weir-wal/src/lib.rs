//! The durable floor: files behind a trait, and a write-ahead log over them.
//!
//! [`Dir`] is what a store asks of a disk; [`OsDir`] is the real one and [`SimDir`] one in memory that
//! loses and tears what was not synced, fills up, flips bits and fails syncs, all from a seed. [`Log`]
//! is a segmented log of opaque frames with group commit, checksums and repair. Everything blocks; this
//! crate starts no thread, reads no clock and knows nothing of what a frame holds.
//!
//! Read first: [`Log`], [`Position`], [`Dir`]. The bytes are drawn in `docs/format/wal.md`.
//!
//! # How a store uses the log
//!
//! A frame is self-contained: tenant, receive time and the request, without ids that only this process
//! knows. For every write, under the lock that guards the store's memory:
//!
//! 1. `let end = log.append(kind, &parts)?` (a checksum and a copy; no I/O, but for back pressure),
//! 2. apply the write to memory;
//!
//! then, the lock released, `log.sync_to(end)?` and only then the acknowledgement. As frames and memory
//! change under one lock, memory frozen at a cut holds exactly the frames before `log.roll()` of that
//! moment. When the blocks of the cut are durable, the manifest swap that lists them records that
//! position; then `log.truncate_before(position)`. At start the store reads the position from its manifest,
//! gives it to [`Log::open`] and applies `log.replay(position)`; a frame that was never acknowledged may be among them, so applying
//! must be idempotent. A store asks [`Log::wants_cut`] and cuts when it says so, and calls [`Log::tick`]
//! every second or so.
//!
//! ```
//! use std::sync::Arc;
//! use weir_wal::{Log, LogOptions, Position, Replayed, SimDir};
//!
//! let dir = Arc::new(SimDir::new(1));
//! let (log, _damage) = Log::open(dir.clone(), "wal/spans", Position::START, LogOptions::default()).unwrap();
//! let end = log.append(1, &[b"tenant and time ", b"request"]).unwrap();
//! log.sync_to(end).unwrap();
//! drop(log);
//!
//! dir.restart();
//! let (log, _) = Log::open(dir, "wal/spans", Position::START, LogOptions::default()).unwrap();
//! let Some(Ok(Replayed::Frame(frame))) = log.replay(Position::START).next() else { panic!("it was synced") };
//! assert_eq!(&frame.payload[..], b"tenant and time request");
//! assert_eq!(frame.end, end);
//! ```
//!
//! Invariants: what [`Log::sync_to`] answered `Ok` for survives a crash ([`SyncMode::Always`]); positions
//! ascend and none is used twice; after a failed sync nothing more is written to that file; damage costs
//! the frames it touches.

mod dir;
mod frame;
mod log;
mod os;
mod replay;
mod sim;
mod writer;

pub use dir::{Dir, DirError, DirErrorKind, DirFile, TEMPORARY, folder_of};
pub use frame::PAYLOAD_BYTES_MAX;
#[cfg(feature = "mutants")]
pub use log::Mutant;
pub use log::{Log, LogError, LogOptions, LogStats, Position, SyncMode};
pub use os::OsDir;
pub use replay::{Damage, Frame, Replay, Replayed};
pub use sim::SimDir;
