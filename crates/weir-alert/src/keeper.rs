//! What a state machine wants kept goes to the disk one batch after the other.

use prometheus_client::metrics::counter::Counter;
use weir_state::{Batch, State};

pub(crate) struct Keeper {
    state: State,
    /// What is kept, for the log.
    what: &'static str,
    /// Batches that did not reach the disk.
    unwritten: Counter,
    /// Batches reach the disk in the order in which they were taken.
    writing: tokio::sync::Mutex<()>,
}

impl Keeper {
    pub fn new(state: State, what: &'static str, unwritten: Counter) -> Self {
        Self { state, what, unwritten, writing: tokio::sync::Mutex::default() }
    }

    /// Returns when what `take` gives is on disk, or could not be written, which is logged and counted.
    pub async fn keep(&self, take: impl FnOnce() -> Batch) {
        let _one_at_a_time = self.writing.lock().await;
        let batch = take();
        if batch.is_empty() {
            return;
        }
        let (state, what) = (self.state.clone(), self.what);
        match tokio::task::spawn_blocking(move || state.commit(batch)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.unwritten.inc();
                tracing::error!(%error, "{what} are not on disk");
            }
            Err(error) => tracing::error!(%error, "writing {what} stopped"),
        }
    }
}
