//! Live tail over a WebSocket: what is committed from now on, after the last few entries before.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::Response;
use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use weir_logql::{LogEntryResult, LogParams, LogStream, TailFilter};
use weir_model::source::Direction;
use weir_model::{Commit, CommitFeed, CommitListener, Labels, LogEntry, Nanos, TenantId};

use super::params::Params;
use super::{ApiError, encode, query};
use crate::stores::Stores;
use crate::tenant::Tenant;

/// Batches that wait for a slow reader; the newest are dropped beyond.
const QUEUE_BATCHES: usize = 256;
/// Dropped entries that are named to the reader; the others are only missing.
const DROPPED_MAX: usize = 100;
const DELAY_NANOS_MAX: i64 = 5_000_000_000;

struct Subscriber {
    tenant: TenantId,
    filter: TailFilter,
    queue: mpsc::Sender<(Labels, Vec<LogEntry>)>,
    dropped: Mutex<Vec<(Labels, Nanos)>>,
}

/// All open tails; the one listener of the commit feed for them.
#[derive(Default)]
pub(super) struct TailHub(RwLock<Vec<Weak<Subscriber>>>);

impl TailHub {
    pub(super) fn subscribed(feed: &CommitFeed) -> Arc<Self> {
        let hub = Arc::new(Self::default());
        feed.subscribe(hub.clone());
        hub
    }

    fn join(&self, tenant: TenantId, filter: TailFilter) -> (Arc<Subscriber>, mpsc::Receiver<(Labels, Vec<LogEntry>)>) {
        let (queue, receiver) = mpsc::channel(QUEUE_BATCHES);
        let subscriber = Arc::new(Subscriber { tenant, filter, queue, dropped: Mutex::default() });
        let mut all = self.0.write();
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&subscriber));
        (subscriber, receiver)
    }
}

impl CommitListener for TailHub {
    fn on_commit(&self, tenant: &TenantId, commit: &Commit<'_>) {
        let Commit::Logs { stream, entries } = commit else { return };
        for one in self.0.read().iter().filter_map(Weak::upgrade) {
            if one.tenant != *tenant || !one.filter.selects(stream) {
                continue;
            }
            if one.queue.try_send(((*stream).clone(), entries.to_vec())).is_err() {
                let mut dropped = one.dropped.lock();
                let room = DROPPED_MAX.saturating_sub(dropped.len());
                dropped.extend(entries.iter().take(room).map(|e| ((*stream).clone(), e.at)));
            }
        }
    }
}

struct Session {
    app: Arc<Stores>,
    hub: Arc<TailHub>,
    tenant: TenantId,
    expr: weir_logql::LogExpr,
    start: Nanos,
    limit: usize,
    delay: Duration,
    categories: bool,
}

/// A bad query is refused before the upgrade.
pub(super) async fn tail(app: Arc<Stores>, hub: Arc<TailHub>, request: Request) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    let Tenant(tenant) =
        Tenant::from_request_parts(&mut parts, &()).await.map_err(|(status, text)| ApiError(status, text))?;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let categories = query::wants_categories(&parts.headers);
    let params = Params::from_request(Request::from_parts(parts, body), &()).await?;
    let expr = weir_logql::parse_log(params.required("query")?)?;
    let delay = params.duration("delay_for")?.unwrap_or(0);
    if !(0..=DELAY_NANOS_MAX).contains(&delay) {
        return Err(ApiError::bad("delay_for can't be greater than 5"));
    }
    let hour = 3600 * 1_000_000_000;
    let start = params.time("start")?.unwrap_or(Nanos(app.clock.now_nanos().0 - hour));
    let limit = params.count("limit", 100)?.min(5000);
    let upgrade = upgrade.map_err(|e| ApiError(e.status(), e.body_text()))?;
    let delay = Duration::from_nanos(delay.unsigned_abs());
    let session = Session { app, hub, tenant, expr, start, limit, delay, categories };
    Ok(upgrade.on_upgrade(move |socket| session.run(socket)))
}

/// Entries by stream, those of one frame.
type Frame = BTreeMap<Labels, Vec<LogEntryResult>>;

