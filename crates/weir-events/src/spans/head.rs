//! The newest spans of one tenant, in memory until they are a block.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use weir_model::{Nanos, Span, SpanId, SpanKind, TraceId};

/// What a span costs beside its text: the struct, its allocations' headers, its place in the trace.
const SPAN_BYTES: u64 = 400;
const ATTRIBUTE_BYTES: u64 = 48;
const TRACE_BYTES: u64 = 100;
/// From here on a set tells what is there; before it, a look at each.
const SEEN_FROM: usize = 32;

pub struct Head {
    traces: AHashMap<TraceId, Trace>,
    pub bytes: u64,
    pub n_spans: u64,
    /// Starts of the first and of the last span.
    pub first: Nanos,
    pub last: Nanos,
}

impl Default for Head {
    fn default() -> Self {
        Self { traces: AHashMap::new(), bytes: 0, n_spans: 0, first: Nanos::MAX, last: Nanos::MIN }
    }
}

#[derive(Default)]
struct Trace {
    /// Ascending by start.
    spans: Vec<Arc<Span>>,
    seen: AHashSet<(SpanId, SpanKind)>,
}

/// An upper estimate of what a span adds.
pub fn span_bytes(span: &Span) -> u64 {
    TRACE_BYTES + SPAN_BYTES + span.size_bytes() as u64 + span.attributes.len() as u64 * ATTRIBUTE_BYTES
}

impl Head {
    /// Answers the bytes it took; none when the span was there.
    pub fn insert(&mut self, span: &Arc<Span>) -> u64 {
        let trace = self.traces.entry(span.trace_id).or_default();
        if trace.holds(span) {
            return 0;
        }
        let at = trace.spans.partition_point(|s| s.start <= span.start);
        trace.spans.insert(at, span.clone());
        self.first = self.first.min(span.start);
        self.last = self.last.max(span.start);
        self.n_spans += 1;
        let bytes = span_bytes(span);
        self.bytes += bytes;
        bytes
    }

    pub fn is_empty(&self) -> bool {
        self.traces.is_empty()
    }

    pub fn trace(&self, id: TraceId) -> Option<&[Arc<Span>]> {
        self.traces.get(&id).map(|trace| trace.spans.as_slice())
    }

    pub fn traces(&self) -> impl Iterator<Item = (TraceId, &[Arc<Span>])> {
        self.traces.iter().map(|(id, trace)| (*id, trace.spans.as_slice()))
    }
}

impl Trace {
    /// Whether the span is here; it is noted if not.
    fn holds(&mut self, span: &Span) -> bool {
        if self.spans.len() < SEEN_FROM {
            return self.spans.iter().any(|s| s.span_id == span.span_id && s.kind == span.kind);
        }
        if self.seen.is_empty() {
            self.seen = self.spans.iter().map(|s| (s.span_id, s.kind)).collect();
        }
        !self.seen.insert((span.span_id, span.kind))
    }
}
