//! Logs in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::AHashMap;
use memchr::memmem;
use parking_lot::{Mutex, RwLock};
use weir_model::matcher::all_match;
use weir_model::sink::{LogSink, Outcome, StreamBatch, WriteError};
use weir_model::source::{
    BoxFuture, Direction, LinePredicate, LogCursor, LogFragment, LogSource, LogStats, ReadContext, ReadError,
    StreamData,
};
use weir_model::{Budget, Labels, LogEntry, Matcher, Nanos, Reservation, TenantId};

/// What an entry costs beside its text: the struct, two allocations' headers, slack of the ring.
const ENTRY_BYTES: u64 = 80;
const METADATA_BYTES: u64 = 64;
const STREAM_BYTES: u64 = 600;
/// Entries examined per call of a cursor.
const BATCH: usize = 4096;

/// Logs of all tenants in memory, under `budget`; when it is used up, the oldest tenth of the kept
/// time is dropped.
pub struct MemLogs {
    tenants: RwLock<AHashMap<TenantId, Arc<Tenant>>>,
    held: Mutex<Reservation>,
}

#[derive(Default)]
struct Tenant {
    streams: RwLock<AHashMap<Labels, Arc<Stream>>>,
}

struct Stream {
    labels: Labels,
    /// Ascending by time; equal times in order of arrival.
    entries: RwLock<VecDeque<LogEntry>>,
}

impl Stream {
    /// Whether the entry is new.
    fn insert(&self, entry: &LogEntry) -> bool {
        let mut entries = self.entries.write();
        if entries.back().is_none_or(|last| last.at < entry.at) {
            entries.push_back(entry.clone());
            return true;
        }
        let after = entries.partition_point(|e| e.at <= entry.at);
        let same_time = (0..after).rev().map(|idx| &entries[idx]).take_while(|e| e.at == entry.at);
        let repeated = same_time.into_iter().any(|e| e.line == entry.line);
        if !repeated {
            entries.insert(after, entry.clone());
        }
        !repeated
    }

    fn positions(&self, start: Nanos, end: Nanos) -> std::ops::Range<usize> {
        let entries = self.entries.read();
        let from = entries.partition_point(|e| e.at < start);
        from..entries.partition_point(|e| e.at < end).max(from)
    }

    fn stats(&self, start: Nanos, end: Nanos) -> LogStats {
        let range = self.positions(start, end);
        let entries = self.entries.read();
        let range = range.start.min(entries.len())..range.end.min(entries.len());
        let (mut n, mut bytes) = (0, 0);
        for entry in entries.range(range) {
            n += 1;
            bytes += entry.line.len() as u64;
        }
        LogStats { streams: 1, entries: n, bytes }
    }
}

fn entry_bytes(entry: &LogEntry) -> u64 {
    ENTRY_BYTES + entry.size_bytes() as u64 + entry.metadata.len() as u64 * METADATA_BYTES
}

impl MemLogs {
    pub fn new(budget: &Budget) -> Self {
        let held = budget.try_reserve(0).expect("nothing fits into any budget");
        Self { tenants: RwLock::default(), held: Mutex::new(held) }
    }

    fn tenant_or_new(&self, tenant: &TenantId) -> Arc<Tenant> {
        let found = self.tenants.read().get(tenant).cloned();
        found.unwrap_or_else(|| self.tenants.write().entry(tenant.clone()).or_default().clone())
    }

    fn select(&self, tenant: &TenantId, matchers: &[Matcher]) -> Vec<Arc<Stream>> {
        let Some(tenant) = self.tenants.read().get(tenant).cloned() else { return Vec::new() };
        let streams = tenant.streams.read();
        streams.values().filter(|s| all_match(matchers, &s.labels)).cloned().collect()
    }

    fn reserve(&self, bytes: u64) -> Result<(), WriteError> {
        let mut held = self.held.lock();
        for _ in 0..20 {
            let Err(full) = held.grow(bytes) else { return Ok(()) };
            let freed = self.drop_oldest();
            if freed == 0 {
                return Err(full.into());
            }
            held.shrink(freed);
        }
        Ok(held.grow(bytes)?)
    }

    /// Drops the oldest tenth of the time held; bytes freed.
    fn drop_oldest(&self) -> u64 {
        let tenants: Vec<_> = self.tenants.read().values().cloned().collect();
        let all: Vec<Arc<Stream>> =
            tenants.iter().flat_map(|t| t.streams.read().values().cloned().collect::<Vec<_>>()).collect();
        let ends = all.iter().filter_map(|s| {
            let entries = s.entries.read();
            Some((entries.front()?.at, entries.back()?.at))
        });
        let Some((first, last)) = ends.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else { return 0 };
        let cutoff = Nanos(first.0.saturating_add(last.0.saturating_sub(first.0) / 10).saturating_add(1));
        let mut freed = 0;
        for stream in &all {
            let mut entries = stream.entries.write();
            let n = entries.partition_point(|e| e.at < cutoff);
            freed += entries.drain(..n).map(|e| entry_bytes(&e)).sum::<u64>();
            if n > 0 {
                let kept = entries.len();
                entries.shrink_to(kept + kept / 8);
            }
        }
        drop(all);
        for tenant in &tenants {
            // A stream that a writer holds stays, or its entries would go where no reader looks.
            tenant.streams.write().retain(|_, s| {
                let stays = Arc::strong_count(s) > 1 || !s.entries.read().is_empty();
                freed += if stays { 0 } else { STREAM_BYTES };
                stays
            });
        }
        tracing::info!(freed_bytes = freed, cutoff = %cutoff.millis().rfc3339(), "memory budget used up: oldest log entries dropped");
        freed
    }
}

