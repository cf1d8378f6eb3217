//! Collection of log lines, as a Promtail configuration says.
//!
//! [`PromtailConfig`] is a checked file; [`Tailer`] decides which files are followed, what is read and what is
//! remembered of it, as a state machine over [`Files`]; pipelines turn lines into entries. The loop that does
//! what [`Tailer::step`] asks for is the program's.
//!
//! Invariants: a line is delivered at least once, and read again after a crash it has the time that it had
//! before; nothing is remembered as read before it was delivered; memory is bounded by a batch, and by what
//! stages may hold back for each file.

mod alloy;
mod config;
mod discovery;
mod entry;
mod files;
mod metrics;
mod pattern;
mod pipeline;
mod positions;
pub mod push;
#[cfg(test)]
mod sim;
mod stage;
pub mod syslog;
mod tailed;
mod tailer;
mod targets;
#[cfg(test)]
mod tests;

pub use config::{LogClient, LogScrape, PositionsConfig, PromtailConfig};
pub use discovery::{LogDiscovery, Watch};
pub use files::{About, FileId, Files, Kind, OpenFile, OsFiles};
pub use metrics::LogMetrics;
pub use tailed::LineLimit;
pub use tailer::{Effect, Input, Outgoing, Tailer, TailerOptions};
pub use targets::{LogTarget, LogTargets};
