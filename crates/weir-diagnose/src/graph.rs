//! The live graph of services, topics and databases, learned from spans as they are committed.
//!
//! Numbers are kept in windows of ten seconds for an hour, so that rates and latencies can be asked
//! for any range in it. Client and server spans of one call arrive in any order and from different
//! senders; whichever comes first waits for the other, for a while.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use parking_lot::Mutex;
use weir_model::entity::Aliases;
use weir_model::{
    AttrValue, Budget, Commit, CommitListener, EntityId, EntityKind, Reservation, Resource, Span, SpanId, SpanKind,
    TenantId, TimeRange, TraceId,
};

use crate::stats::LogHistogram;

const WINDOW_MS: i64 = 10_000;
const WINDOWS_MAX: usize = 360;
const TENANTS_MAX: usize = 1_000;
/// Nodes and edges per tenant; what comes after is left out.
const NODES_MAX: usize = 2_000;
const EDGES_MAX: usize = 5_000;
/// Spans that wait for the other end of their call, per generation; two generations are kept.
const WAITING_MAX: usize = 50_000;
/// What a number in a window costs, and each of its histogram's bins.
const STAT_BYTES: u64 = 112;
const BIN_BYTES: u64 = 8;
/// What a messaging span did, as newer and older conventions name it.
const RECEIVE: [&str; 3] = ["messaging.operation.type", "messaging.operation.name", "messaging.operation"];
const VERSIONS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EdgeKind {
    Call,
    Produce,
    Consume,
    Query,
}

impl EdgeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Query => "query",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EdgeKey {
    pub from: EntityId,
    pub to: EntityId,
    pub kind: EdgeKind,
    /// Of a consume edge.
    pub group: Option<Arc<str>>,
}

/// What went through a node or an edge.
#[derive(Clone, Debug, Default)]
pub struct FlowStat {
    pub count: u64,
    pub errors: u64,
    pub duration: LogHistogram,
    /// Of a consume edge: spans that took a message, and those of them whose producer's span is known.
    pub taken: u64,
    pub producer_known: u64,
}

impl FlowStat {
    /// Share of messages that were followed over the hop; `None` where no message was taken.
    pub fn continuity(&self) -> Option<f64> {
        (self.taken > 0).then(|| self.producer_known as f64 / self.taken as f64)
    }
    fn add(&mut self, flow: Flow) {
        self.count += 1;
        self.errors += u64::from(flow.error);
        self.duration.add_nanos(flow.nanos);
    }
    fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.errors += other.errors;
        self.duration.merge(&other.duration);
        self.taken += other.taken;
        self.producer_known += other.producer_known;
    }
    pub fn error_ratio(&self) -> f64 {
        self.errors as f64 / self.count.max(1) as f64
    }
    fn bytes(&self) -> u64 {
        STAT_BYTES + BIN_BYTES * self.duration.n_bins() as u64
    }
}

#[derive(Clone, Copy)]
struct Flow {
    nanos: i64,
    error: bool,
}

/// The graph over a range.
#[derive(Clone, Debug, Default)]
pub struct GraphView {
    /// Ascending by entity.
    pub nodes: Vec<(EntityId, FlowStat)>,
    /// Ascending by key.
    pub edges: Vec<(EdgeKey, FlowStat)>,
    /// Versions that a service ran lately, the newest first.
    pub versions: AHashMap<Arc<str>, Vec<Arc<str>>>,
    /// The library whose span last took a message on a consume edge without any trace context.
    pub context_lost_by: AHashMap<EdgeKey, Arc<str>>,
    /// Seconds that the numbers cover, for rates.
    pub seconds: f64,
}

#[derive(Default)]
struct Window {
    start_ms: i64,
    nodes: AHashMap<u32, FlowStat>,
    edges: AHashMap<u32, FlowStat>,
}

