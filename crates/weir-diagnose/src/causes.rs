//! From suspects to causes: the thing itself, the words, the evidence with its links.

use std::sync::Arc;

use weir_model::{Change, ChangeKind, EntityKind, TenantId, TimeRange, Timestamp};

use crate::finding::{Aspect, Finding, short};
use crate::narrative;
use crate::queries;
use crate::rank::Suspect;
use crate::types::{Cause, CauseKind, Evidence, Link, Signal, Thing};

/// Evidence lines per cause.
const EVIDENCE_MAX: usize = 8;
/// A deployment this long before the trouble began is no longer its likely cause.
const DEPLOYED_BEFORE_MS: i64 = 90_000;
/// Readings are seconds apart: trouble may seem to begin a little before the deployment.
const DEPLOYED_AFTER_MS: i64 = 5_000;
/// A version that consumed all partitions for this long is not why one of them stands still.
const RAN_WELL_MS: i64 = 30_000;
/// What a deployment just before adds to a suspect whose own signals worsened.
const DEPLOYED_FACTOR: f64 = 1.4;
const DEPLOYED_BONUS: f64 = 0.6;
/// Own evidence that a deployment must be followed by.
const WORSE_WEIGHT: f64 = 0.5;
/// Below this score nothing stands out.
pub const KNOWN_SCORE: f64 = 0.5;

/// What a cause is told with.
pub struct Context<'a> {
    pub tenant: &'a TenantId,
    pub window: TimeRange,
    /// Length of one reading, in milliseconds.
    pub slice_ms: i64,
    pub changes: &'a [Change],
}

/// What a bad version does to its own signals.
fn is_worse(f: &Finding) -> bool {
    use Aspect::{Cpu, Dependency, Errors, Logs, Memory, SelfTime, Structure};
    matches!(f.aspect, SelfTime | Dependency | Errors | Structure | Logs | Cpu | Memory) && f.weight >= WORSE_WEIGHT
}

/// The deployment of a suspect that its trouble followed.
pub fn deployment<'a>(suspect: &Suspect, context: &Context<'a>) -> Option<&'a Change> {
    let slack = context.slice_ms + DEPLOYED_AFTER_MS;
    let of_suspect = |c: &&Change| {
        c.kind == ChangeKind::Deployment && c.entity.kind == EntityKind::Service && c.entity.name == suspect.service
    };
    let followed = |change: &&Change| {
        suspect.findings.iter().filter(|f| is_worse(f)).any(|f| {
            let later = f.since.0 - change.at.0;
            (-slack..=DEPLOYED_BEFORE_MS).contains(&later)
        })
    };
    context.changes.iter().filter(of_suspect).filter(followed).max_by_key(|c| c.at)
}

/// Raises suspects that were deployed just before; best first again.
pub fn weigh_changes(suspects: &mut [Suspect], context: &Context<'_>) {
    for suspect in suspects.iter_mut() {
        if deployment(suspect, context).is_some() {
            suspect.score = suspect.score * DEPLOYED_FACTOR + DEPLOYED_BONUS;
        }
    }
    suspects.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.service.cmp(&b.service)));
}

