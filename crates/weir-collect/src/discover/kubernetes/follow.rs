//! Pods, namespaces and nodes for others than targets: what attributes of a resource are made of.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::object::{Meta, Namespace, Node, Object as _, Pod};
use super::{CHANGES_MAX, Change, Stores, client, object, watch};
use crate::config::{HttpConfig, KubernetesRole, KubernetesSd};
use crate::discover::Found;

/// Whom to ask, and for what.
#[derive(Clone, Debug, Default)]
pub struct FollowOptions {
    /// `None`: the cluster that weir runs in.
    pub kubeconfig_file: Option<PathBuf>,
    /// Of pods; empty: all.
    pub namespaces: Vec<String>,
    pub label_selector: String,
    pub field_selector: String,
    pub with_namespaces: bool,
    pub with_nodes: bool,
}

/// Hears of every object as it is now; `None` when it is gone.
pub trait Follower: Send + Sync {
    fn pod(&self, namespace: &str, name: &str, pod: Option<&Pod>);
    fn namespace(&self, name: &str, meta: Option<&Meta>);
    fn node(&self, name: &str, meta: Option<&Meta>);
    /// Everything that is there has been told.
    fn listed(&self);
}

/// Tells what there is and what changes, until `stop`.
pub async fn follow(options: FollowOptions, follower: Arc<dyn Follower>, stop: CancellationToken) {
    stop.run_until_cancelled(work(options, &*follower)).await;
}

async fn work(options: FollowOptions, follower: &dyn Follower) {
    let selectors = (options.label_selector, options.field_selector);
    let config = KubernetesSd {
        role: KubernetesRole::Pod,
        api_server: None,
        kubeconfig_file: options.kubeconfig_file,
        namespaces: options.namespaces,
        own_namespace: false,
        selectors: [(KubernetesRole::Pod, selectors)].into(),
        attach_node: false,
        attach_namespace: false,
        http: HttpConfig::default(),
    };
    let found = Found::new(Arc::new(Notify::new()));
    let api = loop {
        match client::Api::new(&config) {
            Ok(api) => break Arc::new(api),
            Err(error) => found.failed("kubernetes", error),
        }
        // A kubeconfig or a service account's token may still be written.
        tokio::time::sleep(Duration::from_secs(10)).await;
    };
    let stores = Arc::new(Stores::default());
    let (changes, mut changed) = mpsc::channel(CHANGES_MAX);
    let (mut watches, mut waiting) = (JoinSet::new(), Vec::new());
    let mut start = watch::Starter {
        config: &config,
        api: &api,
        stores: &stores,
        changes: &changes,
        found: &found,
        watches: &mut watches,
        kinds: &mut waiting,
    };
    start.start::<Pod>(|s| &s.pods);
    if options.with_namespaces {
        start.start::<Namespace>(|s| &s.namespaces);
    }
    if options.with_nodes {
        start.start::<Node>(|s| &s.nodes);
    }
    while let Some(change) = changed.recv().await {
        match change {
            Change::Listed { kind } => {
                let idx = waiting.iter().position(|k| *k == kind);
                if let Some(idx) = idx {
                    waiting.swap_remove(idx);
                    if waiting.is_empty() {
                        found.worked();
                        follower.listed();
                    }
                }
            }
            Change::Object { kind, namespace, name } => {
                let key = object::key(&namespace, &name);
                match kind {
                    Pod::KIND => {
                        let pod = stores.pods.lock().get(&key).cloned();
                        follower.pod(&namespace, &name, pod.as_deref());
                    }
                    Namespace::KIND => {
                        let object = stores.namespaces.lock().get(&key).cloned();
                        follower.namespace(&name, object.as_ref().map(|object| object.meta()));
                    }
                    _ => {
                        let object = stores.nodes.lock().get(&key).cloned();
                        follower.node(&name, object.as_ref().map(|object| object.meta()));
                    }
                }
            }
        }
    }
}