impl Window {
    fn bytes(&self) -> u64 {
        self.nodes.values().chain(self.edges.values()).map(FlowStat::bytes).sum()
    }
}

/// Entries that live for one to two generations.
struct Waiting<V> {
    young: AHashMap<(TraceId, SpanId), V>,
    old: AHashMap<(TraceId, SpanId), V>,
}

impl<V> Default for Waiting<V> {
    fn default() -> Self {
        Self { young: AHashMap::new(), old: AHashMap::new() }
    }
}

impl<V> Waiting<V> {
    fn insert(&mut self, key: (TraceId, SpanId), value: V) {
        if self.young.len() >= WAITING_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
    fn get(&self, key: &(TraceId, SpanId)) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }
    fn take(&mut self, key: &(TraceId, SpanId)) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }
}

struct Sender {
    /// Held so that its address stays its own.
    _resource: Arc<Resource>,
    service: Arc<str>,
}

#[derive(Default)]
struct TenantGraph {
    node_ids: AHashMap<EntityId, u32>,
    nodes: Vec<EntityId>,
    edge_ids: AHashMap<EdgeKey, u32>,
    edges: Vec<EdgeKey>,
    /// Ascending by start.
    windows: VecDeque<Window>,
    senders: AHashMap<usize, Sender>,
    versions: AHashMap<Arc<str>, Vec<Arc<str>>>,
    /// Client spans seen: service of the caller.
    callers: Waiting<Arc<str>>,
    /// Server spans whose client was not seen yet.
    answers: Waiting<Vec<(Arc<str>, i64, Flow)>>,
    /// Producer spans seen, and consumer spans that were followed to one.
    producers: Waiting<()>,
    /// Consume edges and times of spans whose producer was not seen yet, by its span.
    takers: Waiting<Vec<(u32, i64)>>,
    /// By consume edge.
    context_lost_by: AHashMap<u32, Arc<str>>,
    held: Option<Reservation>,
}

/// Learns from commits; answers for ranges.
pub struct Graph {
    budget: Budget,
    aliases: Aliases,
    tenants: Mutex<AHashMap<TenantId, Arc<Mutex<TenantGraph>>>>,
}

impl Graph {
    pub fn new(budget: Budget, aliases: Aliases) -> Self {
        Self { budget, aliases, tenants: Mutex::default() }
    }

    fn tenant(&self, tenant: &TenantId, create: bool) -> Option<Arc<Mutex<TenantGraph>>> {
        let mut tenants = self.tenants.lock();
        if let Some(found) = tenants.get(tenant) {
            return Some(found.clone());
        }
        if !create || tenants.len() >= TENANTS_MAX {
            return None;
        }
        Some(tenants.entry(tenant.clone()).or_default().clone())
    }

    /// Sum over the windows that the range touches.
    pub fn view(&self, tenant: &TenantId, range: TimeRange) -> GraphView {
        let Some(graph) = self.tenant(tenant, false) else { return GraphView::default() };
        let graph = graph.lock();
        let mut nodes: AHashMap<u32, FlowStat> = AHashMap::new();
        let mut edges: AHashMap<u32, FlowStat> = AHashMap::new();
        let touched = |w: &&Window| w.start_ms + WINDOW_MS > range.start.0 && w.start_ms <= range.end.0;
        let mut covered: Option<(i64, i64)> = None;
        for window in graph.windows.iter().filter(touched) {
            window.nodes.iter().for_each(|(id, stat)| nodes.entry(*id).or_default().merge(stat));
            window.edges.iter().for_each(|(id, stat)| edges.entry(*id).or_default().merge(stat));
            covered = Some((covered.map_or(window.start_ms, |c| c.0), window.start_ms + WINDOW_MS));
        }
        let (start, end) = covered.unwrap_or((0, 0));
        // The last window is still filling: it counts up to the range's end.
        let seconds = (end.min(range.end.0.max(start + 1000)) - start) as f64 / 1e3;
        let mut view =
            GraphView { seconds: seconds.max(1.0), versions: graph.versions.clone(), ..GraphView::default() };
        view.nodes = nodes.into_iter().map(|(id, stat)| (graph.nodes[id as usize].clone(), stat)).collect();
        view.edges = edges.into_iter().map(|(id, stat)| (graph.edges[id as usize].clone(), stat)).collect();
        let lost = graph.context_lost_by.iter();
        view.context_lost_by = lost.map(|(id, library)| (graph.edges[*id as usize].clone(), library.clone())).collect();
        view.nodes.sort_by(|a, b| a.0.cmp(&b.0));
        view.edges.sort_by(|a, b| a.0.cmp(&b.0));
        view
    }