/// The thing: a statement whose work grew beats a deployment, a deployment beats slowness, and a
/// stalled partition is told when nothing in the consumer explains it, or when the version ran well before.
fn thing(suspect: &Suspect, context: &Context<'_>) -> Thing {
    let heaviest = suspect.findings.first().map_or(0.0, |f| f.weight);
    let statement = suspect.findings.iter().find(|f| matches!(f.thing, Thing::Statement { .. }));
    if let Some(finding) = statement.filter(|f| f.work_grew && f.weight >= heaviest * 0.3) {
        return finding.thing.clone();
    }
    let stall = suspect.findings.iter().find(|f| matches!(f.thing, Thing::Partition { .. }));
    let ran_well = |change: &Change| {
        let trouble = suspect.findings.iter().filter(|f| is_worse(f) || f.thing != Thing::None).map(|f| f.since);
        stall.is_some() && trouble.min().is_some_and(|first| first.0 - change.at.0 >= RAN_WELL_MS)
    };
    if let Some(change) = deployment(suspect, context).filter(|change| !ran_well(change))
        && let Some(version) = change.to.clone()
    {
        return Thing::Version { version, previous: change.from.clone() };
    }
    let heavier = |a: &&Finding, b: Option<&Finding>| b.is_none_or(|b| a.weight >= b.weight);
    if let Some(finding) = statement.filter(|f| heavier(f, stall) && f.weight >= heaviest * 0.5) {
        return finding.thing.clone();
    }
    stall.filter(|f| f.weight >= heaviest * 0.3).map(|f| f.thing.clone()).unwrap_or_default()
}

fn summary(suspect: &Suspect, thing: &Thing, kind: CauseKind) -> String {
    let about: Option<&Finding> = match thing {
        Thing::None => suspect.findings.first(),
        Thing::Version { .. } => suspect.findings.iter().find(|f| f.thing == Thing::None),
        thing => suspect.findings.iter().find(|f| f.thing == *thing),
    };
    let Some(about) = about.or(suspect.findings.first()) else { return suspect.service.to_string() };
    let space = if about.unit.is_empty() || about.unit == "%" { "" } else { " " };
    let numbers = format!("{}{space}{} instead of {}", short(about.during), about.unit, short(about.before));
    let headline = narrative::headline(&suspect.service, thing);
    match thing {
        Thing::Statement { .. } => format!("{headline} takes {numbers}"),
        Thing::Partition { .. } => format!("{headline}, {}{space}{} behind", short(about.during), about.unit),
        Thing::Version { .. } => format!("{headline}: {} {numbers}", about.subject),
        Thing::None => {
            let what = match kind {
                CauseKind::Cpu => "is short of CPU",
                CauseKind::Memory => "uses more memory",
                CauseKind::Disk => "is busy with its disk",
                CauseKind::Network => "has a slow network",
                CauseKind::Code => "takes another path in its code",
                CauseKind::Latency => "is slow by itself",
                CauseKind::Error => "fails",
                CauseKind::Traffic => "has other traffic",
                CauseKind::Other => "changed",
            };
            format!("{headline} {what}: {} {numbers}", about.subject)
        }
    }
}

/// The causes of the first suspects, with their scores.
pub fn causes(suspects: &[Suspect], limit: usize, context: &Context<'_>) -> Vec<Cause> {
    let first = suspects.first().map_or(0.0, |s| s.score);
    let second = suspects.get(1).map_or(0.0, |s| s.score);
    suspects
        .iter()
        .take(limit)
        .enumerate()
        .map(|(k, suspect)| {
            let own = 1.0 - (-suspect.score / 1.5).exp();
            // The first is less sure the nearer the second; the others are less likely than it.
            let standing =
                if k == 0 { 0.75 + 0.25 * (1.0 - second / first) } else { 0.75 * (suspect.score / first).sqrt() };
            cause(suspect, own * standing, context)
        })
        .collect()
}

fn cause(suspect: &Suspect, score: f64, context: &Context<'_>) -> Cause {
    let thing = thing(suspect, context);
    let kind = match &thing {
        Thing::Statement { .. } | Thing::Partition { .. } => CauseKind::Latency,
        Thing::Version { .. } if suspect.weight(Aspect::Errors) > 0.5 => CauseKind::Error,
        _ => suspect.kind(),
    };
    let change = deployment(suspect, context);
    let mut evidence: Vec<Evidence> = change.map(|c| told_change(c, context)).into_iter().collect();
    evidence.extend(suspect.findings.iter().take(EVIDENCE_MAX - evidence.len()).map(|f| told(f, context)));
    let since = match (&thing, change) {
        (Thing::Version { .. }, Some(change)) => Some(change.at.max(context.window.start)),
        _ => suspect.findings.iter().find(|f| f.thing == thing && thing != Thing::None).map(|f| f.since),
    };
    Cause {
        service: suspect.service.clone(),
        instance: suspect.findings.iter().find_map(|f| f.instance.clone()).unwrap_or_default(),
        kind,
        signal: suspect.findings.first().map_or(Signal::Metrics, |f| f.signal),
        score,
        since: since.or_else(|| suspect.since()),
        summary: summary(suspect, &thing, kind),
        thing,
        evidence,
    }
}