impl LogSink for MemLogs {
    fn append(&self, tenant: &TenantId, streams: &[StreamBatch]) -> Result<Outcome, WriteError> {
        let size = |s: &StreamBatch| STREAM_BYTES + s.entries.iter().map(entry_bytes).sum::<u64>();
        self.reserve(streams.iter().map(size).sum())?;
        let tenant = self.tenant_or_new(tenant);
        let (mut accepted, mut unused) = (0, 0);
        for batch in streams {
            let found = tenant.streams.read().get(&batch.labels).cloned();
            let stream = match found {
                Some(stream) => {
                    unused += STREAM_BYTES;
                    stream
                }
                None => {
                    let new = || Arc::new(Stream { labels: batch.labels.clone(), entries: RwLock::default() });
                    tenant.streams.write().entry(batch.labels.clone()).or_insert_with(new).clone()
                }
            };
            for entry in &batch.entries {
                accepted += 1;
                if !stream.insert(entry) {
                    unused += entry_bytes(entry);
                }
            }
        }
        self.held.lock().shrink(unused);
        Ok(Outcome { accepted, refused: Vec::new() })
    }
}

struct Cursor {
    streams: Vec<Arc<Stream>>,
    direction: Direction,
    /// What is left of the stream at the end of `streams`, as times: positions move when old
    /// entries are dropped.
    start: Nanos,
    end: Nanos,
    /// Entries at the current edge time that were given already.
    n_given_at_edge: usize,
    edge: Option<Nanos>,
    contains: Vec<memmem::Finder<'static>>,
    not_contains: Vec<memmem::Finder<'static>>,
    context: ReadContext,
}

impl Cursor {
    fn wants(&self, line: &str) -> bool {
        self.contains.iter().all(|f| f.find(line.as_bytes()).is_some())
            && self.not_contains.iter().all(|f| f.find(line.as_bytes()).is_none())
    }

    /// Up to [`BATCH`] entries of the current stream, and whether there may be more.
    fn take(&mut self, stream: &Stream, start: Nanos, end: Nanos) -> (Vec<LogEntry>, bool) {
        let entries = stream.entries.read();
        let from = entries.partition_point(|e| e.at < start);
        let to = entries.partition_point(|e| e.at < end).max(from);
        let skip = self.n_given_at_edge;
        let mut given = Vec::new();
        let mut visit = |entry: &LogEntry, edge: &mut Option<Nanos>, n: &mut usize, this: &Self| {
            if *edge == Some(entry.at) {
                *n += 1;
            } else {
                (*edge, *n) = (Some(entry.at), 1);
            }
            if this.wants(&entry.line) {
                given.push(entry.clone());
            }
        };
        let (mut edge, mut n) = (self.edge, skip);
        let mut n_seen = 0;
        match self.direction {
            Direction::Forward => {
                for entry in entries.range(from..to).skip(skip).take(BATCH) {
                    visit(entry, &mut edge, &mut n, self);
                    n_seen += 1;
                }
            }
            Direction::Backward => {
                for entry in entries.range(from..to).rev().skip(skip).take(BATCH) {
                    visit(entry, &mut edge, &mut n, self);
                    n_seen += 1;
                }
            }
        }
        (self.edge, self.n_given_at_edge) = (edge, n);
        (given, n_seen == BATCH)
    }
}

impl LogCursor for Cursor {
    fn next(&mut self, bound: Option<Nanos>) -> Result<Option<StreamData>, ReadError> {
        loop {
            self.context.cancel.check()?;
            let Some(stream) = self.streams.last().cloned() else { return Ok(None) };
            let (mut start, mut end) = (self.start, self.end);
            match (self.direction, self.edge) {
                (Direction::Forward, Some(edge)) => start = edge,
                (Direction::Backward, Some(edge)) => end = Nanos(edge.0.saturating_add(1)),
                (_, None) => {}
            }
            match (self.direction, bound) {
                (Direction::Forward, Some(bound)) => end = end.min(Nanos(bound.0.saturating_add(1))),
                (Direction::Backward, Some(bound)) => start = start.max(bound),
                (_, None) => {}
            }
            let (entries, more) = self.take(&stream, start, end);
            if !more {
                self.streams.pop();
                (self.edge, self.n_given_at_edge) = (None, 0);
            }
            if !entries.is_empty() {
                return Ok(Some(StreamData { labels: stream.labels.clone(), entries }));
            }
        }
    }
}

impl LogSource for MemLogs {
    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a LogFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn LogCursor>, ReadError>> {
        Box::pin(async move {
            let (mut contains, mut not_contains) = (Vec::new(), Vec::new());
            for predicate in &fragment.predicates {
                match predicate {
                    LinePredicate::Contains(text) => contains.push(memmem::Finder::new(text.as_bytes()).into_owned()),
                    LinePredicate::NotContains(text) => {
                        not_contains.push(memmem::Finder::new(text.as_bytes()).into_owned())
                    }
                }
            }
            Ok(Box::new(Cursor {
                streams: self.select(tenant, &fragment.matchers),
                direction: fragment.direction,
                start: fragment.start,
                end: fragment.end,
                n_given_at_edge: 0,
                edge: None,
                contains,
                not_contains,
                context: context.clone(),
            }) as Box<dyn LogCursor>)
        })
    }

    fn streams<'a>(
        &'a self,
        tenant: &'a TenantId,
        matchers: &'a [Matcher],
        start: Nanos,
        end: Nanos,
    ) -> BoxFuture<'a, Result<Vec<(Labels, LogStats)>, ReadError>> {
        Box::pin(async move {
            let found = self.select(tenant, matchers).into_iter();
            let stats = found.map(|s| (s.labels.clone(), s.stats(start, end)));
            Ok(stats.filter(|(_, stats)| stats.entries > 0).collect())
        })
    }
}