    /// Entities that are linked to this one, in either direction.
    pub fn neighbours(&self, tenant: &TenantId, id: &EntityId) -> (Vec<EntityId>, Vec<EntityId>) {
        let Some(graph) = self.tenant(tenant, false) else { return Default::default() };
        let graph = graph.lock();
        let sorted = |mut v: Vec<EntityId>| {
            v.sort();
            v.dedup();
            v
        };
        let into = graph.edges.iter().filter(|e| e.to == *id).map(|e| e.from.clone()).collect();
        let out_of = graph.edges.iter().filter(|e| e.from == *id).map(|e| e.to.clone()).collect();
        (sorted(into), sorted(out_of))
    }

    /// All services that data or calls link, one way or the other, with this one.
    pub fn connected(&self, tenant: &TenantId, a: &EntityId, b: &EntityId) -> bool {
        let Some(graph) = self.tenant(tenant, false) else { return false };
        let graph = graph.lock();
        let mut seen: AHashSet<&EntityId> = AHashSet::from_iter([a]);
        let mut open = vec![a];
        while let Some(at) = open.pop() {
            if at == b {
                return true;
            }
            for edge in &graph.edges {
                let other = match () {
                    () if edge.from == *at => &edge.to,
                    () if edge.to == *at => &edge.from,
                    () => continue,
                };
                if seen.insert(other) {
                    open.push(other);
                }
            }
        }
        false
    }

    /// Service that reads with a consumer group, if its spans said so.
    pub fn service_of_group(&self, tenant: &TenantId, group: &str) -> Option<Arc<str>> {
        let graph = self.tenant(tenant, false)?;
        let graph = graph.lock();
        let edge = graph.edges.iter().rfind(|e| e.group.as_deref() == Some(group))?;
        Some(edge.to.name.clone())
    }
}

impl TenantGraph {
    fn node(&mut self, id: EntityId) -> Option<u32> {
        if let Some(idx) = self.node_ids.get(&id) {
            return Some(*idx);
        }
        if self.nodes.len() >= NODES_MAX {
            return None;
        }
        let idx = self.nodes.len() as u32;
        self.nodes.push(id.clone());
        self.node_ids.insert(id, idx);
        Some(idx)
    }

    fn edge(&mut self, key: EdgeKey) -> Option<u32> {
        if let Some(idx) = self.edge_ids.get(&key) {
            return Some(*idx);
        }
        if self.edges.len() >= EDGES_MAX {
            return None;
        }
        let idx = self.edges.len() as u32;
        self.edges.push(key.clone());
        self.edge_ids.insert(key, idx);
        Some(idx)
    }

    /// The window of a time; `None` when it is older than all that is kept.
    fn window(&mut self, at_ms: i64) -> Option<&mut Window> {
        let start_ms = at_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
        let idx = self.windows.partition_point(|w| w.start_ms < start_ms);
        if self.windows.get(idx).is_none_or(|w| w.start_ms != start_ms) {
            if idx == 0 && self.windows.len() >= WINDOWS_MAX {
                return None;
            }
            self.windows.insert(idx, Window { start_ms, ..Window::default() });
            if self.windows.len() > WINDOWS_MAX {
                self.drop_oldest();
            }
        }
        let idx = self.windows.partition_point(|w| w.start_ms < start_ms);
        self.windows.get_mut(idx)
    }