fn told(finding: &Finding, context: &Context<'_>) -> Evidence {
    let mut links = Vec::new();
    if let Some(chart) = &finding.chart {
        let (page, title) = match &*chart.language {
            "traceql" => ("traces", "traces"),
            "logql" => ("logs", "log lines"),
            _ => ("metrics", "chart"),
        };
        // Pages of traces list them: the metric stage is for the chart.
        let query = chart.query.split(" | ").next().filter(|_| page == "traces").unwrap_or(&chart.query);
        links.push(Link {
            title: title.to_owned(),
            url: format!("/explore/{page}?q={}&{}", queries::encoded(query), range(context)),
        });
    }
    links.push(entity_link(&finding.service, context));
    Evidence {
        text: finding.text(),
        signal: finding.signal,
        before: Some(finding.before),
        during: Some(finding.during),
        unit: Some(finding.unit.into()),
        chart: finding.chart.clone(),
        links,
    }
}

fn told_change(change: &Change, context: &Context<'_>) -> Evidence {
    Evidence {
        text: format!("{} at {}", change.title, narrative::clock_time(change.at)),
        signal: Signal::Changes,
        before: None,
        during: None,
        unit: None,
        chart: None,
        links: vec![entity_link(&change.entity.name, context)],
    }
}

fn entity_link(service: &Arc<str>, context: &Context<'_>) -> Link {
    let name = queries::encoded(service);
    Link { title: service.to_string(), url: format!("/entity/service/{name}?{}", range(context)) }
}

fn range(context: &Context<'_>) -> String {
    let around = |at: Timestamp, by: i64| at.0.saturating_add(by);
    let (from, to) = (around(context.window.start, -60_000), around(context.window.end, 60_000));
    format!("from={from}&to={to}&tenant={}", queries::encoded(context.tenant.as_str()))
}

/// What was looked at and did not move, for when no cause is known and to spare others the look.
pub fn ruled_out(suspects: &[Suspect], context: &Context<'_>, n_groups: usize) -> Vec<String> {
    let moved = |aspects: &[Aspect]| suspects.iter().any(|s| aspects.iter().any(|a| s.weight(*a) > WORSE_WEIGHT));
    let mut out = Vec::new();
    let deployments: Vec<&Change> = context.changes.iter().filter(|c| c.kind == ChangeKind::Deployment).collect();
    if context.changes.is_empty() {
        out.push("no change was reported".to_owned());
    }
    for change in deployments.iter().take(5) {
        let blamed = suspects.iter().any(|s| s.service == change.entity.name && deployment(s, context).is_some());
        if !blamed {
            out.push(format!("deployment of {}: its own signals did not worsen", change.entity.name));
        }
    }
    if n_groups > 0 && !moved(&[Aspect::Lag]) {
        out.push(format!("lag of {n_groups} consumer groups is as before"));
    }
    for (aspects, what) in [
        (&[Aspect::Cpu][..], "CPU"),
        (&[Aspect::Memory][..], "memory"),
        (&[Aspect::Network][..], "network"),
        (&[Aspect::Dependency][..], "statements and outside calls"),
        (&[Aspect::Errors][..], "errors"),
    ] {
        if !moved(aspects) {
            out.push(format!("{what}: as before"));
        }
    }
    out
}
