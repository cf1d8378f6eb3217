//! What is known of each entity over time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use super::{EntityId, EntityKind, EntityRefs};
use crate::change::{Change, ChangeKind, ChangeSink};
use crate::tenant::TenantId;
use crate::time::Timestamp;

/// Past these, new ones are not recorded; a thousand tenants' worth of entities is some 100 MiB.
const ENTITIES_MAX: usize = 100_000;
const INSTANCES_MAX: usize = 1_000;
const NAMESPACES_MAX: usize = 64;
/// Per entity; the oldest goes first.
const VERSIONS_MAX: usize = 64;
/// An instance that has been silent for longer no longer holds its version.
const HOLD: Duration = Duration::from_secs(120);
/// A version that comes back sooner than this never left: two senders disagree about one instance.
const RETURN_QUIET: Duration = Duration::from_secs(30);

/// Tenant → entity → when seen, versions with their intervals, instances, namespaces.
///
/// Filled by whoever registers series, streams and resources. Times are those of the data.
pub struct EntityTable {
    changes: Arc<dyn ChangeSink>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    n_entities: usize,
    tenants: HashMap<TenantId, BTreeMap<EntityId, Record>>,
}

struct Record {
    first_seen: Timestamp,
    last_seen: Timestamp,
    /// By name; a sender without an instance counts as the one called "".
    instances: HashMap<Arc<str>, InstanceRecord>,
    namespaces: BTreeSet<Arc<str>>,
    /// In order of coming; one version may have come twice.
    versions: Vec<VersionRecord>,
}

struct InstanceRecord {
    last_seen: Timestamp,
    version: Option<Arc<str>>,
}

struct VersionRecord {
    version: Arc<str>,
    from: Timestamp,
    last_seen: Timestamp,
}

/// A version and when it ran; `to` is `None` while some instance still runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInterval {
    pub version: Arc<str>,
    pub from: Timestamp,
    pub to: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityInfo {
    pub id: EntityId,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// Sorted.
    pub instances: Vec<Arc<str>>,
    /// Sorted.
    pub namespaces: Vec<Arc<str>>,
    /// In order of coming.
    pub versions: Vec<VersionInterval>,
}

impl EntityTable {
    /// `changes` learns of each version that a service did not run before.
    pub fn new(changes: Arc<dyn ChangeSink>) -> Self {
        Self { changes, state: RwLock::default() }
    }

    /// Notes that `refs` sent or were spoken of at `at` (the time of the data).
    pub fn observe(&self, tenant: &TenantId, refs: &EntityRefs, at: Timestamp) {
        let mut change = None;
        {
            let mut state = self.state.write();
            for id in refs.entities() {
                let is_service = id.kind == EntityKind::Service;
                let Some(record) = state.record(tenant, &id, at) else { continue };
                record.first_seen = record.first_seen.min(at);
                record.last_seen = record.last_seen.max(at);
                if let Some(namespace) = &refs.namespace
                    && record.namespaces.len() < NAMESPACES_MAX
                    && !record.namespaces.contains(namespace)
                {
                    record.namespaces.insert(namespace.clone());
                }
                if is_service {
                    let came = record.observe_instance(refs.instance.as_ref(), refs.version.as_ref(), at);
                    change = change.or_else(|| came.map(|came| came.into_change(id, refs, at)));
                }
            }
        }
        if let Some(change) = change {
            self.changes.record(tenant, change);
        }
    }

    pub fn get(&self, tenant: &TenantId, id: &EntityId) -> Option<EntityInfo> {
        let state = self.state.read();
        state.tenants.get(tenant)?.get(id).map(|record| record.info(id))
    }

    /// Entities whose name contains `q` (any case), by kind and name.
    pub fn list(&self, tenant: &TenantId, kind: Option<EntityKind>, q: &str, limit: usize) -> Vec<EntityInfo> {
        let q = q.to_lowercase();
        let state = self.state.read();
        let Some(entities) = state.tenants.get(tenant) else { return Vec::new() };
        entities
            .iter()
            .filter(|(id, _)| kind.is_none_or(|kind| kind == id.kind))
            .filter(|(id, _)| q.is_empty() || id.name.to_lowercase().contains(&q))
            .take(limit)
            .map(|(id, record)| record.info(id))
            .collect()
    }

    /// The version that `service` ran last at or before `at`.
    pub fn version_at(&self, tenant: &TenantId, service: &str, at: Timestamp) -> Option<Arc<str>> {
        let id = EntityId::new(EntityKind::Service, service);
        let state = self.state.read();
        let record = state.tenants.get(tenant)?.get(&id)?;
        record.versions.iter().rfind(|v| v.from <= at).map(|v| v.version.clone())
    }
}

