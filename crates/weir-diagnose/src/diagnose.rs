//! The diagnosis itself: reads both windows through the read traits and ranks what moved.

use std::sync::Arc;
use std::time::Duration;

use weir_model::source::{LogSource, MetricSource, ReadContext, ReadError, SpanSource};
use weir_model::{ChangeSource, TimeRange};

use crate::causes;
use crate::finding::{Aspect, Finding};
use crate::log_scan::LogTable;
use crate::metric_scan::MetricTable;
use crate::network;
use crate::rank::{Suspect, rank};
use crate::span_scan::{BASELINE, SpanTable, WINDOW};
use crate::topology::Topology;
use crate::types::{Cause, Diagnosis, Question, ReadStats};

/// Spans read per side; about a tenth of a second of work each.
const SPANS_MAX: usize = 100_000;
/// Log lines read per side.
const LINES_MAX: usize = 30_000;
/// Traces younger than this may still be arriving.
const TRACE_SETTLE_MS: i64 = 3_000;
const TRACED_LATENCY_SHARE: f64 = 0.2;
/// Changes from this long before the window are told.
const CHANGES_BEFORE: Duration = Duration::from_secs(120);
/// Traffic weighs little as a symptom, more as a decision of the caller.
const NEW_CALLS_FACTOR: f64 = 2.0;
const AFFECTED_MAX: usize = 12;

/// Where telemetry is read from.
#[derive(Clone)]
pub struct Sources {
    pub metrics: Arc<dyn MetricSource>,
    pub logs: Arc<dyn LogSource>,
    pub spans: Arc<dyn SpanSource>,
    pub changes: Arc<dyn ChangeSource>,
}

/// Ranks the causes of what happened in the question's window.
///
/// Errors: a store cannot be read, the budget is used up, or the reader went away.
pub async fn diagnose(sources: &Sources, question: &Question, context: &ReadContext) -> Result<Diagnosis, ReadError> {
    let tenant = &question.tenant;
    let settled = question.now.0.saturating_sub(TRACE_SETTLE_MS).max(question.window.start.0);
    let span_window =
        TimeRange { start: question.window.start, end: question.window.end.min(weir_model::Timestamp(settled)) };
    let metrics = MetricTable::read(&*sources.metrics, tenant, question.baseline, question.window, context).await?;
    let mut spans = SpanTable::default();
    spans.read(&*sources.spans, tenant, BASELINE, question.baseline, SPANS_MAX, context).await?;
    spans.read(&*sources.spans, tenant, WINDOW, span_window, SPANS_MAX, context).await?;
    let mut logs = LogTable::default();
    logs.read(&*sources.logs, tenant, BASELINE, question.baseline, LINES_MAX, context).await?;
    logs.read(&*sources.logs, tenant, WINDOW, question.window, LINES_MAX, context).await?;

    let topology = Topology::new(&spans, &metrics);
    let stats = ReadStats { n_series: metrics.n_series, n_spans: spans.n_spans, n_log_lines: logs.n_lines };
    let mut findings = spans.findings();
    findings.extend(logs.findings());
    let mut edges = network::span_edges(&spans);
    edges.extend(network::metric_edges(&metrics, &edges));
    let instance_of = |service: &str| spans.instance_named(service).or_else(|| metrics.instance_of(service));
    findings.extend(network::findings(edges, instance_of));
    let volumes = metrics.volumes();
    // Where spans tell self times, latencies that include the callees' say little more.
    let traced = spans.traced_services();
    findings.extend(metrics.findings.iter().cloned().map(|mut finding| {
        if finding.aspect == Aspect::Latency && traced.contains(&finding.service) {
            finding.weight *= TRACED_LATENCY_SHARE;
        }
        if finding.aspect == Aspect::Latency {
            finding.weight *= volumes.factor(&finding);
        }
        finding
    }));
    findings.extend(new_calls(&metrics, &topology));
    for stall in metrics.lag.stalls() {
        // A group whose spans say nothing stands for its own service.
        let group = &stall.key.group;
        let service = topology.service_of_group(group).unwrap_or_else(|| group.clone());
        findings.push(stall.finding(service));
    }
    let mut suspects = rank(findings, &topology);
    let recent = TimeRange::new(question.window.start.minus(CHANGES_BEFORE), question.window.end);
    let changes = sources.changes.changes(tenant, recent);
    let told = causes::Context { tenant, window: question.window, slice_ms: spans.slice_ms(WINDOW), changes: &changes };
    causes::weigh_changes(&mut suspects, &told);
    let causes = causes::causes(&suspects, question.limit, &told);
    let confidence = causes.first().map_or(0.0, |c| c.score);
    let ruled_out = causes::ruled_out(&suspects, &told, metrics.lag.n_groups());
    Ok(Diagnosis {
        known: confidence >= causes::KNOWN_SCORE,
        confidence,
        ruled_out,
        affected: affected(&causes, &suspects, &topology),
        causes,
        changes,
        stats,
    })
}

/// The first cause's service, who waits for it, who reads what it writes, and who else moved.
fn affected(causes: &[Cause], suspects: &[Suspect], topology: &Topology) -> Vec<Arc<str>> {
    let Some(first) = causes.first() else { return Vec::new() };
    let mut out: Vec<Arc<str>> = vec![first.service.clone()];
    let downstream = topology.downstream(&first.service).into_iter().map(|(name, _)| name);
    let callers = topology.callers(&first.service).cloned();
    let moved = suspects.iter().filter(|s| s.score >= 0.5).map(|s| s.service.clone());
    for name in downstream.chain(callers).chain(moved) {
        if out.len() < AFFECTED_MAX && !out.contains(&name) {
            out.push(name);
        }
    }
    out
}

/// Callees that get far more or less to do from their one caller, whose own traffic is as before:
/// the caller took another path.
fn new_calls(metrics: &MetricTable, topology: &Topology) -> Vec<Finding> {
    let steady = |service: &Arc<str>| metrics.traffic.get(service).is_some_and(|f| (0.67..1.5).contains(f));
    let moved = metrics.findings.iter().filter(|f| f.aspect == Aspect::Traffic);
    moved
        .filter_map(|finding| {
            let mut callers = topology.callers(&finding.service);
            let (Some(caller), None) = (callers.next(), callers.next()) else { return None };
            let factor = (finding.during + 1e-9) / (finding.before + 1e-9);
            if !steady(caller) || (0.33..3.0).contains(&factor) {
                return None;
            }
            Some(Finding {
                service: caller.clone(),
                instance: metrics.instance_of(caller),
                aspect: Aspect::Structure,
                weight: finding.weight * NEW_CALLS_FACTOR,
                subject: format!("calls from {caller} to {}", finding.service),
                callee: Some(finding.service.clone()),
                ..finding.clone()
            })
        })
        .collect()
}