impl Session {
    async fn run(self, mut socket: WebSocket) {
        if let Err(reason) = self.follow(&mut socket).await {
            let frame = CloseFrame { code: 1011, reason: reason.chars().take(100).collect::<String>().into() };
            // The reader may be gone already; then nobody needs the reason.
            let _ = socket.send(Message::Close(Some(frame))).await;
        }
    }

    async fn follow(&self, socket: &mut WebSocket) -> Result<(), String> {
        // Joined before the past is read, so that nothing falls between the two.
        let (subscriber, mut queue) = self.hub.join(self.tenant.clone(), TailFilter::new(self.expr.clone()));
        let past = self.past().await.map_err(|e| e.1)?;
        let mut seen: HashSet<(Labels, Nanos, Arc<str>)> = HashSet::new();
        let mut frame = Frame::new();
        for stream in past {
            seen.extend(stream.entries.iter().map(|e| (stream.labels.clone(), e.at, e.line.clone())));
            frame.insert(stream.labels, stream.entries);
        }
        let mut ping = tokio::time::interval(Duration::from_secs(1));
        loop {
            if !frame.is_empty() || !subscriber.dropped.lock().is_empty() {
                let text = self.encode(std::mem::take(&mut frame), std::mem::take(&mut *subscriber.dropped.lock()));
                if socket.send(Message::Text(text.to_string().into())).await.is_err() {
                    return Ok(());
                }
            }
            tokio::select! {
                _ = ping.tick() => {
                    if socket.send(Message::Ping(bytes::Bytes::new())).await.is_err() {
                        return Ok(());
                    }
                }
                message = socket.recv() => match message {
                    None | Some(Err(_) | Ok(Message::Close(_))) => return Ok(()),
                    Some(Ok(_)) => {}
                },
                batch = queue.recv() => {
                    let Some(mut batch) = batch else { return Ok(()) };
                    tokio::time::sleep(self.delay).await;
                    loop {
                        take(&subscriber.filter, &batch, self.app.clock.now_nanos(), &mut seen, &mut frame);
                        match queue.try_recv() {
                            Ok(next) => batch = next,
                            Err(_) => break,
                        }
                    }
                }
            }
        }
    }

    /// The newest entries since the asked start, ascending.
    async fn past(&self) -> Result<Vec<LogStream>, ApiError> {
        let end = Nanos(self.app.clock.now_nanos().0.saturating_add(1));
        if end <= self.start {
            return Ok(Vec::new());
        }
        let params = LogParams { start: self.start, end, limit: self.limit, direction: Direction::Backward };
        let mut result = query::run_log(&self.app, self.tenant.clone(), self.expr.clone(), params).await?;
        result.streams.iter_mut().for_each(|s| s.entries.reverse());
        Ok(result.streams)
    }

    fn encode(&self, frame: Frame, dropped: Vec<(Labels, Nanos)>) -> Value {
        let streams: Vec<LogStream> = frame
            .into_iter()
            .map(|(labels, mut entries)| {
                entries.sort_by_key(|e| e.at);
                LogStream { labels, entries }
            })
            .collect();
        let shown = if self.categories { encode::categorised(&streams) } else { encode::merged(&streams) };
        let dropped: Vec<Value> = dropped
            .iter()
            .map(|(labels, at)| json!({"labels": labels.to_string(), "timestamp": at.0.to_string()}))
            .collect();
        let dropped = if dropped.is_empty() { Value::Null } else { json!(dropped) };
        let mut out = json!({"streams": shown, "dropped_entries": dropped});
        if self.categories {
            out["encodingFlags"] = json!(["categorize-labels"]);
        }
        out
    }
}

fn take(
    filter: &TailFilter,
    (stream, entries): &(Labels, Vec<LogEntry>),
    now: Nanos,
    seen: &mut HashSet<(Labels, Nanos, Arc<str>)>,
    frame: &mut Frame,
) {
    for entry in entries {
        let Some((labels, result)) = filter.apply(stream, entry, now) else { continue };
        // What the first frame showed already comes once more when it was committed meanwhile.
        if !seen.is_empty() && seen.remove(&(labels.clone(), result.at, result.line.clone())) {
            continue;
        }
        frame.entry(labels).or_default().push(result);
    }
}
