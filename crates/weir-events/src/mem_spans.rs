//! Spans in memory, assembled into traces as they arrive.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::spans::meets;
use ahash::{AHashMap, AHashSet};
use parking_lot::{Mutex, RwLock};
use weir_model::sink::{Outcome, SpanSink, WriteError};
use weir_model::source::{BoxFuture, ReadContext, ReadError, SpanCursor, SpanFragment, SpanSource, TraceData};
use weir_model::{Budget, Nanos, Reservation, Span, SpanId, SpanKind, TenantId, TraceId};

/// What a span costs beside its text: the struct, its allocations' headers, its place in the trace.
const SPAN_BYTES: u64 = 400;
const ATTRIBUTE_BYTES: u64 = 48;
const TRACE_BYTES: u64 = 200;
/// Traces a cursor examines per call.
const BATCH: usize = 256;

/// Spans of all tenants in memory, under `budget`; when it is used up, the oldest tenth of the
/// traces is dropped, by their first span's start.
pub struct MemSpans {
    tenants: RwLock<AHashMap<TenantId, Arc<RwLock<Tenant>>>>,
    held: Mutex<Reservation>,
}

#[derive(Default)]
struct Tenant {
    traces: AHashMap<TraceId, Trace>,
    /// Every trace by its first start.
    by_start: BTreeSet<(Nanos, TraceId)>,
    /// Longest time between first and last start of a trace, ever: how far back a search must look.
    longest_nanos: i64,
}

#[derive(Default)]
struct Trace {
    /// Ascending by start.
    spans: Vec<Arc<Span>>,
    /// What is in `spans`, so that a trace of 100,000 spans costs no scan per span.
    seen: AHashSet<(SpanId, SpanKind)>,
}

impl Trace {
    fn first(&self) -> Nanos {
        self.spans.first().map_or(Nanos::MAX, |s| s.start)
    }
    fn last(&self) -> Nanos {
        self.spans.last().map_or(Nanos::MIN, |s| s.start)
    }
}

fn span_bytes(span: &Span) -> u64 {
    SPAN_BYTES + span.size_bytes() as u64 + span.attributes.len() as u64 * ATTRIBUTE_BYTES
}

impl Tenant {
    /// Whether the span is new, and whether its trace is.
    fn insert(&mut self, span: &Arc<Span>) -> (bool, bool) {
        let trace = self.traces.entry(span.trace_id).or_default();
        let new_trace = trace.spans.is_empty();
        if !trace.seen.insert((span.span_id, span.kind)) {
            return (false, false);
        }
        let before = trace.first();
        let idx = trace.spans.partition_point(|s| s.start <= span.start);
        trace.spans.insert(idx, span.clone());
        let after = trace.first();
        self.longest_nanos = self.longest_nanos.max(trace.last().0.saturating_sub(after.0));
        if new_trace || before != after {
            self.by_start.remove(&(before, span.trace_id));
            self.by_start.insert((after, span.trace_id));
        }
        (true, new_trace)
    }

    /// Drops the oldest `n` traces; bytes freed.
    fn drop_oldest(&mut self, n: usize) -> u64 {
        let mut freed = 0;
        for _ in 0..n {
            let Some((_, id)) = self.by_start.pop_first() else { break };
            if let Some(trace) = self.traces.remove(&id) {
                freed += TRACE_BYTES + trace.spans.iter().map(|s| span_bytes(s)).sum::<u64>();
            }
        }
        freed
    }
}

impl MemSpans {
    pub fn new(budget: &Budget) -> Self {
        let held = budget.try_reserve(0).expect("nothing fits into any budget");
        Self { tenants: RwLock::default(), held: Mutex::new(held) }
    }

    fn tenant(&self, tenant: &TenantId) -> Option<Arc<RwLock<Tenant>>> {
        self.tenants.read().get(tenant).cloned()
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

    fn drop_oldest(&self) -> u64 {
        let tenants: Vec<_> = self.tenants.read().values().cloned().collect();
        let freed = tenants
            .iter()
            .map(|tenant| {
                let mut tenant = tenant.write();
                let n = tenant.traces.len() / 10 + 1;
                tenant.drop_oldest(n)
            })
            .sum();
        tracing::info!(freed_bytes = freed, "memory budget used up: oldest traces dropped");
        freed
    }
}

impl SpanSink for MemSpans {
    fn append(&self, tenant: &TenantId, spans: &[Arc<Span>]) -> Result<Outcome, WriteError> {
        let size = |s: &Arc<Span>| TRACE_BYTES + span_bytes(s);
        self.reserve(spans.iter().map(size).sum())?;
        let tenant = match self.tenant(tenant) {
            Some(found) => found,
            None => self.tenants.write().entry(tenant.clone()).or_default().clone(),
        };
        let mut unused = 0;
        let mut traces = tenant.write();
        for span in spans {
            let (new_span, new_trace) = traces.insert(span);
            unused += if new_trace { 0 } else { TRACE_BYTES };
            unused += if new_span { 0 } else { span_bytes(span) };
        }
        drop(traces);
        self.held.lock().shrink(unused);
        Ok(Outcome { accepted: spans.len() as u64, refused: Vec::new() })
    }
}

struct Cursor {
    tenant: Option<Arc<RwLock<Tenant>>>,
    /// Traces not yet examined are before this, in the order of `by_start`.
    before: (Nanos, TraceId),
    fragment: SpanFragment,
    context: ReadContext,
}

impl SpanCursor for Cursor {
    fn next(&mut self) -> Result<Option<Vec<TraceData>>, ReadError> {
        let Some(tenant) = self.tenant.clone() else { return Ok(None) };
        loop {
            self.context.cancel.check()?;
            let tenant = tenant.read();
            let oldest = Nanos(self.fragment.start.0.saturating_sub(tenant.longest_nanos));
            let mut found = Vec::new();
            let mut n_seen = 0;
            for (first, id) in tenant.by_start.range((oldest, TraceId::default())..self.before).rev().take(BATCH) {
                self.before = (*first, *id);
                n_seen += 1;
                let Some(trace) = tenant.traces.get(id) else { continue };
                let in_range = |s: &Arc<Span>| self.fragment.start <= s.start && s.start < self.fragment.end;
                if trace.spans.iter().any(in_range) && self.fragment.predicates.iter().all(|p| meets(&trace.spans, p)) {
                    found.push(TraceData { trace_id: *id, spans: trace.spans.clone() });
                }
            }
            if !found.is_empty() {
                return Ok(Some(found));
            }
            if n_seen < BATCH {
                return Ok(None);
            }
        }
    }
}

impl SpanSource for MemSpans {
    fn trace<'a>(
        &'a self,
        tenant: &'a TenantId,
        trace_id: TraceId,
    ) -> BoxFuture<'a, Result<Option<TraceData>, ReadError>> {
        Box::pin(async move {
            let Some(tenant) = self.tenant(tenant) else { return Ok(None) };
            let tenant = tenant.read();
            Ok(tenant.traces.get(&trace_id).map(|trace| TraceData { trace_id, spans: trace.spans.clone() }))
        })
    }

    fn open<'a>(
        &'a self,
        tenant: &'a TenantId,
        fragment: &'a SpanFragment,
        context: &'a ReadContext,
    ) -> BoxFuture<'a, Result<Box<dyn SpanCursor>, ReadError>> {
        Box::pin(async move {
            Ok(Box::new(Cursor {
                tenant: self.tenant(tenant),
                before: (fragment.end, TraceId::default()),
                fragment: fragment.clone(),
                context: context.clone(),
            }) as Box<dyn SpanCursor>)
        })
    }
}
