//! Reads metric series and reduces each to one move between baseline and window.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use weir_model::entity::Aliases;
use weir_model::source::{MetricFragment, MetricSource, Projection, ReadContext, ReadError, SeriesData};
use weir_model::{Labels, TenantId, TimeRange, Timestamp, is_stale};

use crate::finding::{Aspect, Finding, weigh};
use crate::lag::LagTable;
use crate::metric_words::{Meaning, meaning};
use crate::queries;
use crate::stats::{Floor, Point, Shift, shift};
use crate::types::{Signal, Thing};

/// Series looked at; more are left out.
const SERIES_MAX: usize = 50_000;
/// Readings per side and series after averaging neighbours.
const POINTS_MAX: usize = 120;

/// An edge between services that a series told of: caller, callee.
pub type NamedEdge = (Arc<str>, Arc<str>);

/// Which end of a call measured it. Source of the label: Istio's `reporter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reporter {
    Caller,
    Callee,
}

/// A request latency and how it moved, kept for comparing callers with callees.
#[derive(Clone, Debug)]
pub struct LatencyMove {
    pub reporter: Reporter,
    pub shift: Shift,
    pub weight: f64,
}

#[derive(Default)]
pub struct MetricTable {
    pub findings: Vec<Finding>,
    /// Caller, callee; from series that name both.
    pub edges: AHashSet<NamedEdge>,
    /// Moves of latency from caller to callee, as seen by either.
    pub edge_latency: AHashMap<NamedEdge, Vec<LatencyMove>>,
    pub lag: LagTable,
    /// Requests of a service, in whatever unit its traffic is told; comparable between services.
    volumes: AHashMap<Arc<str>, f64>,
    /// Factor of traffic per service between baseline and window.
    pub traffic: AHashMap<Arc<str>, f64>,
    /// Services and their instances, the first few.
    pub instances: AHashMap<Arc<str>, AHashSet<Arc<str>>>,
    pub n_series: usize,
    aliases: Aliases,
}

/// Requests per service, to weigh latencies by.
pub struct Volumes<'a> {
    table: &'a MetricTable,
    total: f64,
}

/// Whether a series was counted from spans, by the names that Tempo's generator gives. Where the spans are here they
/// say more, and what they say counts once.
pub fn is_counted_from_spans(labels: &Labels) -> bool {
    let name = labels.metric_name();
    ["traces_spanmetrics_", "traces_service_graph_", "traces_messaging_"].iter().any(|prefix| name.starts_with(prefix))
}

impl Volumes<'_> {
    /// Between a half and one: a slow component that few ask costs little. One when traffic is
    /// unknown.
    pub fn factor(&self, finding: &Finding) -> f64 {
        match self.table.cost(finding) {
            Some(cost) if self.total > 0.0 => 0.4 + 0.6 * (cost / self.total).min(1.0).sqrt(),
            _ => 1.0,
        }
    }
}

struct Sides {
    baseline: TimeRange,
    window: TimeRange,
}

impl MetricTable {
    pub async fn read(
        source: &dyn MetricSource,
        tenant: &TenantId,
        baseline: TimeRange,
        window: TimeRange,
        context: &ReadContext,
    ) -> Result<Self, ReadError> {
        let mut table = Self::default();
        let sides = Sides { baseline, window };
        let range = TimeRange::new(baseline.start.min(window.start), window.end.max(baseline.end));
        let fragment = MetricFragment {
            matchers: Vec::new(),
            range,
            projection: Projection::Samples,
            ..MetricFragment::default()
        };
        let mut cursor = source.open(tenant, &fragment, context).await?;
        while let Some(batch) = cursor.next()? {
            context.cancel.check()?;
            let bytes: usize = batch.iter().map(|s| s.samples.len() * 16).sum();
            let _held = context.budget.try_reserve(bytes as u64)?;
            for series in batch.iter().filter(|series| !is_counted_from_spans(&series.labels)) {
                table.add(series, &sides);
            }
            if table.n_series >= SERIES_MAX {
                break;
            }
            tokio::task::yield_now().await;
        }
        Ok(table)
    }

