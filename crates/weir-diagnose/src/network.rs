//! Whose network is slow: the time between a client span and its server span belongs to an edge,
//! and a slow node shows on all its edges.

use ahash::AHashMap;

use crate::finding::{Aspect, Finding, weigh};
use crate::queries;
use crate::span_scan::{BASELINE, EdgeStat, ServiceIdx, SpanTable, WINDOW};
use crate::stats::{Floor, Point, Shift, shift, trimmed_mean};
use crate::types::{Signal, Thing};

const FLOOR: Floor = Floor { relative: 0.15, absolute: 0.2 };
const EFFECT_MS: f64 = 1.0;
const CALLS_FEW: f64 = 8.0;

struct Edge {
    from: ServiceIdx,
    to: ServiceIdx,
    /// 0 when the edge did not move, or got faster.
    weight: f64,
    shift: Option<Shift>,
}

fn edge_shift(table: &SpanTable, stat: &EdgeStat) -> Option<Shift> {
    let points = |side: usize| -> Vec<Point> {
        let slices = stat.gap_ms[side].iter().enumerate();
        slices.filter_map(|(k, v)| Some((table.slice_start(side, k), trimmed_mean(&mut v.clone())?))).collect()
    };
    shift(&points(BASELINE), &points(WINDOW), FLOOR)
}

/// For each service that explains slower edges, one finding. The service that explains most comes
/// first and takes its edges away from the others: one slow caller slows the edges of all callees.
pub fn findings(table: &SpanTable) -> Vec<Finding> {
    let mut edges: Vec<Edge> = Vec::new();
    for ((from, to), stat) in &table.edges {
        if stat.messaging || from == to {
            continue;
        }
        let shift = edge_shift(table, stat);
        let n = f64::from(stat.count[BASELINE].min(stat.count[WINDOW]));
        let up = shift.filter(|s| s.during > s.before);
        let weight = up.map_or(0.0, |s| weigh(&s, EFFECT_MS)) * (n / CALLS_FEW).min(1.0).sqrt();
        edges.push(Edge { from: *from, to: *to, weight, shift: up });
    }
    edges.sort_by_key(|e| (e.from, e.to));
    let mut out = Vec::new();
    while let Some((node, score)) = best(&edges) {
        out.push(finding(table, node, score, &edges));
        edges.iter_mut().filter(|e| e.from == node || e.to == node).for_each(|e| e.weight = 0.0);
        if out.len() >= 8 {
            break;
        }
    }
    out
}

/// The node with the most moved weight, counted against its unmoved edges.
fn best(edges: &[Edge]) -> Option<(ServiceIdx, f64)> {
    let mut nodes: AHashMap<ServiceIdx, (f64, usize, usize)> = AHashMap::new();
    for edge in edges {
        for node in [edge.from, edge.to] {
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
        .map(|(node, v)| (node, score(v)))
        .max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
}

fn finding(table: &SpanTable, node: ServiceIdx, score: f64, edges: &[Edge]) -> Finding {
    let mine = || edges.iter().filter(|e| (e.from == node || e.to == node) && e.weight > 0.0);
    let worst = mine().max_by(|a, b| a.weight.total_cmp(&b.weight)).and_then(|e| e.shift.map(|s| (e, s)));
    let (edge, shift) = worst.expect("a chosen node has a moved edge");
    let name = |s: ServiceIdx| table.services[s as usize].clone();
    let subject = format!(
        "time on the wire from {} to {} ({} of its links slower)",
        name(edge.from),
        name(edge.to),
        mine().count()
    );
    Finding {
        service: name(node),
        instance: table.instance_of(node),
        aspect: Aspect::Network,
        signal: Signal::Spans,
        weight: score,
        own: true,
        before: shift.before,
        during: shift.during,
        unit: "ms",
        since: shift.since,
        subject,
        chart: Some(queries::service_calls(&name(edge.from), &name(edge.to))),
        thing: Thing::None,
    }
}
