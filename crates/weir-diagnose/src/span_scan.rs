//! Reads traces of a window in slices and reduces them to numbers per operation, call and edge.
//!
//! A slice gives at most its share of the span limit, so that a long window of a busy system costs
//! no more than a short one, and every slice is heard.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::entity::Aliases;
use weir_model::source::{ReadContext, ReadError, SpanFragment, SpanSource, TraceData};
use weir_model::{AttrValue, Nanos, Resource, Span, SpanId, SpanKind, TenantId, TimeRange};

/// Slices of a window; enough for a median, long enough for a few traces.
pub const SLICES_MAX: usize = 24;
const SLICE_NANOS_MIN: i64 = 3_000_000_000;
/// Durations kept per operation and slice; a mean of more is no better.
const SAMPLES_PER_SLICE: usize = 200;
/// Distinct operations, edges and calls; more of them (names with ids in them) are left out.
const KEYS_MAX: usize = 20_000;
/// Bytes that one span costs while it is looked at, for the budget.
const SPAN_COST_BYTES: u64 = 160;
/// A trace with more spans is a loop, not a call tree.
const TRACE_SPANS_MAX: usize = 20_000;

pub type ServiceIdx = u32;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OpKey {
    pub service: ServiceIdx,
    pub kind: SpanKind,
    pub name: Arc<str>,
}

/// Counts and durations of one operation in one slice.
#[derive(Clone, Debug, Default)]
pub struct SliceStat {
    pub count: u32,
    /// Failed spans none of whose children failed.
    pub errors: u32,
    /// Milliseconds without the children's time.
    pub self_ms: Vec<f32>,
    /// Milliseconds in all.
    pub total_ms: Vec<f32>,
}

/// Sum and count of a numeric span attribute.
#[derive(Clone, Copy, Debug, Default)]
pub struct NumberStat {
    pub sum: f64,
    pub count: u32,
}

#[derive(Clone, Debug, Default)]
pub struct OpStat {
    /// By side, then slice.
    pub slices: [Vec<SliceStat>; 2],
    /// Numeric attributes about rows, batches and sizes: mean per side.
    pub numbers: AHashMap<Arc<str>, [NumberStat; 2]>,
    /// Exception types and status messages of failed spans, per side.
    pub failures: AHashMap<Arc<str>, [u32; 2]>,
    pub statement: Option<Arc<str>>,
    pub database: Option<Arc<str>>,
    /// Whom a client span without a server span talked to, where it said.
    pub peer: Option<Arc<str>>,
    pub is_database: bool,
    pub topic: Option<Arc<str>>,
    pub group: Option<Arc<str>>,
}

/// Network and queue time between a client span and its server span.
#[derive(Clone, Debug, Default)]
pub struct EdgeStat {
    pub gap_ms: [Vec<Vec<f32>>; 2],
    pub count: [u32; 2],
    /// Through a topic, not a call.
    pub messaging: bool,
}

/// How often a span of `parent` had a child `child`, by side and slice.
#[derive(Clone, Debug, Default)]
pub struct ChildStat {
    pub count: [Vec<u32>; 2],
    /// Parents with at least one such child.
    pub parents: [Vec<u32>; 2],
}

/// What an instance did, per side.
#[derive(Clone, Copy, Debug, Default)]
pub struct InstanceStat {
    pub spans: [u32; 2],
    pub errors: [u32; 2],
    pub self_ms: [f64; 2],
}

#[derive(Default)]
pub struct SpanTable {
    pub services: Vec<Arc<str>>,
    service_ids: AHashMap<Arc<str>, ServiceIdx>,
    resources: AHashMap<usize, (Arc<Resource>, ServiceIdx, Option<Arc<str>>, Option<Arc<str>>)>,
    op_ids: AHashMap<OpKey, u32>,
    pub ops: Vec<(OpKey, OpStat)>,
    pub edges: AHashMap<(ServiceIdx, ServiceIdx), EdgeStat>,
    /// Client operation to the number of its spans without a server span, and with one.
    pub unanswered: AHashMap<u32, [[u32; 2]; 2]>,
    /// Who answered client operation `op`, the last time somebody did.
    pub answered_by: AHashMap<u32, ServiceIdx>,
    pub children: AHashMap<(u32, u32), ChildStat>,
    pub instances: AHashMap<(ServiceIdx, Arc<str>), InstanceStat>,
    pub versions: AHashMap<(ServiceIdx, Arc<str>), InstanceStat>,
    /// Slice bounds by side, in nanoseconds.
    pub slices: [Vec<(i64, i64)>; 2],
    pub n_spans: usize,
    aliases: Aliases,
}