    /// How much time each service's slower answers cost in all, for weighing one against another.
    pub fn volumes(&self) -> Volumes<'_> {
        let costs = self.findings.iter().filter(|f| f.aspect == Aspect::Latency);
        let mut most: AHashMap<&Arc<str>, f64> = AHashMap::new();
        for finding in costs {
            let cost = most.entry(&finding.service).or_default();
            *cost = cost.max(self.cost(finding).unwrap_or(0.0));
        }
        Volumes { table: self, total: most.values().sum() }
    }

    fn cost(&self, finding: &Finding) -> Option<f64> {
        Some((finding.during - finding.before).max(0.0) * self.volumes.get(&finding.service)?)
    }

    /// The only instance that speaks for a service.
    pub fn instance_of(&self, service: &str) -> Option<Arc<str>> {
        match self.instances.get(service).map(|set| (set.len(), set.iter().next())) {
            Some((1, Some(only))) => Some(only.clone()),
            _ => None,
        }
    }

    fn add(&mut self, series: &SeriesData, sides: &Sides) {
        self.n_series += 1;
        let labels = &series.labels;
        let name = labels.metric_name();
        let edge = edge_of(labels);
        if let Some(edge) = &edge {
            self.edges.insert(edge.clone());
        }
        if self.lag.add(series, sides.baseline, sides.window) {
            return;
        }
        let Some(meaning) = meaning(name) else { return };
        let refs = self.aliases.resolve_labels(labels);
        if edge.is_none()
            && let Some(service) = &refs.emitter
        {
            let instances = self.instances.entry(service.clone()).or_default();
            if let Some(instance) = refs.instance.clone().filter(|_| instances.len() < 8) {
                instances.insert(instance);
            }
        }
        let base = readings(series, sides.baseline, meaning.counter);
        let window = readings(series, sides.window, meaning.counter);
        let Some(shift) = shift(&base, &window, floor(&meaning)) else { return };
        if let Some(edge) = edge {
            if meaning.aspect == Aspect::Latency {
                let weight = weigh(&shift, effect_floor(&meaning));
                let up = shift.during > shift.before;
                let callee = matches!(labels.get("reporter"), Some("destination" | "server"));
                let reporter = if callee { Reporter::Callee } else { Reporter::Caller };
                let moved = LatencyMove { reporter, shift, weight: if up { weight } else { 0.0 } };
                self.edge_latency.entry(edge).or_default().push(moved);
            }
            return;
        }
        let Some(service) = refs.emitter else { return };
        if meaning.aspect == Aspect::Traffic && shift.before > 0.0 {
            let factor = (shift.during / shift.before).clamp(0.01, 100.0);
            let known = self.traffic.entry(service.clone()).or_insert(factor);
            *known = if factor.ln().abs() > known.ln().abs() { factor } else { *known };
        }
        if meaning.aspect == Aspect::Traffic {
            let volume = self.volumes.entry(service.clone()).or_default();
            *volume = volume.max(shift.before.max(shift.during));
        }
        if let Some(finding) = judge(&meaning, labels, &shift, service, refs.instance) {
            self.findings.push(finding);
        }
    }
}

/// Caller and callee, where a series names both.
fn edge_of(labels: &Labels) -> Option<NamedEdge> {
    const PAIRS: [(&str, &str); 5] = [
        ("client", "server"),
        ("source", "destination"),
        ("source_workload", "destination_workload"),
        ("source_service", "destination_service"),
        ("caller", "callee"),
    ];
    PAIRS.iter().find_map(|(from, to)| {
        let (from, to) = (labels.get(from)?, labels.get(to)?);
        (from != to && from != "unknown" && to != "unknown").then(|| (Arc::from(from), Arc::from(to)))
    })
}

fn floor(meaning: &Meaning) -> Floor {
    match meaning.aspect {
        // Levels of resources and traffic wander more than latencies.
        Aspect::Errors if meaning.good => Floor { relative: 0.01, absolute: 0.0 },
        Aspect::Errors => Floor { relative: 0.2, absolute: 0.0 },
        Aspect::Cpu | Aspect::Memory if meaning.percent => Floor { relative: 0.1, absolute: 1.0 },
        Aspect::Latency => Floor { relative: 0.08, absolute: 0.0 },
        _ => Floor { relative: 0.1, absolute: 0.0 },
    }
}

/// Below this, two levels are the same.
fn effect_floor(meaning: &Meaning) -> f64 {
    match (meaning.aspect, meaning.unit) {
        (_, "%") => 5.0,
        (Aspect::Latency, "s") => 0.001,
        (Aspect::Latency, "ms") => 1.0,
        (Aspect::Errors, _) => 0.1,
        (Aspect::Cpu, "m") => 20.0,
        (Aspect::Cpu, _) => 0.02,
        (Aspect::Traffic, _) => 0.5,
        (Aspect::Memory | Aspect::Disk | Aspect::Network, "B") => 4096.0,
        _ => 1.0,
    }
}