    fn drop_oldest(&mut self) {
        if let Some(window) = self.windows.pop_front()
            && let Some(held) = &mut self.held
        {
            held.shrink(window.bytes());
        }
    }

    /// Counts a flow; bytes by which the window grew.
    fn count(&mut self, idx: u32, is_edge: bool, at_ms: i64, flow: Flow) -> u64 {
        let Some(window) = self.window(at_ms) else { return 0 };
        let map = if is_edge { &mut window.edges } else { &mut window.nodes };
        let before = map.get(&idx).map_or(0, FlowStat::bytes);
        let stat = map.entry(idx).or_default();
        stat.add(flow);
        stat.bytes() - before
    }

    fn count_node(&mut self, id: EntityId, at_ms: i64, flow: Flow) -> u64 {
        self.node(id).map_or(0, |idx| self.count(idx, false, at_ms, flow))
    }

    fn count_edge(&mut self, key: EdgeKey, at_ms: i64, flow: Flow) -> u64 {
        self.edge(key).map_or(0, |idx| self.count(idx, true, at_ms, flow))
    }

    fn sender(&mut self, span: &Span, aliases: &Aliases) -> Arc<str> {
        let at = Arc::as_ptr(&span.resource) as usize;
        if let Some(sender) = self.senders.get(&at) {
            return sender.service.clone();
        }
        let refs = aliases.resolve_resource(&span.resource);
        let service = refs.emitter.unwrap_or_else(|| span.resource.service().into());
        if let Some(version) = refs.version {
            let versions = self.versions.entry(service.clone()).or_default();
            versions.retain(|v| *v != version);
            versions.insert(0, version);
            versions.truncate(VERSIONS_MAX);
        }
        if self.senders.len() >= NODES_MAX {
            // Senders whose resource differs in each request: start again rather than grow.
            self.senders.clear();
        }
        self.senders.insert(at, Sender { _resource: span.resource.clone(), service: service.clone() });
        service
    }

    fn add(&mut self, span: &Span, aliases: &Aliases) -> u64 {
        let service = self.sender(span, aliases);
        let here = || EntityId::new(EntityKind::Service, service.clone());
        let at_ms = span.end.millis().0;
        let flow = Flow { nanos: span.duration_nanos(), error: span.is_error() };
        let mut grown = 0;
        let entry = matches!(span.kind, SpanKind::Server | SpanKind::Consumer) || span.parent.is_none();
        if entry {
            grown += self.count_node(here(), at_ms, flow);
        }
        let key = |id: SpanId| (span.trace_id, id);
        match span.kind {
            SpanKind::Client | SpanKind::Producer => {
                for (callee, at_ms, flow) in self.answers.take(&key(span.span_id)).unwrap_or_default() {
                    grown += self.count_call(&service, &callee, at_ms, flow);
                }
                self.callers.insert(key(span.span_id), service.clone());
                if span.kind == SpanKind::Producer {
                    self.followed(key(span.span_id));
                }
            }
            SpanKind::Server => {
                if let Some(parent) = span.parent {
                    if let Some(caller) = self.callers.get(&key(parent)).cloned() {
                        grown += self.count_call(&caller, &service, at_ms, flow);
                    } else {
                        let mut waiting = self.answers.take(&key(parent)).unwrap_or_default();
                        waiting.push((service.clone(), at_ms, flow));
                        self.answers.insert(key(parent), waiting);
                    }
                }
            }
            _ => {}
        }
        grown + self.add_subjects(span, here(), at_ms, flow, aliases)
    }

