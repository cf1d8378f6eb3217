//! One process of the pipeline: `weir demo-service`. It serves `/metrics`, `/ready` and `/control` on its port,
//! plays its role until its standard input ends, and then leaves in order.
//!
//! Standard input is the cord to the supervisor: its end means "stop", whoever ended it, so no process
//! outlives the demo. A process started with `standby` prepares everything and waits for a line first; that is how
//! a deployment replaces a pod with a gap of a fraction of a second.

mod aggregator;
mod consume;
mod delivery;
mod enricher;
mod producer;
mod send;
mod sink;
mod tracker;

use std::collections::HashSet;
use std::io::BufRead;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::error::DemoError;
use crate::logs::{Level, Logger};
use crate::metrics::Metrics;
use crate::telemetry::Telemetry;
use crate::topology::{Assignment, Role};

/// What every role is given.
#[derive(Clone)]
pub(crate) struct Shared {
    pub assignment: Arc<Assignment>,
    pub telemetry: Telemetry,
    pub metrics: Metrics,
    pub logger: Logger,
    pub controls: Arc<Controls>,
    /// Cancelled when the process should stop taking in work.
    pub stop: CancellationToken,
}

/// What the supervisor may turn while the process runs.
#[derive(Default)]
pub(crate) struct Controls {
    pub ready: AtomicBool,
    /// Producers: permille of the usual rate.
    pub rate_permille: AtomicU64,
    /// Consumers: partitions whose current record shall be passed over.
    pub skips: Mutex<HashSet<i32>>,
}

impl Controls {
    fn new() -> Self {
        Self { rate_permille: AtomicU64::new(1000), ..Self::default() }
    }

    /// True once for each skip asked for.
    pub fn take_skip(&self, partition: i32) -> bool {
        self.skips.lock().remove(&partition)
    }
}

/// Runs one process to its end.
pub async fn run(assignment: Assignment, standby: bool) -> Result<(), DemoError> {
    let mut cord = Cord::attach();
    let names = &assignment.topology.names;
    let shared = Shared {
        telemetry: Telemetry::start(&assignment)?,
        metrics: Metrics::new(&assignment.version),
        logger: Logger::new(assignment.service(), &names.environment, &assignment.instance.pod, &assignment.version),
        controls: Arc::new(Controls::new()),
        stop: CancellationToken::new(),
        assignment: Arc::new(assignment),
    };
    let player = Player::prepare(&shared)?;
    if standby {
        shared.logger.log(Level::Info, crate::supervisor::STANDING_BY, None, None, &[]);
        if !cord.wait_for_line().await {
            return Ok(());
        }
    }
    let (app, task) = player.start(shared.clone())?;
    let port = shared.assignment.instance.port;
    let server = tokio::spawn(serve(app, port, shared.stop.clone()));
    shared.logger.log(Level::Info, "started", None, None, &[("port", port.into())]);
    cord.wait_for_end().await;
    shared.logger.log(Level::Info, "stopping", None, None, &[]);
    shared.stop.cancel();
    // Work in flight is finished and its position kept; a blocked record must not keep the process.
    let _ = tokio::time::timeout(Duration::from_secs(3), task).await;
    let _ = tokio::time::timeout(Duration::from_millis(200), server).await;
    let telemetry = shared.telemetry.clone();
    tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    Ok(())
}

/// A role with everything opened that takes time to open.
enum Player {
    Producer(producer::Producer),
    Enricher(enricher::Enricher),
    Aggregator(aggregator::Aggregator),
    Tracker(tracker::Tracker),
    Sink(sink::Sink),
    Delivery(delivery::Delivery),
}

type Task = tokio::task::JoinHandle<()>;

impl Player {
    fn prepare(shared: &Shared) -> Result<Self, DemoError> {
        Ok(match shared.assignment.instance.role {
            Role::Producer => Self::Producer(producer::Producer::new(shared)?),
            Role::Enricher => Self::Enricher(enricher::Enricher::new(shared)?),
            Role::Aggregator => Self::Aggregator(aggregator::Aggregator::new(shared)?),
            Role::Tracker => Self::Tracker(tracker::Tracker::new(shared)?),
            Role::Sink => Self::Sink(sink::Sink::new(shared)?),
            Role::Delivery => Self::Delivery(delivery::Delivery::new(shared)?),
        })
    }

    fn start(self, shared: Shared) -> Result<(axum::Router, Task), DemoError> {
        let app = router(&shared);
        Ok(match self {
            Self::Producer(producer) => (app, tokio::spawn(producer.run(shared))),
            Self::Enricher(handler) => (app, consume::start(shared, "enrich", handler)?),
            Self::Aggregator(handler) => (app, consume::start(shared, "aggregate", handler)?),
            Self::Tracker(handler) => (app, consume::start(shared, "track", handler)?),
            Self::Sink(handler) => (app, consume::start(shared, "store", handler)?),
            Self::Delivery(handler) => (app.merge(handler.router()), consume::start(shared, "deliver", handler)?),
        })
    }
}

async fn serve(app: axum::Router, port: u16, stop: CancellationToken) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    // The predecessor of a deployment may hold the port for another moment.
    for _ in 0..100 {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => {
                let serving = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned());
                if let Err(error) = serving.await {
                    tracing::warn!(%error, "the process's own server ended");
                }
                return;
            }
            Err(error) => tracing::debug!(%error, %address, "the port is not free yet"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tracing::error!(%address, "the port did not become free; metrics are not served");
}

fn router(shared: &Shared) -> axum::Router {
    axum::Router::new()
        .route("/metrics", get(metrics))
        .route("/ready", get(ready))
        .route("/control/rate", post(set_rate))
        .route("/control/skip", post(skip))
        .with_state(shared.clone())
}

async fn metrics(State(shared): State<Shared>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", content_type)], shared.metrics.encode())
}

async fn ready(State(shared): State<Shared>) -> StatusCode {
    if shared.controls.ready.load(Ordering::Relaxed) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[derive(Deserialize)]
struct Rate {
    permille: u64,
}

async fn set_rate(State(shared): State<Shared>, Query(rate): Query<Rate>) -> StatusCode {
    shared.controls.rate_permille.store(rate.permille.min(20_000), Ordering::Relaxed);
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
struct Skip {
    partition: i32,
}

async fn skip(State(shared): State<Shared>, Query(skip): Query<Skip>) -> StatusCode {
    shared.controls.skips.lock().insert(skip.partition);
    StatusCode::NO_CONTENT
}

/// Standard input, read by a thread of its own, since a blocking read cannot be cancelled.
struct Cord(tokio::sync::mpsc::Receiver<()>);

impl Cord {
    fn attach() -> Self {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || {
                for line in std::io::stdin().lock().lines() {
                    if line.is_err() || sender.blocking_send(()).is_err() {
                        return;
                    }
                }
            })
            .expect("a process can start its first thread");
        Self(receiver)
    }

    /// False when the input ended instead.
    async fn wait_for_line(&mut self) -> bool {
        self.0.recv().await.is_some()
    }

    async fn wait_for_end(&mut self) {
        while self.0.recv().await.is_some() {}
    }
}
