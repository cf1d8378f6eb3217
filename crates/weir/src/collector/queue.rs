//! What goes to other servers: a bounded queue in memory and its senders, with retries as the file has them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_collector::config::{Common, Retry};
use weir_collector::{ComponentId, Data, ExporterConfig};
use weir_model::TenantId;
use weir_model::sink::WriteError;

use super::send::{Failed, Prepared, Target};

/// Of one exporter.
pub struct Queue {
    id: ComponentId,
    items: mpsc::Sender<(TenantId, Data)>,
}

impl Queue {
    /// `drain`: nothing more comes; what waits is sent once more. `tasks` ends when it was.
    pub fn start(
        id: &ComponentId,
        exporter: &ExporterConfig,
        user_agent: &str,
        drain: CancellationToken,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Self> {
        let target = Arc::new(Target::new(exporter, user_agent)?);
        let Some(Common { retry, queue, .. }) = exporter.common() else {
            anyhow::bail!("has nothing to send to");
        };
        let (items, waiting) = mpsc::channel(queue.size.max(1));
        let running = run(id.clone(), waiting, target, queue.n_consumers, *retry, drain, tasks.clone());
        tasks.spawn(running);
        Ok(Self { id: id.clone(), items })
    }

    /// A full queue refuses, so that senders try again.
    pub fn put(&self, tenant: &TenantId, data: Data) -> Result<(), WriteError> {
        self.items.try_send((tenant.clone(), data)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                WriteError::Full(format!("the sending queue of exporter {} is full", self.id))
            }
            mpsc::error::TrySendError::Closed(_) => {
                WriteError::Storage(format!("exporter {} has been stopped", self.id))
            }
        })
    }
}

async fn run(
    id: ComponentId,
    mut waiting: mpsc::Receiver<(TenantId, Data)>,
    target: Arc<Target>,
    n_consumers: usize,
    retry: Retry,
    drain: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(n_consumers.max(1)));
    let mut is_draining = false;
    loop {
        let next = tokio::select! {
            next = waiting.recv() => next,
            () = drain.cancelled(), if !is_draining => {
                is_draining = true;
                waiting.close();
                continue;
            }
        };
        let Some((tenant, data)) = next else { return };
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (id, target) = (id.clone(), target.clone());
        tasks.spawn(async move {
            let _place = place;
            let items = data.n_items();
            let signal = data.signal().as_str();
            let prepared = match target.prepare(&tenant, data) {
                Ok(prepared) => prepared,
                Err(error) => return tracing::error!(%id, signal, items, error, "a batch is dropped"),
            };
            if let Err(error) = deliver(&target, &prepared, retry).await {
                tracing::error!(%id, signal, items, error, "a batch is dropped");
            }
        });
    }
}

/// Sends until it is taken, refused for good, or too old.
async fn deliver(target: &Target, prepared: &Prepared, retry: Retry) -> Result<(), String> {
    let start = Instant::now();
    let mut wait = retry.initial;
    loop {
        let (reason, after) = match target.send(prepared).await {
            Ok(()) => return Ok(()),
            Err(Failed::Permanent(reason)) => return Err(reason),
            Err(Failed::Later { reason, after }) => (reason, after),
        };
        let pause = after.unwrap_or(wait);
        let is_over = !retry.elapsed_max.is_zero() && start.elapsed() + pause > retry.elapsed_max;
        if !retry.is_enabled || is_over {
            return Err(format!("given up after {:.0?}: {reason}", start.elapsed()));
        }
        tracing::debug!(reason, ?pause, "will be sent again");
        tokio::time::sleep(pause).await;
        wait = wait.mul_f64(retry.multiplier).min(retry.max.max(Duration::from_millis(1)));
    }
}
