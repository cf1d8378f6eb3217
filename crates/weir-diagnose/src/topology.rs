//! Who calls whom, and who reads what others write, as far as the telemetry of two windows tells.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use crate::metric_scan::MetricTable;
use crate::span_scan::SpanTable;

/// How far explanations reach along calls.
const DEPTH_MAX: usize = 12;

#[derive(Default)]
pub struct Topology {
    callees: AHashMap<Arc<str>, AHashSet<Arc<str>>>,
    callers: AHashMap<Arc<str>, AHashSet<Arc<str>>>,
    /// Producer to consumer.
    readers: AHashMap<Arc<str>, AHashSet<Arc<str>>>,
    /// Consumer group to the service whose spans carry it.
    groups: AHashMap<Arc<str>, Arc<str>>,
}

impl Topology {
    pub fn new(spans: &SpanTable, metrics: &MetricTable) -> Self {
        let mut out = Self::default();
        for ((from, to), stat) in &spans.edges {
            let (from, to) = (&spans.services[*from as usize], &spans.services[*to as usize]);
            if from == to {
                continue;
            }
            if stat.messaging {
                out.readers.entry(from.clone()).or_default().insert(to.clone());
            } else {
                out.call(from, to);
            }
        }
        for (from, to) in &metrics.edges {
            out.call(from, to);
        }
        for (key, stat) in &spans.ops {
            if let Some(group) = &stat.group {
                out.groups.insert(group.clone(), spans.services[key.service as usize].clone());
            }
        }
        out
    }

    fn call(&mut self, from: &Arc<str>, to: &Arc<str>) {
        self.callees.entry(from.clone()).or_default().insert(to.clone());
        self.callers.entry(to.clone()).or_default().insert(from.clone());
    }

    pub fn service_of_group(&self, group: &str) -> Option<Arc<str>> {
        self.groups.get(group).cloned()
    }

    pub fn callers(&self, service: &str) -> impl Iterator<Item = &Arc<str>> {
        self.callers.get(service).into_iter().flatten()
    }

    /// Everything that the service waits for, with the number of calls between.
    pub fn below(&self, service: &str) -> Vec<(Arc<str>, usize)> {
        reach(&self.callees, service)
    }

    /// Everything that takes in what the service writes.
    pub fn downstream(&self, service: &str) -> Vec<(Arc<str>, usize)> {
        reach(&self.readers, service)
    }
}

fn reach(next: &AHashMap<Arc<str>, AHashSet<Arc<str>>>, from: &str) -> Vec<(Arc<str>, usize)> {
    let mut seen: AHashSet<Arc<str>> = AHashSet::new();
    let mut out = Vec::new();
    let mut level: Vec<Arc<str>> = vec![from.into()];
    for depth in 1..=DEPTH_MAX {
        let mut deeper = Vec::new();
        for service in &level {
            for callee in next.get(service).into_iter().flatten() {
                if **callee != *from && seen.insert(callee.clone()) {
                    out.push((callee.clone(), depth));
                    deeper.push(callee.clone());
                }
            }
        }
        if deeper.is_empty() {
            break;
        }
        level = deeper;
    }
    out.sort_by(|a, b| a.1.cmp(&b.1).then_with(|| a.0.cmp(&b.0)));
    out
}
