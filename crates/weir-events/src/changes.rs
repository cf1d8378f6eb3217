//! The log of change events: deployments, flags, configuration, scaling.
//!
//! A few hundred a day at most, so a sorted list per tenant is enough. Kept in memory.

use std::collections::HashMap;

use parking_lot::RwLock;
use weir_model::{Change, ChangeSink, ChangeSource, TenantId, TimeRange};

/// Changes kept per tenant; at one a minute, three days.
const CHANGES_PER_TENANT_MAX: usize = 4096;
const TENANTS_MAX: usize = 1024;
/// Two reports of one deployment (by the pipeline that did it, and by the version in telemetry)
/// arrive within the time of a rollout.
const SAME_CHANGE_MS: i64 = 180_000;

/// Bounded, oldest dropped first; a change that repeats a known one is merged into it.
#[derive(Default)]
pub struct ChangeLog {
    /// Per tenant, ascending by time.
    tenants: RwLock<HashMap<TenantId, Vec<Change>>>,
}

/// Whether `b` tells what `a` told already.
fn repeats(a: &Change, b: &Change) -> bool {
    if a.kind != b.kind || a.entity != b.entity || a.at.0.abs_diff(b.at.0) > SAME_CHANGE_MS.unsigned_abs() {
        return false;
    }
    match (&a.to, &b.to) {
        (Some(x), Some(y)) => x == y && (a.from.is_none() || b.from.is_none() || a.from == b.from),
        (None, None) => a.title == b.title,
        _ => false,
    }
}

/// What both know: the earlier time, each field from whoever has it.
fn merge(known: &mut Change, other: Change) {
    known.at = known.at.min(other.at);
    if known.from.is_none() {
        known.from = other.from;
    }
    // A person's words beat derived ones.
    if known.source == "telemetry" && other.source != "telemetry" {
        known.title = other.title;
        known.source = other.source;
    }
    for instance in other.instances {
        if !known.instances.contains(&instance) && known.instances.len() < 64 {
            known.instances.push(instance);
        }
    }
    for (name, value) in other.attributes {
        known.attributes.entry(name).or_insert(value);
    }
}

impl ChangeSink for ChangeLog {
    fn record(&self, tenant: &TenantId, change: Change) {
        let mut tenants = self.tenants.write();
        if !tenants.contains_key(tenant) && tenants.len() >= TENANTS_MAX {
            tracing::warn!(%tenant, "change dropped: too many tenants hold changes");
            return;
        }
        let log = tenants.entry(tenant.clone()).or_default();
        let (start, end) = (change.at.0.saturating_sub(SAME_CHANGE_MS), change.at.0.saturating_add(SAME_CHANGE_MS));
        let first = log.partition_point(|c| c.at.0 < start);
        let last = log.partition_point(|c| c.at.0 <= end);
        if let Some(known) = log[first..last].iter_mut().find(|c| repeats(c, &change)) {
            merge(known, change);
            log[first..last].sort_by_key(|c| c.at);
            return;
        }
        let idx = log.partition_point(|c| c.at <= change.at);
        log.insert(idx, change);
        if log.len() > CHANGES_PER_TENANT_MAX {
            log.remove(0);
        }
    }
}

impl ChangeSource for ChangeLog {
    fn changes(&self, tenant: &TenantId, range: TimeRange) -> Vec<Change> {
        let tenants = self.tenants.read();
        let Some(log) = tenants.get(tenant) else { return Vec::new() };
        let first = log.partition_point(|c| c.at < range.start);
        let last = log.partition_point(|c| c.at <= range.end);
        log.get(first..last).map(<[_]>::to_vec).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weir_model::{ChangeKind, EntityId, EntityKind, Timestamp};

    use super::*;

    fn change(at: i64, service: &str, to: &str, source: &str) -> Change {
        Change {
            at: Timestamp(at),
            kind: ChangeKind::Deployment,
            entity: EntityId::new(EntityKind::Service, service),
            title: format!("{service} {to}"),
            from: None,
            to: Some(to.to_owned()),
            instances: Vec::new(),
            source: source.to_owned(),
            attributes: BTreeMap::new(),
        }
    }

    #[test]
    fn one_deployment_told_twice_is_one_change() {
        let log = ChangeLog::default();
        let tenant = TenantId::anonymous();
        log.record(&tenant, change(100_000, "a", "v2", "telemetry"));
        log.record(&tenant, change(95_000, "a", "v2", "api"));
        log.record(&tenant, change(95_000, "b", "v2", "api"));
        log.record(&tenant, change(900_000, "a", "v2", "api"));
        let got = log.changes(&tenant, TimeRange::ALL);
        let told: Vec<_> = got.iter().map(|c| (c.at.0, &*c.entity.name, c.source.as_str())).collect();
        assert_eq!(told, [(95_000, "a", "api"), (95_000, "b", "api"), (900_000, "a", "api")]);
    }

    #[test]
    fn ranges_include_both_ends_and_tenants_are_apart() {
        let log = ChangeLog::default();
        let (a, b) = (TenantId::anonymous(), TenantId::parse("b").unwrap());
        for at in [30_000, 10_000, 20_000] {
            log.record(&a, change(at, "s", &format!("v{at}"), "api"));
        }
        let got = log.changes(&a, TimeRange::new(Timestamp(10_000), Timestamp(20_000)));
        assert_eq!(got.iter().map(|c| c.at.0).collect::<Vec<_>>(), [10_000, 20_000]);
        assert!(log.changes(&b, TimeRange::ALL).is_empty());
    }

    #[test]
    fn the_oldest_go_when_the_log_is_full() {
        let log = ChangeLog::default();
        let tenant = TenantId::anonymous();
        for k in 0..CHANGES_PER_TENANT_MAX as i64 + 10 {
            log.record(&tenant, change(k, "s", &format!("v{k}"), "api"));
        }
        let got = log.changes(&tenant, TimeRange::ALL);
        assert_eq!((got.len(), got[0].at.0), (CHANGES_PER_TENANT_MAX, 10));
    }
}
