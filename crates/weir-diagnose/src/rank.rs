//! From findings to a ranked list of suspects: symptoms are taken off whoever waits for the cause.

use std::sync::Arc;

use ahash::AHashMap;
use weir_model::Timestamp;

use crate::finding::{Aspect, Finding};
use crate::topology::Topology;
use crate::types::CauseKind;

/// A service with what speaks against it.
#[derive(Clone, Debug)]
pub struct Suspect {
    pub service: Arc<str>,
    /// Sum of its own evidence; 1 is notable, 3 loud.
    pub score: f64,
    /// Weight per aspect after explanation.
    pub aspects: AHashMap<Aspect, f64>,
    /// Heaviest first.
    pub findings: Vec<Finding>,
}

/// What a second, third … aspect adds to the first.
const DECAY: f64 = 0.5;
/// What further findings of an aspect add.
const MORE_SHARE: f64 = 0.1;
/// Share of an explained symptom that stays with its bearer.
const RESIDUE: f64 = 0.25;

impl Suspect {
    fn rescore(&mut self) {
        let mut weights: Vec<f64> = self.aspects.values().copied().collect();
        weights.sort_by(|a, b| b.total_cmp(a));
        self.score = weights.iter().zip(0..).map(|(w, k)| w * DECAY.powi(k)).sum();
    }
    pub fn weight(&self, aspect: Aspect) -> f64 {
        self.aspects.get(&aspect).copied().unwrap_or(0.0)
    }
    /// Earliest time at which a weighty finding began.
    pub fn since(&self) -> Option<Timestamp> {
        let heaviest = self.findings.first()?.weight;
        self.findings.iter().filter(|f| f.weight >= heaviest * 0.5).map(|f| f.since).min()
    }
    /// What is wrong, by the aspect that weighs most; a resource that is used up beats the slowness
    /// that it makes.
    pub fn kind(&self) -> CauseKind {
        let most = self.aspects.values().copied().fold(0.0, f64::max);
        for aspect in [Aspect::Cpu, Aspect::Memory, Aspect::Disk] {
            if self.weight(aspect) >= most * 0.5 && self.weight(aspect) > 0.5 {
                return aspect.kind();
            }
        }
        let best = self.aspects.iter().max_by(|a, b| a.1.total_cmp(b.1).then_with(|| b.0.cmp(a.0)));
        best.map_or(CauseKind::Other, |(aspect, _)| aspect.kind())
    }
}

/// Suspects, the likeliest first.
pub fn rank(findings: Vec<Finding>, topology: &Topology) -> Vec<Suspect> {
    let mut suspects: AHashMap<Arc<str>, Suspect> = AHashMap::new();
    for finding in findings {
        let suspect = suspects.entry(finding.service.clone()).or_insert_with(|| Suspect {
            service: finding.service.clone(),
            score: 0.0,
            aspects: AHashMap::new(),
            findings: Vec::new(),
        });
        // The heaviest finding of an aspect counts in full, its like a little.
        let weight = suspect.aspects.entry(finding.aspect).or_default();
        *weight = weight.max(finding.weight) + MORE_SHARE * weight.min(finding.weight).min(1.0);
        suspect.findings.push(finding);
    }
    let before = suspects.clone();
    for suspect in suspects.values_mut() {
        explain(suspect, &before, topology);
        suspect.findings.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.subject.cmp(&b.subject)));
        suspect.rescore();
    }
    let mut out: Vec<Suspect> = suspects.into_values().filter(|s| s.score > 0.0).collect();
    out.sort_by(|a, b| b.score.total_cmp(&a.score).then_with(|| a.service.cmp(&b.service)));
    out
}

/// Takes off a suspect what others explain: those that it waits for, and those that call it
/// otherwise than before.
fn explain(suspect: &mut Suspect, all: &AHashMap<Arc<str>, Suspect>, topology: &Topology) {
    use Aspect::*;
    // Callees that this service calls more or less often: their change is its doing, not the reverse.
    let steered = |by: &Suspect, callee: &str| {
        let of = by.findings.iter().filter(|f| f.aspect == Structure && f.callee.as_deref() == Some(callee));
        of.map(|f| f.weight).fold(0.0, f64::max)
    };
    let below = topology.below(&suspect.service);
    let heaviest = |aspects: &[Aspect], skip_steered: bool| {
        let each = below.iter().filter_map(|(name, _)| all.get(name));
        let each = each.filter(|s| !skip_steered || steered(suspect, &s.service) == 0.0);
        each.map(|s| aspects.iter().map(|a| s.weight(*a)).fold(0.0, f64::max)).fold(0.0, f64::max)
    };
    let slow = heaviest(&[Latency, SelfTime, Dependency, Network, Cpu], false);
    let wrong = heaviest(&[Structure, Errors, Logs, Restart], true);
    let callers = topology.callers(&suspect.service).filter_map(|name| all.get(name));
    let steering = callers.map(|c| steered(c, &suspect.service)).fold(0.0, f64::max);
    for (aspect, weight) in &mut suspect.aspects {
        let cause = match aspect {
            Latency => slow,
            Structure => wrong.max(steering),
            Errors | Logs => wrong,
            Traffic => steering,
            _ => 0.0,
        };
        *weight = weight.min((*weight - cause).max(*weight * RESIDUE));
    }
}
