//! Where data lies on disk.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use weir_state::State;
use weir_wal::{Dir, OsDir};

#[derive(Args, Clone)]
pub struct DataArgs {
    /// Folder for what is stored, made if there is none; silences, what was notified and states of
    /// alerts are kept there. Without it everything is in memory alone.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The data folder, taken by this process alone.
pub struct DataDir {
    pub dir: Arc<dyn Dir>,
    /// Held until the process ends.
    _lock: File,
}

impl DataArgs {
    /// `None` without `--data-dir`.
    pub fn open(&self) -> anyhow::Result<Option<DataDir>> {
        let Some(path) = &self.data_dir else { return Ok(None) };
        let dir = OsDir::open(path).with_context(|| format!("--data-dir {}", path.display()))?;
        let lock_path = path.join("weir.lock");
        let lock = File::create(&lock_path).with_context(|| format!("create {}", lock_path.display()))?;
        let taken = || format!("--data-dir {} is in use by another weir: give each its own", path.display());
        lock.try_lock().with_context(taken)?;
        Ok(Some(DataDir { dir: Arc::new(dir), _lock: lock }))
    }
}

/// Small records, on disk with a data folder, else in memory.
pub fn state(data: Option<&DataDir>) -> anyhow::Result<State> {
    match data {
        Some(data) => State::open(data.dir.clone()).context("open the state"),
        None => Ok(State::in_memory()),
    }
}
