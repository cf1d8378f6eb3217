//! Immutable blocks of samples on disk.
//!
//! A block is one file: pages of encoded values, then the index (times, symbols, series, postings), then
//! a footer; it is written under another name, synced, renamed, and counts only once the manifest lists
//! it ([`Blocks`]). Everything is read through [`weir_wal::Dir`]; damage costs the page or the block it is
//! in. `docs/format/block.md` draws the bytes.
//!
//! Days that are over are rolled up into buckets of five minutes, weeks into hours: blocks of the same form, one for
//! each of the columns that `rollup.rs` computes; `stretch.rs` says when, and which a read takes.
//!
//! Read first: [`Blocks`] (the listed blocks of all tenants), `write.rs` and `index.rs` (one block).

mod cache;
mod cut;
mod decode;
mod index;
mod manifest;
mod merge;
mod page;
mod plan;
mod postings;
mod read;
mod roll;
mod rollup;
mod series;
mod store;
mod stretch;
mod walk;
mod write;

pub use cut::Cut;
pub use index::BlockIndex;
pub use manifest::{BlockMeta, Manifest};
pub use plan::{CompactionOptions, CompactionPlan, expired, plan_compaction};
pub use read::HeadAndBlocks;
pub use rollup::Column;
pub use store::{Blocks, BlocksOptions, Opened};
pub use stretch::{Expiry, GoneBefore, Level, RollupOptions, RollupPlan, Stretch, expiry, plan_rollup};
pub use write::BlockWriter;

use crate::chunk::ChunkError;
use weir_wal::DirError;

/// Chunks end where a multiple of this begins, so that series of one scrape share their times even
/// when one of them missed a scrape, and so that compaction can copy chunks as they are.
pub const WINDOW_MS: i64 = 2 * 60 * 60 * 1000;
/// Most samples of a chunk in a block: bounds what a query of a few minutes decodes.
pub const CHUNK_SAMPLES: usize = 1440;

#[derive(Clone, Debug, thiserror::Error)]
pub enum BlockError {
    #[error(transparent)]
    Dir(#[from] DirError),
    #[error("damaged {path}: {what}, at byte {offset}")]
    Damaged { path: String, offset: u64, what: String },
    #[error("compaction cancelled")]
    Cancelled,
    /// The caller broke a rule of the writer; nothing was listed.
    #[error("cannot write block: {0}")]
    Misuse(&'static str),
}

impl BlockError {
    fn damaged(path: &str, section_start: u64, error: ChunkError) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            offset: section_start + error.offset as u64,
            what: error.what.to_owned(),
        }
    }
}