    fn count_call(&mut self, from: &Arc<str>, to: &Arc<str>, at_ms: i64, flow: Flow) -> u64 {
        if from == to {
            return 0;
        }
        let service = |name: &Arc<str>| EntityId::new(EntityKind::Service, name.clone());
        let key = EdgeKey { from: service(from), to: service(to), kind: EdgeKind::Call, group: None };
        let caller = self.node(service(from));
        debug_assert!(caller.is_some() || self.nodes.len() >= NODES_MAX);
        self.count_edge(key, at_ms, flow)
    }

    /// Topics and databases that the span speaks of.
    fn add_subjects(&mut self, span: &Span, here: EntityId, at_ms: i64, flow: Flow, aliases: &Aliases) -> u64 {
        if span.attributes.is_empty() {
            return 0;
        }
        let mut refs = weir_model::entity::EntityRefs::default();
        aliases.span_subjects(span, &mut refs);
        let mut grown = 0;
        if let Some(database) = refs.subject(EntityKind::Database).cloned() {
            grown += self.count_node(database.clone(), at_ms, flow);
            let key = EdgeKey { from: here, to: database, kind: EdgeKind::Query, group: None };
            return grown + self.count_edge(key, at_ms, flow);
        }
        let Some(topic) = refs.subject(EntityKind::Topic).cloned() else { return 0 };
        let group = refs.subject(EntityKind::ConsumerGroup).map(|g| g.name.clone());
        match span.kind {
            SpanKind::Producer => {
                grown += self.count_node(topic.clone(), at_ms, flow);
                let key = EdgeKey { from: here, to: topic, kind: EdgeKind::Produce, group: None };
                grown + self.count_edge(key, at_ms, flow)
            }
            SpanKind::Consumer => {
                let known = self.node(topic.clone());
                debug_assert!(known.is_some() || self.nodes.len() >= NODES_MAX);
                let key = EdgeKey { from: topic, to: here, kind: EdgeKind::Consume, group };
                grown += self.count_edge(key.clone(), at_ms, flow);
                self.follow(span, key, at_ms);
                grown
            }
            _ => grown,
        }
    }

    /// Looks for the producer of what a consumer span took. A span that only polls, and links to nothing, took nothing.
    fn follow(&mut self, span: &Span, key: EdgeKey, at_ms: i64) {
        let parent = span.parent.map(|id| (span.trace_id, id));
        let mut from = parent.into_iter().chain(span.links.iter().map(|link| (link.trace_id, link.span_id)));
        let operation = RECEIVE.iter().find_map(|name| span.get(name));
        let polls = operation.and_then(AttrValue::as_str).is_some_and(|text| text == "receive" || text == "poll");
        let first = from.next();
        if polls && span.links.is_empty() {
            return;
        }
        let Some(edge) = self.edge(key) else { return };
        let known = first.into_iter().chain(from).any(|id| self.producers.get(&id).is_some());
        match self.stat(edge, at_ms) {
            Some(stat) => stat.taken += 1,
            None => return,
        }
        if known {
            self.producer_known(edge, at_ms);
            self.followed((span.trace_id, span.span_id));
            return;
        }
        match first {
            Some(id) => {
                let mut waiting = self.takers.take(&id).unwrap_or_default();
                waiting.push((edge, at_ms));
                self.takers.insert(id, waiting);
            }
            None => {
                self.context_lost_by.insert(edge, span.scope.name.clone());
            }
        }
    }

    /// A span that stands for a message's producer: whoever took its message is followed.
    fn followed(&mut self, id: (TraceId, SpanId)) {
        for (edge, at_ms) in self.takers.take(&id).unwrap_or_default() {
            self.producer_known(edge, at_ms);
        }
        self.producers.insert(id, ());
    }

    fn producer_known(&mut self, edge: u32, at_ms: i64) {
        if let Some(stat) = self.stat(edge, at_ms) {
            stat.producer_known += 1;
        }
    }

    fn stat(&mut self, edge: u32, at_ms: i64) -> Option<&mut FlowStat> {
        self.window(at_ms)?.edges.get_mut(&edge)
    }