impl State {
    /// `None` when the table is full and the entity is new.
    fn record(&mut self, tenant: &TenantId, id: &EntityId, at: Timestamp) -> Option<&mut Record> {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), BTreeMap::new());
        }
        let entities = self.tenants.get_mut(tenant)?;
        if !entities.contains_key(id) {
            if self.n_entities >= ENTITIES_MAX {
                return None;
            }
            self.n_entities += 1;
            entities.insert(id.clone(), Record::new(at));
        }
        entities.get_mut(id)
    }
}

/// A version that came, and the one before it.
struct Came {
    from: Arc<str>,
    to: Arc<str>,
}

impl Came {
    fn into_change(self, entity: EntityId, refs: &EntityRefs, at: Timestamp) -> Change {
        Change {
            at,
            kind: ChangeKind::Deployment,
            title: format!("{} went from version {} to {}", entity.name, self.from, self.to),
            entity,
            from: Some(self.from.to_string()),
            to: Some(self.to.to_string()),
            instances: refs.instance.iter().map(ToString::to_string).collect(),
            source: "telemetry".to_owned(),
            attributes: BTreeMap::new(),
        }
    }
}

impl Record {
    fn new(at: Timestamp) -> Self {
        Self {
            first_seen: at,
            last_seen: at,
            instances: HashMap::new(),
            namespaces: BTreeSet::new(),
            versions: Vec::new(),
        }
    }

    /// Notes an instance and its version; answers a version that was not running before.
    fn observe_instance(&mut self, name: Option<&Arc<str>>, version: Option<&Arc<str>>, at: Timestamp) -> Option<Came> {
        let name = name.cloned().unwrap_or_default();
        if !self.instances.contains_key(&name) {
            if self.instances.len() >= INSTANCES_MAX {
                // Pods come and go: those silent for long make room.
                self.instances.retain(|_, i| at.since(i.last_seen) < HOLD);
                if self.instances.len() >= INSTANCES_MAX {
                    return None;
                }
            }
            self.instances.insert(name.clone(), InstanceRecord { last_seen: at, version: None });
        }
        let instance = self.instances.get_mut(&name)?;
        let is_newest = instance.last_seen <= at;
        instance.last_seen = instance.last_seen.max(at);
        let version = version?;
        if instance.version.as_ref() == Some(version) {
            if let Some(known) = self.versions.iter_mut().rfind(|v| v.version == *version) {
                known.last_seen = known.last_seen.max(at);
            }
            return None;
        }
        if instance.version.is_some() && !is_newest {
            return None; // What the instance ran before, arriving late.
        }
        let before = instance.version.replace(version.clone());
        self.open_version(&name, before, version, at)
    }

    fn open_version(
        &mut self,
        instance: &Arc<str>,
        before: Option<Arc<str>>,
        version: &Arc<str>,
        at: Timestamp,
    ) -> Option<Came> {
        let before = before.or_else(|| self.versions.last().map(|v| v.version.clone()));
        let is_held = self
            .instances
            .iter()
            .any(|(name, i)| name != instance && i.version.as_ref() == Some(version) && at.since(i.last_seen) < HOLD);
        if let Some(known) = self.versions.iter_mut().rfind(|v| v.version == *version)
            && (is_held || at.since(known.last_seen) < RETURN_QUIET)
        {
            known.last_seen = known.last_seen.max(at);
            return None;
        }
        if self.versions.len() >= VERSIONS_MAX {
            self.versions.remove(0);
        }
        self.versions.push(VersionRecord { version: version.clone(), from: at, last_seen: at });
        before.map(|from| Came { from, to: version.clone() })
    }

