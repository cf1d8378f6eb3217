//! The service graph: who calls whom, from pairs of spans that find each other.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::AHashMap;
use weir_model::{AttrValue, Nanos, Span, SpanId, SpanKind, Timestamp, TraceId};

use crate::series::{EDGE_BOUNDS, Histogram, Samples, named};

/// Halves that wait for the other, and how long; as Tempo has it.
const OPEN_MAX: usize = 10_000;
const WAIT_MS: i64 = 10_000;
const EDGES_MAX: usize = 2_000;
/// What says that a client span asks a database, and who that is, best first.
const DATABASE: [&str; 4] = ["db.namespace", "db.name", "db.system.name", "db.system"];
const PEER: [&str; 3] = ["peer.service", "server.address", "network.peer.address"];

#[derive(Clone, PartialEq, Eq, Hash)]
struct EdgeKey {
    client: Arc<str>,
    server: Arc<str>,
    connection: &'static str,
}

struct Edge {
    total: u64,
    failed: u64,
    client: Histogram,
    server: Histogram,
    /// Between the end of sending and the begin of processing.
    messaging: Histogram,
    is_new: bool,
}

/// One side of a request.
struct Half {
    service: Arc<str>,
    start: Nanos,
    end: Nanos,
    failed: bool,
    is_messaging: bool,
    is_client: bool,
    since: Timestamp,
}

#[derive(Default)]
pub struct Edges {
    open: AHashMap<(TraceId, SpanId, bool), Half>,
    /// In the order of arrival; entries whose half has gone are passed over.
    waiting: VecDeque<(TraceId, SpanId, bool, Timestamp)>,
    edges: AHashMap<EdgeKey, Edge>,
    unpaired: AHashMap<(Arc<str>, bool), u64>,
    dropped: u64,
}

fn seconds(from: Nanos, to: Nanos) -> f64 {
    to.0.saturating_sub(from.0).max(0) as f64 / 1e9
}

impl Edges {
    pub fn add(&mut self, span: &Span, service: &Arc<str>, now: Timestamp) {
        self.expire(now);
        let (is_client, is_messaging) = match span.kind {
            SpanKind::Client => (true, false),
            SpanKind::Producer => (true, true),
            SpanKind::Server => (false, false),
            SpanKind::Consumer => (false, true),
            SpanKind::Internal | SpanKind::Unspecified => return,
        };
        let half = Half {
            service: service.clone(),
            start: span.start,
            end: span.end,
            failed: span.is_error(),
            is_messaging,
            is_client,
            since: now,
        };
        if is_client && let Some(database) = database(span) {
            let key = EdgeKey { client: service.clone(), server: database.as_str().into(), connection: "database" };
            return self.count(key, &half, &half, span.trace_id, now);
        }
        let id = if is_client { Some(span.span_id) } else { span.parent };
        let Some(id) = id else { return };
        match self.open.remove(&(span.trace_id, id, !is_client)) {
            Some(other) => {
                let (client, server) = if is_client { (&half, &other) } else { (&other, &half) };
                let connection = if client.is_messaging || server.is_messaging { "messaging_system" } else { "" };
                let key = EdgeKey { client: client.service.clone(), server: server.service.clone(), connection };
                // A message that several read has several edges.
                let again = (client.is_messaging && client.is_client).then(|| client.again());
                self.count(key, client, server, span.trace_id, now);
                if let Some(again) = again {
                    self.open.insert((span.trace_id, id, true), again);
                }
            }
            None if self.open.len() >= OPEN_MAX => self.dropped += 1,
            None => {
                self.waiting.push_back((span.trace_id, id, is_client, now));
                self.open.insert((span.trace_id, id, is_client), half);
            }
        }
    }

    fn expire(&mut self, now: Timestamp) {
        while let Some((trace, id, is_client, since)) = self.waiting.front().copied() {
            if now.0.saturating_sub(since.0) < WAIT_MS {
                break;
            }
            self.waiting.pop_front();
            if let Some(half) = self.open.remove(&(trace, id, is_client))
                && half.since.0 > 0
                && self.unpaired.len() < EDGES_MAX
            {
                *self.unpaired.entry((half.service, is_client)).or_default() += 1;
            }
        }
    }

    fn count(&mut self, key: EdgeKey, client: &Half, server: &Half, trace_id: TraceId, now: Timestamp) {
        if self.edges.len() >= EDGES_MAX && !self.edges.contains_key(&key) {
            self.dropped += 1;
            return;
        }
        let edge = self.edges.entry(key).or_insert_with(|| Edge {
            total: 0,
            failed: 0,
            client: Histogram::new(&EDGE_BOUNDS),
            server: Histogram::new(&EDGE_BOUNDS),
            messaging: Histogram::new(&EDGE_BOUNDS),
            is_new: true,
        });
        edge.total += 1;
        edge.failed += u64::from(client.failed || server.failed);
        edge.client.add(seconds(client.start, client.end), trace_id, now);
        edge.server.add(seconds(server.start, server.end), trace_id, now);
        if client.is_messaging {
            edge.messaging.add(seconds(client.end, server.start), trace_id, now);
        }
    }

    pub fn collect(&mut self, out: &mut Samples) {
        self.expire(out.at.now);
        for (key, edge) in &mut self.edges {
            let labels = [("client", &*key.client), ("server", &*key.server), ("connection_type", key.connection)];
            let is_new = std::mem::take(&mut edge.is_new);
            let name = |rest: &str| format!("traces_service_graph_request_{rest}");
            out.push(named(&name("total"), &labels), edge.total as f64, is_new, None);
            out.push(named(&name("failed_total"), &labels), edge.failed as f64, is_new, None);
            edge.client.collect(&name("client_seconds"), &labels, is_new, out);
            edge.server.collect(&name("server_seconds"), &labels, is_new, out);
            if key.connection == "messaging_system" {
                edge.messaging.collect(&name("messaging_system_seconds"), &labels, is_new, out);
            }
        }
        for ((service, is_client), n) in &self.unpaired {
            let side = if *is_client { "client" } else { "server" };
            out.push(named("traces_service_graph_unpaired_spans_total", &[(side, service)]), *n as f64, false, None);
        }
        out.push(named("traces_service_graph_dropped_spans_total", &[]), self.dropped as f64, false, None);
    }
}

impl Half {
    /// The same side, which has found somebody: it does not count as unpaired when it goes.
    fn again(&self) -> Self {
        Self { service: self.service.clone(), since: Timestamp(0), ..*self }
    }
}

/// The name of the database that a client span asks.
fn database(span: &Span) -> Option<String> {
    let of_database = DATABASE.iter().find_map(|name| span.get(name))?;
    let peer = PEER.iter().find_map(|name| span.get(name));
    let name = AttrValue::to_text(peer.unwrap_or(of_database));
    (!name.is_empty()).then_some(name)
}
