//! The loop of one target.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use weir_ingest::{Protocol, SenderRef};
use weir_model::Timestamp;
use weir_model::sink::MetricBatch;

use super::{Health, Shared, Status};
use crate::config::ScrapeConfig;
use crate::fetch::fetch;
use crate::http::Http;
use crate::scrape::{Answer, Scraped};
use crate::target::Target;

/// A scrape that starts so little late gets the time it was due: even times compress well and
/// rates do not jitter. Source: Prometheus' `ScrapeTimestampTolerance`, made wider for busy machines.
const LATE_MAX: Duration = Duration::from_millis(20);

/// Bodies up to this are parsed in less than a millisecond.
const IN_PLACE_BYTES: usize = 64 << 10;

pub(super) struct Run {
    pub shared: Arc<Shared>,
    pub target: Arc<Target>,
    pub config: Arc<ScrapeConfig>,
    pub http: Http,
    pub status: Arc<Mutex<Status>>,
    /// Why every scrape of the pool fails.
    pub verdict: Arc<Mutex<Option<String>>>,
    pub stop: CancellationToken,
    pub heir: CancellationToken,
}

impl Run {
    pub async fn run(self) {
        let mut scraped = Scraped::default();
        let mut due = first_due(&self.target, self.now());
        loop {
            let wait = due.since(self.now());
            if self.stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                break;
            }
            let started = self.now();
            let at = if started.since(due) <= LATE_MAX { due } else { started };
            if self.stop.run_until_cancelled(self.scrape(&mut scraped, at)).await.is_none() {
                break;
            }
            let (next, n_skipped) = next_due(due, self.target.interval, self.now());
            self.shared.metrics.late_scrapes.inc_by(n_skipped);
            due = next;
        }
        self.finish(&mut scraped).await;
    }

    fn now(&self) -> Timestamp {
        self.shared.options.ingest.clock().now()
    }

    async fn scrape(&self, scraped: &mut Scraped, at: Timestamp) {
        let started = tokio::time::Instant::now();
        let verdict = self.verdict.lock().clone();
        let answer = match verdict {
            Some(text) => Err(text),
            None => fetch(&self.http, &self.config, &self.target.url, self.target.timeout).await,
        };
        let took = started.elapsed();
        self.shared.metrics.scrapes.inc();
        let (batch, error) = match &answer {
            Ok(fetched) => {
                let body = Answer::Body { bytes: &fetched.body, format: fetched.format };
                // Parsing a megabyte takes some milliseconds: let other tasks move elsewhere.
                let mut run = || scraped.scrape(&self.config, &self.target.labels, &body, at, took);
                if fetched.body.len() < IN_PLACE_BYTES { run() } else { tokio::task::block_in_place(run) }
            }
            Err(error) => {
                let (batch, _) = scraped.scrape(&self.config, &self.target.labels, &Answer::Failed, at, took);
                (batch, Some(error.clone()))
            }
        };
        if error.is_some() {
            self.shared.metrics.failed_scrapes.inc();
        }
        self.note(error, at, took, scraped);
        self.write(batch).await;
    }

    fn note(&self, error: Option<String>, at: Timestamp, took: Duration, scraped: &Scraped) {
        let mut status = self.status.lock();
        status.health = if error.is_some() { Health::Down } else { Health::Up };
        status.last_error = error.unwrap_or_default();
        status.last_scrape = Some(at);
        status.last_duration = took;
        if *status.metadata != *scraped.metadata() {
            status.metadata = Arc::new(scraped.metadata().clone());
        }
    }

    /// On a thread that may wait for the disk.
    async fn write(&self, batch: MetricBatch) {
        let options = &self.shared.options;
        let sender = SenderRef::new(Protocol::Scrape, self.target.url.clone(), "");
        let (ingest, tenant) = (options.ingest.clone(), options.tenant.clone());
        let written = tokio::task::spawn_blocking(move || ingest.write_metrics(&tenant, &sender, batch)).await;
        let error = match written {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(panicked) => panicked.to_string(),
        };
        tracing::warn!(error, url = %self.target.url, "a scrape was not stored");
    }

    /// A target that was removed ends its series after two intervals, unless another loop goes on
    /// with them or the program stops.
    async fn finish(&self, scraped: &mut Scraped) {
        let is_over = async {
            tokio::select! { () = self.shared.options.shutdown.cancelled() => {}, () = self.heir.cancelled() => {} }
        };
        if tokio::time::timeout(self.target.interval * 2, is_over).await.is_err() {
            let batch = scraped.end(&self.config, &self.target.labels, self.now());
            self.write(batch).await;
        }
        // Nobody needs to stop this loop from ending its series any more.
        self.heir.cancel();
    }
}

/// Targets are spread over the interval by what they are, the same after each start.
fn first_due(target: &Target, now: Timestamp) -> Timestamp {
    let interval = i64::try_from(target.interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let hash = target.labels.fingerprint()
        ^ target.url.bytes().fold(0xcbf2_9ce4_8422_2325, |h: u64, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    let offset = i64::try_from(hash % interval.unsigned_abs()).unwrap_or(0);
    let base = now.0 - now.0.rem_euclid(interval) + offset;
    Timestamp(if base < now.0 { base + interval } else { base })
}

/// The next time on the target's grid that is not past, and how many were passed over.
fn next_due(due: Timestamp, interval: Duration, now: Timestamp) -> (Timestamp, u64) {
    let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let next = due.0.saturating_add(interval);
    let behind = (now.0 - next).max(0) / interval;
    (Timestamp(next.saturating_add(behind * interval)), behind.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::Labels;

    #[test]
    fn scrapes_stay_on_the_targets_grid() {
        let target = Target {
            pool: "j".to_owned(),
            discovered: Labels::empty(),
            labels: Labels::from_pairs([("job", "j"), ("instance", "a:1")]),
            url: "http://a:1/metrics".to_owned(),
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
        };
        let first = first_due(&target, Timestamp(1_700_000_003_000));
        assert!((1_700_000_003_000..1_700_000_018_000).contains(&first.0));
        let later = first_due(&target, Timestamp(1_700_000_099_000));
        assert_eq!((later.0 - first.0) % 15_000, 0);
        let check = |due, now, want| assert_eq!(next_due(Timestamp(due), Duration::from_secs(1), Timestamp(now)), want);
        check(1000, 1500, (Timestamp(2000), 0));
        check(1000, 2000, (Timestamp(2000), 0));
        check(1000, 4500, (Timestamp(4000), 2));
    }
}
