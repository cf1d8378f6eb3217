//! The pods of `k8sattributes`: from the API server into what the processors know.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_collect::kubernetes::{self, FollowOptions, Follower};
use weir_collector::kube::{Container, KubeAuth, Meta, Owner, Pod, Pods};
use weir_model::Clock;

/// Follows the pods of every such processor until `shutdown`.
pub fn start(all: Vec<Arc<Pods>>, clock: &Arc<dyn Clock>, shutdown: &CancellationToken, tasks: &TaskTracker) {
    for pods in all.into_iter().filter(|pods| !pods.config().passthrough) {
        let config = pods.config();
        let options = FollowOptions {
            kubeconfig_file: match config.auth {
                KubeAuth::ServiceAccount => None,
                KubeAuth::Kubeconfig => Some(kubeconfig()),
            },
            namespaces: [config.namespace.clone()].into_iter().filter(|name| !name.is_empty()).collect(),
            label_selector: config.label_selector.clone(),
            field_selector: config.field_selector.clone(),
            with_namespaces: config.needs_namespaces(),
            with_nodes: config.needs_nodes(),
        };
        let told = Arc::new(Told { pods, clock: clock.clone() });
        tasks.spawn(kubernetes::follow(options, told, shutdown.clone()));
    }
}

fn kubeconfig() -> PathBuf {
    let named = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty());
    named
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".kube/config"), PathBuf::from)
}

struct Told {
    pods: Arc<Pods>,
    clock: Arc<dyn Clock>,
}

impl Follower for Told {
    fn pod(&self, namespace: &str, name: &str, pod: Option<&kubernetes::Pod>) {
        let now = self.clock.now_nanos();
        match pod {
            Some(pod) => self.pods.set_pod(convert(pod), now),
            None => self.pods.remove_pod(namespace, name, now),
        }
    }
    fn namespace(&self, name: &str, object: Option<&kubernetes::Meta>) {
        self.pods.set_namespace(name, object.map(meta));
    }
    fn node(&self, name: &str, object: Option<&kubernetes::Meta>) {
        self.pods.set_node(name, object.map(meta));
    }
    fn listed(&self) {
        self.pods.listed();
    }
}

fn meta(meta: &kubernetes::Meta) -> Meta {
    Meta {
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        labels: meta.labels.clone().unwrap_or_default(),
        annotations: meta.annotations.clone().unwrap_or_default(),
    }
}

fn convert(pod: &kubernetes::Pod) -> Pod {
    let owner = |owner: &kubernetes::OwnerReference| Owner {
        kind: owner.kind.clone(),
        name: owner.name.clone(),
        uid: owner.uid.clone(),
    };
    let container = |container: &kubernetes::Container| {
        let status = pod.status.container_statuses.iter().find(|status| status.name == container.name);
        // `containerd://…`
        let id = status.map_or("", |status| status.container_id.rsplit("://").next().unwrap_or_default());
        Container { name: container.name.clone(), image: container.image.clone(), id: id.to_owned() }
    };
    Pod {
        meta: meta(&pod.metadata),
        owners: pod.metadata.owner_references.iter().map(owner).collect(),
        ip: pod.status.pod_ip.clone(),
        host_network: pod.spec.host_network,
        hostname: pod.spec.hostname.clone(),
        node: pod.spec.node_name.clone(),
        start_time: pod.status.start_time.clone(),
        containers: pod.spec.containers.iter().map(container).collect(),
    }
}
