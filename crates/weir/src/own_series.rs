//! Series that weir makes itself and writes at an interval.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use weir_ingest::{Ingest, Protocol, SenderRef};
use weir_model::sink::MetricBatch;
use weir_model::{TenantId, Timestamp};

/// Writes what `due` gives for the time, until the program stops. `what` is the sender's name, and in the log.
pub async fn write_every<D>(
    interval: Duration,
    what: &'static str,
    ingest: Arc<Ingest>,
    stop: CancellationToken,
    due: D,
) where
    D: Fn(Timestamp) -> Vec<(TenantId, MetricBatch)> + Send + Sync + 'static,
{
    let (due, sender) = (Arc::new(due), SenderRef::new(Protocol::Internal, what, "weir"));
    let mut every = tokio::time::interval(interval);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(every.tick()).await.is_some() {
        let (due, to, sender) = (due.clone(), ingest.clone(), sender.clone());
        let done = tokio::task::spawn_blocking(move || {
            let due = due(to.clock().now());
            due.into_iter().try_for_each(|(tenant, batch)| to.write_metrics(&tenant, &sender, batch).map(drop))
        });
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "{what}: not stored as series"),
            Err(error) => tracing::error!(%error, "{what}: ended early"),
        }
    }
}
