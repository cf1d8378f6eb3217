//! The loop of one receiver: read, send in shards, move the cursor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weir_ingest::remote_write::{encode_v1, encode_v2};
use weir_model::sink::{MetricBatch, SeriesBatch};
use weir_model::{Clock, Labels, MetricMetadata, TenantId};
use weir_wal::Position;

use super::Status;
use super::queue::{Cursor, Queue, Taken};
use super::request::{Verdict, send};
use super::split::{drop_old, next_shards, requests};
use crate::config::{RemoteWriteConfig, RemoteWriteVersion};
use crate::http::Http;
use crate::metrics::RemoteMetrics;

/// Families whose metadata is remembered.
const FAMILIES_MAX: usize = 20_000;
/// Entries of metadata in a request of their own.
const METADATA_PER_SEND: usize = 2000;
/// A receiver may not silence its sender for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

#[derive(Clone)]
pub(super) struct Sender {
    pub config: Arc<RemoteWriteConfig>,
    pub http: Http,
    pub external: Labels,
    pub queue: Arc<Queue>,
    pub cursor: Arc<Cursor>,
    pub clock: Arc<dyn Clock>,
    pub metrics: RemoteMetrics,
    pub status: Arc<Mutex<Status>>,
}

type Families = BTreeMap<String, MetricMetadata>;

impl Sender {
    pub async fn run(self) {
        let mut n_shards = self.config.queue.min_shards;
        let mut families = Arc::new(Families::new());
        let mut metadata_due = Instant::now();
        loop {
            let taken = self.take(n_shards).await;
            let Some(tenant) = taken.frames.first().map(|frame| frame.tenant.clone()) else {
                self.commit(taken.end).await;
                continue;
            };
            remember(Arc::make_mut(&mut families), &taken);
            let (end, has_more) = (taken.end, taken.has_more);
            self.status.lock().n_shards = n_shards;
            let shards = requests(&self.config, &self.external, taken.frames, n_shards);
            let mut sending = JoinSet::new();
            for shard in shards {
                let (sender, tenant, families) = (self.clone(), tenant.clone(), families.clone());
                sending.spawn(async move {
                    for batch in shard {
                        sender.deliver(&tenant, batch, &families).await;
                    }
                });
            }
            while sending.join_next().await.is_some() {}
            if let (Some(interval), RemoteWriteVersion::V1) = (self.config.metadata, self.config.version)
                && metadata_due <= Instant::now()
                && !families.is_empty()
            {
                self.deliver_metadata(&tenant, &families).await;
                metadata_due = Instant::now() + interval;
            }
            self.commit(end).await;
            n_shards = next_shards(n_shards, has_more, &self.config.queue);
        }
    }

    /// What fills the shards, or what came until the deadline.
    async fn take(&self, n_shards: usize) -> Taken {
        let queue = &self.config.queue;
        let wanted =
            queue.max_samples_per_send.saturating_mul(n_shards).min(queue.capacity.max(queue.max_samples_per_send));
        let mut deadline = None;
        loop {
            let appended = self.queue.appended.notified();
            let (from, source) = (self.cursor.get(), self.queue.clone());
            let read = tokio::task::spawn_blocking(move || source.read(from, wanted)).await;
            let taken = match read.unwrap_or_else(|e| Err(e.to_string())) {
                Ok(taken) => taken,
                Err(error) => {
                    self.failed(&format!("remote write queue: {error}"));
                    tokio::time::sleep(queue.max_backoff).await;
                    continue;
                }
            };
            let is_empty = taken.frames.is_empty() && taken.end == from;
            if taken.has_more || !is_empty && deadline.is_some_and(|at| at <= Instant::now()) {
                return taken;
            }
            let n: usize = taken.frames.iter().flat_map(|f| &f.batch.series).map(SeriesBatch::n_samples).sum();
            if n >= wanted {
                return taken;
            }
            if is_empty {
                appended.await;
                continue;
            }
            // Not full yet: wait for more, until the first of them has waited long enough.
            let until = *deadline.get_or_insert_with(|| Instant::now() + queue.batch_send_deadline);
            let _ = tokio::time::timeout_at(until, appended).await;
        }
    }

    async fn commit(&self, end: Position) {
        let (queue, cursor) = (self.queue.clone(), self.cursor.clone());
        let done = tokio::task::spawn_blocking(move || queue.commit(&cursor, end)).await;
        if let Err(error) = done.unwrap_or_else(|e| Err(e.to_string())) {
            // Goes on in memory; after a restart some is sent twice.
            self.failed(&error);
        }
    }

    /// Until the receiver took it or refused it for good.
    async fn deliver(&self, tenant: &TenantId, mut batch: MetricBatch, families: &Families) {
        let mut backoff = self.config.queue.min_backoff;
        loop {
            let n_old = drop_old(&mut batch, self.config.queue.sample_age_limit, self.clock.now());
            self.metrics.dropped_samples.inc_by(n_old as u64);
            let n: usize = batch.series.iter().map(SeriesBatch::n_samples).sum();
            if batch.series.is_empty() {
                return;
            }
            let body = match self.config.version {
                RemoteWriteVersion::V1 => encode_v1(&batch),
                RemoteWriteVersion::V2 => encode_v2(&batch, |name| family(families, name)),
            };
            match send(&self.http, &self.config, tenant, &body).await {
                Verdict::Taken => {
                    self.metrics.sent_samples.inc_by(n as u64);
                    self.status.lock().last_error.clear();
                    return;
                }
                Verdict::Refused(why) => {
                    self.metrics.refused_samples.inc_by(n as u64);
                    self.failed(&format!("{n} samples are lost: {why}"));
                    return;
                }
                Verdict::Again { why, after } => {
                    self.metrics.retried_samples.inc_by(n as u64);
                    self.failed(&why);
                    tokio::time::sleep(after.unwrap_or(backoff).min(RETRY_AFTER_MAX)).await;
                    backoff = (backoff * 2).min(self.config.queue.max_backoff);
                }
            }
        }
    }

    /// Once; it comes again.
    async fn deliver_metadata(&self, tenant: &TenantId, families: &Families) {
        let all: Vec<MetricMetadata> = families.values().cloned().collect();
        for part in all.chunks(METADATA_PER_SEND) {
            let batch = MetricBatch { metadata: part.to_vec(), ..MetricBatch::default() };
            if let Verdict::Refused(why) | Verdict::Again { why, .. } =
                send(&self.http, &self.config, tenant, &encode_v1(&batch)).await
            {
                tracing::debug!(url = %self.config.url, %why, "metadata was not taken");
            }
        }
    }

    fn failed(&self, error: &str) {
        let mut status = self.status.lock();
        if status.last_error != error {
            tracing::warn!(url = %self.config.url, %error, "remote write");
            error.clone_into(&mut status.last_error);
        }
    }
}

fn remember(families: &mut Families, taken: &Taken) {
    for metadata in taken.frames.iter().flat_map(|frame| &frame.batch.metadata) {
        if families.len() < FAMILIES_MAX || families.contains_key(&metadata.family) {
            families.insert(metadata.family.clone(), metadata.clone());
        }
    }
}

/// Of a series' name: as it is, or without what histograms, summaries and counters add.
fn family<'a>(families: &'a Families, name: &str) -> Option<&'a MetricMetadata> {
    let bare = || ["_total", "_bucket", "_count", "_sum"].iter().find_map(|end| families.get(name.strip_suffix(end)?));
    families.get(name).or_else(bare)
}
