//! Targets from the Kubernetes API: lists, then watches, over plain HTTP requests.
//!
//! Each kind of object is read by a [`watch`] of its own into a [`Stores`]; a change names the
//! objects whose groups are to be made again. Making a group is a pure function (`node`, `pod`, …).
//! Source: Prometheus `discovery/kubernetes`.

mod client;
mod endpoints;
pub(crate) mod follow;
mod ingress;
mod node;
pub(crate) mod object;
mod pod;
mod service;
mod slice;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Found;
use super::group::TargetGroup;
use crate::config::{KubernetesRole, KubernetesSd};
use object::{EndpointSlice, Endpoints, Ingress, Meta, Namespace, Node, Object, Pod, Service};

/// Changes that wait to be looked at; a watch waits when there are so many.
const CHANGES_MAX: usize = 1024;
/// How long changes gather before groups are made again.
const GATHER: Duration = Duration::from_millis(50);

/// Objects of one kind by `namespace/name`; cluster-wide ones by name.
type Store<T> = Mutex<BTreeMap<String, Arc<T>>>;

/// Everything that was read.
#[derive(Default)]
struct Stores {
    pub nodes: Store<Node>,
    pub namespaces: Store<Namespace>,
    pub pods: Store<Pod>,
    pub services: Store<Service>,
    pub endpoints: Store<Endpoints>,
    pub slices: Store<EndpointSlice>,
    pub ingresses: Store<Ingress>,
}

/// An object that was added, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Object {
        kind: &'static str,
        namespace: String,
        name: String,
    },
    /// A watch of this kind knows everything now.
    Listed {
        kind: &'static str,
    },
}

pub(super) async fn run(config: &KubernetesSd, found: &Arc<Found>) {
    let api = loop {
        match client::Api::new(config) {
            Ok(api) => break Arc::new(api),
            Err(error) => found.failed("kubernetes", error),
        }
        // A kubeconfig or a service account's token may still be written.
        tokio::time::sleep(Duration::from_secs(10)).await;
    };
    let stores = Arc::new(Stores::default());
    let (changes, mut changed) = mpsc::channel(CHANGES_MAX);
    // The watches end with this set.
    let mut watches = JoinSet::new();
    let mut waiting = start(config, &api, &stores, &changes, found, &mut watches);
    let makers = Makers { config, stores: &stores };
    while let Some(first) = changed.recv().await {
        let mut dirty = BTreeSet::new();
        let mut next = Some(first);
        while let Some(change) = next {
            match change {
                Change::Listed { kind } => {
                    if let Some(idx) = waiting.iter().position(|k| *k == kind) {
                        waiting.swap_remove(idx);
                        dirty.extend(makers.all());
                    }
                }
                // Until everything is read, all groups will be made anyway.
                Change::Object { .. } if !waiting.is_empty() => {}
                Change::Object { kind, namespace, name } => dirty.extend(makers.touched(kind, &namespace, &name)),
            }
            next = match changed.try_recv() {
                Ok(change) => Some(change),
                Err(_) => {
                    tokio::time::sleep(GATHER).await;
                    changed.try_recv().ok()
                }
            };
        }
        // Until all kinds are read, groups would lack what comes from the others.
        if waiting.is_empty() {
            found.worked();
            for key in dirty {
                found.set(&makers.source(&key), makers.group(&key));
            }
        }
    }
}

/// Starts the watches that a role needs; gives their kinds, once per watch.
fn start(
    config: &KubernetesSd,
    api: &Arc<client::Api>,
    stores: &Arc<Stores>,
    changes: &mpsc::Sender<Change>,
    found: &Arc<Found>,
    watches: &mut JoinSet<()>,
) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    let mut watch = watch::Starter { config, api, stores, changes, found, watches, kinds: &mut kinds };
    match config.role {
        KubernetesRole::Node => watch.start::<Node>(|s| &s.nodes),
        KubernetesRole::Service => watch.start::<Service>(|s| &s.services),
        KubernetesRole::Pod => watch.start::<Pod>(|s| &s.pods),
        KubernetesRole::Ingress => watch.start::<Ingress>(|s| &s.ingresses),
        KubernetesRole::Endpoints => {
            watch.start::<Endpoints>(|s| &s.endpoints);
            watch.start::<Service>(|s| &s.services);
            watch.start::<Pod>(|s| &s.pods);
        }
        KubernetesRole::EndpointSlice => {
            watch.start::<EndpointSlice>(|s| &s.slices);
            watch.start::<Service>(|s| &s.services);
            watch.start::<Pod>(|s| &s.pods);
        }
    }
    if config.attach_node && config.role != KubernetesRole::Node {
        watch.start::<Node>(|s| &s.nodes);
    }
    if config.attach_namespace && config.role != KubernetesRole::Node {
        watch.start::<Namespace>(|s| &s.namespaces);
    }
    kinds
}

