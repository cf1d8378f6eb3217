//! `servicegraph`: who calls whom, from pairs of spans that find each other.

use std::collections::VecDeque;
use std::time::Duration;

use ahash::AHashMap;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value as Any};
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use weir_model::{Nanos, TenantId};

use super::family::{Family, Room, histograms, numbers};
use super::histogram::{Histogram, Shape, units};
use super::resource::{put, text_attribute};
use super::{At, Machine, Outcomes};
use crate::config::Section;
use crate::data::{Data, get, text_of};

/// Series that got nothing for so long end, as upstream has it.
const STALE_NANOS: i64 = 15 * 60 * 1_000_000_000;
/// Characters of a value that becomes a label.
const VALUE_CHARS_MAX: usize = 256;
/// Entries of edges that have gone, which are then cleared away.
const WAITING_SPARE: usize = 10_000;
/// Halves that wait, beyond what a file may ask for.
const ITEMS_MAX: usize = 1_000_000;

/// `servicegraph` as a file has it.
#[derive(Clone, Debug)]
pub struct ServiceGraphConfig {
    ttl: Duration,
    max_items: usize,
    dimensions: Vec<String>,
    shape: Shape,
    /// What says of a client span without a server whom it called, best first; none: no virtual nodes.
    peers: Vec<String>,
    virtual_node_label: bool,
    databases: Vec<String>,
    cache_loop: Duration,
    offset: Duration,
    pub(super) metrics_flush_interval: Duration,
}

impl ServiceGraphConfig {
    pub(crate) fn read(section: Section<'_>) -> Self {
        let store = section.section("store");
        let ttl = store.as_ref().map_or(Duration::from_secs(2), |s| s.duration_or("ttl", Duration::from_secs(2)));
        let max_items = store.as_ref().map_or(1000, |s| s.size_or("max_items", 1000));
        if let Some(store) = store {
            if max_items == 0 || max_items > ITEMS_MAX {
                store.error(format!("max_items {max_items}; from 1 to {ITEMS_MAX}"));
            }
            store.finish();
        }
        let (buckets, size) = (section.get("latency_histogram_buckets"), section.get("exponential_histogram_max_size"));
        if buckets.is_some() && size.is_some() {
            section
                .error("has both `latency_histogram_buckets` and `exponential_histogram_max_size`; give one of them");
        }
        let shape = match (buckets, size) {
            (Some(field), _) => Shape::read_buckets(&field, 1e9),
            (None, Some(field)) => Shape::read_size(&field),
            (None, None) => Shape::default_of(1e-3),
        };
        let list = |key: &'static str, default: &[&str]| match section.get(key) {
            Some(field) => field.texts(),
            None => default.iter().map(|&name| name.to_owned()).collect(),
        };
        let mut databases = list("database_name_attributes", &["db.name"]);
        if let Some(old) = section.text("database_name_attribute") {
            databases = vec![old];
        }
        let read = Self {
            ttl,
            max_items,
            dimensions: section.texts("dimensions"),
            shape,
            peers: list("virtual_node_peer_attributes", &["peer.service", "db.name", "db.system"]),
            virtual_node_label: section.bool_or("virtual_node_extra_label", false),
            databases,
            cache_loop: section.duration_or("cache_loop", Duration::from_secs(60)),
            offset: section.duration_or("metrics_timestamp_offset", Duration::ZERO),
            metrics_flush_interval: section.duration_or("metrics_flush_interval", Duration::from_secs(60)),
        };
        section.without_effect(&["store_expiration_loop"], "halves that wait are looked at all the time");
        section.without_effect(&["metrics_exporter"], "the pipelines say where metrics go");
        section.finish();
        read
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Unknown,
    Messaging,
    Database,
    Virtual,
}

impl Connection {
    fn name(self) -> &'static str {
        match self {
            Self::Unknown => "",
            Self::Messaging => "messaging_system",
            Self::Database => "database",
            Self::Virtual => "virtual_node",
        }
    }
}

/// A request of which one side may not be known yet.
struct Edge {
    client: Option<String>,
    server: Option<String>,
    connection: Connection,
    is_failed: bool,
    client_seconds: f64,
    server_seconds: f64,
    peer: Option<String>,
    /// `client_x`, `server_x`.
    dimensions: Vec<(String, String)>,
}

impl Edge {
    fn new() -> Self {
        Self {
            client: None,
            server: None,
            connection: Connection::Unknown,
            is_failed: false,
            client_seconds: 0.0,
            server_seconds: 0.0,
            peer: None,
            dimensions: Vec::new(),
        }
    }
}

type Ends = (TenantId, [u8; 16], [u8; 8]);

#[derive(Default)]
struct Rows {
    total: Family<u64>,
    failed: Family<u64>,
    client: Family<Histogram>,
    server: Family<Histogram>,
}