    fn account(&mut self, grown: u64, budget: &Budget) {
        if self.held.is_none() {
            self.held = budget.try_reserve(0).ok();
        }
        for _ in 0..WINDOWS_MAX {
            let Some(held) = &mut self.held else { return };
            if held.grow(grown).is_ok() || self.windows.len() <= 1 {
                return;
            }
            self.drop_oldest();
        }
    }
}

impl CommitListener for Graph {
    fn on_commit(&self, tenant: &TenantId, commit: &Commit<'_>) {
        let Commit::Spans { spans } = commit else { return };
        let Some(graph) = self.tenant(tenant, true) else { return };
        let mut graph = graph.lock();
        let grown = spans.iter().map(|span| graph.add(span, &self.aliases)).sum();
        graph.account(grown, &self.budget);
    }
}

#[cfg(test)]
mod tests {
    use weir_model::{Nanos, Scope, SpanLink, Timestamp};

    use super::*;

    fn span(service: &str, id: u8, parent: u8, kind: SpanKind, attributes: &[(&str, &str)]) -> Arc<Span> {
        let text = |(k, v): &(&str, &str)| (Arc::from(*k), AttrValue::from(*v));
        Arc::new(Span {
            trace_id: TraceId([1; 16]),
            span_id: SpanId([id; 8]),
            parent: (parent > 0).then_some(SpanId([parent; 8])),
            kind,
            start: Nanos(1_000_000_000),
            end: Nanos(1_020_000_000),
            attributes: attributes.iter().map(text).collect(),
            resource: Arc::new(Resource { attributes: vec![text(&("service.name", service))] }),
            ..Span::default()
        })
    }

    fn edges(spans: &[Arc<Span>]) -> Vec<String> {
        let graph = Graph::new(Budget::unlimited(), Aliases::default());
        let tenant = TenantId::anonymous();
        // One commit each: ends of a call come apart.
        spans.iter().for_each(|s| graph.on_commit(&tenant, &Commit::Spans { spans: std::slice::from_ref(s) }));
        let view = graph.view(&tenant, TimeRange::ALL);
        let show = |(e, s): &(EdgeKey, FlowStat)| {
            let group = e.group.as_deref().map_or(String::new(), |g| format!(" as {g}"));
            format!("{} {} {}{group} x{}", e.from, e.kind.as_str(), e.to, s.count)
        };
        view.edges.iter().map(show).collect()
    }

    #[test]
    fn both_ends_of_a_call_meet_in_either_order() {
        let client = span("a", 1, 0, SpanKind::Client, &[]);
        let server = span("b", 2, 1, SpanKind::Server, &[]);
        let want = ["service:a call service:b x1"];
        assert_eq!(edges(&[client.clone(), server.clone()]), want);
        assert_eq!(edges(&[server, client]), want);
    }

    #[test]
    fn topics_stand_between_producer_and_consumer() {
        let topic = ("messaging.destination.name", "t");
        let got = edges(&[
            span("a", 1, 0, SpanKind::Producer, &[topic]),
            span("b", 2, 1, SpanKind::Consumer, &[topic, ("messaging.consumer.group.name", "g")]),
            span("b", 3, 2, SpanKind::Client, &[("db.system.name", "sqlite"), ("db.namespace", "d")]),
        ]);
        assert_eq!(
            got,
            ["service:a produce topic:t x1", "service:b query database:d x1", "topic:t consume service:b as g x1"]
        );
    }

    /// Share followed over the topic's consume edge and who lost context there.
    fn continuity(spans: &[Arc<Span>]) -> (Option<f64>, Option<String>) {
        let graph = Graph::new(Budget::unlimited(), Aliases::default());
        let tenant = TenantId::anonymous();
        spans.iter().for_each(|s| graph.on_commit(&tenant, &Commit::Spans { spans: std::slice::from_ref(s) }));
        let view = graph.view(&tenant, TimeRange::ALL);
        let (key, stat) = view.edges.iter().find(|(e, _)| e.kind == EdgeKind::Consume).expect("a consume edge");
        (stat.continuity(), view.context_lost_by.get(key).map(|l| l.to_string()))
    }