struct Makers<'a> {
    config: &'a KubernetesSd,
    stores: &'a Stores,
}

impl Makers<'_> {
    /// Keys of all objects that make groups.
    fn all(&self) -> Vec<String> {
        fn keys<T>(store: &Store<T>) -> Vec<String> {
            store.lock().keys().cloned().collect()
        }
        match self.config.role {
            KubernetesRole::Node => keys(&self.stores.nodes),
            KubernetesRole::Service => keys(&self.stores.services),
            KubernetesRole::Pod => keys(&self.stores.pods),
            KubernetesRole::Endpoints => keys(&self.stores.endpoints),
            KubernetesRole::EndpointSlice => keys(&self.stores.slices),
            KubernetesRole::Ingress => keys(&self.stores.ingresses),
        }
    }

    /// Keys of the objects whose groups speak about a changed one.
    fn touched(&self, kind: &str, namespace: &str, name: &str) -> Vec<String> {
        let own = match self.config.role {
            KubernetesRole::Node => Node::KIND,
            KubernetesRole::Service => Service::KIND,
            KubernetesRole::Pod => Pod::KIND,
            KubernetesRole::Endpoints => Endpoints::KIND,
            KubernetesRole::EndpointSlice => EndpointSlice::KIND,
            KubernetesRole::Ingress => Ingress::KIND,
        };
        if kind == own {
            return vec![object::key(namespace, name)];
        }
        let prefix = format!("{namespace}/");
        match kind {
            Node::KIND => self.all(),
            Namespace::KIND => self.all().into_iter().filter(|key| key.starts_with(&format!("{name}/"))).collect(),
            Service::KIND if self.config.role == KubernetesRole::Endpoints => vec![object::key(namespace, name)],
            Pod::KIND if self.config.role == KubernetesRole::Endpoints => {
                keys_where(&self.stores.endpoints, &prefix, |e| e.names_pod(name))
            }
            Pod::KIND => keys_where(&self.stores.slices, &prefix, |e| e.names_pod(name)),
            Service::KIND => keys_where(&self.stores.slices, &prefix, |e| e.service_name() == Some(name)),
            _ => Vec::new(),
        }
    }

    fn source(&self, key: &str) -> String {
        let kind = match self.config.role {
            KubernetesRole::Node => "node",
            KubernetesRole::Service => "svc",
            KubernetesRole::Pod => "pod",
            KubernetesRole::Endpoints => "endpoints",
            KubernetesRole::EndpointSlice => "endpointslice",
            KubernetesRole::Ingress => "ingress",
        };
        format!("{kind}/{key}")
    }

    /// `None` when the object is gone.
    fn group(&self, key: &str) -> Option<TargetGroup> {
        fn get<T>(store: &Store<T>, key: &str) -> Option<Arc<T>> {
            store.lock().get(key).cloned()
        }
        let (mut labels, targets) = match self.config.role {
            KubernetesRole::Node => node::group(&*get(&self.stores.nodes, key)?),
            KubernetesRole::Service => service::group(&*get(&self.stores.services, key)?),
            KubernetesRole::Pod => pod::group(&*get(&self.stores.pods, key)?, self),
            KubernetesRole::Endpoints => endpoints::group(&*get(&self.stores.endpoints, key)?, self),
            KubernetesRole::EndpointSlice => slice::group(&*get(&self.stores.slices, key)?, self),
            KubernetesRole::Ingress => ingress::group(&*get(&self.stores.ingresses, key)?),
        };
        if self.config.attach_namespace
            && let Some((namespace, _)) = key.split_once('/')
            && let Some(namespace) = get(&self.stores.namespaces, namespace)
        {
            object::add_labels(&mut labels, "namespace", namespace.meta());
        }
        Some(TargetGroup { source: self.source(key), labels, targets })
    }
}

fn keys_where<T>(store: &Store<T>, prefix: &str, is_wanted: impl Fn(&T) -> bool) -> Vec<String> {
    let store = store.lock();
    let in_namespace = store.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
    in_namespace.filter(|(_, object)| is_wanted(object)).map(|(key, _)| key.clone()).collect()
}

/// What groups look up beside their own object.
impl object::Lookup for Makers<'_> {
    fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.stores.pods.lock().get(&object::key(namespace, name)).cloned()
    }
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.stores.services.lock().get(&object::key(namespace, name)).cloned()
    }
    fn node(&self, name: &str) -> Option<Meta> {
        if !self.config.attach_node {
            return None;
        }
        self.stores.nodes.lock().get(name).map(|node| node.meta().clone())
    }
}
