//! Pushes every update to the fans of its league over WebSocket. A fan-out is one span with its count and latency;
//! an update is delivered when the last subscriber's socket has taken it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use opentelemetry::trace::{SpanKind, TraceContextExt};
use opentelemetry::{Context, KeyValue};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::consume::{Failure, Handler, Record};
use super::send::Ack;
use crate::error::DemoError;
use crate::event::Update;
use crate::logs::Level;
use crate::metrics::{Metrics, Tenant};
use crate::release::Build;

/// Updates that may wait for one fan; a slower fan is disconnected.
const FAN_QUEUE: usize = 1024;
/// Fans of one process.
const N_FANS_MAX: usize = 1000;
/// How long an update waits for a first subscriber of its league.
const WAIT_FOR_FANS: Duration = Duration::from_secs(2);

pub(crate) struct Delivery {
    shared: Shared,
    hall: Arc<Hall>,
    ranking: Ranking,
}

/// The subscribers by league.
#[derive(Default)]
struct Hall(Mutex<HashMap<String, Vec<mpsc::Sender<Arc<FanOut>>>>>);

impl Hall {
    fn n_fans(&self) -> usize {
        self.0.lock().values().map(Vec::len).sum()
    }

    fn enter(&self, league: &str) -> mpsc::Receiver<Arc<FanOut>> {
        let (sender, receiver) = mpsc::channel(FAN_QUEUE);
        self.0.lock().entry(league.to_owned()).or_default().push(sender);
        receiver
    }

    fn has(&self, league: &str) -> bool {
        let mut fans = self.0.lock();
        let Some(fans) = fans.get_mut(league) else { return false };
        fans.retain(|fan| !fan.is_closed());
        !fans.is_empty()
    }

    /// Queues the push for each subscriber and gives their number. Who cannot keep up has to leave.
    fn push(&self, league: &str, push: &Arc<FanOut>) -> usize {
        let mut fans = self.0.lock();
        let Some(fans) = fans.get_mut(league) else { return 0 };
        fans.retain(|fan| fan.try_send(push.clone()).is_ok());
        fans.len()
    }
}

/// One update on its way to its fans; finished when the last of them lets go of it.
struct FanOut {
    text: Utf8Bytes,
    context: Context,
    begun: Instant,
    metrics: Metrics,
    tenant: String,
    event_time_ms: i64,
    done: Mutex<Option<oneshot::Sender<()>>>,
}

impl Drop for FanOut {
    fn drop(&mut self) {
        self.metrics.deliveries.get_or_create(&Tenant { tenant: std::mem::take(&mut self.tenant) }).inc();
        self.metrics.end_to_end("delivered", self.event_time_ms);
        let span = self.context.span();
        let took_ms = self.begun.elapsed().as_secs_f64() * 1000.0;
        span.set_attribute(KeyValue::new("fanout.latency_ms", took_ms));
        span.end();
        if let Some(done) = self.done.lock().take() {
            let _ = done.send(());
        }
    }
}

/// The leaderboard that goes with each update.
struct Ranking {
    build: Build,
    /// Figures of all matches of the season.
    season: Vec<f64>,
}

impl Ranking {
    fn new(build: Build) -> Self {
        // A fixed, shuffled season.
        let season = (0..6_000u64).map(|n| (n.wrapping_mul(2_654_435_761) % 1_000_003) as f64).collect();
        Self { build, season }
    }

    /// How many of the season's figures are higher.
    fn place(&self, figure: f64) -> usize {
        match self.build {
            Build::Sound => 1 + self.season.iter().take(100).filter(|f| **f > figure).count(),
            // The bug of the faulty build: it sorts the whole season anew for every update, and writes out both
            // figures at each comparison. Some tens of milliseconds, whatever the compiler makes of it.
            Build::Faulty => {
                let mut all = self.season.clone();
                all.sort_by_key(|figure| format!("{figure:020.3}"));
                all.len() - all.partition_point(|f| *f <= figure)
            }
        }
    }
}

impl Delivery {
    pub fn new(shared: &Shared) -> Result<Self, DemoError> {
        let ranking = Ranking::new(shared.assignment.build);
        Ok(Self { shared: shared.clone(), hall: Arc::default(), ranking })
    }

    pub fn router(&self) -> axum::Router {
        axum::Router::new().route("/ws", get(upgrade)).with_state((self.shared.clone(), self.hall.clone()))
    }

    async fn wait_for_fans(&self, league: &str) -> bool {
        let begun = Instant::now();
        while !self.hall.has(league) {
            if begun.elapsed() > WAIT_FOR_FANS {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

#[derive(Deserialize)]
struct Subscribe {
    league: String,
}

type Room = (Shared, Arc<Hall>);

async fn upgrade(State((shared, hall)): State<Room>, Query(wish): Query<Subscribe>, ws: WebSocketUpgrade) -> Response {
    ws.on_upgrade(move |socket| serve_fan(shared, hall, wish.league, socket))
}

async fn serve_fan(shared: Shared, hall: Arc<Hall>, league: String, mut socket: WebSocket) {
    if hall.n_fans() >= N_FANS_MAX || !shared.assignment.topology.names.leagues.contains(&league) {
        return;
    }
    let mut pushes = hall.enter(&league);
    shared.metrics.fans.inc();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => {
                // What is queued is still written.
                while let Ok(push) = pushes.try_recv() {
                    if socket.send(Message::Text(push.text.clone())).await.is_err() {
                        break;
                    }
                }
                break;
            }
            push = pushes.recv() => {
                let Some(push) = push else { break };
                if socket.send(Message::Text(push.text.clone())).await.is_err() {
                    break;
                }
                shared.metrics.fan_messages.inc();
            }
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    shared.metrics.fans.dec();
}

impl Handler for Delivery {
    async fn handle(&self, record: &Record, span: &Context) -> Result<Ack, Failure> {
        let update: Update = serde_json::from_slice(&record.payload)
            .map_err(|error| Failure::Reject(format!("not an update: {error}")))?;
        if !self.wait_for_fans(&update.tenant).await {
            let what = [("tenant", json!(update.tenant))];
            self.shared.logger.log(Level::Warn, "nobody to deliver to", Some(span), Some(record.at()), &what);
            return Ok(Box::pin(std::future::ready(Ok(()))));
        }
        let place = tokio::task::block_in_place(|| self.ranking.place(update.figure));
        let text = json!({"match": update.match_id, "text": update.headline, "place": place}).to_string();
        let attributes = vec![KeyValue::new("tenant", update.tenant.clone())];
        let context = self.shared.telemetry.start_span("fan out".to_owned(), SpanKind::Internal, attributes, span);
        let (done, finished) = oneshot::channel();
        let push = Arc::new(FanOut {
            text: text.into(),
            context: context.clone(),
            begun: Instant::now(),
            metrics: self.shared.metrics.clone(),
            tenant: update.tenant.clone(),
            event_time_ms: update.event_time_ms,
            done: Mutex::new(Some(done)),
        });
        let n_fans = self.hall.push(&update.tenant, &push);
        context.span().set_attribute(KeyValue::new("fanout.count", i64::try_from(n_fans).unwrap_or(i64::MAX)));
        drop(push);
        Ok(Box::pin(async move { finished.await.map_err(|_| "the fan-out was lost".to_owned()) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_builds_give_a_place() {
        for build in [Build::Sound, Build::Faulty] {
            assert!(Ranking::new(build).place(1e9) <= 1);
        }
    }
}