    #[test]
    fn a_message_is_followed_by_parent_or_link_and_its_loss_names_the_library() {
        let topic = ("messaging.destination.name", "t");
        let receive = ("messaging.operation.type", "receive");
        let producer = || span("a", 1, 0, SpanKind::Producer, &[topic]);
        let consumer = |id, parent| span("b", id, parent, SpanKind::Consumer, &[topic]);
        let linked = |id, to: u8| {
            let mut one = (*consumer(id, 0)).clone();
            one.links = vec![SpanLink {
                trace_id: TraceId([1; 16]),
                span_id: SpanId([to; 8]),
                trace_state: "".into(),
                attributes: Vec::new(),
            }];
            one.scope = Arc::new(Scope { name: "lib".into(), ..Scope::default() });
            Arc::new(one)
        };
        let lost = |id| {
            let mut one = (*linked(id, 1)).clone();
            one.links.clear();
            Arc::new(one)
        };
        let polling = span("b", 5, 0, SpanKind::Consumer, &[topic, receive]);
        let cases: [(&str, Vec<Arc<Span>>, Option<f64>, Option<&str>); 7] = [
            ("by parent", vec![producer(), consumer(2, 1)], Some(1.0), None),
            ("the consumer arrives first", vec![consumer(2, 1), producer()], Some(1.0), None),
            ("by link", vec![producer(), linked(2, 1)], Some(1.0), None),
            ("below a span that was followed", vec![producer(), linked(2, 1), consumer(3, 2)], Some(1.0), None),
            ("without context", vec![producer(), consumer(2, 1), lost(3)], Some(0.5), Some("lib")),
            ("a producer that nobody saw", vec![linked(2, 9)], Some(0.0), None),
            ("a poll takes nothing", vec![producer(), polling], None, None),
        ];
        for (name, spans, share, by) in cases {
            assert_eq!(continuity(&spans), (share, by.map(str::to_owned)), "{name}");
        }
    }

    #[test]
    fn numbers_are_of_the_asked_range_and_old_ones_go() {
        let graph = Graph::new(Budget::unlimited(), Aliases::default());
        let tenant = TenantId::anonymous();
        for k in 0..WINDOWS_MAX as i64 + 5 {
            let mut one = (*span("a", 1, 0, SpanKind::Server, &[])).clone();
            (one.start, one.end) = (Nanos(k * 10_000_000_000), Nanos(k * 10_000_000_000 + 5_000_000));
            graph.on_commit(&tenant, &Commit::Spans { spans: &[Arc::new(one)] });
        }
        let count = |from: i64, to: i64| {
            let view = graph.view(&tenant, TimeRange::new(Timestamp(from), Timestamp(to)));
            view.nodes.iter().map(|n| n.1.count).sum::<u64>()
        };
        assert_eq!(count(0, i64::MAX), WINDOWS_MAX as u64);
        assert_eq!(count(100_000, 129_999), 3);
        assert_eq!(count(0, 10_000), 0);
    }

    #[test]
    fn a_small_budget_keeps_the_newest() {
        let graph = Graph::new(Budget::root(600), Aliases::default());
        let tenant = TenantId::anonymous();
        for k in 0..100 {
            let mut one = (*span("a", 1, 0, SpanKind::Server, &[])).clone();
            one.end = Nanos(k * 10_000_000_000);
            graph.on_commit(&tenant, &Commit::Spans { spans: &[Arc::new(one)] });
        }
        let held = graph.view(&tenant, TimeRange::ALL).nodes.iter().map(|n| n.1.count).sum::<u64>();
        assert!((1..10).contains(&held), "{held}");
    }
}
