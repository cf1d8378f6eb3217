//! Whose network is slow: the time between a client span and its server span belongs to an edge,
//! and a slow node shows on all its edges.

use std::sync::Arc;

use ahash::AHashMap;

use crate::finding::{Aspect, Finding, weigh};
use crate::metric_scan::{MetricTable, Reporter};
use crate::queries;
use crate::span_scan::{BASELINE, EdgeStat, ServiceIdx, SpanTable, WINDOW};
use crate::stats::{Floor, Point, Shift, shift, trimmed_mean};
use crate::types::{Signal, Thing};

const FLOOR: Floor = Floor { relative: 0.15, absolute: 0.2 };
const EFFECT_MS: f64 = 1.0;
const CALLS_FEW: f64 = 8.0;

/// A link between two services and how much its time on the wire grew.
pub struct Edge {
    pub from: Arc<str>,
    pub to: Arc<str>,
    /// 0 when the edge did not move, or got faster.
    pub weight: f64,
    pub shift: Option<Shift>,
    pub signal: Signal,
}

fn edge_shift(table: &SpanTable, stat: &EdgeStat) -> Option<Shift> {
    let points = |side: usize| -> Vec<Point> {
        let slices = stat.gap_ms[side].iter().enumerate();
        slices.filter_map(|(k, v)| Some((table.slice_start(side, k), trimmed_mean(&mut v.clone())?))).collect()
    };
    shift(&points(BASELINE), &points(WINDOW), FLOOR)
}

/// Links as spans show them.
pub fn span_edges(table: &SpanTable) -> Vec<Edge> {
    let mut edges: Vec<Edge> = Vec::new();
    for ((from, to), stat) in &table.edges {
        if stat.messaging || from == to {
            continue;
        }
        let shift = edge_shift(table, stat).filter(|s| s.during > s.before);
        let n = f64::from(stat.count[BASELINE].min(stat.count[WINDOW]));
        let weight = shift.map_or(0.0, |s| weigh(&s, EFFECT_MS)) * (n / CALLS_FEW).min(1.0).sqrt();
        let name = |s: ServiceIdx| table.services[s as usize].clone();
        edges.push(Edge { from: name(*from), to: name(*to), weight, shift, signal: Signal::Spans });
    }
    edges
}

/// Links as the proxies at both ends measured them, where spans say nothing: what the caller waited
/// longer and the callee did not work longer was spent on the wire.
pub fn metric_edges(metrics: &MetricTable, known: &[Edge]) -> Vec<Edge> {
    let mut edges = Vec::new();
    for ((from, to), moves) in &metrics.edge_latency {
        if known.iter().any(|e| e.from == *from && e.to == *to) {
            continue;
        }
        let heaviest = |end: Reporter| {
            let of_end = moves.iter().filter(|m| m.reporter == end);
            of_end.max_by(|a, b| a.weight.total_cmp(&b.weight))
        };
        let Some(caller) = heaviest(Reporter::Caller) else { continue };
        let worked = heaviest(Reporter::Callee).map_or(0.0, |m| m.shift.during - m.shift.before).max(0.0);
        let waited = caller.shift.during - caller.shift.before;
        let wire = if waited > 0.0 { ((waited - worked) / waited).clamp(0.0, 1.0) } else { 0.0 };
        let weight = caller.weight * wire;
        let scaled = Shift { before: caller.shift.before * 1e3, during: caller.shift.during * 1e3, ..caller.shift };
        edges.push(Edge { from: from.clone(), to: to.clone(), weight, shift: Some(scaled), signal: Signal::Metrics });
    }
    edges
}

/// For each service that explains slower edges, one finding. The service that explains most comes
/// first and takes its edges away from the others: one slow caller slows the edges of all callees.
pub fn findings(mut edges: Vec<Edge>, instance_of: impl Fn(&str) -> Option<Arc<str>>) -> Vec<Finding> {
    edges.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    let mut out = Vec::new();
    while let Some((node, score)) = best(&edges) {
        out.push(finding(&node, score, &edges, instance_of(&node)));
        edges.iter_mut().filter(|e| e.from == node || e.to == node).for_each(|e| e.weight = 0.0);
        if out.len() >= 8 {
            break;
        }
    }
    out
}

/// The node with the most moved weight, counted against its unmoved edges.
fn best(edges: &[Edge]) -> Option<(Arc<str>, f64)> {
    let mut nodes: AHashMap<&Arc<str>, (f64, usize, usize)> = AHashMap::new();
    for edge in edges {
        for node in [&edge.from, &edge.to] {
            let (sum, moved, all) = nodes.entry(node).or_default();
            *sum += edge.weight;
            *moved += usize::from(edge.weight > 0.0);
            *all += 1;
        }
    }
    // The mean over the moved edges, once per share of edges that moved, a little more for many.
    let score = |(sum, moved, all): (f64, usize, usize)| {
        let mean = sum / moved.max(1) as f64;
        mean * (moved as f64 / all as f64).sqrt() * (1.0 + 0.25 * (moved as f64).ln())
    };
    nodes
        .into_iter()
        .filter(|(_, v)| v.1 > 0)
        .map(|(node, v)| (node.clone(), score(v)))
        .max_by(|a, b| a.1.total_cmp(&b.1).then_with(|| b.0.cmp(&a.0)))
}

fn finding(node: &Arc<str>, score: f64, edges: &[Edge], instance: Option<Arc<str>>) -> Finding {
    let mine = || edges.iter().filter(|e| (e.from == *node || e.to == *node) && e.weight > 0.0);
    let worst = mine().max_by(|a, b| a.weight.total_cmp(&b.weight)).and_then(|e| e.shift.map(|s| (e, s)));
    let (edge, shift) = worst.expect("a chosen node has a moved edge");
    let n = mine().count();
    let links = if n == 1 { "1 link".to_owned() } else { format!("{n} links") };
    Finding {
        service: node.clone(),
        instance,
        aspect: Aspect::Network,
        signal: edge.signal,
        weight: score,
        before: shift.before,
        during: shift.during,
        unit: "ms",
        since: shift.since,
        subject: format!("time on the wire from {} to {} ({links} of {node} slower)", edge.from, edge.to),
        chart: Some(queries::service_calls(&edge.from, &edge.to)),
        thing: Thing::None,
        callee: None,
        work_grew: false,
    }
}