impl Rows {
    fn n_series(&self) -> usize {
        self.total.len() + self.failed.len() + self.client.len() + self.server.len()
    }
}

#[derive(Default)]
struct Stats {
    paired: u64,
    expired: u64,
    dropped: u64,
    without_service: u64,
    folded: u64,
}

pub(super) struct ServiceGraph {
    config: ServiceGraphConfig,
    open: AHashMap<Ends, Edge>,
    /// In the order of arrival; entries whose edge has gone are passed over.
    waiting: VecDeque<(Ends, Nanos)>,
    rows: AHashMap<TenantId, Rows>,
    room: Room,
    cleaned: Option<Nanos>,
    stats: Stats,
}

fn is_past(since: Nanos, now: Nanos, limit: Duration) -> bool {
    u128::try_from(now.0.saturating_sub(since.0)).is_ok_and(|waited| waited >= limit.as_nanos())
}

/// The first of some attributes that any of these lists has.
fn find<'k>(names: impl IntoIterator<Item = &'k String>, places: &[&[KeyValue]]) -> Option<String> {
    let found = names.into_iter().find_map(|name| places.iter().find_map(|place| get(place, name)))?;
    let text = text_of(found);
    Some(match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text,
    })
}

impl ServiceGraph {
    pub fn new(config: ServiceGraphConfig) -> Self {
        Self {
            config,
            open: AHashMap::new(),
            waiting: VecDeque::new(),
            rows: AHashMap::new(),
            room: Room { limit: 0, used: 0 },
            cleaned: None,
            stats: Stats::default(),
        }
    }

    fn add(&mut self, tenant: &TenantId, (service, resource): (&str, &[KeyValue]), span: &Span, at: At) {
        let (is_client, is_messaging) = match span.kind() {
            SpanKind::Client => (true, false),
            SpanKind::Producer => (true, true),
            SpanKind::Server => (false, false),
            SpanKind::Consumer => (false, true),
            SpanKind::Internal | SpanKind::Unspecified => return,
        };
        let id = if is_client { &span.span_id } else { &span.parent_span_id };
        let Ok(trace_id) = <[u8; 16]>::try_from(&span.trace_id[..]) else { return };
        // A server without a parent has an id of zeros.
        let id = <[u8; 8]>::try_from(&id[..]).unwrap_or_default();
        let ends = (tenant.clone(), trace_id, id);
        let known = self.open.remove(&ends);
        let is_known = known.is_some();
        let mut edge = known.unwrap_or_else(Edge::new);
        self.fill(&mut edge, (is_client, is_messaging), (service, resource), span);
        if edge.client.is_some() && edge.server.is_some() {
            self.stats.paired += 1;
            return self.count(tenant, &edge, None, at);
        }
        if !is_known && self.open.len() >= self.config.max_items {
            self.expire(at);
            if self.open.len() >= self.config.max_items {
                self.stats.dropped += 1;
                return;
            }
        }
        if !is_known {
            if self.waiting.len() > 2 * self.open.len() + WAITING_SPARE {
                self.waiting.retain(|(ends, _)| self.open.contains_key(ends));
            }
            self.waiting.push_back((ends.clone(), at.now));
        }
        self.open.insert(ends, edge);
    }

