//! Logs as columns: templates, variables of a kind, and what finds rows among them.

mod bits;
mod bloom;
mod build;
mod bytes;
mod column;
mod compact;
mod cursor;
mod durable;
mod find;
mod head;
mod ints;
mod load;
mod manifest;
mod memory;
mod needle;
mod plan;
mod request;
mod retention;
mod scan;
mod segment;
mod slot;
mod split;
mod store;
mod text;
mod view;

pub use bytes::Damaged;
pub(crate) use bytes::{Reader, put_bytes, put_int, put_uint};
pub use durable::{LogStoreError, LogStoreOptions, Recovered};
pub use request::DecodeRequest;
pub use retention::{LogRetention, RetentionLimits, RetentionRule};
pub use store::LogStore;
