//! The diagnosis itself: reads both windows through the read traits and ranks what moved.

use std::sync::Arc;

use weir_model::source::{LogSource, MetricSource, ReadContext, ReadError, SpanSource};
use weir_model::{ChangeSource, TimeRange};

use crate::finding::Aspect;
use crate::metric_scan::MetricTable;
use crate::network;
use crate::rank::{Suspect, rank};
use crate::span_scan::{BASELINE, SpanTable, WINDOW};
use crate::topology::Topology;
use crate::types::{Cause, Diagnosis, Evidence, Question, ReadStats, Thing};

/// Spans read per side; about a tenth of a second of work each.
const SPANS_MAX: usize = 100_000;
/// Traces younger than this may still be arriving.
const TRACE_SETTLE_MS: i64 = 3_000;
const TRACED_LATENCY_SHARE: f64 = 0.2;
/// Evidence lines per cause.
const EVIDENCE_MAX: usize = 8;

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

    let topology = Topology::new(&spans, &metrics);
    let stats = ReadStats { n_series: metrics.n_series, n_spans: spans.n_spans, n_log_lines: 0 };
    let mut findings = spans.findings();
    let mut edges = network::span_edges(&spans);
    edges.extend(network::metric_edges(&metrics, &edges));
    let instance_of = |service: &str| spans.instance_named(service).or_else(|| metrics.instance_of(service));
    findings.extend(network::findings(edges, instance_of));
    // Where spans tell self times, latencies that include the callees' say little more.
    let traced = spans.traced_services();
    findings.extend(metrics.findings.iter().cloned().map(|mut finding| {
        if finding.aspect == Aspect::Latency && traced.contains(&finding.service) {
            finding.weight *= TRACED_LATENCY_SHARE;
        }
        finding
    }));
    let suspects = rank(findings, &topology);
    let causes: Vec<Cause> = suspects.iter().take(question.limit).map(|s| cause(s, &suspects)).collect();
    let confidence = causes.first().map_or(0.0, |c| c.score);
    Ok(Diagnosis { causes, known: confidence >= 0.5, confidence, stats, ..Diagnosis::default() })
}

fn cause(suspect: &Suspect, all: &[Suspect]) -> Cause {
    let first = &suspect.findings[0];
    let rival = all.iter().filter(|s| s.service != suspect.service).map(|s| s.score).fold(0.0, f64::max);
    let own = 1.0 - (-suspect.score / 1.5).exp();
    let score = own * (2.0 * suspect.score / (suspect.score + rival)).min(1.0);
    let evidence = suspect.findings.iter().take(EVIDENCE_MAX).map(|f| Evidence {
        text: f.text(),
        signal: f.signal,
        before: Some(f.before),
        during: Some(f.during),
        unit: Some(f.unit),
        chart: f.chart.clone(),
        links: Vec::new(),
    });
    Cause {
        service: suspect.service.clone(),
        instance: suspect.findings.iter().find_map(|f| f.instance.clone()).unwrap_or_default(),
        kind: suspect.kind(),
        signal: first.signal,
        score,
        since: suspect.since(),
        summary: first.text(),
        thing: suspect.findings.iter().find(|f| f.thing != Thing::None).map(|f| f.thing.clone()).unwrap_or_default(),
        evidence: evidence.collect(),
    }
}