pub const BASELINE: usize = 0;
pub const WINDOW: usize = 1;

/// Equal slices of the range, oldest first.
fn slice_bounds(range: TimeRange) -> Vec<(i64, i64)> {
    let (start, end) = (range.start.nanos().0, range.end.nanos().0.saturating_add(1));
    let length = end.saturating_sub(start).max(1);
    let n = (length / SLICE_NANOS_MIN).clamp(1, SLICES_MAX as i64);
    (0..n).map(|k| (start + length / n * k, if k + 1 == n { end } else { start + length / n * (k + 1) })).collect()
}

impl SpanTable {
    /// Reads one side, at most `spans_max` spans of it.
    pub async fn read(
        &mut self,
        source: &dyn SpanSource,
        tenant: &TenantId,
        side: usize,
        range: TimeRange,
        spans_max: usize,
        context: &ReadContext,
    ) -> Result<(), ReadError> {
        self.slices[side] = slice_bounds(range);
        let share = (spans_max / self.slices[side].len()).max(100);
        let _held = context.budget.try_reserve(share as u64 * SPAN_COST_BYTES)?;
        for slice in 0..self.slices[side].len() {
            let (start, end) = self.slices[side][slice];
            let fragment = SpanFragment { start: Nanos(start), end: Nanos(end), predicates: Vec::new() };
            let mut cursor = source.open(tenant, &fragment, context).await?;
            let mut n_spans = 0;
            'slice: while let Some(traces) = cursor.next()? {
                context.cancel.check()?;
                for trace in traces {
                    // A trace belongs to the slice in which it begins.
                    let first = trace.spans.first().map_or(0, |s| s.start.0);
                    if first < start || first >= end || trace.spans.len() > TRACE_SPANS_MAX {
                        continue;
                    }
                    n_spans += trace.spans.len();
                    self.add_trace(&trace, side, slice);
                    if n_spans >= share {
                        break 'slice;
                    }
                }
            }
            self.n_spans += n_spans;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn service(&mut self, span: &Span) -> (ServiceIdx, Option<Arc<str>>, Option<Arc<str>>) {
        let at = Arc::as_ptr(&span.resource) as usize;
        if let Some((_, service, instance, version)) = self.resources.get(&at) {
            return (*service, instance.clone(), version.clone());
        }
        let refs = self.aliases.resolve_resource(&span.resource);
        let name = refs.emitter.unwrap_or_else(|| span.resource.service().into());
        let idx = match self.service_ids.get(&name) {
            Some(idx) => *idx,
            None => {
                let idx = self.services.len() as ServiceIdx;
                self.services.push(name.clone());
                self.service_ids.insert(name, idx);
                idx
            }
        };
        if self.resources.len() < KEYS_MAX {
            // The resource is held so that its address stays its own.
            let held = (span.resource.clone(), idx, refs.instance.clone(), refs.version.clone());
            self.resources.insert(at, held);
        }
        (idx, refs.instance, refs.version)
    }

    fn op(&mut self, service: ServiceIdx, span: &Span) -> Option<u32> {
        let key = OpKey { service, kind: span.kind, name: span.name.clone() };
        if let Some(id) = self.op_ids.get(&key) {
            return Some(*id);
        }
        if self.ops.len() >= KEYS_MAX {
            return None;
        }
        let id = self.ops.len() as u32;
        self.op_ids.insert(key.clone(), id);
        let mut stat = OpStat::default();
        let refs = self.aliases.resolve_span(span);
        let text = |names: &[&str]| names.iter().find_map(|n| span.get(n).and_then(AttrValue::as_str)).map(Arc::from);
        use weir_model::EntityKind::{ConsumerGroup, Database, Topic};
        stat.database = refs.subject(Database).map(|d| d.name.clone());
        stat.is_database = stat.database.is_some() || span.get("db.system.name").or(span.get("db.system")).is_some();
        stat.statement = text(&["db.query.text", "db.statement", "db.query.summary"]);
        stat.topic = refs.subject(Topic).map(|t| t.name.clone());
        stat.group = refs.subject(ConsumerGroup).map(|g| g.name.clone());
        stat.peer = text(&["peer.service", "rpc.service", "server.address", "net.peer.name"]);
        self.ops.push((key, stat));
        Some(id)
    }

    fn add_trace(&mut self, trace: &TraceData, side: usize, slice: usize) {
        let spans = &trace.spans;
        let by_id: AHashMap<SpanId, u32> = spans.iter().enumerate().map(|(k, s)| (s.span_id, k as u32)).collect();
        let mut children: Vec<Vec<u32>> = vec![Vec::new(); spans.len()];
        for (k, span) in spans.iter().enumerate() {
            if let Some(parent) = span.parent.and_then(|p| by_id.get(&p))
                && *parent as usize != k
            {
                children[*parent as usize].push(k as u32);
            }
        }
        let mut places: Vec<(ServiceIdx, Option<u32>)> = Vec::with_capacity(spans.len());
        for (k, span) in spans.iter().enumerate() {
            let (service, instance, version) = self.service(span);
            let op = self.op(service, span);
            places.push((service, op));
            let self_ms = self_nanos(spans, k, &children[k]) as f64 / 1e6;
            let error = span.is_error() && !children[k].iter().any(|c| spans[*c as usize].is_error());
            self.count_instance(service, [instance, version], error, side, self_ms);
            if let Some(op) = op {
                self.add_span(span, op, error, self_ms, side, slice);
            }
        }
        for (k, span) in spans.iter().enumerate() {
            let (service, Some(op)) = places[k] else { continue };
            if matches!(span.kind, SpanKind::Client | SpanKind::Producer) {
                self.add_answer(spans, k, &children[k], &places, op, side, slice);
            }
            self.add_children(&children[k], &places, service, op, side, slice);
        }
    }

    fn count_instance(
        &mut self,
        service: ServiceIdx,
        [instance, version]: [Option<Arc<str>>; 2],
        error: bool,
        side: usize,
        self_ms: f64,
    ) {
        for (map, name) in [(&mut self.instances, instance), (&mut self.versions, version)] {
            let Some(name) = name else { continue };
            let key = (service, name);
            if map.len() >= KEYS_MAX && !map.contains_key(&key) {
                continue;
            }
            let stat = map.entry(key).or_default();
            stat.spans[side] += 1;
            stat.errors[side] += u32::from(error);
            stat.self_ms[side] += self_ms;
        }
    }

    fn add_span(&mut self, span: &Span, op: u32, error: bool, self_ms: f64, side: usize, slice: usize) {
        let n_slices = self.slices[side].len();
        let stat = &mut self.ops[op as usize].1;
        stat.slices[side].resize_with(n_slices, SliceStat::default);
        let at = &mut stat.slices[side][slice];
        at.count += 1;
        at.errors += u32::from(error);
        if at.self_ms.len() < SAMPLES_PER_SLICE {
            at.self_ms.push(self_ms as f32);
            at.total_ms.push((span.duration_nanos() as f64 / 1e6) as f32);
        }
        for (name, value) in &span.attributes {
            let Some(value) = value.as_f64() else { continue };
            if is_amount(name) && (stat.numbers.len() < 16 || stat.numbers.contains_key(name)) {
                let number = &mut stat.numbers.entry(name.clone()).or_default()[side];
                number.sum += value;
                number.count += 1;
            }
        }
        if error || !span.events.is_empty() {
            let exception = span.events.iter().find(|e| &*e.name == "exception").and_then(|e| {
                weir_model::span::attr(&e.attributes, "exception.type").and_then(AttrValue::as_str).map(Arc::from)
            });
            let error_type = || span.get("error.type").and_then(AttrValue::as_str).map(Arc::from);
            let message = || (!span.status.message.is_empty()).then(|| span.status.message.clone());
            if let Some(why) = exception.or_else(error_type).or_else(message)
                && (stat.failures.len() < 64 || stat.failures.contains_key(&why))
            {
                stat.failures.entry(why).or_default()[side] += 1;
            }
        }
    }

    /// The edge to whoever answered a client or producer span.
    #[allow(clippy::too_many_arguments, reason = "one trace's context, taken apart once")]
    fn add_answer(
        &mut self,
        spans: &[Arc<Span>],
        k: usize,
        children: &[u32],
        places: &[(ServiceIdx, Option<u32>)],
        op: u32,
        side: usize,
        slice: usize,
    ) {
        let (span, from) = (&spans[k], places[k].0);
        let mut answered = false;
        for child in children {
            let (answer, to) = (&spans[*child as usize], places[*child as usize].0);
            if !matches!(answer.kind, SpanKind::Server | SpanKind::Consumer) {
                continue;
            }
            answered = true;
            self.answered_by.insert(op, to);
            if self.edges.len() >= KEYS_MAX && !self.edges.contains_key(&(from, to)) {
                continue;
            }
            let n_slices = self.slices[side].len();
            let edge = self.edges.entry((from, to)).or_default();
            edge.messaging |= answer.kind == SpanKind::Consumer;
            edge.count[side] += 1;
            edge.gap_ms[side].resize_with(n_slices, Vec::new);
            let gap = if answer.kind == SpanKind::Consumer {
                answer.start.0.saturating_sub(span.end.0)
            } else {
                span.duration_nanos() - answer.duration_nanos()
            };
            if edge.gap_ms[side][slice].len() < SAMPLES_PER_SLICE {
                edge.gap_ms[side][slice].push((gap.max(0) as f64 / 1e6) as f32);
            }
        }
        let counts = &mut self.unanswered.entry(op).or_default()[side];
        counts[usize::from(answered)] += 1;
    }

    /// Which calls and steps of its own an operation made.
    fn add_children(
        &mut self,
        children: &[u32],
        places: &[(ServiceIdx, Option<u32>)],
        service: ServiceIdx,
        op: u32,
        side: usize,
        slice: usize,
    ) {
        let n_slices = self.slices[side].len();
        let mut own: Vec<u32> = children
            .iter()
            .filter_map(|c| {
                let (child_service, child_op) = places[*c as usize];
                if child_service == service { child_op } else { None }
            })
            .collect();
        own.sort_unstable();
        for run in own.chunk_by(|a, b| a == b) {
            let key = (op, run[0]);
            if self.children.len() >= KEYS_MAX && !self.children.contains_key(&key) {
                continue;
            }
            let stat = self.children.entry(key).or_default();
            stat.count[side].resize(n_slices, 0);
            stat.parents[side].resize(n_slices, 0);
            stat.count[side][slice] += run.len() as u32;
            stat.parents[side][slice] += 1;
        }
    }
}

/// Attributes whose size tells how much work was done.
fn is_amount(name: &str) -> bool {
    name.starts_with("db.") || name.starts_with("messaging.batch") || name.contains("rows") || name.contains("scanned")
}

/// Duration less the union of the children's time within it.
fn self_nanos(spans: &[Arc<Span>], k: usize, children: &[u32]) -> i64 {
    let span = &spans[k];
    let mut covered = 0;
    let mut reached = span.start.0;
    // Spans of a trace ascend by start, and so do `children`.
    for child in children {
        let child = &spans[*child as usize];
        let (start, end) = (child.start.0.max(reached), child.end.0.min(span.end.0));
        if end > start {
            covered += end - start;
            reached = end;
        }
    }
    (span.duration_nanos() - covered).max(0)
}