fn judge(
    meaning: &Meaning,
    labels: &Labels,
    shift: &Shift,
    service: Arc<str>,
    instance: Option<Arc<str>>,
) -> Option<Finding> {
    let up = shift.during > shift.before;
    let bad = if meaning.good { !up } else { up };
    // What a good share lacks is what counts: 99.9 to 99 is ten times the failures.
    let seen = match meaning.good && meaning.percent {
        true => Shift { before: 100.0 - shift.before, during: 100.0 - shift.during, ..*shift },
        false => *shift,
    };
    let effect_floor = if meaning.good && meaning.percent { 1.0 } else { effect_floor(meaning) };
    let mut weight = weigh(&seen, effect_floor);
    weight *= match meaning.aspect {
        Aspect::Cpu | Aspect::Memory | Aspect::Network | Aspect::Disk if meaning.shared => 0.15,
        Aspect::Traffic => 0.3,
        Aspect::Network => 0.2,
        Aspect::Disk => 0.4,
        Aspect::Memory => 0.7,
        // With everything that is waited for in it.
        Aspect::Latency => 0.7,
        _ => 1.0,
    };
    if !bad {
        weight *= match meaning.aspect {
            // Less traffic, or quicker answers, may be an early return or a caller that stopped.
            Aspect::Traffic | Aspect::Latency => 0.4,
            _ => 0.1,
        };
    }
    if meaning.remote {
        weight *= 0.05;
    }
    (weight > 0.0).then(|| Finding {
        service,
        instance,
        aspect: meaning.aspect,
        signal: Signal::Metrics,
        weight,
        before: shift.before,
        during: shift.during,
        unit: meaning.unit,
        since: shift.since,
        subject: format!("`{}`", told(labels)),
        chart: Some(queries::series(labels, meaning.counter)),
        thing: Thing::None,
        callee: None,
        work_grew: false,
    })
}

/// The series without the labels that say where it comes from: service and instance stand beside it.
fn told(labels: &Labels) -> Labels {
    const WHERE: [&str; 10] = [
        "job",
        "instance",
        "service",
        "service_name",
        "service_namespace",
        "service_instance_id",
        "namespace",
        "pod",
        "container",
        "cluster",
    ];
    labels.filter(|name| !WHERE.contains(&name))
}

/// Values within the range; of a counter its increase per second. Neighbours are averaged until
/// few enough are left.
fn readings(series: &SeriesData, range: TimeRange, counter: bool) -> Vec<Point> {
    let samples = &series.samples;
    let first = samples.partition_point(|s| s.at < range.start);
    let last = samples.partition_point(|s| s.at <= range.end);
    let inside = samples.get(first..last).unwrap_or_default();
    let mut points: Vec<Point> = Vec::with_capacity(inside.len());
    if counter {
        let mut before = first.checked_sub(1).map(|k| samples[k]);
        for sample in inside {
            if is_stale(sample.value) {
                before = None;
                continue;
            }
            if let Some(previous) = before {
                let seconds = (sample.at.0 - previous.at.0) as f64 / 1e3;
                let grown = sample.value - previous.value;
                // A fall is a reset: what was counted since then is all there is.
                let grown = if grown < 0.0 { sample.value } else { grown };
                if seconds > 0.0 && grown.is_finite() {
                    points.push((sample.at, grown / seconds));
                }
            }
            before = Some(*sample);
        }
    } else {
        points.extend(inside.iter().filter(|s| s.value.is_finite()).map(|s| (s.at, s.value)));
    }
    thin(points)
}

fn thin(points: Vec<Point>) -> Vec<Point> {
    let run = points.len().div_ceil(POINTS_MAX).max(1);
    if run == 1 {
        return points;
    }
    let mean = |chunk: &[Point]| (chunk[0].0, chunk.iter().map(|p| p.1).sum::<f64>() / chunk.len() as f64);
    points.chunks(run).map(mean).collect()
}

/// The last sample at or before a time, for levels such as lag.
pub(crate) fn level_at(series: &SeriesData, at: Timestamp) -> Option<f64> {
    let idx = series.samples.partition_point(|s| s.at <= at).checked_sub(1)?;
    let value = series.samples[idx].value;
    value.is_finite().then_some(value)
}

pub(crate) fn gauge_readings(series: &SeriesData, range: TimeRange) -> Vec<Point> {
    readings(series, range, false)
}
