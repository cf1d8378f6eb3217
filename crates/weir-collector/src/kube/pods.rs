//! What is known of a cluster's pods.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;
use weir_model::Nanos;

use super::config::{KubeConfig, Source};
use super::extract;

/// Pods beyond are not known: some 500 MB.
const PODS_MAX: usize = 200_000;
/// What is sent just before a pod goes arrives after it.
const GONE_NANOS: i64 = 120 * 1_000_000_000;

/// What all objects have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    pub name: String,
    /// Empty for objects of the cluster.
    pub namespace: String,
    pub uid: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// An object that made another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Owner {
    pub kind: String,
    pub name: String,
    pub uid: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    pub name: String,
    pub image: String,
    /// Without the runtime's name.
    pub id: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    pub meta: Meta,
    pub owners: Vec<Owner>,
    pub ip: String,
    /// It shares the address of its node, which says nothing about it then.
    pub host_network: bool,
    pub hostname: String,
    pub node: String,
    /// RFC 3339.
    pub start_time: String,
    pub containers: Vec<Container>,
}

#[derive(Default)]
struct Known {
    pods: AHashMap<String, Arc<Pod>>,
    by_address: AHashMap<String, Arc<Pod>>,
    /// Of each association, by the values of its sources.
    by_association: Vec<AHashMap<Vec<String>, Arc<Pod>>>,
    gone: VecDeque<(Nanos, Arc<Pod>)>,
    namespaces: AHashMap<String, Arc<Meta>>,
    nodes: AHashMap<String, Arc<Meta>>,
    is_listed: bool,
    is_full: bool,
    since: Option<Nanos>,
}

/// The pods that a `k8sattributes` knows.
pub struct Pods {
    config: KubeConfig,
    known: Mutex<Known>,
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

impl Pods {
    pub fn new(config: KubeConfig) -> Self {
        let by_association = config.associations.iter().map(|_| AHashMap::new()).collect();
        Self { config, known: Mutex::new(Known { by_association, ..Known::default() }) }
    }

    pub fn config(&self) -> &KubeConfig {
        &self.config
    }

    /// A pod as it is now.
    pub fn set_pod(&self, pod: Pod, now: Nanos) {
        let pod = Arc::new(pod);
        let key = key(&pod.meta.namespace, &pod.meta.name);
        let keys = self.keys(&pod);
        let mut known = self.known.lock();
        known.forget_gone(now, self);
        if known.pods.len() >= PODS_MAX && !known.pods.contains_key(&key) {
            if !std::mem::replace(&mut known.is_full, true) {
                tracing::warn!(PODS_MAX, "k8sattributes: further pods are not known; filter by node or namespace");
            }
            return;
        }
        if let Some(before) = known.pods.insert(key, pod.clone())
            && self.keys(&before) != keys
        {
            known.gone.push_back((now, before));
        }
        let (address, associations) = keys;
        if let Some(address) = address {
            known.by_address.insert(address, pod.clone());
        }
        for (index, values) in known.by_association.iter_mut().zip(associations) {
            if let Some(values) = values {
                index.insert(values, pod.clone());
            }
        }
    }

    /// A pod that is no more; what it sent is still known as its own for a while.
    pub fn remove_pod(&self, namespace: &str, name: &str, now: Nanos) {
        let mut known = self.known.lock();
        known.forget_gone(now, self);
        if let Some(pod) = known.pods.remove(&key(namespace, name)) {
            known.gone.push_back((now, pod));
        }
    }

    pub fn set_namespace(&self, name: &str, meta: Option<Meta>) {
        change(&mut self.known.lock().namespaces, name, meta);
    }

    pub fn set_node(&self, name: &str, meta: Option<Meta>) {
        change(&mut self.known.lock().nodes, name, meta);
    }

    /// Everything that is there has been told.
    pub fn listed(&self) {
        self.known.lock().is_listed = true;
    }

    /// Whether senders have to come again: the pods are waited for, and are not known yet.
    pub(super) fn must_wait(&self, now: Nanos) -> bool {
        let Some(timeout) = self.config.wait.filter(|_| !self.config.passthrough) else { return false };
        let mut known = self.known.lock();
        let since = *known.since.get_or_insert(now);
        let timeout = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
        !known.is_listed && now.0.saturating_sub(since.0) < timeout
    }

    pub(super) fn by_address(&self, address: &str, now: Nanos) -> Option<Arc<Pod>> {
        let mut known = self.known.lock();
        known.forget_gone(now, self);
        known.by_address.get(address).cloned()
    }

    pub(super) fn by_association(&self, k: usize, values: &[String], now: Nanos) -> Option<Arc<Pod>> {
        let mut known = self.known.lock();
        known.forget_gone(now, self);
        known.by_association.get(k)?.get(values).cloned()
    }

    pub(super) fn namespace(&self, name: &str) -> Option<Arc<Meta>> {
        self.known.lock().namespaces.get(name).cloned()
    }

    pub(super) fn node(&self, name: &str) -> Option<Arc<Meta>> {
        self.known.lock().nodes.get(name).cloned()
    }

    /// How a pod is found: by its address, and by what each association asks for.
    fn keys(&self, pod: &Pod) -> (Option<String>, Vec<Option<Vec<String>>>) {
        let address = (!pod.ip.is_empty() && !pod.host_network).then(|| pod.ip.clone());
        let associations = self.config.associations.iter().map(|association| {
            let value = |source: &Source| match source {
                Source::Connection => address.clone(),
                Source::Attribute(name) => match name.as_str() {
                    "k8s.pod.ip" | "ip" | "host.name" => address.clone(),
                    name => extract::told(&self.config, pod, name),
                },
            };
            association.sources.iter().map(value).collect::<Option<Vec<String>>>()
        });
        let associations = associations.collect();
        (address, associations)
    }
}

fn change(all: &mut AHashMap<String, Arc<Meta>>, name: &str, meta: Option<Meta>) {
    match meta {
        Some(meta) => drop(all.insert(name.to_owned(), Arc::new(meta))),
        None => drop(all.remove(name)),
    }
}

impl Known {
    /// Takes pods out of the indexes that went long ago, unless others have their place.
    fn forget_gone(&mut self, now: Nanos, of: &Pods) {
        while let Some((since, _)) = self.gone.front()
            && (now.0.saturating_sub(since.0) >= GONE_NANOS || self.gone.len() > PODS_MAX)
            && let Some((_, pod)) = self.gone.pop_front()
        {
            let (address, associations) = of.keys(&pod);
            let is_it = |found: Option<&Arc<Pod>>| found.is_some_and(|found| Arc::ptr_eq(found, &pod));
            if let Some(address) = address
                && is_it(self.by_address.get(&address))
            {
                self.by_address.remove(&address);
            }
            for (index, values) in self.by_association.iter_mut().zip(associations) {
                if let Some(values) = values
                    && is_it(index.get(&values))
                {
                    index.remove(&values);
                }
            }
        }
    }
}