    fn fill(
        &self,
        edge: &mut Edge,
        (is_client, is_messaging): (bool, bool),
        (service, resource): (&str, &[KeyValue]),
        span: &Span,
    ) {
        let config = &self.config;
        let took = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
        let seconds = units(Duration::from_nanos(took), 1e9);
        edge.is_failed |= span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error);
        if is_messaging {
            edge.connection = Connection::Messaging;
        }
        let side = if is_client { "client" } else { "server" };
        for name in &config.dimensions {
            if let Some(value) = find([name], &[resource, &span.attributes]) {
                edge.dimensions.push((format!("{side}_{name}"), value));
            }
        }
        if !is_client {
            (edge.server, edge.server_seconds) = (Some(service.to_owned()), seconds);
            return;
        }
        (edge.client, edge.client_seconds) = (Some(service.to_owned()), seconds);
        edge.peer = find(&config.peers, &[&span.attributes]);
        // A database has no span of its own to wait for.
        if let Some(database) = find(&config.databases, &[resource, &span.attributes]) {
            edge.connection = Connection::Database;
            (edge.server, edge.server_seconds) = (Some(database), seconds);
        }
    }

    /// An edge that waited too long: its other side becomes a node that only this side knows.
    fn give_up(&mut self, ends: &Ends, mut edge: Edge, at: At) {
        self.stats.expired += 1;
        if self.config.peers.is_empty() {
            return;
        }
        let is_virtual = match (&edge.client, &edge.server) {
            (None, _) if ends.2 == [0; 8] => {
                edge.client = Some("user".to_owned());
                "client"
            }
            (Some(_), None) => {
                edge.server = Some(edge.peer.take().unwrap_or_else(|| "unknown".to_owned()));
                "server"
            }
            _ => return,
        };
        edge.connection = Connection::Virtual;
        self.count(&ends.0, &edge, Some(is_virtual), at);
    }

    fn count(&mut self, tenant: &TenantId, edge: &Edge, is_virtual: Option<&str>, at: At) {
        let mut labels: Vec<(&str, &str)> = vec![
            ("client", edge.client.as_deref().unwrap_or_default()),
            ("server", edge.server.as_deref().unwrap_or_default()),
            ("connection_type", edge.connection.name()),
            ("failed", if edge.is_failed { "true" } else { "false" }),
        ];
        labels.extend(edge.dimensions.iter().map(|(name, value)| (&**name, &**value)));
        if self.config.virtual_node_label {
            labels.push(("virtual_node", is_virtual.unwrap_or_default()));
        }
        let mut key = Vec::new();
        labels.iter().for_each(|(name, value)| {
            put(&mut key, Some(name));
            put(&mut key, Some(value));
        });
        let attributes = || labels.iter().map(|(name, value)| text_attribute(name, value)).collect::<Vec<_>>();
        let empty = || self.config.shape.empty();
        let (rows, room) = (self.rows.entry(tenant.clone()).or_default(), &mut self.room);
        let (total, is_over) = rows.total.at(&key, room, at, attributes, u64::default);
        total.value += 1;
        self.stats.folded += u64::from(is_over);
        if edge.is_failed {
            rows.failed.at(&key, room, at, attributes, u64::default).0.value += 1;
        }
        rows.client.at(&key, room, at, attributes, empty).0.value.observe(edge.client_seconds);
        rows.server.at(&key, room, at, attributes, empty).0.value.observe(edge.server_seconds);
    }

    /// Ends series that got nothing for long.
    fn clean(&mut self, at: At) {
        let since = *self.cleaned.get_or_insert(at.now);
        if !is_past(since, at.now, self.config.cache_loop) {
            return;
        }
        self.cleaned = Some(at.now);
        let oldest = Nanos(at.now.0.saturating_sub(STALE_NANOS));
        for rows in self.rows.values_mut() {
            rows.total.forget_before(oldest);
            rows.failed.forget_before(oldest);
            rows.client.forget_before(oldest);
            rows.server.forget_before(oldest);
        }
        self.rows.retain(|_, rows| rows.n_series() > 0);
        self.room.used = self.rows.values().map(Rows::n_series).sum();
    }
}

impl Machine for ServiceGraph {
    fn take(&mut self, tenant: &TenantId, data: Data, at: At) {
        let Data::Traces(groups) = data else { return };
        for group in &groups {
            let resource = group.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let spans = group.scope_spans.iter().flat_map(|scope| &scope.spans);
            match get(resource, "service.name") {
                Some(Any::StringValue(service)) => {
                    spans.for_each(|span| self.add(tenant, (service, resource), span, at));
                }
                _ => self.stats.without_service += spans.count() as u64,
            }
        }
    }

    fn expire(&mut self, at: At) {
        while let Some((_, since)) = self.waiting.front()
            && is_past(*since, at.now, self.config.ttl)
            && let Some((ends, _)) = self.waiting.pop_front()
        {
            if let Some(edge) = self.open.remove(&ends) {
                self.give_up(&ends, edge, at);
            }
        }
        self.clean(at);
    }

    fn collect(&mut self, at: At) -> Vec<(TenantId, Data)> {
        let offset = i64::try_from(self.config.offset.as_nanos()).unwrap_or(0);
        let now = Nanos(at.now.0.saturating_sub(offset));
        let shape = &self.config.shape;
        let mut out = Vec::new();
        for (tenant, rows) in &mut self.rows {
            let name = |rest: &str| format!("traces_service_graph_request_{rest}");
            let metrics = [
                numbers(&name("total"), &mut rows.total, now, false),
                numbers(&name("failed_total"), &mut rows.failed, now, false),
                histograms(&name("server"), "s", (&mut rows.server, shape), now, false),
                histograms(&name("client"), "s", (&mut rows.client, shape), now, false),
            ];
            let metrics = metrics.into_iter().flatten().collect();
            let name = "traces_service_graph".to_owned();
            let scope = Some(InstrumentationScope { name, ..InstrumentationScope::default() });
            let scope_metrics = vec![ScopeMetrics { scope, metrics, ..ScopeMetrics::default() }];
            out.push((
                tenant.clone(),
                Data::Metrics(vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }]),
            ));
        }
        out
    }

    fn is_delta(&self) -> bool {
        false
    }

    fn outcomes(&self) -> Outcomes {
        let stats = &self.stats;
        vec![
            ("paired", stats.paired),
            ("expired", stats.expired),
            ("dropped", stats.dropped),
            ("folded", stats.folded),
            ("without_service_name", stats.without_service),
        ]
    }
}