    fn info(&self, id: &EntityId) -> EntityInfo {
        let mut instances: Vec<Arc<str>> = self.instances.keys().filter(|n| !n.is_empty()).cloned().collect();
        instances.sort();
        let newest = self.versions.len().saturating_sub(1);
        let versions = self.versions.iter().enumerate().map(|(idx, v)| {
            let is_latest_of_its_name = !self.versions[idx + 1..].iter().any(|later| later.version == v.version);
            let is_held = is_latest_of_its_name
                && self
                    .instances
                    .values()
                    .any(|i| i.version.as_ref() == Some(&v.version) && self.last_seen.since(i.last_seen) < HOLD);
            let to = if is_held || idx == newest { None } else { Some(v.last_seen) };
            VersionInterval { version: v.version.clone(), from: v.from, to }
        });
        EntityInfo {
            id: id.clone(),
            first_seen: self.first_seen,
            last_seen: self.last_seen,
            instances,
            namespaces: self.namespaces.iter().cloned().collect(),
            versions: versions.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct Recorder(Mutex<Vec<Change>>);
    impl ChangeSink for Recorder {
        fn record(&self, _: &TenantId, change: Change) {
            self.0.lock().push(change);
        }
    }

    /// Feeds `second instance version` lines of one service; answers changes and intervals.
    fn run(script: &[(i64, &str, &str)]) -> (Vec<String>, String) {
        let changes = Arc::new(Recorder::default());
        let table = EntityTable::new(changes.clone());
        let tenant = TenantId::anonymous();
        for (second, instance, version) in script {
            let refs = EntityRefs {
                emitter: Some("api".into()),
                instance: Some((*instance).into()),
                version: (!version.is_empty()).then(|| (*version).into()),
                ..EntityRefs::default()
            };
            table.observe(&tenant, &refs, Timestamp(second * 1000));
        }
        let info = table.get(&tenant, &EntityId::new(EntityKind::Service, "api")).unwrap();
        let intervals: Vec<String> = info
            .versions
            .iter()
            .map(|v| {
                let to = v.to.map_or(String::new(), |t| (t.0 / 1000).to_string());
                format!("{}:{}-{to}", v.version, v.from.0 / 1000)
            })
            .collect();
        let changes = changes.0.lock();
        let came = changes.iter().map(|c| {
            assert_eq!((c.kind, c.source.as_str()), (ChangeKind::Deployment, "telemetry"));
            format!("{} {}->{}", c.at.0 / 1000, c.from.as_deref().unwrap(), c.to.as_deref().unwrap())
        });
        (came.collect(), intervals.join(" "))
    }

    #[track_caller]
    fn check(script: &[(i64, &str, &str)], changes: &[&str], intervals: &str) {
        let got = run(script);
        assert_eq!(
            (got.0.iter().map(String::as_str).collect::<Vec<_>>(), got.1.as_str()),
            (changes.to_vec(), intervals)
        );
    }

    #[test]
    fn a_new_version_is_one_change() {
        check(&[(0, "a", "1")], &[], "1:0-");
        check(&[(0, "a", "1"), (10, "a", ""), (60, "a", "1")], &[], "1:0-");
        check(&[(0, "a", "1"), (50, "a", "1"), (60, "a", "2"), (70, "a", "2")], &["60 1->2"], "1:0-50 2:60-");
    }

    #[test]
    fn a_rolling_deployment_is_one_change() {
        let script = [(0, "a", "1"), (0, "b", "1"), (60, "a", "2"), (61, "b", "1"), (90, "b", "2")];
        check(&script, &["60 1->2"], "1:0-61 2:60-");
        let canary = [(0, "a", "1"), (0, "b", "1"), (60, "a", "2"), (120, "b", "1"), (150, "a", "2")];
        check(&canary, &["60 1->2"], "1:0- 2:60-");
        let pods = [(0, "a", "1"), (60, "b", "2"), (70, "c", "2"), (400, "b", "2")];
        check(&pods, &["60 1->2"], "1:0-0 2:60-");
    }

    #[test]
    fn a_rollback_is_a_change_and_a_disagreement_is_not() {
        let back = [(0, "a", "1"), (60, "a", "2"), (120, "a", "1")];
        check(&back, &["60 1->2", "120 2->1"], "1:0-0 2:60-60 1:120-");
        let both = [(0, "a", "1"), (1, "a", "2"), (10, "a", "1"), (11, "a", "2"), (20, "a", "1")];
        check(&both, &["1 1->2"], "1:0- 2:1-");
        let late = [(0, "a", "1"), (60, "a", "2"), (55, "a", "1")];
        check(&late, &["60 1->2"], "1:0-0 2:60-");
    }

    #[test]
    fn entities_belong_to_their_tenant_and_are_found_by_name() {
        let table = EntityTable::new(Arc::new(Recorder::default()));
        let mut refs =
            EntityRefs { emitter: Some("Api".into()), namespace: Some("prod".into()), ..EntityRefs::default() };
        refs.subjects.push(EntityId::new(EntityKind::Topic, "events"));
        let (one, other) = (TenantId::anonymous(), TenantId::parse("other").unwrap());
        table.observe(&one, &refs, Timestamp(5));
        let found =
            |tenant, kind, q| table.list(tenant, kind, q, 10).iter().map(|e| e.id.to_string()).collect::<Vec<_>>();
        assert_eq!(found(&one, None, ""), ["service:Api", "topic:events"]);
        assert_eq!(found(&one, Some(EntityKind::Topic), ""), ["topic:events"]);
        assert_eq!(found(&one, None, "AP"), ["service:Api"]);
        assert!(found(&other, None, "").is_empty());
    }
}
